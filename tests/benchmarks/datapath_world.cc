#include "tests/benchmarks/datapath_world.h"

#include <algorithm>
#include <set>

namespace policyc::bench {
namespace {

// The standard generator gives the same numbers everywhere; its distributions do not.
class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  std::uint32_t below(std::size_t n) { return static_cast<std::uint32_t>(engine_() % n); }

 private:
  std::mt19937 engine_;
};

int length_of(const Rule& r) {
  return r.protocol == 0 ? 0 : r.block.length == 0 ? 8 : 8 + r.block.length;
}

bool matches(const Rule& r, ir::Protocol protocol, std::uint16_t port) {
  if (r.protocol == 0) return true;
  return r.protocol == protocol && port >= r.block.port && port <= r.block.last();
}

const Rule* longest(const std::vector<Rule>& rules, ir::Protocol protocol, std::uint16_t port) {
  const Rule* best = nullptr;
  for (const Rule& r : rules) {
    if (matches(r, protocol, port) && (best == nullptr || length_of(r) > length_of(*best)))
      best = &r;
  }
  return best;
}

// Records of the tables: default deny, deny, allow.
std::uint16_t decide(const std::vector<Rule>& own, const std::vector<Rule>& any,
                     ir::Protocol protocol, std::uint16_t port) {
  const Rule* p = longest(own, protocol, port);
  if (p != nullptr && p->deny) return 1;
  const Rule* q = longest(any, protocol, port);
  if (q != nullptr && (q->deny || p == nullptr || length_of(*q) > length_of(*p))) p = q;
  if (p == nullptr) return 0;
  return p->deny ? 1 : 2;
}

void add(std::vector<Rule>& rules, Rule rule) {
  const auto same = [&](const Rule& r) {
    return r.protocol == rule.protocol && r.block == rule.block;
  };
  if (std::none_of(rules.begin(), rules.end(), same)) rules.push_back(rule);
}

ir::PortBlock block(std::uint32_t port, int length) {
  const std::uint32_t mask = 0xFFFFU << static_cast<unsigned>(16 - length) & 0xFFFFU;
  return {static_cast<std::uint16_t>(port & mask), static_cast<std::uint8_t>(length)};
}

// About eight rules: single ports, a block, now and then everything of a protocol or at all.
std::vector<Rule> profile(Random& random) {
  static constexpr ir::Protocol kProtocols[] = {6, 6, 6, 17, 17, 132};
  std::vector<Rule> out;
  while (out.size() < 6) {
    add(out,
        {kProtocols[random.below(6)], block(1 + random.below(10000), 16), random.below(20) == 0});
  }
  add(out, {6, block(random.below(65536), 8 + static_cast<int>(random.below(7))), false});
  switch (random.below(4)) {
    case 0:
      add(out, {17, {}, false});
      break;
    case 1:
      add(out, {});
      break;
    default:
      add(out, {6, block(20000 + random.below(10000), 16), false});
      break;
  }
  return out;
}

ir::PolicyTable table_of(const std::vector<std::vector<Rule>>& profiles,
                         const std::vector<Rule>& any, const std::vector<std::uint32_t>& class_of) {
  ir::PolicyTable t;
  t.enforced = true;
  std::set<ir::L4Key> begins;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) begins.insert(c << 16U);
  const auto cut = [&](const std::vector<Rule>& rules) {
    for (const Rule& r : rules) {
      if (r.protocol == 0) continue;
      const ir::L4Key base = ir::protocol_class(r.protocol) << 16U;
      begins.insert(base | r.block.port);
      if (r.block.last() != 0xFFFF) begins.insert(base | (r.block.last() + 1U));
    }
  };
  for (const auto& p : profiles) cut(p);
  cut(any);
  t.column_begin.assign(begins.begin(), begins.end());
  t.classes = static_cast<std::uint32_t>(profiles.size());
  t.class_of = class_of;
  t.records.resize(3);
  t.records[1].reason = ir::Reason::PolicyDeny;
  t.records[2].verdict = ir::VerdictKind::Allow;
  t.records[2].reason = ir::Reason::Rule;
  for (const auto& p : profiles) {
    for (const ir::L4Key key : t.column_begin) {
      t.cells.push_back(decide(p, any,
                               ir::class_protocol(static_cast<ir::ProtocolClass>(key >> 16U)),
                               static_cast<std::uint16_t>(key)));
    }
  }
  return t;
}

ir::IpAddress address(ir::Family family, std::uint32_t v4) {
  if (family == ir::Family::V4) return ir::IpAddress::from_v4(v4);
  ir::IpAddress out;
  out.family = family;
  out.bytes = {0xFD};
  for (unsigned i = 0; i < 4; ++i)
    out.bytes[12 + i] = static_cast<std::uint8_t>(v4 >> (24 - 8 * i));
  return out;
}

}  // namespace

