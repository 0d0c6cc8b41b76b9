// Sentences and names.
#include "cli/question.h"

#include <gtest/gtest.h>

#include "cli/answer.h"
#include "ir/connectivity.h"
#include "ir/identity.h"
#include "tests/ir/world_gen.h"

namespace policyc::cli {
namespace {

TEST(Sentence, MethodPathObjectAndPort) {
  const auto q = parse_sentence("can frontend POST /v1/x to backend on 8080/TCP?");
  ASSERT_TRUE(q) << q.error();
  EXPECT_EQ(q->from, "frontend");
  EXPECT_EQ(q->to, "backend");
  EXPECT_EQ(q->port, 8080);
  EXPECT_EQ(q->protocol, ir::kProtoTcp);
  const auto* http = std::get_if<ir::HttpRequest>(&q->l7);
  ASSERT_NE(http, nullptr);
  EXPECT_EQ(http->method, "POST");
  EXPECT_EQ(http->path, "/v1/x");
}

TEST(Sentence, VerbsOfReaching) {
  for (const char* text : {"can a reach b", "Can a connect to b", "can a talk to b",
                           "why can a reach b", "why can't a reach b", "can a access b"}) {
    const auto q = parse_sentence(text);
    ASSERT_TRUE(q) << text << ": " << q.error();
    EXPECT_EQ(q->from, "a") << text;
    EXPECT_EQ(q->to, "b") << text;
    EXPECT_FALSE(q->port.has_value());
  }
}

// The verb comes first; a method that is a verb, too, is written in capitals.
TEST(Sentence, ConnectIsReachingAndCapitalsAreTheMethod) {
  const auto verb = parse_sentence("can a connect to b on 80");
  ASSERT_TRUE(verb) << verb.error();
  EXPECT_EQ(verb->l7.index(), 0U);
  const auto method = parse_sentence("can a CONNECT to b on 80");
  ASSERT_TRUE(method) << method.error();
  ASSERT_TRUE(std::holds_alternative<ir::HttpRequest>(method->l7));
  EXPECT_EQ(std::get<ir::HttpRequest>(method->l7).method, "CONNECT");
}

TEST(Sentence, SelectorsKeepTheirSpaces) {
  const auto q = parse_sentence("can role in (a, b) reach app=db on 5432");
  ASSERT_TRUE(q);
  EXPECT_EQ(q->from, "role in (a, b)");
  EXPECT_EQ(q->to, "app=db");
  EXPECT_EQ(q->port, 5432);
}

TEST(Sentence, WhoAndWhat) {
  const auto who = parse_sentence("who can reach db on 5432");
  ASSERT_TRUE(who);
  EXPECT_EQ(who->kind, Question::Kind::Who);
  EXPECT_EQ(who->to, "db");
  const auto what = parse_sentence("what can frontend reach");
  ASSERT_TRUE(what);
  EXPECT_EQ(what->kind, Question::Kind::What);
  EXPECT_EQ(what->from, "frontend");
}

TEST(Sentence, PingIsIcmp) {
  const auto q = parse_sentence("can a ping b");
  ASSERT_TRUE(q);
  EXPECT_EQ(q->protocol, ir::kProtoIcmp);
  EXPECT_EQ(q->port, 8);
}

TEST(Sentence, WhatIsNotUnderstoodIsSaid) {
  for (const char* bad : {"", "can", "can a", "can a b", "does a reach b", "can a reach b on",
                          "can a reach b on 99999", "can a reach", "who can db",
                          "what can a reach in namespace b", "what can a reach b on 80"}) {
    const auto q = parse_sentence(bad);
    EXPECT_FALSE(q) << bad;
    if (!q) {
      EXPECT_FALSE(q.error().empty());
    }
  }
}

ir::World shop() {
  ir::World world;
  world.inventory.fqdn.emplace();
  const auto pod = [&](const char* ns, const char* name, const char* app, const char* ip) {
    ir::Pod p;
    p.ns = ns;
    p.name = name;
    p.labels = {{"app", app}};
    p.ips = {*ir::parse_ip(ip)};
    p.ports = {{"http", 8080, ir::kProtoTcp}};
    world.inventory.pods.push_back(p);
  };
  pod("shop", "web-1", "web", "10.0.0.1");
  pod("shop", "web-2", "web", "10.0.0.2");
  pod("shop", "db-0", "db", "10.0.0.3");
  pod("test", "db-0", "db", "10.0.0.4");
  ir::Service service;
  service.ns = "shop";
  service.name = "web-svc";
  service.selector = {{"app", "web"}};
  service.ports = {{"", 80, ir::kProtoTcp, 8080, ""}};
  world.inventory.services.push_back(service);
  return world;
}

TEST(Names, PodsLabelsServicesEntitiesAddresses) {
  const ir::World world = shop();
  const auto one = [&](const std::string& text, const std::string& ns = "") {
    const auto side = resolve_side(world, text, ns);
    EXPECT_TRUE(side) << text << ": " << (side ? "" : side.error());
    return side ? side->parties.at(0) : ir::Party{};
  };
  EXPECT_EQ(one("shop/db-0"), ir::Party(ir::PodParty{2}));
  EXPECT_EQ(one("db-0", "test"), ir::Party(ir::PodParty{3}));
  EXPECT_EQ(one("web"), ir::Party(ir::PodParty{0}));  // two pods of one identity are one
  EXPECT_EQ(one("svc/web-svc"), ir::Party(ir::PodParty{0}));
  EXPECT_EQ(one("world"), ir::Party(ir::EntityParty{"world-ipv4"}));  // and world-ipv6
  EXPECT_EQ(one("203.0.113.7"), ir::Party(ir::AddressParty{*ir::parse_ip("203.0.113.7")}));
  EXPECT_EQ(one("api.example.com"), ir::Party(ir::NameParty{"api.example.com"}));
}

TEST(Names, AmbiguityListsTheCandidates) {
  const ir::World world = shop();
  for (const char* text : {"db", "db-0"}) {
    const auto side = resolve_side(world, text, "");
    ASSERT_FALSE(side) << text;
    EXPECT_NE(side.error().find("shop/db-0"), std::string::npos) << side.error();
    EXPECT_NE(side.error().find("test/db-0"), std::string::npos) << side.error();
  }
  EXPECT_FALSE(resolve_side(world, "nobody", ""));
}

TEST(Names, ServicePortsAreTargetPorts) {
  const ir::World world = shop();
  const auto q = parse_sentence("can shop/db-0 reach web-svc on 80");
  ASSERT_TRUE(q);
  const auto prepared = prepare(world, *q, "");
  ASSERT_TRUE(prepared) << prepared.error();
  ASSERT_EQ(prepared->flows.size(), 1U);
  EXPECT_EQ(prepared->flows[0].port, 8080);
}

// A block is judged by one address of each part, none of them inside a longer part.
TEST(Names, BlocksAreJudgedPartByPart) {
  const auto prefix = [](const char* text) { return *ir::parse_prefix(text); };
  const std::vector<ir::Prefix> inner = {prefix("10.0.0.0/24"), prefix("10.0.1.0/25")};
  EXPECT_EQ(ir::address_outside(prefix("10.0.0.0/8"), inner)->str(), "10.0.1.128");
  EXPECT_EQ(ir::address_outside(prefix("10.0.0.0/24"), inner)->str(), "10.0.0.0");
  EXPECT_FALSE(
      ir::address_outside(prefix("10.0.0.0/24"), {prefix("10.0.0.0/25"), prefix("10.0.0.128/25")}));
  EXPECT_FALSE(
      ir::address_outside(prefix("0.0.0.0/0"), {prefix("0.0.0.0/1"), prefix("128.0.0.0/1")}));
}

// Policies alone: names are label sets that the policies mention, every other label is free.
TEST(Names, WithoutInventoryTheAnswerHoldsForAnyPod) {
  ir::World world;
  world.policies.policies.resize(1);
  world.policies.policies[0].ref = {"CiliumNetworkPolicy", "shop", "p"};
  ir::Rule rule;
  const auto ns =
      testing::label_requirement("k8s", std::string(ir::kNamespaceKey), ir::Operator::In, {"shop"});
  rule.subject.requirements = {
      testing::label_requirement("any", "app", ir::Operator::In, {"backend"}), ns};
  rule.ns = "shop";
  rule.has_ingress = true;
  ir::RuleItem item;
  ir::Peer peer;
  peer.selector.requirements = {
      testing::label_requirement("any", "app", ir::Operator::In, {"frontend"}), ns};
  item.peers = {peer};
  rule.items = {item};
  world.policies.rules = {rule};

  const SourceMap sources;
  const auto ask = [&](const char* sentence) {
    const auto q = parse_sentence(sentence);
    const auto prepared = prepare(world, *q, "");
    EXPECT_TRUE(prepared) << prepared.error();
    return prepared ? answer(world, sources, *prepared).word : Answer::Word::Depends;
  };
  EXPECT_EQ(ask("can frontend reach backend on 80"), Answer::Word::Yes);
  EXPECT_EQ(ask("can backend reach backend on 80"), Answer::Word::No);
  EXPECT_EQ(ask("can world reach backend on 80"), Answer::Word::No);
  EXPECT_EQ(ask("can tier=x reach backend on 80"), Answer::Word::Depends);
}

}  // namespace
}  // namespace policyc::cli
