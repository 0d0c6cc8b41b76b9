// policyc diff: which connections a change of policies opens, closes or changes.
#include <fmt/format.h>
#include <fmt/ostream.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "cli/answer.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/flows.h"
#include "cli/git_tree.h"
#include "ir/base/file.h"
#include "ir/resolve.h"
#include "verifier/connectivity_diff.h"

namespace policyc::cli {
namespace {

struct DiffOptions : EngineOptions {
  std::vector<std::string> arguments;  // BASE, HEAD, and with --git the paths
  std::size_t after_dashes = 0;        // how many of them stood behind `--`
  std::vector<std::string> both;       // --both PATH
  bool git = false;
  std::string format = "text", fail_on, allow, flows;
};

const char* kind_name(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::Opened:
      return "opened";
    case ChangeKind::Closed:
      return "closed";
    case ChangeKind::Changed:
      return "changed";
  }
  return "";
}

// Both sides of the comparison, read.
struct Sides {
  std::optional<GitTree> base_tree, head_tree;
  Engine base, head;
  bool hypothetical = false;
  std::map<std::string, std::uint16_t> port_numbers;  // that the stand-ins for pods declare
};

// Where the two sides come from; false after a message.
bool find_sides(const DiffOptions& o, Env& env, Sides& sides, frontend::LoadOptions& base,
                frontend::LoadOptions& head) {
  const bool what_if = !o.with.empty() || !o.without.empty();
  if (!o.git) {
    if (o.arguments.empty() || o.arguments.size() > 2 || (o.arguments.size() == 1 && !what_if)) {
      usage_error(
          env,
          "diff wants BASE and HEAD: two files or folders (or with --git two revisions), or "
          "BASE alone with --with or --without");
      return false;
    }
    base.paths = {o.arguments.front()};
    head.paths = {o.arguments.back()};
  } else {
    if (o.arguments.empty()) {
      usage_error(env, "diff --git wants BASE and HEAD: two revisions, then paths");
      return false;
    }
    // Behind `--` stand paths. Else what is a path and no revision begins them. Where one revision
    // is left HEAD is the working tree.
    std::error_code ignored;
    std::size_t revisions = std::min<std::size_t>(o.arguments.size(), 2);
    if (o.after_dashes != 0) {
      revisions = o.arguments.size() - o.after_dashes;
    } else if (revisions == 2 && std::filesystem::exists(o.arguments[1], ignored) &&
               !GitTree::is_revision(o.arguments[1])) {
      revisions = 1;
    }
    if (revisions == 0 || revisions > 2) {
      usage_error(env, "diff --git wants one revision or two before `--`, and paths behind it");
      return false;
    }
    const bool working_tree = revisions == 1;
    std::vector<std::string> paths(o.arguments.begin() + static_cast<std::ptrdiff_t>(revisions),
                                   o.arguments.end());
    if (paths.empty()) paths = {"."};
    auto opened = GitTree::open(working_tree);
    if (!opened) return usage_error(env, opened.error()), false;
    for (std::size_t i = 0; i < revisions; ++i) {
      if (GitTree::is_revision(o.arguments[i])) continue;
      usage_error(env,
                  fmt::format("`{}` is no revision of this repository; a shallow clone may lack "
                              "it (git fetch --unshallow)",
                              o.arguments[i]));
      return false;
    }
    sides.base_tree.emplace(std::move(*opened));
    std::vector<std::string> inside;
    for (const std::string& path : paths) {
      auto in_tree = sides.base_tree->inside(path);
      if (!in_tree) return usage_error(env, in_tree.error()), false;
      inside.push_back(std::move(*in_tree));
    }
    // What one side has and the other lacks is added or removed.
    const auto lacks = [&](std::size_t side, std::size_t path) {
      return side < revisions ? !sides.base_tree->has(o.arguments[side], inside[path])
                              : !std::filesystem::exists(paths[path], ignored);
    };
    const auto present = [&](std::size_t side, const std::vector<std::string>& names) {
      std::vector<std::string> out;
      for (std::size_t p = 0; p < names.size(); ++p) {
        if (!lacks(side, p) || lacks(1 - side, p)) out.push_back(names[p]);
      }
      return out;
    };
    const auto take = [&](std::size_t side, GitTree& tree, frontend::LoadOptions& load) {
      const std::string& revision = o.arguments[side];
      if (const auto error = tree.extract(revision, present(side, inside))) {
        usage_error(env, error->message);
        return false;
      }
      load.paths = {tree.folder()};
      load.hidden_prefix = tree.folder() + "/";
      load.shown_prefix = revision + ":";
      return true;
    };
    if (!take(0, *sides.base_tree, base)) return false;
    if (working_tree) {
      head.paths = present(1, paths);
    } else {
      auto other = GitTree::open(working_tree);
      if (!other) return usage_error(env, other.error()), false;
      sides.head_tree.emplace(std::move(*other));
      if (!take(1, *sides.head_tree, head)) return false;
    }
  }
  for (frontend::LoadOptions* load : {&base, &head}) {
    load->paths.insert(load->paths.end(), o.both.begin(), o.both.end());
  }
  return true;
}

bool load_sides(const DiffOptions& o, Env& env, Sides& sides, int& code) {
  EngineOptions base = o;
  EngineOptions head = o;
  base.with.clear();
  base.without.clear();
  code = kUsage;
  if (!find_sides(o, env, sides, base.common.load, head.common.load)) return false;
  if (!load_engine(base, env, sides.base, code) || !load_engine(head, env, sides.head, code)) {
    return false;
  }
  if (sides.base.world.inventory.pods.empty() && sides.head.world.inventory.pods.empty()) {
    sides.hypothetical = true;
    const std::vector<const ir::PolicySet*> both = {&sides.base.world.policies,
                                                    &sides.head.world.policies};
    sides.port_numbers = add_hypothetical_pods(both, sides.base.world.inventory);
    add_hypothetical_pods(both, sides.head.world.inventory);
  }
  return true;
}

// ---- changes that are intended

// One row of the CSV that `diff --format csv` writes; `*` stands for anything in any field.
struct AllowedRow {
  std::vector<std::string> fields;
};

struct CsvRow {
  std::string kind, src, dst, proto;
  std::uint16_t from = 0, to = 0;
};

std::vector<CsvRow> rows_of(const ConnectionChange& change) {
  std::vector<CsvRow> out;
  for (const std::string& src : change.sources) {
    for (const std::string& dst : change.targets) {
      if (src == dst) continue;
      for (const ir::PortSpan& s : change.spans) {
        out.push_back({kind_name(change.kind), src, dst,
                       s.protocol == ir::kProtoAny ? "other" : ir::protocol_name(s.protocol),
                       s.from, s.to});
      }
    }
  }
  return out;
}

Expected<std::vector<AllowedRow>> read_allowed(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return Error{fmt::format("{}: {}", path, text.error())};
  std::vector<AllowedRow> out;
  std::istringstream in(*text);
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line[0] == '#' || line == "change,src,dst,proto,from,to") continue;
    AllowedRow row;
    std::istringstream fields(line);
    for (std::string f; std::getline(fields, f, ',');) row.fields.push_back(f);
    const auto is_port = [](const std::string& f) {
      return f == "*" || (!f.empty() && f.size() <= 5 &&
                          f.find_first_not_of("0123456789") == std::string::npos);
    };
    if (row.fields.size() != 6 || !is_port(row.fields[4]) || !is_port(row.fields[5])) {
      return Error{fmt::format(
          "{}:{}: a line has the six fields change,src,dst,proto,from,to, as `diff --format csv` "
          "writes them; `*` stands for anything",
          path, number)};
    }
    out.push_back(std::move(row));
  }
  return out;
}

