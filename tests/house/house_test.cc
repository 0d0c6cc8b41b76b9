// The house keeps its own rules; and the checker would say so if it did not.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>

#include "tests/house/house_rules.h"

namespace policyc::house {
namespace {

std::string joined(const std::vector<std::string>& lines) {
  return fmt::format("{}", fmt::join(lines, "\n"));
}

std::string complaint(std::string path, std::string text) {
  return joined(check_includes({{std::move(path), std::move(text)}}));
}

const std::vector<File>& repository() {
  static const std::vector<File> files = read_repository(POLICYC_SOURCE_DIR);
  return files;
}

TEST(House, RepositoryIsRead) {
  // The rules below would hold for an empty list too.
  EXPECT_GT(repository().size(), 50U);
  EXPECT_TRUE(std::any_of(repository().begin(), repository().end(),
                          [](const File& f) { return f.path == "ir/evaluate.cc"; }));
}

TEST(House, IncludeGraphHolds) {
  const auto complaints = check_includes(repository());
  EXPECT_TRUE(complaints.empty()) << joined(complaints);
}

TEST(House, NoMachinePathsOrUnknownHosts) {
  const auto complaints = check_mentions(repository());
  EXPECT_TRUE(complaints.empty()) << joined(complaints);
}

TEST(House, LinesAreShortAndCiteNothing) {
  const auto complaints = check_text(repository());
  EXPECT_TRUE(complaints.empty()) << joined(complaints);
}

TEST(House, OnlyKnownNamesAtTheTop) {
  // What is tracked counts, not what an editor or a build leaves lying about.
  const std::string command =
      fmt::format("git -c safe.directory='*' -C '{}' ls-files 2>/dev/null", POLICYC_SOURCE_DIR);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  ASSERT_NE(pipe, nullptr);
  std::vector<std::string> names;
  std::array<char, 4096> row{};
  while (std::fgets(row.data(), row.size(), pipe.get()) != nullptr) {
    std::string path = row.data();
    path = path.substr(0, path.find_first_of("/\n"));
    if (names.empty() || names.back() != path) names.push_back(path);
  }
  if (names.empty()) GTEST_SKIP() << "not a git checkout: nothing to list";
  const auto complaints = check_top_level(names);
  EXPECT_TRUE(complaints.empty()) << joined(complaints);
}

TEST(HouseChecker, SeesLongLinesAndCitations) {
  const auto complain = [](const char* path, const std::string& text) {
    return joined(check_text({{path, text}}));
  };
  const std::string full(100, 'x'), wide = "// " + std::string(96, 'x') + "\u2026";
  EXPECT_EQ(complain("ir/a.cc", full + "\n" + wide + "\n"), "");
  EXPECT_EQ(complain("ir/a.cc", "\n" + full + "x\n"), "ir/a.cc:2: 101 columns, 100 at most");
  EXPECT_NE(complain("backend-bpf/templates/a.bpf.c", full + "x\n"), "");
  EXPECT_EQ(complain("ir/base/diagnostics/a.def", full + "x\n"), "");
  EXPECT_EQ(complain("docs/a.md", full + "x\n"), "");
  EXPECT_NE(complain("ir/a.h", "// as \u00A7 4 has it\n"), "");
}

TEST(HouseChecker, ReadsIncludes) {
  const auto found = includes_of(
      "#include \"ir/flow.h\"\n  #  include <map>  // why\n// #include <x>\n"
      "#include MACRO\n#include <broken\nint include;\n");
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].target, "ir/flow.h");
  EXPECT_FALSE(found[0].angled);
  EXPECT_EQ(found[1].target, "map");
  EXPECT_TRUE(found[1].angled);
  EXPECT_EQ(found[1].line, 2);
}

TEST(HouseChecker, RoomsMeetOnlyInIr) {
  EXPECT_EQ(complaint("frontend/a.cc", "#include \"ir/flow.h\"\n#include <fmt/format.h>\n"), "");
  EXPECT_NE(
      complaint("frontend/a.cc", "\n#include \"verifier/query.h\"\n").find("frontend/a.cc:2:"),
      std::string::npos);
  EXPECT_NE(complaint("frontend/a.cc", "#include \"backend-bpf/image.h\"\n"), "");
  EXPECT_NE(complaint("verifier/a.cc", "#include \"frontend/ast.h\"\n"), "");
  EXPECT_NE(complaint("verifier/a.cc", "#include <backend-bpf/image.h>\n"), "");
  EXPECT_NE(complaint("backend-bpf/a.h", "#include \"verifier/query.h\"\n"), "");
  EXPECT_NE(complaint("backend-bpf/a.h", "#include \"frontend/ast.h\"\n"), "");
}

