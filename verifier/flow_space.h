// Exact set algebra over flows. A flow is a point: an L4 key and one value for each dimension (who
// the peer is, the value of each label that selectors mention, …). A rule matches a box of points;
// questions about rules are questions whether boxes cover a box.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ir/l4.h"

namespace policyc {

// A set of values 0 … size-1 of one dimension.
class PointSet {
 public:
  PointSet() = default;
  explicit PointSet(std::size_t size, bool full = false);

  std::size_t size() const { return size_; }
  bool has(std::size_t point) const { return ((words_[point / 64] >> (point % 64)) & 1U) != 0; }
  void add(std::size_t point) { words_[point / 64] |= std::uint64_t{1} << (point % 64); }
  void remove(std::size_t point) { words_[point / 64] &= ~(std::uint64_t{1} << (point % 64)); }
  bool empty() const;
  bool full() const { return count() == size_; }
  std::size_t count() const;
  std::size_t first() const;  // size() where empty
  bool meets(const PointSet& other) const;
  bool within(const PointSet& other) const;
  PointSet operator&(const PointSet& other) const;
  PointSet operator-(const PointSet& other) const;
  friend bool operator==(const PointSet&, const PointSet&) = default;

 private:
  std::size_t size_ = 0;
  std::vector<std::uint64_t> words_;
};

// The names and sizes of the dimensions; the L4 key is always there beside them.
struct FlowSpace {
  struct Dimension {
    std::string name;
    std::size_t size = 0;
  };
  std::vector<Dimension> dimensions;
  // Keys at and above ir::kL4KeyEnd stand for port names: a number that nobody knows.
  ir::L4Key l4_end = ir::kL4KeyEnd;

  std::uint32_t add(std::string name, std::size_t size);
};

// A half-open interval of L4 keys, and for each constrained dimension the values that are in.
struct Box {
  struct Side {
    std::uint32_t dimension = 0;
    PointSet points;  // never empty
    friend bool operator==(const Side&, const Side&) = default;
  };
  ir::L4Key begin = 0, end = 0;
  std::vector<Side> sides;  // ascending by dimension; a dimension not named is free
  friend bool operator==(const Box&, const Box&) = default;

  const PointSet* side(std::uint32_t dimension) const;
  // Narrows one dimension; false where nothing is left (the box is then not to be used).
  bool restrict(std::uint32_t dimension, const PointSet& points);
};

bool meets(const Box& a, const Box& b);
bool contains(const Box& outer, const Box& inner);
// nullopt where they do not meet.
std::optional<Box> intersect(const Box& a, const Box& b);
// The parts of `a` outside `b`, disjoint.
std::vector<Box> subtract(const Box& a, const Box& b);

struct FlowPoint {
  ir::L4Key key = 0;
  std::vector<std::uint32_t> values;  // by dimension
  friend bool operator==(const FlowPoint&, const FlowPoint&) = default;
};
bool contains(const Box& box, const FlowPoint& point);
// The least point of the box, on port 80 of TCP where that is in.
FlowPoint point_of(const FlowSpace& space, const Box& box);

// Whether `covers` together take in all of the box.
struct Coverage {
  enum class Answer : std::uint8_t { Covered, Open, Undecided } answer = Answer::Undecided;
  std::vector<std::size_t> used;     // Covered: which of `covers` do, ascending
  std::optional<FlowPoint> witness;  // Open: a point outside all of them
  std::size_t steps = 0;             // boxes looked at
  bool covered() const { return answer == Answer::Covered; }
};
inline constexpr std::size_t kCoverageBudget = 50'000;
// Exact. Undecided only past the budget of steps.
Coverage cover(const FlowSpace& space, const Box& box, const std::vector<const Box*>& covers,
               std::size_t budget = kCoverageBudget);
// The same; a cover by several boxes is reduced until no box of `used` can be left out.
Coverage minimal_cover(const FlowSpace& space, const Box& box,
                       const std::vector<const Box*>& covers, std::size_t budget = kCoverageBudget);

// A rule that matches a box of flows; any matching deny wins, whatever the order.
struct BoxRule {
  Box box;
  bool deny = false;
};
// Rules that can be taken away, each alone, without changing what passes: allows within the other
// allows and the denies, denies within the other denies. By rule.
std::vector<Coverage::Answer> dead_rules(const FlowSpace& space, const std::vector<BoxRule>& rules);

}  // namespace policyc
