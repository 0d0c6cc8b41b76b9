// Reads policy objects from YAML trees and says what the API server's schema, its strict-field
// check, Cilium's agent and (for NetworkPolicy) the API server's admission rules make of them.
#pragma once

#include <string>

#include "frontend/ast.h"
#include "frontend/yaml_document.h"
#include "ir/base/diagnostic.h"
#include "ir/inventory.h"

namespace policyc::frontend {

// The policy kind of an object (`kind` + `apiVersion`), or nullopt when it is none of ours.
std::optional<PolicyKind> policy_kind_of(const YamlNode& object);

// Reads and validates one object. Diagnostics carry layer, policy and rule path; the first refusal
// by layer order decides `accepted`, `layer` and `error`. `document` is its index in the file.
PolicyAst read_policy(const YamlRef& object, PolicyKind kind, FileId file, std::uint32_t document,
                      const ir::Settings& settings, DiagnosticSink& sink);

}  // namespace policyc::frontend
