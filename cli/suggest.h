// "did you mean": the nearest of some names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace policyc::cli {

// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The name nearest to `word`, or "" when none is near enough to be meant.
std::string nearest_name(std::string_view word, const std::vector<std::string>& names);

}  // namespace policyc::cli
