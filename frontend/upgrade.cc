#include "frontend/upgrade.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "frontend/lower.h"
#include "ir/base/diag_code.h"
#include "ir/filters.h"
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

// How a release reads the stars of a server name.
const char* star_reading(const ir::Settings& settings, const std::string& name) {
  using Stars = ir::Profile::SniStars;
  const Stars stars = settings.release().sni_stars;
  if (name.find('*') == std::string::npos) return "";
  if (stars == Stars::None) return ", a literal star";
  const bool leading = name.rfind("*.", 0) == 0 || name.rfind("**.", 0) == 0;
  const bool only_leading = name.find('*', name.find('.')) == std::string::npos;
  if (leading && only_leading) return ", whole labels in front";
  return stars == Stars::Leading ? ", a literal star" : ", any characters of a label";
}

std::vector<ItemView> items_of(const ir::PolicySet& set, std::size_t policy,
                               const ir::Settings& settings, const SourceMap& sources) {
  std::vector<ItemView> out;
  std::vector<std::string> lines = lines_of(ir::print(set, policy, &sources));
  // Being confined to the local cluster by default (1.19) changes nothing where there is one
  // cluster.
  const std::string local = fmt::format("k8s:{}={}", ir::kClusterKey, settings.cluster_name);
  for (std::string& line : lines) {
    for (const std::string& text : {local + ", ", ", " + local}) {
      if (const std::size_t at = line.find(text); at != std::string::npos) {
        line.erase(at, text.size());
      }
    }
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
      for (const ir::PortRule& pr : item.ports) {
        for (const std::string& name : pr.server_names) {
          view.lines.push_back(
              fmt::format("      server name {}{}", name, star_reading(settings, name)));
        }
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

// A port rule whose traffic goes to a proxy, and what it says about where.
struct Redirect {
  const ir::Rule* rule;
  const ir::RuleItem* item;
  const ir::Port* port;
  std::string parser;
};

std::vector<Redirect> redirects_of(const ir::PolicySet& set) {
  std::vector<Redirect> out;
  for (const ir::Rule& rule : set.rules) {
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::PortRule& pr : item.ports) {
        const bool tls = !pr.server_names.empty() || pr.tls != ir::TlsContext{};
        const ir::Parser parser = pr.l7.parser != ir::Parser::None ? pr.l7.parser
                                  : tls                            ? ir::Parser::Tls
                                                                   : ir::Parser::None;
        if (parser == ir::Parser::None || pr.listener) continue;
        for (const ir::Port& port : pr.ports) {
          out.push_back({&rule, &item, &port, ir::parser_name(parser, pr.l7)});
        }
      }
    }
  }
  return out;
}

// Two redirects to different proxies that one packet may match, by entries of different keys.
bool compete(const Redirect& a, const Redirect& b) {
  if (a.parser == b.parser || a.item->direction != b.item->direction) return false;
  if (!a.rule->ns.empty() && !b.rule->ns.empty() && a.rule->ns != b.rule->ns) return false;
  if (a.port->protocol != b.port->protocol) return false;
  const auto last = [](const ir::Port& p) -> std::uint32_t {
    if (p.number == 0 && p.end == 0) return 65535;
    return p.end > p.number ? p.end : p.number;
  };
  if (!a.port->name.empty() || !b.port->name.empty()) return a.port->name == b.port->name;
  return a.port->number <= last(*b.port) && b.port->number <= last(*a.port);
}

}  // namespace

void check_semantics(const Loaded& loaded, const ir::Settings& settings, DiagnosticSink& sink) {
  ir::Settings api = settings;
  api.kubernetes_semantics = true;
  const ir::PolicySet cilium = lower(loaded, settings);
  const ir::PolicySet kubernetes = lower(loaded, api);
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
  const ir::PolicySet before = lower(loaded, settings);
  const ir::PolicySet after = lower(again, next);
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
  if (settings.release().parser_priorities == next.release().parser_priorities) return;
  const std::vector<Redirect> redirects = redirects_of(before);
  for (std::size_t i = 0; i < redirects.size(); ++i) {
    for (std::size_t k = i + 1; k < redirects.size(); ++k) {
      const Redirect& x = redirects[i];
      const Redirect& y = redirects[k];
      if (!compete(x, y)) continue;
      Diagnostic& d = sink.report(
          DiagCode::UpgradeChanges, y.item->origin.range,
          fmt::format(
              "{} and {} rules meet on one port: {} chooses the proxy by protocol, {} by the "
              "more specific entry",
              x.parser, y.parser, next.release().parser_priorities ? target : settings.profile,
              next.release().parser_priorities ? settings.profile : target));
      d.policy = before.policies[y.item->origin.policy].ref;
      d.rule = y.item->origin.path;
      d.labels.push_back({x.item->origin.range, "the other rule"});
    }
  }
}

}  // namespace policyc::frontend
