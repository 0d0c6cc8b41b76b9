#include "verifier/open_reach.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ir/filters.h"
#include "ir/identity.h"
#include "ir/resolve.h"
#include "verifier/reach.h"
#include "verifier/selector_logic.h"
#include "verifier/universe.h"

namespace policyc {
namespace {

using ir::L4Key;
using ir::Operator;
using ir::Requirement;
using ir::Selector;
using Kind = OpenAnswer::Kind;

constexpr std::size_t kMostTargets = 64;
constexpr std::size_t kMostNamespaces = 500;
constexpr std::size_t kMostWitnesses = 16;  // for one box

const std::string kMetadataName =
    std::string(ir::kNamespaceLabelsPrefix) + "kubernetes.io/metadata.name";

Requirement pod_label(std::string key, Operator op, std::vector<std::string> values) {
  Requirement r;
  r.source = "k8s";
  r.key = std::move(key);
  r.op = op;
  r.values = std::move(values);
  return r;
}

// What keeps the rules from being told as sets of pods, if anything does.
std::string open_question(const ir::World& world) {
  for (const ir::Rule& rule : world.policies.rules) {
    if (!rule.symbol.empty()) return rule.symbol;
    if (has_symbol(rule.subject)) return "a placeholder in " + rule.origin.path;
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::Peer& peer : item.peers) {
        if (has_symbol(peer.selector)) return "a placeholder in " + item.origin.path;
        if (peer.kind == ir::PeerKind::Node) return "a selector of nodes";
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

class Search {
 public:
  Search(const ir::World& world, const OpenClaim& claim)
      : world_(world), claim_(claim), mentioned_(mention(world, claim)), universe_(mentioned_) {}

  OpenAnswer run() {
    forced();
    std::set<std::pair<ir::LabelSet, std::vector<ir::ContainerPort>>> seen;
    for (const std::size_t target : claim_.to) {
      const ir::Pod& pod = world_.inventory.pods[target];
      const ir::LabelSet labels = ir::pod_identity(world_.inventory, world_.settings, pod);
      if (pod.host_network) {
        unknown(pod.full_name() + " is on the host network");
        continue;
      }
      if (!seen.insert({labels, pod.ports}).second) continue;
      if (seen.size() > kMostTargets) {
        unknown("too many targets");
        break;
      }
      if (one(target, labels)) return std::move(out_);
    }
    if (out_.why.empty()) out_.kind = Kind::Holds;
    return std::move(out_);
  }

 private:
  // The world with a rule that mentions whatever sets are formed of, so that they are told apart.
  static ir::World mention(const ir::World& world, const OpenClaim& claim) {
    ir::World out = world;
    std::vector<std::string> namespaces;
    for (const ir::Namespace& n : world.inventory.namespaces) namespaces.push_back(n.name);
    ir::RuleItem item;
    const auto add = [&](Selector s) {
      ir::Peer peer;
      peer.selector = std::move(s);
      item.peers.push_back(std::move(peer));
    };
    add(claim.from);
    const auto names = [&](const Selector& s) {
      for (const Requirement& r : s.requirements) {
        const bool of_namespace = r.key == ir::kNamespaceKey || r.key == kMetadataName;
        if (of_namespace) namespaces.insert(namespaces.end(), r.values.begin(), r.values.end());
      }
    };
    names(claim.from);
    for (const ir::Rule& rule : world.policies.rules) {
      if (!rule.host_subject) add(rule.subject);
      names(rule.subject);
      for (const ir::RuleItem& i : rule.items) {
        for (const ir::Peer& p : i.peers) names(p.selector);
      }
    }
    std::sort(namespaces.begin(), namespaces.end());
    namespaces.erase(std::unique(namespaces.begin(), namespaces.end()), namespaces.end());
    add({{pod_label(std::string(ir::kNamespaceKey), Operator::In, namespaces)}, {}});
    ir::Rule rule;
    rule.policy = out.policies.policies.size();
    rule.items.push_back(std::move(item));
    out.policies.policies.emplace_back();
    out.policies.rules.push_back(std::move(rule));
    return out;
  }

  void unknown(std::string why) {
    if (out_.why.empty()) out_.why = std::move(why);
  }

  // Points that no pod can be: namespaces that are there have their labels.
  void forced() {
    const auto never = [&](Selector s) {
      const auto& boxes = universe_.peers(s, false);
      impossible_.insert(impossible_.end(), boxes.begin(), boxes.end());
    };
    const ir::Rule& mentioned = mentioned_.policies.rules.back();
    const auto& names = mentioned.items[0].peers.back().selector.requirements[0].values;
    std::set<std::string> keys;
    for (const ir::Rule& rule : world_.policies.rules) {
      const auto collect = [&](const Selector& s) {
        for (const Requirement& r : s.requirements) {
          if (r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0) keys.insert(r.key);
        }
      };
      collect(rule.subject);
      for (const ir::RuleItem& item : rule.items) {
        for (const ir::Peer& p : item.peers) collect(p.selector);
      }
    }
    for (const Requirement& r : claim_.from.requirements) {
      if (r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0) keys.insert(r.key);
    }
    // The universe knows what the label of the name says, and which labels identities never carry.
    std::erase_if(keys, [&](const std::string& key) {
      return key == kMetadataName || !ir::is_identity_label(world_.settings, "k8s", key);
    });
    if (names.size() > kMostNamespaces) return unknown("too many namespaces");
    for (const std::string& name : names) {
      const Requirement here = pod_label(std::string(ir::kNamespaceKey), Operator::In, {name});
      const ir::Namespace* known = world_.inventory.find_namespace(name);
      if (known == nullptr) continue;
      for (const std::string& key : keys) {
        const auto value = known->labels.find(key.substr(ir::kNamespaceLabelsPrefix.size()));
        never({{here, value == known->labels.end()
                          ? pod_label(key, Operator::Exists, {})
                          : pod_label(key, Operator::NotIn, {value->second})},
               {}});
      }
    }
  }

  // The keys of the claim that the interval holds.
  std::vector<std::pair<L4Key, L4Key>> asked(L4Key begin, L4Key end) const {
    end = std::min(end, ir::kL4KeyEnd);
    if (claim_.ports.empty()) return {{begin, end}};
    std::vector<std::pair<L4Key, L4Key>> out;
    for (const ir::PortSpan& s : claim_.ports) {
      const L4Key from = std::max(begin, ir::l4_key(s.protocol, s.from));
      const L4Key to = std::min(end, ir::l4_key(s.protocol, s.to) + 1);
      if (from < to) out.emplace_back(from, to);
    }
    return out;
  }

  // Whether the proxy may let a request of the claim pass by what this one says. By several
  // together nothing passes that none of them lets pass.
  bool may_pass(const ir::Filter& filter, const ir::SelectorPolicy& policy) {
    if (!claim_.requests || !policy.redirect || policy.l7_match_all) return true;
    if (filter.parser != ir::Parser::Http || !policy.has_l7_rules()) return true;
    const auto listed = RequestLanguage::of(policy.l7.http);
    const auto both = listed ? listed->intersect(*claim_.requests) : listed;
    return !both || !both->empty();  // what no automaton holds may be anything
  }

  // True where a counterexample is found.
  bool one(std::size_t target, const ir::LabelSet& labels) {
    std::vector<const ir::Rule*> rules;
    for (const ir::Rule& rule : world_.policies.rules) {
      if (!rule.host_subject && rule.subject.matches(labels)) rules.push_back(&rule);
    }
    const ir::EndpointPolicy merged =
        ir::merge_rules(rules, ir::Direction::Ingress, world_.settings,
                        ir::LabelSet({{"reserved", "host", ""}}), false, false);
    if (!merged.error.empty()) {
      unknown(merged.error);
      return false;
    }
    std::vector<Box> allowed, denied = impossible_;
    const auto add = [&](const Selector& selector, L4Key begin, L4Key end, std::vector<Box>& to) {
      for (const auto& [from, last] : asked(begin, end)) {
        for (Box box : universe_.peers(selector, false)) {
          box.begin = from;
          box.end = last;
          to.push_back(std::move(box));
        }
      }
    };
    if (!merged.enforced) add({}, 0, ir::kL4KeyEnd, allowed);
    const ir::NamedPorts named = ir::ingress_ports(world_.inventory.pods[target]);
    for (const ir::Filter& filter : merged.filters) {
      for (const ir::SelectorPolicy& policy : filter.policies) {
        if (policy.host_exemption) continue;
        if (!policy.deny && !may_pass(filter, policy)) continue;
        std::vector<Box>& to = policy.deny ? denied : allowed;
        if (filter.port.protocol == ir::kProtoAny) {
          add(policy.selector, 0, ir::kL4KeyEnd, to);
          continue;
        }
        for (const ir::PortBlock& block : ir::filter_blocks(filter, named)) {
          add(policy.selector, ir::l4_key(filter.port.protocol, block.port),
              ir::l4_key(filter.port.protocol, block.last()) + 1, to);
        }
      }
    }
    for (const Box& who : universe_.peers(claim_.from, false)) {
      for (const Box& box : allowed) {
        const auto part = intersect(who, box);
        if (part && lets_in(target, *part, denied)) return true;
      }
    }
    return false;
  }

  bool lets_in(std::size_t target, const Box& box, const std::vector<Box>& denied) {
    std::vector<Box> avoid = denied;
    for (std::size_t i = 0; i < kMostWitnesses; ++i) {
      std::vector<const Box*> covers;
      for (const Box& b : avoid) covers.push_back(&b);
      const Coverage c = cover(universe_.space(), box, covers);
      if (c.answer == Coverage::Answer::Undecided) {
        unknown("too many combinations of labels");
        return false;
      }
      if (c.covered()) return false;
      const auto blocked = attempt(target, *c.witness);
      if (!blocked) return true;
      // Let in, but kept from sending by policies of its own: look for pods that those leave alone.
      unknown("a pod that is let in may be kept back by egress policies of its own");
      const std::size_t before = avoid.size();
      for (const ir::Rule* rule : *blocked) {
        const auto& boxes = universe_.peers(rule->subject, false);
        avoid.insert(avoid.end(), boxes.begin(), boxes.end());
      }
      if (avoid.size() == before) return false;
    }
    return false;
  }

  // Sends as the pod of the point. Nothing where it passes; else the rules that select the pod.
  std::optional<std::vector<const ir::Rule*>> attempt(std::size_t target, const FlowPoint& point) {
    std::vector<const ir::Rule*> rules;
    ir::Inventory scratch;
    auto pod = universe_.peer_pod(point, scratch);
    if (!pod) {
      unknown(
          "a pod of another cluster, or one whose labels a placeholder leaves open, may be let in");
      return rules;
    }
    pod->name = "some-pod";
    ir::World world = world_;
    if (world.inventory.find_namespace(pod->ns) == nullptr) {
      auto& list = world.inventory.namespaces;
      list.insert(list.end(), scratch.namespaces.begin(), scratch.namespaces.end());
      std::sort(list.begin(), list.end(),
                [](const ir::Namespace& a, const ir::Namespace& b) { return a.name < b.name; });
    }
    world.inventory.pods.push_back(*pod);
    ir::Flow flow;
    flow.id = "counterexample";
    flow.from = ir::PodParty{world.inventory.pods.size() - 1};
    flow.to = ir::PodParty{target};
    const auto protocol_class = static_cast<ir::ProtocolClass>(point.key >> 16U);
    constexpr ir::Protocol kGre = 47;  // one without ports
    flow.protocol = protocol_class == ir::kOther ? kGre : ir::class_protocol(protocol_class);
    flow.port = static_cast<std::uint16_t>(point.key & 0xFFFFU);
    if (claim_.requests) return attempt_requests(std::move(world), std::move(flow));
    const ir::VerdictKind said = ir::evaluate(world, flow).final;
    if (said == ir::VerdictKind::Allow || said == ir::VerdictKind::Redirect) {
      out_.kind = Kind::Fails;
      out_.why.clear();
      out_.world = std::move(world);
      out_.counterexample = std::move(flow);
      return std::nullopt;
    }
    const ir::LabelSet labels = ir::pod_identity(world.inventory, world.settings, *pod);
    for (const ir::Rule& rule : world_.policies.rules) {
      if (!rule.host_subject && rule.has_egress && rule.subject.matches(labels)) {
        rules.push_back(&rule);
      }
    }
    return rules;
  }

  // The same with the requests of the claim, over the connection of `flow`.
  std::optional<std::vector<const ir::Rule*>> attempt_requests(ir::World world, ir::Flow flow) {
    const ir::Resolved resolved = ir::resolve(world, {ir::policy_names(world.policies)});
    const ir::Connectivity connectivity(world.settings, resolved);
    ReachClaim claim;
    for (ir::GraphParty& p : ir::graph_parties(world, resolved)) {
      if (ir::Party(ir::PodParty{p.pod}) == flow.from) claim.from.push_back(p);
      if (ir::Party(ir::PodParty{p.pod}) == flow.to) claim.to.push_back(p);
    }
    claim.ports = {{flow.protocol, flow.port, flow.port, ""}};
    claim.requests = claim_.requests;
    const ReachResult result = decide(world, connectivity, claim);
    if (result.kind != ReachResult::Kind::Fails) {
      unknown("a pod may be let in, and another rule may refuse it such requests");
      return std::vector<const ir::Rule*>();
    }
    out_.kind = Kind::Fails;
    out_.why.clear();
    out_.world = std::move(world);
    out_.counterexample = *result.counterexample;
    return std::nullopt;
  }

  const ir::World& world_;
  const OpenClaim& claim_;
  const ir::World mentioned_;
  const Universe universe_;
  std::vector<Box> impossible_;
  OpenAnswer out_;
};

}  // namespace

OpenAnswer no_pod_reaches(const ir::World& world, const OpenClaim& claim) {
  OpenAnswer out;
  if (world.settings.kubernetes_semantics) {
    out.why = "decided for Cilium's semantics only";
    return out;
  }
  out.why = open_question(world);
  if (!out.why.empty()) return out;
  for (const Requirement& r : claim.from.requirements) {
    if (ir::is_identity_label(world.settings, "k8s", r.key)) continue;
    out.why = fmt::format("identities do not carry the label `{}`", r.key);
    return out;
  }
  return Search(world, claim).run();
}

}  // namespace policyc
