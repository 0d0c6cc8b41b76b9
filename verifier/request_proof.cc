#include "verifier/request_proof.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "verifier/http_tables.h"

namespace policyc::verify {

namespace {

using Kind = BpfValue::Kind;

// Recognises, while the loop is run, the places of the tables that the meaning reads too: both then
// read the same term, and the solver need not be told what the tables hold.
class SamePlaces {
 public:
  SamePlaces(Terms& terms, TermSolver& solver, RequestReport& report)
      : t_(terms), solver_(solver), report_(report) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      samples_.emplace_back(
          t_, Assignment{[seed](const std::string& name) {
                           return scattered(std::hash<std::string>{}(name) + seed);
                         },
                         [seed](unsigned array, std::uint32_t index, unsigned bytes) {
                           return scattered((index * std::uint64_t{8} + bytes) * 8 + array + seed);
                         }});
    }
  }

  // What holds of all that is looked at.
  void assume(Term here) { here_ = here; }
  void add(unsigned array, Term index) {
    auto& known = of_array_[array];
    if (std::find(known.begin(), known.end(), index) == known.end()) known.push_back(index);
  }

  std::optional<Term> operator()(const std::vector<Term>& path, unsigned array, Term index) {
    if (array == kPacketArray) return index;
    const auto& known = of_array_[array];
    if (std::find(known.begin(), known.end(), index) != known.end()) return index;
    Term when = here_;
    for (const Term x : path) when = t_.and_(when, x);
    // The likely ones first; where nothing gets here any will do.
    std::vector<std::pair<std::size_t, Term>> likely;
    for (const Term other : known) {
      std::size_t same = 0;
      bool possible = true;
      for (Evaluator& value : samples_) {
        const bool equal = value(index) == value(other);
        same += equal ? 1U : 0U;
        possible = possible && (equal || value(when) == 0);
      }
      if (possible) likely.emplace_back(samples_.size() - same, other);
    }
    std::stable_sort(likely.begin(), likely.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    if (likely.size() > kTries) likely.resize(kTries);
    for (const auto& [unlike, other] : likely) {
      const Term differs = t_.and_(when, t_.not_(t_.eq(index, other)));
      const TermAnswer answer = solver_.ask(t_, differs, TermSolver::Relate::None,
                                            "can the loop read elsewhere than the meaning?");
      ++report_.questions;
      report_.resources += answer.resources;
      if (answer.kind == TermAnswer::Kind::Never) return other;
    }
    return std::nullopt;
  }

 private:
  static std::uint64_t scattered(std::uint64_t v) {
    v *= 0x9E3779B97F4A7C15ULL;
    return (v ^ v >> 31U) * 0x94D049BB133111EBULL >> 7U;
  }
  Terms& t_;
  TermSolver& solver_;
  RequestReport& report_;
  static constexpr std::size_t kTries = 3;
  Term here_ = t_.truth(true);
  std::map<unsigned, std::vector<Term>> of_array_;
  std::vector<Evaluator> samples_;
};

// What the tables say of bytes of the packet, from http_tables.h. Numbers have 32 bits.
class HeadMeaning {
 public:
  HeadMeaning(Terms& terms, const ebpf::Object& object, const HttpTables& tables, Term filter,
              SamePlaces& places)
      : t_(terms),
        places_(places),
        tables_(tables),
        filter_(t_.and_(filter, c(tables.filters() - 1))),
        starts_(*object.variable("http_starts")),
        columns_(*object.variable("http_columns")),
        steps_(*object.variable("http_steps")),
        skips_(*object.variable("http_skips")) {}

  // A state as it is kept from block to block.
  Term row(Term state) const {
    return t_.and_(state, t_.constant(tables_.wide() ? tables_.steps_size() - 4 : 0xFFFF, 32));
  }
  Term start() { return row(read(starts_, t_.mul(filter_, c(4)), 4)); }
  Term label(Term state) { return cell(state, c(0)); }
  Term step(Term state, Term at) {
    const Term of_byte = t_.mul(t_.zext(byte(at), 32), c(2));
    return cell(state, read(columns_, t_.add(t_.mul(filter_, c(512)), of_byte), 2));
  }

