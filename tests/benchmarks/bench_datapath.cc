// bench_datapath: what a packet costs in our program, and in one that looks up Cilium's maps, over
// 65,536 different packets, each program in turn in every round (docs/testing.md).
#include <fmt/format.h>
#include <fmt/ostream.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "backend-bpf/compiler.h"
#include "backend-bpf/image.h"
#include "backend-bpf/kernel.h"
#include "backend-bpf/kernel_maps.h"
#include "backend-bpf/packet.h"
#include "backend-bpf/program.h"
#include "backend-bpf/two_lpm.h"
#include "ir/base/file.h"
#include "tests/benchmarks/datapath_world.h"

namespace policyc::bench {
namespace {

constexpr std::size_t kPackets = 65536;
// Three times through the stream, so that what a program finds in the caches is its own.
constexpr unsigned kRuns = 3 * kPackets;

// Puts the next packet of the stream into the frame, so that each run sees another one. The parts
// are stored where the program will look, as a network card would have done.
constexpr const char* kStream = R"c(
// ---- the stream of packets
// Arrays of their own, so that a program draws no more through the caches than it looks at.
struct {
  u32 next, passed, reserved[14];
  u32 from4[65536];     // network order
  u16 port[65536];      // host order; ICMP: the type
  u8 protocol[65536];
  u32 who[65536];       // leaf of our tables, or identity number
  u32 from6[65536][4];  // network order
} stream SEC(".data.stream");

INLINE int put_v4(struct __sk_buff *skb) {
  u8 *frame = (u8 *)(long)skb->data;
  if (frame + 38 > (u8 *)(long)skb->data_end) return 0;
  u32 i = stream.next++ & 65535;
  *(u32 *)(frame + 26) = stream.from4[i];
  frame[34] = stream.port[i];  // a type, or part of the source port
  *(u16 *)(frame + 36) = __builtin_bswap16(stream.port[i]);
  frame[23] = stream.protocol[i];
  return 1;
}
INLINE int put_v6(struct __sk_buff *skb) {
  u8 *frame = (u8 *)(long)skb->data;
  if (frame + 58 > (u8 *)(long)skb->data_end) return 0;
  u32 i = stream.next++ & 65535;
  *(u32 *)(frame + 22) = stream.from6[i][0];
  *(u32 *)(frame + 26) = stream.from6[i][1];
  *(u32 *)(frame + 30) = stream.from6[i][2];
  *(u32 *)(frame + 34) = stream.from6[i][3];
  frame[54] = stream.port[i];
  *(u16 *)(frame + 56) = __builtin_bswap16(stream.port[i]);
  frame[20] = stream.protocol[i];
  return 1;
}
)c";

// Programs over our tables. What a step returns is kept from being optimised away.
constexpr const char* kOurs = R"c(
#define BENCH(name, put, what) \
  SEC("tc") int name(struct __sk_buff *skb) { \
    if (!put(skb)) return TC_ACT_SHOT; \
    int action = what; \
    stream.passed += action == TC_ACT_OK; \
    return action; \
  }
INLINE int answer_decision(void) {
  u32 i = stream.next++ & 65535;
  struct verdict v = judge(current_half(), INGRESS, stream.who[i],
                           class_of_protocol(stream.protocol[i]),
                           stream.port[i], 0);
  return v.outcome == OUTCOME_PASS ? TC_ACT_OK : TC_ACT_SHOT;
}
SEC("tc") int bench_decision(struct __sk_buff *skb) {
  (void)skb;
  int action = answer_decision();
  stream.passed += action == TC_ACT_OK;
  return action;
}
SEC("tc") int bench_one_half(struct __sk_buff *skb) {
  (void)skb;
  u32 i = stream.next++ & 65535;
  struct verdict v = judge(0, INGRESS, stream.who[i],
                           class_of_protocol(stream.protocol[i]),
                           stream.port[i], 0);
  int action = v.outcome == OUTCOME_PASS ? TC_ACT_OK : TC_ACT_SHOT;
  stream.passed += action == TC_ACT_OK;
  return action;
}
SEC("tc") int bench_walk(struct __sk_buff *skb) {
  (void)skb;
  u32 i = stream.next++ & 65535;
  int action = (stream.who[i] + stream.protocol[i] + stream.port[i]) & 2;
  stream.passed += action == TC_ACT_OK;
  return action;
}
SEC("tc") int bench_identity(struct __sk_buff *skb) {
  (void)skb;
  u32 i = stream.next++ & 65535;
  int action = leaf_of_v4(current_half(), __builtin_bswap32(stream.from4[i])) & 2;
  stream.passed += action == TC_ACT_OK;
  return action;
}
BENCH(bench_empty, put_v4, TC_ACT_OK)
BENCH(bench_empty6, put_v6, TC_ACT_OK)
BENCH(bench_policyc, put_v4, policyc(skb, INGRESS))
BENCH(bench_policyc6, put_v6, policyc(skb, INGRESS))
)c";

