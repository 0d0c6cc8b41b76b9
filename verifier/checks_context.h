// What the groups of findings share: which rules apply together, and how a finding is reported.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "verifier/checks.h"
#include "verifier/selector_logic.h"

namespace policyc::checks {

// The folder of a file as it was given; empty where the path has none.
std::string folder_of(const std::string& path);

struct Context {
  Context(const ir::World& world, const SourceMap& sources, DiagnosticSink& sink,
          const CheckOptions& options);

  const ir::World& world;
  const SourceMap& sources;
  DiagnosticSink& sink;
  const CheckOptions& options;
  bool complete = false;               // the inventory names everybody there is
  std::vector<char> has_alternatives;  // by policy: kind/namespace/name occurs again in its set
  // By policy; those with the same number are in force together. A deployment set is one where the
  // inventory is complete; else what one kustomization root lists, or a file alone, since files
  // that merely lie beside each other are often variants.
  std::vector<std::size_t> deployment;
  std::map<std::string, std::vector<const ir::Rule*>> sets;  // rules by deployment set
  std::vector<ir::LabelSet> pods;                            // identities of inventory pods
  std::set<const ir::PortRule*> void_l7;  // entries whose L7 rules were found void
  // Every rule, once, with `f(rule)`.
  const std::vector<ir::Rule>& rules() const { return world.policies.rules; }
  const ir::Policy& policy_of(const ir::Rule& rule) const {
    return world.policies.policies[rule.policy];
  }
  bool is_clusterwide(const ir::Rule& rule) const;
  bool is_netpol(const ir::Rule& rule) const;

  // The rules that are in force together with `rule`, itself included. With `certain`, only rules
  // that no alternative of their policy replaces.
  std::vector<const ir::Rule*> companions(const ir::Rule& rule, bool certain) const;
  bool deployed_together(const ir::Rule& a, const ir::Rule& b) const {
    return deployment[a.policy] == deployment[b.policy];
  }
  // Whether each endpoint of `narrow` is certainly one of `wide`.
  bool subject_covers(const ir::Rule& wide, const ir::Rule& narrow) const;
  // Whether some endpoint may be selected by both.
  bool subjects_may_meet(const ir::Rule& a, const ir::Rule& b) const;

  // Reports with policy and rule path filled in. An unknown range falls back to the rule's.
  Diagnostic& report(DiagCode code, const ir::Rule& rule, SourceRange range, std::string message,
                     const std::string& path = "");
  // The word inside `within` that is the key `key:`; `within` where it is not found.
  SourceRange key_range(SourceRange within, const std::string& key) const;
  // "`web` (a.yaml:3:5)": how another rule is named in a note.
  std::string name(const ir::Rule& rule) const;
};

inline bool has_direction(const ir::Rule& rule, ir::Direction d) {
  return d == ir::Direction::Ingress ? rule.has_ingress : rule.has_egress;
}
inline bool denies_by_default(const ir::Rule& rule, ir::Direction d) {
  return has_direction(rule, d) &&
         (d == ir::Direction::Ingress ? rule.default_deny_ingress : rule.default_deny_egress);
}
inline bool contributes(const ir::RuleItem& item) {
  if (!item.any_peer && item.peers.empty()) return false;
  if (item.all_l4) return true;
  for (const ir::PortRule& p : item.ports) {
    if (!p.ports.empty()) return true;
  }
  return false;
}
inline bool is_all_peers(const ir::RuleItem& item) {
  if (item.any_peer) return true;
  for (const ir::Peer& p : item.peers) {
    if (p.selector.wildcard()) return true;
  }
  return false;
}
inline bool port_has(const ir::Port& p, ir::Protocol protocol, std::uint16_t number) {
  if (p.protocol != protocol) return false;
  if (!p.symbol.empty() || !p.name.empty()) return true;  // may be
  if (p.number == 0 && p.end == 0) return true;
  return p.number <= number && number <= (p.end == 0 ? p.number : p.end);
}
// Whether the item may let the port through for somebody.
inline bool item_may_allow(const ir::RuleItem& item, ir::Protocol protocol, std::uint16_t number) {
  if (item.deny || !contributes(item)) return false;
  if (item.all_l4) return true;
  for (const ir::PortRule& r : item.ports) {
    for (const ir::Port& p : r.ports) {
      if (port_has(p, protocol, number)) return true;
    }
  }
  return false;
}

void check_http(Context& c);      // headers, methods, paths, Kafka patterns
void check_l7_lists(Context& c);  // DNS and Kafka rules that others take in
// L7 rules that a wider allow makes void; check_redundant finds those that several do.
void check_void_l7(Context& c);
// Whether the rules keep some request out (others only make requests visible).
bool restricts(const ir::L7Rules& l7);
void check_dns(Context& c);        // toFQDNs and DNS rules
void check_peers(Context& c);      // selectors that select nobody, or too many
void check_ports(Context& c);      // ICMP types, ranges, named ports
void check_redundant(Context& c);  // parts that others make superfluous, allows that are denied
void check_isolation(Context& c);  // default deny: missing, void, or by accident
void check_hosts(Context& c);      // host policies, probes, reserved endpoints
void check_netpol(Context& c);     // what only NetworkPolicy has
void check_inventory(Context& c);  // what the cluster's objects contradict
void check_limits(Context& c);     // more than an agent can install

}  // namespace policyc::checks
