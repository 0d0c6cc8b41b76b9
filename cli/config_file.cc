#include "cli/config_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "cli/settings.h"
#include "cli/suggest.h"
#include "frontend/discover.h"
#include "frontend/yaml_document.h"
#include "ir/base/diag_code.h"
#include "ir/base/file.h"

namespace policyc::cli {
namespace {

using frontend::NodeKind;
using frontend::YamlEntry;
using frontend::YamlNode;
using frontend::YamlRef;

bool exists(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

class ConfigReader {
 public:
  ConfigReader(ConfigFile& out, DiagnosticSink& sink) : out_(out), sink_(sink) {}

  void read(const YamlNode& root) {
    if (root.kind == NodeKind::Null) return;
    if (!root.is_mapping()) return wrong(root.range, "expected a mapping of settings");
    for (const YamlEntry& entry : root.entries) {
      if (entry.value.node != nullptr) read_entry(entry, *entry.value.node);
    }
  }

 private:
  void wrong(SourceRange range, std::string message) {
    sink_.report(DiagCode::BadSetting, range, std::move(message));
  }

  void take_text(const YamlEntry& entry, std::string& target) {
    if (!entry.value.node->is_scalar()) {
      return wrong(entry.value.at, fmt::format("`{}` must be one value", entry.key));
    }
    target = std::string(entry.value.node->text);
  }

  void take_word(const YamlEntry& entry, std::string& target,
                 const std::vector<std::string>& words) {
    take_text(entry, target);
    for (const std::string& word : words) {
      if (word == target) return;
    }
    wrong(entry.value.at, fmt::format("`{}` cannot be `{}`", entry.key, target));
  }

  void read_entry(const YamlEntry& entry, const YamlNode& value) {
    const std::string key(entry.key);
    if (key == "namespace") return take_text(entry, out_.ns);
    if (key == "fqdn" || key == "baseline") {
      std::string& target = key == "fqdn" ? out_.fqdn : out_.baseline;
      take_text(entry, target);
      const std::string folder = frontend::parent_path(out_.path);
      if (!target.empty() && target[0] != '/' && folder != ".") target = folder + "/" + target;
      return;
    }
    if (key == "set") return take_word(entry, out_.set, {"auto", "all", "dir"});
    if (key == "inventory") {
      return take_word(entry, out_.inventory, {"auto", "complete", "partial"});
    }
    if (key == "unknown-fields") {
      return take_word(entry, out_.unknown_fields, {"prune", "reject"});
    }
    if (key == "deny-warnings") {
      if (value.kind != NodeKind::Bool) {
        return wrong(entry.value.at, "`deny-warnings` must be true or false");
      }
      out_.deny_warnings = value.text == "true";
      return;
    }
    if (key == "exclude") {
      if (!value.is_sequence()) return wrong(entry.value.at, "`exclude` must be a list of globs");
      for (const YamlRef& item : value.items) {
        if (item.node->is_scalar()) out_.exclude.emplace_back(item.node->text);
      }
      return;
    }
    if (key == "levels") return read_levels(entry, value);
    read_setting(entry, value);
  }

  void read_levels(const YamlEntry& entry, const YamlNode& value) {
    if (!value.is_mapping()) {
      return wrong(entry.value.at, "`levels` must map codes to off, note, warning or error");
    }
    for (const YamlEntry& level : value.entries) {
      const auto code = parse_diag_code(level.key);
      // YAML 1.1 reads a bare `off` as false; its text is what counts.
      const auto severity = parse_severity(level.value.node->text);
      if (!code) {
        wrong(level.key_range, fmt::format("unknown code `{}`", level.key));
      } else if (!severity) {
        wrong(level.value.at, "a level is off, note, warning or error");
      } else {
        out_.levels[*code] = *severity;
      }
    }
  }

  void read_setting(const YamlEntry& entry, const YamlNode& value) {
    const std::string key(entry.key);
    std::vector<std::string> names = {"namespace", "fqdn",          "baseline",
                                      "set",       "inventory",     "exclude",
                                      "levels",    "deny-warnings", "unknown-fields"};
    bool known = false;
    for (const SettingRow& row : setting_rows()) {
      names.emplace_back(row.name);
      known = known || row.name == key;
    }
    if (!known) {
      const std::string near = nearest_name(key, names);
      return wrong(entry.key_range,
                   fmt::format("unknown setting `{}`{}", key,
                               near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
    }
    std::string text;
    take_text(entry, text);
    ir::Settings scratch;
    if (auto error = apply_setting(key, text, scratch)) {
      return wrong(value.range, error->message);
    }
    out_.settings.emplace_back(key, text);
  }

  ConfigFile& out_;
  DiagnosticSink& sink_;
};

}  // namespace

std::string find_config_file() {
  const std::string here = frontend::absolute_path(".");
  for (std::string folder = here;; folder = frontend::parent_path(folder)) {
    const std::string path = (folder == "/" ? "" : folder) + "/.policyc.yaml";
    if (exists(path)) return folder == here ? ".policyc.yaml" : path;
    if (folder == "/" || folder == "." || exists(folder + "/.git")) return {};
  }
}

std::optional<ConfigFile> read_config_file(const std::string& path, SourceMap& sources,
                                           DiagnosticSink& sink) {
  auto text = read_file(path, 1U << 20U);
  if (!text) {
    sink.report(DiagCode::BadSetting, {}, fmt::format("cannot use `{}`: {}", path, text.error()));
    return std::nullopt;
  }
  ConfigFile out;
  out.path = path;
  const std::size_t before = sink.all().size();
  const FileId file = sources.add(path, std::move(*text));
  const frontend::YamlStream stream = frontend::read_yaml(sources, file, sink);
  if (!stream.documents().empty()) ConfigReader(out, sink).read(*stream.documents()[0].root);
  if (sink.all().size() != before) return std::nullopt;
  return out;
}

std::optional<Severity> parse_severity(std::string_view text) {
  for (Severity s : {Severity::Off, Severity::Note, Severity::Warning, Severity::Error}) {
    if (severity_name(s) == text) return s;
  }
  return std::nullopt;
}

Expected<std::pair<DiagCode, Severity>> parse_level(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) {
    return Error{fmt::format("`--level {}` must be CODE=off|note|warning|error", text)};
  }
  const auto code = parse_diag_code(text.substr(0, equals));
  if (!code) return Error{fmt::format("unknown code `{}`", text.substr(0, equals))};
  const auto severity = parse_severity(text.substr(equals + 1));
  if (!severity) {
    return Error{fmt::format("unknown level `{}`; levels are off, note, warning, error",
                             text.substr(equals + 1))};
  }
  return std::pair(*code, *severity);
}

}  // namespace policyc::cli
