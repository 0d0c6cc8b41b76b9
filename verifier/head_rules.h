// Whether the automaton of a list of HTTP rules (ir/automata/http_head.h) says what the rules say:
// the languages of the heads that they allow and deny, put together a second time by the algebra of
// languages, without the reader that the automaton is made from.
#pragma once

#include <string>
#include <vector>

#include "ir/automata/dfa.h"
#include "ir/policy_set.h"

namespace policyc::verify {

struct HeadReport {
  enum class Answer : std::uint8_t { Proved, Refuted, NotProved } answer = Answer::NotProved;
  std::string reason;  // NotProved: why
  std::string head;    // Refuted: a text that is labelled otherwise than the rules say
};

// Proved: what is labelled Allow or Deny is one complete plain head that the rules allow or deny,
// and every such head in which no header that a rule asks for comes twice is labelled. Rules whose
// automaton is refused (unknown placeholders, header actions) are not to be asked about.
HeadReport check_head_automaton(const ir::Dfa& automaton, const std::vector<ir::HttpRule>& rules);

}  // namespace policyc::verify
