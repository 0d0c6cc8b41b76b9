// Regular expressions in RE2's syntax as trees, as RE2 reads them by default: UTF-8, Perl classes,
// `.` without the line feed, `^` and `$` at the ends of the text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::ir {

// Code points, both ends inclusive.
struct RuneRange {
  std::uint32_t first = 0, last = 0;
  friend bool operator==(const RuneRange&, const RuneRange&) = default;
};

// Conditions between two bytes; words are of ASCII letters, digits and `_`.
enum class Assertion : std::uint8_t {
  TextBegin,
  TextEnd,
  LineBegin,
  LineEnd,
  WordBoundary,
  NoWordBoundary
};

struct Regex {
  enum class Kind : std::uint8_t {
    Class,   // one code point of `runes` (sorted, disjoint), as UTF-8; no ranges: matches nothing
    Byte,    // one byte of `runes` (0 to 255)
    Concat,  // `parts` one after the other; none: the empty string
    Alternate,  // one of `parts`
    Repeat,     // the one part, `min` to `max` times; max -1: any number
    Assert
  };
  Kind kind = Kind::Concat;
  std::vector<RuneRange> runes;
  std::vector<Regex> parts;
  int min = 0, max = -1;
  Assertion assertion = Assertion::TextBegin;

  // Exactly these bytes.
  static Regex literal(std::string_view bytes);
};

// Errors name the construct and its byte offset. Refused although RE2 takes them: Unicode
// properties other than \p{Any}, and letters beyond ASCII under (?i). A text that RE2 refuses for
// its size alone may be taken: ask valid_regex (ir/l7_match.h) where that matters.
Expected<Regex> parse_regex(std::string_view text);

}  // namespace policyc::ir
