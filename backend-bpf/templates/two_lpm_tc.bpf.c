
// ---- headers, as in policyc's own program

INLINE u32 big16(const u8 *p) { return __builtin_bswap16(*(const u16 *)p); }

struct headers {
  const u8 *ip;
  const u8 *l4;
  u32 family;  // 4 or 6; 0: no IP
  u32 protocol;
  u32 port;         // destination port, or ICMP type; 0 where there is none
  u32 fragment;     // later fragment: no transport header
  u32 frag_needed;  // ICMP "fragmentation needed"
};

INLINE u32 parse_transport(struct headers *h, const u8 *end) {
  h->port = 0;
  h->frag_needed = 0;
  if (h->fragment) return 0;
  const u8 *l4 = h->l4;
  if (h->protocol == 6 || h->protocol == 17 || h->protocol == 132) {
    if (l4 + 4 > end) return DROP_INVALID;
    h->port = big16(l4 + 2);
  } else if (h->protocol == 1 || h->protocol == 58) {
    if (l4 + 2 > end) return DROP_INVALID;
    h->port = l4[0];
    h->frag_needed = h->protocol == 1 && l4[0] == 3 && l4[1] == 4;
  }
  return 0;
}

INLINE u32 parse_v4(struct headers *h, const u8 *end) {
  const u8 *ip = h->ip;
  if (ip + 20 > end) return DROP_INVALID;
  u32 header = (ip[0] & 15u) * 4;
  if (ip[0] >> 4 != 4 || header < 20) return DROP_INVALID;
  h->family = 4;
  h->protocol = ip[9];
  h->fragment = big16(ip + 6) & 0x1fff;
  h->l4 = ip + header;
  return parse_transport(h, end);
}

// Hop-by-hop, routing, fragment, authentication, destination options.
INLINE int is_extension(u32 protocol) {
  return protocol == 0 || protocol == 43 || protocol == 44 || protocol == 51 || protocol == 60;
}

INLINE u32 parse_v6(struct headers *h, const u8 *end) {
  const u8 *ip = h->ip;
  if (ip + 40 > end || ip[0] >> 4 != 6) return DROP_INVALID;
  u32 protocol = ip[6];
  const u8 *next = ip + 40;
  h->family = 6;
  h->fragment = 0;
#pragma unroll
  for (int i = 0; i < 6; i++) {
    if (!is_extension(protocol) || h->fragment) break;
    if (next + 8 > end) return DROP_INVALID;
    if (protocol == 44) h->fragment = big16(next + 2) & 0xfff8;
    u32 length = protocol == 44 ? 8 : protocol == 51 ? (next[1] + 2u) * 4 : (next[1] + 1u) * 8;
    protocol = next[0];
    next += length;
  }
  if (is_extension(protocol)) return DROP_INVALID_EXTHDR;
  h->protocol = protocol;
  h->l4 = next;
  return parse_transport(h, end);
}

// Finds the headers of a frame. 0, or a drop reason.
INLINE u32 parse(struct __sk_buff *skb, struct headers *h) {
  const u8 *frame = (const u8 *)(long)skb->data;
  const u8 *end = (const u8 *)(long)skb->data_end;
  if (frame + 14 > end) return DROP_INVALID;
  if (skb->vlan_present) return DROP_VLAN_FILTERED;
  u32 type = big16(frame + 12);
  h->ip = frame + 14;
  if (type == 0x8100 || type == 0x88a8) return DROP_VLAN_FILTERED;
  if (type == 0x0800) return parse_v4(h, end);
  if (type == 0x86dd) return parse_v6(h, end);
  h->family = 0;
  return 0;
}

// ---- the programs

INLINE int two_lpm(struct __sk_buff *skb, u32 direction) {
  struct verdict v = {OUTCOME_NOT_SUBJECT, 0, 0, 0, 0};
  struct headers h;
  v.drop = parse(skb, &h);
  if (v.drop) {
    v.outcome = OUTCOME_DROP;
  } else if (h.frag_needed) {
    v.outcome = OUTCOME_PASS;
  } else if (h.family == 4) {
    u32 identity = identity_of(4, (const u32 *)(h.ip + (direction == INGRESS ? 12 : 16)));
    v = judge(direction, identity, h.protocol, h.port, h.fragment);
  } else if (h.family == 6) {
    u32 identity = identity_of(6, (const u32 *)(h.ip + (direction == INGRESS ? 8 : 24)));
    v = judge(direction, identity, h.protocol, h.port, h.fragment);
  }
#if OBSERVE
  volatile u32 *cb = skb->cb;
  cb[0] = v.outcome;
  cb[1] = v.drop;
  cb[2] = v.record;
  cb[3] = v.identity;
  cb[4] = v.cell;
#endif
  if (v.outcome == OUTCOME_DROP) return TC_ACT_SHOT;
  if (v.outcome == OUTCOME_REDIRECT) skb->mark = 0x0200 | v.cell << 16;
  return TC_ACT_OK;
}

SEC("tc") int two_lpm_ingress(struct __sk_buff *skb) { return two_lpm(skb, INGRESS); }
SEC("tc") int two_lpm_egress(struct __sk_buff *skb) { return two_lpm(skb, EGRESS); }

char license_text[] SEC("license") = "Apache-2.0";
