// The border between policyc and its clang module, which is opened with dlopen on first use. Plain
// C, so that the two sides share nothing but this page.
#pragma once

#include <stddef.h>

extern "C" {

// Compiles one C file to a BPF object (little endian, -mcpu=v3, -O2, with BTF).
// `source` is not NUL-terminated. On success `object` holds the ELF bytes; on failure it is null.
// `diagnostics` holds what the compiler said, one "file:line:column: severity: text" a line, and is
// never null. Both are allocated with malloc and belong to the caller. Returns 0 on success.
// Equal source gives equal bytes. The process may be ended by the code generator's own checks: call
// from a child.
int policyc_clang_compile(const char* source, size_t source_size, char** object,
                          size_t* object_size, char** diagnostics);

}  // extern "C"
