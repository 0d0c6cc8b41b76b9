#include "verifier/scene_text.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace policyc {
namespace {

using nlohmann::ordered_json;

ordered_json party_json(const Universe::Scene& scene, const ir::Party& party) {
  if (const auto* pod = std::get_if<ir::PodParty>(&party)) {
    const ir::Pod& p = scene.inventory.pods[pod->pod];
    return {{"labels", p.labels}, {"namespace", p.ns}};
  }
  if (const auto* address = std::get_if<ir::AddressParty>(&party)) {
    return {{"ip", address->ip.str()}};
  }
  return {{"entity", std::get<ir::EntityParty>(party).entity}};
}

std::string party_text(const Universe::Scene& scene, const ir::Party& party) {
  if (const auto* pod = std::get_if<ir::PodParty>(&party)) {
    const ir::Pod& p = scene.inventory.pods[pod->pod];
    std::string labels;
    for (const auto& [key, value] : p.labels) {
      labels += fmt::format("{}{}={}", labels.empty() ? " with " : ",", key, value);
    }
    return fmt::format("a pod{} in namespace {}", labels, p.ns);
  }
  if (const auto* address = std::get_if<ir::AddressParty>(&party)) return address->ip.str();
  return std::get<ir::EntityParty>(party).entity;
}

}  // namespace

std::string scene_text(const Universe::Scene& scene) {
  return fmt::format("from {} to {}, {}/{}", party_text(scene, scene.flow.from),
                     party_text(scene, scene.flow.to), ir::protocol_name(scene.flow.protocol),
                     scene.flow.port);
}

std::string scene_json(const Universe::Scene& scene) {
  ordered_json out;
  out["from"] = party_json(scene, scene.flow.from);
  out["to"] = party_json(scene, scene.flow.to);
  out["proto"] = ir::protocol_name(scene.flow.protocol);
  out["port"] = scene.flow.port;
  return out.dump();
}

}  // namespace policyc
