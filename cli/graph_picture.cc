#include "cli/graph_picture.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "cli/render.h"

namespace policyc::cli {
namespace {

// What the proxies ask of requests on an edge, both directions and all ports together.
std::vector<std::string> requests_of(const Graph& graph, const GraphEdge& edge) {
  std::set<std::string> out;
  for (const ir::PortSpan& s : edge.connection.spans) {
    if (s.parser.empty()) continue;
    for (std::string& rule : span_rules(graph, edge, s)) out.insert(std::move(rule));
  }
  return {out.begin(), out.end()};
}

// The edges by source and target, and which of them say the same.
class Matrix {
 public:
  explicit Matrix(const Graph& graph) : size_(graph.parties.size()), cells_(size_ * size_) {
    std::map<std::pair<ir::Connection, std::vector<std::string>>, std::uint32_t> numbers;
    for (const GraphEdge& e : graph.edges) {
      const auto [it, fresh] = numbers.try_emplace({e.connection, requests_of(graph, e)},
                                                   static_cast<std::uint32_t>(numbers.size() + 1));
      cells_[e.src * size_ + e.dst] = {&e, it->second};
    }
  }
  // nullptr: nothing.
  const GraphEdge* at(std::size_t src, std::size_t dst) const {
    return cells_[src * size_ + dst].edge;
  }
  bool twins(std::size_t a, std::size_t b) const {
    if (says(a, b) != says(b, a)) return false;
    for (std::size_t c = 0; c < size_; ++c) {
      if (c != a && c != b && (says(a, c) != says(b, c) || says(c, a) != says(c, b))) return false;
    }
    return true;
  }

 private:
  std::uint32_t says(std::size_t src, std::size_t dst) const {
    return cells_[src * size_ + dst].says;
  }

  std::size_t size_;
  struct Entry {
    const GraphEdge* edge = nullptr;
    std::uint32_t says = 0;  // 0: nothing
  };
  std::vector<Entry> cells_;
};

bool has_proxy(const ir::Connection& c) {
  return std::any_of(c.spans.begin(), c.spans.end(),
                     [](const ir::PortSpan& s) { return !s.parser.empty(); });
}

// What fits into a cell: the port where there is one.
std::string short_text(const ir::Connection& c) {
  if (c.all) return "";
  if (c.spans.size() > 1) return fmt::format("{}…", c.spans.size());
  const ir::PortSpan& s = c.spans[0];
  if (s.from == s.to) return std::to_string(s.from);
  return s.from == 0 && s.to == 65535 ? ir::protocol_name(s.protocol) : "…";
}

std::string group_name(const Graph& graph, const PartyGroup& group) {
  const std::string& first = graph.parties[group.parties[0]].id;
  return group.parties.size() == 1 ? first : fmt::format("{} +{}", first, group.parties.size() - 1);
}

std::string members(const Graph& graph, const PartyGroup& group, const char* between) {
  std::vector<std::string> ids;
  for (const std::size_t p : group.parties) ids.push_back(graph.parties[p].id);
  return fmt::format("{}", fmt::join(ids, between));
}

struct Cell {
  const char* kind;   // its class in kStyle
  std::string words;  // all of it
  std::string port;   // what fits in
};

Cell describe(const Graph& graph, const PartyGroup& from, const PartyGroup& to,
              const GraphEdge* edge) {
  if (edge != nullptr) {
    const ir::Connection& c = edge->connection;
    return {c.all ? "all" : has_proxy(c) ? "proxy" : "some", ir::connection_text(c), short_text(c)};
  }
  const auto outside = [&](const PartyGroup& g) {
    return graph.parties[g.parties[0]].kind != "workload";
  };
  if (outside(from) && outside(to)) return {"self", "no policy judges this", ""};
  if (&from == &to && from.parties.size() == 1) return {"self", "itself", ""};
  return {"free", "nothing", ""};
}

constexpr int kCell = 34, kMargin = 12;  // pixels
constexpr int kCharacter = 7;            // of a label's font, about
constexpr const char* kStyle =
    "svg.policy{background:#fff;font:12px sans-serif}"
    ".policy text{fill:#222}.policy .port{font-size:10px;text-anchor:middle}"
    ".policy .free{fill:#f4f4f2}.policy .self{fill:#e2e2de}"
    ".policy .all{fill:#f2b8a0}.policy .some{fill:#a9cfe8}.policy .proxy{fill:#bfe0b4}";

}  // namespace

std::vector<PartyGroup> group_parties(const Graph& graph) {
  const Matrix matrix(graph);
  std::vector<PartyGroup> out;
  for (std::size_t p = 0; p < graph.parties.size(); ++p) {
    const ir::GraphParty& party = graph.parties[p];
    const auto joins = [&](const PartyGroup& g) {
      const ir::GraphParty& first = graph.parties[g.parties[0]];
      return party.kind == first.kind && party.unknown.empty() && first.unknown.empty() &&
             matrix.twins(g.parties[0], p);
    };
    const auto group = std::find_if(out.begin(), out.end(), joins);
    if (group == out.end()) {
      out.push_back({{p}});
    } else {
      group->parties.push_back(p);
      group->among = matrix.at(group->parties[0], p);
    }
  }
  return out;
}

std::string graph_svg(const Graph& graph, bool edges_only) {
  const std::vector<PartyGroup> groups = group_parties(graph);
  const Matrix matrix(graph);
  std::vector<std::string> names;
  std::size_t longest = 0;
  std::vector<std::size_t> rows, columns;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    names.push_back(group_name(graph, groups[i]));
    const std::size_t first = groups[i].parties[0];
    const auto touches = [&](std::size_t GraphEdge::*end) {
      return std::any_of(graph.edges.begin(), graph.edges.end(),
                         [&](const GraphEdge& e) { return e.*end == first; });
    };
    // Of a part of the graph, only who is in it.
    if (!edges_only || touches(&GraphEdge::src)) rows.push_back(i);
    if (!edges_only || touches(&GraphEdge::dst)) columns.push_back(i);
    longest = std::max(longest, names.back().size());
  }
  const int label = static_cast<int>(longest) * kCharacter;
  // Labels of columns lean to the right, out of the last column.
  const int left = kMargin + label + kMargin, top = kMargin + label * 3 / 4 + 24;
  const int wide = static_cast<int>(columns.size()) * kCell;
  const int height = top + static_cast<int>(rows.size()) * kCell + kMargin + 24;

  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to,
                 "<svg class=\"policy\" xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" "
                 "height=\"{1}\" viewBox=\"0 0 {0} {1}\">\n<style>{2}</style>\n",
                 std::max(left + wide + label * 3 / 4 + kMargin, 700), height, kStyle);
  fmt::format_to(to, "<text x=\"{}\" y=\"18\">from ↓ to →</text>\n", kMargin);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    fmt::format_to(to, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}<title>{}</title></text>\n",
                   left - 6, top + static_cast<int>(i) * kCell + kCell / 2 + 4,
                   xml_escape(names[rows[i]]), xml_escape(members(graph, groups[rows[i]], "\n")));
  }
  for (std::size_t i = 0; i < columns.size(); ++i) {
    fmt::format_to(
        to, "<text transform=\"translate({} {}) rotate(-50)\">{}<title>{}</title></text>\n",
        left + static_cast<int>(i) * kCell + kCell / 2 + 4, top - 6, xml_escape(names[columns[i]]),
        xml_escape(members(graph, groups[columns[i]], "\n")));
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < columns.size(); ++j) {
      const PartyGroup &a = groups[rows[i]], &b = groups[columns[j]];
      const GraphEdge* edge = &a == &b ? a.among : matrix.at(a.parties[0], b.parties[0]);
      const Cell cell = describe(graph, a, b, edge);
      const int x = left + static_cast<int>(j) * kCell, y = top + static_cast<int>(i) * kCell;
      fmt::format_to(to,
                     "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\">"
                     "<title>{} → {}: {}</title></rect>\n",
                     cell.kind, x + 1, y + 1, kCell - 2, kCell - 2, xml_escape(names[rows[i]]),
                     xml_escape(names[columns[j]]), xml_escape(cell.words));
      if (cell.port.empty()) continue;
      fmt::format_to(to,
                     "<text class=\"port\" x=\"{}\" y=\"{}\" pointer-events=\"none\">{}</text>\n",
                     x + kCell / 2, y + kCell / 2 + 4, xml_escape(cell.port));
    }
  }
  int x = kMargin;
  const int y = height - 24;
  for (const auto& [kind, words] : {std::pair("all", "everything"),
                                    {"some", "some ports"},
                                    {"proxy", "some requests"},
                                    {"free", "nothing"},
                                    {"self", "no matter of policy"}}) {
    fmt::format_to(to,
                   "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"14\" height=\"14\"/>"
                   "<text x=\"{}\" y=\"{}\">{}</text>\n",
                   kind, x, y, x + 20, y + 12, words);
    x += 130;
  }
  return out + "</svg>\n";
}

