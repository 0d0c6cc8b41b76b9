// Policy as table images, and back. The images hold all that a program knows of a policy.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend-bpf/layout.h"
#include "ir/base/expected.h"
#include "ir/resolved.h"

namespace policyc::bpf {

// Who an address is, as seen from one node: leaf-pushed multibit tries, entries as in layout.h.
struct IdentityImage {
  std::vector<std::uint32_t> root4;    // kRoot4 entries
  std::vector<std::uint32_t> blocks4;  // kBlock entries each
  std::vector<std::uint32_t> blocks6;  // block 0 is the root
  std::vector<std::uint32_t> numbers;  // per identity index
  friend bool operator==(const IdentityImage&, const IdentityImage&) = default;
};

// What one endpoint's policy says, both directions (0 ingress, 1 egress).
struct PolicyImage {
  DirectionInfo direction[2];
  std::vector<RecordWire> records;          // ingress, then egress
  std::vector<std::uint16_t> page_of_port;  // kPageSlots
  std::vector<std::uint16_t> class_of[2];   // per identity index
  std::vector<std::uint16_t> pages;         // kPageSize columns each
  std::vector<std::uint16_t> cells;         // global record indices
  std::vector<std::string> parsers;         // names, sorted
};

// Longest prefix wins; later duplicates of a prefix are ignored. Linear in prefixes × depth.
IdentityImage encode_identities(const ir::NodeView& view,
                                const std::vector<ir::Identity>& identities);
// Errors: a policy beyond the limits of the layout (65,535 classes or columns, 2^24 cells).
Expected<PolicyImage> encode_policy(const ir::PolicyTable& ingress, const ir::PolicyTable& egress);

// The tables that an image means; entries for Cilium's own maps are not part of an image. Errors:
// the image contradicts itself (an index out of range, columns out of order).
struct DecodedPolicy {
  ir::PolicyTable ingress, egress;
};
Expected<DecodedPolicy> decode_policy(const PolicyImage& image);
// One record, as the resolver writes it.
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
Expected<IdentityImage> read_identity_image(std::string_view bytes);
Expected<PolicyImage> read_policy_image(std::string_view bytes);

// The sizes a program needs for these images, rounded up so that most endpoints share one program.
SizeClass size_class(const IdentityImage& identities, const PolicyImage& policy);
// Contents of the maps `.bss` and `.data.policy`. The images must fit the size class. `proxy_port`
// in host order, 0 = no proxy.
std::string tries_value(const IdentityImage& image, const SizeClass& sizes);
std::string tables_value(const PolicyImage& image, const SizeClass& sizes,
                         std::uint16_t proxy_port = 0);

}  // namespace policyc::bpf