// The whole program with connection tracking around it.
constexpr const char* kTracked = R"c(
SEC("tc") int bench_stateful(struct __sk_buff *skb) {
  if (!put_v4(skb)) return TC_ACT_SHOT;
  int action = policyc(skb, INGRESS);
  stream.passed += action == TC_ACT_OK;
  return action;
}
)c";

// Packets of many endpoints: each jumps to the program of its own, as a node's device does.
constexpr const char* kManyEndpoints = R"c(
struct {
  int (*type)[3];  // program array
  int (*max_entries)[ENDPOINTS];
  u32 *key;
  u32 *value;
} endpoints SEC(".maps");
static long (*const tail_call)(void *context, void *map, u32 index) = (void *)12;
SEC("tc") int bench_dispatch(struct __sk_buff *skb) {
  if (!put_v4(skb)) return TC_ACT_SHOT;
  tail_call(skb, &endpoints, (stream.next - 1 & 65535) % ENDPOINTS);
  return TC_ACT_SHOT;
}
SEC("tc") int bench_endpoint(struct __sk_buff *skb) {
  int action = JUDGE(skb, INGRESS);
  stream.passed += action == TC_ACT_OK;
  return action;
}
SEC("tc") int bench_nothing(struct __sk_buff *skb) {
  (void)skb;
  stream.passed++;
  return TC_ACT_OK;
}
)c";

// Programs over Cilium's maps: the whole, and its parts.
constexpr const char* kTheirs = R"c(
#define BENCH(name, put, what) \
  SEC("tc") int name(struct __sk_buff *skb) { \
    if (!put(skb)) return TC_ACT_SHOT; \
    int action = what; \
    stream.passed += action == TC_ACT_OK; \
    return action; \
  }
INLINE int only_parse(struct __sk_buff *skb) {
  struct headers h = {};
  if (parse(skb, &h) || h.family == 0) return TC_ACT_SHOT;
  return (h.port + h.protocol) & 2;
}
INLINE int parse_and_ipcache(struct __sk_buff *skb) {
  struct headers h = {};
  if (parse(skb, &h) || h.family != 4) return TC_ACT_SHOT;
  return (h.port + h.protocol + identity_of(4, (const u32 *)(h.ip + 12))) & 2;
}
INLINE int parse_and_policy(struct __sk_buff *skb) {
  u32 identity = stream.who[(stream.next - 1) & 65535];  // of the packet just put
  struct headers h = {};
  if (parse(skb, &h) || h.family != 4) return TC_ACT_SHOT;
  struct verdict v = judge(INGRESS, identity, h.protocol, h.port, 0);
  return v.outcome == OUTCOME_PASS ? TC_ACT_OK : TC_ACT_SHOT;
}
// The three lookups and nothing else, in one program. With `identity` from the stream the policy
// lookups need not wait for the ipcache.
INLINE int bare(struct __sk_buff *skb, int dependent) {
  u32 identity = stream.who[(stream.next - 1) & 65535];
  struct headers h = {};
  if (parse(skb, &h) || h.family != 4) return TC_ACT_SHOT;
  u32 found = identity_of(4, (const u32 *)(h.ip + 12));
  struct policy_key key = {64, dependent ? found : identity, INGRESS, h.protocol,
                           __builtin_bswap16(h.port)};
  const struct policy_value *peer = map_lookup(&policy, &key);
  key.identity = 0;
  const struct policy_value *any = map_lookup(&policy, &key);
  return (found + (peer ? peer->deny_length : 0) + (any ? any->deny_length : 0)) & 2;
}
BENCH(bench_bare, put_v4, bare(skb, 1))
BENCH(bench_bare_independent, put_v4, bare(skb, 0))
BENCH(bench_parse, put_v4, only_parse(skb))
BENCH(bench_ipcache, put_v4, parse_and_ipcache(skb))
BENCH(bench_lookups, put_v4, parse_and_policy(skb))
BENCH(bench_two_lpm, put_v4, two_lpm(skb, INGRESS))
BENCH(bench_two_lpm6, put_v6, two_lpm(skb, INGRESS))
)c";

