#include "cli/graph_output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "ir/identity.h"

namespace policyc::cli {
namespace {

// Looks the parties up.
void place(const ir::World& world, const ir::Resolved& resolved, Graph& graph) {
  graph.connectivity = std::make_shared<ir::Connectivity>(world.settings, resolved);
  for (const ir::GraphParty& p : graph.parties) {
    graph.places.push_back(graph.connectivity->place(p));
    if (!p.unknown.empty()) graph.unknown.push_back(p.id + ": " + p.unknown);
  }
}

// Whether what the two may do cannot be told.
bool is_open(Graph& graph, std::size_t a, std::size_t b) {
  const ir::GraphParty& src = graph.parties[a];
  const ir::GraphParty& dst = graph.parties[b];
  if (!src.unknown.empty() || !dst.unknown.empty()) return true;
  const std::string why = ir::Connectivity::open_question(graph.places[a], graph.places[b]);
  if (why.empty()) return false;
  graph.unknown.push_back(fmt::format("{} and {}: {}", src.id, dst.id, why));
  return true;
}

// A name inside double quotes, as DOT and CSV want it.
std::string quoted(const std::string& text, const char* escaped_quote) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') {
      out += escaped_quote;
    } else if (c == '\\' && escaped_quote[0] == '\\') {
      out += "\\\\";
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string csv_field(const std::string& text) {
  return text.find_first_of("\",\n") == std::string::npos ? text : quoted(text, "\"\"");
}

}  // namespace

std::vector<std::string> span_rules(const Graph& graph, const GraphEdge& edge,
                                    const ir::PortSpan& span) {
  const ir::Connectivity::Proxies proxies = graph.connectivity->proxies(
      graph.places[edge.src], graph.places[edge.dst], ir::l4_key(span.protocol, span.from));
  std::vector<std::string> out;
  const auto add = [&](const ir::ProxyFilter* filter, ir::Direction direction) {
    if (filter == nullptr || (graph.only && graph.only != direction)) return;
    std::vector<std::string> rules = filter->rules();
    out.insert(out.end(), std::make_move_iterator(rules.begin()),
               std::make_move_iterator(rules.end()));
  };
  add(proxies.egress, ir::Direction::Egress);
  add(proxies.ingress, ir::Direction::Ingress);
  return out;
}

Expected<std::set<std::string>> party_ids(const ir::World& world,
                                          const std::vector<ir::GraphParty>& parties,
                                          const std::string& name, const std::string& ns) {
  const auto known = [&](const std::string& id) {
    return std::any_of(parties.begin(), parties.end(),
                       [&](const ir::GraphParty& p) { return p.id == id; });
  };
  if (known(name)) return std::set<std::string>{name};
  const auto side = resolve_side(world, name, ns);
  if (!side) return side.failure();
  const auto meant = parties_of_side(world, parties, side->pod_by_pod(), name);
  if (!meant) return meant.failure();
  std::set<std::string> out;
  for (const ir::GraphParty& p : *meant) {
    if (known(p.id)) {
      out.insert(p.id);
      continue;
    }
    // An address is one of the block that stands for it.
    const ir::GraphParty* block = nullptr;
    for (const ir::GraphParty& b : parties) {
      const auto prefix = ir::parse_prefix(b.id);
      const bool outer = p.kind == "cidr" && prefix && prefix->contains(p.address) &&
                         std::none_of(b.except.begin(), b.except.end(),
                                      [&](const auto& inner) { return inner.contains(p.address); });
      if (outer) block = &b;
    }
    if (block == nullptr) {
      return Error{fmt::format(
          "`{}` is no party of this graph; without --from, --to and --focus all are listed", name)};
    }
    out.insert(block->id);
  }
  return out;
}

Graph build_graph(const ir::World& world, const ir::Resolved& resolved,
                  std::vector<ir::GraphParty> sources, std::vector<ir::GraphParty> targets) {
  Graph out;
  const std::size_t first_target = sources.size();
  out.parties = std::move(sources);
  out.parties.insert(out.parties.end(), std::make_move_iterator(targets.begin()),
                     std::make_move_iterator(targets.end()));
  place(world, resolved, out);
  for (std::size_t a = 0; a < first_target; ++a) {
    for (std::size_t b = first_target; b < out.parties.size(); ++b) {
      const ir::GraphParty& src = out.parties[a];
      const ir::GraphParty& dst = out.parties[b];
      if (src.id == dst.id || is_open(out, a, b)) continue;
      GraphEdge edge{a, b, out.connectivity->between(out.places[a], out.places[b])};
      if (!edge.connection.none()) out.edges.push_back(std::move(edge));
    }
  }
  return out;
}

Graph build_graph(const ir::World& world, const ir::Resolved& resolved, const GraphFilter& filter) {
  Graph out;
  out.parties = ir::graph_parties(world, resolved);
  out.only = filter.direction;
  place(world, resolved, out);
  for (std::size_t a = 0; a < out.parties.size(); ++a) {
    for (std::size_t b = 0; b < out.parties.size(); ++b) {
      const ir::GraphParty& src = out.parties[a];
      const ir::GraphParty& dst = out.parties[b];
      if (a == b || (!src.subject() && !dst.subject())) continue;
      // Half a connection is judged by the policies of one side.
      if (out.only == ir::Direction::Egress && !src.subject()) continue;
      if (out.only == ir::Direction::Ingress && !dst.subject()) continue;
      if (!GraphFilter::takes(filter.from, src.id) || !GraphFilter::takes(filter.to, dst.id)) {
        continue;
      }
      if (!GraphFilter::takes(filter.focus, src.id) && !GraphFilter::takes(filter.focus, dst.id)) {
        continue;
      }
      if (is_open(out, a, b)) continue;
      GraphEdge edge{a, b, out.connectivity->between(out.places[a], out.places[b], out.only)};
      if (!edge.connection.none()) out.edges.push_back(std::move(edge));
    }
  }
  return out;
}

std::string plugin_note(const ir::World& world) {
  if (!world.settings.kubernetes_semantics) return "";
  std::string out =
      "by the Kubernetes API: TCP, UDP and SCTP only; it leaves nodes and other protocols to the "
      "network plugin";
  const auto covers_pod = [&](const ir::Requirement& r) {
    return r.cidr &&
           std::any_of(
               world.inventory.pods.begin(), world.inventory.pods.end(), [&](const ir::Pod& pod) {
                 return !pod.synthetic_ip &&
                        std::any_of(pod.ips.begin(), pod.ips.end(),
                                    [&](const ir::IpAddress& ip) { return r.cidr->contains(ip); });
               });
  };
  for (const ir::Rule& rule : world.policies.rules) {
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::Peer& peer : item.peers) {
        const auto& list = peer.selector.requirements;
        if (std::any_of(list.begin(), list.end(), covers_pod)) {
          return out + ", and whether an ipBlock covers pods, taken here as no";
        }
      }
    }
  }
  return out;
}

