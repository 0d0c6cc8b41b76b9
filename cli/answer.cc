#include "cli/answer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "cli/flows.h"
#include "ir/connectivity.h"

namespace policyc::cli {
namespace {

bool passes(ir::VerdictKind kind) {
  return kind == ir::VerdictKind::Allow || kind == ir::VerdictKind::Redirect;
}

std::string request_text(const ir::L7Request& request) {
  if (const auto* h = std::get_if<ir::HttpRequest>(&request)) {
    return h->any_path ? h->method : fmt::format("{} {}", h->method, h->path);
  }
  if (const auto* d = std::get_if<ir::DnsQuery>(&request)) return "the DNS query for " + d->name;
  if (const auto* k = std::get_if<ir::KafkaRequest>(&request)) {
    return fmt::format("Kafka {} {}", k->api_key, k->topic);
  }
  if (const auto* t = std::get_if<ir::TlsHello>(&request)) return "TLS for " + t->sni;
  return "";
}

// What the subject would do, as it reads behind "can" and before the object.
std::string act_text(const ir::L7Request& request) {
  const std::string text = request_text(request);
  if (const auto* d = std::get_if<ir::DnsQuery>(&request)) return "look up " + d->name + " at";
  if (std::holds_alternative<ir::KafkaRequest>(request)) return "send " + text + " to";
  if (std::holds_alternative<ir::TlsHello>(request)) return "open " + text + " to";
  return text.empty() ? "reach" : text + " to";
}

std::string port_text(const ir::Flow& flow) {
  return fmt::format("{}/{}", ir::protocol_name(flow.protocol), flow.port);
}

std::string origin_text(const ir::World& world, const SourceMap& sources, const ir::Origin& o) {
  return fmt::format("{}  {}  {}", sources.place(o.range),
                     world.policies.policies[o.policy].ref.str(), o.path);
}

void add_origins(std::vector<std::string>& out, const ir::World& world, const SourceMap& sources,
                 const std::vector<ir::Origin>& origins, const char* indent) {
  std::set<std::string> seen;
  for (const ir::Origin& o : origins) {
    std::string text = origin_text(world, sources, o);
    if (seen.insert(text).second) out.push_back(indent + text);
  }
}

std::string one_line(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (space && (out.empty() || out.back() == ' ')) continue;
    out += space ? ' ' : c;
  }
  constexpr std::size_t kMost = 70;
  if (out.size() > kMost) out = out.substr(0, kMost) + "…";
  return out;
}

void explain_direction(std::vector<std::string>& out, const ir::World& world,
                       const SourceMap& sources, const ir::Flow& flow, ir::Direction direction,
                       const ir::DirectionVerdict& v) {
  const bool ingress = direction == ir::Direction::Ingress;
  const std::string who = fmt::format("{} of {}", ir::direction_name(direction),
                                      party_name(world, ingress ? flow.to : flow.from));
  switch (v.verdict) {
    case ir::VerdictKind::Allow:
      switch (v.reason) {
        case ir::Reason::NoPolicy:
          out.push_back(fmt::format("  {}: allowed, no policy isolates it", who));
          break;
        case ir::Reason::Localhost:
          out.push_back(
              fmt::format("  {}: allowed, the local host may always reach its pods", who));
          break;
        case ir::Reason::NonDefaultDeny:
          out.push_back(
              fmt::format("  {}: allowed, its policies have `enableDefaultDeny: false`", who));
          break;
        case ir::Reason::Rule:
        case ir::Reason::DefaultDeny:
        case ir::Reason::PolicyDeny:
        case ir::Reason::Error:
        case ir::Reason::None:
          out.push_back(fmt::format("  {}: allowed by", who));
          break;
      }
      break;
    case ir::VerdictKind::Deny:
      out.push_back(v.reason == ir::Reason::PolicyDeny
                        ? fmt::format("  {}: denied by", who)
                        : fmt::format("  {}: denied, it is isolated and no rule allows this", who));
      break;
    case ir::VerdictKind::Redirect:
      out.push_back(fmt::format("  {}: handed to the {} proxy by", who, v.parser));
      break;
    case ir::VerdictKind::Error:
      out.push_back(fmt::format("  {}: its policy cannot be computed: {}", who, v.error));
      break;
    case ir::VerdictKind::Depends:
      out.push_back(fmt::format("  {}: it depends on", who));
      for (const std::string& symbol : v.depends_on) out.push_back("    " + symbol);
      break;
  }
  add_origins(out, world, sources, v.rules, "    ");
  if (v.auth && v.auth->type != ir::AuthType::Disabled) {
    out.push_back(fmt::format("    after mutual authentication ({})", ir::auth_name(v.auth->type)));
  }
  if (!v.l7) return;
  const std::string request = request_text(flow.l7);
  switch (v.l7->verdict) {
    case ir::L7VerdictKind::Allow:
      out.push_back(fmt::format("    the proxy lets {} pass by", request));
      break;
    case ir::L7VerdictKind::Deny:
      out.push_back(
          fmt::format("    the proxy refuses {}: {}", request,
                      v.l7->rules.empty() ? "no rule is for this peer" : "it matches none of"));
      break;
    case ir::L7VerdictKind::Unknown:
      out.push_back(fmt::format("    the proxy's answer is not known: {}", v.l7->reason));
      break;
  }
  std::set<std::string> seen;
  for (const ir::Origin& o : v.l7->rules) {
    std::string text =
        fmt::format("      {}  {}", sources.place(o.range), one_line(sources.slice(o.range)));
    if (seen.insert(text).second) out.push_back(std::move(text));
  }
}

// Isolated endpoints: which rules isolate.
void add_isolation(std::vector<std::string>& out, const ir::World& world, const SourceMap& sources,
                   const ir::Flow& flow, const ir::FlowVerdict& verdict) {
  const auto look = [&](const std::optional<ir::DirectionVerdict>& v, ir::Direction direction) {
    if (!v || v->verdict != ir::VerdictKind::Deny || v->reason != ir::Reason::DefaultDeny) return;
    const auto rules = ir::isolating_rules(world, flow, direction);
    if (rules.empty()) {
      if (world.settings.enforcement == ir::Settings::Enforcement::Always) {
        out.push_back(fmt::format(
            "  {} is isolated by the enforcement mode `always`: no policy allows anything",
            ir::direction_name(direction)));
      }
      return;
    }
    out.push_back(fmt::format("  {} is isolated by", ir::direction_name(direction)));
    add_origins(out, world, sources, rules, "    ");
    constexpr std::size_t kMost = 3;
    const auto misses = ir::near_misses(world, flow, direction);
    for (std::size_t i = 0; i < std::min(misses.size(), kMost); ++i) {
      out.push_back(fmt::format("  nearest miss, but for {}", misses[i].condition));
      out.push_back("    " + origin_text(world, sources, misses[i].origin));
    }
  };
  look(verdict.egress, ir::Direction::Egress);
  look(verdict.ingress, ir::Direction::Ingress);
}

// Probed ports; as ranges where each probe stands for the ports up to the next one, too.
std::string probed_ports(const PreparedQuestion& question, const std::vector<std::size_t>& chosen) {
  const std::vector<ir::Flow>& flows = question.flows;
  std::map<ir::Protocol, std::set<std::uint16_t>> starts;
  for (const ir::Flow& f : flows) starts[f.protocol].insert(f.port);
  ir::Connection c;
  for (const std::size_t i : chosen) {
    const ir::Flow& f = flows[i];
    const auto& list = starts[f.protocol];
    const auto next = list.upper_bound(f.port);
    const bool icmp = f.protocol == ir::kProtoIcmp || f.protocol == ir::kProtoIcmp6;
    ir::PortSpan span;
    span.protocol = f.protocol;
    span.from = f.port == *list.begin() ? std::uint16_t{0} : f.port;
    span.to = next == list.end() ? std::uint16_t{65535} : static_cast<std::uint16_t>(*next - 1);
    if (icmp || !question.ranges) {
      span.from = f.port;
      span.to = f.port;
    }
    if (std::find(c.spans.begin(), c.spans.end(), span) != c.spans.end()) continue;
    if (!c.spans.empty() && c.spans.back().protocol == span.protocol && !icmp &&
        c.spans.back().to + 1 == span.from) {
      c.spans.back().to = span.to;
    } else {
      c.spans.push_back(span);
    }
  }
  return ir::connection_text(c);
}

}  // namespace

