
// ---- the verdict core: tables only, no packet, no helpers

struct verdict {
  u32 outcome;   // OUTCOME_*
  u32 drop;      // drop reason, 0 if not dropped
  u32 record;    // 0 where the policy was not asked
  u32 identity;  // identity index + 1, 0 where there is none
  u32 cell;      // index of the cell that decided
};

// The half that is in force. Read once for a packet: everything that depends on it is of one
// version.
INLINE u32 current_half(void) { return *(volatile u32 *)&node.generation & 1; }

// 1 if equal, without a branch.
INLINE u32 equal(u32 a, u32 b) { return (u32)(((u64)(a ^ b) - 1) >> 63); }

// Address in host byte order; gives a leaf.
INLINE u32 leaf_of_v4(u32 half, u32 address) {
  const struct addresses *at = &node.halves[half];
  u32 entry = at->root4[address >> 16];
  if (entry & CHILD) {
    entry = at->blocks4[(entry << 8 | (address >> 8 & 255)) & (TRIE4_BLOCKS * 256 - 1)];
    if (entry & CHILD) {
      entry = at->blocks4[(entry << 8 | (address & 255)) & (TRIE4_BLOCKS * 256 - 1)];
    }
  }
  if (entry & HASHED) {
    u32 bucket = (address * 0x9e3779b1u) >> (32 - HASH4_BITS);
    const struct bucket4 *b = &at->hash4[bucket & ((1 << HASH4_BITS) - 1)];
    u32 found = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) found |= b->leaf[i] & -equal(b->address[i], address);
    if (found) entry = found;
  }
  return entry & LEAF;
}

// Address as four words in network byte order.
INLINE u32 leaf_of_v6(u32 half, const u32 *address) {
  const struct addresses *at = &node.halves[half];
  u64 high = (u64)address[1] << 32 | address[0];
  u64 low = (u64)address[3] << 32 | address[2];
  u64 hash = (low ^ high * 0xc2b2ae3d27d4eb4full) * 0x9e3779b97f4a7c15ull;
  const struct bucket6 *b = &at->hash6[hash >> (64 - HASH6_BITS) & ((1 << HASH6_BITS) - 1)];
  u32 tag = hash >> 16;
  u32 host = 0;
#pragma unroll
  for (int i = 0; i < 8; i++) host |= b->host[i] & -equal(b->tag[i], tag);
  const struct host6 *h = &at->hosts6[host & (HOSTS6 - 1)];
  u32 differs = (h->address[0] ^ address[0]) | (h->address[1] ^ address[1]) |
                (h->address[2] ^ address[2]) | (h->address[3] ^ address[3]);
  if (host && !differs) return h->leaf;
  u32 entry = CHILD;
#pragma unroll
  for (int i = 0; i < 16; i++) {
    u32 byte = address[i / 4] >> (i % 4 * 8) & 255;
    entry = at->blocks6[(entry << 8 | byte) & (TRIE6_BLOCKS * 256 - 1)];
    if (!(entry & CHILD)) break;
  }
  return entry & LEAF;
}

// TCP 1, UDP 2, SCTP 3, ICMP 4, ICMPv6 5, all others 0.
INLINE u32 class_of_protocol(u32 protocol) { return node.protocol_class[protocol & 255]; }

// What the policy says to a peer. ICMP: `port` is the type; 0 where there is none. A later fragment
// comes with port 0, which only rules for all ports match.
INLINE struct verdict judge(u32 half, u32 direction, u32 leaf, u32 protocol_class, u32 port,
                            u32 fragment) {
  const struct policy *at = &policy.halves[half];
  struct verdict out;
  u32 row = direction * CLASSES + (leaf & (CLASSES - 1));
  protocol_class &= 7;
#if INTERVALS
  u32 first = at->rows[row].first;
  u32 count = at->rows[row].count;
  u32 key = protocol_class << 16 | port;
  u32 position = 0;
#pragma unroll
  for (u32 step = 1u << (INTERVAL_STEPS - 1); step; step >>= 1) {
    u32 next = position + step;
    u32 begins = at->keys[(first + next) & (INTERVALS - 1)];
    position += step & -((next - count) >> 31 & (begins - key - 1) >> 31);
  }
  out.cell = first + position;
  u32 cell = at->cells[out.cell & (INTERVALS - 1)];
#else
  u32 page = at->page_of_port[((direction * 8 + protocol_class) * 1024 + (port >> 6)) & 16383];
  u32 column = at->pages[(page * 64 + (port & 63)) & (PAGES * 64 - 1)];
  out.cell = at->rows[row] + column;
  u32 cell = at->cells[out.cell & (CELLS - 1)];
#endif
  out.identity = leaf >> IDENTITY_SHIFT;
  out.record = cell & CELL_RECORD;
  out.drop = 0;
  u32 what = cell >> 14;
  out.outcome = what == CELL_REDIRECT ? OUTCOME_REDIRECT : OUTCOME_PASS;
  if (what == CELL_DROP) {
    out.outcome = OUTCOME_DROP;
    out.drop = at->records[out.record & (RECORDS - 1)].drop;
    if (out.drop == 0) out.drop = DROP_EP_NOT_READY;
    if (fragment && out.drop == DROP_POLICY) out.drop = DROP_FRAG_NOSUPPORT;
  }
  return out;
}
