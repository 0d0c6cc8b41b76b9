#include "cli/graph_picture.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
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

std::vector<std::string> member_ids(const Graph& graph, const PartyGroup& group) {
  std::vector<std::string> out;
  for (const std::size_t p : group.parties) out.push_back(graph.parties[p].id);
  return out;
}

struct Cell {
  std::string kind;   // one of kCellKinds
  std::string words;  // all of it
  std::string port;   // what fits in
  friend auto operator<=>(const Cell&, const Cell&) = default;
};

Cell describe(const Graph& graph, const PartyGroup& from, const PartyGroup& to,
              const GraphEdge* edge) {
  if (edge != nullptr) {
    const ir::Connection& c = edge->connection;
    return {c.all ? "all" : has_proxy(c) ? "proxy" : "some", ir::connection_text(c), short_text(c)};
  }
  const auto outside = [&](const PartyGroup& g) { return !graph.parties[g.parties[0]].subject(); };
  if (outside(from) && outside(to)) return {"self", "no policy judges this", ""};
  if (&from == &to && from.parties.size() == 1) return {"self", "itself", ""};
  return {"free", "nothing", ""};
}

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

namespace {

// The groups as rows and columns of a matrix.
class Picture {
 public:
  Picture(const Graph& graph, bool edges_only)
      : groups(group_parties(graph)), graph_(graph), matrix_(graph) {
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
    }
  }
  // nullptr: nothing.
  const GraphEdge* edge(std::size_t from, std::size_t into) const {
    const PartyGroup &a = groups[from], &b = groups[into];
    return from == into ? a.among : matrix_.at(a.parties[0], b.parties[0]);
  }
  Cell cell(std::size_t from, std::size_t into) const {
    return describe(graph_, groups[from], groups[into], edge(from, into));
  }

  std::vector<PartyGroup> groups;
  std::vector<std::string> names;          // of the groups
  std::vector<std::size_t> rows, columns;  // indices into groups

 private:
  const Graph& graph_;
  Matrix matrix_;
};

constexpr int kCell = 34, kMargin = 12;  // pixels
constexpr int kCharacter = 7;            // of a label's font, about
// What a cell says, its colour, and the word for it.
struct CellKind {
  const char *kind, *colour, *words;
};
constexpr CellKind kCellKinds[] = {{"all", "#f2b8a0", "everything"},
                                   {"some", "#a9cfe8", "some ports"},
                                   {"proxy", "#bfe0b4", "some requests"},
                                   {"free", "#f4f4f2", "nothing"},
                                   {"self", "#e2e2de", "no matter of policy"}};

}  // namespace