[[noreturn]] void stop(int code, const std::string& message) {
  fmt::print(std::cerr, "bench_datapath: {}\n", message);
  std::exit(code);
}

template <class T>
T need(Expected<T> value) {
  if (!value) stop(3, value.error());
  return std::move(*value);
}

// The stream's map. `who` gives what stands for the peer.
template <class Who>
bpf::MapValue stream_value(const World& world, const Who& who) {
  std::string out(64 + (4 + 2 + 1 + 4 + 16) * kPackets, '\0');
  std::size_t offset = 64;
  const auto array = [&](auto value_of) {
    for (const Packet& p : world.traffic) {
      const auto value = value_of(p);
      std::memcpy(out.data() + offset, &value, sizeof value);
      offset += sizeof value;
    }
  };
  array([](const Packet& p) {
    std::uint32_t v4 = 0;
    std::memcpy(&v4, p.from.bytes.data(), sizeof v4);
    return v4;
  });
  array([](const Packet& p) { return p.port; });
  array([](const Packet& p) { return p.protocol; });
  array([&](const Packet& p) -> std::uint32_t { return who(p); });
  array([](const Packet& p) { return p.from.bytes; });
  return {".data.stream", std::move(out)};
}

std::string u32_bytes(std::uint32_t v) {
  return std::string(reinterpret_cast<const char*>(&v), 4);
}

std::vector<bpf::MapEntry> ipcache_entries(const World& world, const bpf::CiliumLayout& layout) {
  std::vector<bpf::MapEntry> out;
  for (const auto& [prefix, who] : world.view.ipcache) {
    const bool v4 = prefix.address.family == ir::Family::V4;
    std::string key = u32_bytes(bpf::kCiliumIpcachePrefix + prefix.length);
    key += std::string("\0\0\0", 3) + static_cast<char>(v4 ? 1 : 2);
    key.append(reinterpret_cast<const char*>(prefix.address.bytes.data()), 16);
    std::string value = u32_bytes(world.identities[who].number);
    value.resize(layout.ipcache_value, '\0');
    out.emplace_back(std::move(key), std::move(value));
  }
  return out;
}

std::vector<bpf::MapEntry> policy_entries(const World& world, const bpf::CiliumLayout& layout) {
  std::vector<bpf::MapEntry> out;
  const auto add = [&](std::uint32_t number, const std::vector<Rule>& rules) {
    for (const Rule& r : rules) {
      const std::uint32_t length = r.protocol == 0 ? 0U : 8U + r.block.length;
      std::string key = u32_bytes(bpf::kCiliumPolicyPrefix + length) + u32_bytes(number);
      key += '\0';
      key += static_cast<char>(r.protocol);
      key += static_cast<char>(r.block.port >> 8U);
      key += static_cast<char>(r.block.port & 0xFFU);
      std::string value(layout.policy_value, '\0');
      value[2] = static_cast<char>(length << 3U | (r.deny ? 1U : 0U));
      out.emplace_back(std::move(key), std::move(value));
    }
  };
  for (std::size_t i = 0; i < world.identities.size(); ++i) {
    add(world.identities[i].number, world.rules[i]);
  }
  add(0, world.for_any);
  return out;
}

