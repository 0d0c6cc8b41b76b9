#include "verifier/bpf_executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

namespace policyc::verify {

namespace {

using ebpf::Instruction;

constexpr std::uint64_t kFar = std::uint64_t{1} << 31U;  // offsets stay below
constexpr std::size_t kMaxFrames = 8;

// Ends the execution; caught in execute() and nowhere else.
struct NotKnown {
  std::string why;
};

using Value = BpfValue;
using StackByte = BpfStackByte;
using Stack = BpfStack;
using State = BpfState;

class Executor {
 public:
  Executor(Terms& terms, const ebpf::Object& object, const ebpf::Program& program,
           const ExecutorOptions& options)
      : t_(terms), object_(object), code_(program.code), options_(options) {
    second_slot_ = ebpf::second_slots(code_);
  }

  Execution run();
  Stretch stretch(std::size_t from, State start, std::optional<std::size_t> cut);
  std::vector<std::size_t> heads(std::size_t entry) const;
  std::string here() const {
    const Instruction* following = at_ + 1 < code_.size() ? &code_[at_ + 1] : nullptr;
    return fmt::format("instruction {}: {}", at_, disassemble(code_[at_], following));
  }

 private:
  // The ends of a stretch, with all paths merged.
  struct Ends {
    std::optional<State> exit, cut;
  };
  Ends follow(std::size_t from, State start, std::optional<std::size_t> cut);
  // `back`: gets what jumps lead back to, which is not known where there is none.
  std::vector<std::size_t> order(std::size_t entry, std::optional<std::size_t> cut,
                                 std::vector<std::size_t>* back) const;
  std::vector<std::size_t> next(std::size_t at) const;
  State merge(State a, State b);
  State join(std::vector<State> all);
  Value merge(Term take_b, const Value& a, const Value& b);
  Stack merge(Term take_b, const Stack& a, const Stack& b);

  void alu(State& s, const Instruction& i);
  void load_immediate(State& s, const Instruction& i, const Instruction& high);
  void load(State& s, const Instruction& i);
  void store(State& s, const Instruction& i);
  Term condition(State& s, const Instruction& i);
  State call(State s, const Instruction& i);
  void helper(State& s, int which);
  void pull(State& s);

  Term c64(std::uint64_t v) { return t_.constant(v, 64); }
  Term number(const Value& v) const {
    if (v.kind != Value::Kind::Number) throw NotKnown{"a number is expected"};
    return v.term;
  }
  Value number_of(Term t) { return {Value::Kind::Number, 0, t_.zext(t, 64)}; }
  Term conjunction(const std::vector<Term>& all) {
    Term out = t_.truth(true);
    for (const Term x : all) out = t_.and_(out, x);
    return out;
  }
  void oblige(const State& s, Term holds);
  bool holds(const State& s, Term t) const {
    return t_.is_constant(t, 1) || std::find(s.path.begin(), s.path.end(), t) != s.path.end();
  }
  // Where the bytes stand that this pointer leads to, and its offset there: stack or memory.
  std::pair<Stack*, std::int64_t> place(State& s, const Value& to, std::int16_t more,
                                        std::uint64_t bytes);
  Value gather(const Stack& from, std::int64_t at, unsigned bytes);
  std::vector<Term> bytes_at(State& s, const Value& from, std::size_t count);
  void recognise(const State& s, Value& v);
  void recognise_all(State& s);
  bool contradicts(const std::vector<Term>& path, Term truth);
  bool reaches_further(Term known, Term wanted);
  Term read(std::vector<Term>& path, unsigned array, Term index, unsigned bytes, unsigned choices);
  std::uint64_t constant_offset(const Value& v, std::int16_t more) const {
    if (!t_.is_constant(v.term)) throw NotKnown{"the offset depends on the packet"};
    return t_.value(v.term) + static_cast<std::uint64_t>(std::int64_t{more});
  }

