
// ---- connection tracking (STATEFUL)

// Replies of tracked flows, and ICMP errors about them, pass without being judged; everything else
// is judged packet by packet, of new flows and of old ones. Flows are those that the policy let
// through. Lifetimes are Cilium's defaults.

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value,
                                u64 flags) = (void *)2;
static u64 (*const ktime_get_ns)(void) = (void *)5;

#define SECOND 1000000000ull
#define LIFETIME_TCP (8000 * SECOND)
#define LIFETIME_OTHER (60 * SECOND)  // also of TCP before the first reply
#define LIFETIME_CLOSING (10 * SECOND)
#define FLOWS 65536
#define FRAGMENTS 8192
#define MAP_TYPE_LRU_HASH 9

// Addresses in network order, IPv4 in the first word; ports in host order. ICMP echo: the
// identifier is the peer's port, whoever asks.
struct flow_key {
  u32 local[4], peer[4];  // local: the endpoint's
  u16 local_port, peer_port;
  u8 protocol;
  u8 family;
  u8 opened;  // INGRESS: by the peer; EGRESS: by the endpoint
  u8 zero;
};
enum {
  FLOW_REPLIED = 1,
  FLOW_PROXIED = 2,
  FLOW_FIN_FORWARD = 4,
  FLOW_FIN_REPLY = 8,
  FLOW_RESET = 16
};
struct flow {
  u64 expires;  // ktime
  u32 flags;    // FLOW_*
  u32 zero;
};
struct {
  int (*type)[MAP_TYPE_LRU_HASH];
  int (*max_entries)[FLOWS];
  struct flow_key *key;
  struct flow *value;
} flows SEC(".maps");

// What the first fragment of a packet says of all of them.
struct fragment_key {
  u32 source[4], destination[4];
  u32 id;
  u8 protocol;
  u8 family;
  u8 direction;
  u8 zero;
};
struct fragment_ports {
  u16 source, destination;
};
struct {
  int (*type)[MAP_TYPE_LRU_HASH];
  int (*max_entries)[FRAGMENTS];
  struct fragment_key *key;
  struct fragment_ports *value;
} fragments SEC(".maps");

struct tracked {
  struct flow_key key;
  u32 trackable;  // 0: a packet that opens no flow and belongs to none
  u32 tcp_flags;
};
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

INLINE u32 has_ports(u32 protocol) { return protocol == 6 || protocol == 17 || protocol == 132; }

INLINE void copy_address(u32 *to, const u8 *from, u32 family) {
  const u32 *words = (const u32 *)from;
  to[0] = words[0];
  to[1] = family == 6 ? words[1] : 0;
  to[2] = family == 6 ? words[2] : 0;
  to[3] = family == 6 ? words[3] : 0;
}

// The headers by their offsets, with nothing that the kernel's verifier remembers of the way by
// which they were found: what follows is verified once, and not once for each of these ways.
#define FORGET(x) __asm__ volatile("" : "+r"(x))
INLINE void forget_the_way(struct __sk_buff *skb, struct headers *h) {
  u32 ip = h->ip_at, l4 = h->l4_at, part = h->part_at;
  FORGET(ip);
  FORGET(l4);
  FORGET(part);
  FORGET(h->family);
  FORGET(h->leaf);
  FORGET(h->protocol);
  FORGET(h->protocol_class);
  FORGET(h->port);
  FORGET(h->fragment);
  h->part_at = part;
  const u8 *frame = (const u8 *)(long)skb->data;
  h->ip = frame + (ip & 0x3fff);
  h->l4 = frame + (l4 & 0x3fff);
}