std::string graph_svg(const Graph& graph, bool edges_only) {
  const Picture picture(graph, edges_only);
  std::size_t longest = 0;
  for (const std::string& name : picture.names) longest = std::max(longest, name.size());
  const int label = static_cast<int>(longest) * kCharacter;
  // Labels of columns lean to the right, out of the last column.
  const int left = kMargin + label + kMargin, top = kMargin + label * 3 / 4 + 24;
  const int wide = static_cast<int>(picture.columns.size()) * kCell;
  const int height = top + static_cast<int>(picture.rows.size()) * kCell + kMargin + 24;

  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to,
                 "<svg class=\"policy\" xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" "
                 "height=\"{1}\" viewBox=\"0 0 {0} {1}\">\n"
                 "<style>svg.policy{{background:#fff;font:12px sans-serif}}"
                 ".policy text{{fill:#222}}.policy .port{{font-size:10px;text-anchor:middle}}",
                 std::max(left + wide + label * 3 / 4 + kMargin, 700), height);
  for (const CellKind& k : kCellKinds) {
    fmt::format_to(to, ".policy .{}{{fill:{}}}", k.kind, k.colour);
  }
  fmt::format_to(to, "</style>\n<text x=\"{}\" y=\"18\">from ↓ to →</text>\n", kMargin);
  const auto title = [&](std::size_t group) {
    return xml_escape(fmt::format("{}", fmt::join(member_ids(graph, picture.groups[group]), "\n")));
  };
  for (std::size_t i = 0; i < picture.rows.size(); ++i) {
    const std::size_t group = picture.rows[i];
    fmt::format_to(to, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}<title>{}</title></text>\n",
                   left - 6, top + static_cast<int>(i) * kCell + kCell / 2 + 4,
                   xml_escape(picture.names[group]), title(group));
  }
  for (std::size_t i = 0; i < picture.columns.size(); ++i) {
    const std::size_t group = picture.columns[i];
    fmt::format_to(to,
                   "<text transform=\"translate({} {}) rotate(-50)\">{}<title>{}</title></text>\n",
                   left + static_cast<int>(i) * kCell + kCell / 2 + 4, top - 6,
                   xml_escape(picture.names[group]), title(group));
  }
  for (std::size_t i = 0; i < picture.rows.size(); ++i) {
    for (std::size_t j = 0; j < picture.columns.size(); ++j) {
      const std::size_t from = picture.rows[i], into = picture.columns[j];
      const Cell cell = picture.cell(from, into);
      const int x = left + static_cast<int>(j) * kCell, y = top + static_cast<int>(i) * kCell;
      fmt::format_to(to,
                     "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\">"
                     "<title>{} → {}: {}</title></rect>\n",
                     cell.kind, x + 1, y + 1, kCell - 2, kCell - 2, xml_escape(picture.names[from]),
                     xml_escape(picture.names[into]), xml_escape(cell.words));
      if (cell.port.empty()) continue;
      fmt::format_to(to,
                     "<text class=\"port\" x=\"{}\" y=\"{}\" pointer-events=\"none\">{}</text>\n",
                     x + kCell / 2, y + kCell / 2 + 4, xml_escape(cell.port));
    }
  }
  int x = kMargin;
  const int y = height - 24;
  for (const CellKind& k : kCellKinds) {
    fmt::format_to(to,
                   "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"14\" height=\"14\"/>"
                   "<text x=\"{}\" y=\"{}\">{}</text>\n",
                   k.kind, x, y, x + 20, y + 12, k.words);
    x += 130;
  }
  return out + "</svg>\n";
}

