#include "ir/base/check.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace policyc {

void internal_error(const char* file, int line, const char* what) {
  const char* name = std::strrchr(file, '/');
  std::fprintf(stderr,
               "policyc: internal error: %s (%s:%d)\n"
               "This is a bug in policyc. Please report it with the input that shows it.\n",
               what, name != nullptr ? name + 1 : file, line);
  std::_Exit(70);
}

}  // namespace policyc
