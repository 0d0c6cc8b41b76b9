// What kustomizations and Flux Kustomizations say of other files: namespaces, and which files are
// deployed together.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "frontend/yaml_document.h"

namespace policyc::frontend {

enum class KustomizationKind { None, Kustomize, Flux };

// Told by apiVersion and kind, and for kustomize also by the file's name, since both are optional
// there.
KustomizationKind kustomization_kind(const YamlNode& document, std::string_view path);

// Collects kustomizations, then answers for each file. Paths are absolute (see absolute_path).
class DeploymentMap {
 public:
  void add_kustomization(const std::string& path, const YamlNode& document);
  void add_flux(const std::string& path, const YamlNode& object);
  // Call once, with every file of the input.
  void finish(const std::vector<std::string>& files);

  struct NamespaceAnswer {
    std::string ns;  // empty: nothing is known
    bool flux = false;
  };
  // The nearest kustomization's namespace upward; else the one on which all kustomizations that
  // list the file (or its folder) agree; else that of a Flux Kustomization whose path names a
  // folder above.
  NamespaceAnswer namespace_for(const std::string& file) const;

  // The folder of the kustomization root that deploys the file. A file outside every kustomization,
  // or deployed by several roots, is a set with those that share its folder. "" for what Flux
  // Kustomizations outside every kustomization deploy: these belong together.
  std::string set_for(const std::string& file) const;

  // The folder of the kustomization root that lists the file, by itself or by way of listed
  // folders. Empty where no kustomization names the file: one that merely stands above says
  // nothing. A folder that several roots list is deployed as a whole all the same.
  std::string root_for(const std::string& file) const;

  // Named as a patch, a values file or the like: no object of its own.
  bool is_patch(const std::string& file) const { return patches_.contains(file); }
  bool empty() const { return units_.empty(); }

 private:
  // A folder that is deployed as a whole.
  struct Unit {
    std::string folder;
    std::string ns;
    bool has_file = false;            // a kustomization lists what belongs to it
    std::vector<std::string> listed;  // absolute paths of files and folders
    std::vector<std::size_t> children;
    std::vector<std::size_t> parents;
    std::string set;
    std::string inherited;  // own namespace or that of the units above in the lists
    bool settled = false;
  };
  struct Flux {
    std::string file;
    std::string path;  // relative to a root we do not know
    std::string ns;
  };

  std::size_t unit_at(const std::string& folder);
  // The unit that a file belongs to by its place; npos where there is none.
  std::size_t unit_above(const std::string& path) const;
  const std::string& settle_namespace(std::size_t unit, int depth);

  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::vector<Unit> units_;
  std::map<std::string, std::size_t> by_folder_;
  std::vector<Flux> flux_;
  std::map<std::string, std::string> flux_ns_;  // folder → targetNamespace; "" where they disagree
  std::map<std::string, std::vector<std::size_t>> listed_by_;  // file → units whose lists name it
  std::set<std::string> patches_;
};

struct Loaded;
// By policy: root_for its file.
std::vector<std::string> kustomization_roots(const Loaded& loaded);

}  // namespace policyc::frontend