std::string graph_page_data(const Graph& graph, bool edges_only) {
  using nlohmann::ordered_json;
  const Picture picture(graph, edges_only);
  ordered_json out;
  out["kinds"] = ordered_json::array();
  for (const CellKind& k : kCellKinds) out["kinds"].push_back({k.kind, k.colour, k.words});
  out["groups"] = ordered_json::array();
  for (const PartyGroup& g : picture.groups) out["groups"].push_back(member_ids(graph, g));
  out["names"] = picture.names;
  out["sources"] = picture.rows;
  out["targets"] = picture.columns;
  // Each thing that cells say once; then the cells of each row as (number, how many in a row).
  using Said = std::pair<Cell, std::vector<std::string>>;
  std::map<Said, std::size_t> numbers;
  std::vector<const Said*> said;
  ordered_json rows = ordered_json::array();
  for (const std::size_t from : picture.rows) {
    std::vector<std::size_t> runs;
    for (const std::size_t into : picture.columns) {
      const GraphEdge* edge = picture.edge(from, into);
      const auto [it, fresh] = numbers.try_emplace(
          Said{picture.cell(from, into),
               edge == nullptr ? std::vector<std::string>() : requests_of(graph, *edge)},
          said.size());
      if (fresh) said.push_back(&it->first);
      if (runs.empty() || runs[runs.size() - 2] != it->second) {
        runs.insert(runs.end(), {it->second, 1});
      } else {
        ++runs.back();
      }
    }
    rows.push_back(std::move(runs));
  }
  out["says"] = ordered_json::array();
  for (const Said* s : said) {
    out["says"].push_back({{"kind", s->first.kind},
                           {"words", s->first.words},
                           {"port", s->first.port},
                           {"requests", s->second}});
  }
  out["rows"] = std::move(rows);
  std::string text = out.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  // Nothing in it ends the script.
  std::string safe;
  for (const char c : text) safe += c == '<' ? "\\u003c" : std::string(1, c);
  return safe;
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
th, td { text-align: left; padding: 0.3em 1em 0.3em 0; vertical-align: top; }
th, td { border-bottom: 1px solid #ddd; }
input { font: inherit; padding: 0.3em; width: 24em; margin-bottom: 1em; }
code { white-space: pre-wrap; }
.wide { overflow-x: auto; }
#legend span { display: inline-block; width: 1em; height: 1em; vertical-align: middle; }
#legend span { margin: 0 0.4em 0 1.2em; }
#cell { position: sticky; top: 0; min-height: 1.4em; margin: 0; padding: 0.4em 0; }
#cell { background: #fff; }
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
  out +=
      R"html(<noscript>
<p>This page draws itself with JavaScript; <code>--format svg</code> is the picture alone.</p>
</noscript>
<p id="legend">from ↓ to →</p>
<p id="cell">Point at a cell to read it.</p>
<div class="wide"><canvas id="picture"></canvas></div>
<h2>Connections</h2>
<input id="filter" type="search" placeholder="words that a row must have" aria-label="filter">
<table>
<thead><tr><th>from</th><th>to</th><th>what</th><th>requests</th></tr></thead>
<tbody id="rows"></tbody>
</table>
<p id="more"></p>
<script>
const data = )html" +
      graph_page_data(graph, edges_only) +
      R"html(;
const byId = id => document.getElementById(id);
const members = group => data.groups[group].join(", ");
const colours = Object.fromEntries(data.kinds.map(([kind, colour]) => [kind, colour]));
for (const [, colour, words] of data.kinds) {
  const box = document.createElement("span");
  box.style.background = colour;
  byId("legend").append(box, words);
}

// Row by row, what each cell says.
const cells = data.rows.map(runs => {
  const row = [];
  for (let i = 0; i < runs.length; i += 2) {
    for (let n = 0; n < runs[i + 1]; ++n) row.push(data.says[runs[i]]);
  }
  return row;
});

const canvas = byId("picture");
const pen = canvas.getContext("2d");
const size = Math.max(cells.length, data.targets.length) > 100 ? 14 : 34;
const font = (size > 20 ? 12 : 10) + "px sans-serif";
pen.font = font;
const label = Math.max(0, ...data.names.map(name => pen.measureText(name).width));
const left = label + 12, top_ = label * 0.8 + 24;
canvas.width = left + data.targets.length * size + label * 0.7 + 24;
canvas.height = top_ + cells.length * size + 12;
pen.font = font;
pen.fillStyle = "#222";
pen.textAlign = "right";
data.sources.forEach((group, i) => {
  pen.fillText(data.names[group], left - 6, top_ + i * size + size / 2 + 4);
});
pen.textAlign = "left";
data.targets.forEach((group, j) => {
  pen.save();
  pen.translate(left + j * size + size / 2 + 4, top_ - 6);
  pen.rotate(-50 * Math.PI / 180);
  pen.fillText(data.names[group], 0, 0);
  pen.restore();
});
pen.textAlign = "center";
pen.font = "10px sans-serif";
cells.forEach((row, i) => row.forEach((says, j) => {
  const x = left + j * size, y = top_ + i * size;
  pen.fillStyle = colours[says.kind];
  pen.fillRect(x + 1, y + 1, size - 2, size - 2);
  if (says.port === "" || size < 30) return;
  pen.fillStyle = "#222";
  pen.fillText(says.port, x + size / 2, y + size / 2 + 4);
}));
canvas.addEventListener("mousemove", event => {
  const i = Math.floor((event.offsetY - top_) / size);
  const j = Math.floor((event.offsetX - left) / size);
  const says = (cells[i] || [])[j];
  byId("cell").textContent = says === undefined ? "" :
      data.names[data.sources[i]] + " → " + data.names[data.targets[j]] + ": " + says.words;
});

const connections = [];
cells.forEach((row, i) => row.forEach((says, j) => {
  if (says.kind === "free" || says.kind === "self") return;
  const from = data.sources[i], into = data.targets[j];
  connections.push([members(from), from === into ? "each other" : members(into), says.words,
                    says.requests.join("\n")]);
}));
const most = 1000;
const show = () => {
  const words = byId("filter").value.toLowerCase().split(/\s+/);
  const wanted = connections.filter(texts => {
    const text = texts.join("\n").toLowerCase();
    return words.every(word => text.includes(word));
  });
  byId("rows").replaceChildren(...wanted.slice(0, most).map(texts => {
    const row = document.createElement("tr");
    texts.forEach((text, column) => {
      const place = column === 3 ? document.createElement("code") : row.insertCell();
      if (column === 3) row.insertCell().append(place);
      place.textContent = text;
    });
    return row;
  }));
  const hidden = wanted.length - most;
  byId("more").textContent =
      hidden > 0 ? "and " + hidden + " more: words above choose among them" : "";
};
byId("filter").addEventListener("input", show);
show();
</script>
</body>
</html>
)html";
  return out;
}

}  // namespace policyc::cli