// Fills in both ports: of a later fragment from the first, which leaves them here. 0, or a drop
// reason.
INLINE u32 read_ports(struct headers *h, const u8 *frame, const u8 *end, u32 direction,
                      struct fragment_ports *ports, u32 *echo) {
  ports->source = 0;
  ports->destination = h->port;
  *echo = 0;
  struct fragment_key key = {};
  u32 part = h->part_at;
  if (part) {
    const u8 *id = frame + bounded(part) + (h->family == 4 ? 0 : 4);
    if (id + 4 > end) return DROP_INVALID;
    key.id = h->family == 4 ? big16(id) : big32(id);
    key.protocol = h->protocol;
    key.family = h->family;
    key.direction = direction;
    if (h->family == 4) {
      if (h->ip + 20 > end) return DROP_INVALID;
      copy_address(key.source, h->ip + 12, 4);
      copy_address(key.destination, h->ip + 16, 4);
    } else {
      if (h->ip + 40 > end) return DROP_INVALID;
      copy_address(key.source, h->ip + 8, 6);
      copy_address(key.destination, h->ip + 24, 6);
    }
  }
  u32 icmp = h->protocol == 1 || h->protocol == 58;
  if (!h->fragment) {
    const u8 *l4 = h->l4;
    if (has_ports(h->protocol)) {
      if (l4 + 4 > end) return DROP_INVALID;
      ports->source = big16(l4);
    } else if (icmp && l4 + 8 <= end) {
      ports->source = big16(l4 + 4);
    }
    if (part) map_update(&fragments, &key, ports, 0);
  } else if (has_ports(h->protocol) || icmp) {
    struct fragment_ports *first = map_lookup(&fragments, &key);
    if (!first) return DROP_FRAG_NOT_FOUND;
    *ports = *first;
    h->port = first->destination;
    h->fragment = 0;  // judged as the first was
  }
  if (h->protocol == 1) *echo = h->port == 8 ? 1 : h->port == 0 ? 2 : 0;
  if (h->protocol == 58) *echo = h->port == 128 ? 1 : h->port == 129 ? 2 : 0;
  return 0;
}

INLINE u64 lifetime(u32 protocol, u32 flags) {
  if (protocol != 6) return LIFETIME_OTHER;
  u32 both = FLOW_FIN_FORWARD | FLOW_FIN_REPLY;
  if (flags & FLOW_RESET || (flags & both) == both) return LIFETIME_CLOSING;
  return flags & FLOW_REPLIED ? LIFETIME_TCP : LIFETIME_OTHER;
}

INLINE struct flow *live_flow(const struct flow_key *key, u64 now) {
  struct flow *f = map_lookup(&flows, key);
  return f && f->expires > now ? f : 0;
}

// Whether an ICMP error tells of a packet of a tracked flow. The error must go to whom sent that
// packet.
// Not asked of later fragments: what stands there is no ICMP header.
INLINE u32 related(const struct headers *h, const u8 *end, u32 direction, u64 now) {
  u32 v4 = h->protocol == 1 && h->family == 4 && (h->port == 3 || h->port == 11 || h->port == 12);
  u32 v6 = h->protocol == 58 && h->family == 6 && h->port >= 1 && h->port <= 4;
  if (!v4 && !v6) return 0;
  const u8 *inner = h->l4 + 8;
  struct flow_key key = {};
  u32 *source = direction == INGRESS ? key.local : key.peer;
  u32 *destination = direction == INGRESS ? key.peer : key.local;
  const u8 *ports;
  u32 outer[4] = {};
  if (v4) {
    if (inner + 20 > end || h->ip + 20 > end || big16(inner + 6) & 0x1fff) return 0;
    u32 length = (inner[0] & 15u) * 4;
    if (inner[0] >> 4 != 4 || length < 20) return 0;
    copy_address(source, inner + 12, 4);
    copy_address(destination, inner + 16, 4);
    copy_address(outer, h->ip + 16, 4);
    key.protocol = inner[9];
    key.family = 4;
    ports = inner + length;
  } else {
    if (inner + 40 > end || h->ip + 40 > end || inner[0] >> 4 != 6) return 0;
    copy_address(source, inner + 8, 6);
    copy_address(destination, inner + 24, 6);
    copy_address(outer, h->ip + 24, 6);
    key.protocol = inner[6];
    key.family = 6;
    ports = inner + 40;
  }
  if (outer[0] != source[0] || outer[1] != source[1] || outer[2] != source[2] ||
      outer[3] != source[3]) {
    return 0;
  }
  if (ports + 8 > end) return 0;
  if (has_ports(key.protocol)) {
    u16 from = big16(ports), to = big16(ports + 2);
    key.local_port = direction == INGRESS ? from : to;
    key.peer_port = direction == INGRESS ? to : from;
  } else if ((key.protocol == 1 && (ports[0] == 8 || ports[0] == 0)) ||
             (key.protocol == 58 && (ports[0] == 128 || ports[0] == 129))) {
    key.peer_port = big16(ports + 4);
  } else {
    return 0;
  }
  key.opened = INGRESS;
  if (live_flow(&key, now)) return 1;
  key.opened = EGRESS;
  return live_flow(&key, now) != 0;
}

