#include "backend-bpf/program.h"

#include <fmt/format.h>

namespace policyc::bpf {

std::string program_text(const SizeClass& sizes) {
  return fmt::format(
             "// Written by policyc; fits every policy with tables of at most these sizes.\n"
             "#define TRIE4_BLOCKS {}\n#define TRIE6_BLOCKS {}\n#define IDENTITIES {}\n"
             "#define PAGES {}\n#define CELLS {}\n#define RECORDS {}\n\n",
             sizes.trie4_blocks, sizes.trie6_blocks, sizes.identities, sizes.pages, sizes.cells,
             sizes.records) +
         kProgramTemplate;
}

}  // namespace policyc::bpf
