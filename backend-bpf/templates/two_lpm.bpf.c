// One endpoint's network policy in the layout of Cilium's own maps: longest prefix match on the
// peer's address, then twice on (identity, direction, protocol, port), once for the identity and
// once for any. Slower than tables; for comparison, and to see what Cilium does with a map image.
//
//   two_lpm_ingress, two_lpm_egress   as policyc_ingress and policyc_egress
//
// By hand: clang -target bpf -mcpu=v3 -O2 -g -c FILE.c -o FILE.o

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// The map layout (backend-bpf/cilium_layout.h); policyc sets it for the release at hand.
#ifndef POLICY_ENTRIES
#define POLICY_ENTRIES 16384
#define IPCACHE_ENTRIES 512000
#define POLICY_VALUE 8      // bytes
#define IPCACHE_VALUE 24    // bytes
#define PRECEDENCE 0        // 1: one u32 ranks entries, 0: deny bit and proxy priority do
#define WORLD_V4 9          // identity of addresses that the ipcache does not know
#define WORLD_V6 10
#define OBSERVE 0           // 1: say in skb->cb what was decided
#endif

// The part of the kernel's struct __sk_buff that is used here (linux/bpf.h).
struct __sk_buff {
  u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
  u32 priority, ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end;
};

enum { TC_ACT_OK = 0, TC_ACT_SHOT = 2 };  // linux/pkt_cls.h

// Drop reasons carry Cilium's numbers without the sign (bpf/lib/common.h).
enum {
  DROP_POLICY = 133,
  DROP_INVALID = 134,
  DROP_INVALID_EXTHDR = 156,
  DROP_FRAG_NOSUPPORT = 157,
  DROP_POLICY_DENY = 181,
  DROP_VLAN_FILTERED = 182,
  DROP_AUTH_REQUIRED = 189
};

enum { INGRESS = 0, EGRESS = 1 };
enum { OUTCOME_NOT_SUBJECT = 0, OUTCOME_PASS = 1, OUTCOME_DROP = 2, OUTCOME_REDIRECT = 3 };
enum { CHOSEN_NONE = 0, CHOSEN_IDENTITY = 1, CHOSEN_ANY = 2 };

// ---- maps

struct ipcache_key {
  u32 prefixlen;  // 32 + address bits
  u16 cluster;
  u8 zero;
  u8 family;      // 1 = IPv4, 2 = IPv6
  u32 address[4]; // network byte order; IPv4: the first word
};
struct ipcache_value {
  u32 identity;
  u8 rest[IPCACHE_VALUE - 4];
};
struct policy_key {
  u32 prefixlen;  // 40: any protocol; 48: any port; 64: one port
  u32 identity;   // 0 = any
  u8 egress;
  u8 protocol;
  u16 port;       // network byte order
};
struct policy_value {
  u16 proxy_port;  // network byte order
  u8 deny_length;  // bit 0: deny; bits 3-7: prefixlen of the key - 40
  u8 auth;         // bits 0-6: type; bit 7: written by a rule
#if PRECEDENCE
  u32 precedence;
#else
  u8 priority;  // of the proxy
  u8 zero[3];
#endif
  u8 rest[POLICY_VALUE - 8];
};

// Maps are described to the loader by the types of these pointers (BTF).
enum { MAP_LPM_TRIE = 11, NO_PREALLOC = 1 };
struct {
  int (*type)[MAP_LPM_TRIE];
  int (*map_flags)[NO_PREALLOC];
  int (*max_entries)[IPCACHE_ENTRIES];
  struct ipcache_key *key;
  struct ipcache_value *value;
} ipcache SEC(".maps");
struct {
  int (*type)[MAP_LPM_TRIE];
  int (*map_flags)[NO_PREALLOC];
  int (*max_entries)[POLICY_ENTRIES];
  struct policy_key *key;
  struct policy_value *value;
} policy SEC(".maps");

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;

// ---- the verdict

struct verdict {
  u32 outcome;   // OUTCOME_*
  u32 drop;      // drop reason, 0 if not dropped
  u32 record;    // CHOSEN_*: which of the two lookups decided
  u32 identity;  // number of the peer's identity
  u32 cell;      // proxy port, network byte order
};

INLINE u32 identity_of(u32 family, const u32 *address) {
  struct ipcache_key key = {};
  key.family = family == 4 ? 1 : 2;
  key.address[0] = address[0];
  key.prefixlen = 64;
  if (family != 4) {
    key.prefixlen = 160;
    key.address[1] = address[1];
    key.address[2] = address[2];
    key.address[3] = address[3];
  }
  const struct ipcache_value *found = map_lookup(&ipcache, &key);
  if (found && found->identity) return found->identity;
  return family == 4 ? WORLD_V4 : WORLD_V6;
}

// 1: nothing can outrank it.
INLINE int final(const struct policy_value *v) {
#if PRECEDENCE
  return v->precedence == 0xffffffffu;
#else
  return v->deny_length & 1;
#endif
}

// Whether the entry for any identity decides, and not the one for the peer's.
INLINE int any_decides(const struct policy_value *any, const struct policy_value *peer) {
  if (!peer) return 1;
#if PRECEDENCE
  if (any->precedence != peer->precedence) return any->precedence > peer->precedence;
#else
  if (any->deny_length & 1) return 1;
  if (any->priority != peer->priority) return any->priority > peer->priority;
#endif
  return any->deny_length >> 3 > peer->deny_length >> 3;
}

INLINE u32 auth_of(const struct policy_value *chosen, const struct policy_value *other) {
  u32 own = chosen->auth & 0x7f;
  if (!other || chosen->auth & 0x80) return own;
#if PRECEDENCE
  if (other->precedence != chosen->precedence) return own;
#endif
  u32 lent = other->auth & 0x7f;
  return lent > own ? lent : own;
}

INLINE struct verdict judge(u32 direction, u32 identity, u32 protocol, u32 port, u32 fragment) {
  struct verdict out = {OUTCOME_DROP, DROP_POLICY, CHOSEN_NONE, identity, 0};
  struct policy_key key = {64, identity, direction, protocol, __builtin_bswap16(port)};
  const struct policy_value *peer = map_lookup(&policy, &key);
  const struct policy_value *any = 0;
  if (!peer || !final(peer)) {
    key.identity = 0;
    any = map_lookup(&policy, &key);
  }
  const struct policy_value *chosen = peer;
  out.record = CHOSEN_IDENTITY;
  if (any && any_decides(any, peer)) {
    chosen = any;
    out.record = CHOSEN_ANY;
  }
  if (!chosen) {
    out.record = CHOSEN_NONE;
    if (fragment) out.drop = DROP_FRAG_NOSUPPORT;
    return out;
  }
  if (chosen->deny_length & 1) {
    out.drop = DROP_POLICY_DENY;
    return out;
  }
  if (auth_of(chosen, chosen == any ? peer : any)) {
    out.drop = DROP_AUTH_REQUIRED;
    return out;
  }
  out.drop = 0;
  out.cell = chosen->proxy_port;
  out.outcome = out.cell ? OUTCOME_REDIRECT : OUTCOME_PASS;
  return out;
}
