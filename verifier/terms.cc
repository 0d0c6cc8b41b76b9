#include "verifier/terms.h"

#include <algorithm>
#include <bit>
#include <tuple>

namespace policyc::verify {

namespace {

std::uint64_t mask(unsigned width) {
  return width >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
}

// Bits that hold the number; at least one.
unsigned bits_of(std::uint64_t value) {
  return value == 0 ? 1 : static_cast<unsigned>(std::bit_width(value));
}

std::uint64_t sign_extended(std::uint64_t value, unsigned width) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(value << (64 - width)) >>
                                    (64 - width));
}

}  // namespace

std::size_t Terms::KeyHash::operator()(const Node& n) const {
  std::uint64_t h = static_cast<std::uint64_t>(n.op) << 8U | n.width;
  for (const std::uint64_t word :
       {std::uint64_t{n.a.index} << 32U | n.b.index, std::uint64_t{n.c.index}, n.value}) {
    h = (h ^ word) * 0x9E3779B97F4A7C15ULL;
    h ^= h >> 29U;
  }
  return h;
}

Term Terms::make(Node n) {
  const auto it = known_.find(n);
  if (it != known_.end()) return it->second;
  const std::uint64_t all = mask(n.width);
  n.zeros = ~all;
  n.low = 0;
  n.high = all;
  const auto bounds_from_zeros = [&] { n.high = std::min(n.high, ~n.zeros); };
  switch (n.op) {
    case Op::Constant:
      n.zeros = ~n.value;
      n.low = n.high = n.value;
      break;
    case Op::Add: {
      Linear sum{n.width, 0, {}};
      add_to(sum, n.a, 1);
      add_to(sum, n.b, 1);
      if (exact_bounds(sum, n.low, n.high)) {
        n.zeros |= ~mask(bits_of(n.high));
      }
      break;
    }
    case Op::Mul:
      if (is_constant(n.b)) {
        const std::uint64_t k = value(n.b);
        if (k != 0 && max(n.a) <= all / k) {
          n.low = min(n.a) * k;
          n.high = max(n.a) * k;
          n.zeros |= ~mask(bits_of(n.high));
        }
      }
      break;
    case Op::Div:
      n.high = max(n.a);
      break;
    case Op::Mod:
      n.high = max(n.a);
      break;
    case Op::And:
      n.zeros |= node(n.a).zeros | node(n.b).zeros;
      bounds_from_zeros();
      break;
    case Op::Or:
      n.zeros |= node(n.a).zeros & node(n.b).zeros;
      bounds_from_zeros();
      n.low = std::max(min(n.a), min(n.b));
      break;
    case Op::Xor:
      n.zeros |= node(n.a).zeros & node(n.b).zeros;
      bounds_from_zeros();
      break;
    case Op::Concat: {
      const unsigned w = width(n.b);
      n.zeros |= node(n.a).zeros << w | (node(n.b).zeros & mask(w));
      n.zeros |= ~all;
      n.low = min(n.a) << w | min(n.b);
      n.high = max(n.a) << w | max(n.b);
      break;
    }
    case Op::Extract: {
      n.zeros |= node(n.a).zeros >> n.value;
      bounds_from_zeros();
      if (max(n.a) >> n.value <= all) {
        n.high = std::min(n.high, max(n.a) >> n.value);
        n.low = min(n.a) >> n.value;
      }
      break;
    }
    case Op::Ite:
      n.zeros |= node(n.b).zeros & node(n.c).zeros;
      n.low = std::min(min(n.b), min(n.c));
      n.high = std::max(max(n.b), max(n.c));
      break;
    case Op::Lshr:
      n.high = max(n.a);
      break;
    case Op::Symbol:
    case Op::Read:
    case Op::Not:
    case Op::Shl:
    case Op::Ashr:
    case Op::Eq:
    case Op::Ult:
      break;
  }
  if (n.op != Op::Constant && n.low == n.high) return constant(n.low, n.width);
  const Term t{static_cast<std::uint32_t>(nodes_.size())};
  std::shared_ptr<const ByteTable> table = tabulate(n);
  if (table != nullptr && n.width == 1) {
    // Truths about one byte that agree on all of its values are one term.
    std::string key(reinterpret_cast<const char*>(&table->byte), sizeof table->byte);
    for (const std::uint64_t v : table->values) key += v != 0 ? '1' : '0';
    if (key.find('0', sizeof table->byte) == std::string::npos) return truth(true);
    if (key.find('1', sizeof table->byte) == std::string::npos) return truth(false);
    const auto [same, fresh] = truth_about_byte_.try_emplace(std::move(key), t);
    if (!fresh) {
      known_.emplace(n, same->second);
      return same->second;
    }
  }
  nodes_.push_back(n);
  tables_.push_back(std::move(table));
  known_.emplace(n, t);
  return t;
}

