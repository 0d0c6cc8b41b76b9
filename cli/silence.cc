#include "cli/silence.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "ir/base/diag_code.h"

namespace policyc::cli {
namespace {

constexpr std::string_view kMark = "policyc:";

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// Where the comment addressed to policyc begins in a line, at its `#`.
std::optional<std::size_t> comment_start(std::string_view line) {
  for (std::size_t mark = line.find(kMark); mark != std::string_view::npos;
       mark = line.find(kMark, mark + 1)) {
    std::size_t i = mark;
    while (i > 0 && (line[i - 1] == ' ' || line[i - 1] == '\t')) --i;
    if (i == 0 || line[i - 1] != '#') continue;
    --i;
    if (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t') return i;
  }
  return std::nullopt;
}

// Reads `allow(CODE, CODE) reason` behind the mark.
std::optional<std::vector<DiagCode>> parse_allow(std::string_view text, std::string& problem) {
  text = trim(text);
  constexpr std::string_view kAllow = "allow";
  if (!text.starts_with(kAllow)) {
    problem = "expected `allow(CODE) reason` behind `policyc:`";
    return std::nullopt;
  }
  text = trim(text.substr(kAllow.size()));
  const std::size_t close = text.find(')');
  if (text.empty() || text[0] != '(' || close == std::string_view::npos) {
    problem = "expected a code in parentheses behind `allow`";
    return std::nullopt;
  }
  std::string_view list = text.substr(1, close - 1);
  std::vector<DiagCode> codes;
  while (true) {
    const std::size_t comma = list.find(',');
    const std::string_view word = trim(list.substr(0, comma));
    const auto code = parse_diag_code(word);
    if (!code) {
      problem =
          word.empty() ? std::string("no code is named") : fmt::format("unknown code `{}`", word);
      return std::nullopt;
    }
    if (std::find(codes.begin(), codes.end(), *code) == codes.end()) codes.push_back(*code);
    if (comma == std::string_view::npos) return codes;
    list.remove_prefix(comma + 1);
  }
}

// code, file, policy, rule, message
using Key = std::tuple<std::string, std::string, std::string, std::string, std::string>;

Key key_of(const SourceMap& sources, const Diagnostic& d) {
  return {diag_name(d.code), d.range.known() ? sources.path(d.range.file) : "",
          d.policy ? d.policy->str() : "", d.rule, d.message};
}

}  // namespace

std::vector<AllowComment> find_allow_comments(const SourceMap& sources, FileId file,
                                              DiagnosticSink& sink) {
  std::vector<AllowComment> out;
  const std::string_view text = sources.text(file);
  if (text.find(kMark) == std::string_view::npos) return out;

  std::vector<std::size_t> waiting;   // comments on lines of their own, before any content
  std::vector<std::size_t> document;  // comments that cover the document so far
  bool content = false;               // the document has shown content
  std::uint32_t number = 0;
  auto end_document = [&](std::uint32_t last) {
    for (std::size_t i : document) out[i].last_line = last;
    document.clear();
    content = false;
  };
  for (std::size_t begin = 0; begin <= text.size();) {
    std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) end = text.size();
    const std::string_view line = text.substr(begin, end - begin);
    ++number;
    const std::string_view plain = trim(line);
    const bool separator = line.starts_with("---") && (line.size() == 3 || line[3] == ' ' ||
                                                       line[3] == '\t' || line[3] == '\r');
    if (separator) end_document(number - 1);
    if (const auto start = comment_start(line)) {
      const SourceRange range{
          file, static_cast<std::uint32_t>(begin + *start),
          static_cast<std::uint32_t>(begin + line.find_last_not_of(" \t\r") + 1)};
      std::string problem;
      const std::string_view rest = line.substr(line.find(kMark, *start) + kMark.size());
      if (auto codes = parse_allow(rest, problem)) {
        const std::size_t n = codes->size();
        out.push_back({range, std::move(*codes), number, number, std::vector<bool>(n, false)});
        const bool alone = separator || trim(line.substr(0, *start)).empty();
        if (alone) waiting.push_back(out.size() - 1);
      } else {
        sink.report(DiagCode::BadAllow, range, std::move(problem));
      }
    }
    const bool has_content = !plain.empty() && plain[0] != '#' && plain[0] != '%' && !separator;
    if (has_content) {
      for (std::size_t i : waiting) {
        if (content) {
          out[i].first_line = out[i].last_line = number;
        } else {
          out[i].first_line = number;
          document.push_back(i);
        }
      }
      waiting.clear();
      content = true;
    }
    begin = end + 1;
  }
  end_document(number);
  return out;
}

std::size_t apply_allow_comments(const SourceMap& sources, DiagnosticSink& sink) {
  DiagnosticSink complaints;
  std::map<FileId, std::vector<AllowComment>> comments;
  for (FileId file = 0; file < sources.size(); ++file) {
    auto found = find_allow_comments(sources, file, complaints);
    if (!found.empty()) comments.emplace(file, std::move(found));
  }
  std::vector<Diagnostic>& all = sink.all();
  const std::size_t before = all.size();
  auto silenced = [&](const Diagnostic& d) {
    const auto it = comments.find(d.range.file);
    if (it == comments.end()) return false;
    const std::uint32_t line = sources.position(d.range.file, d.range.begin).line;
    bool hit = false;
    for (AllowComment& comment : it->second) {
      if (line < comment.first_line || line > comment.last_line) continue;
      for (std::size_t i = 0; i < comment.codes.size(); ++i) {
        if (comment.codes[i] != d.code) continue;
        comment.used[i] = true;
        hit = true;
      }
    }
    return hit;
  };
  all.erase(std::remove_if(all.begin(), all.end(), silenced), all.end());
  const std::size_t taken = before - all.size();
  for (const auto& [file, list] : comments) {
    for (const AllowComment& comment : list) {
      for (std::size_t i = 0; i < comment.codes.size(); ++i) {
        if (comment.used[i]) continue;
        complaints.report(DiagCode::UnusedAllow, comment.range,
                          fmt::format("`allow({})` silences nothing", diag_name(comment.codes[i])));
      }
    }
  }
  sink.merge(std::move(complaints));
  return taken;
}

std::string write_baseline(const SourceMap& sources, const std::vector<Diagnostic>& diagnostics) {
  std::map<Key, std::size_t> counts;
  for (const Diagnostic& d : diagnostics) ++counts[key_of(sources, d)];
  using Json = nlohmann::ordered_json;
  Json list = Json::array();
  for (const auto& [key, n] : counts) {
    const auto& [code, file, policy, rule, message] = key;
    list.push_back({{"code", code},
                    {"file", file},
                    {"policy", policy},
                    {"rule", rule},
                    {"message", message},
                    {"count", n}});
  }
  const Json json = {{"version", 1}, {"findings", std::move(list)}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Expected<std::size_t> apply_baseline(const std::string& text, const SourceMap& sources,
                                     DiagnosticSink& sink) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("findings") || !json["findings"].is_array()) {
    return Error{"not a baseline: expected {\"version\":1,\"findings\":[…]}"};
  }
  std::map<Key, std::size_t> counts;
  for (const auto& item : json["findings"]) {
    if (!item.is_object()) return Error{"not a baseline: a finding is no object"};
    auto field = [&](const char* name) {
      const auto it = item.find(name);
      return it != item.end() && it->is_string() ? it->get<std::string>() : std::string();
    };
    const auto n = item.find("count");
    counts[{field("code"), field("file"), field("policy"), field("rule"), field("message")}] +=
        n != item.end() && n->is_number_unsigned() ? n->get<std::size_t>() : 1;
  }
  std::vector<Diagnostic>& all = sink.all();
  const std::size_t before = all.size();
  all.erase(std::remove_if(all.begin(), all.end(),
                           [&](const Diagnostic& d) {
                             auto it = counts.find(key_of(sources, d));
                             if (it == counts.end() || it->second == 0) return false;
                             --it->second;
                             return true;
                           }),
            all.end());
  return before - all.size();
}

}  // namespace policyc::cli
