// Images of Cilium's maps: bytes by hand from the layouts' description, files, dumps of an agent.
#include "backend-bpf/cilium_image.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "backend-bpf/agent_dump.h"

namespace policyc::bpf {
namespace {

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    out += fmt::format("{:02x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  }
  return out;
}

// Ingress: identity 300 may reach TCP/80 by the proxy and TCP/1024-2047, is denied UDP; everybody
// may reach SCTP after authentication.
struct Small {
  ir::ResolvedEndpoint endpoint;
  ir::MapEntries ingress, egress;
  AgentNumbers numbers;

  Small() {
    ir::PolicyTable table;
    for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) table.column_begin.push_back(c << 16U);
    table.classes = 1;
    table.class_of = {0};
    table.records.resize(4);
    table.records[0].verdict = ir::VerdictKind::Allow;
    table.records[1].verdict = ir::VerdictKind::Redirect;
    table.records[1].priority = 1;
    table.records[1].parser = "http";
    table.records[2].reason = ir::Reason::PolicyDeny;
    table.records[3].verdict = ir::VerdictKind::Allow;
    table.records[3].auth = ir::Auth{ir::AuthType::Spire, true};
    table.cells = {0, 0, 0, 0, 0, 0};
    endpoint.ingress = endpoint.egress = std::make_shared<const ir::PolicyTable>(table);
    ingress.records = table.records;
    ingress.classes = {
        {{ir::kProtoTcp, {80, 16}, 1}, {ir::kProtoTcp, {1024, 6}, 0}, {ir::kProtoUdp, {0, 0}, 2}}};
    ingress.wildcard = {{ir::kProtoSctp, {0, 0}, 3}};
    egress.records = table.records;
    egress.classes.resize(1);
    egress.wildcard = {{ir::kProtoAny, {}, 0}};
    numbers.identities = {{300, false}};
    numbers.proxy_ports["http/ingress"] = {15001, true};
  }
  CiliumImage image(const char* layout) const {
    return policy_map_image(*find_cilium_layout(layout), 16384, endpoint, ingress, egress, {0},
                            numbers);
  }
  std::map<std::string, std::string> bytes(const char* layout) const {
    std::map<std::string, std::string> out;
    for (const auto& [key, value] : image(layout).entries) out[hex(key)] = hex(value);
    return out;
  }
};

// Hexadecimal digits, grouped by fields for the reader.
std::string digits(std::string text) {
  std::erase(text, ' ');
  return text;
}

TEST(CiliumImage, PolicyMapByHand) {
  // length, identity, direction, protocol, port: port, length, flags, auth, rank; 1.19 ranks by
  // precedence, and has a cookie behind it
  struct Row {
    const char *key, *value, *with_precedence;
  };
  const Row rows[] = {
      // length 64, identity 300, ingress, TCP, 80; port 15001, length 24, priority 1
      {"40000000 2c010000 00 06 0050", "3a99 c0 00 01 000000", "3a99 c0 00 02ffffff 00000000"},
      // 48 + 6 bits of port 1024; length 14
      {"36000000 2c010000 00 06 0400", "0000 70 00 00 000000", "0000 70 00 01ffffff 00000000"},
      // any port of UDP; length 8, deny
      {"30000000 2c010000 00 11 0000", "0000 41 00 00 000000", "0000 41 00 ffffffff 00000000"},
      // anybody, any port of SCTP; auth 1, explicit
      {"30000000 00000000 00 84 0000", "0000 40 81 00 000000", "0000 40 81 01ffffff 00000000"},
      // anybody, egress, everything
      {"28000000 00000000 01 00 0000", "0000 00 00 00 000000", "0000 00 00 01ffffff 00000000"}};
  std::map<std::string, std::string> by_hand, counters, precedence;
  for (const Row& row : rows) {
    by_hand[digits(row.key)] = digits(row.value);
    counters[digits(row.key)] = digits(row.value) + std::string(32, '0');
    precedence[digits(row.key)] = digits(row.with_precedence);
  }
  const Small small;
  EXPECT_EQ(small.bytes("1.18"), by_hand);
  EXPECT_EQ(small.bytes("1.17"), counters);  // two counters behind the value
  EXPECT_EQ(small.bytes("1.19"), precedence);
  const CiliumImage image = small.image("1.18");
  EXPECT_EQ(image.definition, (MapDefinition{11, 12, 8, 16384, 1}));
  EXPECT_EQ(image.placeholders, std::vector<std::string>{"proxy port 15001 of http/ingress"});
}

TEST(CiliumImage, IpcacheByHand) {
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0},
                  {*ir::parse_prefix("10.1.0.0/16"), 1},
                  {*ir::parse_prefix("2001:db8::7/128"), 1}};
  AgentNumbers numbers;
  numbers.identities = {{9, false}, {0x01000001, true}};
  const CiliumImage image = ipcache_image(*find_cilium_layout("1.18"), view, numbers);
  std::map<std::string, std::string> got;
  for (const auto& [key, value] : image.entries) got[hex(key)] = hex(value);
  const std::string rest(40, '0');
  const std::map<std::string, std::string> by_hand = {
      {digits("20000000 0000 00 01") + std::string(32, '0'), "09000000" + rest},
      {digits("30000000 0000 00 01 0a010000") + std::string(24, '0'), "01000001" + rest},
      {digits("a0000000 0000 00 02 20010db8000000000000000000000007"), "01000001" + rest}};
  EXPECT_EQ(got, by_hand);
  EXPECT_EQ(image.pin, "cilium_ipcache_v2");
  EXPECT_EQ(image.placeholders, std::vector<std::string>{"identity 16777217"});
  const CiliumImage old = ipcache_image(*find_cilium_layout("cilium-1.17"), view, numbers);
  EXPECT_EQ(old.pin, "cilium_ipcache");
  EXPECT_EQ(old.definition, (MapDefinition{11, 24, 12, 512000, 1}));
}

