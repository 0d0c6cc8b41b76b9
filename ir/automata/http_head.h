// Lists of HTTP rules as automata over the bytes of a request head.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/automata/dfa.h"
#include "ir/policy_set.h"

namespace policyc::ir {

// What can be said of bytes that a client sends in one piece; the labels of the automaton.
enum class HeadVerdict : std::uint32_t {
  Undecided = 0,  // not one whole plain head and nothing else: a proxy has to look
  Allow = 1,      // a rule matches
  Deny = 2        // none does
};

// Texts are decided where they are one complete plain request head of HTTP/1.0 or 1.1, the empty
// line at its end and nothing behind it; http_matches then says the same. Undecided remains what a
// proxy may read otherwise than these bytes look: methods other than upper-case words; targets that
// are no absolute path, or whose path is not normal (`//`, `/./`, `/../`, `%`) or has characters
// beyond RFC 3986; no Host or several, and odd ones; Transfer-Encoding; a Content-Length that is no
// number; repeated headers whose value a rule wants; folded lines, stray control characters.
//
// Errors: a rule that no automaton can hold (the reason begins with what is wrong: a regular
// expression, a header that the proxy changes before it judges, a header action), or "too large".
Expected<Dfa> http_head_automaton(const std::vector<HttpRule>& rules,
                                  std::size_t budget = kStateBudget);

}  // namespace policyc::ir
