// The emitted C: one generic text, whose table sizes are the only thing that differs.
#pragma once

#include <string>

#include "backend-bpf/layout.h"

namespace policyc::bpf {

// templates/policy.bpf.c as it was at build time.
extern const char* const kProgramTemplate;

// Names of the programs and maps in the object.
inline constexpr const char* kIngressProgram = "policyc_ingress";
inline constexpr const char* kEgressProgram = "policyc_egress";
inline constexpr const char* kTriesMap = ".bss";
inline constexpr const char* kTablesMap = ".data.policy";

// The complete C file for these sizes. Equal sizes give equal text.
std::string program_text(const SizeClass& sizes);

}  // namespace policyc::bpf