  // Eight bytes. They are passed over where the state's row names a set in which they all are.
  struct Block {
    Term lost, next;
    // A set has the form that check_http_tables asks for, bytes are passed over, and one of them is
    // not in the set as check_http_tables reads it.
    Term wrongly_passed;
  };
  Block block(Term state, Term at) {
    const Term number = cell(state, c(tables_.wide() ? 4 : 2));
    const Term set = t_.mul(t_.and_(number, c(tables_.skip_rows() - 1)), c(48));
    // Sums of all eight bytes at once: first[3], then last[3].
    Term bytes = byte(at);
    for (unsigned k = 1; k < 8; ++k) bytes = t_.concat(byte(t_.add(at, c(k))), bytes);
    std::array<Term, 6> numbers{}, borders{};
    Term known = t_.truth(true);
    for (unsigned k = 0; k < 6; ++k) {
      const Term low = read(skips_, t_.add(set, c(8 * k)), 4);
      const Term high = read(skips_, t_.add(set, c(8 * k + 4)), 4);
      numbers[k] = t_.concat(high, low);
      const Term one = t_.extract(low, 0, 8), two = t_.concat(one, one);
      for (const Term half : {low, high}) known = t_.and_(known, t_.eq(half, t_.concat(two, two)));
      known = t_.and_(known, t_.not_(t_.ult(t_.constant(0x80, 8), one)));
      borders[k] = t_.zext(one, 9);
    }
    const Term tops = t_.constant(0x8080808080808080U, 64);
    Term in = t_.constant(0, 64);
    for (std::size_t range = 0; range < 3; ++range) {
      const Term reached = t_.add(bytes, numbers[range]);
      const Term passed = t_.add(bytes, numbers[range + 3]);
      in = t_.or_(in, t_.and_(reached, t_.not_(passed)));
    }
    const Term ascii = t_.eq(t_.and_(bytes, tops), t_.constant(0, 64));
    const Term over =
        t_.and_(t_.not_(t_.eq(number, c(0))), t_.and_(ascii, t_.eq(t_.and_(in, tops), tops)));
    // Byte by byte.
    const auto below = [&](Term b, Term border) {
      return t_.ult(t_.add(t_.zext(b, 9), border), t_.constant(0x80, 9));
    };
    Term all = t_.truth(true);
    Term walked = state;
    for (unsigned k = 0; k < 8; ++k) {
      const Term place = t_.add(at, c(k)), b = byte(place);
      Term one = t_.truth(false);
      for (std::size_t range = 0; range < 3; ++range) {
        one = t_.or_(one, t_.and_(t_.not_(below(b, borders[range])), below(b, borders[range + 3])));
      }
      all = t_.and_(all, t_.and_(one, t_.ult(b, t_.constant(0x80, 8))));
      walked = step(walked, place);
    }
    Block out;
    out.lost = t_.and_(t_.not_(over), t_.eq(walked, c(0)));
    out.next = row(t_.ite(over, state, walked));
    out.wrongly_passed = t_.and_(t_.and_(known, over), t_.not_(all));
    return out;
  }

  // The last bytes, and the verdict: undecided (0) where they are more than seven.
  Term tail(Term state, Term at, Term length) {
    Term open = t_.truth(true);
    Term reached = state, end = at;
    for (unsigned k = 0; k < 7; ++k) {
      const Term place = t_.add(at, c(k));
      open = t_.and_(open, t_.not_(t_.ult(length, t_.add(place, c(1)))));
      state = step(state, place);
      reached = t_.ite(open, state, reached);
      end = t_.ite(open, t_.add(place, c(1)), end);
    }
    const Term more = t_.ult(end, length);
    return t_.ite(more, c(0), label(reached));
  }

