// Objects load with the tools that everybody has, as docs/handbook.md shows, and at every size.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/backend-bpf/bpf_support.h"

namespace policyc {
namespace {

namespace fs = std::filesystem;

int shell(const std::string& command) {
  return std::system((command + " > /dev/null 2>&1").c_str());
}

// A network namespace with a pair of interfaces, and an object file; all gone afterwards.
class ByHand : public ::testing::Test {
 protected:
  const std::string name = fmt::format("policyc-test-{}", getpid());
  const std::string object = ::testing::TempDir() + "/" + name + ".o";

  void SetUp() override {
    POLICYC_NEEDS_BPF();
    for (const char* tool : {"ip", "tc", "bpftool"}) {
      if (shell(fmt::format("command -v {}", tool)) != 0) GTEST_SKIP() << "skipped: no " << tool;
    }
    if (shell("ip netns add " + name) != 0) GTEST_SKIP() << "skipped: no network namespaces here";
    ASSERT_EQ(shell(fmt::format("ip -n {} link add v0 type veth peer name v1", name)), 0);
    std::ofstream(object, std::ios::binary) << testing::object_for({});
  }
  void TearDown() override {
    shell("ip netns del " + name);
    std::error_code ec;
    fs::remove(object, ec);
  }
};

TEST_F(ByHand, BpftoolLoadsBothProgramsAndPinsTheMaps) {
  // In a mount namespace with a BPF file system of its own, so that no pin outlives the test.
  const std::string pins = ::testing::TempDir() + "/" + name;
  fs::create_directory(pins);
  const auto in_bpffs = [&](const std::string& then) {
    return shell(fmt::format(
        "unshare -m sh -c 'mount -t bpf bpf {0} && bpftool prog loadall {1} {0}/programs pinmaps "
        "{0}/maps && {2}'",
        pins, object, then));
  };
  EXPECT_EQ(in_bpffs(fmt::format("test -e {0}/programs/policyc_ingress && "
                                 "test -e {0}/programs/policyc_egress && "
                                 "test $(ls {0}/maps | wc -l) = 2",
                                 pins)),
            0);
  EXPECT_NE(in_bpffs("false"), 0) << "the test would notice";
  fs::remove(pins);
}

TEST_F(ByHand, TcAttachesBothPrograms) {
  ASSERT_EQ(shell(fmt::format("tc -n {} qdisc add dev v0 clsact", name)), 0);
  for (const auto& [hook, section, program] :
       {std::tuple{"egress", "tc", "policyc_ingress"},
        std::tuple{"ingress", "classifier", "policyc_egress"}}) {
    EXPECT_EQ(shell(fmt::format("tc -n {} filter add dev v0 {} bpf da obj {} section {}", name,
                                hook, object, section)),
              0)
        << section;
    EXPECT_EQ(
        shell(fmt::format("tc -n {} filter show dev v0 {} | grep -w {}", name, hook, program)), 0)
        << program;
  }
}

TEST(Sizes, TheKernelAcceptsEveryOne) {
  POLICYC_NEEDS_BPF();
  bpf::SizeClass many;  // 64k identities told apart, 64k host routes of either family
  many.trie4_blocks = 4096;
  many.hash4_bits = many.hash6_bits = 15;
  many.hosts6 = 65536;
  many.trie6_blocks = 4096;
  many.classes = 65536;
  many.identity_shift = 0;
  bpf::SizeClass wide = many;  // a table that fills its budget
  wide.pages = 8192;
  wide.cells = 524288;
  wide.records = 16384;
  bpf::SizeClass long_lists = many;  // 64k intervals and more
  long_lists.pages = long_lists.cells = 0;
  long_lists.intervals = 1U << 20U;
  long_lists.interval_steps = 20;
  for (const bpf::SizeClass& sizes : {bpf::SizeClass{}, wide, long_lists}) {
    const auto loaded = bpf::LoadedObject::load(testing::object_for(sizes), {});
    ASSERT_TRUE(loaded) << loaded.error();
    for (const char* program : {bpf::kIngressProgram, bpf::kEgressProgram}) {
      EXPECT_GT(loaded->instructions(program), 100U);
      EXPECT_LT(loaded->instructions(program), 4096U) << program;
    }
  }
}

}  // namespace
}  // namespace policyc