struct Measured {
  std::vector<double> ns;
  double median() const {
    std::vector<double> sorted = ns;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
  double least() const { return *std::min_element(ns.begin(), ns.end()); }
};

// One program of one object.
struct Entrant {
  std::string name;
  const bpf::LoadedObject* object;
  const char* program;
  bool judges;  // answers with the verdict: all that do must let the same packets pass
};

// How many packets the programs of an object have let pass so far.
std::uint32_t passed(const bpf::LoadedObject& object) {
  const int map = object.map_descriptor(".data.stream");
  void* at = mmap(nullptr, 64, PROT_READ, MAP_SHARED, map, 0);
  if (at == MAP_FAILED) stop(3, "the stream's map cannot be read");
  const std::uint32_t out = static_cast<const std::uint32_t*>(at)[1];
  munmap(at, 64);
  return out;
}

// What this thread has spent: others on the machine disturb caches, but not the clock.
double processor_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

std::map<std::string, Measured> race(const std::vector<Entrant>& entrants,
                                     const std::vector<std::uint8_t>& frame, unsigned rounds) {
  std::map<std::string, Measured> out;
  std::optional<std::uint32_t> let_pass;
  for (unsigned round = 0; round <= rounds; ++round) {
    for (const Entrant& e : entrants) {
      const std::uint32_t before = passed(*e.object);
      const double begin = processor_ns();
      need(e.object->run(e.program, frame, kRuns));
      const double took = processor_ns() - begin;
      const std::uint32_t now = passed(*e.object) - before;
      if (e.judges && let_pass.value_or(now) != now) {
        stop(1, fmt::format("{} lets {} packets pass, another program {}", e.name, now, *let_pass));
      }
      if (e.judges) let_pass = now;
      // The first round warms up.
      if (round > 0) out[e.name].ns.push_back(took / kRuns);
    }
  }
  return out;
}

double milliseconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - since)
      .count();
}

class Bench {
 public:
  Bench(unsigned rounds, std::string module) : rounds_(rounds), module_(std::move(module)) {}

  // One world, all programs. `suffix` tells its rows from others of the same size.
  void run(const WorldSpec& spec, const std::string& suffix, bool steps);
  // A node's endpoints, each with a policy of its own over the same addresses.
  void run_endpoints(const WorldSpec& spec, std::uint32_t endpoints);

  nlohmann::ordered_json results = nlohmann::ordered_json::array();

 private:
  void add_result(const WorldSpec& spec, const std::string& name, const Measured& m) {
    results.push_back({{"entries", spec.entries},
                       {"prefixes", spec.prefixes},
                       {"program", name},
                       {"ns", std::round(m.median() * 10) / 10},
                       {"min", std::round(m.least() * 10) / 10},
                       {"rounds", rounds_}});
  }

  unsigned rounds_;
  std::string module_;
};

