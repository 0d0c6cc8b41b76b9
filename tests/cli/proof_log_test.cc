#include "cli/proof_log.h"

#include <gtest/gtest.h>

namespace policyc::cli {
namespace {

TEST(ProofLog, NoticesAContradiction) {
  if (!Solver::available()) GTEST_SKIP() << "this build has no solver";
  FlowSpace space;
  space.add("peer", 3);
  Box all;
  all.end = space.l4_end;
  const Question question{&space, all, {&all}, "is everything covered by everything?"};
  ProofLog log("", true);
  log.hear({&question, Coverage::Answer::Covered, 1});
  EXPECT_TRUE(log.contradictions().empty());
  log.hear({&question, Coverage::Answer::Open, 1});
  ASSERT_EQ(log.contradictions().size(), 1U);
  EXPECT_EQ(log.contradictions().front().rfind(question.title, 0), 0U);
  // What the algebra leaves open is no contradiction.
  log.hear({&question, Coverage::Answer::Undecided, 1});
  EXPECT_EQ(log.contradictions().size(), 1U);
  EXPECT_NE(log.summary().find("3 questions"), std::string::npos);
  EXPECT_NE(log.summary().find("1 agree, 0 unknown, 1 that the algebra left open"),
            std::string::npos);
}

TEST(ProofLog, SaysWhereItCannotWrite) {
  FlowSpace space;
  Box all;
  all.end = space.l4_end;
  const Question question{&space, all, {}, "is everything covered by nothing?"};
  ProofLog log("/dev/null/proofs", false);
  log.hear({&question, Coverage::Answer::Open, 1});
  const auto failure = log.finish();
  ASSERT_TRUE(failure);
  EXPECT_NE(failure->find("/dev/null/proofs"), std::string::npos);
}

}  // namespace
}  // namespace policyc::cli
