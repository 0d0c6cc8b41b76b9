#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <ostream>

#include "cli/render.h"

namespace policyc::cli {
namespace {

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 1;
};

// The code point at text[i]; a byte that is no UTF-8 comes back as U+FFFD.
CodePoint decode(std::string_view text, std::size_t i) {
  const auto lead = static_cast<unsigned char>(text[i]);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (length == 0 || i + length > text.size()) return {0xFFFD, 1};
  char32_t value = lead & (0x7FU >> length);
  for (std::size_t k = 1; k < length; ++k) {
    const auto byte = static_cast<unsigned char>(text[i + k]);
    if ((byte & 0xC0U) != 0x80U) return {0xFFFD, 1};
    value = (value << 6U) | (byte & 0x3FU);
  }
  return {value, length};
}

bool is_wide(char32_t c) {
  return (c >= 0x1100 && c <= 0x115F) || (c >= 0x2E80 && c <= 0xA4CF && c != 0x303F) ||
         (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0xFE30 && c <= 0xFE6F) || (c >= 0xFF00 && c <= 0xFF60) ||
         (c >= 0xFFE0 && c <= 0xFFE6) || (c >= 0x1F300 && c <= 0x1F64F) ||
         (c >= 0x1F900 && c <= 0x1F9FF) || (c >= 0x20000 && c <= 0x3FFFD);
}

bool is_combining(char32_t c) {
  return (c >= 0x0300 && c <= 0x036F) || c == 0x200D || (c >= 0xFE00 && c <= 0xFE0F) ||
         (c >= 0x20D0 && c <= 0x20FF);
}

bool is_unsafe(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069) || c == 0x200E || c == 0x200F || c == 0xFFFD;
}

// What one code point looks like on the screen, and how many cells it takes.
struct Cell {
  std::string text;
  std::size_t width = 1;
};

Cell cell_of(std::string_view text, CodePoint c, std::size_t i) {
  if (c.value == '\t') return {"    ", 4};
  if (c.value == 0xFFFD) return {"\xEF\xBF\xBD", 1};
  if (is_unsafe(c.value)) {
    std::string shown = fmt::format("\\u{{{:x}}}", static_cast<std::uint32_t>(c.value));
    const std::size_t width = shown.size();
    return {std::move(shown), width};
  }
  return {std::string(text.substr(i, c.bytes)), is_combining(c.value) ? 0U
                                                : is_wide(c.value)    ? 2U
                                                                      : 1U};
}

// Colours of the terminal, empty when there are none.
struct Palette {
  std::string_view bold, red, yellow, cyan, blue, reset;

  explicit Palette(bool on) {
    if (!on) return;
    bold = "\x1b[1m";
    red = "\x1b[1;31m";
    yellow = "\x1b[1;33m";
    cyan = "\x1b[1;36m";
    blue = "\x1b[1;34m";
    reset = "\x1b[0m";
  }
  std::string_view of(Severity severity) const {
    return severity == Severity::Error ? red : severity == Severity::Warning ? yellow : cyan;
  }
};

class TextRenderer {
 public:
  TextRenderer(const SourceMap& sources, const TextStyle& style, std::ostream& out)
      : sources_(sources), palette_(style.color), out_(out) {}

  void diagnostic(const Diagnostic& d) {
    const std::string_view color = palette_.of(d.severity);
    const std::string place = d.range.known() ? printable(sources_.place(d.range)) + ": " : "";
    fmt::print(out_, "{}{}{}{}{}[{}]{}: {}{}{}\n", palette_.bold, place, palette_.reset, color,
               severity_name(d.severity), diag_name(d.code), palette_.reset, palette_.bold,
               printable(d.message), palette_.reset);
    excerpt(d.range, color, '^', "");
    for (const DiagLabel& label : d.labels) {
      if (label.range.known() && label.range.file != d.range.file) {
        fmt::print(out_, "  {}:\n", printable(sources_.place(label.range)));
      }
      excerpt(label.range, palette_.blue, '-', label.text);
    }
    if (d.policy || !d.rule.empty()) {
      std::string where = d.policy ? d.policy->str() : "";
      if (!d.rule.empty()) where += (where.empty() ? "" : ", ") + d.rule;
      line("in", where);
    }
    for (const std::string& note : d.notes) line("note", note);
    if (!d.help.empty()) line("help", d.help);
    if (d.fix && d.fix->description != d.help) line("fix", d.fix->description);
  }

