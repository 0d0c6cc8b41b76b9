#include <fmt/format.h>

#include <algorithm>

#include "frontend/lower_parts.h"
#include "ir/identity.h"

namespace policyc::frontend {
namespace {

using ir::Direction;

std::vector<ir::Port> netpol_ports(const PortAst& ast, const SourceMap& sources) {
  PortAst port = ast;
  if (!port.protocol) port.protocol = Text{"TCP", ast.range, false};
  return lower_cilium_port(port, sources);
}

// The selector of one peer, or nullopt for an empty peer `{}`.
std::optional<ir::Selector> peer_selector(const NetpolPeerAst& ast, const std::string& ns,
                                          const ir::Settings& settings, const SourceMap& sources,
                                          const std::string& ns_symbol) {
  if (!ast.pod_selector && !ast.namespace_selector) return std::nullopt;
  ir::Selector out;
  out.range = ast.range;
  if (ast.namespace_selector) {
    out = lower_selector(*ast.namespace_selector, sources, "k8s",
                         std::string(ir::kNamespaceLabelsPrefix));
    out.range = ast.range;
    // Only the empty selector is confined to pods; others match whoever lacks the label.
    const bool positive =
        std::any_of(out.requirements.begin(), out.requirements.end(), [](const ir::Requirement& r) {
          return r.op == ir::Operator::In || r.op == ir::Operator::Exists;
        });
    const bool confine = settings.release().positive_namespace || settings.kubernetes_semantics;
    if (out.requirements.empty() || (!positive && confine)) {
      out.requirements.push_back(namespace_exists());
    }
  }
  if (ast.pod_selector) {
    const ir::Selector pods = lower_selector(*ast.pod_selector, sources, "k8s", "");
    out.requirements.insert(out.requirements.end(), pods.requirements.begin(),
                            pods.requirements.end());
  }
  if (!ast.namespace_selector) {
    out.requirements.push_back(namespace_requirement(ns));
    out.requirements.back().symbol = ns_symbol;
  }
  confine_to_cluster(out, settings);
  return out;
}

}  // namespace

void lower_netpol(const Loaded& loaded, const LoadedPolicy& policy, std::size_t index,
                  const ir::Settings& settings, ir::PolicySet& out) {
  const SourceMap& sources = *loaded.sources;
  const NetpolSpecAst& spec = *policy.ast.netpol;
  ir::Rule rule;
  rule.policy = index;
  rule.ns = policy.ns;
  rule.origin = {index, "spec", spec.range};
  rule.subject = lower_selector(spec.pod_selector, sources, "k8s", "");
  rule.subject.requirements.push_back(namespace_requirement(policy.ns));
  if (policy.ast.ns && policy.ast.ns->unknown) rule.symbol = symbol_of(*policy.ast.ns, sources);

  const auto direction_items = [&](const OptList<NetpolRuleAst>& rules, Direction direction) {
    const bool ingress = direction == Direction::Ingress;
    for (std::size_t i = 0; i < (rules ? rules->size() : 0); ++i) {
      const NetpolRuleAst& ast = (*rules)[i];
      ir::RuleItem base;
      base.direction = direction;
      base.origin = {index, fmt::format("spec.{}[{}]", ir::direction_name(direction), i),
                     ast.range};
      if (ast.ports && !ast.ports->empty()) {
        base.all_l4 = false;
        for (const PortAst& p : *ast.ports) {
          ir::PortRule port_rule;
          port_rule.range = p.range;
          port_rule.ports = netpol_ports(p, sources);
          base.ports.push_back(std::move(port_rule));
        }
      }
      if (!ast.peers || ast.peers->empty()) {
        ir::RuleItem item = base;
        item.empty_peers = ast.peers.has_value();
        item.peers.push_back(
            {ir::PeerKind::Endpoint, ir::Selector{}, true, ast.range, "everybody"});
        rule.items.push_back(std::move(item));
        continue;
      }
      for (std::size_t k = 0; k < ast.peers->size(); ++k) {
        const NetpolPeerAst& peer_ast = (*ast.peers)[k];
        ir::RuleItem item = base;
        item.origin.path += fmt::format(".{}[{}]", ingress ? "from" : "to", k);
        item.origin.range = peer_ast.range;
        ir::Peer peer;
        peer.range = peer_ast.range;
        if (peer_ast.ip_block) {
          const IpBlockAst& block = *peer_ast.ip_block;
          peer.kind = ir::PeerKind::Cidr;
          peer.text = block.cidr.text;
          if (block.cidr.unknown) {
            ir::Requirement r;
            r.source = "cidr";
            r.key = block.cidr.text;
            r.symbol = symbol_of(block.cidr, sources);
            peer.selector = ir::Selector{{std::move(r)}, block.range};
          } else if (const auto prefix = ir::parse_prefix(block.cidr.text)) {
            peer.selector = cidr_selector(*prefix, settings, block.range);
          }
          for (const Text& e : block.except) {
            ir::Requirement r;
            r.source = "cidr";
            r.op = ir::Operator::DoesNotExist;
            r.range = e.range;
            r.symbol = symbol_of(e, sources);
            r.cidr = ir::parse_prefix(e.text, true);
            if (!r.cidr && r.symbol.empty()) continue;
            r.key = r.cidr ? r.cidr->str() : e.text;
            peer.selector.requirements.push_back(std::move(r));
          }
          item.peers.push_back(std::move(peer));
        } else if (auto selector =
                       peer_selector(peer_ast, policy.ns, settings, sources, rule.symbol)) {
          peer.takes_requires = true;
          peer.text = selector->text();
          peer.selector = std::move(*selector);
          item.peers.push_back(std::move(peer));
        } else {
          item.any_peer = !item.all_l4;  // an empty peer: everybody, on the listed ports
        }
        rule.items.push_back(std::move(item));
      }
    }
  };
  const auto listed = [&](const char* type) {
    return spec.policy_types && std::any_of(spec.policy_types->begin(), spec.policy_types->end(),
                                            [&](const Text& t) { return t.text == type; });
  };
  const bool typed = spec.policy_types && !spec.policy_types->empty();
  const auto some = [](const OptList<NetpolRuleAst>& list) { return list && !list->empty(); };
  const bool wants_egress = typed ? listed("Egress") : some(spec.egress);
  if (settings.kubernetes_semantics) {
    // policyTypes as written: a direction that is not listed is not touched.
    rule.has_ingress = typed ? listed("Ingress") : true;
    rule.has_egress = wants_egress;
    if (rule.has_ingress) direction_items(spec.ingress, Direction::Ingress);
    if (rule.has_egress) direction_items(spec.egress, Direction::Egress);
  } else {
    // For the agent policyTypes adds isolation and never takes rules away.
    direction_items(spec.ingress, Direction::Ingress);
    direction_items(spec.egress, Direction::Egress);
    const bool wants_ingress = typed ? listed("Ingress") || !wants_egress : true;
    rule.has_ingress = some(spec.ingress) || wants_ingress;
    rule.has_egress = some(spec.egress) || wants_egress;
  }
  rule.unlisted_ingress = typed && some(spec.ingress) && !listed("Ingress");
  rule.unlisted_egress = typed && some(spec.egress) && !listed("Egress");
  out.rules.push_back(std::move(rule));
}

}  // namespace policyc::frontend