INLINE void note_flags(struct flow *f, u32 protocol, u32 tcp_flags, u32 fin, u64 now) {
  u32 flags = f->flags;
  if (protocol == 6) {
    if (tcp_flags & TCP_FIN) flags |= fin;
    if (tcp_flags & TCP_RST) flags |= FLOW_RESET;
  }
  f->flags = flags;
  f->expires = now + lifetime(protocol, flags);
}

// Before the policy is asked. 1: it need not be, `v` says what becomes of the packet.
static __attribute__((noinline)) u32 track(struct __sk_buff *skb, u32 direction, struct headers *h,
                                           struct tracked *t, struct verdict *v) {
  const u8 *end = (const u8 *)(long)skb->data_end;
  struct fragment_ports ports;
  u32 echo;
  u32 later = h->fragment;
  t->trackable = 0;
  v->outcome = OUTCOME_PASS;
  v->drop = read_ports(h, (const u8 *)(long)skb->data, end, direction, &ports, &echo);
  if (v->drop) {
    v->outcome = OUTCOME_DROP;
    return 1;
  }
  u64 now = ktime_get_ns();
  if (!has_ports(h->protocol) && !echo) return !later && related(h, end, direction, now);
  struct flow_key *key = &t->key;
  __builtin_memset(key, 0, sizeof *key);
  u32 *source = direction == INGRESS ? key->peer : key->local;
  u32 *destination = direction == INGRESS ? key->local : key->peer;
  if (h->family == 4) {
    if (h->ip + 20 > end) return 0;
    copy_address(source, h->ip + 12, 4);
    copy_address(destination, h->ip + 16, 4);
  } else {
    if (h->ip + 40 > end) return 0;
    copy_address(source, h->ip + 8, 6);
    copy_address(destination, h->ip + 24, 6);
  }
  key->protocol = h->protocol;
  key->family = h->family;
  if (echo) {
    key->peer_port = ports.source;
  } else {
    key->peer_port = direction == INGRESS ? ports.source : ports.destination;
    key->local_port = direction == INGRESS ? ports.destination : ports.source;
  }
  t->tcp_flags = h->protocol == 6 && !later && h->l4 + 14 <= end ? h->l4[13] : 0;
  // A segment that opens a connection is no reply, whatever was tracked before. An echo request is
  // none either, and an echo reply opens nothing.
  u32 opens = h->protocol == 6 ? (t->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN : echo == 1;
  if (!opens) {
    key->opened = direction == INGRESS ? EGRESS : INGRESS;
    struct flow *f = live_flow(key, now);
    if (f) {
      f->flags |= FLOW_REPLIED;
      note_flags(f, h->protocol, t->tcp_flags, FLOW_FIN_REPLY, now);
      if (f->flags & FLOW_PROXIED) v->outcome = OUTCOME_REDIRECT;  // back through the proxy
      return 1;
    }
  }
  key->opened = direction;
  t->trackable = echo != 2;
  return 0;
}

// After the policy let the packet pass, or gave it to the proxy. With EVENTS: 1 for a flow's first
// packet.
static __attribute__((noinline)) u32 remember(struct tracked *t, u32 outcome) {
  if (!t->trackable) return 0;
  u64 now = ktime_get_ns();
  u32 proxied = outcome == OUTCOME_REDIRECT ? FLOW_PROXIED : 0;
  struct flow *f = live_flow(&t->key, now);
  u32 opens = t->key.protocol == 6 && (t->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
  u32 ended = FLOW_RESET | FLOW_FIN_FORWARD | FLOW_FIN_REPLY;
  if (f && !(opens && f->flags & ended)) {
    f->flags = (f->flags & ~FLOW_PROXIED) | proxied;  // as the policy says now
    note_flags(f, t->key.protocol, t->tcp_flags, FLOW_FIN_FORWARD, now);
    return 0;
  }
  struct flow fresh = {};
  fresh.flags = proxied;
  note_flags(&fresh, t->key.protocol, t->tcp_flags, FLOW_FIN_FORWARD, now);
  map_update(&flows, &t->key, &fresh, 0);
#ifdef EVENTS
  return 1;
#endif
  return 0;
}

// The core as a subprogram: what it says does not depend on anything tracked.
struct question {
  u32 half, direction, leaf, protocol_class, port, fragment;
};
static __attribute__((noinline)) u32 core(const struct question *q, struct verdict *v) {
  *v = judge(q->half & 1, q->direction & 1, q->leaf, q->protocol_class, q->port & 65535,
             q->fragment);
  return 0;
}
