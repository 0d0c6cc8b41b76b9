// A world from YAML text, through the real front end.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "frontend/load.h"
#include "frontend/lower.h"
#include "ir/evaluate.h"

namespace policyc::testing {

struct TextWorld {
  frontend::Loaded loaded;
  DiagnosticSink sink;
  ir::World world;

  ir::Party pod(const std::string& name) const {
    const auto index = world.inventory.find_pod(name);
    EXPECT_TRUE(index.has_value()) << name;
    return ir::PodParty{index.value_or(0)};
  }
  static ir::Party ip(const std::string& text) { return ir::AddressParty{*ir::parse_ip(text)}; }
  static ir::Party entity(const std::string& name) { return ir::EntityParty{name}; }

  ir::FlowVerdict ask(const ir::Party& from, const ir::Party& to, ir::Protocol protocol,
                      std::uint16_t port, ir::L7Request l7 = {}) const {
    return ir::evaluate(world, {"t", from, to, protocol, port, std::move(l7)});
  }
  std::string verdict(const ir::Party& from, const ir::Party& to, ir::Protocol protocol,
                      std::uint16_t port, ir::L7Request l7 = {}) const {
    return std::string(ir::verdict_name(ask(from, to, protocol, port, std::move(l7)).final));
  }
};

inline std::unique_ptr<TextWorld> world_of(const std::string& yaml, ir::Settings settings = {}) {
  auto out = std::make_unique<TextWorld>();
  frontend::LoadOptions options;
  options.paths = {"-"};
  options.stdin_text = yaml;
  options.inventory = frontend::LoadOptions::InventoryMode::Complete;
  out->loaded = frontend::load(options, settings, out->sink);
  out->world.settings = out->loaded.settings.value_or(settings);
  out->world.inventory = out->loaded.inventory;
  out->world.policies = frontend::lower(out->loaded, out->world.settings);
  return out;
}

// Pods a and b in namespace red, c in blue, all on one node.
inline const char* kPods = R"(
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 192.168.10.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: red, labels: {app: a}}
spec: {nodeName: node-1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: red, labels: {app: b}}
spec: {nodeName: node-1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
status: {podIP: 10.0.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: blue, labels: {app: c}}
spec: {nodeName: node-1, containers: [{name: c}]}
status: {podIP: 10.0.0.3}
---
)";

}  // namespace policyc::testing
