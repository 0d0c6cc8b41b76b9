#include "backend-bpf/cilium_layout.h"

#include <algorithm>

namespace policyc::bpf {

const std::vector<CiliumLayout>& cilium_layouts() {
  static const std::vector<CiliumLayout> kLayouts = {
      {"1.17", 24, 8, false, 12, "cilium_ipcache"},
      {"1.18", 8, 8, false, 24, "cilium_ipcache_v2"},
      {"1.19", 12, 8, true, 24, "cilium_ipcache_v2"},
  };
  return kLayouts;
}

const CiliumLayout* find_cilium_layout(std::string_view release) {
  constexpr std::string_view kPrefix = "cilium-";
  if (release.substr(0, kPrefix.size()) == kPrefix) release.remove_prefix(kPrefix.size());
  if (release == "1.20") release = "1.19";  // the same maps
  const auto& all = cilium_layouts();
  const auto it = std::find_if(all.begin(), all.end(),
                               [&](const CiliumLayout& l) { return l.name == release; });
  return it == all.end() ? nullptr : &*it;
}

}  // namespace policyc::bpf
