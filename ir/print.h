// Deterministic text of the compiler's own view: what `dump ir` and `dump identities` show.
#pragma once

#include <string>

#include "ir/base/source.h"
#include "ir/policy_set.h"
#include "ir/resolved.h"

namespace policyc::ir {

// Every rule with its subject, items, peers, ports and L7 rules, and the line each comes from.
std::string print(const PolicySet& policies, const SourceMap& sources);
// One policy of it; without `sources` no lines are named, so that equal texts mean equal rules.
std::string print(const PolicySet& policies, std::size_t policy, const SourceMap* sources);

// One line an identity: number, labels.
std::string print_identities(const Resolved& resolved);

std::string port_text(const Port& port);  // "TCP/80", "UDP/8000-8010", "TCP/http", "ICMP type 8"
std::string http_rule_text(const HttpRule& rule);  // "GET /a.* host b header x: y"

}  // namespace policyc::ir
