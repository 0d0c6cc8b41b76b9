// What the tables of the datapath mean and what a packet's fate is, written a second time from the
// layout (backend-bpf/layout.h) and not from the programs' text. One definition for two uses: over
// Terms it is what the programs are proved equal to; over Numbers it says what the bytes of one map
// value mean, address by address and cell by cell.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace policyc::verify {

// Sizes of the tables, in elements, and what the program was built with.
struct DatapathShape {
  std::uint32_t trie4_blocks = 0, hash4_bits = 0, hash6_bits = 0, hosts6 = 0, trie6_blocks = 0;
  std::uint32_t classes = 0, identity_shift = 0;
  std::uint32_t pages = 0, cells = 0, records = 0;
  std::uint32_t intervals = 0, interval_steps = 0;  // 0: pages and cells
  bool vlan = false;                                // looks behind VLAN tags
  // How many IPv6 extension headers a packet may have that is looked at with connection tracking:
  // of those with more nothing is claimed. Programs pass six.
  int extension_headers = 6;
  bool stateful = false;  // tracks connections (flow_meaning.h)
  bool http = false;      // reads request heads

  // Byte offsets, worked out here once more.
  std::uint64_t root4() const { return 0; }
  std::uint64_t blocks4() const { return root4() + 65536 * 4; }
  std::uint64_t hash4() const { return blocks4() + std::uint64_t{trie4_blocks} * 1024; }
  std::uint64_t hash6() const { return hash4() + (std::uint64_t{64} << hash4_bits); }
  std::uint64_t hosts() const { return hash6() + (std::uint64_t{64} << hash6_bits); }
  std::uint64_t blocks6() const { return hosts() + std::uint64_t{hosts6} * 32; }
  std::uint64_t node_half() const { return blocks6() + std::uint64_t{trie6_blocks} * 1024; }
  std::uint64_t node_size() const { return 320 + 2 * node_half(); }

  std::uint64_t rows() const { return std::uint64_t{records} * 12; }
  std::uint64_t page_of() const { return rows() + std::uint64_t{classes} * 2 * 4; }
  std::uint64_t pages_at() const { return page_of() + 2 * 8 * 1024 * 2; }
  std::uint64_t keys() const { return rows() + std::uint64_t{classes} * 2 * 8; }
  std::uint64_t cells_at() const {
    return intervals != 0 ? keys() + std::uint64_t{intervals} * 4
                          : pages_at() + std::uint64_t{pages} * 128;
  }
  std::uint64_t policy_half() const {
    return cells_at() + std::uint64_t{intervals != 0 ? intervals : cells} * 2;
  }
  std::uint64_t policy_size() const { return 2 * policy_half(); }
};

enum class DatapathMap : std::uint8_t { Node, Policy };

// `Ops` computes (Terms or Numbers; never(truth): known to be false), `Word` is what it computes
// with, `Tables` reads: word(DatapathMap, byte offset of 32 bits, bytes), and is told with note()
// of values that a program is likely to compute too.
template <class Ops, class Word, class Tables>
class Meaning {
 public:
  Meaning(Ops& ops, const DatapathShape& shape, Tables& tables)
      : o_(ops), s_(shape), tables_(tables) {}

  struct Verdict {
    Word outcome, drop, record, identity, cell;  // 32 bits each
  };

  // `half`: 1 bit. `address`: 32 bits, host order. A leaf of 32 bits.
  Word leaf_of_v4(Word half, Word address) {
    const Word first = node(half, s_.root4(), 4, piece(address, 16, 16), 4);
    const Word second =
        node(half, s_.blocks4(), 4, block(first, piece(address, 8, 8), s_.trie4_blocks), 4);
    const Word third =
        node(half, s_.blocks4(), 4, block(second, piece(address, 0, 8), s_.trie4_blocks), 4);
    const Word deep = o_.and_(child(first), child(second));
    const Word entry = o_.ite(deep, third, o_.ite(child(first), second, first));
    // Eight places for host routes.
    const Word product = o_.mul(address, c(0x9E3779B1, 32));
    const Word bucket = o_.zext(o_.extract(product, 32 - s_.hash4_bits, s_.hash4_bits), 32);
    Word found = c(0, 32);
    for (std::uint64_t k = 0; k < 8; ++k) {
      const Word there = node(half, s_.hash4() + 4 * k, 64, bucket, 4);
      const Word leaf = node(half, s_.hash4() + 32 + 4 * k, 64, bucket, 4);
      found = o_.or_(found, o_.ite(o_.eq(there, address), leaf, c(0, 32)));
    }
    const Word by_hash = o_.and_(o_.extract(entry, 30, 1), o_.not_(o_.eq(found, c(0, 32))));
    return leaf(o_.ite(by_hash, found, entry));
  }

