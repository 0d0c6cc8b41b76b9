// `graph`: who may talk to whom, in the formats of interfaces.md §5.
#pragma once

#include <string>
#include <vector>

#include "ir/connectivity.h"

namespace policyc::cli {

struct GraphEdge {
  std::size_t src = 0;  // indices into Graph::parties
  std::size_t dst = 0;
  ir::Connection connection;
};

struct Graph {
  std::vector<ir::GraphParty> parties;
  std::vector<GraphEdge> edges;      // something is allowed end to end
  std::vector<std::string> unknown;  // endpoints whose policy cannot be told, and why
};

struct GraphFilter {
  std::string from, to, focus;  // party ids or names; empty = all
};

// Edges between outside parties are left out: no policy judges them.
Graph build_graph(const ir::World& world, const ir::Resolved& resolved, const GraphFilter& filter);

std::string graph_json(const ir::World& world, const Graph& graph);
std::string graph_csv(const ir::World& world, const Graph& graph);
std::string graph_dot(const Graph& graph);
// One block a target: who reaches it, by what, sources grouped by connection.
std::string graph_text(const Graph& graph);

}  // namespace policyc::cli
