// `policyc lint` is a pre-commit hook's tool: it must not open the clang module (tens of
// milliseconds) nor make a Z3 context (ten more). The dynamic linker's own log says what a run has
// loaded and, as functions are bound on first call, what it has called.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace policyc::house {
namespace {

namespace fs = std::filesystem;

// What the dynamic linker has to say of `policyc ARGS` in the folder of the http-get example.
std::string linker_log(const std::string& args) {
  const std::string command = fmt::format(
      "cd '{}/examples/http-get' && env -u LD_BIND_NOW LD_DEBUG=files,bindings '{}/policyc' {} "
      "2>&1 "
      "</dev/null",
      POLICYC_SOURCE_DIR, POLICYC_BINARY_DIR, args);
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  std::string log;
  std::array<char, 65536> part{};
  for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), pipe)) > 0;) {
    log.append(part.data(), n);
  }
  pclose(pipe);
  return log;
}

// policyc itself calls the function: the library binds its own names when it is loaded.
bool makes_context(const std::string& log) {
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const bool ours = line.find("/policyc [0] to ") != std::string::npos;
    if (ours && line.find("`Z3_mk_context") != std::string::npos) return true;
  }
  return false;
}

TEST(StartUp, LintOpensNoClangAndMakesNoZ3Context) {
  const std::string log = linker_log("lint policies");
  // The log is one, and of a run that got as far as reading YAML.
  ASSERT_NE(log.find("libc.so.6"), std::string::npos) << log.substr(0, 2000);
  ASSERT_NE(log.find("`yaml_parser_parse'"), std::string::npos);
  for (const char* library : {"policyc-clang", "policyc_clang", "libclang", "libLLVM"}) {
    EXPECT_EQ(log.find(library), std::string::npos) << library << " was opened";
  }
  EXPECT_FALSE(makes_context(log)) << "a Z3 context was made";
}

TEST(StartUp, VersionOpensNothingHeavy) {
  const std::string log = linker_log("version");
  ASSERT_NE(log.find("libc.so.6"), std::string::npos);
  EXPECT_EQ(log.find("libclang"), std::string::npos);
  EXPECT_EQ(log.find("policyc-clang"), std::string::npos);
  EXPECT_FALSE(makes_context(log));
}

}  // namespace
}  // namespace policyc::house