  // `bytes`: the address, 16 words of 8 bits in network order.
  Word leaf_of_v6(Word half, const std::array<Word, 16>& bytes) {
    const auto word = [&](std::size_t first, std::size_t count) {
      Word out = bytes[first];
      for (std::size_t k = 1; k < count; ++k) out = o_.concat(bytes[first + k], out);
      return out;
    };
    const Word mixed = o_.xor_(word(8, 8), o_.mul(word(0, 8), c(0xC2B2AE3D27D4EB4FULL, 64)));
    const Word hash = o_.mul(mixed, c(0x9E3779B97F4A7C15ULL, 64));
    const Word bucket = o_.zext(o_.extract(hash, 64 - s_.hash6_bits, s_.hash6_bits), 32);
    const Word tag = o_.extract(hash, 16, 32);
    Word host = c(0, 32);
    for (std::uint64_t k = 0; k < 8; ++k) {
      const Word there = node(half, s_.hash6() + 4 * k, 64, bucket, 4);
      const Word which = node(half, s_.hash6() + 32 + 4 * k, 64, bucket, 4);
      host = o_.or_(host, o_.ite(o_.eq(there, tag), which, c(0, 32)));
    }
    const Word slot = masked(host, s_.hosts6);
    Word is_host = o_.not_(o_.eq(host, c(0, 32)));
    for (std::uint64_t k = 0; k < 4; ++k) {
      is_host =
          o_.and_(is_host, o_.eq(node(half, s_.hosts() + 4 * k, 32, slot, 4), word(4 * k, 4)));
    }
    const Word host_leaf = node(half, s_.hosts() + 16, 32, slot, 4);
    // The trie: byte by byte from block 0, as long as an entry leads on.
    std::array<Word, 16> entries;
    Word entry = c(0x80000000, 32);
    for (std::size_t k = 0; k < 16; ++k) {
      entry = node(half, s_.blocks6(), 4, block(entry, bytes[k], s_.trie6_blocks), 4);
      entries[k] = entry;
    }
    for (std::size_t k = 15; k != 0; --k)
      entry = o_.ite(child(entries[k - 1]), entry, entries[k - 1]);
    return o_.ite(is_host, host_leaf, leaf(entry));
  }

