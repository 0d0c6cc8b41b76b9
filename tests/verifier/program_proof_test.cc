// The questions of a proof, repeated by another solver. That programs are proved and others are not
// is shown by program_mutants_test.
#include "verifier/program_proof.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "ir/base/file.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/verifier/datapath_shape.h"

namespace policyc::verify {
namespace {

TEST(ProgramProof, OtherSolversAgree) {
  if (!bpf::find_clang_module()) GTEST_SKIP() << "skipped: no clang module";
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const bpf::SizeClass sizes;
  const auto object = ebpf::read_object(testing::object_for(sizes));
  ASSERT_TRUE(object) << object.error();
  TermSolver solver;
  std::vector<std::string> questions;
  std::vector<TermAnswer> answers;
  solver.listen([&](const TermQuestion& q) {
    EXPECT_FALSE(q.about.empty());
    questions.push_back(q.smtlib);
    answers.push_back(*q.answer);
  });
  const ProofReport r =
      prove_program(*object, "policyc_ingress", 0, testing::datapath_shape(sizes), solver);
  EXPECT_EQ(r.answer, ProofReport::Answer::Proved) << r.reason;
  ASSERT_GT(questions.size(), 5U);
  EXPECT_EQ(questions.size(), r.questions);
  std::uint64_t resources = 0;
  for (const TermAnswer& a : answers) resources += a.resources;
  EXPECT_EQ(resources, r.resources);
  if (std::system("command -v cvc5 >/dev/null") != 0) GTEST_SKIP() << "cvc5 is not installed";
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const std::string file = ::testing::TempDir() + "policyc-proof-" + std::to_string(i) + ".smt2";
    ASSERT_FALSE(write_file_atomic(file, questions[i]));
    ASSERT_EQ(std::system(("cvc5 --rlimit=100000 " + file + " >" + file + ".out 2>&1").c_str()), 0);
    const std::string answer = *read_file(file + ".out");
    const bool never = answers[i].kind == TermAnswer::Kind::Never;
    EXPECT_TRUE(answer == "unknown\n" || answer == (never ? "unsat\n" : "sat\n")) << answer;
    unknown += answer == "unknown\n" ? 1U : 0U;
    std::remove(file.c_str());
    std::remove((file + ".out").c_str());
  }
  std::printf("cvc5: %zu questions, %zu unknown\n", questions.size(), unknown);
  EXPECT_LT(unknown, questions.size() / 2);
}

}  // namespace
}  // namespace policyc::verify