std::uint64_t Terms::apply(const Node& n, std::uint64_t a, std::uint64_t b, std::uint64_t c) const {
  switch (n.op) {
    case Op::Constant:
    case Op::Symbol:
    case Op::Read:
      break;
    case Op::Add:
      return a + b;
    case Op::Mul:
      return a * b;
    case Op::Div:
      return b == 0 ? 0 : a / b;
    case Op::Mod:
      return b == 0 ? a : a % b;
    case Op::And:
      return a & b;
    case Op::Or:
      return a | b;
    case Op::Xor:
      return a ^ b;
    case Op::Not:
      return ~a;
    case Op::Shl:
      return b >= n.width ? 0 : a << b;
    case Op::Lshr:
      return b >= n.width ? 0 : a >> b;
    case Op::Ashr:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(sign_extended(a, n.width)) >>
                                        std::min<std::uint64_t>(b, n.width - 1U));
    case Op::Concat:
      return a << width(n.b) | b;
    case Op::Extract:
      return a >> n.value;
    case Op::Eq:
      return a == b ? 1 : 0;
    case Op::Ult:
      return a < b ? 1 : 0;
    case Op::Ite:
      return a != 0 ? b : c;
  }
  return 0;
}

std::shared_ptr<const Terms::ByteTable> Terms::tabulate(const Node& n) const {
  if (n.op == Op::Constant || n.op == Op::Symbol) return nullptr;
  auto out = std::make_shared<ByteTable>();
  if (n.op == Op::Read) {
    if (n.width != 8) return nullptr;
    out->byte = static_cast<std::uint32_t>(nodes_.size());
    for (std::size_t v = 0; v < 256; ++v) out->values[v] = v;
    return out;
  }
  const ByteTable* of[3] = {};
  const Term operands[] = {n.a, n.b, n.c};
  const unsigned count = operand_count(n.op);
  for (unsigned k = 0; k < count; ++k) {
    of[k] = tables_[operands[k].index].get();
    if (of[k] == nullptr && !is_constant(operands[k])) return nullptr;
    if (of[k] == nullptr) continue;
    if (out->byte != ByteTable::kNone && out->byte != of[k]->byte) return nullptr;
    out->byte = of[k]->byte;
  }
  if (out->byte == ByteTable::kNone) return nullptr;
  for (std::size_t v = 0; v < 256; ++v) {
    std::uint64_t x[3] = {};
    for (unsigned k = 0; k < count; ++k) {
      x[k] = of[k] != nullptr ? of[k]->values[v] : value(operands[k]);
    }
    out->values[v] = apply(n, x[0], x[1], x[2]) & mask(n.width);
  }
  return out;
}

void Terms::assume(Term t, std::uint64_t v) {
  const Node n = node(t);
  const Term is = constant(v, n.width);
  if (n.op == Op::Constant) return;
  known_[n] = is;
  if (n.width != 1) return;
  const Term other = not_(t), is_not = not_(is);
  known_[node(other)] = is_not;
  for (auto& [key, truth] : truth_about_byte_) {
    if (truth == t) truth = is;
    if (truth == other) truth = is_not;
  }
  // What follows from it.
  if (n.op == Op::Not) assume(n.a, v ^ 1U);
  if ((n.op == Op::And && v == 1) || (n.op == Op::Or && v == 0)) {
    assume(n.a, v);
    assume(n.b, v);
  }
  if (n.op == Op::Eq && v == 1 && is_constant(n.b)) assume(n.a, value(n.b));
  // The same said by the other operation.
  if ((n.op == Op::And && v == 0) || (n.op == Op::Or && v == 1)) {
    const Term dual = bitwise(n.op == Op::And ? Bitwise::Or : Bitwise::And, not_(n.a), not_(n.b));
    if (!is_constant(dual)) known_[node(dual)] = is_not;
    const Term opposite = not_(dual);
    if (!is_constant(opposite)) known_[node(opposite)] = is;
  }
}

unsigned Terms::operand_count(Op op) {
  if (op == Op::Constant || op == Op::Symbol) return 0;
  if (op == Op::Read || op == Op::Not || op == Op::Extract) return 1;
  return op == Op::Ite ? 3 : 2;
}

Term Terms::constant(std::uint64_t value, unsigned width) {
  Node n;
  n.op = Op::Constant;
  n.width = static_cast<std::uint8_t>(width);
  n.value = value & mask(width);
  return make(n);
}

Term Terms::symbol(const std::string& name, unsigned width) {
  const auto [it, fresh] = number_of_.try_emplace(name, names_.size());
  if (fresh) names_.push_back(name);
  Node n;
  n.op = Op::Symbol;
  n.width = static_cast<std::uint8_t>(width);
  n.value = it->second;
  return make(n);
}

Term Terms::read(unsigned array, Term index, unsigned bytes) {
  Node n;
  n.op = Op::Read;
  n.width = static_cast<std::uint8_t>(8 * bytes);
  n.a = index;
  n.value = std::uint64_t{array} << 8U | bytes;
  return make(n);
}

