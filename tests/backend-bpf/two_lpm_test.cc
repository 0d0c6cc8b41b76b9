// The program over maps in Cilium's layout: entries written by hand, packets built by hand.
#include "backend-bpf/two_lpm.h"

#include "backend-bpf/kernel_maps.h"
#include "backend-bpf/packet.h"
#include "backend-bpf/runner.h"
#include "tests/backend-bpf/bpf_support.h"

namespace policyc::bpf {
namespace {

std::string bytes(std::initializer_list<int> list) {
  std::string out;
  for (const int b : list) out += static_cast<char>(b);
  return out;
}

// Little endian.
std::string u32(std::uint32_t v) {
  return bytes({static_cast<int>(v & 255U), static_cast<int>(v >> 8U & 255U),
                static_cast<int>(v >> 16U & 255U), static_cast<int>(v >> 24U)});
}

std::string policy_key(std::uint32_t length, std::uint32_t identity, int egress, int protocol,
                       int port) {
  return u32(length) + u32(identity) + bytes({egress, protocol, port >> 8, port & 255});
}

struct Value {
  int proxy_port = 0;
  bool deny = false;
  int auth = 0;
  int priority = 0;
};

std::string policy_value(const CiliumLayout& layout, std::uint32_t key_length, const Value& v) {
  std::string out = bytes({v.proxy_port >> 8, v.proxy_port & 255,
                           static_cast<int>((key_length - 40) << 3U) | (v.deny ? 1 : 0), v.auth});
  if (layout.precedence) {
    const int low = v.deny ? 255 : v.priority == 0 ? 1 : v.priority == 1 ? 2 : v.priority;
    out += bytes({low, 255, 255, 255});
  } else {
    out += bytes({v.priority, 0, 0, 0});
  }
  out.resize(layout.policy_value, '\0');
  return out;
}

class TwoLpm : public ::testing::TestWithParam<const char*> {
 protected:
  const CiliumLayout& layout = *find_cilium_layout(GetParam());

