// One endpoint's network policy, both directions. The text is the same for every policy: what
// differs between policies is the contents of the tables, which come from image files and can be
// exchanged while the program runs.
//
//   policyc_ingress  packets on their way to the endpoint; the peer is the source address
//   policyc_egress   packets on their way from the endpoint; the peer is the destination address
//
// peer address --trie, hash--> leaf: identity, node class --rows--> row of decisions --+
//                                                                                       +-> cell
// protocol, port --page_of_port--> page --pages--> column ------------------------------+
//
// No helpers, no loops that the kernel must bound, no maps besides two arrays. Tables that were
// never filled drop everything. By hand:
//   clang -target bpf -mcpu=v3 -O2 -g -c FILE.c -o FILE.o

typedef unsigned char u8;
typedef unsigned short u16;
typedef short s16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// The part of the kernel's struct __sk_buff that is used here (linux/bpf.h).
struct __sk_buff {
  u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
  u32 priority, ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end;
};

// What tc does with the packet (linux/pkt_cls.h).
enum { TC_ACT_OK = 0, TC_ACT_SHOT = 2 };

// Drop reasons carry Cilium's numbers without the sign (bpf/lib/common.h).
enum {
  DROP_POLICY = 133,          // no rule allows it
  DROP_INVALID = 134,         // headers are malformed or cut off
  DROP_UNKNOWN_L3 = 139,      // no identity: the address family is not in use
  DROP_INVALID_EXTHDR = 156,  // more IPv6 extension headers than are looked at
  DROP_FRAG_NOSUPPORT = 157,  // later fragment, and no rule allows its protocol whatever the port
  DROP_FRAG_NOT_FOUND = 175,  // later fragment whose first one was not seen (STATEFUL)
  DROP_NO_PROXY = 178,        // left to a proxy, and there is none (in events)
  DROP_POLICY_DENY = 181,     // a deny rule
  DROP_VLAN_FILTERED = 182,   // tagged frame
  DROP_AUTH_REQUIRED = 189,   // the rule asks for authentication that has not taken place
  DROP_EP_NOT_READY = 203     // the tables were never filled
};

// What a prelude gives when it leaves the packet to the policy.
enum { PRELUDE_CONTINUE = -1 };

enum { INGRESS = 0, EGRESS = 1 };
enum {
  OUTCOME_NOT_SUBJECT = 0,
  OUTCOME_PASS = 1,
  OUTCOME_DROP = 2,
  OUTCOME_REDIRECT = 3,
  OUTCOME_PRELUDE = 4  // the policy was not asked
};

// ---- tables (backend-bpf/layout.h says the same for the compiler)

// Where a packet's fate stands: bits 14-15 say what to do, the others name the record, which is
// read only where more must be known.
enum { CELL_DROP = 0, CELL_ALLOW = 1, CELL_REDIRECT = 2 };
#define CELL_RECORD 0x3fff

struct record {
  u8 verdict;   // CELL_* before authentication is asked for
  u8 reason;    // why, as the policy compiler numbers it
  u8 parser;    // which proxy parser, 0 = none
  u8 priority;  // proxy priority
  u8 auth;      // 0 = none asked for
  u8 reserved;
  u16 drop;     // drop reason, 0 if it passes
  u16 filter;   // which HTTP filter, 0 = none
  u16 reserved2;
};

// Trie entries: a block number, or a leaf. Leaves hold identity index + 1 << IDENTITY_SHIFT | node
// class, or identity index + 1 alone where every identity is its own class. 0: no identity.
#define CHILD 0x80000000u   // a block number follows
#define HASHED 0x40000000u  // leaf; host routes below it are in the hash
#define LEAF 0x3fffffffu

// Host routes, eight in a cache line.
struct bucket4 {
  u32 address[8];
  u32 leaf[8];
};
struct bucket6 {
  u32 tag[8];   // part of the hash
  u32 host[8];  // which of hosts6
};
struct host6 {
  u32 address[4];
  u32 leaf;
  u32 reserved[3];
};

// Who an address is. IPv4: strides of 16, 8 and 8 bits; IPv6: strides of 8 bits, block 0 is the
// root.
struct addresses {
  u32 root4[65536];
  u32 blocks4[TRIE4_BLOCKS * 256];
  struct bucket4 hash4[1 << HASH4_BITS];
  struct bucket6 hash6[1 << HASH6_BITS];
  struct host6 hosts6[HOSTS6];
  u32 blocks6[TRIE6_BLOCKS * 256];
};

// What the endpoints of a node have in common; they share this map.
enum { NODE_OBSERVE = 1 };
struct node {
  u32 generation;  // its lowest bit selects the half of all tables, here and in every endpoint
  u32 flags;       // NODE_OBSERVE: say in skb->cb what was decided
  u32 proxy_port;  // network byte order; 0: no proxy, what would be redirected is dropped
  u32 reserved[13];
  u8 protocol_class[256];  // protocols with ports or types have a class of their own, others 0
  struct addresses halves[2];
};
struct node node SEC(".bss");

// What the policy of an endpoint says.
struct policy {
  struct record records[RECORDS];  // 0: no identity
#if INTERVALS
  struct {
    u32 first, count;
  } rows[2 * CLASSES];    // [direction][node class]: an ascending list of intervals
  u32 keys[INTERVALS];    // protocol class << 16 | first port
  u16 cells[INTERVALS];
#else
  u32 rows[2 * CLASSES];           // [direction][node class]: where the row of cells begins
  u16 page_of_port[2 * 8 * 1024];  // [direction][protocol class, 8 of them][port / 64]
  u16 pages[PAGES * 64];           // [page][port % 64] = column
  u16 cells[CELLS];                // [row + column] = CELL_* << 14 | record
#endif
};
struct {
  struct policy halves[2];
} policy SEC(".data.policy");