void Bench::run(const WorldSpec& spec, const std::string& suffix, bool steps) {
  const World world = make_world(spec);
  const bool v4 = spec.family == ir::Family::V4;
  const bpf::CiliumLayout& layout = *bpf::find_cilium_layout("1.18");

  auto begin = std::chrono::steady_clock::now();
  const bpf::IdentityImage identities = bpf::encode_identities(world.view, world.identities);
  const bpf::EncodedPolicy policy = need(bpf::encode_policy(world.ingress, world.egress));
  const bpf::ClassImage classes = bpf::encode_classes({&policy}, world.identities.size());
  const double encode_ms = milliseconds(begin);
  const bpf::SizeClass sizes = bpf::size_class(identities, classes, policy.image);

  bpf::TwoLpmSpec two;
  two.layout = layout;
  two.policy_entries =
      std::max<std::uint32_t>(16384, std::bit_ceil(static_cast<std::uint32_t>(spec.entries)));
  const std::vector<std::string> objects = need(bpf::compile_c(
      module_, {bpf::program_text({.sizes = sizes}) + kStream + kOurs,
                bpf::two_lpm_text(two) + kStream + kTheirs,
                bpf::program_text({.sizes = sizes, .stateful = true}) + kStream + kTracked}));
  const auto leaf = [&](const Packet& p) {
    const std::uint32_t index = p.identity;
    return sizes.identity_shift == 0
               ? index + 1
               : (index + 1) << sizes.identity_shift | classes.class_of[index];
  };
  const std::string node = bpf::node_value(identities, classes, sizes);
  const std::string tables = bpf::policy_value(policy.image, classes, 0, sizes);
  begin = std::chrono::steady_clock::now();
  auto ours = need(bpf::LoadedObject::load(
      objects[0], {{bpf::kNodeMap, node}, {bpf::kPolicyMap, tables}, stream_value(world, leaf)}));
  const double load_ms = milliseconds(begin);
  auto theirs = need(bpf::LoadedObject::load(objects[1], {stream_value(world, [&](const Packet& p) {
                                               return world.identities[p.identity].number;
                                             })}));
  std::optional<bpf::LoadedObject> tracked;
  if (steps) {
    tracked = need(bpf::LoadedObject::load(
        objects[2], {{bpf::kNodeMap, node}, {bpf::kPolicyMap, tables}, stream_value(world, leaf)}));
  }
  auto map = need(bpf::KernelMap::of_descriptor(theirs.map_descriptor(bpf::kTwoLpmIpcacheMap)));
  need(map.put(ipcache_entries(world, layout)));
  map = need(bpf::KernelMap::of_descriptor(theirs.map_descriptor(bpf::kTwoLpmPolicyMap)));
  const std::vector<bpf::MapEntry> entries = policy_entries(world, layout);
  begin = std::chrono::steady_clock::now();
  for (const bpf::MapEntry& e : entries) need(map.put({e}));
  const double single_ms = milliseconds(begin);
  begin = std::chrono::steady_clock::now();
  need(ours.write({bpf::kPolicyMap, tables}));
  const double write_ms = milliseconds(begin);

  bpf::Packet p;
  p.from = world.traffic[0].from;
  p.to = v4 ? *ir::parse_ip("10.1.2.3") : *ir::parse_ip("fd00::1");
  p.payload.assign(46, 'x');
  const std::vector<std::uint8_t> frame = bpf::build_frame(p);
  std::vector<Entrant> entrants = {
      {"empty", &ours, v4 ? "bench_empty" : "bench_empty6", false},
      {"policyc", &ours, v4 ? "bench_policyc" : "bench_policyc6", true},
      {"two-lpm", &theirs, v4 ? "bench_two_lpm" : "bench_two_lpm6", true}};
  if (steps) {
    entrants.push_back({"parse", &theirs, "bench_parse", false});
    entrants.push_back({"parse-ipcache", &theirs, "bench_ipcache", false});
    entrants.push_back({"parse-policy", &theirs, "bench_lookups", true});
    entrants.push_back({"bare-lookups", &theirs, "bench_bare", false});
    entrants.push_back({"bare-independent", &theirs, "bench_bare_independent", false});
    entrants.push_back({"walk", &ours, "bench_walk", false});
    entrants.push_back({"identity-step", &ours, "bench_identity", false});
    entrants.push_back({"decision-step", &ours, "bench_decision", true});
    entrants.push_back({"decision-one-half", &ours, "bench_one_half", true});
    entrants.push_back({"stateful", &*tracked, "bench_stateful", false});
  }
  auto measured = race(entrants, frame, rounds_);
  for (const Entrant& e : entrants) {
    add_result(spec, e.name + suffix, measured[e.name]);
  }
  const double empty = measured["empty"].median();
  const auto net = [&](const char* name) { return measured[name].median() - empty; };
  fmt::print(
      "{:>7} {:>8} {:<10} {:>7.1f} {:>8.1f} {:>8.1f} {:>7.1f}x   {} identities, {} x {} {}\n",
      entries.size(), spec.prefixes, suffix.empty() ? "shared" : suffix.substr(1), empty,
      net("policyc"), net("two-lpm"), net("two-lpm") / net("policyc"), world.identities.size(),
      policy.image.direction[0].rows,
      policy.image.intervals() ? policy.image.keys.size() : policy.image.direction[0].columns,
      policy.image.intervals() ? "intervals" : "columns");
  fmt::print(
      "        encode {:.1f} ms, load {:.1f} ms; {} entries by single updates {:.2f} ms, our table "
      "of {} bytes in one write {:.3f} ms ({:.0f}x)\n",
      encode_ms, load_ms, entries.size(), single_ms, tables.size(), write_ms, single_ms / write_ms);
  if (steps) {
    const double sum = measured["parse-ipcache"].median() + measured["parse-policy"].median() -
                       measured["parse"].median();
    const auto over = [&](double what) { return 100 * (measured["two-lpm"].median() / what - 1); };
    fmt::print(
        "        parse {:.1f}, identity {:.1f}, decision {:.1f} (generation word {:+.1f}), "
        "stateful "
        "{:.1f}; two-lpm over its parts measured apart {:+.1f} %, over the bare lookups {:+.1f} % "
        "(independent {:+.1f} %)\n",
        net("parse"), measured["identity-step"].median() - measured["walk"].median(),
        measured["decision-step"].median() - measured["walk"].median(),
        measured["decision-step"].median() - measured["decision-one-half"].median(),
        net("stateful"), over(sum), over(measured["bare-lookups"].median()),
        over(measured["bare-independent"].median()));
  }
  std::fflush(stdout);
}