  std::vector<MapEntry> policy;
  void entry(std::uint32_t length, std::uint32_t identity, int egress, int protocol, int port,
             const Value& value) {
    policy.emplace_back(policy_key(length, identity, egress, protocol, port),
                        policy_value(layout, length, value));
  }
  MapEntry address(int bits, std::initializer_list<int> prefix, std::uint32_t identity) const {
    std::string key = u32(32 + static_cast<std::uint32_t>(bits)) +
                      bytes({0, 0, 0, prefix.size() == 4 ? 1 : 2}) + bytes(prefix);
    key.resize(kCiliumIpcacheKey, '\0');
    std::string value = u32(identity);
    value.resize(layout.ipcache_value, '\0');
    return {key, value};
  }
};

TEST_P(TwoLpm, DecidesAsTheLookupAlgorithmSays) {
  POLICYC_NEEDS_BPF();
  TwoLpmSpec spec;
  spec.layout = layout;
  spec.observe = true;
  const auto objects = compile_c(*find_clang_module(), {two_lpm_text(spec)});
  ASSERT_TRUE(objects) << objects.error();
  auto object = LoadedObject::load(objects->front(), {});
  ASSERT_TRUE(object) << object.error();

  entry(64, 300, 0, 6, 80, {});                    // 300 may reach TCP/80
  entry(64, 0, 0, 6, 8080, {15001, false, 0, 1});  // everybody TCP/8080 by the proxy
  entry(64, 300, 0, 6, 8080, {});                  // the redirect outranks this
  entry(40, 301, 0, 0, 0, {0, true, 0, 0});        // 301 is denied altogether
  entry(64, 0, 0, 17, 53, {});
  entry(48 + 6, 302, 0, 6, 1024, {});  // 1024-2047
  entry(48, 0, 0, 132, 0, {});         // any port of SCTP
  entry(64, 303, 0, 6, 443, {0, false, 0x81, 0});
  entry(64, 0, 0, 1, 8, {});  // echo request
  entry(64, 300, 1, 6, 81, {});
  entry(40, 9, 1, 0, 0, {0, true, 0, 0});
  auto map = KernelMap::of_descriptor(object->map_descriptor(kTwoLpmPolicyMap));
  ASSERT_TRUE(map) << map.error();
  ASSERT_TRUE(map->put(policy));
  auto ipcache = KernelMap::of_descriptor(object->map_descriptor(kTwoLpmIpcacheMap));
  ASSERT_TRUE(ipcache) << ipcache.error();
  std::vector<MapEntry> addresses = {
      address(32, {10, 0, 0, 1}, 300), address(32, {10, 0, 0, 2}, 301),
      address(24, {10, 0, 1, 0}, 302), address(32, {10, 0, 1, 7}, 303),
      address(64, {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 300)};
  ASSERT_TRUE(ipcache->put(addresses));

  // What was put comes back, in order.
  std::sort(policy.begin(), policy.end());
  const auto back = map->dump();
  ASSERT_TRUE(back) << back.error();
  EXPECT_EQ(*back, policy);
  const auto definition = ipcache->definition();
  ASSERT_TRUE(definition);
  EXPECT_EQ(definition->key_size, 24U);
  EXPECT_EQ(definition->value_size, layout.ipcache_value);
  EXPECT_EQ(definition->type, kMapTypeLpmTrie);

  struct Case {
    const char* from;
    ir::Protocol protocol;
    std::uint16_t port;  // or ICMP type
    Outcome outcome;
    std::uint32_t drop, chosen, identity;
    bool fragment = false;
  };
  const Case cases[] = {
      {"10.0.0.1", 6, 80, Outcome::Pass, 0, 1, 300},
      {"10.0.0.1", 6, 81, Outcome::Drop, 133, 0, 300},
      {"10.0.0.1", 6, 8080, Outcome::Redirect, 0, 2, 300},
      {"10.0.0.9", 6, 8080, Outcome::Redirect, 0, 2, 9},
      {"10.0.0.2", 6, 8080, Outcome::Drop, 181, 1, 301},
      {"10.0.0.2", 17, 53, Outcome::Drop, 181, 1, 301},
      {"10.0.0.1", 17, 53, Outcome::Pass, 0, 2, 300},
      {"10.0.1.3", 6, 1023, Outcome::Drop, 133, 0, 302},
      {"10.0.1.3", 6, 1024, Outcome::Pass, 0, 1, 302},
      {"10.0.1.3", 6, 2047, Outcome::Pass, 0, 1, 302},
      {"10.0.1.3", 6, 2048, Outcome::Drop, 133, 0, 302},
      {"10.0.1.7", 6, 443, Outcome::Drop, 189, 1, 303},
      {"10.0.1.7", 132, 9, Outcome::Pass, 0, 2, 303},
      {"10.0.1.7", 1, 8, Outcome::Pass, 0, 2, 303},
      {"10.0.1.7", 1, 0, Outcome::Drop, 133, 0, 303},
      {"2001:db8::5", 6, 80, Outcome::Pass, 0, 1, 300},
      {"2001:db8:0:1::5", 6, 80, Outcome::Drop, 133, 0, 10},
      {"10.0.0.1", 6, 80, Outcome::Drop, 157, 0, 300, true},
  };
  for (const Case& c : cases) {
    Packet p;
    p.from = *ir::parse_ip(c.from);
    p.to = *ir::parse_ip(p.from.family == ir::Family::V4 ? "10.9.9.9" : "2001:db8:ffff::1");
    p.protocol = c.protocol;
    p.destination_port = c.port;
    p.icmp_type = static_cast<std::uint8_t>(c.port);
    p.later_fragment = c.fragment;
    const auto run = object->run(kTwoLpmIngressProgram, build_frame(p));
    ASSERT_TRUE(run) << run.error();
    const std::string what = std::string(c.from) + " port " + std::to_string(c.port);
    EXPECT_EQ(run->cb[0], static_cast<std::uint32_t>(c.outcome)) << what;
    EXPECT_EQ(run->cb[1], c.drop) << what;
    EXPECT_EQ(run->cb[2], c.chosen) << what;
    EXPECT_EQ(run->cb[3], c.identity) << what;
    EXPECT_EQ(run->return_code, c.outcome == Outcome::Drop ? 2U : 0U) << what;
    EXPECT_EQ(run->mark, c.outcome == Outcome::Redirect ? 0x993a0200U : 0U) << what;
  }

  // Egress: the peer is the destination.
  Packet out;
  out.from = *ir::parse_ip("10.9.9.9");
  out.to = *ir::parse_ip("10.0.0.1");
  out.destination_port = 81;
  EXPECT_EQ(object->run(kTwoLpmEgressProgram, build_frame(out))->cb[0], 1U);
  out.to = *ir::parse_ip("192.0.2.1");
  EXPECT_EQ(object->run(kTwoLpmEgressProgram, build_frame(out))->cb[1], 181U);

  // Removed entries decide no longer.
  ASSERT_TRUE(map->remove(policy));
  EXPECT_EQ(map->dump()->size(), 0U);
  out.to = *ir::parse_ip("10.0.0.1");
  EXPECT_EQ(object->run(kTwoLpmEgressProgram, build_frame(out))->cb[1], 133U);
}

INSTANTIATE_TEST_SUITE_P(Layouts, TwoLpm, ::testing::Values("1.17", "1.18", "1.19"),
                         [](const auto& layout) {
                           std::string name = layout.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return "Cilium" + name;
                         });

}  // namespace
}  // namespace policyc::bpf