 private:
  Term c(std::uint64_t value) { return t_.constant(value, 32); }
  Term byte(Term at) { return t_.read(kPacketArray, at, 1); }
  Term read(const ebpf::Variable& of, Term at, unsigned bytes) {
    const Term place = t_.add(at, c(of.offset));
    places_.add(map_array(of.map), place);
    return t_.zext(t_.read(map_array(of.map), place, bytes), 32);
  }
  Term cell(Term state, Term column) {
    const Term at = t_.add(state, column);
    if (!tables_.wide()) return read(steps_, at, 2);
    return read(steps_, t_.and_(at, c(tables_.steps_size() - 4)), 4);
  }

  Terms& t_;
  SamePlaces& places_;
  const HttpTables& tables_;
  Term filter_;
  const ebpf::Variable &starts_, &columns_, &steps_, &skips_;
};

ExecutorOptions no_helpers() {
  ExecutorOptions out;
  out.helpers.clear();
  return out;
}

// How a register goes from one round of a loop to the next.
struct Form {
  enum class Kind : std::uint8_t {
    Same,
    Grows32,  // by `by` each round, as a number of 32 bits; 64 bits, or an offset
    Grows64,
    Free,    // any number of `width` bits
    Masked,  // the bits `by` of the register `of`, which is Free
    Gone     // not to be read
  } kind = Kind::Same;
  std::uint64_t by = 0;
  unsigned width = 0, of = 0;
};

struct LoopForms {
  std::array<Form, ebpf::kRegisters> regs{};
  std::vector<std::int64_t> stack;  // the bytes of the frame that stay as they are
  unsigned state = 0;               // the register that is Free
};

class HeadProof {
 public:
  HeadProof(const ebpf::Object& object, const ebpf::Program& program,
            const RequestFunctions& functions, const HttpTables& tables, TermSolver& solver,
            RequestReport& report)
      : object_(object),
        program_(program),
        functions_(functions),
        tables_(tables),
        solver_(solver),
        report_(report) {}

  // False where the reason is told.
  bool run() { return find_forms() && end() && middle() && last(); }

 private:
  // A store of terms with the function's arguments, and the state in which the loop is entered.
  struct Scene {
    Scene(TermSolver& solver, RequestReport& report) : places(terms, solver, report) {}
    Terms terms;
    SamePlaces places;
    Term filter, offset, length;  // 32 bits
    Term rounds;                  // done so far, 32 bits
    BpfState entered;
  };
  bool enter(Scene& s);
  BpfState after_rounds(Scene& s, const LoopForms& forms, Term rounds);
  Expected<Stretch> once(Scene& s, const LoopForms& forms) {
    ExecutorOptions options = no_helpers();
    options.same_place = [&](const std::vector<Term>& path, unsigned array, Term index) {
      return s.places(path, array, index);
    };
    return execute_stretch(s.terms, object_, program_, options, functions_.loop,
                           after_rounds(s, forms, s.rounds), functions_.loop);
  }
  bool find_forms();
  bool one_number(Scene& s, unsigned state, unsigned masked);
  bool adapt(Scene& s, const BpfState& before, const BpfState& after, LoopForms& forms);
  bool end();
  bool middle();
  bool last();
  Term free_number(Scene& s, const LoopForms& forms, unsigned r) {
    return s.terms.symbol(name_of(r), forms.regs[r].width);
  }
  // The automaton's state: the loop may hold more than the row.
  Term state_of(Scene& s, const HeadMeaning& meaning) {
    return meaning.row(s.terms.zext(free_number(s, forms_, forms_.state), 32));
  }
  static std::string name_of(unsigned r) { return fmt::format("r{}", r); }
  // One round where `here` holds: no access is outside, and nothing is done but to compute.
  std::optional<Stretch> round(Scene& s, Term here);
  // Where `here` holds the loop ends with `result`.
  bool ends_with(Scene& s, Term here, const Stretch& step, Term result);
  static bool only_computes(const BpfState& state) {
    return state.context.empty() && !state.pulled;
  }
  bool never(Scene& s, Term wrong, const char* what);
  bool because(std::string why) {
    report_.reason = std::move(why);
    return false;
  }

