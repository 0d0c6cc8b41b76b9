#include "verifier/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "ir/identity.h"
#include "verifier/checks_context.h"

namespace policyc {
namespace checks {
namespace {

// Rules of two namespaces: what most pairs of a large input are, and quick to see.
bool apart(const ir::Rule& a, const ir::Rule& b) {
  return a.symbol.empty() && b.symbol.empty() && !a.ns.empty() && !b.ns.empty() && a.ns != b.ns;
}

}  // namespace

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

Context::Context(const ir::World& w, const SourceMap& s, DiagnosticSink& k, const CheckOptions& o)
    : world(w), sources(s), sink(k), options(o) {
  complete = world.inventory.completeness == ir::Completeness::Complete;
  const auto& policies = world.policies.policies;
  std::map<std::pair<std::string, PolicyRef>, int> count;
  for (const ir::Policy& p : policies) ++count[{p.set, p.ref}];
  for (const ir::Policy& p : policies) has_alternatives.push_back(count[{p.set, p.ref}] > 1);
  std::map<std::tuple<std::string, std::string, std::string>, std::size_t> deployments;
  for (std::size_t i = 0; i < policies.size(); ++i) {
    const std::string root = i < options.roots.size() ? options.roots[i] : "";
    const auto key = complete
                         ? std::tuple(policies[i].set, std::string(), std::string())
                         : std::tuple(policies[i].set, root, root.empty() ? policies[i].file : "");
    deployment.push_back(deployments.try_emplace(key, deployments.size()).first->second);
  }
  for (const ir::Rule& r : world.policies.rules) sets[policies[r.policy].set].push_back(&r);
  for (const ir::Pod& pod : world.inventory.pods) {
    pods.push_back(ir::pod_identity(world.inventory, world.settings, pod));
  }
}

bool Context::is_clusterwide(const ir::Rule& rule) const {
  return policy_of(rule).ref.kind == "CiliumClusterwideNetworkPolicy";
}

bool Context::is_netpol(const ir::Rule& rule) const {
  return policy_of(rule).ref.kind == "NetworkPolicy";
}

std::vector<const ir::Rule*> Context::companions(const ir::Rule& rule, bool certain) const {
  std::vector<const ir::Rule*> out;
  for (const ir::Rule* r : sets.at(policy_of(rule).set)) {
    if (r->policy != rule.policy && has_alternatives[r->policy] != 0) {
      // An alternative of the very policy is never in force together with it.
      if (certain || policy_of(*r).ref == policy_of(rule).ref) continue;
    }
    out.push_back(r);
  }
  return out;
}

bool Context::subject_covers(const ir::Rule& wide, const ir::Rule& narrow) const {
  if (&wide == &narrow) return true;
  if (wide.host_subject != narrow.host_subject || apart(wide, narrow)) return false;
  if (wide.policy != narrow.policy) {
    const ir::Policy &a = policy_of(wide), &b = policy_of(narrow);
    // A namespace that was only guessed proves nothing about another policy's.
    const bool guessed = a.ns_guessed || b.ns_guessed || !wide.symbol.empty();
    if (guessed && !is_clusterwide(wide) &&
        (a.ns_guessed != b.ns_guessed || folder_of(a.file) != folder_of(b.file))) {
      return false;
    }
  }
  return selector_covers(wide.subject, narrow.subject, world.settings);
}

bool Context::subjects_may_meet(const ir::Rule& a, const ir::Rule& b) const {
  if (a.host_subject != b.host_subject) return false;
  const bool guessed =
      policy_of(a).ns_guessed || policy_of(b).ns_guessed || !a.symbol.empty() || !b.symbol.empty();
  if (!guessed && apart(a, b)) return false;
  return !selectors_disjoint(a.subject, b.subject, guessed);
}

Diagnostic& Context::report(DiagCode code, const ir::Rule& rule, SourceRange range,
                            std::string message, const std::string& path) {
  if (!range.known()) range = rule.origin.range;
  if (!range.known()) range = policy_of(rule).range;
  Diagnostic& d = sink.report(code, range, std::move(message));
  d.policy = policy_of(rule).ref;
  d.rule = path.empty() ? rule.origin.path : path;
  d.proof = "exact";
  return d;
}

SourceRange Context::key_range(SourceRange within, const std::string& key) const {
  const std::string_view text = sources.slice(within);
  const auto word = [](char ch) {
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');
  };
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    const std::size_t end = at + key.size();
    if ((at > 0 && word(text[at - 1])) || end >= text.size() || text[end] != ':') continue;
    return {within.file, within.begin + static_cast<std::uint32_t>(at),
            within.begin + static_cast<std::uint32_t>(end)};
  }
  return within;
}

std::string Context::name(const ir::Rule& rule) const {
  return "`" + policy_of(rule).ref.str() + "`";
}

}  // namespace checks

void run_checks(const ir::World& world, const SourceMap& sources, DiagnosticSink& sink,
                const CheckOptions& options) {
  DiagnosticSink own;
  checks::Context c(world, sources, own, options);
  checks::check_http(c);
  checks::check_l7_lists(c);
  checks::check_void_l7(c);
  checks::check_dns(c);
  checks::check_peers(c);
  checks::check_ports(c);
  checks::check_redundant(c);
  checks::check_isolation(c);
  checks::check_hosts(c);
  checks::check_netpol(c);
  checks::check_inventory(c);
  checks::check_limits(c);
  own.sort();
  // Aliases and protocol expansion say the same thing of the same text more than once.
  auto key = [](const Diagnostic& d) { return std::tie(d.code, d.range, d.message, d.policy); };
  auto& all = own.all();
  all.erase(std::unique(all.begin(), all.end(),
                        [&](const Diagnostic& a, const Diagnostic& b) { return key(a) == key(b); }),
            all.end());
  sink.merge(std::move(own));
}

}  // namespace policyc
