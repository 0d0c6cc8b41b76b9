// Reads Namespaces, Pods, workloads, Services, Nodes and cluster dumps into ir::Inventory.
#pragma once

#include <string_view>

#include "frontend/yaml_document.h"
#include "ir/base/diagnostic.h"
#include "ir/inventory.h"

namespace policyc::frontend {

// Whether objects of this apiVersion and kind feed the inventory.
bool is_inventory_kind(std::string_view api_version, std::string_view kind);

// Adds one object. `ns` is the settled namespace (empty for cluster-wide kinds), `set` its
// deployment set.
void read_inventory_object(const YamlRef& object, const std::string& ns, const std::string& set,
                           ir::Inventory& inventory, DiagnosticSink& sink);

// Sorts, completes namespaces, gives addresses to pods without one. Call once after all objects.
void finish_inventory(ir::Inventory& inventory, const ir::Settings& settings);

}  // namespace policyc::frontend
