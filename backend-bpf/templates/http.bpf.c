// ---- HTTP request heads

// One automaton for each filter. A state is the offset, in bytes, of its row in http_steps. The
// first cell of a row is the verdict on a head that ends here, the second the row of http_skips (0:
// none) for bytes that lead from the state to itself, the others the next state for each class of
// bytes. Row 0 is lost: nothing that follows could be decided.
enum { HTTP_UNDECIDED = 0, HTTP_ALLOW = 1, HTTP_DENY = 2 };

// Heads of more than 8 * HTTP_BLOCKS bytes are not decided.
#define HTTP_BLOCKS 192

#define HTTP_ALL(byte) ((u64)(byte)*0x0101010101010101ull)

INLINE u32 http_cell(u32 state, u32 column) {
#if HTTP_WIDE
  return *(const u32 *)((const u8 *)http_steps + ((state + column) & (HTTP_STEPS * 4 - 4)));
#else
  // Any state and any column stay inside the table, so there is nothing to mask.
  return *(const u16 *)((const u8 *)http_steps + column + state);
#endif
}
#define HTTP_CELL (HTTP_WIDE ? 4 : 2)

// Whether eight bytes lead from a state to itself: they are all ASCII and in one of three ranges.
INLINE int http_skips_over(u32 skip, u64 bytes) {
  const struct http_skip *s = &http_skips[skip & (HTTP_SKIPS - 1)];
  if (bytes & HTTP_ALL(0x80)) return 0;
  u64 in = (bytes + s->first[0]) & ~(bytes + s->last[0]);
  in |= (bytes + s->first[1]) & ~(bytes + s->last[1]);
  in |= (bytes + s->first[2]) & ~(bytes + s->last[2]);
  return (in & HTTP_ALL(0x80)) == HTTP_ALL(0x80);
}

// Eight bytes, one after the other. A global function: the verifier reads it once, and knows
// nothing of what it returns; inline, the two ways through a block would double the work with each
// block.
__attribute__((noinline)) u32 http_walk(u32 filter, u32 state, u64 bytes) {
  const u16 *columns = http_columns[filter & (HTTP_FILTERS - 1)];
  state &= HTTP_STATES;
#pragma unroll
  for (int i = 0; i < 8; i++) state = http_cell(state, columns[bytes >> 8 * i & 255]);
  return state;
}

// The verdict on the bytes from p up to end.
static __attribute__((noinline)) int http_head(u32 filter, const u8 *p, const u8 *end) {
  const u16 *columns = http_columns[filter & (HTTP_FILTERS - 1)];
  u32 state = http_starts[filter & (HTTP_FILTERS - 1)] & HTTP_STATES;
  for (u32 block = 0; block < HTTP_BLOCKS; block++) {
    if (p + 8 > end) break;
    u64 bytes = *(const u64 *)p;
    u32 skip = http_cell(state, HTTP_CELL);
    if (skip == 0 || !http_skips_over(skip, bytes)) {
      state = http_walk(filter, state, bytes);
      if (state == 0) return HTTP_UNDECIDED;
    }
    p += 8;
    // One state of affairs, whichever way it came. And the verifier must see that the byte looked
    // at is the one compared with the end.
    asm volatile("" : "+r"(state), "+r"(p));
    state &= HTTP_STATES;
  }
#pragma unroll
  for (int i = 0; i < 7; i++) {
    asm volatile("" : "+r"(p));
    if (p + 1 > end) break;
    state = http_cell(state, columns[*p++]);
  }
  return p < end ? HTTP_UNDECIDED : http_cell(state, 0);
}

#ifdef HTTP
// Without a proxy what is not decided goes nowhere. With one the connection is its own from the
// first packet: only what is denied stops here. A function of its own for the verifier too: it
// reads it once, not once for each way that leads here.
__attribute__((noinline)) int policyc_http(struct __sk_buff *skb, u32 filter, u32 offset) {
  const u8 *payload = (const u8 *)(long)skb->data + (offset & 511);
  const u8 *end = (const u8 *)(long)skb->data_end;
  if (payload >= end) return OUTCOME_REDIRECT;
  int verdict = http_head(filter, payload, end);
  if (verdict == HTTP_DENY) return OUTCOME_DROP;
  return verdict == HTTP_ALLOW && node.proxy_port == 0 ? OUTCOME_PASS : OUTCOME_REDIRECT;
}
#endif