// ---- sums

// `t` may be narrower than the sum: its value counts.
void Terms::add_to(Linear& sum, Term t, std::uint64_t factor) const {
  const Node& n = node(t);
  const std::uint64_t all = mask(sum.width);
  const auto no_overflow = [&](const Node& m) {
    // The node's own sum is its value also where the outer sum is wider.
    Linear inner{m.width, 0, {}};
    if (m.width == sum.width) return true;
    add_to(inner, m.a, 1);
    add_to(inner, m.b, 1);
    std::uint64_t low = 0, high = 0;
    return exact_bounds(inner, low, high);
  };
  if (n.op == Op::Constant) {
    sum.constant = (sum.constant + n.value * factor) & all;
    return;
  }
  if (n.op == Op::Add && no_overflow(n)) {
    add_to(sum, n.a, factor);
    add_to(sum, n.b, factor);
    return;
  }
  if (n.op == Op::Mul && is_constant(n.b) &&
      (n.width == sum.width || max(n.a) <= mask(n.width) / value(n.b))) {
    add_to(sum, n.a, factor * value(n.b));
    return;
  }
  // A product of several pieces stays one product.
  const std::uint64_t power = factor & all;
  const bool shifts = std::has_single_bit(power) || std::has_single_bit((0 - power) & all);
  if (n.op == Op::Concat && (shifts || is_constant(n.a) || is_constant(n.b))) {
    add_to(sum, n.a, factor << width(n.b));
    add_to(sum, n.b, factor);
    return;
  }
  if (n.op == Op::Ite && is_constant(n.b) && is_constant(n.c)) {
    sum.constant = (sum.constant + value(n.c) * factor) & all;
    add_to(sum, n.a, (value(n.b) - value(n.c)) * factor);
    return;
  }
  factor &= all;
  if (factor == 0) return;
  const auto at = std::lower_bound(
      sum.parts.begin(), sum.parts.end(), t,
      [](const std::pair<Term, std::uint64_t>& p, Term key) { return p.first < key; });
  if (at == sum.parts.end() || at->first != t) {
    sum.parts.insert(at, {t, factor});
  } else if (((at->second += factor) & all) == 0) {
    sum.parts.erase(at);
  } else {
    at->second &= all;
  }
}

Terms::Linear Terms::linear(Term t, unsigned width) const {
  Linear out{width, 0, {}};
  add_to(out, t, 1);
  return out;
}

bool Terms::exact_bounds(const Linear& sum, std::uint64_t& low, std::uint64_t& high) const {
  unsigned __int128 l = sum.constant, h = sum.constant;
  for (const auto& [t, k] : sum.parts) {
    l += static_cast<unsigned __int128>(min(t)) * k;
    h += static_cast<unsigned __int128>(max(t)) * k;
    if (h > mask(sum.width)) return false;
  }
  low = static_cast<std::uint64_t>(l);
  high = static_cast<std::uint64_t>(h);
  return true;
}

Term Terms::from_linear(const Linear& sum) {
  const unsigned w = sum.width;
  if (sum.parts.empty()) return constant(sum.constant, w);
  std::uint64_t low = 0, high = 0;
  if (exact_bounds(sum, low, high)) {
    const auto needed = bits_of(high);
    // Parts that never meet in a bit are put side by side.
    std::uint64_t used = sum.constant;
    bool apart = true;
    for (const auto& [t, k] : sum.parts) {
      const std::uint64_t bits =
          std::has_single_bit(k) ? ~node(t).zeros << std::countr_zero(k) : ~std::uint64_t{0};
      apart = apart && std::has_single_bit(k) && (used & bits) == 0;
      used |= bits;
    }
    if (apart) {
      Term out = constant(sum.constant, w);
      for (const auto& [t, k] : sum.parts) {
        const auto by = static_cast<unsigned>(std::countr_zero(k));
        Term part = t;
        if (width(part) + by > w) part = extract(part, 0, w - by);
        part = zext(part, w - by);
        if (by != 0) part = join({constant(0, by), part});
        out = bitwise(Bitwise::Or, out, part);
      }
      return out;
    }
    if (needed < w) {
      Linear narrow = sum;
      narrow.width = needed;
      return zext(from_linear(narrow), w);
    }
  }
  Term out{};
  bool first = true;
  const auto plus = [&](Term t) {
    if (first) {
      out = t;
      first = false;
      return;
    }
    Node n;
    n.op = Op::Add;
    n.width = static_cast<std::uint8_t>(w);
    n.a = out;
    n.b = t;
    out = make(n);
  };
  for (const auto& [t, k] : sum.parts) {
    Term part = width(t) > w ? extract(t, 0, w) : zext(t, w);
    if (k == 1) {
      plus(part);
    } else if (width(t) == 1) {
      Node n;
      n.op = Op::Ite;
      n.width = static_cast<std::uint8_t>(w);
      n.a = t;
      n.b = constant(k, w);
      n.c = constant(0, w);
      plus(make(n));
    } else if (std::has_single_bit(k)) {
      const auto by = static_cast<unsigned>(std::countr_zero(k));
      plus(join({constant(0, by), extract(part, 0, w - by)}));
    } else {
      Node n;
      n.op = Op::Mul;
      n.width = static_cast<std::uint8_t>(w);
      n.a = part;
      n.b = constant(k, w);
      plus(make(n));
    }
  }
  if (sum.constant != 0) plus(constant(sum.constant, w));
  return out;
}

