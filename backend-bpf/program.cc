#include "backend-bpf/program.h"

#include <fmt/format.h>

namespace policyc::bpf {

std::string program_text(const ProgramSpec& spec) {
  const SizeClass& sizes = spec.sizes;
  std::string out = fmt::format(
      "// Written by policyc; fits every policy with tables of at most these sizes.\n"
      "#define TRIE4_BLOCKS {}\n#define TRIE6_BLOCKS {}\n#define IDENTITIES {}\n"
      "#define PAGES {}\n#define CELLS {}\n#define RECORDS {}\n",
      sizes.trie4_blocks, sizes.trie6_blocks, sizes.identities, sizes.pages, sizes.cells,
      sizes.records);
  if (!spec.prelude.empty()) out += "#define PRELUDE 1\n";
  out += '\n';
  out += kTemplateTables;
  out += kTemplateCore;
  out += kTemplatePacket;
  if (!spec.prelude.empty()) out += "// ---- the prelude\n\n" + spec.prelude + '\n';
  out += kTemplateTc;
  return out;
}

}  // namespace policyc::bpf
