// bench_engine runs and writes what it says; its figures are not judged here.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

namespace policyc {
namespace {

TEST(BenchEngine, WritesItsResults) {
  const std::string file = ::testing::TempDir() + "/bench_engine.json";
  const std::string command =
      POLICYC_BINARY_DIR "/bench_engine --quick --rounds 1 --json " + file + " > /dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::ifstream in(file);
  const nlohmann::json j = nlohmann::json::parse(in);
  EXPECT_EQ(j["version"], 1);
  EXPECT_TRUE(j["machine"].is_object());
  std::set<std::string> what;
  for (const auto& row : j["results"]) {
    EXPECT_LE(row["min"].get<double>(), row["ms"].get<double>());
    what.insert(row["what"].get<std::string>());
  }
  for (const char* name : {"read", "lower", "resolve", "query, 1000 flows", "lint, files apart",
                           "lint, deployed together", "dead rules, narrow, algebra",
                           "check tables, shared profiles", "check tables, own profiles"}) {
    EXPECT_EQ(what.count(name), 1U) << name;
  }
  std::remove(file.c_str());
}

}  // namespace
}  // namespace policyc
