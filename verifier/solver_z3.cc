// The one file that knows Z3. Choices as measured: bit-vectors, a solver of tactics that rewrites,
// blasts bits and asks SAT (a default solver costs milliseconds to make), one fresh solver a
// question, limits in the solver's own count and never in time.
#include <fmt/format.h>
#include <z3++.h>

#include <bit>

#include "verifier/solver.h"

namespace policyc {
namespace {

unsigned bits_for(std::size_t size) {
  return size <= 2 ? 1U : static_cast<unsigned>(std::bit_width(size - 1));
}

}  // namespace

struct Solver::State {
  z3::context context;
  z3::tactic tactic = z3::tactic(context, "simplify") & z3::tactic(context, "bit-blast") &
                      z3::tactic(context, "sat");

  z3::expr l4() { return context.bv_const("l4", 32); }
  z3::expr value(ir::L4Key v) { return context.bv_val(static_cast<std::uint64_t>(v), 32); }
  z3::expr dimension(std::uint32_t d, std::size_t size) {
    return context.bv_const(fmt::format("d{}", d).c_str(), bits_for(size));
  }
  z3::expr matches(const FlowSpace& space, const Box& box);
  Solution solve(const Question& question, bool prefilter, std::uint64_t budget);
  std::uint64_t spent = 0;  // resource count of the context so far
};

z3::expr Solver::State::matches(const FlowSpace& space, const Box& box) {
  z3::expr_vector all(context);
  if (box.end == box.begin + 1) {
    all.push_back(l4() == value(box.begin));
  } else if (box.begin != 0 || box.end != space.l4_end) {
    all.push_back(z3::uge(l4(), value(box.begin)));
    all.push_back(z3::ult(l4(), value(box.end)));
  }
  for (const Box::Side& s : box.sides) {
    const z3::expr x = dimension(s.dimension, s.points.size());
    const unsigned bits = bits_for(s.points.size());
    z3::expr_vector any(context);
    // The smaller half is written out.
    const bool inside = s.points.count() * 2 <= s.points.size();
    for (std::size_t i = 0; i < s.points.size(); ++i) {
      if (s.points.has(i) != inside) continue;
      any.push_back(x == context.bv_val(static_cast<std::uint64_t>(i), bits));
    }
    all.push_back(inside ? z3::mk_or(any) : !z3::mk_or(any));
  }
  return z3::mk_and(all);
}

Solver::Solver(std::uint64_t budget) : budget_(budget) {}
Solver::~Solver() = default;

bool Solver::available() {
  return true;
}

std::string Solver::version() {
  unsigned major = 0, minor = 0, build = 0, revision = 0;
  Z3_get_version(&major, &minor, &build, &revision);
  return fmt::format("Z3 {}.{}.{}", major, minor, build);
}

Solution Solver::solve(const Question& q, bool prefilter) {
  ++solved_;
  if (!state_) state_ = std::make_unique<State>();
  try {
    return state_->solve(q, prefilter, budget_);
  } catch (const z3::exception& e) {
    Solution out;
    out.reason = e.msg();
    return out;
  }
}

Solution Solver::State::solve(const Question& q, bool prefilter, std::uint64_t budget) {
  State& s = *this;
  Solution out;
  z3::solver solver = s.tactic.mk_solver();
  z3::params params(s.context);
  params.set("rlimit", static_cast<unsigned>(budget));
  solver.set(params);
  solver.add(z3::ult(s.l4(), s.value(q.space->l4_end)));
  for (std::size_t d = 0; d < q.space->dimensions.size(); ++d) {
    const std::size_t size = q.space->dimensions[d].size;
    const unsigned bits = bits_for(size);
    if (size == std::size_t{1} << bits) continue;
    solver.add(z3::ule(s.dimension(static_cast<std::uint32_t>(d), size),
                       s.context.bv_val(static_cast<std::uint64_t>(size - 1), bits)));
  }
  solver.add(s.matches(*q.space, q.box));
  for (const Box* c : q.covers) {
    if (!prefilter || meets(q.box, *c)) solver.add(!s.matches(*q.space, *c));
  }
  const z3::check_result result = solver.check();
  const z3::stats stats = solver.statistics();
  for (unsigned i = 0; i < stats.size(); ++i) {
    if (stats.key(i) != "rlimit count") continue;
    out.resources = stats.uint_value(i) - spent;
    spent = stats.uint_value(i);
  }
  switch (result) {
    case z3::unsat:
      out.answer = Solution::Answer::Covered;
      break;
    case z3::sat: {
      out.answer = Solution::Answer::Open;
      const z3::model model = solver.get_model();
      FlowPoint p;
      p.key = static_cast<ir::L4Key>(model.eval(s.l4(), true).get_numeral_uint64());
      for (std::size_t d = 0; d < q.space->dimensions.size(); ++d) {
        const z3::expr x = s.dimension(static_cast<std::uint32_t>(d), q.space->dimensions[d].size);
        p.values.push_back(static_cast<std::uint32_t>(model.eval(x, true).get_numeral_uint64()));
      }
      out.witness = std::move(p);
      break;
    }
    case z3::unknown:
      out.reason = solver.reason_unknown();
      break;
  }
  return out;
}

}  // namespace policyc
