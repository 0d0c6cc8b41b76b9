#include "verifier/exposure.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "ir/filters.h"
#include "ir/identity.h"
#include "verifier/selector_logic.h"

namespace policyc {
namespace {

// Everything that one source is allowed, or denied.
struct Source {
  std::string words;
  ir::Selector selector;
  ir::Connection ports;
};

std::string with_exceptions(const ir::Peer& peer) {
  std::vector<std::string> holes;
  for (const ir::Requirement& r : peer.selector.requirements) {
    if (r.cidr && r.op == ir::Operator::DoesNotExist) holes.push_back(r.cidr->str());
  }
  return holes.empty() ? peer.text : fmt::format("{} except {}", peer.text, fmt::join(holes, ", "));
}

// A selector of pods in words; `k8s:` and `any:` are left out.
std::string pods_in_words(const ir::Selector& selector) {
  std::vector<std::string> pods;
  std::vector<std::string> namespaces;
  for (const ir::Requirement& r : selector.requirements) {
    ir::Requirement plain = r;
    if (plain.source == "k8s") plain.source = "any";
    if (r.key == ir::kNamespaceKey && r.op == ir::Operator::In) {
      namespaces.push_back(fmt::format("namespace {}", fmt::join(r.values, " or ")));
    } else if (r.key == ir::kNamespaceKey && r.op == ir::Operator::Exists) {
      namespaces.emplace_back("any namespace");
    } else if (r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0) {
      plain.key = r.key.substr(ir::kNamespaceLabelsPrefix.size());
      namespaces.push_back(fmt::format("namespaces with {}", plain.str()));
    } else {
      pods.push_back(plain.str());
    }
  }
  // Several conditions may say the same: the policy's own namespace, and one that is written.
  for (auto* list : {&pods, &namespaces}) {
    std::vector<std::string> once;
    for (std::string& text : *list) {
      if (std::find(once.begin(), once.end(), text) == once.end()) once.push_back(std::move(text));
    }
    *list = std::move(once);
  }
  const std::string who = pods.empty() ? "every pod" : fmt::format("{}", fmt::join(pods, ", "));
  return namespaces.empty() ? who : fmt::format("{} in {}", who, fmt::join(namespaces, ", "));
}

// Whoever has no labels of pods, and is selected all the same: ", world, nodes and host" where the
// selector only says what must be absent.
std::string beside_pods(const ir::Selector& selector) {
  std::vector<std::string> who;
  for (const auto& [entity, name] : {std::pair("world", "world"), std::pair("remote-node", "nodes"),
                                     std::pair("host", "host")}) {
    if (selector.matches(ir::entity_identity(entity))) who.emplace_back(name);
  }
  if (who.empty()) return "";
  const std::string last = who.back();
  who.pop_back();
  return who.empty() ? fmt::format(", and {}", last)
                     : fmt::format(", and {} and {}", fmt::join(who, ", "), last);
}

std::string in_words(const ir::SelectorPolicy& policy, const std::vector<const ir::Rule*>& rules) {
  if (policy.selector.wildcard()) return "everybody";
  for (const ir::Rule* rule : rules) {
    for (const ir::RuleItem& item : rule->items) {
      for (const ir::Peer& peer : item.peers) {
        if (peer.kind == ir::PeerKind::Endpoint || peer.selector.text() != policy.text) continue;
        return with_exceptions(peer);
      }
    }
  }
  return pods_in_words(policy.selector) + beside_pods(policy.selector);
}

bool covers(const ir::PortSpan& wide, const ir::PortSpan& narrow) {
  return wide.protocol == narrow.protocol && wide.from <= narrow.from && narrow.to <= wide.to &&
         (wide.parser.empty() || wide.parser == narrow.parser);
}

bool covers(const ir::Connection& wide, const ir::Connection& narrow) {
  if (wide.all) return true;
  return !narrow.all && std::all_of(narrow.spans.begin(), narrow.spans.end(), [&](const auto& n) {
    return std::any_of(wide.spans.begin(), wide.spans.end(),
                       [&](const auto& w) { return covers(w, n); });
  });
}

// Sorted, neighbours joined, spans that a plain one covers left out.
void tidy(ir::Connection& connection) {
  if (connection.all) connection.spans = {{ir::kProtoAny, 0, 65535, ""}};
  auto& spans = connection.spans;
  std::sort(spans.begin(), spans.end());
  spans.erase(std::unique(spans.begin(), spans.end()), spans.end());
  std::vector<ir::PortSpan> out;
  for (const ir::PortSpan& s : spans) {
    const bool covered = std::any_of(spans.begin(), spans.end(),
                                     [&](const auto& w) { return w != s && covers(w, s); });
    if (covered) continue;
    const bool joined = !out.empty() && out.back().protocol == s.protocol &&
                        out.back().parser == s.parser && out.back().to + 1 == s.from;
    if (joined) {
      out.back().to = s.to;
    } else {
      out.push_back(s);
    }
  }
  spans = std::move(out);
}

class Sources {
 public:
  void add(std::string words, const ir::Selector& selector, const ir::Connection& ports) {
    if (ports.none() && !ports.all) return;
    const auto same = std::find_if(list_.begin(), list_.end(), [&](const Source& s) {
      return s.words == words && s.selector.text() == selector.text();
    });
    if (same == list_.end()) {
      list_.push_back({std::move(words), selector, ports});
      return;
    }
    same->ports.all = same->ports.all || ports.all;
    same->ports.spans.insert(same->ports.spans.end(), ports.spans.begin(), ports.spans.end());
  }

