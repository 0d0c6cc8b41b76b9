#include "frontend/kustomization.h"

#include <algorithm>
#include <array>
#include <utility>

#include "frontend/discover.h"
#include "frontend/load.h"

namespace policyc::frontend {
namespace {

// Lists of a kustomization that name further objects, and those that name things which are none.
constexpr std::array<std::string_view, 4> kResourceLists = {"resources", "components", "bases",
                                                            "crds"};
constexpr std::array<std::string_view, 5> kPlainPatchLists = {
    "patchesStrategicMerge", "configurations", "transformers", "validators", "generators"};
constexpr std::array<std::string_view, 3> kPatchObjects = {"patches", "patchesJson6902",
                                                           "replacements"};

std::string resolve(const std::string& folder, std::string_view relative) {
  if (relative.starts_with('/')) return absolute_path(relative);
  return absolute_path(folder + "/" + std::string(relative));
}

bool is_remote(std::string_view resource) {
  return resource.find("://") != std::string_view::npos ||
         resource.find("?ref=") != std::string_view::npos || resource.starts_with("git@");
}

template <class F>
void each_text(const YamlNode* list, F&& f) {
  if (list == nullptr) return;
  for (const YamlRef& item : list->items) {
    if (item.node != nullptr && item.node->is_scalar() && !item.node->text.empty()) {
      f(item.node->text);
    }
  }
}

// Remembers the value on which all agree; "" once two differ.
void agree(std::map<std::string, std::string>& map, const std::string& key,
           const std::string& value) {
  auto [it, fresh] = map.emplace(key, value);
  if (!fresh && it->second != value) it->second.clear();
}

}  // namespace

KustomizationKind kustomization_kind(const YamlNode& document, std::string_view path) {
  if (!document.is_mapping()) return KustomizationKind::None;
  const std::string_view kind = document.get_text("kind");
  const std::string_view version = document.get_text("apiVersion");
  if (kind == "Kustomization" && version.starts_with("kustomize.toolkit.fluxcd.io/")) {
    return KustomizationKind::Flux;
  }
  if ((kind == "Kustomization" || kind == "Component") &&
      version.starts_with("kustomize.config.k8s.io/")) {
    return KustomizationKind::Kustomize;
  }
  const std::string_view name = base_name(path);
  const bool by_name =
      name == "kustomization.yaml" || name == "kustomization.yml" || name == "Kustomization";
  return by_name && (kind.empty() || kind == "Kustomization" || kind == "Component")
             ? KustomizationKind::Kustomize
             : KustomizationKind::None;
}

std::size_t DeploymentMap::unit_at(const std::string& folder) {
  auto [it, fresh] = by_folder_.emplace(folder, units_.size());
  if (fresh) {
    units_.emplace_back();
    units_.back().folder = folder;
  }
  return it->second;
}

void DeploymentMap::add_kustomization(const std::string& path, const YamlNode& document) {
  const std::string folder = parent_path(path);
  Unit& unit = units_[unit_at(folder)];
  unit.has_file = true;
  if (const YamlNode* ns = document.get("namespace"); ns != nullptr && !ns->placeholder) {
    unit.ns = std::string(ns->text);
  }
  for (std::string_view list : kResourceLists) {
    each_text(document.get(list), [&](std::string_view resource) {
      if (!is_remote(resource)) unit.listed.push_back(resolve(folder, resource));
    });
  }
  auto patch = [&](std::string_view file) {
    // Patches may stand in place instead of naming a file.
    if (file.find('\n') == std::string_view::npos) patches_.insert(resolve(folder, file));
  };
  for (std::string_view list : kPlainPatchLists) each_text(document.get(list), patch);
  for (std::string_view list : kPatchObjects) {
    const YamlNode* items = document.get(list);
    if (items == nullptr) continue;
    for (const YamlRef& item : items->items) {
      if (item.node == nullptr || !item.node->is_mapping()) continue;
      if (const auto file = item.node->get_text("path"); !file.empty()) patch(file);
    }
  }
  if (const YamlNode* charts = document.get("helmCharts"); charts != nullptr) {
    for (const YamlRef& item : charts->items) {
      if (item.node == nullptr || !item.node->is_mapping()) continue;
      if (const auto file = item.node->get_text("valuesFile"); !file.empty()) patch(file);
    }
  }
}

void DeploymentMap::add_flux(const std::string& path, const YamlNode& object) {
  const YamlNode* spec = object.get("spec");
  if (spec == nullptr || !spec->is_mapping()) return;
  const YamlNode* where = spec->get("path");
  if (where == nullptr || where->placeholder || !where->is_scalar()) return;
  const std::string normal = absolute_path("/" + std::string(where->text)).substr(1);
  if (normal.empty()) return;  // the whole repository: says nothing of a folder
  const YamlNode* ns = spec->get("targetNamespace");
  const bool known = ns != nullptr && ns->is_scalar() && !ns->placeholder;
  flux_.push_back({path, normal, known ? std::string(ns->text) : std::string()});
}

std::size_t DeploymentMap::unit_above(const std::string& path) const {
  for (std::string folder = parent_path(path);; folder = parent_path(folder)) {
    if (auto it = by_folder_.find(folder); it != by_folder_.end()) return it->second;
    if (folder == "/" || folder == ".") return kNone;
  }
}

void DeploymentMap::finish(const std::vector<std::string>& files) {
  // Folders that Flux Kustomizations name: those of the input whose path ends with spec.path.
  std::map<std::string, std::vector<std::string>> flux_folders;  // spec.path → folders
  for (const Flux& flux : flux_) flux_folders[flux.path];
  if (!flux_.empty()) {
    std::set<std::string> folders;
    for (const std::string& file : files) {
      for (std::string folder = parent_path(file); folder != "/" && folder != ".";
           folder = parent_path(folder)) {
        if (!folders.insert(folder).second) break;
      }
    }
    for (const std::string& folder : folders) {
      for (std::size_t slash = folder.find('/'); slash != std::string::npos;
           slash = folder.find('/', slash + 1)) {
        auto it = flux_folders.find(folder.substr(slash + 1));
        if (it != flux_folders.end()) it->second.push_back(folder);
      }
    }
  }
  for (const Flux& flux : flux_) {
    for (const std::string& folder : flux_folders[flux.path]) {
      unit_at(folder);
      if (!flux.ns.empty()) agree(flux_ns_, folder, flux.ns);
    }
  }

  // Edges: what a kustomization lists; kustomizations below a folder that Flux takes as a whole;
  // what a Flux Kustomization names.
  std::set<std::pair<std::size_t, std::size_t>> edges;
  for (std::size_t i = 0; i < units_.size(); ++i) {
    for (const std::string& path : units_[i].listed) {
      if (auto it = by_folder_.find(path); it != by_folder_.end()) {
        edges.emplace(i, it->second);
      } else {
        listed_by_[path].push_back(i);
      }
    }
    const std::size_t above = unit_above(units_[i].folder);
    if (above != kNone && above != i && !units_[above].has_file) edges.emplace(above, i);
  }
  std::vector<bool> from_outside(units_.size(), false);  // deployed by a file outside every unit
  for (const Flux& flux : flux_) {
    auto listed = listed_by_.find(flux.file);
    std::vector<std::size_t> owners;
    if (listed != listed_by_.end()) {
      owners = listed->second;
    } else if (const std::size_t above = unit_above(flux.file); above != kNone) {
      owners = {above};
    }
    for (const std::string& folder : flux_folders[flux.path]) {
      const std::size_t target = by_folder_.at(folder);
      if (owners.empty()) from_outside[target] = true;
      for (std::size_t owner : owners) edges.emplace(owner, target);
    }
  }
  for (const auto& [from, to] : edges) {
    if (from == to) continue;
    units_[from].children.push_back(to);
    units_[to].parents.push_back(from);
  }

  for (std::size_t i = 0; i < units_.size(); ++i) settle_namespace(i, 0);

  // Roots: first what files outside deploy (one set), then units that nobody lists, then, for
  // rings, whatever is still unreached. A unit reached from two roots is a set of its own.
  constexpr int kUnreached = 0, kOne = 1, kSeveral = 2;
  std::vector<int> state(units_.size(), kUnreached);
  auto spread = [&](const std::vector<std::size_t>& starts, const std::string& name) {
    std::set<std::size_t> seen(starts.begin(), starts.end());
    std::vector<std::size_t> work = starts;
    while (!work.empty()) {
      const std::size_t u = work.back();
      work.pop_back();
      // What two roots reach, a third need not visit: everything below has several already.
      if (state[u] == kSeveral) continue;
      if (state[u] == kOne) {
        state[u] = kSeveral;
        units_[u].set = units_[u].folder;
      } else {
        state[u] = kOne;
        units_[u].set = name;
      }
      for (std::size_t child : units_[u].children) {
        if (seen.insert(child).second) work.push_back(child);
      }
    }
  };
  std::vector<std::size_t> order;  // by folder, so that names do not depend on reading order
  for (const auto& [folder, unit] : by_folder_) order.push_back(unit);
  std::vector<std::size_t> outside;
  for (std::size_t u : order) {
    if (from_outside[u]) outside.push_back(u);
  }
  spread(outside, "");
  for (std::size_t u : order) {
    if (units_[u].parents.empty() && !from_outside[u]) spread({u}, units_[u].folder);
  }
  for (std::size_t u : order) {
    if (state[u] == kUnreached) spread({u}, units_[u].folder);
  }
}

// Its own namespace, else the one on which all units that list it agree. Rings and very long chains
// give none.
const std::string& DeploymentMap::settle_namespace(std::size_t unit, int depth) {
  Unit& u = units_[unit];
  if (u.settled || depth > 200) return u.inherited;
  u.settled = true;
  u.inherited = u.ns;
  if (!u.ns.empty()) return u.inherited;
  std::string agreed;
  for (std::size_t parent : u.parents) {
    const std::string ns = settle_namespace(parent, depth + 1);
    if (ns.empty() || (!agreed.empty() && agreed != ns)) return u.inherited;
    agreed = ns;
  }
  u.inherited = agreed;
  return u.inherited;
}

DeploymentMap::NamespaceAnswer DeploymentMap::namespace_for(const std::string& file) const {
  if (units_.empty()) return {};
  // Written in a kustomization above.
  std::vector<std::size_t> above;
  for (std::string folder = parent_path(file);; folder = parent_path(folder)) {
    if (auto it = by_folder_.find(folder); it != by_folder_.end()) {
      if (!units_[it->second].ns.empty()) return {units_[it->second].ns, false};
      above.push_back(it->second);
    }
    if (folder == "/" || folder == ".") break;
  }
  // Agreed on by those that list the file or its folder.
  std::vector<std::size_t> owners;
  if (auto it = listed_by_.find(file); it != listed_by_.end()) owners = it->second;
  if (owners.empty() && !above.empty()) owners = {above.front()};
  std::string agreed;
  for (std::size_t owner : owners) {
    const std::string& ns = units_[owner].inherited;
    if (ns.empty() || (!agreed.empty() && ns != agreed)) {
      agreed.clear();
      break;
    }
    agreed = ns;
  }
  if (!agreed.empty()) return {agreed, false};
  for (std::size_t unit : above) {
    auto it = flux_ns_.find(units_[unit].folder);
    if (it != flux_ns_.end()) return {it->second, true};
  }
  return {};
}

std::string DeploymentMap::set_for(const std::string& file) const {
  if (auto it = listed_by_.find(file); it != listed_by_.end()) {
    const std::vector<std::size_t>& owners = it->second;
    const bool same = std::all_of(owners.begin(), owners.end(), [&](std::size_t u) {
      return units_[u].set == units_[owners.front()].set;
    });
    if (same) return units_[owners.front()].set;
    return parent_path(file);
  }
  const std::size_t above = unit_above(file);
  // Outside of every kustomization nothing says what is deployed together: the folder is the unit.
  return above == kNone ? parent_path(file) : units_[above].set;
}

std::string DeploymentMap::root_for(const std::string& file) const {
  const auto it = listed_by_.find(file);
  if (it == listed_by_.end()) return "";
  const std::vector<std::size_t>& owners = it->second;
  const std::string& root = units_[owners.front()].set;
  const bool same = std::all_of(owners.begin(), owners.end(),
                                [&](std::size_t u) { return units_[u].set == root; });
  return same ? root : "";
}

std::vector<std::string> kustomization_roots(const Loaded& loaded) {
  const auto path_of = [&](FileId file) {
    const std::string& path = loaded.sources->path(file);
    return path.empty() || path == "-" ? std::string() : absolute_path(path);
  };
  DeploymentMap map;
  for (FileId file = 0; file < loaded.streams.size(); ++file) {
    for (const YamlDocument& document : loaded.streams[file]->documents()) {
      if (kustomization_kind(*document.root, loaded.sources->path(file)) ==
          KustomizationKind::Kustomize) {
        map.add_kustomization(path_of(file), *document.root);
      }
    }
  }
  map.finish({});
  std::vector<std::string> out;
  for (const LoadedPolicy& policy : loaded.policies) {
    const FileId file = policy.ast.file;
    out.push_back(file == kNoFile ? "" : map.root_for(path_of(file)));
  }
  return out;
}

}  // namespace policyc::frontend
