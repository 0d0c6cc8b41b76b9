// Our table images as text, for people and for diffs.
#pragma once

#include <string>
#include <string_view>

#include "ir/base/expected.h"

namespace policyc::bpf {

// Any bytes are safe to read; equal images give equal text. Errors: none of our images.
Expected<std::string> print_image_file(std::string_view bytes);

}  // namespace policyc::bpf
