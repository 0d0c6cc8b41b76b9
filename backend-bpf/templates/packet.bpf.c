
// ---- headers

INLINE u32 big16(const u8 *p) { return __builtin_bswap16(*(const u16 *)p); }
INLINE u32 big32(const u8 *p) { return __builtin_bswap32(*(const u32 *)p); }

struct headers {
  const u8 *ip;
  const u8 *l4;        // transport header; in a later fragment whatever stands there
  u32 family;          // 4 or 6; 0: no IP, not a matter of network policy
  u32 leaf;            // who the peer is
  u32 protocol;
  u32 protocol_class;
  u32 port;            // destination port, or ICMP type; 0 where there is none
  u32 fragment;        // later fragment: no transport header
  u32 frag_needed;     // ICMP "fragmentation needed"
  // Offsets from the start of the frame.
  u32 ip_at, l4_at;
  u32 part_at;         // of one part of a packet: the IPv4 id, or IPv6's fragment header; else 0
};

// Looks at the transport header. 0, or a drop reason.
INLINE u32 parse_transport(struct headers *h, const u8 *end) {
  h->port = 0;
  h->frag_needed = 0;
  h->protocol_class = class_of_protocol(h->protocol);
  if (h->fragment || h->protocol_class == 0) return 0;
  const u8 *l4 = h->l4;
  if (h->protocol_class <= 3) {
    if (l4 + 4 > end) return DROP_INVALID;
    h->port = big16(l4 + 2);
  } else {
    if (l4 + 2 > end) return DROP_INVALID;
    h->port = l4[0];
    h->frag_needed = h->protocol == 1 && *(const u16 *)l4 == 0x0403;
  }
  return 0;
}

INLINE u32 parse_v4(struct headers *h, u32 half, u32 direction, const u8 *end) {
  const u8 *ip = h->ip;
  if (ip + 20 > end) return DROP_INVALID;
  u32 header = (ip[0] & 15u) * 4;
  if (ip[0] >> 4 != 4 || header < 20) return DROP_INVALID;
  h->family = 4;
  h->leaf = leaf_of_v4(half, big32(ip + (direction == INGRESS ? 12 : 16)));
  h->protocol = ip[9];
  h->fragment = big16(ip + 6) & 0x1fff;
  h->l4 = ip + header;
  h->l4_at = h->ip_at + header;
  h->part_at = big16(ip + 6) & 0x3fff ? h->ip_at + 4 : 0;
  return parse_transport(h, end);
}

// Offsets behind six extension headers stay below this. The kernel's verifier gets one bound for
// all ways through the headers, and follows what comes then once instead of seven times.
INLINE u32 bounded(u32 offset) {
  __asm__ volatile("" : "+r"(offset));
  return offset & 0x3fff;
}

// Hop-by-hop, routing, fragment, authentication, destination options.
INLINE int is_extension(u32 protocol) {
  return protocol == 0 || protocol == 43 || protocol == 44 || protocol == 51 || protocol == 60;
}

INLINE u32 parse_v6(struct headers *h, u32 half, u32 direction, const u8 *end) {
  const u8 *ip = h->ip;
  if (ip + 40 > end || ip[0] >> 4 != 6) return DROP_INVALID;
  h->family = 6;
  h->leaf = leaf_of_v6(half, (const u32 *)(ip + (direction == INGRESS ? 8 : 24)));
  u32 protocol = ip[6];
  u32 offset = 40;
  h->fragment = 0;
  h->part_at = 0;
#pragma unroll
  for (int i = 0; i < 6; i++) {
    if (!is_extension(protocol) || h->fragment) break;
    const u8 *header = ip + bounded(offset);
    if (header + 8 > end) return DROP_INVALID;
    if (protocol == 44) {
      h->fragment = big16(header + 2) & 0xfff8;
      if (big16(header + 2) & 0xfff9) h->part_at = h->ip_at + offset;
    }
    offset += protocol == 44 ? 8 : protocol == 51 ? (header[1] + 2u) * 4 : (header[1] + 1u) * 8;
    protocol = header[0];
  }
  // What follows in a later fragment is not looked at, so extension headers are not passed there.
  if (is_extension(protocol)) return DROP_INVALID_EXTHDR;
  h->protocol = protocol;
  h->l4 = ip + bounded(offset);
  h->l4_at = h->ip_at + offset;
  return parse_transport(h, end);
}

// Finds the headers of a frame and the peer: the source of what comes in, the destination of what
// goes out. 0, or a drop reason.
INLINE u32 parse(struct __sk_buff *skb, u32 half, u32 direction, struct headers *h) {
  const u8 *frame = (const u8 *)(long)skb->data;
  const u8 *end = (const u8 *)(long)skb->data_end;
  if (frame + 14 > end) return DROP_INVALID;
  u32 type = big16(frame + 12);
  h->ip = frame + 14;
  h->ip_at = 14;
#ifdef VLAN
  // One tag that the device took off, and up to two in the frame.
#pragma unroll
  for (int tags = 0; tags < 2; tags++) {
    if (type != 0x8100 && type != 0x88a8) break;
    if (h->ip + 4 > end) return DROP_INVALID;
    type = big16(h->ip + 2);
    h->ip += 4;
    h->ip_at += 4;
  }
#else
  if (skb->vlan_present) return DROP_VLAN_FILTERED;
#endif
  if (type == 0x0800) return parse_v4(h, half, direction, end);
  if (type == 0x86dd) return parse_v6(h, half, direction, end);
  if (type == 0x8100 || type == 0x88a8) return DROP_VLAN_FILTERED;
  h->family = 0;
  return 0;
}
