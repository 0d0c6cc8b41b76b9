// C to BPF objects, through the clang module (clang_module/), which is opened on first use and in a
// child process: a check that fails inside the code generator ends the child, not policyc.
#pragma once

#include <string>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::bpf {

// Where the module is: $POLICYC_CLANG_MODULE, beside the running program, or the installed library
// folder. The error says what to install or build; users see it with exit code 3.
Expected<std::string> find_clang_module();

// The ELF bytes of each source, in order. Equal source gives equal bytes. Errors: the module cannot
// be opened, or a source does not compile (with the compiler's words).
Expected<std::vector<std::string>> compile_c(const std::string& module,
                                             const std::vector<std::string>& sources);

}  // namespace policyc::bpf
