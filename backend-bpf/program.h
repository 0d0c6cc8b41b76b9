// The emitted C: one generic text, joined from the parts in templates/. What differs between
// programs are table sizes and features; a policy is data.
#pragma once

#include <string>

#include "backend-bpf/layout.h"

namespace policyc::bpf {

// templates/*.bpf.c as they were at build time, in the order in which they are joined.
extern const char* const kTemplateTables;  // types, numbers, the maps
extern const char* const kTemplateCore;    // address, protocol, port → verdict; tables only
extern const char* const kTemplatePacket;  // headers
extern const char* const kTemplateTc;      // the stateless programs

// Names of the programs and maps in the object.
inline constexpr const char* kIngressProgram = "policyc_ingress";
inline constexpr const char* kEgressProgram = "policyc_egress";
inline constexpr const char* kTriesMap = ".bss";
inline constexpr const char* kTablesMap = ".data.policy";

// What a program is made of. Equal specifications give equal text.
struct ProgramSpec {
  SizeClass sizes;
  // C text that stands in front of the programs and defines `int policyc_prelude(struct __sk_buff
  // *skb)`, which sees every packet first: PRELUDE_CONTINUE, or what tc shall do with it. Empty:
  // none.
  std::string prelude;
};

// The complete C file.
std::string program_text(const ProgramSpec& spec);

}  // namespace policyc::bpf
