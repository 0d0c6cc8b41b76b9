// The verifier's view of the back end's table sizes.
#pragma once

#include "backend-bpf/layout.h"
#include "verifier/datapath_meaning.h"

namespace policyc::testing {

inline verify::DatapathShape datapath_shape(const bpf::SizeClass& s) {
  verify::DatapathShape out;
  out.trie4_blocks = s.trie4_blocks;
  out.hash4_bits = s.hash4_bits;
  out.hash6_bits = s.hash6_bits;
  out.hosts6 = s.hosts6;
  out.trie6_blocks = s.trie6_blocks;
  out.classes = s.classes;
  out.identity_shift = s.identity_shift;
  out.pages = s.pages;
  out.cells = s.cells;
  out.records = s.records;
  out.intervals = s.intervals;
  out.interval_steps = s.interval_steps;
  return out;
}

}  // namespace policyc::testing
