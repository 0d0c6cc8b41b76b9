// `graph --format svg|html`: the connections as a matrix, sources down and targets across.
#pragma once

#include <string>
#include <vector>

#include "cli/graph_output.h"

namespace policyc::cli {

// Parties that nobody treats differently, and that treat nobody differently, requests included, as
// one row and column.
struct PartyGroup {
  std::vector<std::size_t> parties;  // indices into Graph::parties, ascending; never empty
  // How the members reach one another; nullptr for none, and in groups of one.
  const GraphEdge* among = nullptr;
};
// More rows than this are no picture any more.
inline constexpr std::size_t kMostParties = 500;
// A partition of the parties, by first member. Groups of one where connections are not all known.
std::vector<PartyGroup> group_parties(const Graph& graph);

// A picture that stands alone: no script, no font or style from elsewhere. Cells carry their ports
// as a tooltip. With `edges_only`, parties without a connection are left out, as in graph_text.
std::string graph_svg(const Graph& graph, bool edges_only);
// What the page shows, as JSON that can stand in a script: {"kinds": [[kind, colour, words]],
// "groups": [[ids]], "names": […], "sources": [groups], "targets": [groups], "says": [{"kind",
// "words", "port", "requests"}], "rows": [[index into says, cells in a row that say it, …]]}, a row
// for each source with a cell for each target. Grows with what differs, not with the cells.
std::string graph_page_data(const Graph& graph, bool edges_only);
// A page that stands alone and draws itself: the picture, and the connections of the groups with
// their L7 rules in a table that can be searched.
std::string graph_html(const ir::World& world, const Graph& graph, bool edges_only);

}  // namespace policyc::cli
