// Images of Cilium's own maps: what a policy map or an ipcache holds, with the map's definition.
//
// File, little endian: "PCCM" | u32 version (1) | u32 type, key bytes, value bytes, max entries,
// flags, compared bytes | u32 entries | u32 length of the pin name | u32 length of the placeholders
// | pin name | placeholders, NUL-terminated texts | all keys | all values. Entries are sorted by
// key.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "backend-bpf/cilium_layout.h"
#include "backend-bpf/kernel_maps.h"
#include "ir/base/expected.h"
#include "ir/map_entries.h"
#include "ir/resolved.h"

namespace policyc::bpf {

struct CiliumImage {
  MapDefinition definition;
  // The first bytes of a value are the policy's; the rest is the datapath's (counters, tunnels).
  std::uint32_t compared = 0;
  std::string pin;  // name under <bpffs>/tc/globals; empty = the endpoint's number is not known
  // Numbers in it that a running agent allocates and that are not known: "identity 256",
  // "proxy port 20001 of http/egress". Sorted.
  std::vector<std::string> placeholders;
  std::vector<MapEntry> entries;  // sorted by key
  friend bool operator==(const CiliumImage&, const CiliumImage&) = default;
};

// Numbers that an agent allocates, or stand-ins for them.
struct AgentNumbers {
  struct Number {
    std::uint32_t value = 0;
    bool placeholder = false;
  };
  std::vector<Number> identities;             // per identity index
  std::map<std::string, Number> proxy_ports;  // by name, see proxy_names
};

// Who reads the traffic of each redirecting entry of a table: "http/egress", "dns/egress", or the
// listener that the rules name, "CiliumEnvoyConfig/ns/config/listener".
std::vector<std::string> proxy_names(const ir::PolicyTable& table, ir::Direction direction);

// One endpoint's policy map. `identities` are those for which there are entries.
CiliumImage policy_map_image(const CiliumLayout& layout, std::uint32_t max_entries,
                             const ir::ResolvedEndpoint& endpoint, const ir::MapEntries& ingress,
                             const ir::MapEntries& egress,
                             const std::vector<ir::IdentityIndex>& identities,
                             const AgentNumbers& numbers);
// A node's ipcache. Tunnel endpoints, keys and flags are zero: they are no matter of policy.
CiliumImage ipcache_image(const CiliumLayout& layout, const ir::NodeView& view,
                          const AgentNumbers& numbers);

std::string write_image(const CiliumImage& image);
// Any bytes are safe to read.
Expected<CiliumImage> read_cilium_image(std::string_view bytes);
// One line for each entry, for people. Errors: not a layout that policyc knows.
Expected<std::string> print_image(const CiliumImage& image);
// One entry of it.
std::string print_entry(const CiliumImage& image, const MapEntry& entry);

// Where a map differs from an image; keys are bytes, sorted. Of values the compared bytes count.
struct MapDifference {
  std::vector<MapEntry> missing;    // in the image only
  std::vector<MapEntry> added;      // in the map only
  std::vector<MapEntry> different;  // as the map has them
  bool empty() const { return missing.empty() && added.empty() && different.empty(); }
};
MapDifference compare(const CiliumImage& image, const std::vector<MapEntry>& map);

}  // namespace policyc::bpf