  // What the policy says to a peer. `protocol_class`: 8 bits; `port`: 32 bits, below 65,536;
  // `fragment`: 1 bit.
  Verdict judge(Word half, unsigned direction, Word leaf, Word protocol_class, Word port,
                Word fragment) {
    const Word row = o_.add(c(direction * s_.classes, 32), masked(leaf, s_.classes));
    const Word kind = o_.zext(o_.extract(protocol_class, 0, 3), 32);
    Word cell_index, cell;
    if (s_.intervals != 0) {
      // The last interval of the row that does not begin behind the key. "Before" is the sign of
      // the difference: exact below 2^31.
      const auto before = [&](Word a, Word b) { return o_.extract(o_.sub(a, b), 31, 1); };
      const Word first = policy(half, s_.rows(), 8, row, 4);
      const Word count = policy(half, s_.rows() + 4, 8, row, 4);
      const Word key = o_.add(o_.shl(kind, c(16, 32)), port);
      Word position = c(0, 32);
      for (std::uint32_t step = 1U << (s_.interval_steps - 1); step != 0; step >>= 1U) {
        const Word next = o_.add(position, c(step, 32));
        const Word begins =
            policy(half, s_.keys(), 4, masked(o_.add(first, next), s_.intervals), 4);
        const Word reached = o_.and_(before(next, count), before(o_.sub(begins, key), c(1, 32)));
        position = o_.add(position, o_.ite(reached, c(step, 32), c(0, 32)));
        tables_.note(position);
      }
      cell_index = o_.add(first, position);
      cell = policy(half, s_.cells_at(), 2, masked(cell_index, s_.intervals), 2);
    } else {
      const Word slot = o_.add(o_.mul(o_.add(c(direction * 8, 32), kind), c(1024, 32)),
                               o_.zext(o_.extract(port, 6, 10), 32));
      const Word page = o_.zext(policy(half, s_.page_of(), 2, slot, 2), 32);
      const Word place = o_.add(o_.mul(page, c(64, 32)), o_.zext(o_.extract(port, 0, 6), 32));
      const Word column =
          o_.zext(policy(half, s_.pages_at(), 2, masked(place, s_.pages * 64), 2), 32);
      cell_index = o_.add(policy(half, s_.rows(), 4, row, 4), column);
      cell = policy(half, s_.cells_at(), 2, masked(cell_index, s_.cells), 2);
    }
    Verdict v;
    v.cell = cell_index;
    v.identity = o_.lshr(leaf, c(s_.identity_shift, 32));
    v.record = o_.zext(o_.extract(cell, 0, 14), 32);
    const Word what = o_.extract(cell, 14, 2);
    const Word said = o_.zext(policy(half, 6, 12, masked(v.record, s_.records), 2), 32);
    const Word reason =
        o_.ite(o_.eq(said, c(0, 32)), c(203, 32),
               o_.ite(o_.and_(fragment, o_.eq(said, c(133, 32))), c(157, 32), said));
    const Word dropped = o_.eq(what, c(0, 2));
    v.drop = o_.ite(dropped, reason, c(0, 32));
    v.outcome = o_.ite(dropped, c(2, 32), o_.ite(o_.eq(what, c(2, 2)), c(3, 32), c(1, 32)));
    return v;
  }

  // The number of the HTTP filter that a record names, 0 for none: 16 bits.
  Word filter_of(Word half, Word record) {
    return policy(half, 8, 12, masked(record, s_.records), 2);
  }

  // The protocol's class as the node map has it; `protocol`: 8 bits.
  Word class_of_protocol(Word protocol) {
    return tables_.word(DatapathMap::Node, o_.add(o_.zext(protocol, 32), c(64, 32)), 1);
  }

  const DatapathShape& shape() const { return s_; }

 private:
  Word c(std::uint64_t value, unsigned width) { return o_.constant(value, width); }
  Word piece(Word a, unsigned lowest, unsigned width) {
    return o_.zext(o_.extract(a, lowest, width), 32);
  }
  // The index among `count` places, a power of two.
  Word masked(Word index, std::uint32_t count) { return o_.and_(index, c(count - 1, 32)); }
  Word child(Word entry) { return o_.extract(entry, 31, 1); }
  Word leaf(Word entry) { return o_.and_(entry, c(0x3FFFFFFF, 32)); }
  // Which entry of the blocks: the block that `entry` names, and a byte.
  Word block(Word entry, Word byte, std::uint32_t blocks) {
    return masked(o_.add(o_.shl(entry, c(8, 32)), o_.zext(byte, 32)), blocks * 256);
  }
  Word at(Word half, std::uint64_t half_size, std::uint64_t base, std::uint64_t stride,
          Word index) {
    const Word offset = o_.add(c(base, 32), o_.mul(index, c(stride, 32)));
    return o_.add(offset, o_.ite(half, c(half_size, 32), c(0, 32)));
  }
  Word node(Word half, std::uint64_t table, std::uint64_t stride, Word index, unsigned bytes) {
    return tables_.word(DatapathMap::Node, at(half, s_.node_half(), 320 + table, stride, index),
                        bytes);
  }
  Word policy(Word half, std::uint64_t table, std::uint64_t stride, Word index, unsigned bytes) {
    return tables_.word(DatapathMap::Policy, at(half, s_.policy_half(), table, stride, index),
                        bytes);
  }

