
// ---- the tuple walker, for tests: the core over an array of questions, one a run

struct tuple {
  u32 address[4];  // the peer, network byte order; IPv4: the first word
  u8 family;       // 4 or 6
  u8 direction;
  u8 protocol;
  u8 fragment;
  u32 port;        // host order
  struct verdict said;
  u32 reserved;
};
struct {
  u32 next;
  u32 reserved[15];
  struct tuple tuples[WALK_TUPLES];
} walk SEC(".data.walk");

SEC("tc") int policyc_walk(struct __sk_buff *skb) {
  (void)skb;
  struct tuple *t = &walk.tuples[walk.next++ & (WALK_TUPLES - 1)];
  u32 half = current_half();
  u32 leaf = t->family == 4 ? leaf_of_v4(half, __builtin_bswap32(t->address[0]))
                            : leaf_of_v6(half, t->address);
  t->said = judge(half, t->direction & 1, leaf, class_of_protocol(t->protocol), t->port & 0xffff,
                  t->fragment);
  return TC_ACT_OK;
}

char license_text[] SEC("license") = "Apache-2.0";
