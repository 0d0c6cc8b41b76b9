// Names of a question, resolved: who `frontend`, `sts/db`, `svc/api`, `app=web`, `world` or
// `10.0.0.0/8` stands for. One resolver for all commands.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/base/expected.h"
#include "ir/connectivity.h"
#include "ir/evaluate.h"

namespace policyc::cli {

// "app=web,tier!=db", "role in (a,b)", "tier"; keys as in endpoint selectors.
std::optional<ir::Selector> parse_selector(const std::string& text);

// One side, resolved: usually one party; several where a name stands for several that policies may
// treat differently (the pods behind a Service, the blocks of a CIDR).
struct ResolvedSide {
  std::vector<ir::Party> parties;      // one for each identity
  std::vector<std::size_t> pods;       // all pods that are meant: indices into Inventory::pods
  std::string note;                    // how the name was understood; may be empty
  std::optional<ir::Service> service;  // the name was a Service: ports are its target ports

  // The same with a party for each pod.
  ResolvedSide pod_by_pod() const;
};

// `ns` is the namespace of -n, or empty. Workloads are named as kubectl names them (`sts/db`,
// `deploy/web`), by namespace (`shop/db`, `shop/sts/db`), or bare; Pods also by the workload that
// made them. Ambiguity and unknown names are errors with the candidates.
Expected<ResolvedSide> resolve_side(const ir::World& world, const std::string& text,
                                    const std::string& ns);

// The parties of a graph that the side stands for, among `all` and, for addresses and entities that
// no party of `all` stands for, besides them. `text` is the name, for messages.
Expected<std::vector<ir::GraphParty>> parties_of_side(const ir::World& world,
                                                      const std::vector<ir::GraphParty>& all,
                                                      const ResolvedSide& side,
                                                      const std::string& text);

// Whether the party is a node, or an address or an entity that stands for nodes.
bool stands_for_node(const ir::World& world, const ir::Party& party);
// The node whose policies count for a pod on its network, under the host firewall.
std::optional<std::size_t> node_under(const ir::World& world, const ir::Party& party);
// The node that has the address.
std::optional<std::size_t> node_with(const ir::Inventory& inventory, const ir::IpAddress& ip);

// "svc/shop/api (10.96.0.9)": Services with a ClusterIP in the block. Policies judge their back
// ends, whatever they say of the block.
std::vector<std::string> services_in(const ir::Inventory& inventory, const ir::Prefix& block);

}  // namespace policyc::cli
