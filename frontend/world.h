// Settings and tables that stand beside manifests: a world's config.json and fqdn.json, the
// cilium-config ConfigMap, allocation files.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "frontend/yaml_document.h"
#include "ir/base/diagnostic.h"
#include "ir/base/expected.h"
#include "ir/inventory.h"

namespace policyc::frontend {

using NameTable = std::map<std::string, std::vector<ir::IpAddress>>;

// config.json: ipv4, ipv6, hostFirewall, cidrMatchNodes (true or false), enforcement,
// allowLocalhost
// ("policy" or "always"), clusterName. Overrides in `settings` what the text names.
std::optional<Error> read_world_config(const std::string& text, ir::Settings& settings);

// A JSON object: DNS name → address or list of addresses. Names come back in lower case, without a
// trailing dot.
Expected<NameTable> read_fqdn_table(const std::string& text);

// {"version":1, "addresses": {"ns/name": ["198.51.100.1"]}, …}: the addresses that an earlier run
// gave to pods without one, by full name. Other keys belong to others.
Expected<NameTable> read_allocated_addresses(const std::string& text);

// Whether the object is Cilium's own configuration.
bool is_cilium_config(const YamlNode& object);
// Overrides in `settings` what the ConfigMap names. Values outside their range and settings that
// are not modelled are diagnostics.
void read_cilium_config(const YamlNode& object, ir::Settings& settings, DiagnosticSink& sink);

}  // namespace policyc::frontend
