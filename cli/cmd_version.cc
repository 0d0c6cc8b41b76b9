// policyc version: what this is and what it was built with.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include "cli/command.h"
#include "ir/profile.h"

namespace policyc::cli {
namespace {

int version(Env& env) {
  std::string profiles;
  for (const ir::Profile& p : ir::all_profiles()) {
    profiles += (profiles.empty() ? "" : ", ") + std::string(p.name);
  }
  fmt::print(env.out, "policyc {}\nprofiles: {}\n", POLICYC_VERSION, profiles);
  return kOk;
}

}  // namespace

void add_version(Cli& cli) {
  CLI::App* command = cli.add("version", "print the version", "  policyc version");
  cli.on_run(command, version);
}

}  // namespace policyc::cli
