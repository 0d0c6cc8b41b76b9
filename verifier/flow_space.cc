#include "verifier/flow_space.h"

#include <algorithm>
#include <bit>

namespace policyc {

PointSet::PointSet(std::size_t size, bool full)
    : size_(size), words_((size + 63) / 64, full ? ~std::uint64_t{0} : 0) {
  if (full && size % 64 != 0) words_.back() = (std::uint64_t{1} << (size % 64)) - 1;
}

bool PointSet::empty() const {
  return std::all_of(words_.begin(), words_.end(), [](std::uint64_t w) { return w == 0; });
}

std::size_t PointSet::count() const {
  std::size_t n = 0;
  for (const std::uint64_t w : words_) n += static_cast<std::size_t>(std::popcount(w));
  return n;
}

std::size_t PointSet::first() const {
  for (std::size_t i = 0; i < words_.size(); ++i) {
    if (words_[i] != 0) return i * 64 + static_cast<std::size_t>(std::countr_zero(words_[i]));
  }
  return size_;
}

bool PointSet::meets(const PointSet& other) const {
  for (std::size_t i = 0; i < words_.size(); ++i) {
    if ((words_[i] & other.words_[i]) != 0) return true;
  }
  return false;
}

bool PointSet::within(const PointSet& other) const {
  for (std::size_t i = 0; i < words_.size(); ++i) {
    if ((words_[i] & ~other.words_[i]) != 0) return false;
  }
  return true;
}

PointSet PointSet::operator&(const PointSet& other) const {
  PointSet out = *this;
  for (std::size_t i = 0; i < words_.size(); ++i) out.words_[i] &= other.words_[i];
  return out;
}

PointSet PointSet::operator-(const PointSet& other) const {
  PointSet out = *this;
  for (std::size_t i = 0; i < words_.size(); ++i) out.words_[i] &= ~other.words_[i];
  return out;
}

std::uint32_t FlowSpace::add(std::string name, std::size_t size) {
  dimensions.push_back({std::move(name), size});
  return static_cast<std::uint32_t>(dimensions.size() - 1);
}

const PointSet* Box::side(std::uint32_t dimension) const {
  for (const Side& s : sides) {
    if (s.dimension == dimension) return &s.points;
  }
  return nullptr;
}

bool Box::restrict(std::uint32_t dimension, const PointSet& points) {
  if (points.full()) return true;
  const auto at = std::lower_bound(sides.begin(), sides.end(), dimension,
                                   [](const Side& s, std::uint32_t d) { return s.dimension < d; });
  if (at == sides.end() || at->dimension != dimension) {
    if (points.empty()) return false;
    sides.insert(at, {dimension, points});
    return true;
  }
  at->points = at->points & points;
  return !at->points.empty();
}

bool meets(const Box& a, const Box& b) {
  if (a.begin >= b.end || b.begin >= a.end) return false;
  auto x = a.sides.begin();
  auto y = b.sides.begin();
  while (x != a.sides.end() && y != b.sides.end()) {
    if (x->dimension < y->dimension) {
      ++x;
    } else if (y->dimension < x->dimension) {
      ++y;
    } else {
      if (!x->points.meets(y->points)) return false;
      ++x;
      ++y;
    }
  }
  return true;
}

bool contains(const Box& outer, const Box& inner) {
  if (inner.begin < outer.begin || outer.end < inner.end) return false;
  auto y = inner.sides.begin();
  for (const Box::Side& x : outer.sides) {
    while (y != inner.sides.end() && y->dimension < x.dimension) ++y;
    if (y == inner.sides.end() || y->dimension != x.dimension) return false;
    if (!y->points.within(x.points)) return false;
  }
  return true;
}

std::optional<Box> intersect(const Box& a, const Box& b) {
  Box out = a;
  out.begin = std::max(a.begin, b.begin);
  out.end = std::min(a.end, b.end);
  if (out.begin >= out.end) return std::nullopt;
  for (const Box::Side& s : b.sides) {
    if (!out.restrict(s.dimension, s.points)) return std::nullopt;
  }
  return out;
}

std::vector<Box> subtract(const Box& a, const Box& b) {
  if (!meets(a, b)) return {a};
  std::vector<Box> out;
  Box rest = a;
  if (rest.begin < b.begin) {
    out.push_back(rest);
    out.back().end = b.begin;
    rest.begin = b.begin;
  }
  if (b.end < rest.end) {
    out.push_back(rest);
    out.back().begin = b.end;
    rest.end = b.end;
  }
  for (const Box::Side& s : b.sides) {
    const PointSet* mine = rest.side(s.dimension);
    const PointSet all(s.points.size(), true);
    const PointSet outside = (mine != nullptr ? *mine : all) - s.points;
    if (!outside.empty()) {
      out.push_back(rest);
      out.back().restrict(s.dimension, outside);
    }
    rest.restrict(s.dimension, s.points);
  }
  return out;
}

bool contains(const Box& box, const FlowPoint& point) {
  if (point.key < box.begin || box.end <= point.key) return false;
  return std::all_of(box.sides.begin(), box.sides.end(),
                     [&](const Box::Side& s) { return s.points.has(point.values[s.dimension]); });
}

FlowPoint point_of(const FlowSpace& space, const Box& box) {
  // Port 80 of TCP where it is in, which reads best.
  const ir::L4Key web = ir::l4_key(ir::kProtoTcp, 80), tcp = ir::l4_key(ir::kProtoTcp, 0);
  const auto in = [&](ir::L4Key key) { return box.begin <= key && key < box.end; };
  const ir::L4Key key = in(web) ? web : in(tcp + 1) ? tcp + 1 : box.begin;
  FlowPoint out{key, std::vector<std::uint32_t>(space.dimensions.size(), 0)};
  for (const Box::Side& s : box.sides) {
    out.values[s.dimension] = static_cast<std::uint32_t>(s.points.first());
  }
  return out;
}

namespace {

struct Search {
  const FlowSpace& space;
  const std::vector<const Box*>& covers;
  std::size_t budget;
  std::vector<char> used;
  std::size_t steps = 0;
  std::optional<FlowPoint> witness;