  Ops& o_;
  const DatapathShape& s_;
  Tables& tables_;
};

// What becomes of a packet: what tc is told, and the buffer's fields after the run.
template <class Word>
struct Fate {
  Word action, mark;  // 32 bits each, as all below
  std::array<Word, 5> cb{};
};

// `Packet`: length() of 32 bits; byte(offset of 32 bits), 8 bits; turn(truth) is told where packets
// part ways, and gives the truth back, or a constant where only packets of one way are looked at;
// end(truth) likewise where those for which it holds are dropped at once; follows(truth) is told
// what holds of all that are left; leave_out() is told of packets that are not looked at. `before`
// holds mark and cb before the run; `vlan_present` is the buffer's field; `generation` the word of
// the node map. Of programs that read requests: whole(), whether no byte of the packet lies
// elsewhere than here; request(filter of 16 bits, offset of 9 bits), what becomes of a packet whose
// payload begins there (request_functions.h), 32 bits.
template <class Ops, class Word, class Tables, class Packet>
class PacketMeaning {
 public:
  PacketMeaning(Ops& ops, const DatapathShape& shape, Tables& tables, Packet& packet,
                unsigned direction)
      : o_(ops),
        s_(shape),
        tables_(tables),
        packet_(packet),
        direction_(direction),
        meaning_(ops, shape, tables) {}

  Fate<Word> fate(const Fate<Word>& before, Word vlan_present, Word generation) {
    const Seen h = look(vlan_present, generation);
    return finish(before, settled(h, requested(h, judged(h))));
  }

 protected:
  using Verdict = typename Meaning<Ops, Word, Tables>::Verdict;

  struct Headers {
    Word wrong;  // drop reason or 0
    Word leaf, port;
    Word kind;                   // protocol class, 8 bits
    Word fragment, frag_needed;  // 1 bit
    Word protocol;               // 8 bits
    Word l4;                     // offset of the transport header
    // Of one part of a packet the offset of what says so: in IPv4 of the identification, in IPv6 of
    // the fragment header; else 0.
    Word part;
    Word total;  // length from the IP header on, as that says
  };
  struct Seen : Headers {
    Word ip;            // offset of the IP header
    Word is4, asked;    // 1 bit: IPv4; whether the policy is asked
    Word fine, always;  // 1 bit: nothing is wrong with it; it passes without being judged
  };

  Seen look(Word vlan_present, Word generation) {
    half_ = o_.extract(generation, 0, 1);
    // The frame.
    Word type = big16(c(12));
    Word ip = c(14);
    Word wrong = o_.ite(end(shorter(c(14))), c(134), c(0));
    if (s_.vlan) {
      const Word one = tagged(o_.truth(true), type);
      Word cut = end(o_.and_(one, shorter(c(18))));
      const Word inner = big16(c(16));
      const Word two = tagged(o_.and_(one, o_.not_(cut)), inner);
      cut = o_.or_(cut, end(o_.and_(two, shorter(c(22)))));
      wrong = either(wrong, o_.ite(cut, c(134), c(0)));
      type = o_.ite(two, big16(c(20)), o_.ite(one, inner, type));
      ip = o_.ite(two, c(22), o_.ite(one, c(18), c(14)));
    } else {
      wrong = either(wrong, o_.ite(end(o_.not_(is(vlan_present, 0))), c(182), c(0)));
    }
    const Word whole = is(wrong, 0);
    const Word is4 = turn(o_.and_(whole, o_.eq(type, o_.constant(0x0800, 16))));
    const Word is6 =
        turn(o_.and_(o_.and_(whole, o_.not_(is4)), o_.eq(type, o_.constant(0x86DD, 16))));
    // What is known not to be there is not looked at.
    const Headers h6 = o_.never(is6) ? none() : v6(ip);
    const Headers h4 = o_.never(is4) ? h6 : v4(ip);
    const auto chosen = [&](Word a, Word b) { return o_.ite(is4, a, b); };
    Seen h;
    h.ip = ip;
    h.is4 = is4;
    h.wrong = either(wrong,
                     o_.ite(is4, h4.wrong, o_.ite(is6, h6.wrong, o_.ite(tag(type), c(182), c(0)))));
    h.leaf = chosen(h4.leaf, h6.leaf);
    h.kind = chosen(h4.kind, h6.kind);
    h.port = chosen(h4.port, h6.port);
    h.fragment = chosen(h4.fragment, h6.fragment);
    h.frag_needed = chosen(h4.frag_needed, h6.frag_needed);
    h.protocol = chosen(h4.protocol, h6.protocol);
    h.l4 = chosen(h4.l4, h6.l4);
    h.part = chosen(h4.part, h6.part);
    h.total = chosen(h4.total, h6.total);
    h.fine = is(h.wrong, 0);
    const Word ip_packet = o_.and_(h.fine, o_.or_(is4, is6));
    h.always = o_.and_(ip_packet, o_.ite(is4, h4.frag_needed, o_.and_(is6, h6.frag_needed)));
    h.asked = o_.and_(ip_packet, o_.not_(h.always));
    for (const Word w : {h.fine, h.asked, h.always, ip_packet}) tables_.note(w);
    return h;
  }

