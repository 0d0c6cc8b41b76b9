// Bit-vector terms: values of 1 to 64 bits that depend on symbols and on the contents of tables.
// Equal terms are one node, and what can be simplified is when it is made, so that two computations
// of the same value often become the same term and nobody has to be asked. Truth values have width
// 1. No solver here (z3_terms.cc is one).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace policyc::verify {

struct Term {
  std::uint32_t index = 0;
  friend auto operator<=>(const Term&, const Term&) = default;
};

class Terms {
 public:
  enum class Op : std::uint8_t {
    Constant,  // value
    Symbol,    // value: number of its name
    Read,      // value: array << 8 | bytes; a: index, 32 bits. Little endian, `bytes` of 1, 2 or 4
    Add,       // linear sums: see `linear`
    Mul,
    Div,  // by zero: 0, as BPF divides
    Mod,  // by zero: the dividend
    And,
    Or,
    Xor,
    Not,
    Shl,  // shifts by b; the caller keeps b below the width
    Lshr,
    Ashr,
    Concat,   // a: high bits, b: low bits
    Extract,  // value: lowest bit taken
    Eq,
    Ult,
    Ite,  // a ? b : c
  };
  struct Node {
    Op op = Op::Constant;
    std::uint8_t width = 1;
    Term a{}, b{}, c{};
    std::uint64_t value = 0;
    // Known of every value: bits that are never set, and bounds (inclusive).
    std::uint64_t zeros = 0, low = 0, high = 0;
  };

  const Node& node(Term t) const { return nodes_[t.index]; }
  std::size_t size() const { return nodes_.size(); }
  unsigned width(Term t) const { return node(t).width; }
  std::uint64_t max(Term t) const { return node(t).high; }
  std::uint64_t min(Term t) const { return node(t).low; }
  bool is_constant(Term t) const { return node(t).op == Op::Constant; }
  bool is_constant(Term t, std::uint64_t value) const {
    return is_constant(t) && node(t).value == value;
  }
  bool never(Term truth) const { return is_constant(truth, 0); }
  std::uint64_t value(Term t) const { return node(t).value; }
  const std::string& symbol_name(std::uint64_t number) const { return names_[number]; }

  Term constant(std::uint64_t value, unsigned width);
  Term truth(bool value) { return constant(value ? 1 : 0, 1); }
  Term symbol(const std::string& name, unsigned width);  // one width for a name
  Term read(unsigned array, Term index, unsigned bytes);

  Term add(Term a, Term b);
  Term sub(Term a, Term b);
  Term mul(Term a, Term b);
  Term div(Term a, Term b);
  Term mod(Term a, Term b);
  Term neg(Term a);
  Term and_(Term a, Term b);
  Term or_(Term a, Term b);
  Term xor_(Term a, Term b);
  Term not_(Term a);
  Term shl(Term a, Term by);
  Term lshr(Term a, Term by);
  Term ashr(Term a, Term by);
  Term concat(Term high, Term low);
  Term extract(Term a, unsigned lowest, unsigned width);
  Term zext(Term a, unsigned width);
  Term sext(Term a, unsigned width);
  Term eq(Term a, Term b);
  Term ult(Term a, Term b);
  Term slt(Term a, Term b);
  Term ite(Term condition, Term yes, Term no);

  // Whatever is equal to this truth value or read from now on is made as the constant. Terms made
  // before stay; those made afterwards say what they say only where the assumption holds.
  void assume(Term t, std::uint64_t value);

  // Whether both depend on one byte that is read from a table, the same one, and on nothing else.
  bool about_one_byte(Term a, Term b) const {
    const ByteTable* of_a = tables_[a.index].get();
    const ByteTable* of_b = tables_[b.index].get();
    return of_a != nullptr && of_b != nullptr && of_a->byte == of_b->byte;
  }

  static unsigned operand_count(Op op);
  // What an operation gives; more bits than the node's width may be set.
  std::uint64_t apply(const Node& n, std::uint64_t a, std::uint64_t b, std::uint64_t c) const;

  // The sum's constant, and the sum without it.
  std::uint64_t constant_part(Term a) const { return linear(a, width(a)).constant; }
  Term without_constant(Term a);

 private:
  // A linear sum modulo 2^width: constant + sum of coefficient × value of the term.
  struct Linear {
    unsigned width = 64;
    std::uint64_t constant = 0;
    std::vector<std::pair<Term, std::uint64_t>> parts;  // ascending, coefficients not 0
  };
  enum class Bitwise : std::uint8_t { And, Or, Xor };

  Term make(Node node);
  Linear linear(Term t, unsigned width) const;
  void add_to(Linear& sum, Term t, std::uint64_t factor) const;
  Term from_linear(const Linear& sum);
  bool exact_bounds(const Linear& sum, std::uint64_t& low, std::uint64_t& high) const;
  // Low to high; adjacent ones cannot be joined.
  std::vector<Term> pieces(Term t) const;
  Term join(const std::vector<Term>& low_to_high);
  // Cuts both at each other's borders.
  std::vector<std::pair<Term, Term>> segments(Term a, Term b);
  bool has_constant_piece(Term t) const;
  Term bitwise(Bitwise op, Term a, Term b);
  // Whether truths joined by And are never true, by Or always: seen without asking anybody.
  bool absorbs(Bitwise op, Term a, Term b);
  bool flatten(Op what, Term of, std::vector<Term>& out);
  // Whether b is one of the truths that a joins: seen without asking anybody.
  bool implies(Term a, Term b);
  Term shift_by(Op op, Term a, std::uint64_t by);

  // The values of a term that depends on one byte read from a table and on nothing else.
  struct ByteTable {
    static constexpr std::uint32_t kNone = ~std::uint32_t{0};
    std::uint32_t byte = kNone;  // the node of the read
    std::array<std::uint64_t, 256> values{};
  };
  std::shared_ptr<const ByteTable> tabulate(const Node& n) const;

  struct KeyHash {
    std::size_t operator()(const Node& n) const;
  };
  struct KeyEqual {
    bool operator()(const Node& a, const Node& b) const {
      return a.op == b.op && a.width == b.width && a.a == b.a && a.b == b.b && a.c == b.c &&
             a.value == b.value;
    }
  };
  std::vector<Node> nodes_;
  std::vector<std::shared_ptr<const ByteTable>> tables_;  // per node, or none
  std::unordered_map<std::string, Term> truth_about_byte_;
  std::unordered_map<Node, Term, KeyHash, KeyEqual> known_;
  std::map<Term, Term> negations_;  // of conjunctions and disjunctions
  std::vector<std::string> names_;
  std::unordered_map<std::string, std::uint64_t> number_of_;
};

// What symbols and tables hold. Given widths and byte counts are the term's.
struct Assignment {
  std::function<std::uint64_t(const std::string& name)> symbol;
  std::function<std::uint64_t(unsigned array, std::uint32_t index, unsigned bytes)> read;
};

// The values of terms under an assignment; remembers what it has computed.
class Evaluator {
 public:
  Evaluator(const Terms& terms, Assignment assignment)
      : terms_(terms), assignment_(std::move(assignment)) {}
  std::uint64_t operator()(Term t);

 private:
  std::uint64_t compute(const Terms::Node& n);
  const Terms& terms_;
  Assignment assignment_;
  std::vector<std::uint64_t> values_;
  std::vector<bool> done_;
};

}  // namespace policyc::verify
