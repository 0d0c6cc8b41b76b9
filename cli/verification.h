// What `compile` wrote, held against the policies: `verify`, and `compile` itself, ask for it.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend-bpf/artefact.h"
#include "backend-bpf/image.h"
#include "cli/proof_log.h"
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
  // Whether an endpoint with a policy that the manifest does not name is a line of its own.
  bool complete = false;
  // Proofs that take more than a second or two are left out, and that is said.
  bool quick = false;
  // Programs with connection tracking: IPv6 packets with more than one extension header, too.
  bool thorough = false;
  // Where programs that were proved are remembered; empty = nowhere. Only proofs are, under the
  // hash of the object's bytes, what was asked about them, and the version of policyc.
  std::string cache;
  // Where the questions to the solver are written; nullptr = nowhere. Nothing is remembered then.
  ProofFolder* proofs = nullptr;
};

struct Verified {
  std::vector<ProofLine> lines;
  std::vector<std::vector<std::uint8_t>> witnesses;  // packets for which a program is wrong
  std::size_t count(ProofAnswer answer) const;
};

// What the endpoints of a node share.
struct NodeTables {
  bool readable = false;  // both images
  bpf::IdentityImage identities;
  bpf::ClassImage classes;
  std::string value;  // of the map; empty until it is first needed
};
// From the bytes of the two image files.
NodeTables read_node_tables(std::string_view identities, std::string_view classes);
struct TablesProof : ProofLine {
  // The HTTP filters of a program that redirects name, and what the proxy would enforce there; each
  // pair once. They are to be checked apart. Empty unless proved.
  std::vector<std::pair<std::uint16_t, const ir::ProxyFilter*>> filters{};
};
// Whether node and policy image (its bytes, and its slot in the classes) say what the policies of
// the endpoint say, which must have tables. Answer and detail of the line.
TablesProof check_tables(NodeTables& node, std::string_view policy, std::size_t slot,
                         const bpf::SizeClass& sizes, const ir::NodeView& view,
                         const ir::ResolvedEndpoint& endpoint);

// Equal objects are proved once. Errors: what could not be read.
Expected<Verified> verify_directory(const VerifyRequest& request, const ir::World& world,
                                    const ir::Resolved& resolved, const bpf::Manifest& manifest);

// The user's folder for VerifyRequest::cache: in $XDG_CACHE_HOME, else in $HOME/.cache; empty where
// neither is set.
std::string proof_cache();

}  // namespace policyc::cli