bool is_allowed(const CsvRow& row, const std::vector<AllowedRow>& allowed) {
  return std::any_of(allowed.begin(), allowed.end(), [&](const AllowedRow& a) {
    const auto matches = [](const std::string& pattern, const std::string& text) {
      return fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
    };
    const auto bound = [](const std::string& f, std::uint16_t otherwise) {
      return f == "*" ? otherwise : static_cast<std::uint16_t>(std::stoul(f));
    };
    return matches(a.fields[0], row.kind) && matches(a.fields[1], row.src) &&
           matches(a.fields[2], row.dst) && matches(a.fields[3], row.proto) &&
           bound(a.fields[4], 0) <= row.from && row.to <= bound(a.fields[5], 65535);
  });
}

bool is_allowed(const ConnectionChange& change, const std::vector<AllowedRow>& allowed) {
  const auto rows = rows_of(change);
  return std::all_of(rows.begin(), rows.end(),
                     [&](const CsvRow& row) { return is_allowed(row, allowed); });
}

// ---- recorded flows

struct FlowChange {
  std::string text;
  ir::FlowVerdict before, after;
};

Expected<std::vector<FlowChange>> flow_changes(const std::string& path, const Sides& sides) {
  const auto text = read_file(path);
  if (!text) return Error{fmt::format("{}: {}", path, text.error())};
  const auto base = read_flows(*text, sides.base.world);
  if (!base) return Error{fmt::format("{}: in the base: {}", path, base.error())};
  const auto head = read_flows(*text, sides.head.world);
  if (!head) return Error{fmt::format("{}: in the head: {}", path, head.error())};
  std::vector<FlowChange> out;
  for (std::size_t i = 0; i < base->size(); ++i) {
    FlowChange c{flow_text(sides.base.world, (*base)[i]),
                 ir::evaluate(sides.base.world, (*base)[i]),
                 ir::evaluate(sides.head.world, (*head)[i])};
    if (c.before.final != c.after.final) out.push_back(std::move(c));
  }
  return out;
}

