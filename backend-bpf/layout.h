// Byte layouts: the two map values that the program in templates/policy.bpf.c reads, and the image
// files that hold their contents. Little endian, as the program.
//
// Map `.bss` (struct tries, one per node view):
//   root4 u32[65536] | blocks4 u32[trie4_blocks * 256] | blocks6 u32[trie6_blocks * 256]
// Map `.data.policy` (struct tables, one per endpoint):
//   direction {u32 first_cell, u32 columns}[2] | u32 proxy_port (network order) | u32 0 |
//   records RecordWire[records] | page_of_port u16[2][8][1024] | class_of u16[2][identities] |
//   pages u16[pages][64] | cells u16[cells], padded to 4 bytes
// Direction 0 is ingress, 1 egress. Protocol classes are ir::ProtocolClass.
//
// Image file: ImageHeader, `sections` SectionHeaders, then the sections in that order, each at a
// multiple of 8. A section holds what is used; the loader pads to the map's size with zeros.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace policyc::bpf {

static_assert(std::endian::native == std::endian::little,
              "images are written as the host holds them");

inline constexpr std::size_t kRoot4 = 65536;          // entries
inline constexpr std::size_t kBlock = 256;            // entries of a trie block
inline constexpr std::uint32_t kChild = 0x80000000U;  // trie entry: a block number follows
inline constexpr std::size_t kPagesPerClass = 1024;   // 65536 ports / 64
inline constexpr std::size_t kPageSize = 64;          // ports of a page
inline constexpr std::size_t kClassSlots = 8;         // protocol classes, padded
inline constexpr std::size_t kPageSlots = 2 * kClassSlots * kPagesPerClass;

enum class RecordVerdict : std::uint8_t { Deny = 0, Allow = 1, Redirect = 2 };

struct RecordWire {
  std::uint8_t verdict = 0;  // RecordVerdict
  std::uint8_t reason = 0;   // ir::Reason
  std::uint8_t parser = 0;   // 0 = none, else index + 1 into the image's parser names
  std::uint8_t priority = 0;
  std::uint8_t auth = 0;  // 0 = nothing said, else 1 + ir::AuthType; bit 7: explicit
  std::uint8_t reserved = 0;
  std::uint16_t drop = 0;  // drop reason without its sign; wins over the verdict
  friend bool operator==(const RecordWire&, const RecordWire&) = default;
};
static_assert(sizeof(RecordWire) == 8 && offsetof(RecordWire, drop) == 6);

struct DirectionWire {
  std::uint32_t first_cell = 0;
  std::uint32_t columns = 0;
};
static_assert(sizeof(DirectionWire) == 8);

// What the decoder needs to know about a direction beyond what the program reads.
struct DirectionInfo {
  std::uint32_t first_cell = 0;
  std::uint32_t columns = 0;
  std::uint32_t classes = 0;
  std::uint32_t first_record = 0;
  std::uint32_t records = 0;
  std::uint32_t enforced = 0;
  friend bool operator==(const DirectionInfo&, const DirectionInfo&) = default;
};
static_assert(sizeof(DirectionInfo) == 24);

inline constexpr std::size_t kTablesHeader = 2 * sizeof(DirectionWire) + 8;
inline constexpr std::size_t kProxyPortOffset = 2 * sizeof(DirectionWire);

// Sizes of the arrays of a program; each a power of two.
struct SizeClass {
  std::uint32_t trie4_blocks = 16;
  std::uint32_t trie6_blocks = 64;
  std::uint32_t identities = 256;
  std::uint32_t pages = 64;
  std::uint32_t cells = 4096;
  std::uint32_t records = 64;

  std::size_t tries_size() const {
    return 4 * (kRoot4 + (std::size_t{trie4_blocks} + trie6_blocks) * kBlock);
  }
  std::size_t records_offset() const { return kTablesHeader; }
  std::size_t page_of_offset() const { return records_offset() + sizeof(RecordWire) * records; }
  std::size_t class_of_offset() const { return page_of_offset() + 2 * kPageSlots; }
  std::size_t pages_offset() const { return class_of_offset() + 2 * 2 * std::size_t{identities}; }
  std::size_t cells_offset() const { return pages_offset() + 2 * kPageSize * pages; }
  std::size_t tables_size() const { return cells_offset() + 2 * std::size_t{cells}; }
  friend auto operator<=>(const SizeClass&, const SizeClass&) = default;
};

inline constexpr char kImageMagic[4] = {'P', 'C', 'I', 'M'};
inline constexpr std::uint32_t kImageVersion = 1;
enum class ImageKind : std::uint32_t { Identities = 1, Policy = 2 };

struct ImageHeader {
  char magic[4];
  std::uint32_t version;
  std::uint32_t kind;      // ImageKind
  std::uint32_t sections;  // how many SectionHeaders follow
};
static_assert(sizeof(ImageHeader) == 16);

enum class SectionId : std::uint32_t {
  Root4 = 1,
  Blocks4 = 2,
  Blocks6 = 3,
  Numbers = 4,      // u32 per identity index: Cilium's numeric identity
  Directions = 16,  // DirectionInfo[2]
  Records = 17,
  PageOfPort = 18,
  ClassOfIngress = 19,
  ClassOfEgress = 20,
  Pages = 21,
  Cells = 22,
  Parsers = 23,  // NUL-terminated names
};

struct SectionHeader {
  std::uint32_t id;
  std::uint32_t element;  // bytes of an element
  std::uint64_t offset;   // from the start of the file
  std::uint64_t count;    // elements
};
static_assert(sizeof(SectionHeader) == 24);

// Words that the program leaves in skb->cb; the first is an Outcome (runner.h).
inline constexpr std::size_t kCbOutcome = 0, kCbDrop = 1, kCbRecord = 2, kCbIdentity = 3,
                             kCbCell = 4;

// Drop reasons: Cilium's numbers without the sign (bpf/lib/common.h).
inline constexpr std::uint16_t kDropPolicy = 133, kDropInvalid = 134, kDropUnknownL3 = 139,
                               kDropInvalidExtensionHeader = 156, kDropFragment = 157,
                               kDropPolicyDeny = 181, kDropVlan = 182, kDropAuthRequired = 189;

}  // namespace policyc::bpf
