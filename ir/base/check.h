// POLICYC_CHECK(condition, what): a broken invariant of our own. Aborts in every build type with
// the exit code 70 that users see as "a bug in policyc".
#pragma once

namespace policyc {

[[noreturn]] void internal_error(const char* file, int line, const char* what);

}  // namespace policyc

#define POLICYC_CHECK(condition, what) \
  ((condition) ? static_cast<void>(0) : ::policyc::internal_error(__FILE__, __LINE__, what))
