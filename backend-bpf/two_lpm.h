// A program of our own that decides as Cilium's datapath does, over maps in Cilium's layout: one
// lookup in the ipcache, two in the policy map. What our tables are compared with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "backend-bpf/cilium_layout.h"

namespace policyc::bpf {

// templates/two_lpm*.bpf.c as they were at build time.
extern const char* const kTemplateTwoLpm;      // maps, the verdict
extern const char* const kTemplateTwoLpmTc;    // headers, the programs
extern const char* const kTemplateTwoLpmWalk;  // the tuple walker

// Names of the programs and maps in the object.
inline constexpr const char* kTwoLpmIngressProgram = "two_lpm_ingress";
inline constexpr const char* kTwoLpmEgressProgram = "two_lpm_egress";
inline constexpr const char* kTwoLpmWalkProgram = "two_lpm_walk";
inline constexpr const char* kTwoLpmIpcacheMap = "ipcache";
inline constexpr const char* kTwoLpmPolicyMap = "policy";

struct TwoLpmSpec {
  CiliumLayout layout = *find_cilium_layout("1.18");
  std::uint32_t policy_entries = 16384;
  std::uint32_t ipcache_entries = kCiliumIpcacheEntries;
  // Numeric identities of addresses that the ipcache does not know.
  std::uint32_t world_v4 = 9, world_v6 = 10;
  // Leave in skb->cb: outcome, drop reason, which lookup decided (0 none, 1 the identity's, 2 any),
  // number of the identity, proxy port in network order.
  bool observe = false;
};

// The complete C file.
std::string two_lpm_text(const TwoLpmSpec& spec);
// One verdict for the next of `tuples` (a power of two) questions at each run; the map `.data.walk`
// holds u32 next, 60 zeros, then for each question 48 bytes: address[16] in network order | u8
// family (4, 6) | u8 egress | u8 protocol | u8 fragment | u32 port | the five words of `observe` |
// u32 0.
std::string two_lpm_walker_text(const TwoLpmSpec& spec, std::size_t tuples);

}  // namespace policyc::bpf