  Verdict judged(const Seen& h) {
    return meaning_.judge(half_, direction_, h.leaf, h.kind, h.port, h.fragment);
  }

  // Where it would be left to the proxy, a program that reads requests may decide. Filters see TCP
  // packets whose bytes all lie here and are all meant by the IP header. One without payload opens,
  // goes on with or ends a connection: it passes where no proxy has it.
  Verdict requested(const Seen& h, Verdict v) {
    if (!s_.http || o_.never(h.asked)) return v;
    const Word filter = meaning_.filter_of(half_, v.record);
    const Word size = o_.shl(o_.zext(o_.extract(byte(plus(h.l4, 12)), 4, 4), 32), c(2));
    const Word payload = o_.add(h.l4, size), end = o_.add(h.ip, h.total);
    Word seen = o_.and_(is(v.outcome, 3), o_.eq(h.protocol, o_.constant(6, 8)));
    seen = o_.and_(seen, o_.not_(o_.or_(h.fragment, o_.eq(filter, o_.constant(0, 16)))));
    seen = o_.and_(seen, packet_.whole());
    seen = o_.and_(seen, o_.not_(o_.or_(shorter(plus(h.l4, 20)), shorter(payload))));
    const Word bare = o_.eq(end, payload);
    const Word read = o_.and_(o_.eq(end, packet_.length()), o_.ult(payload, c(512)));
    const Word answer = packet_.request(filter, o_.extract(payload, 0, 9));
    const Word decided =
        o_.ite(bare, o_.ite(is(proxy_port(), 0), c(1), c(3)), o_.ite(read, answer, c(3)));
    v.outcome = o_.ite(seen, decided, v.outcome);
    v.drop = o_.ite(o_.and_(seen, is(decided, 2)), c(133), v.drop);
    const Word reached = o_.and_(h.asked, seen);
    for (const Word w : {reached, o_.and_(reached, bare),
                         o_.and_(reached, o_.and_(o_.not_(bare), read)), v.outcome, v.drop})
      tables_.note(w);
    return v;
  }

  // Of those that are asked about `v`, of others what follows from the headers.
  Verdict settled(const Seen& h, const Verdict& v) {
    Verdict out;
    out.outcome = o_.ite(h.asked, v.outcome, o_.ite(h.fine, o_.ite(h.always, c(1), c(0)), c(2)));
    out.drop = o_.ite(h.asked, v.drop, h.wrong);
    out.record = o_.ite(h.asked, v.record, c(0));
    out.identity = o_.ite(h.asked, v.identity, c(0));
    out.cell = o_.ite(h.asked, v.cell, c(0));
    return out;
  }

