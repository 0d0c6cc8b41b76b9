// Reads Namespaces, Pods, workloads, Services, Nodes and cluster dumps into ir::Inventory.
#pragma once

#include <string_view>
#include <vector>

#include "frontend/yaml_document.h"
#include "ir/base/diagnostic.h"
#include "ir/inventory.h"

namespace policyc::frontend {

// Whether objects of this apiVersion and kind feed the inventory.
bool is_inventory_kind(std::string_view api_version, std::string_view kind);

// Whether an inventory kind lives outside namespaces (Namespace, Node, CiliumNode, CiliumIdentity).
bool is_cluster_wide_kind(std::string_view kind);

// Adds one object. `ns` is the settled namespace (empty for cluster-wide kinds), `set` its
// deployment set. Pods that have ended (phase Succeeded or Failed) are no endpoints and are left
// out.
void read_inventory_object(const YamlRef& object, const std::string& ns, const std::string& set,
                           ir::Inventory& inventory, DiagnosticSink& sink);

// Sorts; merges CiliumEndpoints into their pods and CiliumNodes into their nodes; adds the
// namespaces that pods imply; gives addresses to pods without one: 198.51.100.0/24, 203.0.113.0/24,
// 192.0.2.0/24, then 100.64.0.0/10, and 2001:db8::/32, outside everything that the inventory names
// and outside `prefixes_in_use` (what policies mention). Call once after all objects.
void finish_inventory(ir::Inventory& inventory, const ir::Settings& settings,
                      const std::vector<ir::Prefix>& prefixes_in_use = {});

}  // namespace policyc::frontend
