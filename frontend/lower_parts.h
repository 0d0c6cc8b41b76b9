// The pieces of lowering that Cilium's kinds and NetworkPolicy share, and that tests look at.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "frontend/load.h"
#include "ir/policy_set.h"

namespace policyc::frontend {

// "${VAR} at file:line:col" for a placeholder, else empty.
std::string symbol_of(const Text& text, const SourceMap& sources);

// Requirements as written. With `forced_source` every key takes that source and `key_prefix`.
ir::Selector lower_selector(const SelectorAst& ast, const SourceMap& sources,
                            const std::string& forced_source, const std::string& key_prefix);
ir::Requirement namespace_requirement(const std::string& ns);
ir::Requirement namespace_exists();
// policy-default-local-cluster: peers are of this cluster unless they name one.
void confine_to_cluster(ir::Selector& selector, const ir::Settings& settings);
ir::Selector reserved_selector(const std::string& name, SourceRange range);
// `0.0.0.0/0` and `::/0` are the world labels.
ir::Selector cidr_selector(const ir::Prefix& prefix, const ir::Settings& settings,
                           SourceRange range);

// Type number of an ICMP name or number; nullopt for a name unknown in the family.
std::optional<int> icmp_type(const std::string& text, bool v6);
// A port number in base 0; nullopt when the text is none. May exceed 65535.
std::optional<std::uint32_t> parse_port_number(const std::string& text);
// Whether the text is an IANA service name (1–15 characters, at least one letter).
bool is_port_name(const std::string& text);
// One entry for each concrete protocol: ANY is TCP, UDP and SCTP.
std::vector<ir::Port> lower_cilium_port(const PortAst& ast, const SourceMap& sources);
ir::L7Rules lower_l7(const L7RulesAst& ast, const ir::Profile& release, const SourceMap& sources);
ir::HeaderMatch lower_header(const std::string& text);

// NetworkPolicy as Cilium's agent translates it.
void lower_netpol(const Loaded& loaded, const LoadedPolicy& policy, std::size_t index,
                  const ir::Settings& settings, ir::PolicySet& out);

}  // namespace policyc::frontend
