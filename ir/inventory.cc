#include "ir/inventory.h"

#include <algorithm>

namespace policyc::ir {

std::string Pod::full_name() const {
  return kind == "Pod" ? ns + "/" + name : ns + "/" + kind + "/" + name;
}

const Profile& Settings::release() const {
  const Profile* found = find_profile(profile);
  return found != nullptr ? *found : *find_profile("cilium-1.18");
}

const Namespace* Inventory::find_namespace(const std::string& name) const {
  auto it = std::find_if(namespaces.begin(), namespaces.end(),
                         [&](const Namespace& n) { return n.name == name; });
  return it == namespaces.end() ? nullptr : &*it;
}

std::optional<std::size_t> Inventory::find_pod(const std::string& full_name) const {
  for (std::size_t i = 0; i < pods.size(); ++i) {
    const Pod& pod = pods[i];
    if (pod.ns + "/" + pod.name == full_name || pod.full_name() == full_name) return i;
  }
  return std::nullopt;
}

}  // namespace policyc::ir
