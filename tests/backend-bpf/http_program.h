// A program that does nothing but judge request heads, for tests and benchmarks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backend-bpf/compiler.h"
#include "backend-bpf/http_code.h"

namespace policyc::testing {

inline constexpr const char* kHeadProgram = "head";
inline constexpr const char* kEmptyProgram = "empty";
inline constexpr std::size_t kHeadOffset = 16;

// The frame that brings `head` to a filter: the first byte names it.
inline std::vector<std::uint8_t> head_frame(std::size_t filter, std::string_view head) {
  std::vector<std::uint8_t> frame(kHeadOffset + head.size(), 0);
  frame[0] = static_cast<std::uint8_t>(filter);
  std::copy(head.begin(), head.end(), frame.begin() + kHeadOffset);
  return frame;
}

// The ELF bytes; the program returns the verdict.
inline Expected<std::string> head_program(const std::vector<ir::Dfa>& automata) {
  const auto text = bpf::http_text(automata);
  if (!text) return Error{text.error()};
  const auto module = bpf::find_clang_module();
  if (!module) return Error{module.error()};
  const std::string source = R"(
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
struct __sk_buff {
  u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
  u32 priority, ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end;
};
)" + *text + R"(
__attribute__((noinline)) int judge(struct __sk_buff *skb, u32 filter, u32 offset) {
  const u8 *payload = (const u8 *)(long)skb->data + (offset & 511);
  const u8 *end = (const u8 *)(long)skb->data_end;
  return payload >= end ? HTTP_UNDECIDED : http_head(filter, payload, end);
}
SEC("tc") int head(struct __sk_buff *skb) {
  const u8 *frame = (const u8 *)(long)skb->data;
  const u8 *end = (const u8 *)(long)skb->data_end;
  if (frame + 16 > end) return 99;
  return judge(skb, frame[0], 16);
}
SEC("tc") int empty(struct __sk_buff *skb) { return skb->len == 0; }
char license_text[] SEC("license") = "Apache-2.0";
)";
  auto objects = bpf::compile_c(*module, {source});
  if (!objects) return Error{objects.error()};
  return objects->front();
}

}  // namespace policyc::testing
