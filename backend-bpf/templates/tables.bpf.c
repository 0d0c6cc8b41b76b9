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

// What a prelude gives when it leaves the packet to the policy.
enum { PRELUDE_CONTINUE = -1 };

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