Term Terms::add(Term a, Term b) {
  Linear sum = linear(a, width(a));
  add_to(sum, b, 1);
  return from_linear(sum);
}

Term Terms::sub(Term a, Term b) {
  Linear sum = linear(a, width(a));
  add_to(sum, b, mask(width(a)));
  return from_linear(sum);
}

Term Terms::neg(Term a) {
  return sub(constant(0, width(a)), a);
}

Term Terms::mul(Term a, Term b) {
  if (is_constant(a)) std::swap(a, b);
  if (is_constant(b)) {
    Linear sum{width(a), 0, {}};
    add_to(sum, a, value(b));
    return from_linear(sum);
  }
  if (b < a) std::swap(a, b);
  Node n;
  n.op = Op::Mul;
  n.width = node(a).width;
  n.a = a;
  n.b = b;
  return make(n);
}

Term Terms::div(Term a, Term b) {
  if (is_constant(b)) {
    if (value(b) == 0) return b;
    if (is_constant(a)) return constant(value(a) / value(b), width(a));
    if (std::has_single_bit(value(b))) {
      return shift_by(Op::Lshr, a, static_cast<std::uint64_t>(std::countr_zero(value(b))));
    }
  }
  Node n;
  n.op = Op::Div;
  n.width = node(a).width;
  n.a = a;
  n.b = b;
  return make(n);
}

Term Terms::mod(Term a, Term b) {
  if (is_constant(b)) {
    if (value(b) == 0) return a;
    if (is_constant(a)) return constant(value(a) % value(b), width(a));
    if (std::has_single_bit(value(b))) return and_(a, constant(value(b) - 1, width(a)));
  }
  Node n;
  n.op = Op::Mod;
  n.width = node(a).width;
  n.a = a;
  n.b = b;
  return make(n);
}

Term Terms::without_constant(Term a) {
  Linear sum = linear(a, width(a));
  sum.constant = 0;
  return from_linear(sum);
}

// ---- bits side by side

std::vector<Term> Terms::pieces(Term t) const {
  std::vector<Term> out;
  // Concatenations lean to the right: the low end is the deepest.
  while (node(t).op == Op::Concat) {
    out.push_back(node(t).a);
    t = node(t).b;
  }
  out.push_back(t);
  std::reverse(out.begin(), out.end());
  return out;
}

Term Terms::join(const std::vector<Term>& low_to_high) {
  std::vector<Term> merged;
  const auto push = [&](Term t) {
    while (!merged.empty()) {
      const Node low = node(merged.back());
      const Node high = node(t);
      if (low.op == Op::Constant && high.op == Op::Constant) {
        t = constant(high.value << low.width | low.value, low.width + high.width);
      } else if (low.op == Op::Extract && high.op == Op::Extract && low.a == high.a &&
                 low.value + low.width == high.value) {
        t = extract(low.a, static_cast<unsigned>(low.value), low.width + high.width);
      } else {
        break;
      }
      merged.pop_back();
    }
    merged.push_back(t);
  };
  for (const Term t : low_to_high) {
    for (const Term p : pieces(t)) push(p);
  }
  Term out = merged.front();
  for (std::size_t i = 1; i < merged.size(); ++i) {
    Node n;
    n.op = Op::Concat;
    n.width = static_cast<std::uint8_t>(width(merged[i]) + width(out));
    n.a = merged[i];
    n.b = out;
    out = make(n);
  }
  return out;
}

Term Terms::concat(Term high, Term low) {
  return join({low, high});
}

Term Terms::zext(Term a, unsigned w) {
  return width(a) >= w ? a : join({a, constant(0, w - width(a))});
}

Term Terms::sext(Term a, unsigned w) {
  const unsigned from = width(a);
  if (from >= w) return a;
  if (is_constant(a)) return constant(sign_extended(value(a), from), w);
  const Term sign = extract(a, from - 1, 1);
  if (from == 1) return ite(a, constant(mask(w), w), constant(0, w));
  return join({a, ite(sign, constant(mask(w - from), w - from), constant(0, w - from))});
}

