// NetworkPolicy: what Cilium's agent refuses, and what the API server refuses on top of it.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "frontend/lower_parts.h"
#include "frontend/read_parts.h"
#include "ir/base/diag_code.h"
#include "ir/ip.h"

namespace policyc::frontend {
namespace {

class NetpolChecks {
 public:
  NetpolChecks(const ir::Settings& settings, Findings& findings)
      : settings_(settings), findings_(findings) {}

  void spec(const NetpolSpecAst& spec) {
    validate_selector(spec.pod_selector, "k8s.", "spec.podSelector", findings_);
    rules(spec.ingress, "spec.ingress", "from");
    rules(spec.egress, "spec.egress", "to");
    for (const Text& type : spec.policy_types.value_or(std::vector<Text>{})) {
      if (type.unknown || type.text == "Ingress" || type.text == "Egress") continue;
      admission(DiagCode::NetpolPolicyType, type.range, "spec.policyTypes",
                fmt::format("`{}` is no policy type", type.text), "write `Ingress` or `Egress`");
    }
  }

 private:
  // A rule of the API server that the agent does not know. With `assume_admitted` the object is
  // taken as it stands.
  void admission(DiagCode code, SourceRange range, const std::string& rule, std::string message,
                 std::string help) {
    if (settings_.assume_admitted) {
      Diagnostic& d = findings_.warn(code, range, rule, std::move(message));
      d.severity = Severity::Warning;
      d.help = std::move(help);
      return;
    }
    findings_.refuse(Layer::ApiServer, code, range, rule, std::move(message)).help =
        std::move(help);
  }

  void rules(const OptList<NetpolRuleAst>& list, const std::string& path, const char* peers_key) {
    if (!list) return;
    for (std::size_t i = 0; i < list->size(); ++i) {
      const NetpolRuleAst& rule = (*list)[i];
      const std::string at = fmt::format("{}[{}]", path, i);
      if (rule.peers) {
        for (std::size_t k = 0; k < rule.peers->size(); ++k) {
          peer((*rule.peers)[k], fmt::format("{}.{}[{}]", at, peers_key, k), peers_key);
        }
      }
      if (!rule.ports) continue;
      for (std::size_t k = 0; k < rule.ports->size(); ++k) {
        port((*rule.ports)[k], fmt::format("{}.ports[{}]", at, k));
      }
    }
  }

  void peer(const NetpolPeerAst& peer, const std::string& path, const std::string& peers_key) {
    if (peer.pod_selector) {
      validate_selector(*peer.pod_selector, "k8s.", path + ".podSelector", findings_);
    }
    if (peer.namespace_selector) {
      validate_selector(*peer.namespace_selector, "k8s.io.cilium.k8s.namespace.labels.",
                        path + ".namespaceSelector", findings_);
    }
    if (!peer.ip_block) {
      if (!peer.pod_selector && !peer.namespace_selector) {
        admission(
            DiagCode::NetpolEmptyPeer, peer.range, path, "the peer selects nothing",
            fmt::format("write `podSelector: {{}}`, or leave `{}` out for everybody", peers_key));
      }
      return;
    }
    const IpBlockAst& block = *peer.ip_block;
    const std::string at = path + ".ipBlock";
    if (peer.pod_selector || peer.namespace_selector) {
      findings_
          .refuse_agent(DiagCode::CombinedPeers, block.range, path,
                        "`ipBlock` and a selector cannot stand in one peer")
          .help = "write two peers; either one is let through";
    }
    if (findings_.schema_refused(block.range)) return;
    validate_except(block.cidr, block.except, false, at, findings_);
    const auto outer = ir::parse_prefix(block.cidr.text);
    for (const Text& hole : block.except) {
      const auto inner = ir::parse_prefix(hole.text);
      // What lies outside altogether is the agent's finding.
      if (hole.unknown || !outer || !inner || inner->length > outer->length) continue;
      const auto address = ir::parse_ip(std::string_view(hole.text).substr(0, hole.text.find('/')));
      if (!address || !outer->contains(*address)) continue;
      admission(DiagCode::NetpolExcept, hole.range, at,
                fmt::format("`except` {} is not narrower than {}", hole.text, block.cidr.text),
                "write a longer prefix, or leave the peer out");
    }
  }

  void port(const PortAst& port, const std::string& path) {
    if (findings_.schema_refused(port.range)) return;
    validate_port(port, path, findings_);
    if (port.protocol && !port.protocol->unknown) {
      static constexpr std::array<std::string_view, 3> kProtocols = {"TCP", "UDP", "SCTP"};
      const std::string& text = port.protocol->text;
      std::string upper = text;
      for (char& c : upper) {
        if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
      }
      const bool agent_takes =
          upper == "ANY" || upper.empty() ||
          std::find(kProtocols.begin(), kProtocols.end(), upper) != kProtocols.end();
      if (agent_takes && !text.empty() &&
          std::find(kProtocols.begin(), kProtocols.end(), text) == kProtocols.end()) {
        admission(DiagCode::NetpolProtocol, port.protocol->range, path,
                  fmt::format("`{}` is no protocol of NetworkPolicy", text),
                  "write `TCP`, `UDP` or `SCTP`, in capitals");
      }
    }
    number(port, path);
  }

  void number(const PortAst& port, const std::string& path) {
    const bool known = port.port && !port.port->unknown;
    if (known && port.numeric && port.port->text == "0") {
      admission(DiagCode::NetpolPort, port.port->range, path, "port 0 is none",
                "write a port from 1 to 65535, or leave `port` out for all of them");
    }
    if (known && !port.numeric && !is_port_name(port.port->text) &&
        parse_port_number(port.port->text)) {
      admission(
          DiagCode::NetpolPort, port.port->range, path,
          fmt::format("`{}` in quotes is a port name, and names need a letter", port.port->text),
          fmt::format("write `port: {}` without quotes", port.port->text));
    }
    if (!port.end_port) return;
    const SourceRange where = port.end_port_range;
    if (!port.port) {
      admission(DiagCode::NetpolPort, where, path, "`endPort` needs `port`",
                "write the first port of the range");
    } else if (known && !port.numeric) {
      admission(DiagCode::NetpolPort, where, path, "`endPort` needs a `port` that is a number",
                "write the number of the first port");
    } else if (*port.end_port < 1 || *port.end_port > 65535) {
      admission(DiagCode::NetpolPort, where, path,
                fmt::format("`endPort` {} is outside 1 to 65535", *port.end_port),
                "write a port from 1 to 65535");
    } else if (known && parse_port_number(port.port->text).value_or(0) >
                            static_cast<std::uint32_t>(*port.end_port)) {
      admission(DiagCode::NetpolPort, where, path,
                fmt::format("`endPort` {} is below `port` {}", *port.end_port, port.port->text),
                "swap the two");
    }
  }

  const ir::Settings& settings_;
  Findings& findings_;
};

}  // namespace

void validate_netpol(const PolicyAst& policy, const ir::Settings& settings, Findings& findings) {
  if (policy.netpol) NetpolChecks(settings, findings).spec(*policy.netpol);
}

}  // namespace policyc::frontend
