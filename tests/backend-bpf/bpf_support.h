// Kernel tests skip visibly where bpf() is not permitted; POLICYC_REQUIRE_BPF=1 makes that a
// failure.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "backend-bpf/compiler.h"
#include "backend-bpf/kernel.h"
#include "backend-bpf/program.h"

namespace policyc::testing {

// Why this test cannot run; empty where it can.
inline std::string missing_for_kernel_tests() {
  std::string why = bpf::kernel_unavailable().value_or("");
  if (why.empty()) {
    const auto module = bpf::find_clang_module();
    if (!module) why = module.error();
  }
  return why;
}

inline bool bpf_required() {
  const char* set = std::getenv("POLICYC_REQUIRE_BPF");
  return set != nullptr && *set != '\0' && *set != '0';
}

#define POLICYC_NEEDS_BPF()                                                                   \
  if (const std::string why = ::policyc::testing::missing_for_kernel_tests(); !why.empty()) { \
    if (::policyc::testing::bpf_required()) FAIL() << why;                                    \
    GTEST_SKIP() << "skipped: " << why;                                                       \
  }                                                                                           \
  static_assert(true, "takes the semicolon")

// The object for these sizes, compiled once per test program.
inline const std::string& object_for(const bpf::SizeClass& sizes) {
  static std::map<bpf::SizeClass, std::string> compiled;
  auto [it, fresh] = compiled.try_emplace(sizes);
  if (fresh) {
    const auto module = bpf::find_clang_module();
    auto objects = bpf::compile_c(*module, {bpf::program_text({.sizes = sizes})});
    EXPECT_TRUE(objects) << (objects ? "" : objects.error());
    if (objects) it->second = std::move(objects->front());
  }
  return it->second;
}

}  // namespace policyc::testing