World make_world(const WorldSpec& spec) {
  World w;
  Random rules(spec.seed + 1000 * spec.endpoint);
  Random random(spec.seed + 1);  // addresses and traffic
  const std::size_t for_any = std::min<std::size_t>(20, spec.entries / 5);
  static constexpr ir::Protocol kAny[] = {6, 6, 17, 132};
  for (std::size_t i = 0; i < for_any; ++i) {
    if (i == 0) {
      add(w.for_any, {1, block(8, 16), false});
    } else {
      add(w.for_any,
          {kAny[rules.below(4)], block(1 + rules.below(10000), 16), rules.below(8) == 0});
    }
  }
  const std::size_t peers = std::max<std::size_t>(1, (spec.entries - for_any) / 8);
  std::vector<std::vector<Rule>> profiles(1);  // 0: no rules of its own
  const std::size_t kinds = spec.distinct ? peers : std::min<std::size_t>(32, peers);
  for (std::size_t i = 0; i < kinds; ++i) profiles.push_back(profile(rules));

  // Who there is: peers with rules, and one identity a CIDR.
  std::vector<std::uint32_t> class_of;
  const auto identity = [&](std::uint32_t number, std::uint32_t of_class) {
    ir::Identity i;
    i.number = number;
    w.identities.push_back(i);
    class_of.push_back(of_class);
    w.rules.push_back(profiles[of_class]);
    return static_cast<ir::IdentityIndex>(class_of.size() - 1);
  };
  const ir::IdentityIndex world = identity(9, 0);
  for (std::size_t i = 0; i < peers; ++i) {
    // Each endpoint groups its peers in another way.
    const std::size_t kind = (i + i / kinds * spec.endpoint + spec.endpoint) % kinds;
    identity(static_cast<std::uint32_t>(256 + i), static_cast<std::uint32_t>(1 + kind));
  }
  const int shift = spec.family == ir::Family::V4 ? 0 : 96;
  std::set<ir::Prefix> seen;
  const auto prefix = [&](const ir::IpAddress& ip, int length, ir::IdentityIndex who) {
    const ir::Prefix p = ir::make_prefix(ip, length);
    if (seen.insert(p).second) w.view.ipcache.emplace_back(p, who);
  };
  w.view.node = "-";
  prefix(address(spec.family, 0), 0, world);
  for (std::uint32_t i = 0; i < spec.prefixes; ++i) {
    if (i % 20 == 19) {
      static constexpr int kLengths[] = {16, 18, 20, 22, 24, 28};
      prefix(address(spec.family, 172U << 24U | random.below(1U << 24U)),
             shift + kLengths[random.below(6)], identity(16777216 + i, 0));
      continue;
    }
    const std::uint32_t host =
        spec.scattered ? i * 2654435761U & 0xFFFFFFU : i / 250 * 256 + 2 + i % 250;
    prefix(address(spec.family, 10U << 24U | host), shift + 32,
           static_cast<ir::IdentityIndex>(1 + i % peers));
  }
  std::sort(w.view.ipcache.begin(), w.view.ipcache.end());
  w.ingress = table_of(profiles, w.for_any, class_of);
  w.egress = table_of({{Rule{}}}, {}, std::vector<std::uint32_t>(class_of.size(), 0));

  static constexpr ir::Protocol kProtocols[] = {6, 6, 6, 6, 17, 17, 132, 1};
  while (w.traffic.size() < 65536) {
    Packet p;
    const auto& [at, who] = w.view.ipcache[random.below(w.view.ipcache.size())];
    p.from = at.address;
    if (at.length == 0) p.from = address(spec.family, 192U << 24U | random.below(1U << 24U));
    p.identity = w.view.identity_of(p.from);
    p.protocol = kProtocols[random.below(8)];
    p.port = static_cast<std::uint16_t>(random.below(65536));
    const std::vector<Rule>& own = w.rules[who];
    const std::size_t all = own.size() + w.for_any.size();
    if (random.below(4) != 0 && all != 0) {
      const std::size_t k = random.below(all);
      const Rule& r = k < own.size() ? own[k] : w.for_any[k - own.size()];
      if (r.protocol != 0) {
        p.protocol = r.protocol;
        p.port = static_cast<std::uint16_t>(r.block.port +
                                            random.below(r.block.last() - r.block.port + 1U));
      }
    }
    if (p.protocol == ir::kProtoIcmp) p.port &= 0xFF;
    if (p.protocol == ir::kProtoIcmp && p.port == 3) p.port = 8;  // "fragmentation needed" passes
    w.traffic.push_back(p);
  }
  return w;
}

}  // namespace policyc::bench