Term Terms::extract(Term a, unsigned lowest, unsigned w) {
  const Node n = node(a);
  if (lowest == 0 && w == n.width) return a;
  if ((~n.zeros >> lowest & mask(w)) == 0) return constant(0, w);
  if (n.op == Op::Constant) return constant(n.value >> lowest, w);
  if (n.op == Op::Extract) return extract(n.a, static_cast<unsigned>(n.value) + lowest, w);
  if (n.op == Op::Concat) {
    std::vector<Term> taken;
    unsigned at = 0;
    for (const Term p : pieces(a)) {
      const unsigned begin = std::max(at, lowest);
      const unsigned end = std::min(at + width(p), lowest + w);
      if (begin < end) taken.push_back(extract(p, begin - at, end - begin));
      at += width(p);
    }
    return join(taken);
  }
  if (n.op == Op::And) return and_(extract(n.a, lowest, w), extract(n.b, lowest, w));
  if (n.op == Op::Or) return or_(extract(n.a, lowest, w), extract(n.b, lowest, w));
  if (n.op == Op::Xor) return xor_(extract(n.a, lowest, w), extract(n.b, lowest, w));
  if (n.op == Op::Not) return not_(extract(n.a, lowest, w));
  if (n.op == Op::Ite) return ite(n.a, extract(n.b, lowest, w), extract(n.c, lowest, w));
  if (lowest == 0 && (n.op == Op::Add || (n.op == Op::Mul && is_constant(n.b)))) {
    const Linear sum = linear(a, n.width);
    Linear cut{w, sum.constant & mask(w), {}};
    for (const auto& [t, k] : sum.parts) add_to(cut, t, k);
    return from_linear(cut);
  }
  if (n.op == Op::Add && w == 1 && lowest == n.width - 1U && is_constant(n.b)) {
    // The sign of y - k says whether y < k, where neither is too large.
    const std::uint64_t k = (0 - value(n.b)) & mask(n.width);
    const std::uint64_t sign = std::uint64_t{1} << lowest;
    if (k <= sign && max(n.a) < sign) return ult(n.a, constant(k, n.width));
  }
  Node out;
  out.op = Op::Extract;
  out.width = static_cast<std::uint8_t>(w);
  out.a = a;
  out.value = lowest;
  return make(out);
}

std::vector<std::pair<Term, Term>> Terms::segments(Term a, Term b) {
  std::vector<unsigned> borders;
  for (const Term t : {a, b}) {
    unsigned at = 0;
    for (const Term p : pieces(t)) borders.push_back(at += width(p));
  }
  std::sort(borders.begin(), borders.end());
  borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
  std::vector<std::pair<Term, Term>> out;
  unsigned at = 0;
  for (const unsigned end : borders) {
    out.emplace_back(extract(a, at, end - at), extract(b, at, end - at));
    at = end;
  }
  return out;
}

bool Terms::has_constant_piece(Term t) const {
  while (node(t).op == Op::Concat) {
    if (is_constant(node(t).a)) return true;
    t = node(t).b;
  }
  return is_constant(t);
}

Term Terms::not_(Term a) {
  const Node n = node(a);
  if (n.op == Op::Constant) return constant(~n.value, n.width);
  if (n.op == Op::Not) return n.a;
  if (n.width == 1 && (n.op == Op::And || n.op == Op::Or)) {
    // Truths are negated at their leaves only.
    if (const auto it = negations_.find(a); it != negations_.end()) return it->second;
    const Term x = not_(n.a), y = not_(n.b);
    const Term t = n.op == Op::And ? or_(x, y) : and_(x, y);
    negations_.emplace(a, t);
    negations_.emplace(t, a);
    return t;
  }
  Node out;
  out.op = Op::Not;
  out.width = n.width;
  out.a = a;
  return make(out);
}

