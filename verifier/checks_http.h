// The part of the HTTP findings that needs automata.
#pragma once

namespace policyc::checks {

struct Context;

// Rules that no request meets (POL0304, POL0308, POL0309) and rules whose requests pass by others
// anyway (POL0307).
void check_http_languages(Context& c);

}  // namespace policyc::checks
