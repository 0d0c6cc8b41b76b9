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