 private:
  void line(std::string_view kind, std::string_view text) {
    fmt::print(out_, "  {}={} {}{}:{} {}\n", palette_.blue, palette_.reset, palette_.bold, kind,
               palette_.reset, printable(text));
  }

  // The first line of the range with marks below it. Long lines are cut around the marks.
  void excerpt(SourceRange range, std::string_view color, char mark, std::string_view text) {
    if (!range.known()) return;
    const LineColumn at = sources_.position(range.file, range.begin);
    const std::string_view source = sources_.line(range.file, at.line);
    const std::size_t begin = offset_in_line(range, at);
    const std::size_t end =
        std::min(source.size(), begin + (range.end > range.begin ? range.end - range.begin : 0));
    constexpr std::size_t kBefore = 60, kAfter = 60;
    std::string shown, marks;
    const std::size_t from = begin > 2 * kBefore ? begin - kBefore : 0;
    if (from > 0) {
      shown = "...";
      marks = "   ";
    }
    std::size_t i = from;
    while (i > 0 && i < source.size() && (static_cast<unsigned char>(source[i]) & 0xC0U) == 0x80U) {
      ++i;
    }
    std::size_t marked = 0;
    for (; i < source.size();) {
      if (shown.size() > 2 * (kBefore + kAfter) && i > begin + kAfter) {
        shown += "...";
        break;
      }
      const CodePoint c = decode(source, i);
      const Cell cell = cell_of(source, c, i);
      shown += cell.text;
      const bool under = i >= begin && i < end;
      if (under) ++marked;
      if (i < begin) {
        marks.append(cell.width, ' ');
      } else if (under) {
        marks.append(cell.width, mark);
      }
      i += c.bytes;
    }
    if (marked == 0) marks += mark;
    while (!shown.empty() && shown.back() == ' ') shown.pop_back();
    fmt::print(out_, "{}{:>5} |{} {}\n", palette_.blue, at.line, palette_.reset, shown);
    fmt::print(out_, "{}      |{} {}{}{}{}{}\n", palette_.blue, palette_.reset, color, marks,
               text.empty() ? "" : " ", printable(text), palette_.reset);
  }

  // Byte offset of the range's begin inside its line.
  std::size_t offset_in_line(SourceRange range, LineColumn at) const {
    const std::string_view source = sources_.line(range.file, at.line);
    std::size_t i = 0;
    for (std::uint32_t column = 1; column < at.column && i < source.size(); ++column) {
      ++i;
      while (i < source.size() && (static_cast<unsigned char>(source[i]) & 0xC0U) == 0x80U) ++i;
    }
    return i;
  }

  const SourceMap& sources_;
  Palette palette_;
  std::ostream& out_;
};

std::string counted(std::size_t n, std::string_view noun) {
  const bool y = noun.ends_with('y');
  if (n == 1) return fmt::format("1 {}", noun);
  return y ? fmt::format("{} {}ies", n, noun.substr(0, noun.size() - 1))
           : fmt::format("{} {}s", n, noun);
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = decode(text, i);
    out += cell_of(text, c, i).text;
    i += c.bytes;
  }
  return out;
}

std::size_t count(const std::vector<Diagnostic>& diagnostics, Severity severity) {
  return static_cast<std::size_t>(
      std::count_if(diagnostics.begin(), diagnostics.end(),
                    [&](const Diagnostic& d) { return d.severity == severity; }));
}

void render_text(const Report& report, const TextStyle& style, std::ostream& out) {
  TextRenderer renderer(report.sources, style, out);
  for (const Diagnostic& d : report.diagnostics) renderer.diagnostic(d);
}

void render_summary(const Report& report, std::ostream& out) {
  const Summary& s = report.summary;
  std::string found;
  const std::pair<Severity, std::string_view> rows[] = {
      {Severity::Error, "error"}, {Severity::Warning, "warning"}, {Severity::Note, "note"}};
  for (const auto& [severity, noun] : rows) {
    if (const std::size_t n = count(report.diagnostics, severity); n > 0) {
      found += (found.empty() ? "" : ", ") + counted(n, noun);
    }
  }
  fmt::print(out, "checked {} in {}: {}{}{}\n", counted(s.policies, "policy"),
             counted(s.files, "file"), found.empty() ? "nothing to report" : found,
             s.fixed > 0 ? fmt::format(", {} fixed", s.fixed) : "",
             s.hidden > 0 ? fmt::format(", {} silenced", s.hidden) : "");
}

}  // namespace policyc::cli
