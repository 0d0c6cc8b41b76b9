// Exit codes, the same for every command.
#pragma once

namespace policyc::cli {

enum ExitCode : int {
  kOk = 0,
  kFindings = 1,    // lint errors, failed checks, an answer other than expected
  kUsage = 2,       // usage error, or input that could not be read
  kImpossible = 3,  // this machine cannot do it
  kUndecided = 4,   // could not decide
  kInternal = 70,   // a bug in policyc
};

}  // namespace policyc::cli
