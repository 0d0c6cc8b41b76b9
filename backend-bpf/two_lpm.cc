#include "backend-bpf/two_lpm.h"

#include <fmt/format.h>

namespace policyc::bpf {
namespace {

std::string definitions(const TwoLpmSpec& spec) {
  return fmt::format(
      "// Written by policyc.\n"
      "#define POLICY_ENTRIES {}\n#define IPCACHE_ENTRIES {}\n#define POLICY_VALUE {}\n"
      "#define IPCACHE_VALUE {}\n#define PRECEDENCE {}\n#define WORLD_V4 {}\n#define WORLD_V6 {}\n"
      "#define OBSERVE {}\n",
      spec.policy_entries, spec.ipcache_entries, spec.layout.policy_value,
      spec.layout.ipcache_value, spec.layout.precedence ? 1 : 0, spec.world_v4, spec.world_v6,
      spec.observe ? 1 : 0);
}

}  // namespace

std::string two_lpm_text(const TwoLpmSpec& spec) {
  return definitions(spec) + '\n' + kTemplateTwoLpm + kTemplateTwoLpmTc;
}

std::string two_lpm_walker_text(const TwoLpmSpec& spec, std::size_t tuples) {
  return definitions(spec) + fmt::format("#define WALK_TUPLES {}\n\n", tuples) + kTemplateTwoLpm +
         kTemplateTwoLpmWalk;
}

}  // namespace policyc::bpf
