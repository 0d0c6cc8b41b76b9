// policyc query: what-if questions, one at a time or in batch.
#include <fmt/format.h>
#include <fmt/ostream.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/answer.h"
#include "cli/claims.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/flows.h"
#include "cli/graph_output.h"
#include "cli/question.h"
#include "ir/base/file.h"
#include "ir/filters.h"
#include "ir/identity.h"
#include "ir/resolve.h"

namespace policyc::cli {
namespace {

struct QueryOptions : EngineOptions {
  std::vector<std::string> arguments;  // the sentence, then paths
  std::string from, to, port, proto, http, http_host, dns, sni, kafka, flows, expect;
  std::vector<std::string> http_headers;
  std::size_t hops = 1;
  bool port_given = false;
  std::string format = "text";
};

Expected<Question> question_of(QueryOptions& o) {
  const bool flags = !o.from.empty() || !o.to.empty();
  Question q;
  if (!flags) {
    if (o.arguments.empty()) {
      return Error{
          "ask something: policyc query \"can frontend POST to backend\" PATH, or --from and "
          "--to, or --flows FILE"};
    }
    auto parsed = parse_sentence(o.arguments.front());
    if (!parsed) return parsed;
    q = std::move(*parsed);
    o.common.load.paths.assign(o.arguments.begin() + 1, o.arguments.end());
  } else {
    o.common.load.paths = o.arguments;
    q.from = o.from;
    q.to = o.to;
    if (o.from.empty()) q.kind = Question::Kind::Who;
    if (o.to.empty()) q.kind = Question::Kind::What;
  }
  if (!o.proto.empty()) {
    q.protocol = parse_protocol(o.proto);
    if (!q.protocol) {
      return Error{fmt::format("--proto `{}` is none of TCP, UDP, SCTP, ICMP, ICMPv6", o.proto)};
    }
  }
  if (o.port_given) {
    const bool name = std::any_of(o.port.begin(), o.port.end(),
                                  [](unsigned char c) { return std::isalpha(c) != 0; });
    if (o.port.empty() || o.port[0] == '-' ||
        (!name && o.port.find_first_not_of("0123456789") != std::string::npos)) {
      return Error{fmt::format("--port `{}` is no port", o.port)};
    }
    if (o.port.find_first_not_of("0123456789") == std::string::npos) {
      if (o.port.size() > 5 || std::stoul(o.port) > 65535) {
        return Error{fmt::format("--port {} is out of range", o.port)};
      }
      q.port = static_cast<std::uint16_t>(std::stoul(o.port));
    } else {
      q.port_name = o.port;
    }
  }
  const int kinds = static_cast<int>(!o.http.empty()) + static_cast<int>(!o.dns.empty()) +
                    static_cast<int>(!o.sni.empty()) + static_cast<int>(!o.kafka.empty());
  if (kinds > 1) return Error{"one of --http, --dns, --sni, --kafka at a time"};
  if (!o.http.empty()) {
    auto request = parse_http(o.http);
    if (!request) return Error{request.error()};
    q.l7 = std::move(*request);
  }
  if (!o.dns.empty()) q.l7 = ir::DnsQuery{o.dns};
  if (!o.sni.empty()) q.l7 = ir::TlsHello{o.sni};
  if (!o.kafka.empty()) {
    auto request = parse_kafka(o.kafka);
    if (!request) return Error{request.error()};
    q.l7 = std::move(*request);
  }
  auto* http = std::get_if<ir::HttpRequest>(&q.l7);
  if (http == nullptr && (!o.http_host.empty() || !o.http_headers.empty())) {
    return Error{"--http-host and --http-header belong to an HTTP question"};
  }
  if (http != nullptr && !o.http_host.empty()) http->host = o.http_host;
  for (const std::string& header : o.http_headers) {
    const std::size_t colon = header.find(':');
    if (colon == std::string::npos) {
      return Error{fmt::format("--http-header `{}` is not of the form 'Name: value'", header)};
    }
    const std::size_t value = header.find_first_not_of(' ', colon + 1);
    http->headers.emplace_back(header.substr(0, colon),
                               value == std::string::npos ? "" : header.substr(value));
  }
  return q;
}

std::string json_text(const nlohmann::ordered_json& json) {
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// "no pod outside namespace shop reaches db on 5432": decided for all members.
int answer_claim(const QueryOptions& options, const Engine& engine, const Claim& claim, Env& env) {
  if (options.expect == "allow" || options.expect == "deny") {
    return usage_error(env, "a claim about everybody is true or false: --expect true or false");
  }
  const ClaimWorld world(engine.world, options.common.load.default_namespace);
  const auto result = world.decide(claim);
  if (!result) return usage_error(env, result.error());
  const bool holds = result->kind == ReachResult::Kind::Holds && result->pairs > 0;
  const bool open = result->kind == ReachResult::Kind::Unknown || result->pairs == 0;
  const char* word = holds ? "true" : open ? "not decided" : "false";
  const std::string why = result->pairs == 0 ? "no pair of the input is meant" : result->why;
  std::vector<std::string> lines;
  if (result->counterexample) {
    const ir::Flow& flow = *result->counterexample;
    const ir::FlowVerdict verdict = ir::evaluate(engine.world, flow);
    lines.push_back(fmt::format("counterexample: {} is {}", flow_text(engine.world, flow),
                                ir::verdict_name(verdict.final)));
    for (std::string& line : explain_verdict(engine.world, engine.sources(), flow, verdict)) {
      lines.push_back(std::move(line));
    }
  }
  const auto any_pod = holds ? world.decide_for_any_pod(claim) : std::nullopt;
  if (any_pod) {
    for (std::string& line :
         any_pod_lines(*any_pod, engine.sources(), claim.requests.has_value())) {
      lines.push_back(std::move(line));
    }
  }
  if (options.format == "json") {
    nlohmann::ordered_json out;
    out["answer"] = word;
    if (any_pod) out["any_pod"] = any_pod_word(any_pod->kind);
    out["pairs"] = result->pairs;
    if (open) out["why"] = why;
    out["counterexample"] = result->counterexample
                                ? flow_json(engine.world, *result->counterexample)
                                : nlohmann::ordered_json();
    out["explanation"] = lines;
    env.out << json_text(out);
  } else {
    fmt::print(env.out, "{}: {}\n", word,
               holds
                   ? fmt::format("of all {} pairs of the input{}, by every protocol and port that "
                                 "is meant",
                                 result->pairs,
                                 engine.world.inventory.completeness == ir::Completeness::Complete
                                     ? ""
                                     : " (which may lack pods)")
               : open ? why
                      : fmt::format("decided at pair {}", result->pairs));
    for (const std::string& line : lines) fmt::print(env.out, "{}\n", line);
  }
  if (options.expect.empty() || (!open && options.expect == word)) return kOk;
  fmt::print(env.err, "policyc: expected {}, the answer is {}\n", options.expect, word);
  return open ? kUndecided : kFindings;
}

// "what can X reach" over several connections in a row.
int list_hops(const QueryOptions& options, const Engine& engine, const Question& q, Env& env) {
  auto side = resolve_side(engine.world, q.from, options.common.load.default_namespace);
  if (!side) return usage_error(env, side.error());
  const ir::Resolved resolved =
      ir::resolve(engine.world, {ir::policy_names(engine.world.policies)});
  const auto parties = ir::graph_parties(engine.world, resolved);
  const ir::Connectivity connectivity(engine.world.settings, resolved);
  const auto start = std::find_if(parties.begin(), parties.end(), [&](const ir::GraphParty& p) {
    return party_of(p) == side->parties.front();
  });
  if (start == parties.end() || !start->subject()) {
    return usage_error(env, "--hops starts from a pod or workload of the input");
  }
  const auto reached = blast_radius(
      parties, connectivity, static_cast<std::size_t>(start - parties.begin()), options.hops);
  if (options.format == "json") {
    nlohmann::ordered_json out;
    out["version"] = 1;
    out["from"] = start->id;
    out["reached"] = nlohmann::ordered_json::array();
    for (const Reached& r : reached) {
      out["reached"].push_back(
          {{"id", parties[r.party].id}, {"hops", r.hops}, {"through", parties[r.previous].id}});
    }
    env.out << json_text(out);
    return kOk;
  }
  fmt::print(env.out, "what {} can reach in at most {} hops: {} parties\n", start->id, options.hops,
             reached.size());
  for (const Reached& r : reached) {
    fmt::print(env.out, "  {}  {}{}\n", r.hops, parties[r.party].id,
               r.hops == 1 ? "" : "  through " + parties[r.previous].id);
  }
  return kOk;
}

// What a list asks of a Service, as its ports.
Expected<std::vector<ir::PortSpan>> service_spans(const ir::Service& service, const Question& q) {
  std::vector<ir::PortSpan> out;
  if (!q.port_name.empty()) {
    for (const ir::ServicePort& p : service.ports) {
      const bool named = p.name == q.port_name || p.target_name == q.port_name;
      if (named && (!q.protocol || *q.protocol == p.protocol)) {
        out.push_back({p.protocol, p.port, p.port, ""});
      }
    }
    if (out.empty()) return Error{lacks_port(service, "named " + q.port_name)};
  } else if (q.port || q.protocol) {
    const std::vector<ir::Protocol> any = {ir::kProtoTcp, ir::kProtoUdp, ir::kProtoSctp};
    for (const ir::Protocol p : q.protocol ? std::vector{*q.protocol} : any) {
      out.push_back({p, q.port.value_or(0), q.port.value_or(65535), ""});
    }
    if (!has_service_port(service, out)) return Error{lacks_port(service, out)};
  }
  return out;
}

// The part of the connection on these ports.
ir::Connection only_on(const ir::Connection& connection, const std::vector<ir::PortSpan>& ports) {
  std::set<ir::PortSpan> out;
  for (const ir::PortSpan& s : connection.spans) {
    for (const ir::PortSpan& p : ports) {
      const auto from = std::max(s.from, p.from), to = std::min(s.to, p.to);
      if (s.protocol == p.protocol && from <= to) out.insert({s.protocol, from, to, s.parser});
    }
  }
  return {{out.begin(), out.end()}, false};
}

// "who can reach X", "what can X reach".
int list_connections(const QueryOptions& options, const Engine& engine, const Question& q,
                     Env& env) {
  const bool who = q.kind == Question::Kind::Who;
  const std::string& name = who ? q.to : q.from;
  if (q.l7.index() != 0 || !options.expect.empty()) {
    return usage_error(env,
                       "`who can` and `what can` list connections; ask `can A … B` for requests "
                       "and for --expect");
  }
  auto side = resolve_side(engine.world, name, options.common.load.default_namespace);
  if (!side) return usage_error(env, side.error());
  const ir::Resolved resolved =
      ir::resolve(engine.world, {.names = ir::policy_names(engine.world.policies)});
  auto others = ir::graph_parties(engine.world, resolved);
  auto asked = parties_of_side(engine.world, others, *side, name);
  if (!asked) return usage_error(env, asked.error());
  const std::optional<ir::Service> service = who ? side->service : std::nullopt;
  std::vector<ir::PortSpan> wanted;  // of the Service
  if (service) {
    auto spans = service_spans(*service, q);
    if (!spans) return usage_error(env, spans.error());
    wanted = std::move(*spans);
  }
  std::optional<std::uint16_t> port = q.port;
  if (!q.port_name.empty() && !service) {
    port = ir::egress_ports(engine.world.inventory)
               .find(q.port_name, q.protocol.value_or(ir::kProtoTcp));
    if (!port)
      return usage_error(env, fmt::format("no pod gives the name `{}` to one port", q.port_name));
  }
  // Other ends: everybody of the graph, who is not an outsider like the side asked for.
  const bool outsider = std::none_of(asked->begin(), asked->end(),
                                     [](const ir::GraphParty& p) { return p.subject(); });
  if (outsider) std::erase_if(others, [](const ir::GraphParty& p) { return !p.subject(); });
  Graph graph = who ? build_graph(engine.world, resolved, others, *asked)
                    : build_graph(engine.world, resolved, *asked, others);
  if (service && !service->ports.empty()) {
    for (GraphEdge& e : graph.edges) {
      const auto spans =
          back_end_spans(engine.world, *service, party_of(graph.parties[e.dst]), wanted);
      e.connection = only_on(e.connection, spans);
    }
    std::erase_if(graph.edges, [](const GraphEdge& e) { return e.connection.none(); });
  } else if (port || q.protocol) {
    for (GraphEdge& e : graph.edges) {
      std::erase_if(e.connection.spans, [&](const ir::PortSpan& s) {
        if (q.protocol && s.protocol != *q.protocol) return true;
        const bool ported = s.protocol == ir::kProtoTcp || s.protocol == ir::kProtoUdp ||
                            s.protocol == ir::kProtoSctp;
        return port && (!ported || *port < s.from || *port > s.to);
      });
      e.connection.all = false;
      for (ir::PortSpan& s : e.connection.spans) {
        if (port) s.from = s.to = *port;
      }
    }
    std::erase_if(graph.edges, [](const GraphEdge& e) { return e.connection.none(); });
  }
  if (options.format == "json") {
    env.out << graph_json(graph);
  } else if (graph.edges.empty()) {
    env.out << (who ? "nobody of the input can reach " + name : name + " can reach nobody") << "\n";
  } else {
    env.out << (who ? "who can reach " + name : "what " + name + " can reach") << ":\n";
    std::size_t width = 0;
    const auto other = [&](const GraphEdge& e) -> const std::string& {
      return graph.parties[who ? e.src : e.dst].id;
    };
    for (const GraphEdge& e : graph.edges) width = std::max(width, other(e).size());
    for (const GraphEdge& e : graph.edges) {
      fmt::print(env.out, "  {:<{}}  {}\n", other(e), width, ir::connection_text(e.connection));
    }
  }
  std::set<std::string> services;
  for (const GraphEdge& e : graph.edges) {
    const auto block = ir::parse_prefix(graph.parties[e.dst].id);
    if (!block) continue;
    for (std::string& s : services_in(engine.world.inventory, *block))
      services.insert(std::move(s));
  }
  if (options.format == "text" && !services.empty()) {
    fmt::print(
        env.out,
        "note: the addresses of Services in these blocks are not meant, policies judge their "
        "back ends: {}\n",
        fmt::join(services, ", "));
  }
  if (options.format == "text" && !side->note.empty()) {
    fmt::print(env.out, "note: {}\n", side->note);
  }
  if (const std::string note = plugin_note(engine.world); !note.empty()) {
    fmt::print(env.err, "policyc: {}\n", note);
  }
  for (const std::string& unknown : graph.unknown) {
    fmt::print(env.err, "policyc: not counted, its policy cannot be told: {}\n", unknown);
  }
  return graph.unknown.empty() ? kOk : kUndecided;
}

// Policies that answers leave out, because the cluster refuses them.
std::vector<std::string> refused_policies(const Engine& engine) {
  std::vector<std::string> out;
  for (const ir::Policy& p : engine.world.policies.policies) {
    if (p.accepted || p.error == "left out by --without") continue;
    out.push_back(fmt::format("{} is refused and has no effect: {}", p.ref.str(), p.error));
  }
  return out;
}

int expectation(const std::string& expect, Answer::Word word) {
  if (expect.empty()) return kOk;
  if (word == Answer::Word::Depends) return kUndecided;
  return (expect == "allow") == (word == Answer::Word::Yes) ? kOk : kFindings;
}

int answer_one(const QueryOptions& options, const Engine& engine, const Question& q, Env& env) {
  const auto prepared = prepare(engine.world, q, options.common.load.default_namespace);
  if (!prepared) return usage_error(env, prepared.error());
  const Answer a = answer(engine.world, engine.sources(), *prepared);
  std::vector<std::string> notes = prepared->notes;
  for (std::string& note : refused_policies(engine)) notes.push_back(std::move(note));
  if (options.format == "json") {
    nlohmann::ordered_json out;
    if (!a.verdicts.empty()) {
      out = answer_json(engine.world, a.verdicts[a.deciding]);
      out["flow"] = flow_json(engine.world, prepared->flows[a.deciding]);
    }
    out["answer"] = answer_word(a.word);
    out["explanation"] = nlohmann::ordered_json::array();
    out["explanation"].push_back(a.headline);
    for (const std::string& line : a.lines) out["explanation"].push_back(line);
    if (a.verdicts.size() > 1) {
      for (std::size_t i = 0; i < a.verdicts.size(); ++i) {
        nlohmann::ordered_json each = answer_json(engine.world, a.verdicts[i]);
        each["flow"] = flow_json(engine.world, prepared->flows[i]);
        out["flows"].push_back(std::move(each));
      }
    }
    out["notes"] = notes;
    env.out << json_text(out);
  } else {
    const bool color = use_color(options.common, env.out_terminal);
    const char* on = !color                        ? ""
                     : a.word == Answer::Word::Yes ? "\x1b[1;32m"
                     : a.word == Answer::Word::No  ? "\x1b[1;31m"
                                                   : "\x1b[1;33m";
    fmt::print(env.out, "{}{}{}\n", on, a.headline, color ? "\x1b[0m" : "");
    for (const std::string& line : a.lines) fmt::print(env.out, "{}\n", line);
    for (const std::string& note : notes) fmt::print(env.out, "note: {}\n", note);
  }
  const int expected = expectation(options.expect, a.word);
  if (expected != kOk) {
    fmt::print(env.err, "policyc: expected {}, the answer is {}\n", options.expect,
               answer_word(a.word));
    return expected;
  }
  return kOk;
}

int answer_batch(const QueryOptions& options, const Engine& engine, Env& env) {
  const bool standard_input = options.flows == "-";
  const auto text =
      standard_input
          ? Expected<std::string>(std::string(std::istreambuf_iterator<char>(env.in), {}))
          : read_file(options.flows);
  if (!text) return usage_error(env, fmt::format("{}: {}", options.flows, text.error()));
  const auto flows = read_flows(*text, engine.world);
  if (!flows) return usage_error(env, fmt::format("{}: {}", options.flows, flows.error()));
  nlohmann::ordered_json out;
  out["version"] = 1;
  out["policies"] = nlohmann::ordered_json::array();
  for (const ir::Policy& p : engine.world.policies.policies)
    out["policies"].push_back(policy_json(p));
  out["flows"] = nlohmann::ordered_json::array();
  int code = kOk;
  for (const ir::Flow& flow : *flows) {
    const ir::FlowVerdict v = ir::evaluate(engine.world, flow);
    const bool pass = v.final == ir::VerdictKind::Allow || v.final == ir::VerdictKind::Redirect;
    const bool open = v.final == ir::VerdictKind::Depends || v.final == ir::VerdictKind::Error;
    if (!options.expect.empty()) {
      const int e = expectation(options.expect, open   ? Answer::Word::Depends
                                                : pass ? Answer::Word::Yes
                                                       : Answer::Word::No);
      if (e != kOk && code != kFindings) code = e;
    }
    if (options.format == "json") {
      out["flows"].push_back(answer_json(engine.world, v));
      continue;
    }
    fmt::print(env.out, "{:<9} {}{}{}\n", ir::verdict_name(v.final),
               flow.id.empty() ? "" : flow.id + ": ", flow_text(engine.world, flow),
               v.final_reason.empty() ? "" : fmt::format("  ({})", v.final_reason));
  }
  if (options.format == "json") env.out << json_text(out);
  return code;
}

int query(QueryOptions& options, Env& env) {
  Question question;
  std::optional<Claim> claim;
  if (options.flows.empty() && options.from.empty() && options.to.empty() &&
      !options.arguments.empty()) {
    if (auto read = parse_claim(options.arguments.front())) {
      if (!*read) return usage_error(env, read->error());
      claim = std::move(**read);
      options.common.load.paths.assign(options.arguments.begin() + 1, options.arguments.end());
    }
  }
  if (claim) {
    // Its paths are settled.
  } else if (options.flows.empty()) {
    auto asked = question_of(options);
    if (!asked) return usage_error(env, asked.error());
    question = std::move(*asked);
  } else {
    options.common.load.paths = options.arguments;
  }
  if (!claim && (options.expect == "true" || options.expect == "false")) {
    return usage_error(env, "--expect true and false are for claims, like `no pod … reaches …`");
  }
  Engine engine;
  int code = kOk;
  if (!load_engine(options, env, engine, code)) return code;
  if (!options.flows.empty()) {
    code = answer_batch(options, engine, env);
  } else if (claim) {
    code = answer_claim(options, engine, *claim, env);
  } else if (options.hops > 1) {
    if (question.kind != Question::Kind::What) {
      return usage_error(env, "--hops belongs to `what can X reach`");
    }
    code = list_hops(options, engine, question, env);
  } else if (question.kind != Question::Kind::Can) {
    code = list_connections(options, engine, question, env);
  } else {
    code = answer_one(options, engine, question, env);
  }
  print_timing(options.common, engine.input.loaded, env);
  return options.expect.empty() ? code : account_for_refused(options, engine, code, env);
}

}  // namespace

void add_query(Cli& cli) {
  auto options = std::make_shared<QueryOptions>();
  CLI::App* command = cli.add(
      "query", "answer a what-if question, with the rules that decide",
      "  policyc query \"can frontend POST /v1/x to backend on 8080\" manifests/\n"
      "  policyc query \"who can reach db on 5432\" manifests/\n"
      "  policyc query \"no pod outside namespace shop reaches shop/db on 5432\" manifests/\n"
      "  policyc query \"what can frontend reach\" --hops 3 manifests/\n"
      "  policyc query --from frontend --to 203.0.113.7 --port 443 --expect deny manifests/\n"
      "  policyc query --from web --to svc/api --http 'GET /v1/x' --http-header 'X-Env: prod' .\n"
      "  policyc query --flows flows.json --format json manifests/");
  add_engine_options(*command, *options, PathArgument::None);
  command->add_option("question", options->arguments,
                      "the question (without --from/--to), then PATHs");
  command->add_option("--from", options->from,
                      "source: pod, workload, Service, labels, entity, address");
  command->add_option("--to", options->to, "target, likewise; a DNS name too");
  command->add_option("--port", options->port, "target port, number or name");
  command->add_option("--proto", options->proto, "TCP (default), UDP, SCTP, ICMP, ICMPv6");
  command->add_option("--http", options->http, "a request: 'METHOD /path'");
  command->add_option("--http-host", options->http_host, "its Host");
  add_repeated(*command, "--http-header", options->http_headers, "a header of it: 'Name: value'");
  command->add_option("--dns", options->dns, "a DNS query for NAME");
  command->add_option("--sni", options->sni, "a TLS connection for NAME");
  command->add_option("--kafka", options->kafka, "a Kafka request: 'produce topic'");
  command->add_option("--flows", options->flows,
                      "many flows: a JSON array, or Hubble's JSON lines");
  command
      ->add_option("--hops", options->hops,
                   "with `what can X reach`: through how many workloads in a row (1)")
      ->check(CLI::Range(1, 1000));
  command->add_option("--expect", options->expect, "exit 1 unless the answer is this")
      ->check(CLI::IsMember({"allow", "deny", "true", "false"}));
  command->add_option("--format", options->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  cli.on_run(command, [options, command](Env& env) {
    options->port_given = command->count("--port") > 0;
    return query(*options, env);
  });
}

}  // namespace policyc::cli