  Terms& t_;
  const ebpf::Object& object_;
  const std::vector<Instruction>& code_;
  const ExecutorOptions& options_;
  std::vector<bool> second_slot_;
  std::size_t at_ = 0;
  // What Value::Kind::Memory may name: the entries of the options.
  struct Memory {
    std::size_t map = 0, bytes = 0;
  };
  std::vector<Memory> memory_;
  Execution out_;
};

// ---- the order of things

std::vector<std::size_t> Executor::next(std::size_t at) const {
  const Instruction& i = code_[at];
  const std::uint8_t cls = i.instruction_class();
  const auto to = [&](std::int64_t distance) {
    const std::int64_t target = static_cast<std::int64_t>(at) + 1 + distance;
    if (target < 0 || target >= static_cast<std::int64_t>(code_.size()) ||
        second_slot_[static_cast<std::size_t>(target)]) {
      throw NotKnown{"control leaves the program"};
    }
    return static_cast<std::size_t>(target);
  };
  if (i.opcode == ebpf::kLdImm64) return {to(1)};
  if (cls == ebpf::kJmp || cls == ebpf::kJmp32) {
    const std::uint8_t operation = i.operation();
    if (operation == ebpf::kExit) return {};
    if (operation == ebpf::kCall) return {to(0)};
    if (operation == ebpf::kJa) return {to(cls == ebpf::kJmp32 ? i.imm : i.offset)};
    return {to(0), to(i.offset)};
  }
  return {to(0)};
}

// Whether a jump that compares nothing has something in a field that must be zero (check_cfg and
// do_check of the kernel refuse it).
bool reserved_is_set(const Instruction& i) {
  const bool wide = i.instruction_class() == ebpf::kJmp;
  switch (i.operation()) {
    case ebpf::kExit:
      return !wide || i.from_register() || i.dst != 0 || i.src != 0 || i.imm != 0;
    case ebpf::kCall:
      return !wide || i.from_register() || i.dst != 0 || i.offset != 0;
    case ebpf::kJa:
      return i.from_register() || i.dst != 0 || i.src != 0 || (wide ? i.imm : i.offset) != 0;
    default:
      return false;
  }
}

// Every instruction that can be reached, each after all from which it is reached. What is reached
// only through `cut` is left out, unless that is the entry.
std::vector<std::size_t> Executor::order(std::size_t entry, std::optional<std::size_t> cut,
                                         std::vector<std::size_t>* back) const {
  enum class Mark : std::uint8_t { New, Open, Done };
  std::vector<Mark> marks(code_.size(), Mark::New);
  std::vector<std::size_t> out;
  struct Visit {
    std::size_t at;
    std::vector<std::size_t> successors;
    std::size_t done;
  };
  std::vector<Visit> stack;
  stack.push_back({entry, next(entry), 0});
  marks[entry] = Mark::Open;
  while (!stack.empty()) {
    Visit& top = stack.back();
    if (top.done == top.successors.size()) {
      marks[top.at] = Mark::Done;
      out.push_back(top.at);
      stack.pop_back();
      continue;
    }
    const std::size_t to = top.successors[top.done++];
    if (to == cut) continue;
    if (marks[to] == Mark::Open) {
      if (back == nullptr) throw NotKnown{fmt::format("a loop at instruction {}", to)};
      back->push_back(to);
    }
    if (marks[to] == Mark::New) {
      marks[to] = Mark::Open;
      stack.push_back({to, next(to), 0});
    }
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::size_t> Executor::heads(std::size_t entry) const {
  std::vector<std::size_t> out;
  order(entry, std::nullopt, &out);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// ---- where paths meet

Value Executor::merge(Term take_b, const Value& a, const Value& b) {
  if (a == b) return a;
  // A pointer on one way, null on the other.
  const auto null = [&](const Value& v) {
    return v.kind == Value::Kind::Number && t_.is_constant(v.term, 0);
  };
  const Term no = t_.truth(false);
  if (a.kind == Value::Kind::Memory && null(b)) {
    return {a.kind, a.which, a.term, t_.ite(take_b, no, a.there)};
  }
  if (b.kind == Value::Kind::Memory && null(a)) {
    return {b.kind, b.which, b.term, t_.ite(take_b, b.there, no)};
  }
  if (!a.same_place(b) || a.kind == Value::Kind::Nothing) return {};
  Value out{a.kind, a.which, t_.ite(take_b, b.term, a.term)};
  if (a.kind == Value::Kind::Memory) out.there = t_.ite(take_b, b.there, a.there);
  return out;
}

Stack Executor::merge(Term take_b, const Stack& a, const Stack& b) {
  Stack out;
  const std::size_t stamp = t_.size();  // no other merge of these terms has it
  // What was not written on one of the ways is any number there.
  const auto unwritten = [&](std::int64_t offset, const StackByte& other) {
    const std::int64_t begin = offset - other.index;
    const std::string name = fmt::format("unwritten{}.{}", stamp, begin);
    return StackByte{number_of(t_.symbol(name, 64)), other.index};
  };
  std::set<std::int64_t> places;
  for (const Stack* of : {&a, &b}) {
    for (const auto& [offset, byte] : *of) places.insert(offset);
  }
  for (const std::int64_t offset : places) {
    const auto x = a.find(offset), y = b.find(offset);
    StackByte from_a = x != a.end() ? x->second : unwritten(offset, y->second);
    StackByte from_b = y != b.end() ? y->second : unwritten(offset, from_a);
    if (from_a == from_b) {
      out.emplace(offset, from_a);
      continue;
    }
    if (from_a.index != from_b.index) {
      if (from_a.whole.kind != Value::Kind::Number || from_b.whole.kind != Value::Kind::Number) {
        continue;
      }
      for (StackByte* byte : {&from_a, &from_b}) {
        *byte = {number_of(t_.extract(byte->whole.term, byte->index * 8, 8)), 0};
      }
    }
    const Value whole = merge(take_b, from_a.whole, from_b.whole);
    if (whole.kind != Value::Kind::Nothing) out.emplace(offset, StackByte{whole, from_a.index});
  }
  return out;
}

State Executor::merge(State a, State b) {
  // What both have in common stays; the rest tells them apart.
  std::vector<Term> common, only_a, only_b;
  for (const Term x : a.path) {
    const bool both = std::find(b.path.begin(), b.path.end(), x) != b.path.end();
    (both ? common : only_a).push_back(x);
  }
  for (const Term x : b.path) {
    if (std::find(common.begin(), common.end(), x) == common.end()) only_b.push_back(x);
  }
  const Term is_a = conjunction(only_a), is_b = conjunction(only_b);
  const Term either = t_.or_(is_a, is_b);
  // Exactly one of them holds where either does.
  const Term take_b = only_b.size() <= only_a.size() ? is_b : t_.not_(is_a);
  State out;
  out.path = std::move(common);
  if (!t_.is_constant(either, 1)) out.path.push_back(either);
  for (unsigned r = 0; r < ebpf::kRegisters; ++r) out.regs[r] = merge(take_b, a.regs[r], b.regs[r]);
  for (std::size_t f = 0; f < a.stacks.size(); ++f) {
    out.stacks.push_back(merge(take_b, a.stacks[f], b.stacks[f]));
  }
  for (const auto& [which, x] : a.memory) {
    const auto y = b.memory.find(which);
    if (y != b.memory.end()) out.memory.emplace(which, merge(take_b, x, y->second));
  }
  out.length = t_.ite(take_b, b.length, a.length);
  out.pulled = a.pulled || b.pulled;
  out.context = std::move(a.context);
  for (const auto& [offset, y] : b.context) {
    const auto x = out.context.try_emplace(offset, t_.symbol(context_symbol(offset), 32)).first;
    x->second = t_.ite(take_b, y, x->second);
  }
  for (auto& [offset, x] : out.context) {
    if (b.context.count(offset) == 0) {
      x = t_.ite(take_b, t_.symbol(context_symbol(offset), 32), x);
    }
  }
  out.volatile_reads = std::move(a.volatile_reads);
  for (const auto& [word, count] : b.volatile_reads) {
    unsigned& most = out.volatile_reads[word];
    most = std::max(most, count);
  }
  out.calls = std::move(a.calls);
  for (const auto& [helper, count] : b.calls) {
    unsigned& most = out.calls[helper];
    most = std::max(most, count);
  }
  out.updated = std::move(a.updated);
  out.updated.insert(b.updated.begin(), b.updated.end());
  return out;
}

// Ways that parted last meet first: what told them apart is forgotten then.
State Executor::join(std::vector<State> all) {
  const auto common = [](const State& a, const State& b) {
    return std::count_if(a.path.begin(), a.path.end(), [&](Term x) {
      return std::find(b.path.begin(), b.path.end(), x) != b.path.end();
    });
  };
  while (all.size() > 1) {
    std::size_t first = 0, second = 1;
    auto most = common(all[0], all[1]);
    for (std::size_t j = 2; j < all.size(); ++j) {
      for (std::size_t i = 0; i < j; ++i) {
        const auto here = common(all[i], all[j]);
        if (here > most) std::tie(first, second, most) = std::tuple(i, j, here);
      }
    }
    all[first] = merge(std::move(all[first]), std::move(all[second]));
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(second));
  }
  return std::move(all.front());
}

// Gives a value the name that others know it by.
void Executor::recognise(const State& s, Value& v) {
  if (v.kind != Value::Kind::Number && v.kind != Value::Kind::Packet) return;
  if (!options_.same_value || t_.is_constant(v.term)) return;
  if (const auto other = options_.same_value(s.path, v.term)) v.term = *other;
}

void Executor::recognise_all(State& s) {
  if (options_.same_path) {
    if (const auto other = options_.same_path(s.path)) s.path = {*other};
  }
  for (Value& v : s.regs) recognise(s, v);
  for (Stack& stack : s.stacks) {
    for (auto& [offset, byte] : stack) recognise(s, byte.whole);
  }
}

// ---- instructions

// Whether a truth is seen not to hold on a path: its opposite stands there, or what is said there
// of the byte that it is about leaves it no value.
bool Executor::contradicts(const std::vector<Term>& path, Term truth) {
  if (std::find(path.begin(), path.end(), t_.not_(truth)) != path.end()) return true;
  Term all = truth;
  for (const std::vector<Term>* of : {&path, &options_.given}) {
    for (const Term x : *of) {
      if (t_.is_constant(all, 0)) return true;
      if (t_.about_one_byte(truth, x)) all = t_.and_(all, x);
    }
  }
  return t_.is_constant(all, 0);
}

void Executor::oblige(const State& s, Term holds) {
  if (t_.is_constant(holds, 1)) return;
  for (const std::vector<Term>* of : {&s.path, &options_.given}) {
    for (const Term known : *of) {
      if (known == holds || reaches_further(known, holds)) return;
    }
  }
  out_.obligations.push_back({conjunction(s.path), holds, here()});
}

// Whether "not (a < b + more)" is known where "not (a < b)" is wanted.
bool Executor::reaches_further(Term known, Term wanted) {
  if (t_.node(known).op != Terms::Op::Not || t_.node(wanted).op != Terms::Op::Not) return false;
  const Terms::Node& k = t_.node(t_.node(known).a);
  const Terms::Node& w = t_.node(t_.node(wanted).a);
  if (k.op != Terms::Op::Ult || w.op != Terms::Op::Ult) return false;
  // Comparisons may have been made of fewer bits: widths differ, values do not.
  const Term a = t_.zext(k.a, 64), b = t_.zext(w.a, 64);
  const Term more = t_.zext(k.b, 64), less = t_.zext(w.b, 64);
  return a == b && t_.without_constant(more) == t_.without_constant(less) &&
         t_.constant_part(more) >= t_.constant_part(less);
}

// `bytes` of the array at an offset, little endian.
Term Executor::read(std::vector<Term>& path, unsigned array, Term index, unsigned bytes,
                    unsigned choices) {
  if (options_.same_place && !t_.is_constant(index)) {
    if (const auto place = options_.same_place(path, array, index)) {
      index = *place;
    } else if (choices != 0) {
      const Term part = t_.without_constant(index);
      Term inner = part;
      const Terms::Node outer = t_.node(part);
      if (outer.op == Terms::Op::Concat && t_.is_constant(outer.a, 0)) inner = outer.b;
      const Terms::Node n = t_.node(inner);
      if (n.op == Terms::Op::Ite) {
        const Term rest = t_.constant(t_.constant_part(index), 32);
        path.push_back(n.a);
        const Term yes = read(path, array, t_.add(t_.zext(n.b, 32), rest), bytes, choices - 1);
        path.back() = t_.not_(n.a);
        const Term no = read(path, array, t_.add(t_.zext(n.c, 32), rest), bytes, choices - 1);
        path.pop_back();
        return t_.ite(n.a, yes, no);
      }
    }
  }
  const unsigned at_once = array == kPacketArray ? 1 : std::min(bytes, 4U);
  Term v = t_.read(array, index, at_once);
  for (unsigned k = at_once; k < bytes; k += at_once) {
    v = t_.concat(t_.read(array, t_.add(index, t_.constant(k, 32)), at_once), v);
  }
  return v;
}

void Executor::alu(State& s, const Instruction& i) {
  const bool wide = i.instruction_class() == ebpf::kAlu64;
  const unsigned w = wide ? 64 : 32;
  const std::uint8_t operation = i.operation();
  Value& dst = s.regs[i.dst];
  if (operation == ebpf::kEnd) {
    if (i.offset != 0 || i.src != 0 || (i.imm != 16 && i.imm != 32 && i.imm != 64) ||
        (wide && i.from_register())) {
      throw NotKnown{"not an instruction"};
    }
    const auto bits = static_cast<unsigned>(i.imm);
    Term v = t_.extract(number(dst), 0, bits);
    if (wide || i.from_register()) {
      Term swapped = t_.extract(v, 0, 8);
      for (unsigned at = 8; at < bits; at += 8) swapped = t_.concat(swapped, t_.extract(v, at, 8));
      v = swapped;
    }
    dst = number_of(v);
    return;
  }
  if (operation == ebpf::kNeg) {
    if (i.from_register() || i.src != 0 || i.offset != 0 || i.imm != 0) {
      throw NotKnown{"not an instruction"};
    }
    dst = number_of(t_.neg(t_.extract(number(dst), 0, w)));
    return;
  }
  if (i.from_register() ? i.imm != 0 : i.src != 0) throw NotKnown{"not an instruction"};
  if (i.offset != 0) {
    // Signed moves only.
    if (operation != ebpf::kMov || !i.from_register() ||
        (i.offset != 8 && i.offset != 16 && !(wide && i.offset == 32))) {
      throw NotKnown{"not known"};
    }
    const Term low = t_.extract(number(s.regs[i.src]), 0, static_cast<unsigned>(i.offset));
    dst = number_of(t_.sext(low, w));
    return;
  }
  const Value right =
      i.from_register()
          ? s.regs[i.src]
          : Value{Value::Kind::Number, 0, c64(static_cast<std::uint64_t>(std::int64_t{i.imm}))};
  if (operation == ebpf::kMov) {
    if (right.kind == Value::Kind::Nothing) throw NotKnown{"a value that is not known"};
    if (!wide && right.pointer()) throw NotKnown{"half a pointer"};
    dst = wide ? right : number_of(t_.extract(right.term, 0, 32));
    return;
  }
  if (dst.pointer() || right.pointer()) {
    if (!wide) throw NotKnown{"arithmetic on half a pointer"};
    for (const Value& v : {dst, right}) {
      if (v.kind == Value::Kind::Map || (v.kind == Value::Kind::Memory && !holds(s, v.there))) {
        throw NotKnown{"arithmetic on what may be null"};
      }
    }
    if (operation == ebpf::kAdd && dst.pointer() && right.kind == Value::Kind::Number) {
      dst.term = t_.add(dst.term, right.term);
    } else if (operation == ebpf::kAdd && right.pointer() && dst.kind == Value::Kind::Number) {
      const Term offset = dst.term;
      dst = right;
      dst.term = t_.add(dst.term, offset);
    } else if (operation == ebpf::kSub && dst.pointer() && right.kind == Value::Kind::Number) {
      dst.term = t_.sub(dst.term, right.term);
    } else if (operation == ebpf::kSub && dst.pointer() && dst.same_place(right)) {
      dst = number_of(t_.sub(dst.term, right.term));
    } else if (operation == ebpf::kSub && dst.kind == Value::Kind::PacketEnd &&
               right.kind == Value::Kind::Packet) {
      dst = number_of(t_.sub(t_.add(s.length, dst.term), right.term));
    } else {
      throw NotKnown{"arithmetic on a pointer"};
    }
    if (dst.kind == Value::Kind::Stack || dst.kind == Value::Kind::Context ||
        dst.kind == Value::Kind::Memory) {
      constant_offset(dst, 0);
    }
    return;
  }
  const Term a = t_.extract(number(dst), 0, w), b = t_.extract(number(right), 0, w);
  const auto shift = [&] {
    if (i.from_register()) return t_.and_(b, t_.constant(w - 1, w));
    if (i.imm < 0 || static_cast<unsigned>(i.imm) >= w) throw NotKnown{"not an instruction"};
    return b;
  };
  Term r;
  switch (operation) {
    case ebpf::kAdd:
      r = t_.add(a, b);
      break;
    case ebpf::kSub:
      r = t_.sub(a, b);
      break;
    case ebpf::kMul:
      r = t_.mul(a, b);
      break;
    case ebpf::kDiv:
    case ebpf::kMod:
      if (!i.from_register() && i.imm == 0) throw NotKnown{"not an instruction"};
      r = operation == ebpf::kDiv ? t_.div(a, b) : t_.mod(a, b);
      break;
    case ebpf::kOr:
      r = t_.or_(a, b);
      break;
    case ebpf::kAnd:
      r = t_.and_(a, b);
      break;
    case ebpf::kXor:
      r = t_.xor_(a, b);
      break;
    case ebpf::kLsh:
      r = t_.shl(a, shift());
      break;
    case ebpf::kRsh:
      r = t_.lshr(a, shift());
      break;
    case ebpf::kArsh:
      r = t_.ashr(a, shift());
      break;
    default:
      throw NotKnown{"not an instruction"};
  }
  dst = number_of(r);
  recognise(s, dst);
}

void Executor::load_immediate(State& s, const Instruction& i, const Instruction& high) {
  if (i.opcode != ebpf::kLdImm64 || i.offset != 0 || high.opcode != 0 || high.dst != 0 ||
      high.src != 0 || high.offset != 0) {
    throw NotKnown{"not known"};
  }
  if (i.src == 0) {
    s.regs[i.dst] = number_of(c64(std::uint64_t{static_cast<std::uint32_t>(high.imm)} << 32U |
                                  static_cast<std::uint32_t>(i.imm)));
    return;
  }
  const auto map = static_cast<std::size_t>(i.imm);
  if (i.src == ebpf::kImmIsMap && i.imm >= 0 && high.imm == 0 && options_.keyed.count(map) != 0) {
    s.regs[i.dst] = {Value::Kind::Map, map, c64(0)};
    return;
  }
  if (i.src != ebpf::kImmIsMapValue || i.imm < 0 ||
      static_cast<std::size_t>(i.imm) >= object_.maps.size()) {
    throw NotKnown{"a map that is not global data"};
  }
  s.regs[i.dst] = {Value::Kind::MapValue, static_cast<std::size_t>(i.imm),
                   c64(static_cast<std::uint32_t>(high.imm))};
}

void Executor::load(State& s, const Instruction& i) {
  if (i.mode() != ebpf::kModeMem || i.imm != 0) throw NotKnown{"not known"};
  const Value& from = s.regs[i.src];
  const unsigned bytes = i.bytes();
  Value& dst = s.regs[i.dst];
  switch (from.kind) {
    case Value::Kind::Nothing:
    case Value::Kind::Number:
    case Value::Kind::PacketEnd:
    case Value::Kind::Map:
      throw NotKnown{"no pointer that can be followed"};
    case Value::Kind::Context: {
      const std::uint64_t at = constant_offset(from, i.offset);
      const std::uint64_t field = at & ~std::uint64_t{3};
      if (at >= 192 || at + bytes > field + 4 || at % bytes != 0) throw NotKnown{"a field"};
      if (field == kSkbData || field == kSkbDataEnd) {
        if (bytes != 4) throw NotKnown{"a part of a pointer"};
        dst = {field == kSkbData ? Value::Kind::Packet : Value::Kind::PacketEnd, 0, c64(0)};
        return;
      }
      // Up to cb: plain numbers of the packet's buffer. The rest are pointers or wider.
      if (field >= kSkbData) throw NotKnown{"a field"};
      const auto known = s.context.find(field);
      const Term word =
          known != s.context.end() ? known->second : t_.symbol(context_symbol(field), 32);
      dst = number_of(t_.extract(word, static_cast<unsigned>(at - field) * 8, bytes * 8));
      return;
    }
    case Value::Kind::Stack:
    case Value::Kind::Memory: {
      const auto [stored, at] = place(s, from, i.offset, bytes);
      dst = gather(*stored, at, bytes);
      return;
    }
    case Value::Kind::Packet: {
      Term at = t_.add(from.term, c64(static_cast<std::uint64_t>(std::int64_t{i.offset})));
      if (t_.max(at) >= kFar) throw NotKnown{"an offset without a bound"};
      if (options_.same_place && !t_.is_constant(at)) {
        const auto place = options_.same_place(s.path, kPacketArray, t_.extract(at, 0, 32));
        if (place) at = t_.zext(*place, 64);
      }
      oblige(s, t_.not_(t_.ult(s.length, t_.add(at, c64(bytes)))));
      dst = number_of(read(s.path, kPacketArray, t_.extract(at, 0, 32), bytes, 4));
      return;
    }
    case Value::Kind::MapValue: {
      const std::size_t map = from.which;
      const Term at = t_.add(from.term, c64(static_cast<std::uint64_t>(std::int64_t{i.offset})));
      if (t_.max(at) >= kFar) throw NotKnown{"an offset without a bound"};
      oblige(s, t_.not_(t_.ult(c64(object_.maps[map].size), t_.add(at, c64(bytes)))));
      const std::pair<std::size_t, std::uint64_t> word{map, t_.min(at)};
      for (const auto& v : options_.volatile_words) {
        if (v.map != map || t_.max(at) + bytes <= v.offset || t_.min(at) >= v.offset + 4) continue;
        if (!t_.is_constant(at) || v.offset != word.second || bytes != 4) {
          throw NotKnown{"a word that others write"};
        }
        dst = number_of(t_.symbol(volatile_symbol(map, v.offset, s.volatile_reads[word]++), 32));
        return;
      }
      dst = number_of(read(s.path, map_array(map), t_.extract(at, 0, 32), bytes, 4));
      return;
    }
  }
}

std::pair<Stack*, std::int64_t> Executor::place(State& s, const Value& to, std::int16_t more,
                                                std::uint64_t bytes) {
  const auto at = static_cast<std::int64_t>(constant_offset(to, more));
  const auto end = static_cast<std::int64_t>(bytes) + at;
  if (to.kind == Value::Kind::Stack) {
    if (at < -static_cast<std::int64_t>(ebpf::kStackBytes) || end > 0) {
      throw NotKnown{"outside the stack"};
    }
    return {&s.stacks[to.which], at};
  }
  if (to.kind != Value::Kind::Memory) throw NotKnown{"a place there"};
  const Memory& memory = memory_[to.which];
  const auto stored = s.memory.find(to.which);
  if (stored == s.memory.end() || s.updated.count(memory.map) != 0) {
    throw NotKnown{"what may not be there any more"};
  }
  if (at < 0 || end > static_cast<std::int64_t>(memory.bytes)) throw NotKnown{"outside an entry"};
  oblige(s, to.there);
  return {&stored->second, at};
}

Value Executor::gather(const Stack& from, std::int64_t at, unsigned bytes) {
  std::vector<StackByte> read;
  for (unsigned k = 0; k < bytes; ++k) {
    const auto b = from.find(at + k);
    if (b == from.end()) throw NotKnown{"a place that was not written"};
    read.push_back(b->second);
  }
  bool whole = bytes == 8;
  for (unsigned k = 0; k < bytes; ++k) {
    whole = whole && read[k].whole == read[0].whole && read[k].index == k;
  }
  if (whole) return read[0].whole;
  Term v = t_.extract(number(read[0].whole), read[0].index * 8, 8);
  for (unsigned k = 1; k < bytes; ++k) {
    v = t_.concat(t_.extract(number(read[k].whole), read[k].index * 8, 8), v);
  }
  return number_of(v);
}

std::vector<Term> Executor::bytes_at(State& s, const Value& from, std::size_t count) {
  const auto [stored, at] = place(s, from, 0, count);
  std::vector<Term> out;
  for (std::size_t k = 0; k < count; ++k) {
    const Value byte = gather(*stored, at + static_cast<std::int64_t>(k), 1);
    out.push_back(t_.extract(number(byte), 0, 8));
  }
  return out;
}

void Executor::store(State& s, const Instruction& i) {
  if (i.mode() != ebpf::kModeMem) throw NotKnown{"not known"};
  const bool immediate = i.instruction_class() == ebpf::kSt;
  if (immediate ? i.src != 0 : i.imm != 0) throw NotKnown{"not an instruction"};
  const unsigned bytes = i.bytes();
  const Value what =
      immediate ? number_of(c64(static_cast<std::uint64_t>(std::int64_t{i.imm}))) : s.regs[i.src];
  const Value& to = s.regs[i.dst];
  if (to.kind == Value::Kind::Stack || to.kind == Value::Kind::Memory) {
    const auto [stored, at] = place(s, to, i.offset, bytes);
    if (what.kind == Value::Kind::Nothing) throw NotKnown{"a value that is not known"};
    if (what.pointer() && (bytes != 8 || to.kind == Value::Kind::Memory)) {
      throw NotKnown{"a part of a pointer"};
    }
    for (unsigned k = 0; k < bytes; ++k) (*stored)[at + k] = {what, k};
    return;
  }
  if (to.kind == Value::Kind::Context) {
    const std::uint64_t at = constant_offset(to, i.offset);
    const bool writable = at == kSkbMark || (at >= kSkbCb && at < kSkbCb + 20 && at % 4 == 0);
    if (!writable || bytes != 4) throw NotKnown{"a store to this field"};
    s.context[at] = t_.extract(number(what), 0, 32);
    return;
  }
  throw NotKnown{"a store there"};
}

Term Executor::condition(State& s, const Instruction& i) {
  const bool wide = i.instruction_class() == ebpf::kJmp;
  if (i.from_register() ? i.imm != 0 : i.src != 0) throw NotKnown{"not an instruction"};
  Value left = s.regs[i.dst];
  Value right = i.from_register() ? s.regs[i.src]
                                  : Value{Value::Kind::Number, 0,
                                          c64(static_cast<std::uint64_t>(std::int64_t{i.imm}))};
  Term a, b;
  const std::uint8_t operation = i.operation();
  if (left.pointer() || right.pointer()) {
    if (!wide) throw NotKnown{"half a pointer"};
    const auto in_packet = [](const Value& v) {
      return v.kind == Value::Kind::Packet || v.kind == Value::Kind::PacketEnd;
    };
    const auto null = [&](const Value& v) {
      return v.kind == Value::Kind::Number && t_.is_constant(v.term, 0);
    };
    if (left.pointer() && null(right) && (operation == ebpf::kJeq || operation == ebpf::kJne)) {
      const Term there = left.kind == Value::Kind::Memory ? left.there : t_.truth(true);
      return operation == ebpf::kJne ? there : t_.not_(there);
    }
    for (const Value* v : {&left, &right}) {
      if (v->kind == Value::Kind::Map || v->kind == Value::Kind::Memory) {
        throw NotKnown{"pointers that cannot be compared"};
      }
    }
    if (!(in_packet(left) && in_packet(right)) && !(left.pointer() && left.same_place(right))) {
      throw NotKnown{"pointers that cannot be compared"};
    }
    for (Value* v : {&left, &right}) {
      if (t_.max(v->term) >= kFar) throw NotKnown{"an offset without a bound"};
      if (v->kind == Value::Kind::Packet && options_.same_place && !t_.is_constant(v->term)) {
        const auto place = options_.same_place(s.path, kPacketArray, t_.extract(v->term, 0, 32));
        if (place) v->term = t_.zext(*place, 64);
      }
      if (v->kind == Value::Kind::PacketEnd) v->term = t_.add(v->term, s.length);
    }
    if (operation == ebpf::kJset || operation == ebpf::kJsgt || operation == ebpf::kJsge ||
        operation == ebpf::kJslt || operation == ebpf::kJsle) {
      throw NotKnown{"pointers that cannot be compared"};
    }
    a = left.term;
    b = right.term;
  } else {
    a = number(left);
    b = number(right);
    if (!wide) {
      a = t_.extract(a, 0, 32);
      b = t_.extract(b, 0, 32);
    }
  }
  switch (operation) {
    case ebpf::kJeq:
      return t_.eq(a, b);
    case ebpf::kJne:
      return t_.not_(t_.eq(a, b));
    case ebpf::kJgt:
      return t_.ult(b, a);
    case ebpf::kJge:
      return t_.not_(t_.ult(a, b));
    case ebpf::kJlt:
      return t_.ult(a, b);
    case ebpf::kJle:
      return t_.not_(t_.ult(b, a));
    case ebpf::kJset:
      return t_.not_(t_.eq(t_.and_(a, b), t_.constant(0, t_.width(a))));
    case ebpf::kJsgt:
      return t_.slt(b, a);
    case ebpf::kJsge:
      return t_.not_(t_.slt(a, b));
    case ebpf::kJslt:
      return t_.slt(a, b);
    case ebpf::kJsle:
      return t_.not_(t_.slt(b, a));
    default:
      throw NotKnown{"not an instruction"};
  }
}

void forget_packet(Value& v) {
  if (v.kind == Value::Kind::Packet || v.kind == Value::Kind::PacketEnd) v = {};
}

// Asks for the whole packet.
void Executor::pull(State& s) {
  const Term skb_len = t_.symbol(context_symbol(kSkbLen), 32);
  const Value &skb = s.regs[1], &wanted = s.regs[2];
  if (skb.kind != Value::Kind::Context || constant_offset(skb, 0) != 0 ||
      t_.extract(number(wanted), 0, 32) != skb_len) {
    throw NotKnown{"it does not ask for the whole packet"};
  }
  if (s.pulled) throw NotKnown{"a packet that was asked for before"};
  // Pointers to the packet are gone, whatever comes of it.
  for (Value& v : s.regs) forget_packet(v);
  for (Stack& stack : s.stacks) {
    for (auto& [offset, b] : stack) forget_packet(b.whole);
  }
  s.length = t_.zext(t_.symbol(kPulledLength, 16), 64);
  s.pulled = true;
}

// Behind the call of a function of the program.
State Executor::call(State s, const Instruction& i) {
  const std::size_t at = at_;
  const std::int64_t callee = static_cast<std::int64_t>(at) + 1 + i.imm;
  if (callee < 0 || callee >= static_cast<std::int64_t>(code_.size())) {
    throw NotKnown{"control leaves the program"};
  }
  const auto entry = static_cast<std::size_t>(callee);
  if (const auto summary = options_.summaries.find(entry); summary != options_.summaries.end()) {
    const auto given = summary->second(&s.regs[1]);
    if (!given) throw NotKnown{given.error()};
    s.regs[0] = number_of(read(s.path, given->array, given->index, 4, 0));
    for (unsigned r = 1; r <= 5; ++r) s.regs[r] = {};
    return s;
  }
  if (s.stacks.size() >= kMaxFrames) throw NotKnown{"too many calls in one another"};
  Value kept[5];
  for (unsigned r = 6; r <= 10; ++r) kept[r - 6] = s.regs[r];
  for (unsigned r = 6; r < 10; ++r) s.regs[r] = {};
  s.regs[0] = {};
  const bool pulled = s.pulled;
  s.stacks.emplace_back();
  s.regs[ebpf::kFramePointer] = {Value::Kind::Stack, s.stacks.size() - 1, c64(0)};
  Ends ends = follow(entry, std::move(s), std::nullopt);
  at_ = at;
  if (!ends.exit) throw NotKnown{"the program does not end"};
  State after = std::move(*ends.exit);
  after.stacks.pop_back();
  for (unsigned r = 1; r <= 5; ++r) after.regs[r] = {};
  for (unsigned r = 6; r <= 10; ++r) {
    after.regs[r] = kept[r - 6];
    if (after.pulled != pulled) forget_packet(after.regs[r]);
  }
  if (after.regs[0].kind == Value::Kind::Stack) throw NotKnown{"a place of a frame that is gone"};
  return after;
}

void Executor::helper(State& s, int which) {
  const unsigned before = s.calls[which]++;
  const std::string name = helper_symbol(which, before);
  const auto keyed = [&] {
    const Value& map = s.regs[1];
    const auto found =
        map.kind == Value::Kind::Map ? options_.keyed.find(map.which) : options_.keyed.end();
    if (found == options_.keyed.end()) throw NotKnown{"a map that is not known"};
    return found->second;
  };
  const auto zero = [&](const Value& v) {
    if (!t_.is_constant(number(v), 0)) throw NotKnown{"flags"};
  };
  Value result = number_of(t_.constant(0, 64));
  switch (which) {
    case kMapLookup: {
      const KeyedMap sizes = keyed();
      const std::size_t map = s.regs[1].which;
      if (s.updated.count(map) != 0) throw NotKnown{"a look-up after an update"};
      const std::vector<Term> key = bytes_at(s, s.regs[2], sizes.key_bytes);
      const auto entry =
          options_.look_up ? options_.look_up(s.path, map, key) : std::optional<std::size_t>{};
      if (!entry || *entry >= options_.entries.size() || options_.entries[*entry].map != map) {
        throw NotKnown{"a look-up that is not foreseen"};
      }
      result = {Value::Kind::Memory, *entry, c64(0), options_.entries[*entry].present};
      break;
    }
    case kMapUpdate: {
      const KeyedMap sizes = keyed();
      zero(s.regs[4]);
      MapUpdate update{conjunction(s.path), s.regs[1].which, {}, {}};
      update.key = bytes_at(s, s.regs[2], sizes.key_bytes);
      update.value = bytes_at(s, s.regs[3], sizes.value_bytes);
      out_.updates.push_back(std::move(update));
      s.updated.insert(s.regs[1].which);
      result = number_of(t_.symbol(name, 64));
      break;
    }
    case kClock:
      result = number_of(t_.symbol(name, 64));
      break;
    case kPullData:
      pull(s);
      result = number_of(t_.symbol(name, 64));
      break;
    default:
      throw NotKnown{"a helper that is not known"};
  }
  for (unsigned r = 1; r <= 5; ++r) s.regs[r] = {};
  s.regs[0] = result;
}

Executor::Ends Executor::follow(std::size_t from, State start, std::optional<std::size_t> cut) {
  std::map<std::size_t, std::vector<State>> waiting;
  std::vector<State> exits, cuts;
  waiting[from].push_back(std::move(start));
  const auto arrive = [&](std::size_t to, State s) {
    (to == cut ? cuts : waiting[to]).push_back(std::move(s));
  };
  for (const std::size_t at : order(from, cut, nullptr)) {
    const auto found = waiting.find(at);
    if (found == waiting.end()) continue;  // behind a condition that never holds
    const bool met = found->second.size() > 1;
    State s = join(std::move(found->second));
    waiting.erase(found);
    at_ = at;
    if (met) recognise_all(s);
    if (++out_.steps > options_.max_steps) throw NotKnown{"the program is too long"};
    const Instruction& i = code_[at];
    if (i.dst >= ebpf::kRegisters || i.src >= ebpf::kRegisters) throw NotKnown{"no register"};
    const std::uint8_t cls = i.instruction_class();
    if (cls == ebpf::kJmp || cls == ebpf::kJmp32) {
      const std::uint8_t operation = i.operation();
      if (reserved_is_set(i)) throw NotKnown{"not an instruction"};
      if (operation == ebpf::kExit) {
        exits.push_back(std::move(s));
        continue;
      }
      if (operation == ebpf::kCall) {
        if (i.opcode == (ebpf::kJmp | ebpf::kCall) && i.src == ebpf::kCallIsLocal) {
          s = call(std::move(s), i);
        } else if (i.opcode == (ebpf::kJmp | ebpf::kCall) && i.src == ebpf::kCallIsHelper &&
                   options_.helpers.count(i.imm) != 0) {
          helper(s, i.imm);
        } else {
          throw NotKnown{"a helper that is not known"};
        }
        arrive(at + 1, std::move(s));
        continue;
      }
      if (operation == ebpf::kJa) {
        arrive(next(at).front(), std::move(s));
        continue;
      }
      const Term holds = condition(s, i);
      const Term fails = t_.not_(holds);
      const std::vector<std::size_t> to = next(at);
      const auto never = [&](Term x) { return t_.is_constant(x, 0) || contradicts(s.path, x); };
      const auto along = [&](Term x, State along_state, std::size_t target) {
        if (!t_.is_constant(x) && std::find(along_state.path.begin(), along_state.path.end(), x) ==
                                      along_state.path.end()) {
          along_state.path.push_back(x);
        }
        arrive(target, std::move(along_state));
      };
      const bool both = !never(holds) && !never(fails);
      if (both) along(holds, s, to[1]);
      if (both || never(holds)) {
        along(fails, std::move(s), to[0]);
      } else {
        along(holds, std::move(s), to[1]);
      }
      continue;
    }
    if ((cls == ebpf::kAlu || cls == ebpf::kAlu64 || cls == ebpf::kLdx ||
         i.opcode == ebpf::kLdImm64) &&
        i.dst == ebpf::kFramePointer) {
      throw NotKnown{"the frame pointer is written"};
    }
    switch (cls) {
      case ebpf::kAlu:
      case ebpf::kAlu64:
        alu(s, i);
        break;
      case ebpf::kLd:
        if (at + 1 >= code_.size()) throw NotKnown{"not an instruction"};
        load_immediate(s, i, code_[at + 1]);
        break;
      case ebpf::kLdx:
        load(s, i);
        break;
      default:
        store(s, i);
        break;
    }
    arrive(next(at).front(), std::move(s));
  }
  Ends ends;
  if (!exits.empty()) ends.exit = join(std::move(exits));
  if (!cuts.empty()) ends.cut = join(std::move(cuts));
  return ends;
}

Execution Executor::run() {
  State start = function_start(t_);
  start.regs[1] = {Value::Kind::Context, 0, c64(0)};
  for (const MapEntry& entry : options_.entries) {
    std::int64_t at = 0;
    Stack& stored = start.memory[memory_.size()];
    for (const Term field : entry.fields) {
      const Value whole = number_of(field);
      for (unsigned k = 0; k < t_.width(field) / 8; ++k) stored[at++] = {whole, k};
    }
    memory_.push_back({entry.map, static_cast<std::size_t>(at)});
  }
  Ends ends;
  if (options_.gathered_at) {
    start.length = t_.zext(t_.symbol(kFirstLength, 16), 64);
    Ends first = follow(0, std::move(start), options_.gathered_at);
    if (first.exit || !first.cut) throw NotKnown{"a way past where the packet is gathered"};
    start = std::move(*first.cut);
    start.path.clear();
    start.length = t_.zext(t_.symbol(kPacketLength, 16), 64);
    ends = follow(*options_.gathered_at, std::move(start), std::nullopt);
  } else {
    ends = follow(0, std::move(start), std::nullopt);
  }
  if (!ends.exit) throw NotKnown{"the program does not end"};
  out_.result = t_.extract(number(ends.exit->regs[0]), 0, 32);
  out_.context = ends.exit->context;
  for (std::size_t k = 0; k < options_.entries.size(); ++k) {
    std::int64_t at = 0;
    std::vector<Term>& fields = out_.entries.emplace_back();
    for (const Term field : options_.entries[k].fields) {
      const unsigned bytes = t_.width(field) / 8;
      const Value whole = gather(ends.exit->memory.at(k), at, bytes);
      fields.push_back(t_.extract(number(whole), 0, t_.width(field)));
      at += bytes;
    }
  }
  return std::move(out_);
}

Stretch Executor::stretch(std::size_t from, State start, std::optional<std::size_t> cut) {
  Ends ends = follow(from, std::move(start), cut);
  return {std::move(ends.exit), std::move(ends.cut), std::move(out_.obligations)};
}

// What `run` gives for an executor of the program, or why nothing is known.
template <class Run>
auto executed(Terms& terms, const ebpf::Object& object, const ebpf::Program& program,
              const ExecutorOptions& options, Run run)
    -> Expected<decltype(run(std::declval<Executor&>()))> {
  if (program.code.empty()) return Error{"the program is empty"};
  Executor executor(terms, object, program, options);
  try {
    return run(executor);
  } catch (const NotKnown& e) {
    return Error{fmt::format("{} ({})", e.why, executor.here())};
  }
}

}  // namespace

std::string context_symbol(std::size_t offset) {
  return fmt::format("skb.{}", offset);
}

std::string helper_symbol(int helper, unsigned called_before) {
  return fmt::format("helper{}#{}", helper, called_before);
}

std::string volatile_symbol(std::size_t map, std::uint64_t offset, unsigned times_read_before) {
  return fmt::format("map{}.{}#{}", map, offset, times_read_before);
}

BpfState function_start(Terms& terms) {
  BpfState out;
  out.stacks.emplace_back();
  out.regs[ebpf::kFramePointer] = {BpfValue::Kind::Stack, 0, terms.constant(0, 64)};
  out.length = terms.zext(terms.symbol(kPacketLength, 16), 64);
  return out;
}

Expected<Execution> execute(Terms& terms, const ebpf::Object& object, const ebpf::Program& program,
                            const ExecutorOptions& options) {
  return executed(terms, object, program, options, [](Executor& e) { return e.run(); });
}

Expected<Stretch> execute_stretch(Terms& terms, const ebpf::Object& object,
                                  const ebpf::Program& program, const ExecutorOptions& options,
                                  std::size_t from, BpfState start,
                                  std::optional<std::size_t> cut) {
  return executed(terms, object, program, options,
                  [&](Executor& e) { return e.stretch(from, std::move(start), cut); });
}

Expected<std::vector<std::size_t>> loop_heads(const ebpf::Object& object,
                                              const ebpf::Program& program, std::size_t entry) {
  Terms terms;
  const ExecutorOptions options;
  return executed(terms, object, program, options, [&](Executor& e) { return e.heads(entry); });
}

}  // namespace policyc::verify
