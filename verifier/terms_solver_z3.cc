// Terms for Z3: pure bit-vectors. Reads become free numbers, with "equal places, equal numbers" for
// every two of them whose places can be equal.
#include <fmt/format.h>
#include <z3++.h>

#include <algorithm>
#include <bit>
#include <optional>

#include "verifier/terms_solver.h"

namespace policyc::verify {

namespace {

// The reads and symbols that a term depends on.
void leaves(const Terms& terms, Term root, std::vector<Term>& reads, std::vector<Term>& symbols) {
  std::vector<bool> seen(terms.size());
  std::vector<Term> todo = {root};
  while (!todo.empty()) {
    const Term t = todo.back();
    todo.pop_back();
    if (seen[t.index]) continue;
    seen[t.index] = true;
    const Terms::Node& n = terms.node(t);
    if (n.op == Terms::Op::Read) reads.push_back(t);
    if (n.op == Terms::Op::Symbol) symbols.push_back(t);
    const Term of[] = {n.a, n.b, n.c};
    for (unsigned k = 0; k < Terms::operand_count(n.op); ++k) todo.push_back(of[k]);
  }
}

// What the names in a question stand for.
std::string legend(const Terms& terms, const std::vector<Term>& reads,
                   const std::vector<Term>& symbols) {
  std::string out;
  for (const Term t : symbols) {
    out += fmt::format("; t{}: {}\n", t.index, terms.symbol_name(terms.node(t).value));
  }
  for (const Term t : reads) {
    const std::uint64_t from = terms.node(t).value;
    out += fmt::format("; t{}: read from array {}, {} byte{}\n", t.index, from >> 8U, from & 255U,
                       (from & 255U) == 1 ? "" : "s");
  }
  return out;
}

class Translation {
 public:
  // Products are free numbers unless `relate` is All; comparisons free truths where it is Truths.
  Translation(z3::context& context, const Terms& terms, TermSolver::Relate relate)
      : z_(context),
        terms_(terms),
        exact_(relate == TermSolver::Relate::All),
        compares_(relate != TermSolver::Relate::Truths) {}

  z3::expr operator()(Term root);

 private:
  z3::expr translate(Term t);
  // Times -1, -2, -4 and so on: cheap.
  bool negates(const Terms::Node& n) const {
    const unsigned unused = 64U - n.width;
    return terms_.is_constant(n.b) &&
           std::has_single_bit((0 - terms_.value(n.b)) << unused >> unused);
  }
  z3::expr bit(z3::expr truth) { return z3::ite(truth, z_.bv_val(1, 1), z_.bv_val(0, 1)); }

