// Addresses, ports, labels, name patterns.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ir/identity.h"
#include "ir/ip.h"
#include "ir/l4.h"
#include "ir/l7_match.h"
#include "ir/label.h"

namespace policyc::ir {
namespace {

TEST(Ip, ParsesAndPrints) {
  EXPECT_EQ(parse_ip("10.0.0.1")->str(), "10.0.0.1");
  EXPECT_EQ(parse_ip("10.0.0.1")->v4(), 0x0A000001U);
  EXPECT_EQ(parse_ip("2001:db8:0::1")->str(), "2001:db8::1");
  for (const char* bad : {"", "10.0.0", "10.0.0.256", "1.2.3.4/8", ":::", "010.0.0.1"}) {
    EXPECT_FALSE(parse_ip(bad)) << bad;
  }
}

TEST(Prefix, MasksHostBits) {
  EXPECT_EQ(parse_prefix("10.1.2.3/8")->str(), "10.0.0.0/8");
  EXPECT_EQ(parse_prefix("10.1.2.3", true)->str(), "10.1.2.3/32");
  for (const char* bad : {"10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/08",
                          "::/129", "172.224.3/32"}) {
    EXPECT_FALSE(parse_prefix(bad)) << bad;
  }
}

RC_GTEST_PROP(Prefix, ContainsIsBitwise, (std::uint32_t a, std::uint32_t b)) {
  const int length = *rc::gen::inRange(0, 33);
  const Prefix p = make_prefix(IpAddress::from_v4(a), length);
  const std::uint32_t mask = length == 0 ? 0 : ~std::uint32_t{0} << (32 - length);
  RC_ASSERT(p.contains(IpAddress::from_v4(b)) == ((a & mask) == (b & mask)));
  RC_ASSERT(p.address.v4() == (a & mask));
}

RC_GTEST_PROP(Ports, CoverIsExactDisjointAndSmall, ()) {
  const auto first = static_cast<std::uint16_t>(*rc::gen::inRange(1, 65536));
  const auto last = static_cast<std::uint16_t>(*rc::gen::inRange(int{first}, 65536));
  const auto blocks = port_blocks(first, last);
  RC_ASSERT(blocks.size() <= 30U);
  std::uint32_t next = first;
  for (const PortBlock& b : blocks) {
    RC_ASSERT(b.port == next);
    const std::uint32_t size = 1U << (16U - b.length);
    RC_ASSERT(b.port % size == 0U);
    RC_ASSERT(b.last() == b.port + size - 1);
    next = b.port + size;
  }
  RC_ASSERT(next == last + 1U);
}

// The cover that Cilium's engine was seen to make.
TEST(Ports, CoverOfKnownRanges) {
  const std::vector<PortBlock> want = {{1000, 13}, {1008, 12}, {1024, 7},  {1536, 8},
                                       {1792, 9},  {1920, 10}, {1984, 12}, {2000, 16}};
  EXPECT_EQ(port_blocks(1000, 2000), want);
  EXPECT_EQ(port_blocks(0, 100), (std::vector<PortBlock>{{0, 10}, {64, 11}, {96, 14}, {100, 16}}));
  EXPECT_EQ(port_blocks(0, 65535), (std::vector<PortBlock>{{0, 0}}));
  EXPECT_EQ(port_blocks(0, 0), (std::vector<PortBlock>{{0, 0}}));
  EXPECT_EQ(port_blocks(90, 80), (std::vector<PortBlock>{{90, 16}}));
  EXPECT_EQ(port_blocks(1, 65535).size(), 16U);
}

TEST(Labels, KeysSplitAtTheSource) {
  EXPECT_EQ(split_key("app"), std::pair(std::string("any"), std::string("app")));
  EXPECT_EQ(split_key("k8s:app"), std::pair(std::string("k8s"), std::string("app")));
  EXPECT_EQ(split_key("app.kubernetes.io/name").first, "any");
  EXPECT_EQ(split_key("reserved:host"), std::pair(std::string("reserved"), std::string("host")));
  EXPECT_EQ(split_key("reserved.host"), std::pair(std::string("reserved"), std::string("host")));
  EXPECT_EQ(split_key("$host"), std::pair(std::string("reserved"), std::string("host")));
}

TEST(Labels, RequirementsOnPresentAndAbsentKeys) {
  const LabelSet set({{"k8s", "app", "web"}});
  const auto matches = [&](Operator op, std::vector<std::string> values, const char* key) {
    Requirement r;
    r.key = key;
    r.op = op;
    r.values = std::move(values);
    return r.matches(set);
  };
  EXPECT_TRUE(matches(Operator::In, {"db", "web"}, "app"));
  EXPECT_FALSE(matches(Operator::In, {"db"}, "app"));
  EXPECT_FALSE(matches(Operator::In, {"web"}, "tier"));
  EXPECT_TRUE(matches(Operator::NotIn, {"db"}, "app"));
  EXPECT_FALSE(matches(Operator::NotIn, {"web"}, "app"));
  EXPECT_TRUE(matches(Operator::NotIn, {"web"}, "tier"));
  EXPECT_TRUE(matches(Operator::Exists, {}, "app"));
  EXPECT_TRUE(matches(Operator::DoesNotExist, {}, "tier"));
}

TEST(Labels, CidrRequirementHoldsForEveryLongerPrefix) {
  const LabelSet set({cidr_label(*parse_prefix("10.1.2.0/24")), {"reserved", "world-ipv4", ""}});
  Requirement r;
  r.source = "cidr";
  for (const auto& [prefix, want] :
       std::vector<std::pair<const char*, bool>>{{"10.0.0.0/8", true},
                                                 {"10.1.2.0/24", true},
                                                 {"10.1.2.0/25", false},
                                                 {"11.0.0.0/8", false}}) {
    r.cidr = parse_prefix(prefix);
    EXPECT_EQ(r.matches(set), want) << prefix;
  }
}

// Which labels make an identity.
TEST(Identity, FiltersLabels) {
  for (const char* kept :
       {"app", "app.kubernetes.io/name", "pool", "node-role.kubernetes.io/worker",
        "io.kubernetes.pod.namespace", "team"}) {
    EXPECT_TRUE(is_identity_label(Settings{}, "k8s", kept)) << kept;
  }
  for (const char* dropped : {"pod-template-hash", "controller-revision-hash", "kubernetes.io/x",
                              "statefulset.kubernetes.io/pod-name", "topology.beta.kubernetes.io/z",
                              "batch.kubernetes.io/controller-uid", "k8s.io/x"}) {
    EXPECT_FALSE(is_identity_label(Settings{}, "k8s", dropped)) << dropped;
  }
}

// Names and patterns of toFQDNs.
TEST(Dns, PatternsStayWithinOneLabel) {
  EXPECT_TRUE(dns_pattern_matches("*", "a.b.c"));
  EXPECT_TRUE(dns_pattern_matches("*.cilium.io", "a.cilium.io"));
  EXPECT_FALSE(dns_pattern_matches("*.cilium.io", "cilium.io"));
  EXPECT_FALSE(dns_pattern_matches("*.cilium.io", "a.b.cilium.io"));
  EXPECT_TRUE(dns_pattern_matches("*cilium.io", "cilium.io"));
  EXPECT_TRUE(dns_pattern_matches("*cilium.io", "subcilium.io"));
  EXPECT_FALSE(dns_pattern_matches("*cilium.io", "sub.cilium.io"));
  EXPECT_TRUE(dns_pattern_matches("API.example.com", "api.EXAMPLE.com."));
  EXPECT_TRUE(dns_pattern_matches("a*b*c.x", "a1b2c.x"));
  EXPECT_FALSE(dns_pattern_matches("a.b", "axb"));
}

TEST(Http, FullMatchOnMethodPathHostAndHeaders) {
  HttpRule rule;
  rule.method = "GET";
  rule.path = "/public(/.*)?";
  rule.headers.push_back({"x-token", "42", false, HeaderAction::None, {}});
  HttpRequest request{"GET", "/public/a?b=c", "h", {{"X-Token", "42"}}};
  EXPECT_TRUE(http_matches(rule, request));
  request.path = "/public2";
  EXPECT_FALSE(http_matches(rule, request));
  request.path = "/public";
  EXPECT_TRUE(http_matches(rule, request));
  request.headers[0].second = "43";
  EXPECT_FALSE(http_matches(rule, request));
  rule.headers[0].action = HeaderAction::Log;
  EXPECT_TRUE(http_matches(rule, request));
  request.method = "GETS";
  EXPECT_FALSE(http_matches(rule, request));
}

}  // namespace
}  // namespace policyc::ir
