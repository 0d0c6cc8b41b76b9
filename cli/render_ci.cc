// JSON, SARIF, GitHub, GitLab and JUnit.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>

#include "cli/render.h"

namespace policyc::cli {
std::string xml_escape(std::string_view text) {
  std::string out;
  while (true) {
    const std::size_t line = text.find('\n');
    for (const char c : printable(text.substr(0, line))) {
      switch (c) {
        case '&':
          out += "&amp;";
          break;
        case '<':
          out += "&lt;";
          break;
        case '>':
          out += "&gt;";
          break;
        case '"':
          out += "&quot;";
          break;
        default:
          out += c;
      }
    }
    if (line == std::string_view::npos) return out;
    out += '\n';
    text.remove_prefix(line + 1);
  }
}

namespace {

using Json = nlohmann::ordered_json;

void write(const Json& json, std::ostream& out) {
  // Input that is no UTF-8 must not stop a report.
  out << json.dump(1, ' ', false, Json::error_handler_t::replace) << "\n";
}

Json text_or_null(std::string_view text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

// file, line, column, end_line, end_column; null where nobody wrote it.
void put_place(Json& json, const SourceMap& sources, SourceRange range) {
  if (!range.known()) {
    for (const char* key : {"file", "line", "column", "end_line", "end_column"}) {
      json[key] = nullptr;
    }
    return;
  }
  const LineColumn begin = sources.position(range.file, range.begin);
  const LineColumn end = sources.position(range.file, std::max(range.begin, range.end));
  json["file"] = sources.path(range.file);
  json["line"] = begin.line;
  json["column"] = begin.column;
  json["end_line"] = end.line;
  json["end_column"] = end.column;
}

Json json_of(const SourceMap& sources, const Diagnostic& d) {
  Json j;
  j["code"] = diag_name(d.code);
  j["severity"] = severity_name(d.severity);
  j["layer"] = text_or_null(layer_name(d.layer));
  j["message"] = d.message;
  put_place(j, sources, d.range);
  j["policy"] = nullptr;
  if (d.policy) {
    j["policy"] = {{"kind", d.policy->kind}, {"namespace", d.policy->ns}, {"name", d.policy->name}};
  }
  j["rule"] = d.rule;
  j["labels"] = Json::array();
  for (const DiagLabel& label : d.labels) {
    Json l;
    put_place(l, sources, label.range);
    l["text"] = label.text;
    j["labels"].push_back(std::move(l));
  }
  j["notes"] = d.notes;
  j["help"] = d.help;
  j["fix"] = nullptr;
  if (d.fix) {
    Json edits = Json::array();
    for (const Edit& edit : d.fix->edits) {
      Json e;
      put_place(e, sources, edit.range);
      e["text"] = edit.text;
      edits.push_back(std::move(e));
    }
    j["fix"] = {{"description", d.fix->description}, {"edits", std::move(edits)}};
  }
  j["witness"] = nullptr;
  if (d.witness) {
    const Json parsed = Json::parse(*d.witness, nullptr, false);
    j["witness"] = parsed.is_discarded() ? Json(*d.witness) : parsed;
  }
  j["proof"] = text_or_null(d.proof);
  return j;
}

// A path as a URI reference: relative stays relative, absolute becomes file://.
std::string uri(std::string_view path) {
  if (path == "<stdin>") return "stdin";
  std::string out = path.starts_with('/') ? "file://" : "";
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '/' || c == '.' || c == '-' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

Json sarif_region(const SourceMap& sources, SourceRange range) {
  const LineColumn begin = sources.position(range.file, range.begin);
  const LineColumn end = sources.position(range.file, std::max(range.begin, range.end));
  return {{"startLine", begin.line},
          {"startColumn", begin.column},
          {"endLine", end.line},
          {"endColumn", end.column}};
}

Json sarif_location(const SourceMap& sources, SourceRange range) {
  return {{"physicalLocation",
           {{"artifactLocation", {{"uri", uri(sources.path(range.file))}}},
            {"region", sarif_region(sources, range)}}}};
}

std::string sarif_level(Severity severity) {
  return severity == Severity::Off ? "none" : std::string(severity_name(severity));
}

// The message with everything that has no field of its own.
std::string full_message(const Diagnostic& d) {
  std::string text = d.message;
  for (const std::string& note : d.notes) text += "\nnote: " + note;
  if (!d.help.empty()) text += "\nhelp: " + d.help;
  return text;
}

Json sarif_fix(const SourceMap& sources, const Fix& fix) {
  std::map<FileId, Json> changes;
  for (const Edit& edit : fix.edits) {
    if (!edit.range.known()) continue;
    changes[edit.range.file].push_back({{"deletedRegion", sarif_region(sources, edit.range)},
                                        {"insertedContent", {{"text", edit.text}}}});
  }
  Json list = Json::array();
  for (auto& [file, replacements] : changes) {
    list.push_back({{"artifactLocation", {{"uri", uri(sources.path(file))}}},
                    {"replacements", std::move(replacements)}});
  }
  return {{"description", {{"text", fix.description}}}, {"artifactChanges", std::move(list)}};
}

std::string github_escape(std::string_view text, bool property) {
  std::string out;
  for (const char c : text) {
    if (c == '%') {
      out += "%25";
    } else if (c == '\r') {
      out += "%0D";
    } else if (c == '\n') {
      out += "%0A";
    } else if (property && c == ':') {
      out += "%3A";
    } else if (property && c == ',') {
      out += "%2C";
    } else {
      out += c;
    }
  }
  return out;
}

// Text that XML 1.0 can hold; line breaks stay.
// Numbers equal findings 0, 1, 2, …, so that each has its own fingerprint.
class Occurrences {
 public:
  std::string next(const Report& report, const Diagnostic& d) {
    return fingerprint(report, d, seen_[fingerprint(report, d, 0)]++);
  }

 private:
  std::map<std::string, std::size_t> seen_;
};

}  // namespace

std::string fingerprint(const Report& report, const Diagnostic& d, std::size_t occurrence) {
  const std::string text =
      fmt::format("{}\n{}\n{}\n{}\n{}\n{}", diag_name(d.code),
                  d.range.known() ? report.sources.path(d.range.file) : "",
                  d.policy ? d.policy->str() : "", d.rule, d.message, occurrence);
  // FNV-1a, twice with different starts: 128 bits that do not depend on the platform.
  std::uint64_t a = 0xcbf29ce484222325ULL;
  std::uint64_t b = 0x84222325cbf29ce4ULL;
  for (const char c : text) {
    a = (a ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    b = (b ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL + 1;
  }
  return fmt::format("{:016x}{:016x}", a, b);
}

void render_json(const Report& report, std::ostream& out) {
  Json j;
  j["version"] = 1;
  j["diagnostics"] = Json::array();
  for (const Diagnostic& d : report.diagnostics) {
    j["diagnostics"].push_back(json_of(report.sources, d));
  }
  j["summary"] = {{"errors", count(report.diagnostics, Severity::Error)},
                  {"warnings", count(report.diagnostics, Severity::Warning)},
                  {"notes", count(report.diagnostics, Severity::Note)},
                  {"policies", report.summary.policies},
                  {"documents", report.summary.documents},
                  {"files", report.summary.files},
                  {"fixed", report.summary.fixed},
                  {"silenced", report.summary.hidden}};
  write(j, out);
}

void render_sarif(const Report& report, std::ostream& out) {
  std::set<DiagCode> codes;
  for (const Diagnostic& d : report.diagnostics) codes.insert(d.code);
  Json rules = Json::array();
  std::map<DiagCode, std::size_t> index;
  for (const DiagCode code : codes) {
    const DiagInfo& info = diag_info(code);
    index[code] = rules.size();
    rules.push_back({{"id", diag_name(code)},
                     {"name", info.name},
                     {"shortDescription", {{"text", info.title}}},
                     {"fullDescription", {{"text", info.meaning}}},
                     {"help", {{"text", info.remedy}}},
                     {"defaultConfiguration", {{"level", sarif_level(info.severity)}}}});
  }
  Json results = Json::array();
  Occurrences occurrences;
  for (const Diagnostic& d : report.diagnostics) {
    Json r = {{"ruleId", diag_name(d.code)},
              {"ruleIndex", index[d.code]},
              {"level", sarif_level(d.severity)},
              {"message", {{"text", full_message(d)}}}};
    r["locations"] = Json::array();
    if (d.range.known()) {
      Json location = sarif_location(report.sources, d.range);
      if (d.policy) {
        Json object = {
            {"fullyQualifiedName", d.policy->str() + (d.rule.empty() ? "" : "/" + d.rule)},
            {"kind", "object"}};
        location["logicalLocations"] = Json::array({std::move(object)});
      }
      r["locations"].push_back(std::move(location));
    }
    Json related = Json::array();
    for (const DiagLabel& label : d.labels) {
      if (!label.range.known()) continue;
      Json location = sarif_location(report.sources, label.range);
      location["message"] = {{"text", label.text}};
      related.push_back(std::move(location));
    }
    if (!related.empty()) r["relatedLocations"] = std::move(related);
    r["partialFingerprints"] = {{"policyc/v1", occurrences.next(report, d)}};
    if (d.fix) {
      Json fix = sarif_fix(report.sources, *d.fix);
      // The schema wants at least one change.
      if (!fix["artifactChanges"].empty()) r["fixes"] = Json::array({std::move(fix)});
    }
    results.push_back(std::move(r));
  }
  Json run;
  run["tool"]["driver"] = {{"name", "policyc"},
                           {"version", POLICYC_VERSION},
                           {"semanticVersion", POLICYC_VERSION},
                           {"rules", std::move(rules)}};
  run["columnKind"] = "unicodeCodePoints";
  run["results"] = std::move(results);
  write({{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
         {"version", "2.1.0"},
         {"runs", Json::array({std::move(run)})}},
        out);
}

void render_github(const Report& report, std::ostream& out) {
  for (const Diagnostic& d : report.diagnostics) {
    const std::string_view command = d.severity == Severity::Error     ? "error"
                                     : d.severity == Severity::Warning ? "warning"
                                                                       : "notice";
    std::string place;
    if (d.range.known()) {
      const LineColumn begin = report.sources.position(d.range.file, d.range.begin);
      const LineColumn end =
          report.sources.position(d.range.file, std::max(d.range.begin, d.range.end));
      place =
          fmt::format("file={},line={},endLine={}",
                      github_escape(report.sources.path(d.range.file), true), begin.line, end.line);
      // GitHub takes columns only where begin and end share a line.
      if (begin.line == end.line) {
        place += fmt::format(",col={},endColumn={}", begin.column, end.column);
      }
      place += ",";
    }
    fmt::print(out, "::{} {}title={}::{}\n", command, place, diag_name(d.code),
               github_escape(full_message(d), false));
  }
}

void render_gitlab(const Report& report, std::ostream& out) {
  Json list = Json::array();
  Occurrences occurrences;
  for (const Diagnostic& d : report.diagnostics) {
    const bool known = d.range.known();
    list.push_back({{"description", fmt::format("{}: {}", diag_name(d.code), d.message)},
                    {"check_name", diag_name(d.code)},
                    {"fingerprint", occurrences.next(report, d)},
                    {"severity", d.severity == Severity::Error     ? "major"
                                 : d.severity == Severity::Warning ? "minor"
                                                                   : "info"},
                    {"location",
                     {{"path", known ? report.sources.path(d.range.file) : "."},
                      {"lines",
                       {{"begin", known ? report.sources.position(d.range.file, d.range.begin).line
                                        : 1U}}}}}});
  }
  write(list, out);
}

void render_junit(const Report& report, std::ostream& out) {
  // One suite for each file with findings; a clean run has one passing case.
  std::map<std::string, std::vector<const Diagnostic*>> by_file;
  for (const Diagnostic& d : report.diagnostics) {
    by_file[d.range.known() ? report.sources.path(d.range.file) : "policyc"].push_back(&d);
  }
  const std::size_t failures =
      report.diagnostics.size() - count(report.diagnostics, Severity::Note);
  fmt::print(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
  fmt::print(out, "<testsuites name=\"policyc lint\" tests=\"{}\" failures=\"{}\">\n",
             std::max<std::size_t>(1, report.diagnostics.size()), failures);
  if (by_file.empty()) {
    fmt::print(out,
               "  <testsuite name=\"policyc\" tests=\"1\" failures=\"0\">\n"
               "    <testcase name=\"no findings\" classname=\"policyc\"/>\n"
               "  </testsuite>\n");
  }
  for (const auto& [file, findings] : by_file) {
    const auto notes = std::count_if(findings.begin(), findings.end(), [](const Diagnostic* d) {
      return d->severity == Severity::Note;
    });
    fmt::print(out, "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">\n", xml_escape(file),
               findings.size(), findings.size() - static_cast<std::size_t>(notes));
    for (const Diagnostic* d : findings) {
      const std::string name =
          fmt::format("{} {}", diag_name(d->code), report.sources.place(d->range));
      fmt::print(out, "    <testcase name=\"{}\" classname=\"{}\"", xml_escape(name),
                 xml_escape(file));
      if (d->severity == Severity::Note) {
        fmt::print(out, ">\n      <system-out>{}</system-out>\n    </testcase>\n",
                   xml_escape(full_message(*d)));
      } else {
        fmt::print(
            out, ">\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>\n",
            severity_name(d->severity), xml_escape(d->message), xml_escape(full_message(*d)));
      }
    }
    fmt::print(out, "  </testsuite>\n");
  }
  fmt::print(out, "</testsuites>\n");
}

const std::vector<std::string>& format_names() {
  static const std::vector<std::string> names = {"text",   "json",   "sarif",
                                                 "github", "gitlab", "junit"};
  return names;
}

std::optional<Format> parse_format(std::string_view name) {
  const auto& names = format_names();
  const auto it = std::find(names.begin(), names.end(), name);
  if (it == names.end()) return std::nullopt;
  return static_cast<Format>(it - names.begin());
}

void render(const Report& report, Format format, const TextStyle& style, std::ostream& out) {
  switch (format) {
    case Format::Text:
      return render_text(report, style, out);
    case Format::Json:
      return render_json(report, out);
    case Format::Sarif:
      return render_sarif(report, out);
    case Format::Github:
      return render_github(report, out);
    case Format::Gitlab:
      return render_gitlab(report, out);
    case Format::Junit:
      return render_junit(report, out);
  }
}

}  // namespace policyc::cli
