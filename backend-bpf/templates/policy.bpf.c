// One endpoint's network policy, both directions. The text is the same for every policy: what differs
// between policies is the contents of the tables, which come from image files and can be exchanged while
// the program runs.
//
//   policyc_ingress  packets on their way to the endpoint; the peer is the source address
//   policyc_egress   packets on their way from the endpoint; the peer is the destination address
//
// peer address --trie--> identity --class_of--> identity class --+
//                                                                 +--cells--> record: verdict, reason
// protocol, port --page_of_port--> page --pages--> column --------+
//
// No helpers, no loops that the kernel must bound, no maps besides two arrays. Tables that were never
// filled drop everything. By hand: clang -target bpf -O2 -g -c policy.bpf.c -o policy.bpf.o

typedef unsigned char u8;
typedef unsigned short u16;
typedef short s16;
typedef unsigned int u32;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// Table sizes, powers of two; policyc sets them for the policy at hand.
#ifndef TRIE4_BLOCKS
#define TRIE4_BLOCKS 16
#define TRIE6_BLOCKS 64
#define IDENTITIES 1024
#define PAGES 64
#define CELLS 4096
#define RECORDS 64
#endif

// The part of the kernel's struct __sk_buff that is used here (linux/bpf.h).
struct __sk_buff {
  u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
  u32 priority, ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end;
};

// What tc does with the packet (linux/pkt_cls.h).
enum { TC_ACT_OK = 0, TC_ACT_SHOT = 2 };

// Drop reasons carry Cilium's numbers without the sign (bpf/lib/common.h).
enum {
  DROP_POLICY = 133,         // no rule allows it
  DROP_INVALID = 134,        // headers are malformed or cut off
  DROP_UNKNOWN_L3 = 139,     // no identity: the address family is not in use
  DROP_INVALID_EXTHDR = 156, // more IPv6 extension headers than are looked at
  DROP_FRAG_NOSUPPORT = 157, // later fragment: its ports are not known
  DROP_POLICY_DENY = 181,    // a deny rule
  DROP_VLAN_FILTERED = 182,  // tagged frame
  DROP_AUTH_REQUIRED = 189   // the rule asks for authentication that has not taken place
};

enum { INGRESS = 0, EGRESS = 1 };
enum { RECORD_DENY = 0, RECORD_ALLOW = 1, RECORD_REDIRECT = 2 };

// skb->cb after the run, for whoever watches: what was decided and from which table entries.
enum {
  CB_OUTCOME,   // OUTCOME_*
  CB_DROP,      // drop reason, 0 if not dropped
  CB_RECORD,    // record + 1, 0 where the policy was not asked
  CB_IDENTITY,  // identity index + 1, 0 where there is none
  CB_CELL       // identity class << 16 | column
};
enum { OUTCOME_NOT_SUBJECT = 0, OUTCOME_PASS = 1, OUTCOME_DROP = 2, OUTCOME_REDIRECT = 3 };

// ---- tables

struct direction_config {
  u32 first_cell;  // where this direction's cells begin
  u32 columns;     // cells in a row
};
struct record {
  u8 verdict;  // RECORD_*
  u8 reason;   // why, as the policy compiler numbers it
  u8 parser;   // which proxy parser, 0 = none
  u8 priority; // proxy priority
  u8 auth;     // 0 = none asked for
  u8 reserved;
  u16 drop;    // drop reason; wins over the verdict
};

// Who an address is. IPv4: strides of 16, 8 and 8 bits; IPv6: strides of 8 bits, block 0 is the root. An
// entry is a block number with CHILD set, or the identity index + 1, or 0: no identity. All endpoints of
// a node can share this map.
#define CHILD 0x80000000u
struct tries {
  u32 root4[65536];
  u32 blocks4[TRIE4_BLOCKS * 256];
  u32 blocks6[TRIE6_BLOCKS * 256];
};
struct tries tries;  // map .bss

// What the policy says.
struct tables {
  struct direction_config direction[2];
  u32 proxy_port;  // network byte order; 0: no proxy, what would be redirected is dropped
  u32 reserved;
  struct record records[RECORDS];
  u16 page_of_port[2 * 8 * 1024];  // [direction][protocol class, 8 of them][port / 64]
  u16 class_of[2 * IDENTITIES];    // [direction][identity]
  u16 pages[PAGES * 64];           // [page][port % 64] = column
  u16 cells[CELLS];                // [first_cell + class * columns + column] = record
};
struct tables tables SEC(".data.policy");

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

// ---- the packet

INLINE u32 big16(const u8 *p) { return (u32)p[0] << 8 | p[1]; }
INLINE u32 big32(const u8 *p) { return big16(p) << 16 | big16(p + 2); }

INLINE int finish(struct __sk_buff *skb, u32 outcome, u32 drop) {
  volatile u32 *cb = skb->cb;
  cb[CB_OUTCOME] = outcome;
  cb[CB_DROP] = drop;
  return outcome == OUTCOME_DROP ? TC_ACT_SHOT : TC_ACT_OK;
}

INLINE int drop(struct __sk_buff *skb, u32 reason) { return finish(skb, OUTCOME_DROP, reason); }

