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

// What an earlier compile gave out (its allocations.json), so that it stays as it is:
// {"version":1, "addresses": {"ns/name": ["198.51.100.1"]},
//  "identities": [{"id": 256, "labels": ["k8s:app=web"]}]}. Either may be missing.
struct Allocations {
  NameTable addresses;  // of pods that have none of their own, by full name
  std::vector<ir::KnownIdentity> identities;
};
Expected<Allocations> read_allocations(const std::string& text);

// Whether the object is Cilium's own configuration.
bool is_cilium_config(const YamlNode& object);
// Overrides in `settings` what the ConfigMap names. Values outside their range and settings that
// are not modelled are diagnostics.
void read_cilium_config(const YamlNode& object, ir::Settings& settings, DiagnosticSink& sink);

}  // namespace policyc::frontend
