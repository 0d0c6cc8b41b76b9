// Notes every TCP segment to port 80 that carries something, and leaves it to the policy.
static int policyc_prelude(struct __sk_buff *skb) {
  const u8 *ip = (const u8 *)(long)skb->data + 14, *end = (const u8 *)(long)skb->data_end;
  if (ip + 20 > end || big16(ip - 2) != 0x0800 || ip[9] != 6) return PRELUDE_CONTINUE;
  const u8 *tcp = ip + (ip[0] & 15) * 4;
  if (tcp + 20 > end || big16(tcp + 2) != 80) return PRELUDE_CONTINUE;
  if (tcp + (tcp[12] >> 4) * 4 < end) policyc_event(skb, 80);
  return PRELUDE_CONTINUE;
}