// ---- output

std::string span_text(const std::vector<ir::PortSpan>& spans) {
  ir::Connection c;
  c.spans = spans;
  std::size_t whole = 0;
  for (const ir::PortSpan& s : spans) {
    if (s.from == 0 && s.to == 65535 && s.parser.empty()) ++whole;
  }
  c.all = whole == ir::kProtocolClasses;
  return ir::connection_text(c);
}

std::string list_text(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 12;
  const std::vector<std::string> shown(
      names.begin(), names.begin() + std::min<std::ptrdiff_t>(kMost, std::ssize(names)));
  return fmt::format("{}{}", fmt::join(shown, ", "),
                     names.size() > kMost ? fmt::format(" and {} more", names.size() - kMost) : "");
}

void print_text(const DiffOptions& o, const Sides& sides, const ConnectivityDiff& diff,
                const std::vector<FlowChange>& flows, const std::vector<AllowedRow>& allowed,
                Env& env) {
  const bool color = use_color(o.common, env.out_terminal);
  const auto heading = [&](ChangeKind kind) {
    if (!color) return std::string(kind_name(kind));
    const char* on = kind == ChangeKind::Opened   ? "\x1b[1;32m"
                     : kind == ChangeKind::Closed ? "\x1b[1;31m"
                                                  : "\x1b[1;33m";
    return fmt::format("{}{}\x1b[0m", on, kind_name(kind));
  };
  const auto causes = [&](const Engine& side, const char* name,
                          const std::vector<ir::Origin>& rules) {
    for (const ir::Origin& r : rules) {
      fmt::print(env.out, "  {}  {}  {}  {}\n", name, side.sources().place(r.range),
                 side.world.policies.policies[r.policy].ref.str(), r.path);
    }
  };
  std::array<std::size_t, 3> counts{};
  for (const ConnectionChange& c : diff.changes) {
    ++counts[static_cast<std::size_t>(c.kind)];
    fmt::print(env.out, "{} {}{}\n", heading(c.kind), span_text(c.spans),
               is_allowed(c, allowed) ? "  (intended)" : "");
    fmt::print(env.out, "  from  {}\n  to    {}\n", list_text(c.sources), list_text(c.targets));
    if (c.kind == ChangeKind::Changed) {
      const auto conditions = [](const std::vector<std::string>& list) {
        return list.empty() ? "no conditions" : fmt::format("{}", fmt::join(list, "; "));
      };
      fmt::print(env.out, "  was   {}\n  is    {}\n", conditions(c.before), conditions(c.after));
    }
    if (c.head_flow.l7.index() != 0) {
      fmt::print(env.out, "  e.g.  {}\n", flow_text(sides.head.world, c.head_flow));
    }
    causes(sides.base, "base", c.base_rules);
    causes(sides.head, "head", c.head_rules);
  }
  for (const IsolationChange& i : diff.isolation) {
    fmt::print(env.out, "{} {} isolated by default: {}\n", ir::direction_name(i.direction),
               i.isolated ? "is now" : "is no longer", list_text(i.workloads));
  }
  if (!diff.added.empty()) fmt::print(env.out, "added: {}\n", list_text(diff.added));
  if (!diff.removed.empty()) fmt::print(env.out, "removed: {}\n", list_text(diff.removed));
  for (const FlowChange& f : flows) {
    fmt::print(env.out, "flow {}: was {}, is {}\n", f.text, ir::verdict_name(f.before.final),
               ir::verdict_name(f.after.final));
  }
  if (diff.changes.empty()) {
    fmt::print(env.out,
               "no connection differs: {} parties in {} classes, every protocol and port\n",
               diff.parties, diff.classes);
  } else {
    fmt::print(env.out, "{} opened, {} closed, {} changed; {} parties in {} classes compared\n",
               counts[0], counts[1], counts[2], diff.parties, diff.classes);
  }
}

