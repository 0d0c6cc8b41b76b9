#include "verifier/flow_space.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "ir/base/file.h"
#include "tests/verifier/rule_sets.h"
#include "verifier/solver.h"

namespace policyc {
namespace {

using testing::dead_question;
using testing::generate_rules;
using testing::RuleSet;
using Answer = Coverage::Answer;

// Small enough to look at every point: two dimensions of 3 and 4 values, eight L4 keys.
FlowSpace small_space() {
  FlowSpace s;
  s.add("a", 3);
  s.add("b", 4);
  s.l4_end = 8;
  return s;
}

Box random_box() {
  Box out;
  out.begin = *rc::gen::inRange<std::uint32_t>(0, 8);
  out.end = out.begin + *rc::gen::inRange<std::uint32_t>(1, 9 - out.begin);
  const FlowSpace space = small_space();
  for (std::uint32_t d = 0; d < 2; ++d) {
    PointSet points(space.dimensions[d].size);
    for (std::size_t i = 0; i < points.size(); ++i) {
      if (*rc::gen::inRange(0, 3) != 0) points.add(i);
    }
    if (!points.empty()) out.restrict(d, points);
  }
  return out;
}

std::vector<FlowPoint> all_points() {
  std::vector<FlowPoint> out;
  for (ir::L4Key key = 0; key < 8; ++key) {
    for (std::uint32_t a = 0; a < 3; ++a) {
      for (std::uint32_t b = 0; b < 4; ++b) out.push_back({key, {a, b}});
    }
  }
  return out;
}

RC_GTEST_PROP(FlowSpace, AlgebraIsThatOfPointSets, ()) {
  const Box a = random_box(), b = random_box();
  const auto both = intersect(a, b);
  const std::vector<Box> rest = subtract(a, b);
  bool inside = true, common = false;
  for (const FlowPoint& p : all_points()) {
    const bool in_a = contains(a, p), in_b = contains(b, p);
    inside = inside && (!in_b || in_a);
    common = common || (in_a && in_b);
    RC_ASSERT((both && contains(*both, p)) == (in_a && in_b));
    const auto parts =
        std::count_if(rest.begin(), rest.end(), [&](const Box& r) { return contains(r, p); });
    RC_ASSERT(parts == (in_a && !in_b ? 1 : 0));
  }
  RC_ASSERT(meets(a, b) == common);
  RC_ASSERT(contains(a, b) == inside);
}

RC_GTEST_PROP(FlowSpace, CoverLooksAtEveryPoint, ()) {
  const FlowSpace space = small_space();
  const Box box = random_box();
  std::vector<Box> boxes;
  for (int i = 0; i < *rc::gen::inRange(0, 9); ++i) boxes.push_back(random_box());
  std::vector<const Box*> covers;
  for (const Box& b : boxes) covers.push_back(&b);
  const auto open = [&](const std::vector<std::size_t>& used, const FlowPoint& p) {
    return contains(box, p) && std::none_of(used.begin(), used.end(),
                                            [&](std::size_t i) { return contains(boxes[i], p); });
  };
  const auto any_open = [&](const std::vector<std::size_t>& used) {
    const auto points = all_points();
    return std::any_of(points.begin(), points.end(),
                       [&](const FlowPoint& p) { return open(used, p); });
  };
  std::vector<std::size_t> all(boxes.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  const Coverage c = minimal_cover(space, box, covers);
  RC_ASSERT(c.answer == (any_open(all) ? Answer::Open : Answer::Covered));
  if (c.witness) RC_ASSERT(open(all, *c.witness));
  // The boxes named do cover, and none of them can be left out.
  if (!c.covered()) return;
  RC_ASSERT(!any_open(c.used));
  for (std::size_t i = 0; i < c.used.size(); ++i) {
    std::vector<std::size_t> fewer = c.used;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    RC_ASSERT(any_open(fewer));
  }
  // And the solver says the same.
  if (!Solver::available()) return;
  static Solver solver;
  Question q{&space, box, covers, "property"};
  const Solution s = solver.solve(q);
  RC_ASSERT(s.answer == (c.covered() ? Solution::Answer::Covered : Solution::Answer::Open));
  if (s.witness) RC_ASSERT(open(all, *s.witness));
}

TEST(FlowSpace, BudgetEndsInUndecided) {
  const RuleSet set = generate_rules(400, true, 3);
  std::size_t undecided = 0;
  for (std::size_t i = 0; i < set.rules.size(); ++i) {
    const Question q = dead_question(set, i);
    const Coverage little = cover(set.space, q.box, q.covers, 2);
    if (little.answer == Answer::Undecided) {
      ++undecided;
    } else {
      EXPECT_EQ(little.answer, cover(set.space, q.box, q.covers).answer);
    }
  }
  EXPECT_GT(undecided, 0U);
}

// The sizes that fit seconds; POLICYC_RULE_SETS=1000,5000 asks for more (docs/testing.md).
std::vector<std::size_t> sizes() {
  const char* more = std::getenv("POLICYC_RULE_SETS");
  std::vector<std::size_t> out = {10, 100, 200};
  if (more == nullptr) return out;
  out.clear();
  std::stringstream text(more);
  for (std::string n; std::getline(text, n, ',');) out.push_back(std::stoul(n));
  return out;
}

TEST(Solver, FindsTheSameDeadRules) {
  if (!Solver::available()) GTEST_SKIP() << "this build has no solver";
  for (const bool wide : {false, true}) {
    for (const std::size_t n : sizes()) {
      const RuleSet set = generate_rules(n, wide, 7);
      const auto dead = dead_rules(set.space, set.rules);
      Solver solver;
      std::size_t count = 0, differ = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const Question q = dead_question(set, i);
        const Solution s = solver.solve(q);
        const auto expected =
            s.answer == Solution::Answer::Covered ? Answer::Covered : Answer::Open;
        ASSERT_NE(s.answer, Solution::Answer::Unknown) << s.reason;
        if (dead[i] != expected) ++differ;
        if (dead[i] == Answer::Covered) ++count;
        if (s.witness) {
          EXPECT_TRUE(contains(q.box, *s.witness));
          for (const Box* c : q.covers) EXPECT_FALSE(contains(*c, *s.witness));
        }
      }
      EXPECT_EQ(differ, 0U) << n << (wide ? " wide" : " narrow");
      EXPECT_GE(count, wide && n >= 100 ? n / 4 : 0);
      EXPECT_LT(count, n);
    }
  }
}

TEST(Solver, ResourceLimitIsDeterministic) {
  if (!Solver::available()) GTEST_SKIP() << "this build has no solver";
  const RuleSet set = generate_rules(300, true, 5);
  std::vector<std::string> runs;
  for (int run = 0; run < 2; ++run) {
    Solver solver(20'000);
    std::string text;
    for (std::size_t i = 0; i < 60; ++i) {
      const Solution s = solver.solve(dead_question(set, i));
      text += fmt::format("{}:{} ", static_cast<int>(s.answer), s.resources);
    }
    runs.push_back(text);
  }
  EXPECT_EQ(runs[0], runs[1]);
}

// Another solver reads the questions as they are written and gives the same answers.
TEST(Solver, AnotherSolverRepeatsASample) {
  if (std::system("command -v cvc5 >/dev/null") != 0) GTEST_SKIP() << "cvc5 is not installed";
  const std::filesystem::path dir =
      std::filesystem::path(::testing::TempDir()) / "policyc-flow-space-smt";
  std::filesystem::create_directories(dir);
  const RuleSet set = generate_rules(60, true, 11);
  std::size_t unknown = 0, covered = 0;
  for (std::size_t i = 0; i < set.rules.size(); i += 4) {
    const Question q = dead_question(set, i);
    const std::string file = (dir / fmt::format("{}.smt2", i)).string();
    ASSERT_FALSE(write_file_atomic(file, smtlib(q)));
    const std::string out = file + ".out";
    ASSERT_EQ(std::system(fmt::format("cvc5 --rlimit=2000000 {} >{} 2>&1", file, out).c_str()), 0)
        << *read_file(out);
    const std::string answer = *read_file(out);
    const bool mine = cover(set.space, q.box, q.covers).covered();
    if (answer == "unknown\n") {
      ++unknown;
      continue;
    }
    EXPECT_EQ(answer, mine ? "unsat\n" : "sat\n") << file;
    if (mine) ++covered;
  }
  std::cout << "cvc5: " << unknown << " of 15 unknown\n";
  EXPECT_LT(unknown, 5U);
  EXPECT_GT(covered, 0U);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace policyc