std::string_view answer_word(Answer::Word word) {
  switch (word) {
    case Answer::Word::Yes:
      return "yes";
    case Answer::Word::No:
      return "no";
    case Answer::Word::Depends:
      return "it depends";
  }
  return "";
}

std::string flow_text(const ir::World& world, const ir::Flow& flow) {
  const std::string request = request_text(flow.l7);
  return fmt::format("{} → {} {}{}{}", party_name(world, flow.from), party_name(world, flow.to),
                     port_text(flow), request.empty() ? "" : " ", request);
}

std::vector<std::string> explain_verdict(const ir::World& world, const SourceMap& sources,
                                         const ir::Flow& flow, const ir::FlowVerdict& verdict) {
  std::vector<std::string> out;
  if (verdict.egress) {
    explain_direction(out, world, sources, flow, ir::Direction::Egress, *verdict.egress);
  }
  if (verdict.ingress) {
    explain_direction(out, world, sources, flow, ir::Direction::Ingress, *verdict.ingress);
  }
  if (!verdict.egress && !verdict.ingress) {
    out.emplace_back("  neither side is an endpoint that policies select");
  }
  add_isolation(out, world, sources, flow, verdict);
  return out;
}

std::string_view any_pod_word(OpenAnswer::Kind kind) {
  switch (kind) {
    case OpenAnswer::Kind::Holds:
      return "holds";
    case OpenAnswer::Kind::Fails:
      return "fails";
    case OpenAnswer::Kind::Unknown:
      return "not decided";
  }
  return "";
}

