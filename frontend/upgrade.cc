#include "frontend/upgrade.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "frontend/lower.h"
#include "ir/identity.h"
#include "ir/print.h"

namespace policyc::frontend {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

// What one rule item means in a release: its print, and its name patterns as that release reads
// them.
struct ItemView {
  std::string path;
  SourceRange range;
  std::vector<std::string> lines;
};

std::vector<ItemView> items_of(const ir::PolicySet& set, std::size_t policy,
                               const ir::Settings& settings, const SourceMap& sources) {
  std::vector<ItemView> out;
  std::vector<std::string> lines = lines_of(ir::print(set, policy, sources));
  // Being confined to the local cluster by default (1.19) changes nothing where there is one
  // cluster.
  const std::string local = fmt::format(", k8s:{}={}", ir::kClusterKey, settings.cluster_name);
  for (std::string& line : lines) {
    if (const std::size_t at = line.find(local); at != std::string::npos)
      line.erase(at, local.size());
  }
  for (const ir::Rule& rule : set.rules) {
    if (rule.policy != policy) continue;
    ItemView whole{rule.origin.path, rule.origin.range, {}};
    for (const std::string& line : lines) {
      if (line.rfind("  rule " + rule.origin.path + " ", 0) == 0) whole.lines.push_back(line);
    }
    out.push_back(std::move(whole));
    for (const ir::RuleItem& item : rule.items) {
      ItemView view{item.origin.path, item.origin.range, {}};
      bool inside = false;
      for (const std::string& line : lines) {
        const bool head = line.rfind("    allow ", 0) == 0 || line.rfind("    deny ", 0) == 0;
        if (head) inside = line.find(" " + item.origin.path + " at ") != std::string::npos;
        if (!head && line.rfind("      ", 0) != 0) inside = false;
        if (inside) view.lines.push_back(line);
      }
      for (const ir::Peer& peer : item.peers) {
        if (peer.kind != ir::PeerKind::Fqdn) continue;
        view.lines.push_back("      name " + ir::dns_pattern(settings.release(), peer.text));
      }
      out.push_back(std::move(view));
    }
  }
  return out;
}

// The first line that differs, for the message.
std::string difference(const ItemView& before, const ItemView& after) {
  const auto trim = [](const std::string& line) {
    const std::size_t at = line.find_first_not_of(' ');
    return at == std::string::npos ? std::string() : line.substr(at);
  };
  for (const std::string& line : after.lines) {
    if (std::find(before.lines.begin(), before.lines.end(), line) != before.lines.end()) continue;
    for (const std::string& old : before.lines) {
      if (std::find(after.lines.begin(), after.lines.end(), old) == after.lines.end()) {
        return fmt::format("`{}` becomes `{}`", trim(old), trim(line));
      }
    }
    return fmt::format("`{}` is new", trim(line));
  }
  for (const std::string& old : before.lines) {
    if (std::find(after.lines.begin(), after.lines.end(), old) == after.lines.end()) {
      return fmt::format("`{}` is gone", trim(old));
    }
  }
  return "";
}

// Items by path: the two readings may have different ones.
const ItemView* find_item(const std::vector<ItemView>& items, const std::string& path) {
  for (const ItemView& item : items) {
    if (item.path == path) return &item;
  }
  return nullptr;
}

}  // namespace

void check_semantics(const Loaded& loaded, const ir::Settings& settings, DiagnosticSink& sink) {
  ir::Settings api = settings;
  api.kubernetes_semantics = true;
  DiagnosticSink quiet;
  const ir::PolicySet cilium = lower(loaded, settings, quiet);
  const ir::PolicySet kubernetes = lower(loaded, api, quiet);
  for (std::size_t i = 0; i < loaded.policies.size(); ++i) {
    if (loaded.policies[i].ast.kind != PolicyKind::NetworkPolicy) continue;
    const auto a = items_of(cilium, i, settings, *loaded.sources);
    const auto b = items_of(kubernetes, i, api, *loaded.sources);
    for (const ItemView& item : a) {
      const ItemView* other = find_item(b, item.path);
      const std::string what = other == nullptr
                                   ? "it has no effect, `policyTypes` does not list its direction"
                                   : difference(item, *other);
      if (what.empty()) continue;
      Diagnostic& d = sink.report(
          DiagCode::PluginsDiffer, item.range,
          fmt::format("by the Kubernetes API this rule means something else than in Cilium: {}",
                      what));
      d.policy = cilium.policies[i].ref;
      d.rule = item.path;
    }
  }
}

void check_upgrade(const LoadOptions& options, const Loaded& loaded, const ir::Settings& settings,
                   const std::string& target, DiagnosticSink& sink) {
  ir::Settings next = settings;
  next.profile = target;
  DiagnosticSink quiet;
  const Loaded again = load(options, next, quiet);
  if (again.settings) {
    next = *again.settings;
    next.profile = target;
  }
  const ir::PolicySet before = lower(loaded, settings, quiet);
  const ir::PolicySet after = lower(again, next, quiet);
  const std::size_t count = std::min(before.policies.size(), after.policies.size());
  for (std::size_t i = 0; i < count; ++i) {
    const ir::Policy& old = before.policies[i];
    const ir::Policy& now = after.policies[i];
    const auto report = [&](SourceRange range, const std::string& rule, std::string message) {
      Diagnostic& d = sink.report(DiagCode::UpgradeChanges, range, std::move(message));
      d.policy = old.ref;
      d.rule = rule;
    };
    if (old.accepted != now.accepted) {
      report(old.range, "",
             now.accepted ? fmt::format("{} accepts this policy, {} refuses it: {}", target,
                                        settings.profile, old.error)
                          : fmt::format("{} refuses this policy: {}", target, now.error));
      continue;
    }
    const auto a = items_of(before, i, settings, *loaded.sources);
    const auto b = items_of(after, i, next, *again.sources);
    for (std::size_t k = 0; k < std::min(a.size(), b.size()); ++k) {
      const std::string what = difference(a[k], b[k]);
      if (what.empty()) continue;
      report(a[k].range, a[k].path,
             fmt::format("this rule means something else in {}: {}", target, what));
    }
  }
}

}  // namespace policyc::frontend
