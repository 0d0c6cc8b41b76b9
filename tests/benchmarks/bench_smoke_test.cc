// bench_datapath runs and writes its results; its figures are not judged here.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/backend-bpf/bpf_support.h"

namespace policyc {
namespace {

TEST(BenchDatapath, WritesItsResults) {
  POLICYC_NEEDS_BPF();
  const std::string file = ::testing::TempDir() + "/bench_datapath.json";
  const std::string command =
      POLICYC_BINARY_DIR "/bench_datapath --quick --rounds 1 --json " + file + " > /dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::ifstream in(file);
  const nlohmann::json j = nlohmann::json::parse(in);
  EXPECT_EQ(j["version"], 1);
  EXPECT_TRUE(j["machine"].is_object());
  std::set<std::string> programs;
  for (const auto& row : j["results"]) {
    EXPECT_EQ(row["entries"], 10);
    EXPECT_EQ(row["prefixes"], 1000);
    EXPECT_EQ(row["rounds"], 1);
    EXPECT_GT(row["ns"].get<double>(), 0);
    EXPECT_LE(row["min"].get<double>(), row["ns"].get<double>());
    programs.insert(row["program"].get<std::string>());
  }
  EXPECT_EQ(programs, (std::set<std::string>{"empty", "policyc", "two-lpm"}));
  std::remove(file.c_str());
}

}  // namespace
}  // namespace policyc
