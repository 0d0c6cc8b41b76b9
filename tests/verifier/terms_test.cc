// Simplified terms mean what was asked for: random expressions against plain arithmetic.
#include "verifier/terms.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace policyc::verify {
namespace {

std::uint64_t mask(unsigned width) {
  return width >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
}

std::uint64_t contents(unsigned array, std::uint32_t index, unsigned bytes) {
  return ((index * 0x9E3779B97F4A7C15ULL) ^ (index >> 3U)) * (array + 3) >> 11U & mask(8 * bytes);
}

// A term and what it is worth, computed beside it.
struct Pair {
  Term term;
  std::uint64_t value;
};

TEST(Terms, MeanWhatWasAskedFor) {
  int constants = 0, nodes = 0;
  const bool ok = rc::check("term = arithmetic", [&] {
    Terms terms;
    std::map<std::string, std::uint64_t> symbols;
    std::vector<Pair> made;
    const auto pick = [&](std::uint64_t n) { return *rc::gen::inRange<std::uint64_t>(0, n); };
    const std::vector<unsigned> widths = {1, 8, 16, 32, 64};
    for (const unsigned w : widths) {
      for (int i = 0; i < 2; ++i) {
        const std::string name = "s" + std::to_string(w) + "." + std::to_string(i);
        symbols[name] = *rc::gen::arbitrary<std::uint64_t>() & mask(w);
        made.push_back({terms.symbol(name, w), symbols[name]});
      }
    }
    const auto of_width = [&](unsigned w) -> Pair {
      if (pick(4) == 0) {
        const std::uint64_t interesting[] = {
            0, 1, 3, 4, 255, 256, 0xfff8, 0x80000000, ~std::uint64_t{0}, 20};
        const std::uint64_t v = interesting[pick(10)] & mask(w);
        return {terms.constant(v, w), v};
      }
      for (int tries = 0; tries < 20; ++tries) {
        const Pair& p = made[pick(made.size())];
        if (terms.width(p.term) == w) return p;
      }
      return {terms.constant(5, w), 5 & mask(w)};
    };
    for (int i = 0; i < 60; ++i) {
      const unsigned w = widths[pick(widths.size())];
      const Pair a = of_width(w), b = of_width(w), c = of_width(1);
      const std::uint64_t by = pick(w);
      const Term n = terms.constant(by, w);
      const auto sign = [w](std::uint64_t v) {
        return static_cast<std::int64_t>(v << (64 - w)) >> (64 - w);
      };
      switch (pick(20)) {
        case 0:
          made.push_back({terms.add(a.term, b.term), a.value + b.value});
          break;
        case 1:
          made.push_back({terms.sub(a.term, b.term), a.value - b.value});
          break;
        case 2:
          made.push_back({terms.mul(a.term, b.term), a.value * b.value});
          break;
        case 3:
          made.push_back({terms.div(a.term, b.term), b.value == 0 ? 0 : a.value / b.value});
          break;
        case 4:
          made.push_back({terms.mod(a.term, b.term), b.value == 0 ? a.value : a.value % b.value});
          break;
        case 5:
          made.push_back({terms.and_(a.term, b.term), a.value & b.value});
          break;
        case 6:
          made.push_back({terms.or_(a.term, b.term), a.value | b.value});
          break;
        case 7:
          made.push_back({terms.xor_(a.term, b.term), a.value ^ b.value});
          break;
        case 8:
          made.push_back({terms.not_(a.term), ~a.value});
          break;
        case 9:
          made.push_back({terms.shl(a.term, n), a.value << by});
          break;
        case 10:
          made.push_back({terms.lshr(a.term, n), a.value >> by});
          break;
        case 11:
          made.push_back({terms.ashr(a.term, n), static_cast<std::uint64_t>(sign(a.value) >> by)});
          break;
        case 12:
          if (w <= 32) made.push_back({terms.concat(a.term, b.term), a.value << w | b.value});
          break;
        case 13: {
          const unsigned length = 1 + static_cast<unsigned>(pick(w - by));
          made.push_back({terms.extract(a.term, static_cast<unsigned>(by), length), a.value >> by});
          break;
        }
        case 14:
          made.push_back({terms.eq(a.term, b.term), a.value == b.value ? 1U : 0U});
          break;
        case 15:
          made.push_back({terms.ult(a.term, b.term), a.value < b.value ? 1U : 0U});
          break;
        case 16:
          made.push_back({terms.slt(a.term, b.term), sign(a.value) < sign(b.value) ? 1U : 0U});
          break;
        case 17:
          made.push_back({terms.ite(c.term, a.term, b.term), c.value != 0 ? a.value : b.value});
          break;
        case 18:
          made.push_back({terms.sext(a.term, 64), static_cast<std::uint64_t>(sign(a.value))});
          break;
        default: {
          const Pair index = of_width(32);
          const unsigned bytes = 1U << pick(3);
          made.push_back({terms.read(2, index.term, bytes),
                          contents(2, static_cast<std::uint32_t>(index.value), bytes)});
        }
      }
      made.back().value &= mask(terms.width(made.back().term));
      if (pick(3) == 0) {
        const Pair p = made.back();
        made.push_back({terms.zext(p.term, 64), p.value});
      }
    }
    Evaluator evaluate(terms,
                       {[&](const std::string& name) { return symbols.at(name); }, contents});
    for (const Pair& p : made) {
      RC_ASSERT(evaluate(p.term) == p.value);
      RC_ASSERT(p.value >= terms.min(p.term));
      RC_ASSERT(p.value <= terms.max(p.term));
      RC_ASSERT((p.value & terms.node(p.term).zeros) == 0U);
      constants += terms.is_constant(p.term) ? 1 : 0;
    }
    nodes += static_cast<int>(made.size());
  });
  EXPECT_TRUE(ok);
  // Simplification does something, and not everything collapses.
  EXPECT_GT(constants, 0);
  EXPECT_LT(constants, nodes * 2 / 3);
}

// Truths over four symbols and the values of one byte, with what they are worth for all 16 cases:
// bit k of `table` for case k. Some are assumed on the way; what is made afterwards counts where
// the assumptions hold.
TEST(Terms, TruthsAndAssumptionsMeanWhatTheyShould) {
  int assumed = 0, constants = 0;
  const bool ok = rc::check("truth = table", [&] {
    Terms terms;
    const auto pick = [&](unsigned n) { return *rc::gen::inRange<unsigned>(0, n); };
    struct Truth {
      Term term;
      std::uint32_t table;
    };
    std::vector<Truth> made;
    for (unsigned k = 0; k < 2; ++k) {
      std::uint32_t table = 0;
      for (unsigned i = 0; i < 16; ++i) table |= (i >> k & 1U) << i;
      made.push_back({terms.symbol(k == 0 ? "a" : "b", 1), table});
    }
    // The byte is 40 + i / 4.
    const Term byte = terms.read(0, terms.constant(9, 32), 1);
    for (unsigned k = 0; k < 4; ++k) {
      made.push_back({terms.eq(byte, terms.constant(40 + k, 8)), 0xFU << 4 * k});
      made.push_back({terms.ult(byte, terms.constant(40 + k, 8)), (1U << 4 * k) - 1});
    }
    std::uint32_t where = 0xFFFF;  // the cases that are left
    std::vector<std::pair<Truth, std::uint32_t>> checked;
    for (int i = 0; i < 50; ++i) {
      const Truth a = made[pick(static_cast<unsigned>(made.size()))];
      const Truth b = made[pick(static_cast<unsigned>(made.size()))];
      const Truth c = made[pick(static_cast<unsigned>(made.size()))];
      Truth n{};
      switch (pick(9)) {
        case 0:
        case 1:
          n = {terms.and_(a.term, b.term), a.table & b.table};
          break;
        case 2:
        case 3:
          n = {terms.or_(a.term, b.term), a.table | b.table};
          break;
        case 4:
          n = {terms.not_(a.term), ~a.table};
          break;
        case 5:
          n = {terms.ite(c.term, a.term, b.term), (c.table & a.table) | (~c.table & b.table)};
          break;
        case 6:
          n = {terms.eq(a.term, b.term), ~(a.table ^ b.table)};
          break;
        case 7:  // a choice that repeats one of its ways in the other
          n = {terms.or_(terms.and_(a.term, b.term),
                         terms.and_(terms.not_(a.term), terms.or_(c.term, b.term))),
               (a.table & b.table) | (~a.table & (c.table | b.table))};
          break;
        default:
          n = {terms.and_(terms.or_(terms.not_(a.term), b.term),
                          terms.or_(a.term, terms.and_(b.term, c.term))),
               (~a.table | b.table) & (a.table | (b.table & c.table))};
      }
      made.push_back(n);
      checked.emplace_back(n, where);
      if (pick(10) == 0 && !terms.is_constant(n.term)) {
        const bool value = pick(2) != 0;
        const std::uint32_t left = where & (value ? n.table : ~n.table);
        if (left == 0) continue;
        terms.assume(n.term, value ? 1 : 0);
        where = left;
        ++assumed;
      }
    }
    for (unsigned i = 0; i < 16; ++i) {
      Evaluator evaluate(
          terms, {[&](const std::string& name) { return name == "a" ? i & 1U : i >> 1U & 1U; },
                  [&](unsigned, std::uint32_t, unsigned) { return 40 + i / 4; }});
      for (const auto& [truth, cases] : checked) {
        if ((cases >> i & 1U) == 0) continue;
        RC_ASSERT(evaluate(truth.term) == (truth.table >> i & 1U));
        constants += terms.is_constant(truth.term) ? 1 : 0;
      }
    }
  });
  EXPECT_TRUE(ok);
  EXPECT_GT(assumed, 0);
  EXPECT_GT(constants, 0);
}

// Shapes that the compiler and the model write differently.
TEST(Terms, DifferentSpellingsMeet) {
  Terms t;
  const auto byte = [&](std::uint64_t at) { return t.read(0, t.constant(at, 32), 1); };
  const Term address = t.concat(t.concat(byte(26), byte(27)), t.concat(byte(28), byte(29)));
  const auto c64 = [&](std::uint64_t v) { return t.constant(v, 64); };
  // (address >> 16) * 4 + 320 in 64 bits, or (address >> 14 & ~3) + 320 in 32.
  const Term wide = t.add(t.mul(t.lshr(t.zext(address, 64), c64(16)), c64(4)), c64(320));
  const Term narrow =
      t.add(t.and_(t.lshr(address, t.constant(14, 32)), t.constant(~std::uint64_t{3}, 32)),
            t.constant(320, 32));
  EXPECT_EQ(t.extract(wide, 0, 32), narrow);
  // A half selected by a product, a branch or a mask.
  const Term bit = t.and_(t.symbol("generation", 32), t.constant(1, 32));
  const Term product = t.mul(t.zext(bit, 64), c64(1234567));
  EXPECT_EQ(product, t.ite(t.eq(bit, t.constant(1, 32)), c64(1234567), c64(0)));
  EXPECT_EQ(product, t.and_(t.neg(t.zext(bit, 64)), c64(1234567)));
  // x < 4 and x >> 2 == 0.
  EXPECT_EQ(t.ult(address, t.constant(4, 32)),
            t.eq(t.lshr(address, t.constant(2, 32)), t.constant(0, 32)));
  // Truths negated as a whole and part by part, and a choice that one of its ways repeats.
  const Term x = t.symbol("x", 1), p = t.symbol("p", 1), q = t.symbol("q", 1);
  EXPECT_EQ(t.not_(t.and_(x, t.or_(p, q))), t.or_(t.not_(x), t.and_(t.not_(p), t.not_(q))));
  EXPECT_EQ(t.or_(t.and_(x, p), t.and_(t.not_(x), t.or_(p, q))), t.or_(p, t.and_(t.not_(x), q)));
  EXPECT_EQ(t.and_(t.or_(x, p), t.or_(t.not_(x), t.and_(p, q))), t.and_(p, t.or_(t.not_(x), q)));
  EXPECT_EQ(t.ite(t.or_(t.not_(x), p), c64(0), t.zext(address, 64)),
            t.ite(t.and_(x, t.not_(p)), t.zext(address, 64), c64(0)));
}

}  // namespace
}  // namespace policyc::verify