Term Terms::bitwise(Bitwise op, Term a, Term b) {
  if (is_constant(a)) std::swap(a, b);
  const unsigned w = width(a);
  if (is_constant(b)) {
    const std::uint64_t k = value(b);
    if (is_constant(a)) {
      const std::uint64_t v = value(a);
      return constant(op == Bitwise::And ? v & k : op == Bitwise::Or ? v | k : v ^ k, w);
    }
    const Node n = node(a);
    if (n.op == Op::Ite && is_constant(n.b) && is_constant(n.c)) {
      return ite(n.a, bitwise(op, n.b, b), bitwise(op, n.c, b));
    }
    // Runs of equal bits of the constant: kept, inverted, or replaced.
    std::vector<Term> parts;
    for (unsigned at = 0; at < w;) {
      const bool set = (k >> at & 1U) != 0;
      unsigned end = at + 1;
      while (end < w && ((k >> end & 1U) != 0) == set) ++end;
      const unsigned length = end - at;
      const bool replaced = op == Bitwise::And ? !set : op == Bitwise::Or && set;
      if (replaced) {
        parts.push_back(constant(set ? mask(length) : 0, length));
      } else if (op == Bitwise::Xor && set) {
        parts.push_back(not_(extract(a, at, length)));
      } else {
        parts.push_back(extract(a, at, length));
      }
      at = end;
    }
    return join(parts);
  }
  if (a == b) return op == Bitwise::Xor ? constant(0, w) : a;
  for (const auto& [x, y] : {std::pair(a, b), std::pair(b, a)}) {
    const Node n = node(y);
    if (op == Bitwise::And && w > 1 && n.op == Op::Ite && is_constant(n.b) && is_constant(n.c)) {
      return ite(n.a, bitwise(op, x, n.b), bitwise(op, x, n.c));
    }
  }
  if (w > 1 && (has_constant_piece(a) || has_constant_piece(b))) {
    std::vector<Term> parts;
    for (const auto& [x, y] : segments(a, b)) parts.push_back(bitwise(op, x, y));
    return join(parts);
  }
  if (not_(a) == b) {
    return op == Bitwise::And ? constant(0, w) : constant(mask(w), w);
  }
  if (w == 1 && op != Bitwise::Xor) {
    // x & (x | y), x & (!x | y) and their duals.
    const Op self = op == Bitwise::And ? Op::And : Op::Or;
    const Op dual = op == Bitwise::And ? Op::Or : Op::And;
    for (const auto& [x, y] : {std::pair(a, b), std::pair(b, a)}) {
      const Node n = node(y);
      if (n.op == self && (n.a == x || n.b == x)) return y;
      if (n.op == self && (not_(x) == n.a || not_(x) == n.b)) {
        return constant(op == Bitwise::And ? 0 : 1, 1);
      }
      if (n.op != dual) continue;
      if (n.a == x || n.b == x) return x;
      if (n.a == not_(x)) return bitwise(op, x, n.b);
      if (n.b == not_(x)) return bitwise(op, x, n.a);
    }
    // (x & p) | (!x & (p | q)) is p | (!x & q); and its dual.
    const Node n = node(a), m = node(b);
    if (n.op == dual && m.op == dual) {
      const Bitwise other_op = op == Bitwise::And ? Bitwise::Or : Bitwise::And;
      for (const auto& [x, p] : {std::pair(n.a, n.b), std::pair(n.b, n.a)}) {
        for (const auto& [y, r] : {std::pair(m.a, m.b), std::pair(m.b, m.a)}) {
          if (y != not_(x)) continue;
          for (const auto& [left, inner, way] : {std::tuple(p, r, y), std::tuple(r, p, x)}) {
            if (left == inner) return left;
            const Node of = node(inner);
            if (of.op != self || (of.a != left && of.b != left)) continue;
            return bitwise(op, left, bitwise(other_op, way, of.a == left ? of.b : of.a));
          }
        }
      }
    }
    if (absorbs(op, a, b)) return constant(op == Bitwise::And ? 0 : 1, 1);
  }
  if (b < a) std::swap(a, b);
  Node n;
  n.op = op == Bitwise::And ? Op::And : op == Bitwise::Or ? Op::Or : Op::Xor;
  n.width = static_cast<std::uint8_t>(w);
  n.a = a;
  n.b = b;
  return make(n);
}

// The truths that `what` joins to one; false where they are too many to be looked at.
bool Terms::flatten(Op what, Term of, std::vector<Term>& out) {
  constexpr std::size_t kMostLookedAt = 12;  // for the sake of time
  // Below a Not the other operation stands for this one.
  std::vector<Term> todo = {of};
  while (!todo.empty() && out.size() <= kMostLookedAt) {
    const Term t = todo.back();
    todo.pop_back();
    const Node n = node(t);
    if (n.op == what) {
      todo.push_back(n.b);
      todo.push_back(n.a);
    } else if (n.op == Op::Not && node(n.a).op == (what == Op::And ? Op::Or : Op::And)) {
      const Node m = node(n.a);
      todo.push_back(not_(m.b));
      todo.push_back(not_(m.a));
    } else {
      out.push_back(t);
    }
  }
  return out.size() <= kMostLookedAt;
}

bool Terms::implies(Term a, Term b) {
  std::vector<Term> all;
  return flatten(Op::And, a, all) && std::find(all.begin(), all.end(), b) != all.end();
}

bool Terms::absorbs(Bitwise op, Term a, Term b) {
  const Op self = op == Bitwise::And ? Op::And : Op::Or;
  const Op dual = op == Bitwise::And ? Op::Or : Op::And;
  std::vector<Term> all;
  if (!flatten(self, a, all) || !flatten(self, b, all)) return false;
  const auto has = [&](Term t) { return std::find(all.begin(), all.end(), t) != all.end(); };
  return std::any_of(all.begin(), all.end(), [&](Term t) {
    std::vector<Term> parts;
    return has(not_(t)) ||
           (flatten(dual, t, parts) &&
            std::all_of(parts.begin(), parts.end(), [&](Term p) { return has(not_(p)); }));
  });
}

Term Terms::and_(Term a, Term b) {
  return bitwise(Bitwise::And, a, b);
}
Term Terms::or_(Term a, Term b) {
  return bitwise(Bitwise::Or, a, b);
}
Term Terms::xor_(Term a, Term b) {
  return bitwise(Bitwise::Xor, a, b);
}