std::string json_text(const Sides& sides, const ConnectivityDiff& diff,
                      const std::vector<FlowChange>& flows,
                      const std::vector<AllowedRow>& allowed) {
  using nlohmann::ordered_json;
  ordered_json out;
  out["version"] = 1;
  out["equal"] = diff.equal();
  out["world"] = sides.hypothetical ? "open" : "inventory";
  out["parties"] = diff.parties;
  out["classes"] = diff.classes;
  const auto origins = [](const Engine& side, const char* name,
                          const std::vector<ir::Origin>& rules, ordered_json& into) {
    for (const ir::Origin& r : rules) {
      const ir::Policy& p = side.world.policies.policies[r.policy];
      const LineColumn at = side.sources().position(r.range.file, r.range.begin);
      into.push_back({{"side", name},
                      {"file", p.file},
                      {"line", at.line},
                      {"column", at.column},
                      {"policy", p.ref.str()},
                      {"rule", r.path}});
    }
  };
  out["changes"] = ordered_json::array();
  for (const ConnectionChange& c : diff.changes) {
    ordered_json ports = ordered_json::array();
    for (const ir::PortSpan& s : c.spans) {
      ports.push_back({{"proto", ir::protocol_name(s.protocol)}, {"from", s.from}, {"to", s.to}});
    }
    ordered_json because = ordered_json::array();
    origins(sides.base, "base", c.base_rules, because);
    origins(sides.head, "head", c.head_rules, because);
    out["changes"].push_back({{"change", kind_name(c.kind)},
                              {"src", c.sources},
                              {"dst", c.targets},
                              {"ports", std::move(ports)},
                              {"before", c.before},
                              {"after", c.after},
                              {"intended", is_allowed(c, allowed)},
                              {"witness", flow_json(sides.head.world, c.head_flow)},
                              {"because", std::move(because)}});
  }
  out["isolation"] = ordered_json::array();
  for (const IsolationChange& i : diff.isolation) {
    out["isolation"].push_back({{"direction", ir::direction_name(i.direction)},
                                {"isolated", i.isolated},
                                {"workloads", i.workloads}});
  }
  out["added"] = diff.added;
  out["removed"] = diff.removed;
  out["unknown"] = diff.unknown;
  out["flows"] = ordered_json::array();
  for (const FlowChange& f : flows) {
    out["flows"].push_back({{"id", f.before.id},
                            {"flow", f.text},
                            {"before", ir::verdict_name(f.before.final)},
                            {"after", ir::verdict_name(f.after.final)}});
  }
  return out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

int diff(DiffOptions& options, Env& env) {
  Sides sides;
  int code = kOk;
  std::vector<AllowedRow> allowed;
  if (!options.allow.empty()) {
    auto rows = read_allowed(options.allow);
    if (!rows) return usage_error(env, rows.error());
    allowed = std::move(*rows);
  }
  if (!load_sides(options, env, sides, code)) return code;
  const std::vector<std::string> names = names_of(sides.base.world, sides.head.world);
  const ir::Resolved base = ir::resolve(sides.base.world, {names});
  const ir::Resolved head = ir::resolve(sides.head.world, {names});
  const ConnectivityDiff result = compare({&sides.base.world, &base}, {&sides.head.world, &head});
  std::vector<FlowChange> flows;
  if (!options.flows.empty()) {
    auto changed = flow_changes(options.flows, sides);
    if (!changed) return usage_error(env, changed.error());
    flows = std::move(*changed);
  }
  if (options.format == "json") {
    env.out << json_text(sides, result, flows, allowed);
  } else if (options.format == "csv") {
    env.out << "change,src,dst,proto,from,to\n";
    for (const ConnectionChange& c : result.changes) {
      for (const CsvRow& r : rows_of(c)) {
        fmt::print(env.out, "{},{},{},{},{},{}\n", r.kind, r.src, r.dst, r.proto, r.from, r.to);
      }
    }
  } else {
    print_text(options, sides, result, flows, allowed, env);
  }
  if (sides.hypothetical && !options.common.quiet) {
    fmt::print(env.err,
               "policyc: no pods in the input: compared for pods with the labels that the policies "
               "mention\n");
    for (const auto& [name, number] : sides.port_numbers) {
      fmt::print(env.err, "policyc: they have port `{}` under the number {}\n", name, number);
    }
  }
  for (const std::string& unknown : result.unknown) {
    fmt::print(env.err, "policyc: not compared: {}\n", unknown);
  }
  const bool failed = std::any_of(result.changes.begin(), result.changes.end(),
                                  [&](const ConnectionChange& c) {
                                    const bool asked = options.fail_on == "any" ||
                                                       options.fail_on == kind_name(c.kind);
                                    return asked && !is_allowed(c, allowed);
                                  }) ||
                      (options.fail_on == "any" && !flows.empty());
  if (failed) return kFindings;
  code = result.unknown.empty() ? kOk : kUndecided;
  return account_for_refused(options, {{"base", &sides.base}, {"head", &sides.head}}, code, env);
}

}  // namespace