  z3::context& z_;
  const Terms& terms_;
  bool exact_, compares_;
  std::vector<std::optional<z3::expr>> done_;
};

z3::expr Translation::operator()(Term root) {
  if (done_.size() < terms_.size()) done_.resize(terms_.size());
  std::vector<Term> todo = {root};
  while (!todo.empty()) {
    const Term t = todo.back();
    if (done_[t.index]) {
      todo.pop_back();
      continue;
    }
    const Terms::Node& n = terms_.node(t);
    const std::size_t before = todo.size();
    const Term of[] = {n.a, n.b, n.c};
    for (unsigned k = 0; k < Terms::operand_count(n.op); ++k) {
      if (!done_[of[k].index]) todo.push_back(of[k]);
    }
    if (todo.size() != before) continue;
    done_[t.index] = translate(t);
    todo.pop_back();
  }
  return *done_[root.index];
}

z3::expr Translation::translate(Term t) {
  using Op = Terms::Op;
  const Terms::Node& n = terms_.node(t);
  const auto e = [&](Term x) { return *done_[x.index]; };
  switch (n.op) {
    case Op::Constant:
      return z_.bv_val(n.value, n.width);
    case Op::Symbol:
    case Op::Read:
      return z_.bv_const(fmt::format("t{}", t.index).c_str(), n.width);
    case Op::Add:
      return e(n.a) + e(n.b);
    case Op::Mul:
      if (!exact_ && !negates(n)) {
        return z_.bv_const(fmt::format("t{}", t.index).c_str(), n.width);
      }
      return e(n.a) * e(n.b);
    case Op::Div:
      return z3::ite(e(n.b) == z_.bv_val(0, n.width), z_.bv_val(0, n.width),
                     z3::udiv(e(n.a), e(n.b)));
    case Op::Mod:
      return z3::ite(e(n.b) == z_.bv_val(0, n.width), e(n.a), z3::urem(e(n.a), e(n.b)));
    case Op::And:
      return e(n.a) & e(n.b);
    case Op::Or:
      return e(n.a) | e(n.b);
    case Op::Xor:
      return e(n.a) ^ e(n.b);
    case Op::Not:
      return ~e(n.a);
    case Op::Shl:
      return z3::shl(e(n.a), e(n.b));
    case Op::Lshr:
      return z3::lshr(e(n.a), e(n.b));
    case Op::Ashr:
      return z3::ashr(e(n.a), e(n.b));
    case Op::Concat:
      return z3::concat(e(n.a), e(n.b));
    case Op::Extract: {
      const auto low = static_cast<unsigned>(n.value);
      return e(n.a).extract(low + n.width - 1, low);
    }
    case Op::Eq:
      return bit(e(n.a) == e(n.b));
    case Op::Ult:
      if (!compares_) return z_.bv_const(fmt::format("t{}", t.index).c_str(), 1);
      return bit(z3::ult(e(n.a), e(n.b)));
    case Op::Ite:
      return z3::ite(e(n.a) == z_.bv_val(1, 1), e(n.b), e(n.c));
  }
  throw z3::exception("not a term");
}

}  // namespace

struct TermSolver::State {
  z3::context context;
  z3::tactic tactic = z3::tactic(context, "simplify") & z3::tactic(context, "propagate-values") &
                      z3::tactic(context, "solve-eqs") & z3::tactic(context, "simplify") &
                      z3::tactic(context, "bit-blast") & z3::tactic(context, "sat");
  std::optional<Translation> translation[3];  // comparisons and products free, products free, none
  std::uint64_t spent = 0;
  // `text`: where the question goes in SMT-LIB 2, unless null.
  TermAnswer ask(const Terms& terms, Term truth, Relate relate, std::uint64_t budget,
                 std::string* text);
};

TermSolver::TermSolver(std::uint64_t budget) : budget_(budget) {}
TermSolver::~TermSolver() = default;

bool TermSolver::available() {
  return true;
}

void TermSolver::forget() {
  if (!state_) return;
  for (auto& t : state_->translation) t.reset();
}

TermAnswer TermSolver::ask(const Terms& terms, Term truth, Relate relate, std::string_view about,
                           std::uint64_t most) {
  ++asked_;
  if (!state_) state_ = std::make_unique<State>();
  TermAnswer out;
  TermQuestion question{std::string(about), {}, &out};
  try {
    out = state_->ask(terms, truth, relate, std::min(budget_, most),
                      listener_ ? &question.smtlib : nullptr);
  } catch (const z3::exception& e) {
    out.reason = e.msg();
  }
  if (listener_) listener_(question);
  return out;
}

TermAnswer TermSolver::State::ask(const Terms& terms, Term truth, Relate relate,
                                  std::uint64_t budget, std::string* text) {
  TermAnswer out;
  z3::solver solver = tactic.mk_solver();
  z3::params params(context);
  params.set("rlimit", static_cast<unsigned>(budget));
  solver.set(params);
  std::optional<Translation>& chosen = translation[relate == Relate::All      ? 2
                                                   : relate == Relate::Truths ? 0
                                                                              : 1];
  if (!chosen) chosen.emplace(context, terms, relate);
  Translation& translate = *chosen;
  solver.add(translate(truth) == context.bv_val(1, 1));
  // Those of the question, not of earlier ones.
  std::vector<Term> reads, symbols;
  leaves(terms, truth, reads, symbols);
  for (std::size_t i = 0; relate > Relate::None && i < reads.size(); ++i) {
    const Terms::Node& a = terms.node(reads[i]);
    for (std::size_t j = 0; j < i; ++j) {
      const Terms::Node& b = terms.node(reads[j]);
      if (a.value != b.value) continue;
      if (relate == Relate::Bytes && (a.value & 255U) != 1) continue;
      if (terms.max(a.a) < terms.min(b.a) || terms.max(b.a) < terms.min(a.a)) continue;
      solver.add(z3::implies(translate(a.a) == translate(b.a),
                             translate(reads[i]) == translate(reads[j])));
    }
  }
  const z3::check_result result = solver.check();
  if (text != nullptr) {
    *text = "(set-logic QF_BV)\n" + legend(terms, reads, symbols) +
            solver.to_smt2(result == z3::unsat ? "unsat"
                           : result == z3::sat ? "sat"
                                               : "unknown");
  }
  const z3::stats stats = solver.statistics();
  for (unsigned i = 0; i < stats.size(); ++i) {
    if (stats.key(i) != "rlimit count") continue;
    out.resources = stats.uint_value(i) - spent;
    spent = stats.uint_value(i);
  }
  if (result == z3::unsat) {
    out.kind = TermAnswer::Kind::Never;
  } else if (result == z3::unknown) {
    out.reason = fmt::format("the solver gave up: {}", solver.reason_unknown());
  } else {
    out.kind = TermAnswer::Kind::Possible;
    const z3::model model = solver.get_model();
    const auto value = [&](Term t) { return model.eval(translate(t), true).get_numeral_uint64(); };
    for (const Term t : symbols) {
      out.symbols[terms.symbol_name(terms.node(t).value)] = value(t);
    }
    for (const Term t : reads) {
      const Terms::Node& n = terms.node(t);
      out.reads.push_back({static_cast<unsigned>(n.value >> 8U),
                           static_cast<std::uint32_t>(value(n.a)),
                           static_cast<unsigned>(n.value & 255U), value(t)});
    }
  }
  return out;
}

}  // namespace policyc::verify
