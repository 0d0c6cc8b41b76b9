#include "cli/graph_picture.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

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
    p.pod = i;
    out.parties.push_back(std::move(p));
  }
  return out;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

// Connections by chance; what each pair may, as the port, 0 = nothing.
std::vector<std::vector<int>> connect(Graph& graph) {
  const std::size_t size = graph.parties.size();
  std::vector<std::vector<int>> said(size, std::vector<int>(size, 0));
  for (std::size_t a = 0; a < size; ++a) {
    for (std::size_t b = 0; b < size; ++b) {
      if (a == b) continue;
      said[a][b] = *rc::gen::weightedElement<int>({{5, 0}, {2, 80}, {1, 443}});
      if (said[a][b] != 0)
        graph.edges.push_back({a, b, ports(static_cast<std::uint16_t>(said[a][b]))});
    }
  }
  return said;
}

// What a group says of its members must be what the edges say of each of them.
RC_GTEST_PROP(GroupParties, SayWhatTheEdgesSay, ()) {
  const std::size_t size = *rc::gen::inRange<std::size_t>(1, 9);
  Graph graph = graph_of(size);
  const auto said = connect(graph);
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

// The rows of the page, put together again, say of each pair of parties what its edge says.
RC_GTEST_PROP(GraphPage, SaysWhatTheEdgesSay, ()) {
  const std::size_t size = *rc::gen::inRange<std::size_t>(1, 9);
  Graph graph = graph_of(size);
  const auto said = connect(graph);
  const auto data = nlohmann::json::parse(graph_page_data(graph, false));
  std::size_t pairs = 0;
  for (std::size_t i = 0; i < data["sources"].size(); ++i) {
    std::vector<std::size_t> row;
    const auto& runs = data["rows"][i];
    for (std::size_t k = 0; k < runs.size(); k += 2) {
      row.insert(row.end(), runs[k + 1].get<std::size_t>(), runs[k].get<std::size_t>());
    }
    RC_ASSERT(row.size() == data["targets"].size());
    for (std::size_t j = 0; j < row.size(); ++j) {
      const std::string words = data["says"][row[j]]["words"];
      for (const std::string from : data["groups"][data["sources"][i].get<std::size_t>()]) {
        for (const std::string into : data["groups"][data["targets"][j].get<std::size_t>()]) {
          if (from == into) continue;
          const int port = said[std::stoul(from.substr(7))][std::stoul(into.substr(7))];
          RC_ASSERT(words == (port == 0 ? "nothing" : "TCP/" + std::to_string(port)));
          ++pairs;
        }
      }
    }
  }
  RC_ASSERT(pairs == size * (size - 1));
}

// Parties that all differ: the most that a picture takes.
TEST(GraphPage, IsSmallWhateverTheConnections) {
  Graph graph = graph_of(kMostParties);
  for (std::size_t a = 0; a < kMostParties; ++a) {
    for (std::size_t b = 0; b < kMostParties; ++b) {
      const std::size_t chance = ((a * 7919 + b) * 2654435761U >> 13U) % 120;
      if (a == b || chance >= 40) continue;
      graph.edges.push_back({a, b, ports(static_cast<std::uint16_t>(1 + chance))});
    }
  }
  EXPECT_GT(group_parties(graph).size(), kMostParties - 100);
  const std::string page = graph_html(ir::World{}, graph, false);
  EXPECT_LT(page.size(), 3'000'000U);
  EXPECT_GT(page.size(), 300'000U);
}

TEST(GraphPage, NamesCannotEndTheScript) {
  Graph graph = graph_of(2);
  graph.parties[0].id = "</script><b>";
  const std::string page = graph_html(ir::World{}, graph, false);
  EXPECT_EQ(count(page, "</script>"), 1U);
  const auto data = nlohmann::json::parse(graph_page_data(graph, false));
  EXPECT_EQ(data["groups"][0][0], "</script><b>");
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
