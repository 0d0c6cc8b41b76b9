// ---- the stateless programs

// Hooks of this text, set by the compiler:
//   PRELUDE   a function in front of the verdict, whose text stands above:
//             int policyc_prelude(struct __sk_buff *skb), which gives PRELUDE_CONTINUE or what tc does
INLINE int policy(struct __sk_buff *skb, u32 direction) {
  volatile u32 *cb = skb->cb;
  cb[CB_RECORD] = 0;
  cb[CB_IDENTITY] = 0;
  cb[CB_CELL] = 0;
#ifdef PRELUDE
  int early = policyc_prelude(skb);
  if (early != PRELUDE_CONTINUE) return early;
#endif
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
