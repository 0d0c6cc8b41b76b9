// policyc version: what this is and what it was built with.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "ir/profile.h"

namespace policyc::cli {
namespace {

int version(const std::string& format, Env& env) {
  if (format == "json") {
    nlohmann::ordered_json out = {{"version", 1}, {"policyc", POLICYC_VERSION}};
    for (const ir::Profile& p : ir::all_profiles()) out["profiles"].push_back(p.name);
    env.out << out.dump(1) << "\n";
    return kOk;
  }
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
  auto format = std::make_shared<std::string>("text");
  command->add_option("--format", *format, "text or json")->check(CLI::IsMember({"text", "json"}));
  cli.on_run(command, [format](Env& env) { return version(*format, env); });
}

}  // namespace policyc::cli