std::string graph_json(const Graph& graph) {
  using nlohmann::ordered_json;
  ordered_json out;
  out["version"] = 1;
  out["nodes"] = ordered_json::array();
  for (const ir::GraphParty& p : graph.parties) {
    ordered_json labels = ordered_json::object();
    for (const ir::Label& l : p.labels.labels()) {
      labels[l.source == "k8s" ? l.key : l.source + ":" + l.key] = l.value;
    }
    ordered_json node = {{"id", p.id}, {"kind", p.kind}, {"labels", std::move(labels)}};
    for (const ir::Prefix& inner : p.except) node["except"].push_back(inner.str());
    if (!p.unknown.empty()) node["unknown"] = p.unknown;
    out["nodes"].push_back(std::move(node));
  }
  out["edges"] = ordered_json::array();
  for (const GraphEdge& e : graph.edges) {
    ordered_json ports = ordered_json::array();
    ordered_json l7 = ordered_json::array();
    for (const ir::PortSpan& s : e.connection.spans) {
      ordered_json port = {
          {"proto", ir::protocol_name(s.protocol)}, {"from", s.from}, {"to", s.to}};
      ports.push_back(port);
      if (s.parser.empty()) continue;
      port["parser"] = s.parser;
      port["rules"] = span_rules(graph, e, s);
      l7.push_back(std::move(port));
    }
    out["edges"].push_back({{"src", graph.parties[e.src].id},
                            {"dst", graph.parties[e.dst].id},
                            {"ports", std::move(ports)},
                            {"all", e.connection.all},
                            {"l7", std::move(l7)}});
  }
  return out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string graph_csv(const Graph& graph) {
  std::string out = "src,dst,proto,from,to,l7\n";
  auto to = std::back_inserter(out);
  for (const GraphEdge& e : graph.edges) {
    const std::string ends =
        csv_field(graph.parties[e.src].id) + "," + csv_field(graph.parties[e.dst].id);
    if (e.connection.all) {
      fmt::format_to(to, "{},ANY,0,65535,\n", ends);
      continue;
    }
    for (const ir::PortSpan& s : e.connection.spans) {
      std::string l7;
      if (!s.parser.empty()) {
        l7 = fmt::format("{}: {}", s.parser, fmt::join(span_rules(graph, e, s), "; "));
      }
      const std::string proto =
          s.protocol == ir::kProtoAny ? "other" : ir::protocol_name(s.protocol);
      fmt::format_to(to, "{},{},{},{},{}\n", ends, proto, s.from, s.to, csv_field(l7));
    }
  }
  return out;
}

std::string graph_dot(const Graph& graph) {
  std::string out =
      "digraph policy {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n";
  auto to = std::back_inserter(out);
  for (const ir::GraphParty& p : graph.parties) {
    fmt::format_to(to, "  {}{};\n", quoted(p.id, "\\\""),
                   p.kind == "workload" ? "" : " [shape=ellipse]");
  }
  for (const GraphEdge& e : graph.edges) {
    fmt::format_to(to, "  {} -> {} [label=\"{}\"];\n", quoted(graph.parties[e.src].id, "\\\""),
                   quoted(graph.parties[e.dst].id, "\\\""), ir::connection_text(e.connection));
  }
  return out + "}\n";
}

std::string graph_mermaid(const Graph& graph) {
  std::string out = "flowchart LR\n";
  auto to = std::back_inserter(out);
  // Mermaid knows quotation marks and `#` as entities only.
  const auto label = [](const std::string& text) {
    std::string safe;
    for (const char c : text) safe += c == '"' ? "#quot;" : c == '#' ? "#35;" : std::string(1, c);
    return safe;
  };
  for (std::size_t i = 0; i < graph.parties.size(); ++i) {
    const ir::GraphParty& p = graph.parties[i];
    const bool workload = p.kind == "workload";
    fmt::format_to(to, "  n{}{}\"{}\"{}\n", i, workload ? "[" : "([", label(p.id),
                   workload ? "]" : "])");
  }
  for (const GraphEdge& e : graph.edges) {
    fmt::format_to(to, "  n{} -->|\"{}\"| n{}\n", e.src, label(ir::connection_text(e.connection)),
                   e.dst);
  }
  return out;
}

std::string graph_text(const Graph& graph, bool edges_only) {
  using Row = std::map<std::size_t, std::string>;
  std::vector<Row> in_rows(graph.parties.size());
  for (const GraphEdge& e : graph.edges) {
    in_rows[e.dst][e.src] = ir::connection_text(e.connection);
  }
  std::string out;
  auto to = std::back_inserter(out);
  if (graph.only) {
    fmt::format_to(to, "judged by {} only; the other half may still refuse\n",
                   graph.only == ir::Direction::Egress ? "the egress of each source"
                                                       : "the ingress of each target");
  }
  for (std::size_t b = 0; b < graph.parties.size(); ++b) {
    if ((edges_only || !graph.parties[b].subject()) && in_rows[b].empty()) continue;
    fmt::format_to(to, "{}\n", graph.parties[b].id);
    if (!graph.parties[b].unknown.empty()) {
      fmt::format_to(to, "  not known: {}\n", graph.parties[b].unknown);
      continue;
    }
    if (in_rows[b].empty()) out += "  reached by nobody\n";
    std::map<std::string, std::vector<std::string>> by_text;
    for (const auto& [a, text] : in_rows[b]) by_text[text].push_back(graph.parties[a].id);
    for (const auto& [text, sources] : by_text) {
      fmt::format_to(to, "  {:<28} from {}\n", text, fmt::join(sources, ", "));
    }
  }
  return out;
}

std::string exposure_text(const std::vector<Exposure>& list) {
  std::string out;
  auto to = std::back_inserter(out);
  for (const Exposure& e : list) {
    fmt::format_to(to, "{}{}\n", e.party.id,
                   e.isolated || !e.unknown.empty() ? "" : "  (no policy selects it)");
    if (!e.unknown.empty()) {
      fmt::format_to(to, "  not known: {}\n", e.unknown);
      continue;
    }
    if (e.allowed.empty()) out += "  reached by nobody\n";
    const auto rows = [&](const std::vector<ExposedTo>& groups, const char* words) {
      for (const ExposedTo& g : groups) {
        fmt::format_to(to, "  {:<28} {} {}\n", ir::connection_text(g.ports), words,
                       fmt::join(g.sources, "; "));
      }
    };
    rows(e.allowed, "from");
    rows(e.denied, "never from");
  }
  return out;
}

std::string exposure_json(const std::vector<Exposure>& list) {
  using nlohmann::ordered_json;
  ordered_json out;
  out["version"] = 1;
  out["workloads"] = ordered_json::array();
  const auto groups = [](const std::vector<ExposedTo>& from) {
    ordered_json rows = ordered_json::array();
    for (const ExposedTo& g : from) {
      ordered_json ports = ordered_json::array();
      for (const ir::PortSpan& s : g.ports.spans) {
        ordered_json port = {
            {"proto", ir::protocol_name(s.protocol)}, {"from", s.from}, {"to", s.to}};
        if (!s.parser.empty()) port["parser"] = s.parser;
        ports.push_back(std::move(port));
      }
      rows.push_back({{"ports", std::move(ports)}, {"all", g.ports.all}, {"from", g.sources}});
    }
    return rows;
  };
  for (const Exposure& e : list) {
    ordered_json row = {{"id", e.party.id},
                        {"isolated", e.isolated},
                        {"allowed", groups(e.allowed)},
                        {"denied", groups(e.denied)}};
    if (!e.unknown.empty()) row["unknown"] = e.unknown;
    out["workloads"].push_back(std::move(row));
  }
  return out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace policyc::cli
