// Byte layouts: the two map values that the programs (templates/tables.bpf.c) read, and the image
// files from which they are made. Little endian, as the programs.
//
// Map `.bss`, one for all endpoints of a node (struct node), kNodeHeader bytes, then two halves:
//   u32 generation | u32 flags | u32 proxy_port (network order) | u32 0 [13] |
//   u8 protocol_class[256]
//   half: root4 u32[65536] | blocks4 u32[trie4_blocks][256] | hash4 {u32 address[8], u32
//   leaf[8]}[2^n]
//         | hash6 {u32 tag[8], u32 host[8]}[2^n] | hosts6 Host6Wire[hosts6] |
//         blocks6 u32[trie6_blocks][256]
// Map `.data.policy`, one for all endpoints with the same policy (struct policy), two halves:
//   dense:     records RecordWire[records] | rows u32[2][classes] | page_of_port u16[2][8][1024] |
//              pages u16[pages][64] | cells u16[cells]
//   intervals: records RecordWire[records] | rows {u32 first, u32 count}[2][classes] |
//              keys u32[intervals] | cells u16[intervals]
// Direction 0 is ingress, 1 egress. Protocol classes are ir::ProtocolClass, keys ir::L4Key.
//
// Updates without reload. A program reads `generation` once for a packet, and its lowest bit
// selects the half of both maps for everything that follows, so a node's policy changes as one. At
// rest both halves say the same. The one writer
//   1. waits until no program that began before the last switch still runs (its packets read the
//   half
//      that is now free);
//   2. writes what changes into the halves that are not in force, of the node and of its endpoints;
//   3. stores `generation` + 1 (a release store of an aligned u32: the switch);
//   4. waits as in 1, then writes the same into the other halves.
// Cost grows with what changes. Tables that outgrow their map need a new program (SizeClass), which
// is loaded beside the old one and takes its place at the hook.
//
// Image file: ImageHeader, `sections` SectionHeaders, then the sections in that order, each at a
// multiple of 8. A section holds what is used; the loader pads to the map's size with zeros.
//   identities  who has which address, by identity index: changes with pods and CIDRs, not with
//   rules classes     per node view: identities that no policy of the node tells apart share a
//   class, and for
//               each policy (a slot) which row a class reads: small, changes when a policy does
//   policy      the decisions of one policy: endpoints with the same policy share it
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace policyc::bpf {

static_assert(std::endian::native == std::endian::little,
              "images are written as the host holds them");

inline constexpr std::size_t kRoot4 = 65536;           // entries
inline constexpr std::size_t kBlock = 256;             // entries of a trie block
inline constexpr std::uint32_t kChild = 0x80000000U;   // trie entry: a block number follows
inline constexpr std::uint32_t kHashed = 0x40000000U;  // leaf: host routes below it are in the hash
inline constexpr std::uint32_t kLeaf =
    0x3FFFFFFFU;                          // IDENTITY + 1, with its class in the map; 0 none
inline constexpr std::size_t kSlots = 8;  // of a hash bucket
inline constexpr std::size_t kPagesPerClass = 1024;  // 65536 ports / 64
inline constexpr std::size_t kPageSize = 64;         // ports of a page
inline constexpr std::size_t kClassSlots = 8;        // protocol classes, padded
inline constexpr std::size_t kPageSlots = 2 * kClassSlots * kPagesPerClass;

// Hash of an IPv4 address (host order): its bucket among 2^bits, 1 <= bits <= 31.
inline std::uint32_t bucket4(std::uint32_t address, std::uint32_t bits) {
  return address * 0x9E3779B1U >> (32 - bits);
}
// Hash of an IPv6 address given as two words as they stand in memory. The bucket among 2^bits is
// hash >> (64 - bits), the tag bits 16 to 47.
inline std::uint64_t hash6(std::uint64_t high, std::uint64_t low) {
  return (low ^ high * 0xC2B2AE3D27D4EB4FULL) * 0x9E3779B97F4A7C15ULL;
}

struct Bucket4Wire {
  std::array<std::uint32_t, kSlots> address;  // host order
  std::array<std::uint32_t, kSlots> leaf;     // 0: free
};
struct Bucket6Wire {
  std::array<std::uint32_t, kSlots> tag;
  std::array<std::uint32_t, kSlots> host;  // index into hosts6; 0: free
};
struct Host6Wire {
  std::array<std::uint8_t, 16> address;  // network order
  std::uint32_t leaf;
  std::array<std::uint32_t, 3> reserved;
};
static_assert(sizeof(Bucket4Wire) == 64 && sizeof(Bucket6Wire) == 64 && sizeof(Host6Wire) == 32);

// A cell: CellKind << 14 | record. Record 0 is for peers without an identity.
enum class CellKind : std::uint8_t { Drop = 0, Allow = 1, Redirect = 2 };
inline constexpr std::uint32_t kCellRecord = 0x3FFF;

struct RecordWire {
  std::uint8_t verdict = 0;  // CellKind before authentication is asked for
  std::uint8_t reason = 0;   // ir::Reason
  std::uint8_t parser = 0;   // 0 = none, else index + 1 into the image's parser names
  std::uint8_t priority = 0;
  std::uint8_t auth = 0;  // 0 = nothing said, else 1 + ir::AuthType; bit 7: explicit
  std::uint8_t reserved = 0;
  std::uint16_t drop = 0;    // drop reason without its sign, 0 if it passes
  std::uint16_t filter = 0;  // HTTP filter of the program, 0 = none
  std::uint16_t reserved2 = 0;
  friend auto operator<=>(const RecordWire&, const RecordWire&) = default;
};
static_assert(sizeof(RecordWire) == 12 && offsetof(RecordWire, drop) == 6);

// One direction of a policy image.
struct DirectionInfo {
  std::uint32_t first_row = 0;  // index into `row_begin`
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;  // 0: intervals
  std::uint32_t enforced = 0;
  friend bool operator==(const DirectionInfo&, const DirectionInfo&) = default;
};
static_assert(sizeof(DirectionInfo) == 16);

inline constexpr std::size_t kNodeHeader = 320;
inline constexpr std::size_t kGenerationOffset = 0, kFlagsOffset = 4, kProxyPortOffset = 8,
                             kProtocolClassOffset = 64;
inline constexpr std::uint32_t kNodeObserve = 1;

// Sizes of the arrays of a program. All but the last two of each group are powers of two.
struct SizeClass {
  // The node's.
  std::uint32_t trie4_blocks = 64;
  std::uint32_t hash4_bits = 4;  // 2^n buckets
  std::uint32_t hash6_bits = 4;
  std::uint32_t hosts6 = 16;
  std::uint32_t trie6_blocks = 64;
  std::uint32_t classes = 256;       // of identities, 0 (none) included
  std::uint32_t identity_shift = 8;  // log2(classes), or 0: every identity is its own class
  // The policy's: dense with pages and cells, or, where intervals is not 0, those.
  std::uint32_t pages = 64;
  std::uint32_t cells = 4096;
  std::uint32_t records = 64;
  std::uint32_t intervals = 0;
  std::uint32_t interval_steps = 0;  // of the search in the longest list

  std::size_t blocks4_offset() const { return 4 * kRoot4; }
  std::size_t hash4_offset() const { return blocks4_offset() + 4 * kBlock * trie4_blocks; }
  std::size_t hash6_offset() const { return hash4_offset() + (sizeof(Bucket4Wire) << hash4_bits); }
  std::size_t hosts6_offset() const { return hash6_offset() + (sizeof(Bucket6Wire) << hash6_bits); }
  std::size_t blocks6_offset() const { return hosts6_offset() + sizeof(Host6Wire) * hosts6; }
  std::size_t node_half_size() const { return blocks6_offset() + 4 * kBlock * trie6_blocks; }
  std::size_t node_half_offset(unsigned half) const {
    return kNodeHeader + half * node_half_size();
  }
  std::size_t node_size() const { return node_half_offset(2); }

  std::size_t rows_offset() const { return sizeof(RecordWire) * records; }
  std::size_t page_of_offset() const { return rows_offset() + 4 * 2 * std::size_t{classes}; }
  std::size_t pages_offset() const { return page_of_offset() + 2 * kPageSlots; }
  std::size_t keys_offset() const { return rows_offset() + 8 * 2 * std::size_t{classes}; }
  std::size_t cells_offset() const {
    return intervals != 0 ? keys_offset() + 4 * std::size_t{intervals}
                          : pages_offset() + 2 * kPageSize * pages;
  }
  std::size_t policy_half_size() const {
    return cells_offset() + 2 * std::size_t{intervals != 0 ? intervals : cells};
  }
  std::size_t policy_half_offset(unsigned half) const { return half * policy_half_size(); }
  std::size_t policy_size() const { return policy_half_offset(2); }
  friend auto operator<=>(const SizeClass&, const SizeClass&) = default;
};

inline constexpr char kImageMagic[4] = {'P', 'C', 'I', 'M'};
inline constexpr std::uint32_t kImageVersion = 2;
enum class ImageKind : std::uint32_t { Identities = 1, Policy = 2, Classes = 3 };

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
  Hosts4 = 5,       // Host4
  Hosts6 = 6,       // Host6Wire
  Directions = 16,  // DirectionInfo[2]
  Records = 17,
  PageOfPort = 18,
  RowBegin = 19,  // u32 per row, and the end
  Keys = 20,      // u32; intervals only
  Pages = 21,
  Cells = 22,
  Parsers = 23,  // NUL-terminated names
  ClassOf = 32,  // u32 per identity index
  Rows = 33,     // u16 [slot][direction][class - 1]
};

struct SectionHeader {
  std::uint32_t id;
  std::uint32_t element;  // bytes of an element
  std::uint64_t offset;   // from the start of the file
  std::uint64_t count;    // elements
};
static_assert(sizeof(SectionHeader) == 24);

// Words that the program leaves in skb->cb where kNodeObserve is set: an Outcome (runner.h), the
// drop reason, the record (index + 1 into the image's, 0: not asked), identity index + 1, the
// cell's index.
inline constexpr std::size_t kCbOutcome = 0, kCbDrop = 1, kCbRecord = 2, kCbIdentity = 3,
                             kCbCell = 4;

// Drop reasons: Cilium's numbers without the sign (bpf/lib/common.h).
inline constexpr std::uint16_t kDropPolicy = 133, kDropInvalid = 134, kDropUnknownL3 = 139,
                               kDropInvalidExtensionHeader = 156, kDropFragment = 157,
                               kDropFragmentNotFound = 175, kDropPolicyDeny = 181, kDropVlan = 182,
                               kDropAuthRequired = 189, kDropNotReady = 203;

}  // namespace policyc::bpf
