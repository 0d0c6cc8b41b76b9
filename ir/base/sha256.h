// SHA-256 (FIPS 180-4): names of contents in manifests and caches.
#pragma once

#include <string>
#include <string_view>

namespace policyc {

// 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view bytes);

}  // namespace policyc
