// The automaton of a rule list against the languages of its rules: equal for random lists, and a
// changed list is told from it by a head for which the two differ.
#include "verifier/head_rules.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ir/automata/http_head.h"
#include "tests/ir/http_gen.h"

namespace policyc::verify {
namespace {

using Answer = HeadReport::Answer;

TEST(HeadRules, AutomataSayWhatTheRulesSay) {
  int proved = 0, refuted = 0, equal = 0;
  const bool ok = rc::check("automaton = rules", [&] {
    const auto rules = ir::testing::some_rules();
    const auto automaton = ir::http_head_automaton(rules);
    if (!automaton) RC_FAIL(automaton.error());
    const HeadReport r = check_head_automaton(*automaton, rules);
    if (r.answer == Answer::Refuted) RC_FAIL(r.head);
    RC_ASSERT(r.answer == Answer::Proved);
    ++proved;
    // Another list: the same automaton, or a head that shows the difference.
    auto others = rules;
    if (others.empty() || *rc::gen::inRange(0, 2) == 0) {
      others.push_back(ir::testing::some_rule());
    } else {
      others.pop_back();
    }
    const auto other = ir::http_head_automaton(others);
    if (!other) RC_FAIL(other.error());
    const HeadReport wrong = check_head_automaton(*other, rules);
    RC_ASSERT(wrong.answer != Answer::NotProved);
    if (*other == *automaton) {
      RC_ASSERT(wrong.answer == Answer::Proved);
      ++equal;
    } else if (wrong.answer == Answer::Refuted) {
      RC_ASSERT(other->label_of(wrong.head) != automaton->label_of(wrong.head));
      ++refuted;
    }
  });
  EXPECT_TRUE(ok);
  EXPECT_GT(proved, 50);
  EXPECT_GT(refuted, 20);
  EXPECT_GT(equal, 0);
}

}  // namespace
}  // namespace policyc::verify
