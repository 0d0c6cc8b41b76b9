#include "verifier/request_functions.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace policyc::verify {

namespace {

using Kind = BpfValue::Kind;

// filter << 16 | offset.
Term place(Terms& terms, Term filter, Term offset) {
  return terms.concat(terms.extract(filter, 0, 16), terms.zext(terms.extract(offset, 0, 9), 16));
}

bool is_filter(const Terms& terms, const BpfValue& v) {
  return v.kind == Kind::Number && terms.max(v.term) <= 0xFFFF;
}

}  // namespace

Expected<RequestFunctions> request_functions(const ebpf::Object& object,
                                             const ebpf::Program& program) {
  RequestFunctions out;
  bool found = false;
  for (const std::size_t entry : program.functions) {
    const auto heads = loop_heads(object, program, entry);
    if (!heads) return Error{heads.error()};
    if (heads->empty()) continue;
    if (found || heads->size() != 1) {
      return Error{fmt::format("a loop at instruction {} beside the one over a request's bytes",
                               heads->back())};
    }
    found = true;
    out.head = entry;
    out.loop = heads->front();
  }
  if (!found) return Error{"the program has no loop over a request's bytes"};
  std::set<std::size_t> callers;
  const std::vector<bool> second = ebpf::second_slots(program.code);
  for (std::size_t at = 0; at < program.code.size(); ++at) {
    const ebpf::Instruction& i = program.code[at];
    if (second[at] || i.opcode != (ebpf::kJmp | ebpf::kCall) || i.src != ebpf::kCallIsLocal ||
        static_cast<std::int64_t>(at) + 1 + i.imm != static_cast<std::int64_t>(out.head)) {
      continue;
    }
    callers.insert(
        *std::prev(std::upper_bound(program.functions.begin(), program.functions.end(), at)));
  }
  if (callers.size() != 1) return Error{"no single function asks the loop over a request's bytes"};
  out.ask = *callers.begin();
  return out;
}

Expected<std::size_t> behind_pull(const ebpf::Program& program) {
  const std::size_t end = program.functions.size() > 1 ? program.functions[1] : program.code.size();
  const std::vector<bool> second = ebpf::second_slots(program.code);
  const auto calls = [&](std::size_t at) {
    const ebpf::Instruction& i = program.code[at];
    return !second[at] && i.opcode == (ebpf::kJmp | ebpf::kCall) && i.src == ebpf::kCallIsHelper &&
           i.imm == kPullData;
  };
  std::size_t call = 0;
  while (call < end && !calls(call)) ++call;
  if (call + 1 >= end) return Error{"the program never asks for the rest of a packet"};
  // Jumps over it lead there.
  std::size_t out = call + 1;
  for (std::size_t at = 0; at < call; ++at) {
    const ebpf::Instruction& i = program.code[at];
    const std::uint8_t cls = i.instruction_class();
    if (second[at] || (cls != ebpf::kJmp && cls != ebpf::kJmp32) || i.operation() == ebpf::kCall ||
        i.operation() == ebpf::kExit) {
      continue;
    }
    const auto to = static_cast<std::int64_t>(at) + 1 + i.offset;
    if (to > static_cast<std::int64_t>(call)) out = std::max(out, static_cast<std::size_t>(to));
  }
  return out;
}

CallSummary ask_summary(Terms& terms) {
  return [&terms](const BpfValue* a) -> Expected<CallResult> {
    if (a[0].kind != Kind::Context || !terms.is_constant(a[0].term, 0) || !is_filter(terms, a[1]) ||
        a[2].kind != Kind::Number) {
      return Error{"a request is asked about with other arguments"};
    }
    return CallResult{kAskArray, place(terms, a[1].term, a[2].term)};
  };
}

CallSummary head_summary(Terms& terms) {
  return [&terms](const BpfValue* a) -> Expected<CallResult> {
    if (!is_filter(terms, a[0]) || a[1].kind != Kind::Packet || terms.max(a[1].term) > 511 ||
        a[2].kind != Kind::PacketEnd || !terms.is_constant(a[2].term, 0)) {
      return Error{"a head is asked about with other arguments"};
    }
    return CallResult{kHeadArray, place(terms, a[0].term, a[1].term)};
  };
}

}  // namespace policyc::verify
