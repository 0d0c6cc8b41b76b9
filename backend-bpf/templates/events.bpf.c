
// ---- events (EVENTS)

// One for each packet that does not pass, that opens a flow, or whose request was read here: to a
// ring buffer of the endpoint's own, for `policyc monitor`. Stateless programs take a TCP segment
// with SYN and without ACK, and every packet of another protocol, for one that opens a flow.
// backend-bpf/event.h says the same for the reader.

#define EVENT_RING (256 * 1024)  // bytes
#define EVENT_BYTES 256          // of the packet, at most; a power of two
#define MAP_TYPE_RINGBUF 27

enum { EVENT_VERDICT = 5, EVENT_NOTE = 128 };

struct event {
  u64 time;        // ns since the machine started
  u64 lost;        // events so far for which there was no room
  u32 kind;        // EVENT_*
  u32 generation;  // of the tables that were asked
  int verdict;     // 0: passes, > 0: to the proxy at this port, < 0: drop reason
  u32 outcome;     // OUTCOME_*
  u32 record;      // 0 where the policy was not asked
  u32 identity;    // identity index + 1, 0 where there is none
  u32 length;      // of the packet
  u32 captured;    // bytes of it below
  u32 note;        // EVENT_NOTE: what the prelude gave
  u32 direction;   // INGRESS or EGRESS
  u8 packet[EVENT_BYTES];
};

struct {
  int (*type)[MAP_TYPE_RINGBUF];
  int (*max_entries)[EVENT_RING];
} events SEC(".maps");
struct {
  u64 lost;
} event_state SEC(".data.events");

#ifndef STATEFUL
static u64 (*const ktime_get_ns)(void) = (void *)5;
#endif
static long (*const skb_load_bytes)(struct __sk_buff *skb, u32 offset, void *to,
                                    u32 size) = (void *)26;
static void *(*const ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const ringbuf_submit)(void *entry, u64 flags) = (void *)132;

// Room for an event, with what every event says; 0 where there is none.
INLINE struct event *new_event(struct __sk_buff *skb, u32 kind) {
  struct event *e = ringbuf_reserve(&events, sizeof *e, 0);
  if (!e) {
    __sync_fetch_and_add(&event_state.lost, 1);
    return 0;
  }
  __builtin_memset(e, 0, sizeof *e - EVENT_BYTES);
  e->time = ktime_get_ns();
  e->lost = *(volatile u64 *)&event_state.lost;
  e->kind = kind;
  e->length = skb->len;
  u32 size = skb->len > EVENT_BYTES ? EVENT_BYTES : skb->len;
  __asm__ volatile("" : "+r"(size));
  size = ((size - 1) & (EVENT_BYTES - 1)) + 1;  // frames are not empty; the kernel's verifier asks
  if (skb_load_bytes(skb, 0, e->packet, size) == 0) e->captured = size;
  return e;
}

// A function of its own: the kernel's verifier reads it once.
static __attribute__((noinline)) u32 report(struct __sk_buff *skb, u32 half, u32 direction,
                                            const struct verdict *v) {
  struct event *e = new_event(skb, EVENT_VERDICT);
  if (!e) return 0;
  u32 generation = *(volatile u32 *)&node.generation;
  e->generation = generation - ((generation ^ half) & 1);  // it may have changed meanwhile
  e->direction = direction;
  e->outcome = v->outcome;
  e->record = v->record;
  e->identity = v->identity;
  if (v->outcome == OUTCOME_DROP) e->verdict = -(int)v->drop;
  if (v->outcome == OUTCOME_REDIRECT) {
    e->verdict = node.proxy_port ? __builtin_bswap16(node.proxy_port) : -DROP_NO_PROXY;
  }
  ringbuf_submit(e, 0);
  return 0;
}

// Whether a packet that passes begins something, as far as one packet can tell.
INLINE u32 opens_flow(struct __sk_buff *skb, const struct headers *h) {
  if (h->fragment) return 0;
  if (h->protocol != 6) return 1;
  const u8 *end = (const u8 *)(long)skb->data_end;
  return h->l4 + 14 <= end && (h->l4[13] & 0x12) == 2;
}

INLINE u32 goes_on(const struct verdict *v) {
  return v->outcome == OUTCOME_REDIRECT ? node.proxy_port != 0 : v->outcome != OUTCOME_DROP;
}

// For preludes: the packet's first bytes and a number of your own, for `policyc monitor` to show.
INLINE void policyc_event(struct __sk_buff *skb, u32 note) {
  struct event *e = new_event(skb, EVENT_NOTE);
  if (!e) return;
  e->note = note;
  e->direction = skb->cb[0];
  ringbuf_submit(e, 0);
}
