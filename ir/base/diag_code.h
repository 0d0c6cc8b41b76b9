// The codes of policyc's findings.
#pragma once

namespace policyc {

// One row each in ir/base/diagnostics/*.def. The enumerator carries the printed number, so
// DiagCode::UnknownField prints as POL0120. Numbers are never reused.
enum class DiagCode : int {
#define POLICYC_DIAGNOSTIC(number, name, ...) name = number,
#include "ir/base/diagnostics/all.def"
#undef POLICYC_DIAGNOSTIC
};

}  // namespace policyc
