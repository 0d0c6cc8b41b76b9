// Sees every packet before the policy does, Ethernet header first.
static int policyc_prelude(struct __sk_buff *skb) {
  const u8 *frame = (const u8 *)(long)skb->data, *end = (const u8 *)(long)skb->data_end;
  if (frame + 34 > end || big16(frame + 12) != 0x0800) return PRELUDE_CONTINUE;  // no IPv4
  return big32(frame + 26) == 0xc0000207 ? TC_ACT_SHOT : PRELUDE_CONTINUE;       // 192.0.2.7
}