TEST(CiliumImage, LayoutsByRelease) {
  EXPECT_EQ(find_cilium_layout("cilium-1.16"), nullptr);
  EXPECT_EQ(find_cilium_layout("cilium-1.20")->name, "1.19");
  EXPECT_EQ(find_cilium_layout("1.17")->policy_value, 24U);
}

TEST(CiliumImage, FilesComeBackAndAnyBytesAreSafe) {
  CiliumImage image = Small().image("1.19");
  image.pin = "cilium_policy_v2_00042";
  const std::string file = write_image(image);
  const auto back = read_cilium_image(file);
  ASSERT_TRUE(back) << back.error();
  EXPECT_EQ(*back, image);
  const auto text = print_image(*back);
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("TCP/1024-2047      allow"), std::string::npos) << *text;
  EXPECT_NE(text->find("redirect to 15001"), std::string::npos);
  for (std::size_t n = 0; n < file.size(); ++n) {
    EXPECT_FALSE(read_cilium_image(std::string_view(file).substr(0, n))) << n;
  }
  EXPECT_FALSE(read_cilium_image(file + 'x'));
  for (std::size_t at = 0; at < file.size(); ++at) {
    std::string other = file;
    other[at] = static_cast<char>(other[at] ^ 0x81);
    const auto read = read_cilium_image(other);
    if (!read) continue;
    const auto printed = print_image(*read);
    EXPECT_FALSE(printed && printed->empty());
  }
}

TEST(CiliumImage, DifferencesAreTold) {
  const CiliumImage image = Small().image("1.17");
  std::vector<MapEntry> map = image.entries;
  EXPECT_TRUE(compare(image, map).empty());
  map[0].second[8] = 7;  // a counter
  EXPECT_TRUE(compare(image, map).empty());
  map[1].second[2] = static_cast<char>(map[1].second[2] ^ 1);  // deny
  const MapEntry gone = map[2];
  map.erase(map.begin() + 2);
  MapEntry more = map.back();
  more.first[7] = 0x7f;
  map.push_back(more);
  std::sort(map.begin(), map.end());
  const MapDifference d = compare(image, map);
  EXPECT_EQ(d.missing, std::vector<MapEntry>{gone});
  EXPECT_EQ(d.added, std::vector<MapEntry>{more});
  ASSERT_EQ(d.different.size(), 1U);
  EXPECT_EQ(d.different[0].first, image.entries[1].first);
}