// What the policy says to a peer; `identity` as the tries give it.
INLINE int judge(struct __sk_buff *skb, u32 direction, u32 identity, u32 protocol, u32 port) {
  volatile u32 *cb = skb->cb;
  if (identity == 0) return drop(skb, DROP_UNKNOWN_L3);
  struct decision d = decide(direction, identity - 1, protocol, port);
  cb[CB_RECORD] = d.record + 1;
  cb[CB_IDENTITY] = identity;
  cb[CB_CELL] = d.cell;
  const struct record *r = &tables.records[d.record & (RECORDS - 1)];
  if (r->drop != 0) return drop(skb, r->drop);
  if (r->verdict == RECORD_ALLOW) return finish(skb, OUTCOME_PASS, 0);
  if (r->verdict != RECORD_REDIRECT) return drop(skb, DROP_POLICY);
  if (tables.proxy_port == 0) {
    // Nobody is there to read the request: closed rather than open.
    finish(skb, OUTCOME_REDIRECT, 0);
    return TC_ACT_SHOT;
  }
  skb->mark = 0x0200 | tables.proxy_port << 16;
  return finish(skb, OUTCOME_REDIRECT, 0);
}

// Looks at the transport header at `l4` and asks the policy. ICMP: the type stands for the port.
INLINE int transport(struct __sk_buff *skb, u32 direction, u32 identity, u32 protocol, const u8 *l4) {
  const u8 *end = (const u8 *)(long)skb->data_end;
  u32 port = 0;
  if (protocol == 6 || protocol == 17 || protocol == 132) {
    if (l4 + 4 > end) return drop(skb, DROP_INVALID);
    port = big16(l4 + 2);
  } else if (protocol == 1 || protocol == 58) {
    if (l4 + 2 > end) return drop(skb, DROP_INVALID);
    port = l4[0];
    // "Fragmentation needed" always passes, or path MTU discovery breaks.
    if (protocol == 1 && l4[0] == 3 && l4[1] == 4) return finish(skb, OUTCOME_PASS, 0);
  }
  return judge(skb, direction, identity, protocol, port);
}

INLINE int ipv4(struct __sk_buff *skb, u32 direction, const u8 *ip) {
  const u8 *end = (const u8 *)(long)skb->data_end;
  if (ip + 20 > end) return drop(skb, DROP_INVALID);
  u32 header = (ip[0] & 15u) * 4;
  if (ip[0] >> 4 != 4 || header < 20) return drop(skb, DROP_INVALID);
  if (big16(ip + 6) & 0x1fff) return drop(skb, DROP_FRAG_NOSUPPORT);
  u32 peer = big32(ip + (direction == INGRESS ? 12 : 16));
  return transport(skb, direction, identity_of_v4(peer), ip[9], ip + header);
}

// Hop-by-hop, routing, fragment, authentication, destination options.
INLINE int is_extension(u32 protocol) {
  return protocol == 0 || protocol == 43 || protocol == 44 || protocol == 51 || protocol == 60;
}

INLINE int ipv6(struct __sk_buff *skb, u32 direction, const u8 *ip) {
  const u8 *end = (const u8 *)(long)skb->data_end;
  if (ip + 40 > end || ip[0] >> 4 != 6) return drop(skb, DROP_INVALID);
  u32 identity = identity_of_v6(ip + (direction == INGRESS ? 8 : 24));
  u32 protocol = ip[6];
  const u8 *next = ip + 40;
#pragma unroll
  for (int i = 0; i < 6; i++) {
    if (!is_extension(protocol)) break;
    if (next + 8 > end) return drop(skb, DROP_INVALID);
    if (protocol == 44 && (big16(next + 2) & 0xfff8)) return drop(skb, DROP_FRAG_NOSUPPORT);
    u32 length = protocol == 44 ? 8 : protocol == 51 ? (next[1] + 2u) * 4 : (next[1] + 1u) * 8;
    protocol = next[0];
    next += length;
  }
  if (is_extension(protocol)) return drop(skb, DROP_INVALID_EXTHDR);
  return transport(skb, direction, identity, protocol, next);
}

INLINE int policy(struct __sk_buff *skb, u32 direction) {
  volatile u32 *cb = skb->cb;
  cb[CB_RECORD] = 0;
  cb[CB_IDENTITY] = 0;
  cb[CB_CELL] = 0;
  const u8 *frame = (const u8 *)(long)skb->data;
  const u8 *end = (const u8 *)(long)skb->data_end;
  if (frame + 14 > end) return drop(skb, DROP_INVALID);
  switch (big16(frame + 12)) {
    case 0x0800:
      return ipv4(skb, direction, frame + 14);
    case 0x86dd:
      return ipv6(skb, direction, frame + 14);
    case 0x8100:
    case 0x88a8:
      return drop(skb, DROP_VLAN_FILTERED);
    default:
      return finish(skb, OUTCOME_NOT_SUBJECT, 0);  // ARP and the like: no matter of network policy
  }
}

SEC("tc") int policyc_ingress(struct __sk_buff *skb) { return policy(skb, INGRESS); }
SEC("tc") int policyc_egress(struct __sk_buff *skb) { return policy(skb, EGRESS); }

char license_text[] SEC("license") = "Apache-2.0";
