// Replayed packets as Hubble's lines, and those lines read back as questions.
#include "cli/hubble.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/flows.h"
#include "ir/resolve.h"
#include "tests/ir/world_gen.h"
#include "tests/replay/table_runner.h"
#include "tests/semantics/world_text.h"

namespace policyc::cli {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

bpf::Packet tcp(const char* from, const char* to, std::uint16_t sport, std::uint16_t dport,
                std::uint8_t flags, const std::string& payload = "") {
  bpf::Packet p;
  p.from = *ir::parse_ip(from);
  p.to = *ir::parse_ip(to);
  p.source_port = sport;
  p.destination_port = dport;
  p.tcp_flags = flags;
  p.sequence = payload.empty() ? 9 : 10;
  p.payload.assign(payload.begin(), payload.end());
  return p;
}

TEST(Hubble, LinesSayWhatHubbleSays) {
  const auto text = testing::world_of(
      std::string(testing::kPods) +
      "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: red}\n"
      "spec:\n  endpointSelector: {matchLabels: {app: b}}\n  ingress:\n  - fromEndpoints: "
      "[{matchLabels: {app: a}}]\n    toPorts:\n    - ports: [{port: \"80\", protocol: TCP}]\n"
      "      rules: {http: [{method: GET, path: \"/.*\"}]}\n");
  const ir::World& world = text->world;
  const ir::Resolved resolved = ir::resolve(world);
  testing::TableRunner runner(resolved);
  bpf::Fixture fixture{"t", {}};
  for (const bpf::Packet& p : {tcp("10.0.0.1", "10.0.0.2", 4000, 80, bpf::kSyn),
                               tcp("10.0.0.2", "10.0.0.1", 80, 4000, bpf::kSyn | bpf::kAck),
                               tcp("10.0.0.1", "10.0.0.2", 4000, 80, bpf::kPsh | bpf::kAck,
                                   "POST /x HTTP/1.1\r\nHost: b\r\nX-A: 1\r\n\r\n"),
                               tcp("203.0.113.7", "10.0.0.2", 4000, 80, bpf::kSyn)}) {
    fixture.packets.push_back({bpf::build_frame(p), std::nullopt, 1'500'000'000});
  }
  const auto results = bpf::replay(world, resolved, runner, {fixture});
  ASSERT_TRUE(results) << results.error();
  std::vector<json> lines;
  std::string stream;
  for (std::size_t i = 0; i < results->size(); ++i) {
    for (const ordered_json& l :
         HubbleWriter(world, resolved).lines(fixture.packets[i], (*results)[i])) {
      lines.push_back(json::parse(l.dump()));
      stream += l.dump() + "\n";
    }
  }
  // Egress and ingress of the SYN, the reply, both of the request, the proxy, ingress from outside.
  ASSERT_EQ(lines.size(), 7U);
  const json& redirected = lines[1]["flow"];
  EXPECT_EQ(redirected["verdict"], "REDIRECTED");
  EXPECT_EQ(redirected["traffic_direction"], "INGRESS");
  EXPECT_EQ(redirected["time"], "1970-01-01T00:00:01.500000000Z");
  EXPECT_EQ(redirected["IP"]["ipVersion"], "IPv4");
  EXPECT_EQ(redirected["ethernet"]["destination"], "02:00:00:00:00:02");
  EXPECT_EQ(redirected["l4"]["TCP"]["destination_port"], 80);
  EXPECT_EQ(redirected["l4"]["TCP"]["flags"], (json{{"SYN", true}}));
  EXPECT_EQ(redirected["source"]["pod_name"], "a");
  EXPECT_EQ(redirected["source"]["namespace"], "red");
  EXPECT_EQ(redirected["policy_match_type"], 2);  // L3 and L4
  EXPECT_EQ(redirected["event_type"]["type"], 5);
  EXPECT_EQ(redirected["is_reply"], false);
  EXPECT_EQ(redirected["ingress_allowed_by"],
            (json{{{"name", "p"}, {"namespace", "red"}, {"kind", "CiliumNetworkPolicy"}}}));
  EXPECT_EQ(lines[0]["flow"]["policy_match_type"], 4);  // no policy: everything
  EXPECT_FALSE(lines[0]["flow"].contains("egress_allowed_by"));
  EXPECT_EQ(lines[2]["flow"]["is_reply"], true);
  const json& refused = lines[5]["flow"];
  EXPECT_EQ(refused["Type"], "L7");
  EXPECT_EQ(refused["verdict"], "DROPPED");
  EXPECT_EQ(refused["l7"]["http"]["url"], "http://b/x");
  const json& dropped = lines[6]["flow"];
  EXPECT_EQ(dropped["verdict"], "DROPPED");
  EXPECT_EQ(dropped["drop_reason"], 133);
  EXPECT_EQ(dropped["drop_reason_desc"], "POLICY_DENIED");
  EXPECT_EQ(dropped["policy_match_type"], 0);
  EXPECT_TRUE(dropped.contains("ingress_denied_by"));
  EXPECT_EQ(dropped["source"]["labels"], (json{"reserved:world-ipv4"}));
  // Read back, the reply asks about the connection that it answers, the proxy's line about the
  // request.
  const auto flows = read_flows(stream, world);
  ASSERT_TRUE(flows) << flows.error();
  ASSERT_EQ(flows->size(), 7U);
  EXPECT_EQ((*flows)[2].from, (*flows)[1].from);
  EXPECT_EQ((*flows)[2].port, 80);
  const auto* http = std::get_if<ir::HttpRequest>(&(*flows)[5].l7);
  ASSERT_NE(http, nullptr);
  EXPECT_EQ(http->method + " " + http->host + " " + http->path, "POST b /x");
  EXPECT_EQ(ir::evaluate(world, (*flows)[5]).final, ir::VerdictKind::Deny);
}

// The question read from a line has the answer that the line tells.
TEST(Hubble, LinesReadBackMeanTheSame) {
  std::size_t asked = 0;
  const bool ok = rc::check("query --flows of replay --format hubble-json", [&] {
    const testing::Choice pick;
    const ir::World world = testing::random_world(pick);
    const ir::Resolved resolved = ir::resolve(world);
    testing::TableRunner runner(resolved);
    std::vector<bpf::Fixture> fixtures;
    for (int i = 0; i < 10; ++i) {
      const ir::Flow flow = testing::random_flow(pick, world);
      const auto address = [&](const ir::Party& p, ir::Family family) {
        if (const auto* pod = std::get_if<ir::PodParty>(&p))
          return world.inventory.pods[pod->pod].ips[family == ir::Family::V4 ? 0 : 1];
        if (const auto* node = std::get_if<ir::NodeParty>(&p))
          return world.inventory.nodes[node->node].addresses[family == ir::Family::V4 ? 0 : 1];
        return std::get<ir::AddressParty>(p).ip;
      };
      bpf::Packet p;
      const auto family = pick.flip() && world.settings.ipv6 ? ir::Family::V6 : ir::Family::V4;
      p.from = address(flow.from, family);
      p.to = address(flow.to, family);
      if (p.from.family != p.to.family) continue;
      p.protocol = flow.protocol;
      p.destination_port = flow.port;
      p.icmp_type = static_cast<std::uint8_t>(flow.port);
      fixtures.push_back({"f", {{bpf::build_frame(p), std::nullopt}}});
    }
    const auto results = bpf::replay(world, resolved, runner, fixtures);
    RC_ASSERT(static_cast<bool>(results));
    for (std::size_t i = 0; i < results->size(); ++i) {
      for (const ordered_json& line :
           HubbleWriter(world, resolved).lines(fixtures[i].packets[0], (*results)[i])) {
        const auto flows = read_flows(line.dump(), world);
        if (!flows) RC_FAIL(flows.error());
        const ir::FlowVerdict verdict = ir::evaluate(world, flows->at(0));
        const bool ingress = line["flow"]["traffic_direction"] == "INGRESS";
        const auto& half = ingress ? verdict.ingress : verdict.egress;
        RC_ASSERT(half.has_value());
        const bool authenticate = half->auth && half->auth->type != ir::AuthType::Disabled;
        const char* want = half->verdict == ir::VerdictKind::Deny       ? "DROPPED"
                           : half->verdict == ir::VerdictKind::Redirect ? "REDIRECTED"
                                                                        : "FORWARDED";
        if (!authenticate) RC_ASSERT(line["flow"]["verdict"] == want);
        ++asked;
      }
    }
  });
  EXPECT_TRUE(ok);
  EXPECT_GT(asked, 500U);
}

// Logs name pods; manifests may hold only their workload.
TEST(Hubble, PodsOfAWorkloadAreItsTemplate) {
  const auto text = testing::world_of(
      "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: n}\nspec:\n"
      "  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n"
      "    spec: {containers: [{name: c}]}\n");
  const std::string line =
      R"({"flow":{"IP":{"source":"10.9.9.9","destination":"203.0.113.7"},"l4":{"TCP":{)"
      R"("destination_port":443}},"source":{"namespace":"n","pod_name":"web-7d8f-x","workloads":)"
      R"([{"name":"web","kind":"Deployment"}]}}})";
  const auto flows = read_flows(line, text->world);
  ASSERT_TRUE(flows) << flows.error();
  EXPECT_EQ(party_name(text->world, flows->at(0).from), "n/web");
}

}  // namespace
}  // namespace policyc::cli
