#include "ir/bpf/object.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

namespace policyc::ebpf {

namespace {

constexpr std::size_t kHeaderSize = 64, kSectionSize = 64, kSymbolSize = 24, kRelSize = 16;
constexpr std::uint32_t kProgBits = 1, kSymTab = 2, kNoBits = 8, kRel = 9;
constexpr std::uint64_t kFlagWrite = 1, kFlagAlloc = 2, kFlagExec = 4;
constexpr std::uint8_t kTypeObject = 1, kTypeFunction = 2;
constexpr std::uint32_t kRel64 = 1, kRel32 = 10;  // R_BPF_64_64, R_BPF_64_32
constexpr std::size_t kMaxCode = std::size_t{1} << 20U;

struct Section {
  std::string name;
  std::uint32_t type = 0, link = 0, info = 0;
  std::uint64_t flags = 0, size = 0;
  std::string_view bytes;  // empty for kNoBits
};

struct Symbol {
  std::string name;
  std::uint8_t type = 0;
  std::uint16_t section = 0;
  std::uint64_t value = 0, size = 0;
};

struct Relocation {
  std::uint32_t type = 0;
  std::uint32_t symbol = 0;
};

// Reads a number; the caller has checked the bounds.
template <class T>
T number(std::string_view bytes, std::size_t at) {
  T out;
  std::memcpy(&out, bytes.data() + at, sizeof(T));
  return out;
}

std::string text_at(std::string_view table, std::size_t at) {
  if (at >= table.size()) return {};
  const std::size_t end = table.find('\0', at);
  return std::string(table.substr(at, end == std::string_view::npos ? end : end - at));
}

class Reader {
 public:
  explicit Reader(std::string_view elf) : elf_(elf) {}

  Expected<Object> read();

 private:
  std::optional<std::string> read_sections();
  std::optional<std::string> read_symbols();
  std::optional<std::string> read_relocations();
  bool loader_rewrites() const;
  void read_maps();
  Expected<Program> link(const Symbol& entry);

