// The image half of the translation validation: the values of the two maps, byte by byte as they
// are loaded, mean for every address, protocol and port what the resolved policy says. Exact and
// without a solver: decisions are compared on every stretch between two places where either side
// can change.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/resolved.h"
#include "verifier/datapath_meaning.h"

namespace policyc::verify {

// A peer and a port for which tables and policy differ.
struct ImageDifference {
  ir::Direction direction = ir::Direction::Ingress;
  std::optional<ir::IpAddress> peer;  // none: the tables of protocols are wrong
  ir::Protocol protocol = 0;
  std::uint16_t port = 0;      // ICMP: the type
  std::string tables, policy;  // what each says
};

// A record by its number in the map, and what the policy wants it to say.
struct RecordUse {
  std::uint32_t record = 0;
  ir::VerdictRecord said;
  // What the proxy enforces there; nullptr where it is no redirect. Lives in the policy's tables.
  const ir::ProxyFilter* filter = nullptr;
};

struct ImageReport {
  std::optional<ImageDifference> difference;
  std::vector<RecordUse> records;  // each once for what it says and each filter
  std::size_t addresses = 0;       // stretches of addresses compared
  std::size_t decisions = 0;       // stretches of ports compared, over all kinds of peers
};

// `identities`: how many there are. Reads the half that the generation word selects.
ImageReport check_image(const DatapathShape& shape, std::string_view node, std::string_view policy,
                        const ir::NodeView& view, const ir::PolicyTable& ingress,
                        const ir::PolicyTable& egress);

}  // namespace policyc::verify