  Fate<Word> finish(const Fate<Word>& before, const Verdict& v) {
    const Word proxy = proxy_port();
    const Word redirected = is(v.outcome, 3);
    const Word handed = o_.and_(redirected, o_.not_(is(proxy, 0)));
    const Word shot = o_.or_(is(v.outcome, 2), o_.and_(redirected, is(proxy, 0)));
    Fate<Word> out = before;
    out.action = o_.ite(shot, c(2), c(0));
    out.mark = o_.ite(handed, o_.or_(c(0x200), o_.shl(proxy, c(16))), before.mark);
    const Word observe = o_.extract(tables_.word(DatapathMap::Node, c(4), 4), 0, 1);
    const Word said[5] = {v.outcome, v.drop, v.record, v.identity, v.cell};
    for (std::size_t k = 0; k < 5; ++k) out.cb[k] = o_.ite(observe, said[k], before.cb[k]);
    return out;
  }

  // 32 bits, network order; 0: there is no proxy.
  Word proxy_port() { return tables_.word(DatapathMap::Node, c(8), 4); }

  // Nothing is known of them, and nobody asks.
  Headers none() {
    const Word no = o_.truth(false);
    return {c(0), c(0), c(0), o_.constant(0, 8), no, no, o_.constant(0, 8), c(0), c(0), c(0)};
  }
  Headers dropped() {
    Headers h = none();
    h.wrong = c(134);
    return h;
  }

  Word turn(Word truth) { return packet_.turn(truth); }
  // Of what matters to connection tracking only.
  Word tracked_turn(Word truth) { return s_.stateful ? turn(truth) : truth; }
  Word tracked_end(Word truth) { return s_.stateful ? end(truth) : truth; }
  Word end(Word truth) { return packet_.end(truth); }
  Word c(std::uint64_t value) { return o_.constant(value, 32); }
  Word is(Word a, std::uint64_t value) { return o_.eq(a, c(value)); }
  Word either(Word first, Word otherwise) { return o_.ite(is(first, 0), otherwise, first); }
  Word plus(Word a, std::uint64_t n) { return o_.add(a, c(n)); }
  // Whether the packet ends before this offset.
  Word shorter(Word end) { return o_.ult(packet_.length(), end); }
  Word byte(Word at) { return packet_.byte(at); }
  Word big16(Word at) { return o_.concat(byte(at), byte(plus(at, 1))); }
  // Where `open`, whether a tag stands there.
  Word tagged(Word open, Word type) {
    const Word c_tag = turn(o_.and_(open, o_.eq(type, o_.constant(0x8100, 16))));
    const Word s_tag =
        turn(o_.and_(o_.and_(open, o_.not_(c_tag)), o_.eq(type, o_.constant(0x88A8, 16))));
    return o_.or_(c_tag, s_tag);
  }
  Word tag(Word type) {
    return o_.or_(o_.eq(type, o_.constant(0x8100, 16)), o_.eq(type, o_.constant(0x88A8, 16)));
  }

  Headers v4(Word ip) {
    const Word first = byte(ip);
    const Word size = o_.extract(first, 0, 4);
    Headers h;
    Word bad = end(shorter(plus(ip, 20)));
    bad = o_.or_(bad, end(o_.not_(o_.eq(o_.extract(first, 4, 4), o_.constant(4, 4)))));
    bad = o_.or_(bad, end(o_.ult(size, o_.constant(5, 4))));
    if (o_.never(o_.not_(bad))) return dropped();
    const Word peer = plus(ip, direction_ == 0 ? 12 : 16);
    const Word address = o_.concat(big16(peer), big16(plus(peer, 2)));
    h.leaf = meaning_.leaf_of_v4(half_, address);
    h.fragment =
        tracked_turn(o_.not_(o_.eq(o_.extract(big16(plus(ip, 6)), 0, 13), o_.constant(0, 13))));
    const Word parted = o_.not_(o_.eq(o_.extract(big16(plus(ip, 6)), 0, 14), o_.constant(0, 14)));
    h.part = o_.ite(parted, plus(ip, 4), c(0));
    h.total = o_.zext(big16(plus(ip, 2)), 32);
    transport(h, byte(plus(ip, 9)), o_.add(ip, o_.shl(o_.zext(size, 32), c(2))));
    h.wrong = o_.ite(bad, c(134), h.wrong);
    return h;
  }

