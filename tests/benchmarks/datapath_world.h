// Policies and traffic for the benchmark, given twice: as resolved tables, and as entries of
// Cilium's maps, whose two-lookup algorithm says the same.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ir/resolved.h"

namespace policyc::bench {

// A row of Cilium's policy map without its identity.
struct Rule {
  ir::Protocol protocol = 0;  // 0 = any
  ir::PortBlock block;
  bool deny = false;
};

struct Packet {
  ir::IpAddress from;
  ir::Protocol protocol = ir::kProtoTcp;
  std::uint16_t port = 0;      // or the ICMP type
  std::uint32_t identity = 0;  // index
};

struct WorldSpec {
  std::size_t entries = 100;    // of the policy map
  std::size_t prefixes = 1000;  // of the ipcache
  bool distinct = false;        // every identity has its own rules; else 32 profiles are shared
  bool scattered = false;       // host routes all over 10/8; else 250 in a /24
  ir::Family family = ir::Family::V4;
  unsigned seed = 1;
  // Endpoints of one node: worlds that differ in this alone have the same identities and addresses,
  // and other rules.
  unsigned endpoint = 0;
};

struct World {
  ir::NodeView view;
  std::vector<ir::Identity> identities;
  ir::PolicyTable ingress;               // what the packets meet
  ir::PolicyTable egress;                // open
  std::vector<std::vector<Rule>> rules;  // per identity; what is in the map for it
  std::vector<Rule> for_any;             // identity 0
  std::vector<Packet> traffic;           // 65,536, three in four aimed at a rule
};

// Equal specifications give equal worlds.
World make_world(const WorldSpec& spec);

}  // namespace policyc::bench
