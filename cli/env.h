// The outside world as commands see it: streams that tests can replace.
#pragma once

#include <istream>
#include <ostream>

namespace policyc::cli {

struct Env {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool out_terminal = false;
  bool err_terminal = false;
};

}  // namespace policyc::cli