  // Whether the covers from `from` on take all of the box in.
  bool all_in(const Box& box, std::size_t from);
};

bool Search::all_in(const Box& box, std::size_t from) {
  if (++steps > budget) return false;
  while (from < covers.size() && !meets(box, *covers[from])) ++from;
  if (from == covers.size()) {
    witness = point_of(space, box);
    return false;
  }
  for (const Box& part : subtract(box, *covers[from])) {
    if (!all_in(part, from + 1)) return false;
  }
  used[from] = 1;
  return true;
}

}  // namespace

Coverage cover(const FlowSpace& space, const Box& box, const std::vector<const Box*>& covers,
               std::size_t budget) {
  Coverage out;
  std::vector<const Box*> near;
  std::vector<std::size_t> index;
  for (std::size_t i = 0; i < covers.size(); ++i) {
    if (!meets(box, *covers[i])) continue;
    if (contains(*covers[i], box)) {
      out.answer = Coverage::Answer::Covered;
      out.used = {i};
      out.steps = 1;
      return out;
    }
    near.push_back(covers[i]);
    index.push_back(i);
  }
  Search search{space, near, budget, std::vector<char>(near.size(), 0), 0, std::nullopt};
  const bool all = search.all_in(box, 0);
  out.steps = search.steps;
  if (all) {
    out.answer = Coverage::Answer::Covered;
    for (std::size_t i = 0; i < near.size(); ++i) {
      if (search.used[i] != 0) out.used.push_back(index[i]);
    }
  } else if (search.witness) {
    out.answer = Coverage::Answer::Open;
    out.witness = std::move(search.witness);
  }
  return out;
}

Coverage minimal_cover(const FlowSpace& space, const Box& box,
                       const std::vector<const Box*>& covers, std::size_t budget) {
  Coverage out = cover(space, box, covers, budget);
  if (!out.covered() || out.used.size() == 1) return out;
  // Later boxes go first: what stands first in the input is named as the cause.
  for (std::size_t i = out.used.size(); i-- > 0;) {
    std::vector<std::size_t> fewer = out.used;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    std::vector<const Box*> boxes;
    for (const std::size_t k : fewer) boxes.push_back(covers[k]);
    const Coverage again = cover(space, box, boxes, budget);
    out.steps += again.steps;
    if (again.covered()) out.used = std::move(fewer);
  }
  return out;
}

std::vector<Coverage::Answer> dead_rules(const FlowSpace& space,
                                         const std::vector<BoxRule>& rules) {
  // Sorted by their first key, the rules that may meet a box are a run, except for long intervals.
  constexpr ir::L4Key kLong = 1024;
  std::vector<std::size_t> order(rules.size());
  for (std::size_t i = 0; i < rules.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return rules[a].box.begin < rules[b].box.begin;
  });
  std::vector<std::size_t> wide;
  std::erase_if(order, [&](std::size_t i) {
    const bool is_wide = rules[i].box.end - rules[i].box.begin > kLong;
    if (is_wide) wide.push_back(i);
    return is_wide;
  });
  std::vector<Coverage::Answer> out;
  std::vector<const Box*> covers;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const BoxRule& rule = rules[i];
    covers.clear();
    const auto offer = [&](std::size_t k) {
      if (k != i && (rules[k].deny || !rule.deny)) covers.push_back(&rules[k].box);
    };
    for (const std::size_t k : wide) offer(k);
    const ir::L4Key from = rule.box.begin > kLong ? rule.box.begin - kLong : 0;
    auto k = std::lower_bound(order.begin(), order.end(), from, [&](std::size_t a, ir::L4Key key) {
      return rules[a].box.begin < key;
    });
    for (; k != order.end() && rules[*k].box.begin < rule.box.end; ++k) offer(*k);
    out.push_back(cover(space, rule.box, covers).answer);
  }
  return out;
}

}  // namespace policyc
