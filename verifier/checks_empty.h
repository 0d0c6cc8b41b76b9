// Lists that are written and empty, and policies of which nothing is left.
#pragma once

namespace policyc::checks {

struct Context;

void check_empty(Context& c);  // POL0337, POL0357, POL0358, POL0373

}  // namespace policyc::checks