std::string graph_html(const ir::World& world, const Graph& graph, bool edges_only) {
  std::string out;
  auto to = std::back_inserter(out);
  out += R"html(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Who may talk to whom</title>
<style>
body { font: 14px sans-serif; margin: 2em; color: #222; background: #fff; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: 0.3em 1em 0.3em 0; border-bottom: 1px solid #ddd; vertical-align: top; }
input { font: inherit; padding: 0.3em; width: 24em; margin-bottom: 1em; }
code { white-space: pre-wrap; }
.wide { overflow-x: auto; }
</style>
</head>
<body>
<h1>Who may talk to whom</h1>
)html";
  if (graph.only) {
    fmt::format_to(to, "<p>Judged by {} only; the other half may still refuse.</p>\n",
                   *graph.only == ir::Direction::Egress ? "the egress of each source"
                                                        : "the ingress of each target");
  }
  if (const std::string note = plugin_note(world); !note.empty()) {
    fmt::format_to(to, "<p>{}</p>\n", xml_escape(note));
  }
  for (const std::string& unknown : graph.unknown) {
    fmt::format_to(to, "<p>Left out, its policy cannot be told: {}</p>\n", xml_escape(unknown));
  }
  out += "<div class=\"wide\">\n" + graph_svg(graph, edges_only) + "</div>\n";
  out += R"html(<h2>Connections</h2>
<input id="filter" type="search" placeholder="words that a row must have" aria-label="filter">
<table>
<thead><tr><th>from</th><th>to</th><th>what</th><th>requests</th></tr></thead>
<tbody id="rows">
)html";
  const std::vector<PartyGroup> groups = group_parties(graph);
  const Matrix matrix(graph);
  for (const PartyGroup& from : groups) {
    for (const PartyGroup& into : groups) {
      const bool same = &from == &into;
      const GraphEdge* edge = same ? from.among : matrix.at(from.parties[0], into.parties[0]);
      if (edge == nullptr) continue;
      fmt::format_to(to, "<tr><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>\n",
                     xml_escape(members(graph, from, ", ")),
                     same ? "each other" : xml_escape(members(graph, into, ", ")),
                     xml_escape(ir::connection_text(edge->connection)),
                     xml_escape(fmt::format("{}", fmt::join(requests_of(graph, *edge), "\n"))));
    }
  }
  out += R"html(</tbody>
</table>
<script>
const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/);
  for (const row of document.getElementById("rows").rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
});
</script>
</body>
</html>
)html";
  return out;
}

}  // namespace policyc::cli