std::vector<std::string> any_pod_lines(const OpenAnswer& any_pod, const SourceMap& sources,
                                       bool requests) {
  switch (any_pod.kind) {
    case OpenAnswer::Kind::Holds:
      return {fmt::format(
          "for every pod with a network of its own that could exist, too: no ingress rule of the "
          "targets lets {} in",
          requests ? "such a request" : "one")};
    case OpenAnswer::Kind::Unknown:
      return {"for pods that are not in the input: not decided, " + any_pod.why};
    case OpenAnswer::Kind::Fails:
      break;
  }
  const ir::World& world = any_pod.world;
  const ir::Pod& pod = world.inventory.pods.back();
  std::vector<std::string> labels;
  for (const auto& [key, value] : pod.labels) labels.push_back(key + "=" + value);
  std::string who = fmt::format("a pod in namespace {}", pod.ns);
  if (!labels.empty()) who += fmt::format(" with {}", fmt::join(labels, ", "));
  if (const ir::Namespace* ns = world.inventory.find_namespace(pod.ns); ns != nullptr) {
    std::vector<std::string> of_ns;
    for (const auto& [key, value] : ns->labels) {
      if (key != "kubernetes.io/metadata.name") of_ns.push_back(key + "=" + value);
    }
    if (!of_ns.empty()) who += fmt::format(" (the namespace has {})", fmt::join(of_ns, ", "));
  }
  std::vector<std::string> out = {
      fmt::format("not for every pod that could exist: {} is let in", who)};
  const ir::FlowVerdict verdict = ir::evaluate(world, any_pod.counterexample);
  for (std::string& line : explain_verdict(world, sources, any_pod.counterexample, verdict)) {
    out.push_back(std::move(line));
  }
  return out;
}

Answer answer(const ir::World& world, const SourceMap& sources, const PreparedQuestion& question) {
  Answer out;
  if (question.flows.empty()) {
    out.headline = fmt::format("no: {}, so nobody answers there", question.nobody);
    return out;
  }
  std::vector<std::size_t> yes;
  std::vector<std::size_t> no;
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < question.flows.size(); ++i) {
    out.verdicts.push_back(ir::evaluate(world, question.flows[i]));
    const ir::VerdictKind kind = out.verdicts.back().final;
    // An endpoint whose policy cannot be computed keeps its previous one: nobody can tell.
    const bool unknown = kind == ir::VerdictKind::Depends || kind == ir::VerdictKind::Error;
    (unknown ? open : passes(kind) ? yes : no).push_back(i);
  }
  // Several ports of one pair: some open is a yes. Several parties: they must agree.
  const auto parties = [&](const std::vector<std::size_t>& list) {
    std::set<std::string> s;
    for (const std::size_t i : list) {
      s.insert(party_name(world, question.flows[i].from) + ">" +
               party_name(world, question.flows[i].to));
    }
    return s;
  };
  std::vector<std::size_t> all(question.flows.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  const bool every_pair = parties(yes).size() == parties(all).size();
  if (!yes.empty() && every_pair) {
    out.word = Answer::Word::Yes;
    out.deciding = yes.front();
  } else if (yes.empty() && open.empty()) {
    out.word = Answer::Word::No;
    out.deciding = no.empty() ? 0 : no.front();
  } else {
    out.word = Answer::Word::Depends;
    out.deciding = open.empty() ? yes.front() : open.front();
  }
  const ir::Flow& shown = question.flows[out.deciding];
  const bool ports = question.all_ports;
  const std::string act = act_text(shown.l7);
  std::string where = ports ? "" : " on " + port_text(shown);
  if (ports && out.word == Answer::Word::Yes) {
    const bool every = question.ranges && no.empty() && open.empty();
    where = every ? ", on every port" : " on " + probed_ports(question, yes);
  }
  if (ports && out.word == Answer::Word::No) {
    where = question.ranges ? " on any port" : " on " + probed_ports(question, no);
  }
  const char* can = out.word == Answer::Word::No ? "cannot" : "can";
  if (out.word == Answer::Word::Depends) can = "may or may not";
  out.headline =
      fmt::format("{}: {} {} {} {}{}", answer_word(out.word), party_name(world, shown.from), can,
                  act, party_name(world, shown.to), where);
  if (ports && out.word == Answer::Word::Yes && !no.empty()) {
    out.lines.push_back("  refused: " + probed_ports(question, no));
  }
  std::vector<std::size_t> explain = {out.deciding};
  // A witness for each side where the parties differ.
  if (out.word == Answer::Word::Depends && !no.empty() && out.deciding != no.front()) {
    explain.push_back(no.front());
  }
  for (const std::size_t i : explain) {
    if (question.flows.size() > 1)
      out.lines.push_back("for " + flow_text(world, question.flows[i]));
    for (std::string& line : explain_verdict(world, sources, question.flows[i], out.verdicts[i])) {
      out.lines.push_back(std::move(line));
    }
  }
  if (passes(out.verdicts[out.deciding].final) && shown.l7.index() == 0 &&
      out.verdicts[out.deciding].final == ir::VerdictKind::Redirect) {
    out.lines.emplace_back(
        "  the proxy decides on each request; ask with a method and path, or --http");
  }
  return out;
}

}  // namespace policyc::cli
