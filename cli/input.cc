#include "cli/input.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <iterator>

#include "cli/command.h"
#include "cli/render.h"
#include "cli/settings.h"

namespace policyc::cli {
namespace {

// Configuration file first, flags over it. False after a mistake, which has been printed.
bool settle_options(CommonOptions& o, Env& env, Input& input) {
  const std::string path = o.config_file.empty() ? find_config_file() : o.config_file;
  if (!path.empty()) {
    SourceMap sources;
    DiagnosticSink sink;
    auto config = read_config_file(path, sources, sink);
    if (!config) {
      render_text({sources, sink.all(), {}}, {use_color(o, env.err_terminal)}, env.err);
      return false;
    }
    input.config = std::move(*config);
  }
  const ConfigFile& config = input.config;
  for (const auto& [name, value] : config.settings) {
    if (auto error = apply_setting(name, value, input.settings)) {
      usage_error(env, error->message);
      return false;
    }
  }
  std::vector<std::pair<std::string, std::string>> pinned;
  ir::Settings scratch;
  for (const SettingRow& row : setting_rows()) {
    const std::string& value = o.settings[std::string(row.name)];
    if (value.empty()) continue;
    if (auto error = apply_setting(row.name, value, scratch)) {
      usage_error(env, error->message);
      return false;
    }
    pinned.emplace_back(row.name, value);
  }
  auto pin = [pinned](ir::Settings& settings) {
    for (const auto& [name, value] : pinned) {
      // Tried above on a copy: cannot fail.
      static_cast<void>(apply_setting(name, value, settings));
    }
  };
  pin(input.settings);
  o.load.pin_settings = pin;

  if (o.load.default_namespace.empty()) o.load.default_namespace = config.ns;
  if (o.load.fqdn_file.empty()) o.load.fqdn_file = config.fqdn;
  o.load.exclude.insert(o.load.exclude.end(), config.exclude.begin(), config.exclude.end());
  const std::string& set = o.set == "auto" && !config.set.empty() ? config.set : o.set;
  using Sets = frontend::LoadOptions::Sets;
  o.load.sets = set == "all" ? Sets::All : set == "dir" ? Sets::Dir : Sets::Auto;
  const std::string& inventory =
      o.inventory == "auto" && !config.inventory.empty() ? config.inventory : o.inventory;
  using Mode = frontend::LoadOptions::InventoryMode;
  o.load.inventory = inventory == "complete"  ? Mode::Complete
                     : inventory == "partial" ? Mode::Partial
                                              : Mode::Auto;
  if (o.unknown_fields.empty()) o.unknown_fields = config.unknown_fields;
  if (o.unknown_fields == "prune") {
    o.load.unknown_fields = frontend::LoadOptions::UnknownFields::Prune;
  }
  input.levels = config.levels;
  for (const std::string& text : o.levels) {
    const auto level = parse_level(text);
    if (!level) {
      usage_error(env, level.error());
      return false;
    }
    input.levels[level->first] = level->second;
  }
  return true;
}

}  // namespace

bool read_inputs(CommonOptions& o, Env& env, Input& input, int& exit_code) {
  exit_code = kUsage;
  if (!settle_options(o, env, input)) return false;
  if (o.load.paths.empty() && o.load.world.empty()) {
    usage_error(env, "no input: give files, folders, `-` for standard input, or --world DIR");
    return false;
  }
  if (!o.load.paths.empty() && !o.load.world.empty()) {
    usage_error(env, "give either paths or --world, not both");
    return false;
  }
  const bool wants_stdin =
      std::find(o.load.paths.begin(), o.load.paths.end(), "-") != o.load.paths.end();
  if (wants_stdin && o.load.stdin_text.empty()) {
    o.load.stdin_text.assign(std::istreambuf_iterator<char>(env.in), {});
  }
  input.loaded = frontend::load(o.load, input.settings, input.sink);
  if (input.loaded.settings) input.settings = *input.loaded.settings;
  exit_code = kOk;
  return true;
}

bool load_inputs(CommonOptions& o, Env& env, Input& input, int& exit_code) {
  if (!read_inputs(o, env, input, exit_code)) return false;
  apply_levels(input.levels, input.sink);
  input.sink.sort();
  const Severity least = o.quiet ? Severity::Error : o.verbose ? Severity::Off : Severity::Warning;
  std::vector<Diagnostic> shown;
  for (const Diagnostic& d : input.sink.all()) {
    if (d.severity >= least) shown.push_back(d);
  }
  render_text({*input.loaded.sources, shown, {}}, {use_color(o, env.err_terminal)}, env.err);
  print_skipped(o, input.loaded, env);
  const frontend::Loaded& l = input.loaded;
  if ((l.unreadable_files > 0 || l.bad_settings > 0) && !o.keep_going) {
    usage_error(env, fmt::format("{} could not be read; --keep-going answers without {}",
                                 l.unreadable_files + l.bad_settings == 1 ? "a file" : "some files",
                                 l.unreadable_files + l.bad_settings == 1 ? "it" : "them"));
    exit_code = kUsage;
    return false;
  }
  return true;
}

void apply_levels(const std::map<DiagCode, Severity>& levels, DiagnosticSink& sink) {
  std::vector<Diagnostic>& all = sink.all();
  for (Diagnostic& d : all) {
    if (auto it = levels.find(d.code); it != levels.end()) d.severity = it->second;
  }
  all.erase(std::remove_if(all.begin(), all.end(),
                           [](const Diagnostic& d) { return d.severity == Severity::Off; }),
            all.end());
}

void print_timing(const CommonOptions& o, const frontend::Loaded& loaded, Env& env) {
  if (!o.timing) return;
  double total = 0;
  for (const frontend::Timing& t : loaded.timings) {
    fmt::print(env.err, "{:>10.2f} ms  {}\n", t.seconds * 1000, t.phase);
    total += t.seconds;
  }
  fmt::print(env.err, "{:>10.2f} ms  total\n", total * 1000);
}

void print_skipped(const CommonOptions& o, const frontend::Loaded& loaded, Env& env) {
  if (!o.verbose) return;
  for (const frontend::SkippedObject& s : loaded.skipped) {
    fmt::print(env.err, "skipped {}: {}\n", s.place, s.reason);
  }
}

}  // namespace policyc::cli