void Bench::run_endpoints(const WorldSpec& spec, std::uint32_t endpoints) {
  const bpf::CiliumLayout& layout = *bpf::find_cilium_layout("1.18");
  std::vector<World> worlds;
  std::vector<bpf::EncodedPolicy> policies;
  for (std::uint32_t e = 0; e < endpoints; ++e) {
    WorldSpec own = spec;
    own.endpoint = e;
    worlds.push_back(make_world(own));
    policies.push_back(need(bpf::encode_policy(worlds[e].ingress, worlds[e].egress)));
  }
  World& node = worlds[0];
  for (std::size_t i = 0; i < kPackets; ++i) {
    node.traffic[i] = worlds[i % endpoints].traffic[i];
  }
  const bpf::IdentityImage identities = bpf::encode_identities(node.view, node.identities);
  std::vector<const bpf::EncodedPolicy*> all;
  for (const bpf::EncodedPolicy& p : policies) all.push_back(&p);
  const bpf::ClassImage classes = bpf::encode_classes(all, node.identities.size());
  // One program for all of them (their tables are dense).
  bpf::SizeClass sizes = bpf::node_sizes(identities, classes);
  for (const bpf::EncodedPolicy& p : policies) {
    const bpf::SizeClass own = bpf::with_policy(sizes, p.image);
    sizes.records = std::max(sizes.records, own.records);
    sizes.pages = std::max(sizes.pages, own.pages);
    sizes.cells = std::max(sizes.cells, own.cells);
  }

  const bpf::TwoLpmSpec two{.layout = layout};
  const std::string many = fmt::format("#define ENDPOINTS {}\n", endpoints);
  const std::vector<std::string> objects =
      need(bpf::compile_c(module_, {bpf::program_text({.sizes = sizes}) + kStream + many +
                                        "#define JUDGE policyc\n" + kManyEndpoints,
                                    bpf::two_lpm_text(two) + kStream + many +
                                        "#define JUDGE two_lpm\n" + kManyEndpoints}));
  const auto stream = [&] { return stream_value(node, [](const Packet&) { return 0U; }); };
  const auto tables = [&](std::size_t e) -> bpf::MapValue {
    return {bpf::kPolicyMap, bpf::policy_value(policies[e].image, classes, e, sizes)};
  };
  std::vector<bpf::LoadedObject> ours, theirs;
  ours.push_back(need(bpf::LoadedObject::load(
      objects[0],
      {{bpf::kNodeMap, bpf::node_value(identities, classes, sizes)}, tables(0), stream()})));
  theirs.push_back(need(bpf::LoadedObject::load(objects[1], {stream()})));
  const std::vector<std::string> common = {".data.stream", "endpoints"};
  for (std::size_t e = 1; e < endpoints; ++e) {
    ours.push_back(need(bpf::LoadedObject::load(objects[0], {tables(e)}, &ours[0],
                                                {bpf::kNodeMap, common[0], common[1]})));
    theirs.push_back(need(bpf::LoadedObject::load(objects[1], {}, &theirs[0],
                                                  {bpf::kTwoLpmIpcacheMap, common[0], common[1]})));
  }
  need(need(bpf::KernelMap::of_descriptor(theirs[0].map_descriptor(bpf::kTwoLpmIpcacheMap)))
           .put(ipcache_entries(node, layout)));
  std::size_t entries = 0, rows = 0;
  for (std::size_t e = 0; e < endpoints; ++e) {
    auto map = need(bpf::KernelMap::of_descriptor(theirs[e].map_descriptor(bpf::kTwoLpmPolicyMap)));
    const std::vector<bpf::MapEntry> own = policy_entries(worlds[e], layout);
    need(map.put(own));
    entries += own.size();
    rows += policies[e].image.direction[0].rows;
  }
  const auto fill = [&](std::vector<bpf::LoadedObject>& of, const char* program) {
    auto map = need(bpf::KernelMap::of_descriptor(of[0].map_descriptor("endpoints")));
    for (std::uint32_t e = 0; e < endpoints; ++e) {
      const int descriptor = of[e].program_descriptor(program);
      need(map.put({{u32_bytes(e), u32_bytes(static_cast<std::uint32_t>(descriptor))}}));
    }
  };

  bpf::Packet p;
  p.from = node.traffic[0].from;
  p.to = *ir::parse_ip("10.1.2.3");
  p.payload.assign(46, 'x');
  const std::vector<std::uint8_t> frame = bpf::build_frame(p);
  // The jump alone, measured in the same way and just before.
  fill(ours, "bench_nothing");
  auto empty = race({{"empty", &ours[0], "bench_dispatch", false}}, frame, rounds_);
  fill(ours, "bench_endpoint");
  fill(theirs, "bench_endpoint");
  auto measured = race({{"policyc", &ours[0], "bench_dispatch", true},
                        {"two-lpm", &theirs[0], "bench_dispatch", true}},
                       frame, rounds_);
  measured.insert(empty.begin(), empty.end());
  for (const auto& [name, m] : measured) add_result(spec, name + "-endpoints", m);
  const double idle = measured["empty"].median();
  const double net = measured["policyc"].median() - idle;
  const double other = measured["two-lpm"].median() - idle;
  fmt::print(
      "{:>7} {:>8} {:<10} {:>7.1f} {:>8.1f} {:>8.1f} {:>7.1f}x   {} endpoints of about {} entries; "
      "{} classes, {} rows, {} KB of tables each\n",
      entries, spec.prefixes, "endpoints", idle, net, other, other / net, endpoints,
      entries / endpoints, classes.classes, rows, sizes.policy_half_size() / 1024);
  std::fflush(stdout);
}

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