Term Terms::shift_by(Op op, Term a, std::uint64_t by) {
  const unsigned w = width(a);
  if (by == 0) return a;
  const auto n = static_cast<unsigned>(by);
  if (by >= w) {
    if (op != Op::Ashr) return constant(0, w);
    const Term sign = extract(a, w - 1, 1);
    return ite(sign, constant(mask(w), w), constant(0, w));
  }
  if (op == Op::Shl) return join({constant(0, n), extract(a, 0, w - n)});
  const Term kept = extract(a, n, w - n);
  return op == Op::Lshr ? zext(kept, w) : sext(kept, w);
}

Term Terms::shl(Term a, Term by) {
  if (is_constant(by)) return shift_by(Op::Shl, a, value(by));
  Node n;
  n.op = Op::Shl;
  n.width = node(a).width;
  n.a = a;
  n.b = by;
  return make(n);
}

Term Terms::lshr(Term a, Term by) {
  if (is_constant(by)) return shift_by(Op::Lshr, a, value(by));
  Node n;
  n.op = Op::Lshr;
  n.width = node(a).width;
  n.a = a;
  n.b = by;
  return make(n);
}

Term Terms::ashr(Term a, Term by) {
  if (is_constant(by)) return shift_by(Op::Ashr, a, value(by));
  Node n;
  n.op = Op::Ashr;
  n.width = node(a).width;
  n.a = a;
  n.b = by;
  return make(n);
}

// ---- comparisons

Term Terms::eq(Term a, Term b) {
  if (a == b) return truth(true);
  if (is_constant(a)) std::swap(a, b);
  if (is_constant(a)) return truth(value(a) == value(b));
  if (max(a) < min(b) || max(b) < min(a)) return truth(false);
  const unsigned w = width(a);
  if (w == 1) {
    if (is_constant(b)) return value(b) != 0 ? a : not_(a);
    return not_(xor_(a, b));
  }
  if (has_constant_piece(a) || has_constant_piece(b)) {
    const auto parts = segments(a, b);
    if (parts.size() > 1) {
      Term out = truth(true);
      for (const auto& [x, y] : parts) out = and_(out, eq(x, y));
      return out;
    }
  }
  const Node n = node(a);
  if (is_constant(b)) {
    if (n.op == Op::Ite && (is_constant(n.b) || is_constant(n.c))) {
      return ite(n.a, eq(n.b, b), eq(n.c, b));
    }
    if (n.op == Op::Not) return eq(n.a, constant(~value(b), w));
    if (n.op == Op::Xor && value(b) == 0) return eq(n.a, n.b);
    if (n.op == Op::Or && value(b) == 0) return and_(eq(n.a, b), eq(n.b, b));
    if (n.op == Op::Add && is_constant(n.b)) {
      return eq(n.a, constant(value(b) - value(n.b), w));
    }
  }
  // The same but for a constant.
  Linear difference = linear(a, w);
  add_to(difference, b, mask(w));
  if (difference.parts.empty()) return truth(difference.constant == 0);
  if (b < a && !is_constant(b)) std::swap(a, b);
  Node out;
  out.op = Op::Eq;
  out.a = a;
  out.b = b;
  return make(out);
}

Term Terms::ult(Term a, Term b) {
  if (a == b || max(b) <= min(a)) return truth(false);
  if (max(a) < min(b)) return truth(true);
  const unsigned w = width(a);
  const auto needed = bits_of(std::max(max(a), max(b)));
  if (needed < w) return ult(extract(a, 0, needed), extract(b, 0, needed));
  if (w == 1) return and_(not_(a), b);
  if (is_constant(b) && std::has_single_bit(value(b))) {
    const auto bit = static_cast<unsigned>(std::countr_zero(value(b)));
    return eq(extract(a, bit, w - bit), constant(0, w - bit));
  }
  if (is_constant(a) && std::has_single_bit(value(a) + 1)) {
    const auto bit = static_cast<unsigned>(std::countr_zero(value(a) + 1));
    return not_(eq(extract(b, bit, w - bit), constant(0, w - bit)));
  }
  const Node n = node(a), m = node(b);
  if (is_constant(b) && n.op == Op::Ite && (is_constant(n.b) || is_constant(n.c))) {
    return ite(n.a, ult(n.b, b), ult(n.c, b));
  }
  if (is_constant(a) && m.op == Op::Ite && (is_constant(m.b) || is_constant(m.c))) {
    return ite(m.a, ult(a, m.b), ult(a, m.c));
  }
  Node out;
  out.op = Op::Ult;
  out.a = a;
  out.b = b;
  return make(out);
}

Term Terms::slt(Term a, Term b) {
  const unsigned w = width(a);
  const Term sign = constant(std::uint64_t{1} << (w - 1), w);
  if (max(a) < value(sign) && max(b) < value(sign)) return ult(a, b);
  return ult(xor_(a, sign), xor_(b, sign));
}

