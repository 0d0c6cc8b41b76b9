// NetworkPolicy: tree to AST, with the types of its Go structure.
#include <fmt/format.h>

#include "frontend/read_parts.h"
#include "ir/base/diag_code.h"

namespace policyc::frontend {
namespace {

class NetpolReader {
 public:
  NetpolReader(Findings& findings, bool admitted)
      : findings_(findings),
        unknown_(admitted ? Fields::Unknown::Tolerate : Fields::Unknown::Refuse) {}

  NetpolSpecAst spec(const Cursor& at) {
    Fields f(findings_, at);
    NetpolSpecAst out;
    out.range = at.range();
    if (auto selector = f.field("podSelector")) {
      out.pod_selector = read_selector(findings_, *selector, false);
    } else {
      out.pod_selector.range = at.range();
    }
    out.ingress = f.each("ingress", [&](const Cursor& item) { return rule(item, "from"); });
    out.egress = f.each("egress", [&](const Cursor& item) { return rule(item, "to"); });
    out.policy_types = f.text_list("policyTypes");
    f.finish(
        {{"endpointSelector", "write `podSelector`; `endpointSelector` belongs to Cilium"},
         {"policyType", "write `policyTypes: [Ingress]`"},
         {"ingressDeny", "NetworkPolicy has no deny rules; use a CiliumNetworkPolicy"},
         {"egressDeny", "NetworkPolicy has no deny rules; use a CiliumNetworkPolicy"}},
        [] {
          return "the API server drops the field; a missing `podSelector` selects every pod, "
                 "a missing direction isolates or frees the pods by `policyTypes`";
        },
        unknown_);
    return out;
  }

 private:
  NetpolRuleAst rule(const Cursor& at, std::string_view peers_key) {
    Fields f(findings_, at);
    NetpolRuleAst out;
    out.range = at.range();
    out.peers = f.each(peers_key, [&](const Cursor& item) { return peer(item); });
    out.ports = f.each("ports", [&](const Cursor& item) { return port(item); });
    const bool peers = out.peers && !out.peers->empty();
    const bool ports = out.ports && !out.ports->empty();
    std::vector<Fields::Elsewhere> words = {
        {"toPorts", "write `ports`; `toPorts` belongs to Cilium"},
        {"podSelector", "write it as an item of `from` or `to`"},
        {"namespaceSelector", "write it as an item of `from` or `to`"},
        {"ipBlock", "write it as an item of `from` or `to`"},
        {"fromEndpoints", "write `from: [{podSelector: …}]`"},
        {"toEndpoints", "write `to: [{podSelector: …}]`"},
        {"fromCIDR", "write `from: [{ipBlock: {cidr: …}}]`"},
        {"toCIDR", "write `to: [{ipBlock: {cidr: …}}]`"},
        {"toFQDNs", "NetworkPolicy knows no DNS names; use a CiliumNetworkPolicy"}};
    if (peers_key == "from") {
      words.push_back({"to", "in `ingress` the peers are `from`"});
    } else {
      words.push_back({"from", "in `egress` the peers are `to`"});
    }
    f.finish(
        words,
        [&]() -> std::string {
          if (peers && ports) return "the API server drops the field; peers and ports stay";
          if (peers) {
            return "the API server drops the field; what is left lets its peers through on "
                   "every port (fails open)";
          }
          if (ports) {
            return "the API server drops the field; what is left lets everybody through on "
                   "these ports (fails open)";
          }
          return "the API server drops the field; what is left is `{}` and lets everything "
                 "through (fails open)";
        },
        unknown_);
    return out;
  }

  NetpolPeerAst peer(const Cursor& at) {
    Fields f(findings_, at);
    NetpolPeerAst out;
    out.range = at.range();
    if (auto s = f.field("podSelector")) out.pod_selector = read_selector(findings_, *s, false);
    if (auto s = f.field("namespaceSelector")) {
      out.namespace_selector = read_selector(findings_, *s, false);
    }
    if (auto block = f.field("ipBlock")) {
      Fields b(findings_, *block);
      IpBlockAst ip;
      ip.range = block->range();
      ip.cidr = b.text("cidr").value_or(Text{"", block->range(), false});
      ip.except = b.text_list("except").value_or(std::vector<Text>{});
      b.finish({{"cidrs", "write one `ipBlock` for each prefix"}}, nullptr, unknown_);
      out.ip_block = std::move(ip);
    }
    f.finish(
        {{"matchLabels", "put it below `podSelector` or `namespaceSelector`"},
         {"endpointSelector", "write `podSelector`"},
         {"cidr", "write `ipBlock: {cidr: …}`"}},
        [&]() -> std::string {
          if (out.pod_selector || out.namespace_selector || out.ip_block) {
            return "the API server drops the field; the peer keeps its other selectors and "
                   "selects more (fails open)";
          }
          return "the API server drops the field and then refuses the empty peer";
        },
        unknown_);
    return out;
  }

  PortAst port(const Cursor& at) {
    Fields f(findings_, at);
    PortAst out;
    out.range = at.range();
    out.port = f.int_or_string("port", &out.numeric);
    out.protocol = f.text("protocol");
    if (auto end = f.field("endPort")) out.end_port_range = end->range();
    out.end_port = f.integer("endPort", INT32_MIN, INT32_MAX);
    f.finish(
        {{"proto", "write `protocol`"},
         {"name", "write the name as `port`"},
         {"targetPort", "write `port`; policies see the port of the pod"}},
        [&]() -> std::string {
          if (out.port) {
            return "the API server drops the field; without `protocol` the port is TCP";
          }
          return "the API server drops the field; without `port` every port of the protocol "
                 "is meant (fails open)";
        },
        unknown_);
    return out;
  }

  Findings& findings_;
  Fields::Unknown unknown_;
};

}  // namespace

void read_netpol(Fields& object, PolicyAst& policy, const ir::Settings& settings,
                 Findings& findings) {
  auto at = object.field("spec");
  if (at) {
    policy.netpol = NetpolReader(findings, settings.assume_admitted).spec(*at);
    return;
  }
  policy.netpol = NetpolSpecAst{};
  policy.netpol->range = policy.range;
  policy.netpol->pod_selector.range = policy.range;
  findings
      .warn(DiagCode::NetpolWithoutSpec, policy.kind_range, "",
            "without `spec` the policy selects every pod of its namespace and denies all ingress")
      .help = "write `spec`, or delete the object";
}

}  // namespace policyc::frontend
