// What the proxy has to enforce, as Cilium's agent tells it: cilium.NetworkPolicy (npds.proto) in
// protobuf JSON. Port ranges are disjoint and only what the BPF programs redirect is listed, so
// each request is judged by one entry's rules.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::bpf {

struct ProxyPolicy {
  std::string network_policy;  // cilium.NetworkPolicy; empty where nothing but DNS is redirected
  // DNS is the agent's own proxy, which has no message: {"endpointIps":[…],
  // "egress":[{"port","endPort",
  // "protocol","rules":[{"remotePolicies":[…],"patterns":["*.example.com"]}]}]}, a query passes if
  // a pattern of a rule for its server matches. Without `remotePolicies` every server is meant,
  // without `patterns` every name. Empty where no DNS is redirected.
  std::string dns;
};

// For one pod of the endpoint. `numbers`: numeric identity per identity index; `identities`: those
// that the node knows. `endpoint_number` 0 = not known.
ProxyPolicy proxy_policy(const ir::ResolvedEndpoint& endpoint,
                         const std::vector<ir::IpAddress>& addresses, std::uint64_t endpoint_number,
                         const std::vector<std::uint32_t>& numbers,
                         const std::vector<ir::IdentityIndex>& identities);

}  // namespace policyc::bpf