Term Terms::ite(Term condition, Term yes, Term no) {
  if (is_constant(condition)) return value(condition) != 0 ? yes : no;
  if (yes == no) return yes;
  // The greater of two constants stands first, so that sums of them have no negative parts.
  const bool constants = is_constant(yes) && is_constant(no) && width(yes) > 1;
  const Op outer = node(condition).op;
  if (constants ? value(yes) < value(no) : outer == Op::Not || outer == Op::Or) {
    return ite(not_(condition), no, yes);
  }
  if (node(yes).op == Op::Ite && node(yes).a == condition) {
    return ite(condition, node(yes).b, no);
  }
  if (node(no).op == Op::Ite && node(no).a == condition) {
    return ite(condition, yes, node(no).c);
  }
  // A choice that the other way would have made alike.
  const auto chosen = [&](Term t, Term where) -> Term {
    const Node n = node(t);
    if (n.op != Op::Ite) return t;
    return implies(where, n.a) ? n.b : implies(where, not_(n.a)) ? n.c : t;
  };
  if (node(yes).op == Op::Ite && chosen(yes, not_(condition)) == no) return yes;
  if (node(no).op == Op::Ite && chosen(no, condition) == yes) return no;
  const unsigned w = width(yes);
  if (w == 1) {
    if (is_constant(yes)) {
      return value(yes) != 0 ? or_(condition, no) : and_(not_(condition), no);
    }
    if (is_constant(no)) {
      return value(no) != 0 ? or_(not_(condition), yes) : and_(condition, yes);
    }
  } else if (!constants) {
    // What both sums have in common stands before the choice.
    Linear x = linear(yes, w), y = linear(no, w), common{w, std::min(x.constant, y.constant), {}};
    std::uint64_t low = 0, high = 0;
    if (exact_bounds(x, low, high) && exact_bounds(y, low, high)) {
      for (const auto& part : x.parts) {
        if (std::find(y.parts.begin(), y.parts.end(), part) != y.parts.end()) {
          common.parts.push_back(part);
        }
      }
      if (common.constant != 0 || !common.parts.empty()) {
        for (Linear* sum : {&x, &y}) {
          sum->constant -= common.constant;
          for (const auto& part : common.parts) {
            sum->parts.erase(std::find(sum->parts.begin(), sum->parts.end(), part));
          }
        }
        add_to(common, ite(condition, from_linear(x), from_linear(y)), 1);
        return from_linear(common);
      }
    }
    // Zeros at both ends stand outside.
    const std::uint64_t used = ~(node(yes).zeros & node(no).zeros) & mask(w);
    const unsigned top = bits_of(used);
    const auto bottom = used == 0 ? 0U : static_cast<unsigned>(std::countr_zero(used));
    if (top < w || bottom > 0) {
      const Term middle =
          ite(condition, extract(yes, bottom, top - bottom), extract(no, bottom, top - bottom));
      const Term high_part = zext(middle, w - bottom);
      return bottom == 0 ? high_part : join({constant(0, bottom), high_part});
    }
  }
  if (constants && value(no) == 0) {
    Linear sum{w, 0, {}};
    add_to(sum, condition, value(yes));
    return from_linear(sum);
  }
  Node n;
  n.op = Op::Ite;
  n.width = static_cast<std::uint8_t>(w);
  n.a = condition;
  n.b = yes;
  n.c = no;
  return make(n);
}

// ---- values

std::uint64_t Evaluator::operator()(Term root) {
  if (values_.size() < terms_.size()) {
    values_.resize(terms_.size());
    done_.resize(terms_.size());
  }
  std::vector<Term> todo = {root};
  while (!todo.empty()) {
    const Term t = todo.back();
    if (done_[t.index]) {
      todo.pop_back();
      continue;
    }
    const Terms::Node& n = terms_.node(t);
    const std::size_t before = todo.size();
    const Term operands[] = {n.a, n.b, n.c};
    for (unsigned k = 0; k < Terms::operand_count(n.op); ++k) {
      if (!done_[operands[k].index]) todo.push_back(operands[k]);
    }
    if (todo.size() != before) continue;
    values_[t.index] = compute(n) & mask(n.width);
    done_[t.index] = true;
    todo.pop_back();
  }
  return values_[root.index];
}

std::uint64_t Evaluator::compute(const Terms::Node& n) {
  if (n.op == Terms::Op::Constant) return n.value;
  if (n.op == Terms::Op::Symbol) return assignment_.symbol(terms_.symbol_name(n.value));
  const std::uint64_t a = values_[n.a.index];
  if (n.op == Terms::Op::Read) {
    return assignment_.read(static_cast<unsigned>(n.value >> 8U), static_cast<std::uint32_t>(a),
                            static_cast<unsigned>(n.value & 255U));
  }
  const unsigned count = Terms::operand_count(n.op);
  return terms_.apply(n, a, count > 1 ? values_[n.b.index] : 0, count > 2 ? values_[n.c.index] : 0);
}

}  // namespace policyc::verify
