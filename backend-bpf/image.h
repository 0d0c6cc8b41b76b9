// Policy as table images, and back. The images hold all that a program knows of a policy.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend-bpf/layout.h"
#include "ir/base/expected.h"
#include "ir/resolved.h"

namespace policyc::bpf {

struct Host4 {
  std::uint32_t address = 0;  // host order
  std::uint32_t leaf = 0;     // identity index + 1
  friend bool operator==(const Host4&, const Host4&) = default;
};

// Who an address is, as seen from one node: leaf-pushed multibit tries, entries as in layout.h with
// identity index + 1 in the leaves. IPv6 host routes, and IPv4 host routes where blocks of the trie
// would be nearly empty, stand apart.
struct IdentityImage {
  std::vector<std::uint32_t> root4;    // kRoot4 entries
  std::vector<std::uint32_t> blocks4;  // kBlock entries each
  std::vector<Host4> hosts4;           // ascending; kHashed in the leaf above leads to them
  std::vector<std::uint32_t> blocks6;  // block 0 is the root
  std::vector<Host6Wire> hosts6;       // ascending; win over the trie
  std::vector<std::uint32_t> numbers;  // per identity index
};

// What one policy says, both directions (0 ingress, 1 egress). Rows and columns that say the same
// are one.
struct PolicyImage {
  DirectionInfo direction[2];
  std::vector<RecordWire> records;          // record k of a cell is records[k - 1]
  std::vector<std::uint16_t> page_of_port;  // kPageSlots; none with intervals
  std::vector<std::uint16_t> pages;         // kPageSize columns each
  std::vector<std::uint32_t> row_begin;     // per row: index of its first cell; and the end
  std::vector<std::uint32_t> keys;          // intervals: where each begins, ascending in a row
  std::vector<std::uint16_t> cells;         // as layout.h; first those of peers without identity
  std::vector<std::string> parsers;         // names, sorted
  bool intervals() const { return !keys.empty(); }
};

struct EncodedPolicy {
  PolicyImage image;
  std::vector<std::uint16_t> row_of[2];  // per identity index: row of the direction
};

// Identities that no policy of a node tells apart are one class, 1 to `classes`. Where classes and
// identities do not fit into a leaf together, every identity is its own (class = index + 1).
struct ClassImage {
  std::uint32_t classes = 0;
  std::vector<std::uint32_t> class_of;  // per identity index
  std::vector<std::uint16_t> rows;      // [slot][direction][class - 1]
  std::uint32_t slots = 0;              // policies
  bool discrete() const;
  std::uint16_t row(std::size_t slot, std::size_t direction, std::uint32_t of_class) const {
    return rows[(slot * 2 + direction) * classes + of_class - 1];
  }
};

// Longest prefix wins; later duplicates of a prefix are ignored. Linear in prefixes × depth. An
// IPv4 trie that would have more than `trie_blocks` blocks (1 KB each) leaves the host routes of
// nearly empty ones to the hash.
inline constexpr std::size_t kTrieBlocks = 1024;
IdentityImage encode_identities(const ir::NodeView& view,
                                const std::vector<ir::Identity>& identities,
                                std::size_t trie_blocks = kTrieBlocks);
// Decisions become pages and cells, or lists of intervals where the cells would need more than
// `budget` bytes. `http`: for each direction and each of the table's proxy filters, the HTTP filter
// of the program that stands for it (0: none); empty where the program has none. Errors: a policy
// beyond the limits of the layout.
inline constexpr std::size_t kCellBudget = std::size_t{1} << 20U;
using HttpFilterNumbers = std::array<std::vector<std::uint16_t>, 2>;
Expected<EncodedPolicy> encode_policy(const ir::PolicyTable& ingress, const ir::PolicyTable& egress,
                                      std::size_t budget = kCellBudget,
                                      const HttpFilterNumbers& http = {});
// The classes of a node; slot k is policy k.
ClassImage encode_classes(const std::vector<const EncodedPolicy*>& policies,
                          std::size_t identities);

// The tables that the images mean together; entries for Cilium's own maps are not part of them.
struct DecodedPolicy {
  ir::PolicyTable ingress, egress;
};
// Errors: the images do not belong together.
Expected<DecodedPolicy> decode_policy(const PolicyImage& policy, const ClassImage& classes,
                                      std::size_t slot);
// A record by its number in a cell (1 and up), as the resolver writes it.
ir::VerdictRecord decode_record(const PolicyImage& image, std::uint32_t record);

// A stretch of addresses with one meaning, up to the next span of its family.
struct AddressSpan {
  ir::IpAddress first;
  std::uint32_t leaf = 0;  // identity index + 1, or 0
  friend bool operator==(const AddressSpan&, const AddressSpan&) = default;
};
// Ascending, neighbours differ; both families, IPv4 first. Two sources with equal spans give every
// address the same identity.
std::vector<AddressSpan> address_spans(const IdentityImage& image);
std::vector<AddressSpan> address_spans(const ir::NodeView& view);

// Image files. Reading checks everything that the program relies on; any bytes are safe to read.
std::string write_image(const IdentityImage& image);
std::string write_image(const PolicyImage& image);
std::string write_image(const ClassImage& image);
Expected<IdentityImage> read_identity_image(std::string_view bytes);
Expected<PolicyImage> read_policy_image(std::string_view bytes);
Expected<ClassImage> read_class_image(std::string_view bytes);

// The sizes a program needs for these images, rounded up so that most endpoints share one program.
SizeClass size_class(const IdentityImage& identities, const ClassImage& classes,
                     const PolicyImage& policy);
// In two steps, where many policies meet one node.
SizeClass node_sizes(const IdentityImage& identities, const ClassImage& classes);
SizeClass with_policy(SizeClass sizes, const PolicyImage& policy);
// Whether these images can be put into maps of this size.
bool fits(const IdentityImage& identities, const ClassImage& classes, const PolicyImage& policy,
          const SizeClass& sizes);
// Whether slot `slot` of the classes can be this policy's: its rows exist.
bool belong_together(const PolicyImage& policy, const ClassImage& classes, std::size_t slot);

struct NodeSettings {
  std::uint16_t proxy_port = 0;  // host order, 0 = no proxy
  bool observe = false;          // report in skb->cb
};
// Contents of the maps `.bss` and `.data.policy`, or of one half (layout.h says how halves are
// exchanged). The images must fit the sizes, and the slot must be the policy's.
std::string node_half(const IdentityImage& identities, const ClassImage& classes,
                      const SizeClass& sizes);
std::string policy_half(const PolicyImage& policy, const ClassImage& classes, std::size_t slot,
                        const SizeClass& sizes);
std::string node_value(const IdentityImage& identities, const ClassImage& classes,
                       const SizeClass& sizes, const NodeSettings& settings = {});
std::string policy_value(const PolicyImage& policy, const ClassImage& classes, std::size_t slot,
                         const SizeClass& sizes);

}  // namespace policyc::bpf
