// From PATHs to a world: finds the files, reads them in parallel, sorts objects into policies and
// inventory, settles namespaces and deployment sets.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "frontend/ast.h"
#include "frontend/yaml_document.h"
#include "ir/base/diagnostic.h"
#include "ir/base/source.h"
#include "ir/inventory.h"

namespace policyc::frontend {

struct LoadOptions {
  std::vector<std::string> paths;    // files, directories, "-" for standard input
  std::string world;                 // --world DIR, instead of paths
  std::vector<std::string> exclude;  // globs, beside .policycignore
  std::string default_namespace;     // -n; empty = not given
  enum class Sets { Auto, All, Dir } sets = Sets::Auto;
  enum class InventoryMode { Auto, Complete, Partial } inventory = InventoryMode::Auto;
  // What an API server makes of fields that the schema does not have: it refuses the object, or
  // drops them and takes the rest. Refuse is also what happens where nobody said.
  enum class UnknownFields { Refuse, Prune } unknown_fields = UnknownFields::Refuse;
  std::string fqdn_file;         // --fqdn
  std::string allocations_file;  // --allocations
  unsigned jobs = 0;             // 0 = number of cores
  std::string stdin_text;        // content for "-", read by the caller
  // Files under the first are named by the second in its place: "HEAD:" for a folder of copies.
  std::string hidden_prefix, shown_prefix;
  // Applied after every file that holds settings: what the user said by flags.
  std::function<void(ir::Settings&)> pin_settings;
};

// Where the time went.
struct Timing {
  std::string phase;
  double seconds = 0;
};

struct SkippedObject {
  std::string place;  // "path:line:col"
  std::string reason;
};

// Where the namespace of an object came from.
enum class NamespaceSource { Written, Flag, Kustomization, Flux, Defaulted };

struct LoadedPolicy {
  PolicyAst ast;
  std::string ns;  // settled; empty for cluster-wide kinds
  NamespaceSource ns_source = NamespaceSource::Written;
  std::string set;  // deployment set: directory of its kustomization root, "" where all is one
  std::vector<std::size_t> alternatives;  // other policies of the same kind/namespace/name
};

struct Loaded {
  std::unique_ptr<SourceMap> sources = std::make_unique<SourceMap>();
  std::vector<LoadedPolicy> policies;  // in path order, then document order
  ir::Inventory inventory;
  std::optional<ir::Settings> settings;  // from cilium-config or a world's config.json, else absent
  std::vector<SkippedObject> skipped;
  std::vector<std::unique_ptr<YamlStream>> streams;  // keeps the trees alive
  std::size_t files = 0, documents = 0;
  std::size_t unreadable_files = 0;  // did not parse, or could not be opened
  std::size_t unopened = 0;          // of these: PATHs and files that could not be opened at all
  std::size_t bad_settings = 0;      // files with settings that could not be used
  std::size_t defaulted_namespaces = 0;
  std::vector<Timing> timings;
  std::deque<YamlNode> made_nodes;  // items of typed lists, completed with kind and apiVersion
};

// `base` holds the settings so far (defaults, .policyc.yaml); cilium-config and config.json
// override only what they name, and options.pin_settings overrides those. `settings` of the result
// is set when a file of the input said something, and always for a world (which implies
// assume_admitted). Never fails as a whole: what cannot be read is a diagnostic.
Loaded load(const LoadOptions& options, const ir::Settings& base, DiagnosticSink& sink);

}  // namespace policyc::frontend
