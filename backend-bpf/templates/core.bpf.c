// ---- the verdict core: tables only, no packet

INLINE u32 identity_of_v4(u32 address) {
  u32 entry = tries.root4[address >> 16];
  if (!(entry & CHILD)) return entry;
  entry = tries.blocks4[((entry & ~CHILD) << 8 | (address >> 8 & 255)) & (TRIE4_BLOCKS * 256 - 1)];
  if (!(entry & CHILD)) return entry;
  return tries.blocks4[((entry & ~CHILD) << 8 | (address & 255)) & (TRIE4_BLOCKS * 256 - 1)] & ~CHILD;
}

INLINE u32 identity_of_v6(const u8 *address) {
  u32 entry = CHILD;
#pragma unroll
  for (int i = 0; i < 16; i++) {
    entry = tries.blocks6[((entry & ~CHILD) << 8 | address[i]) & (TRIE6_BLOCKS * 256 - 1)];
    if (!(entry & CHILD)) return entry;
  }
  return 0;
}

// Protocols with ports or types have a page index of their own, all others share number 0.
INLINE u32 class_of_protocol(u32 protocol) {
  if (protocol == 6) return 1;    // TCP
  if (protocol == 17) return 2;   // UDP
  if (protocol == 132) return 3;  // SCTP
  if (protocol == 1) return 4;    // ICMP
  if (protocol == 58) return 5;   // ICMPv6
  return 0;
}

struct decision {
  u32 record;
  u32 cell;  // as CB_CELL
};

INLINE struct decision decide(u32 direction, u32 identity, u32 protocol, u32 port) {
  const struct direction_config *at = &tables.direction[direction];
  u32 identity_class = tables.class_of[direction * IDENTITIES + (identity & (IDENTITIES - 1))];
  u32 slot = (direction * 8 + class_of_protocol(protocol)) * 1024 + (port >> 6 & 1023);
  u32 page = tables.page_of_port[slot & (2 * 8 * 1024 - 1)];
  u32 column = tables.pages[(page * 64 + (port & 63)) & (PAGES * 64 - 1)];
  u32 cell = at->first_cell + identity_class * at->columns + column;
  struct decision out;
  out.record = tables.cells[cell & (CELLS - 1)];
  out.cell = identity_class << 16 | column;
  return out;
}
