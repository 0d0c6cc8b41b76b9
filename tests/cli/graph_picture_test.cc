#include "cli/graph_picture.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

namespace policyc::cli {
namespace {

ir::Connection ports(std::uint16_t port) {
  ir::Connection out;
  out.spans.push_back({ir::kProtoTcp, port, port, ""});
  return out;
}

Graph graph_of(std::size_t parties) {
  Graph out;
  for (std::size_t i = 0; i < parties; ++i) {
    ir::GraphParty p;
    p.id = "n/Pod/p" + std::to_string(i);
    p.kind = "workload";
    out.parties.push_back(std::move(p));
  }
  return out;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

// What a group says of its members must be what the edges say of each of them.
RC_GTEST_PROP(GroupParties, SayWhatTheEdgesSay, ()) {
  const std::size_t size = *rc::gen::inRange<std::size_t>(1, 9);
  Graph graph = graph_of(size);
  std::vector<std::vector<int>> said(size, std::vector<int>(size, 0));
  for (std::size_t a = 0; a < size; ++a) {
    for (std::size_t b = 0; b < size; ++b) {
      if (a == b) continue;
      said[a][b] = *rc::gen::weightedElement<int>({{5, 0}, {2, 80}, {1, 443}});
      if (said[a][b] != 0)
        graph.edges.push_back({a, b, ports(static_cast<std::uint16_t>(said[a][b]))});
    }
  }
  const std::vector<PartyGroup> groups = group_parties(graph);
  std::vector<std::size_t> group_of(size, SIZE_MAX);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (const std::size_t p : groups[g].parties) {
      RC_ASSERT(group_of[p] == SIZE_MAX);
      group_of[p] = g;
    }
  }
  RC_ASSERT(std::count(group_of.begin(), group_of.end(), SIZE_MAX) == 0);
  for (std::size_t a = 0; a < size; ++a) {
    for (std::size_t b = 0; b < size; ++b) {
      if (a == b) continue;
      const PartyGroup &ga = groups[group_of[a]], &gb = groups[group_of[b]];
      if (&ga == &gb) {
        RC_ASSERT((ga.among == nullptr ? 0 : ga.among->connection.spans[0].from) == said[a][b]);
      } else {
        RC_ASSERT(said[ga.parties[0]][gb.parties[0]] == said[a][b]);
      }
    }
  }
  RC_TAG(groups.size() < size ? "some are grouped" : "none are grouped");
}

TEST(GroupParties, LeaveApartWhatCannotBeTold) {
  Graph graph = graph_of(2);
  EXPECT_EQ(group_parties(graph).size(), 1U);
  graph.parties[1].unknown = "a placeholder";
  EXPECT_EQ(group_parties(graph).size(), 2U);
}

TEST(GraphSvg, DrawsACellForEachPair) {
  Graph graph = graph_of(3);
  graph.parties[2].id = "<&\">";
  graph.edges.push_back({0, 1, ports(8080)});
  const std::string svg = graph_svg(graph, false);
  EXPECT_EQ(count(svg, "<rect"), 9U + 5U);  // and the legend
  EXPECT_EQ(count(svg, ">8080</text>"), 1U);
  EXPECT_NE(svg.find("n/Pod/p0 → n/Pod/p1: TCP/8080"), std::string::npos);
  EXPECT_EQ(svg.find("<&"), std::string::npos);
  EXPECT_NE(svg.find("&lt;&amp;&quot;&gt;"), std::string::npos);
  // Only who is in it.
  EXPECT_EQ(count(graph_svg(graph, true), "<rect"), 1U + 5U);
}

}  // namespace
}  // namespace policyc::cli