int run(const std::vector<std::string>& arguments) {
  std::string json;
  unsigned rounds = 15;
  bool quick = false, only_endpoints = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--json" && i + 1 < arguments.size()) {
      json = arguments[++i];
    } else if (arguments[i] == "--rounds" && i + 1 < arguments.size()) {
      rounds = static_cast<unsigned>(std::max(1, std::atoi(arguments[++i].c_str())));
    } else if (arguments[i] == "--quick") {
      quick = true;
    } else if (arguments[i] == "--endpoints") {
      only_endpoints = true;
    } else {
      fmt::print("bench_datapath [--json FILE] [--rounds N] [--quick | --endpoints]\n");
      return arguments[i] == "--help" ? 0 : 2;
    }
  }
  if (const auto why = bpf::kernel_unavailable()) stop(3, *why);
  const std::string module = need(bpf::find_clang_module());
  // The last processor is the quietest as a rule; where there is no choice, anyone will do.
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_ONLN) - 1), &cpus);
  sched_setaffinity(0, sizeof cpus, &cpus);

  fmt::print("{:>7} {:>8} {:<10} {:>7} {:>8} {:>8} {:>8}   ns a packet, medians; net of empty\n",
             "entries", "prefixes", "policies", "empty", "policyc", "two-lpm", "ratio");
  Bench bench(rounds, module);
  if (quick) {
    bench.run({.entries = 10}, "", false);
  } else if (only_endpoints) {
    bench.run_endpoints({.entries = 100}, 250);
    bench.run_endpoints({.entries = 1000}, 250);
  } else {
    for (const std::size_t entries : {10U, 100U, 1000U, 10000U}) {
      bench.run({.entries = entries}, "", true);
    }
    bench.run({.entries = 10000, .prefixes = 100000}, "", true);
    bench.run({.entries = 10000, .prefixes = 100000, .scattered = true}, "-scattered", true);
    bench.run({.entries = 1000, .distinct = true}, "-distinct", true);
    bench.run({.entries = 10000, .distinct = true}, "-distinct", true);
    bench.run_endpoints({.entries = 100}, 250);
    bench.run_endpoints({.entries = 1000}, 250);
    bench.run({.entries = 10000, .family = ir::Family::V6}, "-ipv6", false);
    bench.run({.entries = 10000, .prefixes = 100000, .family = ir::Family::V6}, "-ipv6", false);
  }
  if (json.empty()) return 0;
  utsname name{};
  uname(&name);
  const nlohmann::ordered_json out = {{"version", 1},
                                      {"machine",
                                       {{"cpu", cpu_model()},
                                        {"cpus", sysconf(_SC_NPROCESSORS_ONLN)},
                                        {"kernel", std::string(name.release)}}},
                                      {"results", bench.results}};
  if (const auto failure = write_file_atomic(json, out.dump(1) + "\n")) {
    stop(2, json + ": " + failure->message);
  }
  return 0;
}

}  // namespace
}  // namespace policyc::bench

int main(int argc, char** argv) {
  return policyc::bench::run(std::vector<std::string>(argv + 1, argv + argc));
}