  const ebpf::Object& object_;
  const ebpf::Program& program_;
  const RequestFunctions& functions_;
  const HttpTables& tables_;
  TermSolver& solver_;
  RequestReport& report_;
  LoopForms forms_;
};

bool HeadProof::enter(Scene& s) {
  Terms& t = s.terms;
  solver_.forget();
  s.filter = t.zext(t.symbol("filter", 16), 32);
  s.offset = t.zext(t.symbol("offset", 9), 32);
  s.length = t.zext(t.symbol(kPacketLength, 16), 32);
  BpfState start = function_start(t);
  start.regs[1] = {Kind::Number, 0, t.zext(s.filter, 64)};
  start.regs[2] = {Kind::Packet, 0, t.zext(s.offset, 64)};
  start.regs[3] = {Kind::PacketEnd, 0, t.constant(0, 64)};
  auto first = execute_stretch(t, object_, program_, no_helpers(), functions_.head,
                               std::move(start), functions_.loop);
  if (!first) return because(first.error());
  if (first->at_exit || !first->at_cut) return because("the function may end before its loop");
  if (!only_computes(*first->at_cut)) return because("the loop writes to the packet's buffer");
  Term outside = t.truth(false);
  for (const Obligation& o : first->obligations) {
    outside = t.or_(outside, t.and_(o.when, t.not_(o.holds)));
  }
  s.entered = std::move(*first->at_cut);
  return never(s, outside, "can an access in front of the loop be outside?");
}

BpfState HeadProof::after_rounds(Scene& s, const LoopForms& forms, Term rounds) {
  Terms& t = s.terms;
  BpfState out = s.entered;
  out.path.clear();
  for (unsigned r = 0; r < ebpf::kRegisters; ++r) {
    BpfValue& v = out.regs[r];
    const Form& f = forms.regs[r];
    const unsigned w = f.kind == Form::Kind::Grows32 ? 32 : 64;
    switch (f.kind) {
      case Form::Kind::Same:
        break;
      case Form::Kind::Grows32:
      case Form::Kind::Grows64: {
        const Term grown = t.mul(t.zext(rounds, w), t.constant(f.by, w));
        v.term = t.zext(t.add(t.extract(v.term, 0, w), grown), 64);
        break;
      }
      case Form::Kind::Free:
        v = {Kind::Number, 0, t.zext(free_number(s, forms, r), 64)};
        break;
      case Form::Kind::Masked:
        v = {Kind::Number, 0,
             t.and_(t.zext(free_number(s, forms, f.of), 64), t.constant(f.by, 64))};
        break;
      case Form::Kind::Gone:
        v = {};
        break;
    }
  }
  BpfStack kept;
  for (const std::int64_t at : forms.stack) kept[at] = out.stacks[0].at(at);
  out.stacks[0] = std::move(kept);
  return out;
}

// Makes the forms fit what one round did; true where they did before.
bool HeadProof::adapt(Scene& s, const BpfState& before, const BpfState& after, LoopForms& forms) {
  Terms& t = s.terms;
  bool fit = true;
  const BpfState expected = after_rounds(s, forms, t.add(s.rounds, t.constant(1, 32)));
  for (unsigned r = 0; r < ebpf::kRegisters; ++r) {
    Form& f = forms.regs[r];
    const BpfValue &x = before.regs[r], &y = after.regs[r];
    if (f.kind == Form::Kind::Gone) continue;
    if (x.kind == Kind::Nothing || !x.same_place(y)) {
      f.kind = Form::Kind::Gone;
    } else if (f.kind == Form::Kind::Masked) {
      if (t.and_(after.regs[f.of].term, t.constant(f.by, 64)) == y.term) continue;
      f.kind = Form::Kind::Gone;
    } else if (f.kind == Form::Kind::Free) {
      const auto width = static_cast<unsigned>(std::bit_width(t.max(y.term)));
      if (width <= f.width) continue;
      f.width = f.width == 0 ? width : 64;
    } else if (expected.regs[r] == y) {
      continue;
    } else if (const Term by = t.sub(y.term, x.term);
               f.kind == Form::Kind::Same && t.is_constant(by)) {
      f.by = t.value(by);
      // A number of 32 bits must be one from the start.
      const bool narrow = x.kind == Kind::Number && t.max(s.entered.regs[r].term) <= 0xFFFFFFFF;
      f.kind = narrow ? Form::Kind::Grows32 : Form::Kind::Grows64;
    } else if (f.kind == Form::Kind::Grows32) {
      f.kind = Form::Kind::Grows64;
    } else if (x.kind == Kind::Number) {
      f.kind = Form::Kind::Free;
      f.width = static_cast<unsigned>(std::bit_width(
          std::max({t.max(s.entered.regs[r].term), t.max(y.term), std::uint64_t{1}})));
    } else {
      f.kind = Form::Kind::Gone;
    }
    fit = false;
  }
  std::vector<std::int64_t> kept;
  for (const std::int64_t at : forms.stack) {
    const auto y = after.stacks[0].find(at);
    if (y != after.stacks[0].end() && y->second == before.stacks[0].at(at)) kept.push_back(at);
  }
  fit = fit && kept.size() == forms.stack.size();
  forms.stack = std::move(kept);
  return fit;
}

bool HeadProof::find_forms() {
  Scene s(solver_, report_);
  if (!enter(s)) return false;
  s.rounds = s.terms.zext(s.terms.symbol("rounds", 8), 32);
  for (const auto& [at, byte] : s.entered.stacks[0]) forms_.stack.push_back(at);
  for (int attempt = 0;; ++attempt) {
    const auto step = once(s, forms_);
    if (!step) return because(step.error());
    if (!step->at_cut) return because("the loop does not lead back");
    if (adapt(s, after_rounds(s, forms_, s.rounds), *step->at_cut, forms_)) break;
    if (attempt == 16) return because("what the loop changes does not settle");
  }
  // What it changes freely and never looks at does not matter. One number must be left, of which
  // another may hold some bits.
  for (unsigned state = 0; state < ebpf::kRegisters; ++state) {
    for (unsigned masked = 0; masked < ebpf::kRegisters; ++masked) {
      if (one_number(s, state, masked)) return true;
    }
  }
  return because("what the loop carries from block to block is not one number");
}

// Whether it can be `state`, and `masked` (unless that is the same) some bits of it.
bool HeadProof::one_number(Scene& s, unsigned state, unsigned masked) {
  Terms& t = s.terms;
  LoopForms one = forms_;
  one.state = state;
  if (one.regs[state].kind != Form::Kind::Free || one.regs[masked].kind != Form::Kind::Free) {
    return false;
  }
  for (unsigned r = 0; r < ebpf::kRegisters; ++r) {
    Form& f = one.regs[r];
    if (r != state && f.kind == Form::Kind::Free) f.kind = Form::Kind::Gone;
  }
  if (masked != state) {
    const Term begins = s.entered.regs[masked].term;
    Form& f = one.regs[masked];
    f.kind = Form::Kind::Masked;
    f.of = state;
    f.by = ~t.node(begins).zeros;
    if (t.and_(s.entered.regs[state].term, t.constant(f.by, 64)) != begins) return false;
  }
  const auto step = once(s, one);
  if (!step || !step->at_cut || !adapt(s, after_rounds(s, one, s.rounds), *step->at_cut, one)) {
    return false;
  }
  forms_ = std::move(one);
  return true;
}

bool HeadProof::never(Scene& s, Term wrong, const char* what) {
  if (s.terms.never(wrong)) return true;
  TermAnswer answer;
  for (const auto relate : {TermSolver::Relate::None, TermSolver::Relate::All}) {
    answer = solver_.ask(s.terms, wrong, relate, what);
    ++report_.questions;
    report_.resources += answer.resources;
    if (answer.kind == TermAnswer::Kind::Never) return true;
    if (answer.kind == TermAnswer::Kind::Unknown) break;
  }
  return because(
      answer.kind == TermAnswer::Kind::Unknown
          ? fmt::format("{} {}", what, answer.reason)
          : fmt::format("{} It seems so (instructions {} and after)", what, functions_.head));
}

std::optional<Stretch> HeadProof::round(Scene& s, Term here) {
  Terms& t = s.terms;
  s.places.assume(here);
  auto step = once(s, forms_);
  if (!step) {
    because(step.error());
    return std::nullopt;
  }
  for (const auto& end : {step->at_exit, step->at_cut}) {
    if (!end || only_computes(*end)) continue;
    because("the loop writes to the packet's buffer");
    return std::nullopt;
  }
  for (const Obligation& o : step->obligations) {
    const Term outside = t.and_(o.when, t.not_(o.holds));
    if (!never(s, t.and_(here, outside), fmt::format("can {} be outside?", o.what).c_str())) {
      return std::nullopt;
    }
  }
  return std::move(*step);
}

bool HeadProof::ends_with(Scene& s, Term here, const Stretch& step, Term result) {
  Terms& t = s.terms;
  Term goes_on = t.truth(false);
  if (step.at_cut) {
    goes_on = t.truth(true);
    for (const Term x : step.at_cut->path) goes_on = t.and_(goes_on, x);
  }
  if (!never(s, t.and_(here, goes_on), "can the loop go on where it should end?")) return false;
  if (!step.at_exit || step.at_exit->regs[0].kind != Kind::Number) {
    return because("the loop gives no number");
  }
  const Term differs = t.not_(t.eq(step.at_exit->regs[0].term, t.zext(result, 64)));
  return never(s, t.and_(here, differs), "can the loop end with another verdict?");
}

// Fewer than eight bytes are left.
bool HeadProof::end() {
  Scene s(solver_, report_);
  if (!enter(s)) return false;
  Terms& t = s.terms;
  s.rounds = t.zext(t.symbol("rounds", 8), 32);
  const Term at = t.add(s.offset, t.mul(s.rounds, t.constant(8, 32)));
  const Term here = t.ult(s.length, t.add(at, t.constant(8, 32)));
  t.assume(here, 1);
  HeadMeaning meaning(t, object_, tables_, s.filter, s.places);
  const Term want = meaning.tail(state_of(s, meaning), at, s.length);
  const auto step = round(s, here);
  if (!step) return false;
  return ends_with(s, here, *step, want);
}

// One block more, and another round behind it.
bool HeadProof::middle() {
  Scene s(solver_, report_);
  if (!enter(s)) return false;
  Terms& t = s.terms;
  s.rounds = t.zext(t.symbol("rounds", 8), 32);
  const Term at = t.add(s.offset, t.mul(s.rounds, t.constant(8, 32)));
  const Term whole = t.not_(t.ult(s.length, t.add(at, t.constant(8, 32))));
  t.assume(whole, 1);
  HeadMeaning meaning(t, object_, tables_, s.filter, s.places);
  const auto block = meaning.block(state_of(s, meaning), at);
  if (!never(s, block.wrongly_passed, "can a byte be passed over that is not in the set?")) {
    return false;
  }
  const Term here = t.and_(whole, t.ult(s.rounds, t.constant(kHeadBlocks - 1, 32)));
  // How it begins.
  const BpfValue& begins = s.entered.regs[forms_.state];
  if (!never(s, t.not_(t.eq(meaning.row(t.extract(begins.term, 0, 32)), meaning.start())),
             "can the loop begin in another state?")) {
    return false;
  }
  const auto step = round(s, here);
  if (!step) return false;
  if (!step->at_cut) return because("the loop does not lead back");
  LoopForms same = forms_;
  if (!adapt(s, after_rounds(s, forms_, s.rounds), *step->at_cut, same)) {
    return because("what the loop changes does not settle");
  }
  if (!ends_with(s, t.and_(here, block.lost), *step, t.constant(0, 32))) return false;
  const Term going = t.and_(here, t.not_(block.lost));
  Term goes_on = t.truth(true);
  for (const Term x : step->at_cut->path) goes_on = t.and_(goes_on, x);
  if (!never(s, t.and_(going, t.not_(goes_on)), "can the loop end where it should go on?")) {
    return false;
  }
  const Term next = t.extract(step->at_cut->regs[forms_.state].term, 0, 32);
  const Term differs = t.not_(t.eq(meaning.row(next), block.next));
  return never(s, t.and_(going, differs), "can the loop go on in another state?");
}

// One block more, the last.
bool HeadProof::last() {
  Scene s(solver_, report_);
  if (!enter(s)) return false;
  Terms& t = s.terms;
  s.rounds = t.constant(kHeadBlocks - 1, 32);
  const Term at = t.add(s.offset, t.mul(s.rounds, t.constant(8, 32)));
  const Term whole = t.not_(t.ult(s.length, t.add(at, t.constant(8, 32))));
  t.assume(whole, 1);
  HeadMeaning meaning(t, object_, tables_, s.filter, s.places);
  const auto block = meaning.block(state_of(s, meaning), at);
  const Term tail = meaning.tail(block.next, t.add(at, t.constant(8, 32)), s.length);
  const auto step = round(s, whole);
  if (!step) return false;
  return ends_with(s, whole, *step, t.ite(block.lost, t.constant(0, 32), tail));
}

}  // namespace

