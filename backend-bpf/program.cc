#include "backend-bpf/program.h"

#include <fmt/format.h>

#include <algorithm>

namespace policyc::bpf {

namespace {

std::string size_definitions(const SizeClass& s) {
  return fmt::format(
      "#define TRIE4_BLOCKS {}\n#define HASH4_BITS {}\n#define HASH6_BITS {}\n"
      "#define HOSTS6 {}\n#define TRIE6_BLOCKS {}\n#define CLASSES {}\n"
      "#define IDENTITY_SHIFT {}\n#define PAGES {}\n#define CELLS {}\n#define RECORDS {}\n"
      "#define INTERVALS {}\n#define INTERVAL_STEPS {}\n",
      s.trie4_blocks, s.hash4_bits, s.hash6_bits, s.hosts6, s.trie6_blocks, s.classes,
      s.identity_shift, s.pages, s.cells, s.records, s.intervals, s.interval_steps);
}

}  // namespace

std::string program_text(const ProgramSpec& spec) {
  std::string out =
      "// Written by policyc; fits every policy with tables of at most these sizes.\n";
  out += size_definitions(spec.sizes);
  if (spec.stateful) out += "#define STATEFUL 1\n";
  if (spec.events) out += "#define EVENTS 1\n";
  if (spec.vlan) out += "#define VLAN 1\n";
  if (!spec.prelude.empty()) out += "#define PRELUDE 1\n";
  if (!spec.http.empty()) out += "#define HTTP 1\n";
  out += '\n';
  out += kTemplateTables;
  out += kTemplateCore;
  out += kTemplatePacket;
  if (spec.stateful) out += kTemplateState;
  if (spec.events) out += kTemplateEvents;
  if (!spec.prelude.empty()) {
    if (!spec.events) out += "INLINE void policyc_event(struct __sk_buff *skb, u32 note) {}\n\n";
    std::string file;
    for (const char c : spec.prelude_file.empty() ? "prelude.c" : spec.prelude_file) {
      if (c == '"' || c == '\\') file += '\\';
      file += c == '\n' ? ' ' : c;
    }
    out += fmt::format("// ---- the prelude\n\n#line 1 \"{}\"\n{}\n", file, spec.prelude);
    const auto lines = std::count(out.begin(), out.end(), '\n');
    out += fmt::format("#line {} \"policy.bpf.c\"\n", lines + 2);
  }
  if (!spec.http.empty()) out += "// ---- HTTP requests\n\n" + spec.http + '\n';
  out += kTemplateTc;
  return out;
}

std::string walker_text(const SizeClass& sizes, std::size_t tuples) {
  return size_definitions(sizes) + fmt::format("#define WALK_TUPLES {}\n\n", tuples) +
         kTemplateTables + kTemplateCore + kTemplateWalk;
}

}  // namespace policyc::bpf
