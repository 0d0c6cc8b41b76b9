// The pieces of reading that Cilium's kinds and NetworkPolicy share.
#pragma once

#include <string>

#include "frontend/cursor.h"
#include "ir/inventory.h"

namespace policyc::frontend {

// A label selector. With `schema` its operators and values are checked as Cilium's CRD does;
// NetworkPolicy's own checks come later.
SelectorAst read_selector(Findings& findings, const Cursor& at, bool schema);
// Whether the text is a prefix as `format: cidr` has it.
bool is_cidr(std::string_view text);
std::string cidr_hint(std::string_view text);  // what to write in place of no CIDR

// The readers of each kind: tree to AST, with the schema's and the unknown-field findings.
void read_cilium(Fields& object, PolicyAst& policy, const ir::Settings& settings,
                 Findings& findings);
void read_netpol(Fields& object, PolicyAst& policy, const ir::Settings& settings,
                 Findings& findings);
void read_cidr_group(Fields& object, PolicyAst& policy, Findings& findings);

// The agent's own checks, and for NetworkPolicy the API server's.
void validate_cilium(const PolicyAst& policy, const ir::Settings& settings, Findings& findings);
void validate_netpol(const PolicyAst& policy, const ir::Settings& settings, Findings& findings);

// Checks of the agent that both validations use.
// `prefix` is put before each key as the agent stores it ("k8s."); empty = Cilium's own spelling.
void validate_selector(const SelectorAst& selector, const std::string& prefix,
                       const std::string& rule, Findings& findings);
void validate_port(const PortAst& port, const std::string& rule, Findings& findings);
// `except` inside `cidr`; `strict` = narrower than it, too.
void validate_except(const Text& cidr, const std::vector<Text>& except, bool strict,
                     const std::string& rule, Findings& findings);

}  // namespace policyc::frontend
