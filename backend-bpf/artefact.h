// The output of `policyc compile`: manifest.json, src/*.c, obj/*.o, maps/*.img.
// Files are named by the hash of what they hold, so an unchanged endpoint is neither compiled nor
// written again.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "backend-bpf/layout.h"
#include "backend-bpf/output_directory.h"
#include "ir/base/expected.h"
#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::bpf {

struct InputFile {
  std::string path;
  std::string sha256;
};

struct CompileOptions {
  std::string directory;
  std::string tool;  // "policyc 0.1.0"
  std::vector<InputFile> inputs;
  bool emit_c = true, emit_objects = true, emit_maps = true;
  // (view, endpoint) indices of the endpoints wanted; empty = all. What an earlier compile left for
  // the others stays.
  std::vector<std::pair<std::size_t, std::size_t>> only;
  bool http = false;      // the programs decide HTTP request heads themselves where they can
  bool vlan = false;      // the programs look behind VLAN tags instead of dropping tagged frames
  bool stateful = false;  // the programs track connections
  bool events = false;    // the programs tell of their verdicts
  // C text in front of the verdict (ProgramSpec::prelude), and the name of its file for messages.
  std::string prelude, prelude_file;
  // More files of the output: path inside the directory, text.
  std::map<std::string, std::string> more;
};

// An endpoint without a program.
enum class Refusal {
  Error,     // its policy cannot be computed
  Depends,   // the answer hangs on something unknown
  TooLarge,  // beyond the limits of the tables
  MapFull,   // Cilium's policy map would not hold what the agent installs
  NoLayout,  // Cilium's maps cannot express it
};
struct RefusedEndpoint {
  std::string name;  // "default/frontend", or the node
  Refusal refusal = Refusal::Error;
  std::string why;
};

struct CompileReport {
  enum class Status {
    Done,
    NoCompiler,  // the clang module is missing: exit code 3
    CannotWrite,
    PreludeRejected,  // the prelude does not compile; the message has the compiler's words
    Failed            // a bug in policyc: what was emitted does not compile
  } status = Status::Done;
  std::string message;        // for all but Done
  std::size_t endpoints = 0;  // with a program
  std::size_t programs = 0;   // distinct programs
  std::size_t compiled = 0;   // of them, not found in the directory
  std::size_t images = 0;     // distinct images
  std::size_t written = 0;    // files written; all others were there already
  std::vector<RefusedEndpoint> refused;
  // With CompileOptions::http: endpoints some of whose HTTP rules stay with the proxy, and why.
  std::vector<std::pair<std::string, std::string>> left_to_proxy;
};

// Names of an endpoint's pods ("ns/name", "ns/Kind/name"), or the node's for the host.
std::vector<std::string> endpoint_names(const ir::World& world, const ir::NodeView& view,
                                        const ir::ResolvedEndpoint& endpoint);

// Each file is complete or absent, the manifest comes last, and files of an earlier compile that
// are not wanted any more go after it.
CompileReport compile(const ir::World& world, const ir::Resolved& resolved,
                      const CompileOptions& options);

// What a manifest says, as far as running the programs needs it.
struct ManifestEndpoint {
  std::string view;
  std::vector<std::string> names;
  bool host = false;
  std::string object, image, identities, classes;  // paths inside the directory
  std::size_t slot = 0;                            // of the policy in `classes`
  SizeClass sizes;
};
struct Manifest {
  bool stateful = false;
  bool prelude = false;  // a filter of the user's own stands in front of the verdict
  bool vlan = false;
  bool events = false;  // programs have a ring buffer of events
  bool http = false;    // programs decide request heads, and there is no proxy
  std::vector<ManifestEndpoint> endpoints;
  std::map<std::string, std::string> sha256;  // per path
  std::vector<InputFile> inputs;              // what it was compiled from
};

// Any text is safe to read; paths that lead out of the directory are refused.
Expected<Manifest> read_manifest(const std::string& directory);
}  // namespace policyc::bpf