  std::vector<ExposedTo> grouped(const ir::Settings& settings) {
    for (Source& s : list_) tidy(s.ports);
    std::map<ir::Connection, std::vector<std::string>> groups;
    for (std::size_t i = 0; i < list_.size(); ++i) {
      bool needless = false;
      for (std::size_t k = 0; k < list_.size() && !needless; ++k) {
        needless = k != i && part_of(list_[i], list_[k], settings) &&
                   (k < i || !part_of(list_[k], list_[i], settings));
      }
      if (!needless) groups[list_[i].ports].push_back(list_[i].words);
    }
    std::vector<ExposedTo> out;
    for (auto& [ports, words] : groups) {
      std::sort(words.begin(), words.end());
      words.erase(std::unique(words.begin(), words.end()), words.end());
      out.push_back({ports, std::move(words)});
    }
    return out;
  }

 private:
  // Whether `wide` says all that `narrow` says.
  static bool part_of(const Source& narrow, const Source& wide, const ir::Settings& settings) {
    return covers(wide.ports, narrow.ports) &&
           selector_covers(wide.selector, narrow.selector, settings);
  }

  std::vector<Source> list_;
};

ir::Connection ports_of(const ir::Filter& filter, const ir::SelectorPolicy& policy,
                        const ir::NamedPorts& named) {
  const bool proxied = policy.redirect && !policy.l7_match_all;
  const std::string parser = proxied ? filter.parser_text : "";
  ir::Connection out;
  if (filter.port.protocol == ir::kProtoAny) {
    out.all = true;
    return out;
  }
  for (const ir::PortBlock& block : ir::filter_blocks(filter, named)) {
    out.spans.push_back({filter.port.protocol, block.port, block.last(), parser});
  }
  return out;
}

// What keeps the policies of this pod from being told, if anything does.
std::string open_question(const std::vector<const ir::Rule*>& rules) {
  for (const ir::Rule* rule : rules) {
    if (!rule->symbol.empty()) return rule->symbol;
    if (has_symbol(rule->subject)) return "a placeholder in a subject selector";
    for (const ir::RuleItem& item : rule->items) {
      if (item.direction != ir::Direction::Ingress) continue;
      if (!item.auth_symbol.empty()) return item.auth_symbol;
      for (const ir::Peer& peer : item.peers) {
        for (const ir::Requirement& r : peer.selector.requirements) {
          if (!r.symbol.empty()) return r.symbol;
        }
      }
      for (const ir::PortRule& ports : item.ports) {
        for (const ir::Port& p : ports.ports) {
          if (!p.symbol.empty()) return p.symbol;
        }
      }
    }
  }
  return "";
}

// `party` is a workload or a node.
Exposure expose(const ir::World& world, ir::GraphParty party) {
  const ir::Settings& settings = world.settings;
  const bool node = party.node != SIZE_MAX;
  Exposure out;
  out.party = std::move(party);
  std::vector<const ir::Rule*> rules;
  for (const ir::Rule& rule : world.policies.rules) {
    if (rule.host_subject == node && rule.subject.matches(out.party.labels)) rules.push_back(&rule);
  }
  out.unknown = open_question(rules);
  if (!out.unknown.empty()) return out;
  const ir::LabelSet host({{"reserved", "host", ""}});
  const ir::EndpointPolicy merged =
      ir::merge_rules(rules, ir::Direction::Ingress, settings, host, node, false);
  out.unknown = merged.error;
  if (!out.unknown.empty()) return out;
  out.isolated = merged.enforced;
  Sources allowed;
  Sources denied;
  ir::Connection everything;
  everything.all = true;
  if (!merged.enforced) allowed.add("everybody", {}, everything);
  if (!node && !settings.kubernetes_semantics && !settings.allow_localhost_policy) {
    ir::Selector local;
    local.requirements.push_back({"reserved", "host", ir::Operator::Exists, {}, {}, "", {}});
    allowed.add("host (its own node)", local, everything);
  }
  const ir::NamedPorts named =
      node ? ir::NamedPorts{} : ir::ingress_ports(world.inventory.pods[out.party.pod]);
  for (const ir::Filter& filter : merged.filters) {
    for (const ir::SelectorPolicy& policy : filter.policies) {
      if (policy.no_entry || policy.host_exemption) continue;
      (policy.deny ? denied : allowed)
          .add(in_words(policy, rules), policy.selector, ports_of(filter, policy, named));
    }
  }
  out.allowed = allowed.grouped(settings);
  out.denied = denied.grouped(settings);
  return out;
}

}  // namespace

std::vector<Exposure> exposure(const ir::World& world) {
  std::vector<Exposure> out;
  for (ir::GraphParty& p : ir::subject_parties(world)) out.push_back(expose(world, std::move(p)));
  return out;
}

}  // namespace policyc
