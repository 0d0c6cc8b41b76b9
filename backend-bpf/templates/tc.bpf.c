
// ---- the programs

// Hooks, set by the compiler; VLAN: look behind tags. With their texts standing above:
//   PRELUDE  int policyc_prelude(struct __sk_buff *skb), in front of the verdict:
//            PRELUDE_CONTINUE, or what tc does with the packet. It may call policyc_event()
//   HTTP     int policyc_http(struct __sk_buff *skb, u32 filter, u32 offset), where a TCP packet
//            would be handed to the proxy and the record names a filter; its payload begins at the
//            offset, and lasts to data_end. Gives OUTCOME_PASS, OUTCOME_DROP or OUTCOME_REDIRECT
// STATEFUL puts connection tracking (above) around the same verdict; EVENTS tells of it.

// skb->cb after the run where NODE_OBSERVE asks for it: outcome, drop reason, record, identity,
// cell.
INLINE void observe(struct __sk_buff *skb, const struct verdict *v) {
  volatile u32 *cb = skb->cb;
  cb[0] = v->outcome;
  cb[1] = v->drop;
  cb[2] = v->record;
  cb[3] = v->identity;
  cb[4] = v->cell;
}

#ifdef HTTP
static long (*const bpf_skb_pull_data)(struct __sk_buff *skb, u32 length) = (void *)39;

// How many bytes of the packet lie between data and data_end.
INLINE long bytes_here(const struct __sk_buff *skb) {
  return (const u8 *)(long)skb->data_end - (const u8 *)(long)skb->data;
}

// Only a packet whose bytes all lie here, and are all meant by its IP header, is shown to a filter.
// 1 where it was.
INLINE u32 ask_http(struct __sk_buff *skb, const struct headers *h, u32 half, struct verdict *v) {
  const u8 *frame = (const u8 *)(long)skb->data;
  const u8 *end = (const u8 *)(long)skb->data_end;
  u32 filter = policy.halves[half].records[v->record & (RECORDS - 1)].filter;
  u32 asked = 0;
  if (filter == 0 || h->protocol != 6 || h->fragment) return 0;
#ifdef STATEFUL
  if (h->ip + 20 > end) return 0;  // known once, and forgotten
#endif
  const u8 *l4 = h->l4;
  if (l4 + 20 > end) return 0;
  const u8 *payload = l4 + (l4[12] >> 4) * 4;
  if (payload > end) return 0;
  long length = h->family == 4 ? big16(h->ip + 2) : big16(h->ip + 4) + 40;
  if (length == payload - h->ip) {
    if (node.proxy_port == 0) v->outcome = OUTCOME_PASS;  // handshake, acknowledgement, end
  } else if (length == end - h->ip) {
    u64 offset = payload - frame;
    if (offset < 512) {
      v->outcome = policyc_http(skb, filter, offset);
      asked = 1;
    }
  }
  if (v->outcome == OUTCOME_DROP) v->drop = DROP_POLICY;
  return asked;
}
#endif

INLINE int tc_action(struct __sk_buff *skb, const struct verdict *v) {
  if (v->outcome == OUTCOME_DROP) return TC_ACT_SHOT;
  if (v->outcome == OUTCOME_REDIRECT) {
    // Nobody is there to read the request: closed rather than open.
    if (node.proxy_port == 0) return TC_ACT_SHOT;
    skb->mark = 0x0200 | node.proxy_port << 16;
  }
  return TC_ACT_OK;
}

INLINE int policyc(struct __sk_buff *skb, u32 direction) {
#ifdef PRELUDE
#ifdef EVENTS
  *(volatile u32 *)&skb->cb[0] = direction;  // for policyc_event()
#endif
  int early = policyc_prelude(skb);
  if (early != PRELUDE_CONTINUE) {
    struct verdict by_prelude = {.outcome = OUTCOME_PRELUDE};
    if (node.flags & NODE_OBSERVE) observe(skb, &by_prelude);
    return early;
  }
#endif
#ifdef HTTP
  // Payload may lie elsewhere than the headers; what is too long to be decided may stay there.
  if (skb->len > bytes_here(skb) && skb->len < 4096) bpf_skb_pull_data(skb, skb->len);
#endif
  u32 flags = node.flags;
  struct verdict v = {};
  struct headers h;
  u32 half = current_half();
  u32 tell = 0;  // whether this is an event
  v.drop = parse(skb, half, direction, &h);
  if (v.drop) {
    v.outcome = OUTCOME_DROP;
  } else if (h.family == 0) {
    v.outcome = OUTCOME_NOT_SUBJECT;  // ARP and the like
  } else if (h.frag_needed) {
    v.outcome = OUTCOME_PASS;  // always, or path MTU discovery breaks
  } else {
#ifdef STATEFUL
    struct tracked t;
    forget_the_way(skb, &h);
    if (!track(skb, direction, &h, &t, &v)) {
      struct question q = {half, direction, h.leaf, h.protocol_class, h.port, h.fragment};
      core(&q, &v);
#else
    {
      v = judge(half, direction, h.leaf, h.protocol_class, h.port, h.fragment);
#endif
#if defined(EVENTS) && !defined(STATEFUL)
      tell = opens_flow(skb, &h);
#endif
#ifdef HTTP
      if (v.outcome == OUTCOME_REDIRECT && skb->len == bytes_here(skb)) {
        tell |= ask_http(skb, &h, half, &v);
      }
#endif
#ifdef STATEFUL
      if (v.outcome != OUTCOME_DROP) tell |= remember(&t, v.outcome);
#endif
    }
  }
#ifdef EVENTS
  if (tell || !goes_on(&v)) report(skb, half, direction, &v);
#endif
  if (flags & NODE_OBSERVE) observe(skb, &v);
  return tc_action(skb, &v);
}

// Two names of one kind of section, so that `tc filter ... section` can tell the programs apart.
SEC("tc") int policyc_ingress(struct __sk_buff *skb) { return policyc(skb, INGRESS); }
SEC("classifier") int policyc_egress(struct __sk_buff *skb) { return policyc(skb, EGRESS); }

char license_text[] SEC("license") = "Apache-2.0";