TEST(HouseChecker, NobodyIncludesCliButTests) {
  for (const char* room : {"ir", "frontend", "verifier", "backend-bpf"}) {
    EXPECT_NE(complaint(fmt::format("{}/a.cc", room), "#include \"cli/env.h\"\n"), "") << room;
  }
  EXPECT_EQ(complaint("tests/cli/a_test.cc", "#include \"cli/env.h\"\n"), "");
  EXPECT_NE(complaint("cli/a.cc", "#include \"tests/house/house_rules.h\"\n"), "");
}

TEST(HouseChecker, IrStandsAlone) {
  EXPECT_EQ(complaint("ir/a.cc",
                      "#include \"ir/base/check.h\"\n#include <vector>\n"
                      "#include <fmt/core.h>\n#include <arpa/inet.h>\n"),
            "");
  EXPECT_NE(complaint("ir/a.cc", "#include \"frontend/ast.h\"\n"), "");
  EXPECT_NE(complaint("ir/a.cc", "#include <nlohmann/json.hpp>\n"), "");
  EXPECT_NE(complaint("ir/a.cc", "#include <re2/re2.h>\n"), "");
  EXPECT_EQ(complaint("ir/l7_match.cc", "#include <re2/re2.h>\n"), "");
  EXPECT_NE(complaint("ir/a.cc", "#include \"flow.h\"\n").find("not rooted"), std::string::npos);
}

TEST(HouseChecker, HeavyHeadersStayInTheirRooms) {
  const std::array<std::pair<const char*, const char*>, 9> homes = {{
      {"yaml.h", "frontend/yaml_document.cc"},
      {"yaml-cpp/yaml.h", "frontend/writer.cc"},
      {"z3++.h", "verifier/solver_z3.cc"},
      {"clang/Frontend/CompilerInstance.h", "backend-bpf/clang_module/compile.cc"},
      {"llvm/Support/raw_ostream.h", "backend-bpf/clang_module/compile.cc"},
      {"bpf/libbpf.h", "backend-bpf/kernel.cc"},
      {"bpf/bpf.h", "backend-bpf/kernel.cc"},
      {"pcap/pcap.h", "backend-bpf/capture.cc"},
      {"CLI/CLI.hpp", "cli/options.cc"},
  }};
  for (const auto& [header, home] : homes) {
    const std::string text = fmt::format("#include <{}>\n", header);
    EXPECT_EQ(complaint(home, text), "") << header;
    for (const char* elsewhere : {"frontend/other.cc", "verifier/other.cc", "backend-bpf/other.cc",
                                  "cli/other.cc", "ir/other.cc"}) {
      const std::string where = elsewhere;
      const bool same_room = where.substr(0, where.find('/')) ==
                             std::string(home).substr(0, std::string(home).find('/'));
      if (same_room || (std::string(header).starts_with("yaml-cpp") && where.starts_with("cli/"))) {
        continue;
      }
      EXPECT_NE(complaint(where, text), "") << header << " in " << where;
    }
  }
  // Even the right room has only one file for a heavy library.
  EXPECT_NE(joined(check_includes({{"verifier/a.cc", "#include <z3++.h>\n"},
                                   {"verifier/b.cc", "#include <z3++.h>\n"}})),
            "");
  EXPECT_NE(complaint("frontend/cursor.cc", "#include <yaml.h>\n"), "");
  EXPECT_NE(complaint("backend-bpf/image.cc", "#include <bpf/bpf.h>\n"), "");
}

TEST(HouseChecker, BpfTemplatesAndTestDataAreNotOurCpp) {
  EXPECT_EQ(complaint("backend-bpf/templates/policy.h", "#include <bpf/bpf_helpers.h>\n"), "");
  EXPECT_EQ(complaint("testdata/golden/x/out.h", "#include <yaml.h>\n"), "");
}

TEST(HouseChecker, FindsMachinePathsAndUnknownHosts) {
  const auto says = [](std::string text) {
    return joined(check_mentions({{"docs/a.md", std::move(text)}}));
  };
  EXPECT_EQ(says("see https://docs.cilium.io/en/stable and http://backend.shop.svc/ ok\n"), "");
  EXPECT_EQ(says("curl http://api.shop.example/x, spiffe://anything.goes/\n"), "");
  EXPECT_NE(says(std::string("\nin /wo") + "rk/tree\n").find("docs/a.md:2:"), std::string::npos);
  EXPECT_NE(says(std::string("/ho") + "me/me/x\n"), "");
  EXPECT_NE(says("http"
                 "s://packages.corp.internal/debian\n"),
            "");
}

TEST(HouseChecker, FindsStrangersAtTheTop) {
  EXPECT_TRUE(check_top_level({"ir", "README.md", ".ci"}).empty());
  EXPECT_EQ(check_top_level({"scripts", "ir"}).size(), 1U);
}

}  // namespace
}  // namespace policyc::house