  Word is_extension(Word protocol) {
    Word out = o_.truth(false);
    for (const std::uint64_t p : std::array<std::uint64_t, 5>{0, 43, 44, 51, 60}) {
      out = o_.or_(out, o_.eq(protocol, o_.constant(p, 8)));
    }
    return out;
  }

  // A row of extension headers: what follows it, and where.
  struct Row {
    Word protocol, offset;  // 8 bits; 32 bits, from the IPv6 header
    Word fragment, cut;     // 1 bit: a later fragment ends the row; the packet ends in it
    Word part;              // where the fragment header of a part stands, from the frame; or 0
  };
  // `protocol` is at `offset`, behind a later fragment's header where `fragment`; at most `left`
  // headers are passed.
  Row behind_extensions(Word ip, Word protocol, Word offset, Word fragment, Word part, int left) {
    const Row end_of_row{protocol, offset, fragment, o_.truth(false), part};
    if (left == 0) return end_of_row;
    const Word is = tracked_turn(o_.and_(is_extension(protocol), o_.not_(fragment)));
    if (o_.never(is)) return end_of_row;
    if (s_.stateful && 6 - left >= s_.extension_headers) packet_.leave_out();
    const Word at = o_.add(ip, offset);
    const Word cut = tracked_end(shorter(plus(at, 8)));
    Word is_fragment = o_.eq(protocol, o_.constant(44, 8));
    const Word is_auth = o_.eq(protocol, o_.constant(51, 8));
    // Eight times the offset, two bits of no meaning, and whether more follow.
    const Word place = big16(plus(at, 2));
    const Word later = tracked_turn(
        o_.and_(is_fragment, o_.not_(o_.eq(o_.extract(place, 3, 13), o_.constant(0, 13)))));
    if (o_.never(o_.not_(later))) {
      is_fragment = later;
      // As a program looks for parts of either kind.
      packet_.follows(o_.not_(o_.eq(o_.and_(place, o_.constant(0xFFF9, 16)), o_.constant(0, 16))));
    }
    const Word parted = o_.or_(later, o_.and_(is_fragment, o_.extract(place, 0, 1)));
    const Word length = o_.zext(byte(plus(at, 1)), 32);
    const Word size =
        o_.ite(is_fragment, c(8),
               o_.ite(is_auth, o_.shl(plus(length, 2), c(2)), o_.shl(plus(length, 1), c(3))));
    const Row rest = behind_extensions(ip, byte(at), o_.add(offset, size), later,
                                       o_.ite(parted, at, part), left - 1);
    return {o_.ite(is, rest.protocol, protocol), o_.ite(is, rest.offset, offset),
            o_.ite(is, rest.fragment, fragment), o_.and_(is, o_.or_(cut, rest.cut)),
            o_.ite(is, rest.part, part)};
  }

  Headers v6(Word ip) {
    Headers h;
    Word bad = end(shorter(plus(ip, 40)));
    bad = o_.or_(bad, end(o_.not_(o_.eq(o_.extract(byte(ip), 4, 4), o_.constant(6, 4)))));
    if (o_.never(o_.not_(bad))) return dropped();
    const Word peer = plus(ip, direction_ == 0 ? 8 : 24);
    std::array<Word, 16> address{};
    for (std::size_t k = 0; k < 16; ++k) address[k] = byte(plus(peer, k));
    h.leaf = meaning_.leaf_of_v6(half_, address);
    h.total = plus(o_.zext(big16(plus(ip, 4)), 32), 40);
    const Row row = behind_extensions(ip, byte(plus(ip, 6)), c(40), o_.truth(false), c(0), 6);
    h.fragment = row.fragment;
    h.part = row.part;
    const Word l4 = o_.add(ip, row.offset);
    if (s_.stateful) {
      for (const Word w : {row.protocol, row.offset, l4, row.fragment, row.part}) tables_.note(w);
    }
    const Word unfinished = tracked_end(is_extension(row.protocol));
    transport(h, row.protocol, l4);
    h.wrong = o_.ite(o_.or_(bad, row.cut), c(134), o_.ite(unfinished, c(156), h.wrong));
    return h;
  }

