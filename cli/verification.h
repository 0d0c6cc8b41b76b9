// What `compile` wrote, held against the policies: `verify`, and `compile` itself, ask for it.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "backend-bpf/artefact.h"
#include "ir/base/expected.h"
#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::cli {

enum class ProofAnswer { Proved, Refuted, NotProved };
std::string_view proof_word(ProofAnswer answer);  // "proved", "refuted", "not proved"

struct ProofLine {
  std::string what;  // "obj/policy-HASH.o policyc_ingress", "tables of shop/frontend"
  ProofAnswer answer = ProofAnswer::NotProved;
  std::string detail;
};

struct VerifyRequest {
  std::string directory;
  bool vlan = false;  // frames with VLAN tags are to be looked at
  // Only endpoints with these names; empty = all of the manifest.
  std::set<std::vector<std::string>> only;
  // Where programs that were proved are remembered; empty = nowhere. Only proofs are, under the
  // hash of the object's bytes, what was asked about them, and the version of policyc.
  std::string cache;
};

struct Verified {
  std::vector<ProofLine> lines;
  std::vector<std::vector<std::uint8_t>> witnesses;  // packets for which a program is wrong
  std::size_t count(ProofAnswer answer) const;
};

// Equal objects are proved once. Errors: what could not be read.
Expected<Verified> verify_directory(const VerifyRequest& request, const ir::World& world,
                                    const ir::Resolved& resolved, const bpf::Manifest& manifest);

// The user's folder for VerifyRequest::cache: in $XDG_CACHE_HOME, else in $HOME/.cache; empty where
// neither is set.
std::string proof_cache();

}  // namespace policyc::cli