  std::string_view elf_;
  std::vector<Section> sections_;
  std::vector<Symbol> symbols_;
  // Per section, by byte offset.
  std::map<std::size_t, std::map<std::uint64_t, Relocation>> relocations_;
  std::map<std::size_t, std::size_t> map_of_section_;
  std::map<std::uint64_t, std::size_t> declared_;  // .maps: by offset
  std::size_t maps_section_ = 0;
  Object object_;
};

std::optional<std::string> Reader::read_sections() {
  if (elf_.size() < kHeaderSize ||
      elf_.substr(0, 4) !=
          "\x7f"
          "ELF" ||
      elf_[4] != 2 || elf_[5] != 1 || number<std::uint16_t>(elf_, 18) != 247) {
    return "not an ELF file for little-endian BPF";
  }
  const auto table = number<std::uint64_t>(elf_, 40);
  const std::size_t count = number<std::uint16_t>(elf_, 60);
  const std::size_t names = number<std::uint16_t>(elf_, 62);
  if (number<std::uint16_t>(elf_, 58) != kSectionSize || table > elf_.size() ||
      (elf_.size() - table) / kSectionSize < count || names >= count) {
    return "the section table is cut off";
  }
  std::vector<std::uint32_t> name_at;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view row = elf_.substr(table + i * kSectionSize, kSectionSize);
    Section s;
    name_at.push_back(number<std::uint32_t>(row, 0));
    s.type = number<std::uint32_t>(row, 4);
    s.flags = number<std::uint64_t>(row, 8);
    const auto offset = number<std::uint64_t>(row, 24);
    s.size = number<std::uint64_t>(row, 32);
    s.link = number<std::uint32_t>(row, 40);
    s.info = number<std::uint32_t>(row, 44);
    if (s.type != kNoBits && s.type != 0) {
      if (offset > elf_.size() || elf_.size() - offset < s.size) return "a section is cut off";
      s.bytes = elf_.substr(offset, s.size);
    }
    sections_.push_back(std::move(s));
  }
  for (std::size_t i = 0; i < count; ++i) {
    sections_[i].name = text_at(sections_[names].bytes, name_at[i]);
  }
  return std::nullopt;
}

std::optional<std::string> Reader::read_symbols() {
  for (const Section& s : sections_) {
    if (s.type != kSymTab) continue;
    if (s.link >= sections_.size() || s.bytes.size() % kSymbolSize != 0 || !symbols_.empty()) {
      return "the symbol table is damaged";
    }
    for (std::size_t at = 0; at < s.bytes.size(); at += kSymbolSize) {
      const std::string_view row = s.bytes.substr(at, kSymbolSize);
      Symbol out;
      out.name = text_at(sections_[s.link].bytes, number<std::uint32_t>(row, 0));
      out.type = number<std::uint8_t>(row, 4) & 0x0fU;
      out.section = number<std::uint16_t>(row, 6);
      out.value = number<std::uint64_t>(row, 8);
      out.size = number<std::uint64_t>(row, 16);
      symbols_.push_back(std::move(out));
    }
  }
  return std::nullopt;
}

std::optional<std::string> Reader::read_relocations() {
  for (const Section& s : sections_) {
    if (s.type != kRel || s.info >= sections_.size()) continue;
    if ((sections_[s.info].flags & kFlagExec) == 0) continue;  // debug information, BTF
    for (std::size_t at = 0; at + kRelSize <= s.bytes.size(); at += kRelSize) {
      const std::string_view row = s.bytes.substr(at, kRelSize);
      const auto info = number<std::uint64_t>(row, 8);
      const Relocation r{static_cast<std::uint32_t>(info), static_cast<std::uint32_t>(info >> 32U)};
      if (r.symbol >= symbols_.size()) return "a relocation names no symbol";
      relocations_[s.info][number<std::uint64_t>(row, 0)] = r;
    }
  }
  return std::nullopt;
}

// Whether .BTF.ext (struct btf_ext_header of libbpf) asks the loader to change instructions after
// the types of the running kernel ("CO-RE").
bool Reader::loader_rewrites() const {
  constexpr std::size_t kHeaderLength = 4, kCoreReloLength = 28;
  return std::any_of(sections_.begin(), sections_.end(), [](const Section& s) {
    return s.name == ".BTF.ext" && s.bytes.size() >= kCoreReloLength + 4 &&
           number<std::uint32_t>(s.bytes, kHeaderLength) >= kCoreReloLength + 4 &&
           number<std::uint32_t>(s.bytes, kCoreReloLength) != 0;
  });
}

void Reader::read_maps() {
  for (std::size_t i = 0; i < sections_.size(); ++i) {
    const Section& s = sections_[i];
    if (s.name == ".maps") {
      maps_section_ = i;
      for (const Symbol& symbol : symbols_) {
        if (symbol.section != i || symbol.name.empty()) continue;
        declared_[symbol.value] = object_.maps.size();
        object_.maps.push_back({symbol.name, false, false, 0, {}});
      }
      continue;
    }
    const bool named = s.name == ".bss" || s.name == ".data" || s.name == ".rodata" ||
                       s.name.starts_with(".bss.") || s.name.starts_with(".data.") ||
                       s.name.starts_with(".rodata.");
    if (!named || (s.flags & kFlagAlloc) == 0) continue;
    map_of_section_[i] = object_.maps.size();
    object_.maps.push_back(
        {s.name, true, (s.flags & kFlagWrite) == 0, s.size, std::string(s.bytes)});
  }
  for (const Symbol& symbol : symbols_) {
    const auto map = map_of_section_.find(symbol.section);
    if (symbol.type != kTypeObject || map == map_of_section_.end()) continue;
    object_.variables.push_back({symbol.name, map->second, symbol.value, symbol.size});
  }
}

Expected<Program> Reader::link(const Symbol& entry) {
  Program out;
  out.name = entry.name;
  out.section = sections_[entry.section].name;
  // Functions by (section, offset) → where they are in the code.
  using Place = std::pair<std::size_t, std::uint64_t>;
  std::map<Place, std::size_t> begin;
  std::vector<Place> wanted = {{entry.section, entry.value}};
  std::vector<std::pair<std::size_t, Place>> calls;
  const auto function_at = [&](const Place& place) -> const Symbol* {
    for (const Symbol& s : symbols_) {
      if (s.type == kTypeFunction && s.section == place.first && s.value == place.second) return &s;
    }
    return nullptr;
  };
  for (std::size_t w = 0; w < wanted.size(); ++w) {
    const Place place = wanted[w];
    if (begin.count(place) != 0) continue;
    const Symbol* function = function_at(place);
    if (function == nullptr) return Error{"a call leads to no function"};
    const std::string_view bytes = sections_[place.first].bytes;
    if (function->value % kInstructionBytes != 0 || function->value > bytes.size() ||
        bytes.size() - function->value < function->size || function->size == 0) {
      return Error{fmt::format("function {} is cut off", function->name)};
    }
    auto code = decode(bytes.substr(function->value, function->size));
    if (!code) return Error{code.error()};
    const std::size_t at = out.code.size();
    begin[place] = at;
    out.functions.push_back(at);
    const std::vector<bool> second = second_slots(*code);
    for (std::size_t i = 0; i < code->size(); ++i) {
      Instruction& insn = (*code)[i];
      if (second[i]) continue;
      const std::uint64_t offset = function->value + i * kInstructionBytes;
      const auto& in_section = relocations_[place.first];
      const auto r = in_section.find(offset);
      const Symbol* symbol = r == in_section.end() ? nullptr : &symbols_[r->second.symbol];
      if (insn.opcode == (kJmp | kCall) && insn.src == kCallIsLocal) {
        const std::uint64_t base = symbol != nullptr ? symbol->value : offset;
        if (symbol != nullptr && r->second.type != kRel32) return Error{"an unknown relocation"};
        const Place callee = {
            symbol != nullptr ? symbol->section : place.first,
            base + static_cast<std::uint64_t>(std::int64_t{insn.imm} + 1) * kInstructionBytes};
        if (callee.first >= sections_.size()) return Error{"a call leads to no function"};
        calls.emplace_back(at + i, callee);
        wanted.push_back(callee);
        continue;
      }
      if (symbol == nullptr) {
        // To the kernel a map is the number of a file then.
        if (insn.opcode == kLdImm64 && insn.src != 0) return Error{"a map without a relocation"};
        continue;
      }
      if (insn.opcode != kLdImm64 || i + 1 >= code->size() || r->second.type != kRel64) {
        return Error{fmt::format("an unknown relocation against {}", symbol->name)};
      }
      if (maps_section_ != 0 && symbol->section == maps_section_) {
        const auto map = declared_.find(symbol->value);
        if (map == declared_.end()) return Error{"a relocation names no map"};
        insn.src = kImmIsMap;
        insn.imm = static_cast<std::int32_t>(map->second);
        continue;
      }
      const auto map = map_of_section_.find(symbol->section);
      if (map == map_of_section_.end()) {
        return Error{fmt::format("an unknown relocation against {}", symbol->name)};
      }
      Instruction& high = (*code)[i + 1];
      high.imm = static_cast<std::int32_t>(static_cast<std::uint32_t>(insn.imm) +
                                           static_cast<std::uint32_t>(symbol->value));
      insn.src = kImmIsMapValue;
      insn.imm = static_cast<std::int32_t>(map->second);
    }
    out.code.insert(out.code.end(), code->begin(), code->end());
    if (out.code.size() > kMaxCode) return Error{"the program is too long"};
  }
  for (const auto& [at, callee] : calls) {
    out.code[at].imm = static_cast<std::int32_t>(static_cast<std::int64_t>(begin[callee]) -
                                                 static_cast<std::int64_t>(at) - 1);
  }
  return out;
}

Expected<Object> Reader::read() {
  if (auto wrong = read_sections()) return Error{*wrong};
  if (auto wrong = read_symbols()) return Error{*wrong};
  if (auto wrong = read_relocations()) return Error{*wrong};
  if (loader_rewrites()) return Error{"instructions that depend on the kernel's types (CO-RE)"};
  read_maps();
  for (const Symbol& s : symbols_) {
    if (s.type != kTypeFunction || s.section == 0 || s.section >= sections_.size()) continue;
    const Section& section = sections_[s.section];
    // Functions in .text are called, not entered.
    if (section.type != kProgBits || (section.flags & kFlagExec) == 0 || section.name == ".text") {
      continue;
    }
    auto program = link(s);
    if (!program) return Error{program.error()};
    object_.programs.push_back(std::move(*program));
  }
  return std::move(object_);
}

}  // namespace

const Program* Object::program(std::string_view name) const {
  const auto it = std::find_if(programs.begin(), programs.end(),
                               [&](const Program& p) { return p.name == name; });
  return it == programs.end() ? nullptr : &*it;
}

const Map* Object::map(std::string_view name) const {
  const auto it =
      std::find_if(maps.begin(), maps.end(), [&](const Map& m) { return m.name == name; });
  return it == maps.end() ? nullptr : &*it;
}

const Variable* Object::variable(std::string_view name) const {
  const auto it = std::find_if(variables.begin(), variables.end(),
                               [&](const Variable& v) { return v.name == name; });
  return it == variables.end() ? nullptr : &*it;
}

Expected<Object> read_object(std::string_view elf) {
  return Reader(elf).read();
}

}  // namespace policyc::ebpf
