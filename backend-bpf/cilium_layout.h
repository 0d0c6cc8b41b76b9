// Layouts of Cilium's own maps: a row for each layout, a column for each difference. Everything
// that writes, reads or runs images for Cilium's maps consults this table. Numbers are little
// endian unless said otherwise.
//
// Policy map, one per endpoint: LPM_TRIE
//   key    u32 prefix length | u32 identity (0 = any) | u8 egress | u8 protocol | be16 port
//          length 40: any protocol; 48: any port; 48 + n: a block of ports with n leading bits
//   value  be16 proxy port | u8 bit 0 deny, bits 3-7 prefix length - 40 | u8 auth type, bit 7 =
//          explicit | u8 proxy priority, 3 zeros, or u32 precedence | the rest: counters or cookie
// ipcache, one per node: LPM_TRIE
//   key    u32 prefix length (32 + address bits) | u16 cluster | u8 0 | u8 family (1 = IPv4, 2 =
//          IPv6) | address in network order, 16 bytes; IPv4 takes the first four
//   value  u32 identity | tunnel endpoint, key and flags, which the node's routing needs
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace policyc::bpf {

struct CiliumLayout {
  std::string_view name;       // "1.18"
  std::uint32_t policy_value;  // bytes
  std::uint32_t
      policy_compare;           // of them, those that a policy decides; counters and cookies follow
  bool precedence;              // a u32 at offset 4 ranks entries, instead of the proxy priority
  std::uint32_t ipcache_value;  // bytes
  std::string_view ipcache_pin;  // under <bpffs>/tc/globals
};

inline constexpr std::uint32_t kCiliumPolicyKey = 12, kCiliumIpcacheKey = 24;  // bytes
inline constexpr std::uint32_t kCiliumPolicyPrefix = 40;   // bits before the protocol
inline constexpr std::uint32_t kCiliumIpcachePrefix = 32;  // bits before the address
inline constexpr std::uint32_t kCiliumIpcacheEntries = 512000;
inline constexpr std::uint32_t kMapTypeLpmTrie = 11, kMapNoPrealloc = 1;  // linux/bpf.h
// The policy map of an endpoint is pinned under this name and its number in five digits.
inline constexpr std::string_view kCiliumPolicyPin = "cilium_policy_v2_";

// Ascending by release.
const std::vector<CiliumLayout>& cilium_layouts();
// The layout of a release, "cilium-1.18" or "1.18"; nullptr where none is known (before 1.17).
const CiliumLayout* find_cilium_layout(std::string_view release);

}  // namespace policyc::bpf
