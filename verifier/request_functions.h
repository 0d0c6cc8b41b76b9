// The functions of a program that read request heads (`--l7 kernel`), and what stands for their
// results where they are called. Found by their shape: names are not looked at.
//
//   ask(skb, filter, offset)   what becomes of a packet whose payload begins at the offset
//   head(filter, from, end)    what a filter says of the bytes; walks the tables in a loop
#pragma once

#include <cstddef>

#include "ir/base/expected.h"
#include "ir/bpf/object.h"
#include "verifier/bpf_executor.h"

namespace policyc::verify {

// Arrays that stand for results: ask's by filter << 16 | offset (9 bits), head's by filter << 16 |
// offset of the first byte (9 bits; the end is the packet's). Both hold what the functions give for
// the packet as it lies and for the tables as they are.
inline constexpr unsigned kAskArray = 0xFFFE, kHeadArray = 0xFFFF;

// First instructions of the functions, and the one to which the loop leads back.
struct RequestFunctions {
  std::size_t ask = 0, head = 0, loop = 0;
};

// `head` is the one function with a loop, and has one; `ask` the one that calls it, where that is
// not the program itself (0). Errors: it is not so.
Expected<RequestFunctions> request_functions(const ebpf::Object& object,
                                             const ebpf::Program& program);

// Where the ways of the program itself meet behind its one call of bpf_skb_pull_data.
Expected<std::size_t> behind_pull(const ebpf::Program& program);

// Filters are numbers of 16 bits, by the bounds of their terms.
CallSummary ask_summary(Terms& terms);
CallSummary head_summary(Terms& terms);

}  // namespace policyc::verify