  void transport(Headers& h, Word protocol, Word l4) {
    if (s_.stateful) {
      for (const unsigned p : {6U, 17U, 58U, 1U}) {
        const Word known = turn(o_.eq(protocol, o_.constant(p, 8)));
        protocol = o_.ite(known, o_.constant(p, 8), protocol);
      }
    }
    h.protocol = protocol;
    h.l4 = l4;
    h.kind = meaning_.class_of_protocol(protocol);
    const Word none = o_.or_(h.fragment, o_.eq(h.kind, o_.constant(0, 8)));
    const Word some = o_.not_(none);
    const Word ports = o_.ult(h.kind, o_.constant(4, 8));
    const Word cut = o_.ite(ports, shorter(plus(l4, 4)), shorter(plus(l4, 2)));
    h.wrong = o_.ite(tracked_end(o_.and_(some, cut)), c(134), c(0));
    h.port =
        o_.ite(none, c(0), o_.ite(ports, o_.zext(big16(plus(l4, 2)), 32), o_.zext(byte(l4), 32)));
    tables_.note(h.leaf);
    tables_.note(h.port);
    h.frag_needed = o_.and_(
        o_.and_(some, o_.not_(ports)),
        o_.and_(o_.eq(protocol, o_.constant(1, 8)), o_.eq(big16(l4), o_.constant(0x0304, 16))));
  }

  Ops& o_;
  const DatapathShape& s_;
  Tables& tables_;
  Packet& packet_;
  unsigned direction_;
  Meaning<Ops, Word, Tables> meaning_;
  Word half_{};
};

// Numbers of a width, with the operations that Meaning uses.
struct Number {
  std::uint64_t value = 0;
  unsigned width = 32;
};

class Numbers {
 public:
  static std::uint64_t mask(unsigned w) {
    return w >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << w) - 1;
  }
  Number constant(std::uint64_t v, unsigned w) const { return {v & mask(w), w}; }
  bool never(Number truth) const { return truth.value == 0; }
  Number truth(bool v) const { return {v ? 1U : 0U, 1}; }
  Number add(Number a, Number b) const { return constant(a.value + b.value, a.width); }
  Number sub(Number a, Number b) const { return constant(a.value - b.value, a.width); }
  Number mul(Number a, Number b) const { return constant(a.value * b.value, a.width); }
  Number and_(Number a, Number b) const { return {a.value & b.value, a.width}; }
  Number or_(Number a, Number b) const { return {a.value | b.value, a.width}; }
  Number xor_(Number a, Number b) const { return {a.value ^ b.value, a.width}; }
  Number not_(Number a) const { return constant(~a.value, a.width); }
  Number shl(Number a, Number b) const { return constant(a.value << b.value, a.width); }
  Number lshr(Number a, Number b) const { return {a.value >> b.value, a.width}; }
  Number concat(Number h, Number l) const {
    return {h.value << l.width | l.value, h.width + l.width};
  }
  Number extract(Number a, unsigned lowest, unsigned w) const {
    return constant(a.value >> lowest, w);
  }
  Number zext(Number a, unsigned w) const { return {a.value, w}; }
  Number ult(Number a, Number b) const { return truth(a.value < b.value); }
  Number eq(Number a, Number b) const { return truth(a.value == b.value); }
  Number ite(Number q, Number a, Number b) const { return q.value != 0 ? a : b; }
};

// The bytes of the two maps; what is read outside is 0.
class MapBytes {
 public:
  MapBytes(std::string_view node, std::string_view policy) : node_(node), policy_(policy) {}
  Number word(DatapathMap map, Number offset, unsigned bytes) const {
    const std::string_view from = map == DatapathMap::Node ? node_ : policy_;
    std::uint64_t v = 0;
    if (offset.value + bytes <= from.size()) std::memcpy(&v, from.data() + offset.value, bytes);
    return {v, 8 * bytes};
  }
  void note(Number) const {}

 private:
  std::string_view node_, policy_;
};

using MapMeaning = Meaning<Numbers, Number, const MapBytes>;

}  // namespace policyc::verify