RequestReport prove_head(const ebpf::Object& object, const ebpf::Program& program,
                         const RequestFunctions& functions, TermSolver& solver) {
  RequestReport report;
  const auto tables = HttpTables::read(object);
  if (!tables) {
    report.reason = tables.error();
    return report;
  }
  report.proved = HeadProof(object, program, functions, *tables, solver, report).run();
  return report;
}

RequestReport prove_ask(const ebpf::Object& object, const ebpf::Program& program,
                        const RequestFunctions& functions, std::size_t node, TermSolver& solver) {
  RequestReport report;
  Terms t;
  solver.forget();
  const Term filter = t.symbol("filter", 16), offset = t.symbol("offset", 64);
  BpfState start = function_start(t);
  start.regs[1] = {Kind::Context, 0, t.constant(0, 64)};
  start.regs[2] = {Kind::Number, 0, t.zext(filter, 64)};
  start.regs[3] = {Kind::Number, 0, offset};
  ExecutorOptions options = no_helpers();
  options.summaries.emplace(functions.head, head_summary(t));
  const auto run =
      execute_stretch(t, object, program, options, functions.ask, std::move(start), std::nullopt);
  if (!run) {
    report.reason = run.error();
    return report;
  }
  const BpfState& end = *run->at_exit;
  if (end.regs[0].kind != Kind::Number || !end.context.empty() || end.pulled) {
    report.reason = "the function that asks about a request does more than answer";
    return report;
  }
  enum { kPass = 1, kDrop = 2, kProxy = 3 };
  const auto c = [&](std::uint64_t v) { return t.constant(v, 32); };
  const Term from = t.extract(offset, 0, 9);
  const Term length = t.zext(t.symbol(kPacketLength, 16), 32);
  const Term none = t.not_(t.ult(t.zext(from, 32), length));
  const Term verdict = t.read(kHeadArray, t.concat(filter, t.zext(from, 16)), 4);
  const Term no_proxy = t.eq(t.read(map_array(node), c(8), 4), c(0));
  const Term passes = t.and_(t.eq(verdict, c(1)), no_proxy);
  const Term want = t.ite(none, c(kProxy),
                          t.ite(t.eq(verdict, c(2)), c(kDrop), t.ite(passes, c(kPass), c(kProxy))));
  Term wrong = t.not_(t.eq(end.regs[0].term, t.zext(want, 64)));
  for (const Obligation& o : run->obligations) {
    wrong = t.or_(wrong, t.and_(o.when, t.not_(o.holds)));
  }
  if (!t.never(wrong)) {
    const TermAnswer answer = solver.ask(t, wrong, TermSolver::Relate::None,
                                         "can a request meet another fate than its verdict's?");
    ++report.questions;
    report.resources = answer.resources;
    if (answer.kind != TermAnswer::Kind::Never) {
      report.reason =
          answer.kind == TermAnswer::Kind::Unknown
              ? answer.reason
              : fmt::format(
                    "a request can meet another fate than its verdict's (instructions {} "
                    "and after)",
                    functions.ask);
      return report;
    }
  }
  report.proved = true;
  return report;
}

}  // namespace policyc::verify
