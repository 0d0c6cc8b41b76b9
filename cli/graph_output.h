// `graph`: who may talk to whom, in all its formats.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/names.h"
#include "ir/connectivity.h"
#include "verifier/exposure.h"

namespace policyc::cli {

struct GraphEdge {
  std::size_t src = 0;  // indices into Graph::parties
  std::size_t dst = 0;
  ir::Connection connection;
};

struct Graph {
  std::vector<ir::GraphParty> parties;
  std::vector<GraphEdge> edges;       // something is allowed end to end
  std::vector<std::string> unknown;   // endpoints whose policy cannot be told, and why
  std::optional<ir::Direction> only;  // the half that was judged; nullopt = both
  // For more about an edge; valid as long as the resolved tables are.
  std::shared_ptr<const ir::Connectivity> connectivity;
  std::vector<ir::Connectivity::Place> places;  // by party
};

struct GraphFilter {
  using Ids = std::optional<std::set<std::string>>;  // of parties; nullopt = all
  Ids from, to, focus;
  std::optional<ir::Direction> direction;  // judge only this half
  bool any() const { return from || to || focus; }
  static bool takes(const Ids& ids, const std::string& id) { return !ids || ids->count(id) != 0; }
};

// The ids of the parties that a name stands for: an id itself, or a name as in questions. `ns` is
// the namespace of -n, or empty.
Expected<std::set<std::string>> party_ids(const ir::World& world,
                                          const std::vector<ir::GraphParty>& parties,
                                          const std::string& name, const std::string& ns);

// Edges between outside parties are left out: no policy judges them.
Graph build_graph(const ir::World& world, const ir::Resolved& resolved, const GraphFilter& filter);
// Only the edges from `sources` to `targets`; parties are those two lists.
Graph build_graph(const ir::World& world, const ir::Resolved& resolved,
                  std::vector<ir::GraphParty> sources, std::vector<ir::GraphParty> targets);

// The proxy's rules on one span of an edge, both directions together.
std::vector<std::string> span_rules(const Graph& graph, const GraphEdge& edge,
                                    const ir::PortSpan& span);

// What a list of connections leaves to the plugin under --semantics kubernetes; empty under
// Cilium's.
std::string plugin_note(const ir::World& world);

std::string graph_json(const Graph& graph);
std::string graph_csv(const Graph& graph);
std::string graph_dot(const Graph& graph);
std::string graph_mermaid(const Graph& graph);
// One block a target: who reaches it, by what, sources grouped by connection.
// With `edges_only`, parties that nobody reaches are left out (a filtered graph does not know).
std::string graph_text(const Graph& graph, bool edges_only);

// `--exposure`: one block a workload; sources as its policies name them, grouped by ports.
std::string exposure_text(const std::vector<Exposure>& list);
// {"version":1,"workloads":[{"id","isolated","allowed":[{"ports":[…],"all","from":[…]}],"denied"}]}
std::string exposure_json(const std::vector<Exposure>& list);

}  // namespace policyc::cli