void add_diff(Cli& cli) {
  auto options = std::make_shared<DiffOptions>();
  CLI::App* command =
      cli.add("diff", "show which connections a change opens, closes or changes",
              "  policyc diff policies-before/ policies-after/ --both cluster-dump.yaml\n"
              "  policyc diff --git main HEAD manifests/ --fail-on opened\n"
              "  policyc diff --git HEAD manifests/          # with the working tree\n"
              "  policyc diff --git main -- gone.yaml        # a file that one side lacks\n"
              "  policyc diff . --without cnp/shop/allow-frontend\n"
              "  policyc diff --format csv a/ b/ > intended.csv && policyc diff a/ b/ "
              "--fail-on any --allow intended.csv");
  command->add_option("SIDES", options->arguments,
                      "BASE HEAD: files or folders; with --git, "
                      "revisions, then paths");
  add_engine_options(*command, *options, PathArgument::None);
  command->add_flag("--git", options->git,
                    "BASE and HEAD are git revisions; without HEAD, the working tree");
  add_repeated(*command, "--both", options->both, "input of both sides, such as a cluster dump");
  command->add_option("--format", options->format, "text, json or csv")
      ->check(CLI::IsMember({"text", "json", "csv"}));
  command
      ->add_option("--fail-on", options->fail_on,
                   "exit with 1 on changes of this kind: opened, closed, changed or any")
      ->check(CLI::IsMember({"opened", "closed", "changed", "any"}));
  command->add_option("--allow", options->allow,
                      "CSV of intended changes, as --format csv writes it");
  command->add_option("--flows", options->flows,
                      "recorded flows (flows.json or Hubble): which change their verdict");
  cli.on_run(command, [options, &cli](Env& env) {
    options->after_dashes = cli.after_dashes().size();
    return diff(*options, env);
  });
}

}  // namespace policyc::cli
