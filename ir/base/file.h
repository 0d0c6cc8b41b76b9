// Whole files, in and out.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "ir/base/expected.h"

namespace policyc {

// The bytes of a file (a pipe too). The error names the cause, not the path: "no such file".
Expected<std::string> read_file(const std::string& path, std::size_t max_bytes = 1U << 30U);

// Writes under a temporary name beside the target and renames, so that nobody ever sees half a
// file. Symbolic links are followed; the mode of an existing file is kept. Returns what went wrong,
// if anything did.
std::optional<Error> write_file_atomic(const std::string& path, std::string_view text);

}  // namespace policyc
