#include <fmt/format.h>

#include <bit>

#include "verifier/solver.h"

namespace policyc {
namespace {

constexpr int kL4Bits = 32;

int bits_for(std::size_t size) {
  return size <= 2 ? 1 : static_cast<int>(std::bit_width(size - 1));
}

std::string value(std::uint64_t v, int bits) {
  return fmt::format("(_ bv{} {})", v, bits);
}

// Membership as a disjunction of runs of values.
std::string member(const std::string& name, const PointSet& points) {
  const int bits = bits_for(points.size());
  std::string out;
  std::size_t parts = 0;
  for (std::size_t i = 0; i < points.size();) {
    if (!points.has(i)) {
      ++i;
      continue;
    }
    std::size_t last = i;
    while (last + 1 < points.size() && points.has(last + 1)) ++last;
    if (last == i) {
      out += fmt::format(" (= {} {})", name, value(i, bits));
    } else {
      out += fmt::format(" (and (bvule {} {}) (bvule {} {}))", value(i, bits), name, name,
                         value(last, bits));
    }
    ++parts;
    i = last + 1;
  }
  return parts == 1 ? out.substr(1) : "(or" + out + ")";
}

std::string matches(const Box& box) {
  std::string out = fmt::format("(and (bvule {} l4) (bvult l4 {})", value(box.begin, kL4Bits),
                                value(box.end, kL4Bits));
  for (const Box::Side& s : box.sides) {
    out += " " + member(fmt::format("d{}", s.dimension), s.points);
  }
  return out + ")";
}

}  // namespace

std::string smtlib(const Question& q) {
  std::string out = "(set-logic QF_BV)\n";
  out += "; is there a flow in the box that no cover takes in? unsat: none\n";
  out += fmt::format("; {}\n", q.title);
  out += fmt::format("(declare-const l4 (_ BitVec {}))  ; protocol class << 16 | port\n", kL4Bits);
  std::vector<char> seen(q.space->dimensions.size(), 0);
  const auto note = [&](const Box& box) {
    for (const Box::Side& s : box.sides) seen[s.dimension] = 1;
  };
  note(q.box);
  for (const Box* c : q.covers) note(*c);
  for (std::size_t d = 0; d < seen.size(); ++d) {
    if (seen[d] == 0) continue;
    const FlowSpace::Dimension& dim = q.space->dimensions[d];
    const int bits = bits_for(dim.size);
    out += fmt::format("(declare-const d{} (_ BitVec {}))  ; {}\n", d, bits, dim.name);
    out += fmt::format("(assert (bvule d{} {}))\n", d, value(dim.size - 1, bits));
  }
  out += fmt::format("(assert (bvult l4 {}))\n", value(q.space->l4_end, kL4Bits));
  out += fmt::format("(assert {})\n", matches(q.box));
  for (const Box* c : q.covers) out += fmt::format("(assert (not {}))\n", matches(*c));
  return out + "(check-sat)\n";
}

}  // namespace policyc
