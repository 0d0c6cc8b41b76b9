#include "cli/allocations.h"

#include <nlohmann/json.hpp>

#include "ir/identity.h"

namespace policyc::cli {

std::string allocations_json(const ir::World& world, const ir::Resolved& resolved) {
  using nlohmann::ordered_json;
  ordered_json addresses = ordered_json::object();
  for (const ir::Pod& pod : world.inventory.pods) {
    if (!pod.synthetic_ip) continue;
    ordered_json& list = addresses[pod.full_name()];
    for (const ir::IpAddress& ip : pod.ips) list.push_back(ip.str());
  }
  ordered_json identities = ordered_json::array();
  for (const ir::Identity& identity : resolved.identities) {
    if (!identity.labels.has("k8s", ir::kNamespaceKey)) continue;
    ordered_json labels = ordered_json::array();
    for (const ir::Label& l : identity.labels.labels()) labels.push_back(l.str());
    identities.push_back({{"id", identity.number}, {"labels", std::move(labels)}});
  }
  const ordered_json out = {
      {"version", 1}, {"addresses", std::move(addresses)}, {"identities", std::move(identities)}};
  return out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace policyc::cli