TEST(AgentDump, EveryForm) {
  AgentDump dump;
  std::string node;
  ASSERT_TRUE(read_agent_dump(
      R"({"10.0.0.1/32":["identity=4711 encryptkey=0 tunnelendpoint=0.0.0.0 flags=<none>"],
          "2001:db8::/64":["identity=16777300"]})",
      dump, node));
  EXPECT_EQ(dump.ipcache.at(*ir::parse_prefix("10.0.0.1/32")), 4711U);
  EXPECT_EQ(dump.ipcache.at(*ir::parse_prefix("2001:db8::/64")), 16777300U);
  // 20480 = port 80, 39226 = port 15001 as network order reads on a little-endian machine.
  const char* entry =
      R"([{"ProxyPortNetwork":39226,"Key":{"Prefixlen":64,"Identity":1,"TrafficDirection":1,
           "Nexthdr":6,"DestPortNetwork":20480}}])";
  ASSERT_TRUE(read_agent_dump(entry, dump, node));
  ASSERT_TRUE(
      read_agent_dump(fmt::format(R"([{{"EndpointID":"7","Content":{}}}])", entry), dump, node));
  EXPECT_EQ(dump.redirects.at({true, std::uint8_t{6}, std::uint16_t{80}, 64U}),
            (std::vector<std::uint16_t>{15001, 15001}));
  ASSERT_TRUE(read_agent_dump(
      R"({"node":"n1","ipcache":{"10.0.0.2/32":5},"endpoints":{"a/b":12},
          "proxy_ports":{"dns/egress":10001}})",
      dump, node));
  EXPECT_EQ(node, "n1");
  EXPECT_EQ(dump.endpoints.at("a/b"), 12);
  EXPECT_EQ(dump.proxy_ports.at("dns/egress"), 10001);
  for (const char* bad : {"", "3", "[1]", R"([{"Key":{},"ProxyPortNetwork":1}])", R"({"x":["y"]})",
                          R"({"node":3})", R"({"endpoints":{"a":0}})", R"({"ipcache":{"a":1}})"}) {
    EXPECT_FALSE(read_agent_dump(bad, dump, node)) << bad;
  }
}

TEST(AgentDump, NumbersReplaceStandIns) {
  ir::Resolved resolved;
  resolved.identities.resize(4);
  const std::uint32_t ours[] = {2, 256, 257, 0x01000001};
  for (std::size_t i = 0; i < 4; ++i) resolved.identities[i].number = ours[i];
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0},
                  {*ir::parse_prefix("10.0.0.1/32"), 1},
                  {*ir::parse_prefix("10.0.0.2/32"), 2},
                  {*ir::parse_prefix("10.0.0.3/32"), 1},
                  {*ir::parse_prefix("192.0.2.0/24"), 3}};
  AgentDump dump;
  dump.ipcache[*ir::parse_prefix("10.0.0.1/32")] = 257;
  dump.ipcache[*ir::parse_prefix("192.0.2.0/24")] = 0x01000009;
  auto numbers = agent_numbers(resolved, view, {}, dump);
  ASSERT_TRUE(numbers) << numbers.error();
  EXPECT_EQ(numbers->identities[0].value, 2U);
  EXPECT_FALSE(numbers->identities[0].placeholder);
  EXPECT_EQ(numbers->identities[1].value, 257U);
  EXPECT_FALSE(numbers->identities[1].placeholder);
  // Not told: a stand-in, and not the number that the agent gave to another.
  EXPECT_TRUE(numbers->identities[2].placeholder);
  EXPECT_EQ(numbers->identities[2].value, 258U);
  EXPECT_EQ(numbers->identities[3].value, 0x01000009U);
  dump.ipcache[*ir::parse_prefix("10.0.0.3/32")] = 300;
  EXPECT_FALSE(agent_numbers(resolved, view, {}, dump));
}

}  // namespace
}  // namespace policyc::bpf
