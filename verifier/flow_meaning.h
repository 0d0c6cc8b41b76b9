// What programs with connection tracking do to a packet, and what they keep of it: written a second
// time, from the handbook ("Connection tracking") and from the fields of their two maps, not from
// the programs' text. Over Terms it is what they are proved equal to, over Numbers what becomes of
// one packet.
//
// Addresses of 16 bytes in network order, IPv4 in the first four; all numbers little endian.
//   flows      local address | peer's address | u16 local port | u16 peer's port | u8 protocol |
//              u8 family (4 or 6) | u8 direction of its first packet | u8 0
//              -> u64 when it ends (ktime) | u32 flags | u32 0
//   fragments  source | destination | u32 identification | u8 protocol | u8 family |
//              u8 direction | u8 0
//              -> u16 source port | u16 destination port
// Flags: 1 answered, 2 by the proxy, 4 and 8 FIN of the opener and of the other, 16 RST. Of an echo
// the identifier is the peer's port.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "verifier/datapath_meaning.h"

namespace policyc::verify {

enum class FlowMap : std::uint8_t { Flows, Fragments };
inline constexpr std::size_t kFlowKeyBytes = 40, kFlowBytes = 16;
inline constexpr std::size_t kFragmentKeyBytes = 40, kFragmentBytes = 4;

// The entries that a packet may ask for. No two are one entry where both are asked for.
enum class FlowEntry : std::uint8_t {
  First,      // what the first fragment left
  Answered,   // the flow that the packet would answer
  Own,        // the flow that it would open or belongs to
  QuotedIn,   // the flow of the packet that an ICMP error quotes, opened by the peer
  QuotedOut,  // the same, opened by the endpoint
};
inline constexpr std::size_t kFlowEntries = 5;

template <class Word>
struct FlowValue {
  Word present;              // 1 bit
  std::vector<Word> fields;  // with the widths above
};

template <class Word>
struct FlowUpdate {
  Word when;                // 1 bit
  std::vector<Word> key;    // bytes
  std::vector<Word> value;  // fields
};

template <class Word, class Verdict>
struct FlowRun {
  Fate<Word> fate;
  FlowUpdate<Word> fragment, flow;
  std::vector<Word> answered, own;  // the fields of these entries afterwards
  // How it came about, 1 bit each: the packet is judged; it answers a live flow; it is an ICMP
  // error about a packet of a live flow.
  Word judged, answers, related;
  Verdict core;  // what the policy says, where the packet is judged
  Verdict said;  // what becomes of the packet
};

// `Flows`: look_up(FlowEntry, FlowMap, key, when) gives the entry's value before the packet;
// clock(n), 64 bits, what the clock shows when it is read for the n-th time, from 0.
template <class Ops, class Word, class Tables, class Packet, class Flows>
class FlowMeaning : public PacketMeaning<Ops, Word, Tables, Packet> {
  using Base = PacketMeaning<Ops, Word, Tables, Packet>;
  using typename Base::Seen;

 public:
  using typename Base::Verdict;
  using Run = FlowRun<Word, Verdict>;

  FlowMeaning(Ops& ops, const DatapathShape& shape, Tables& tables, Packet& packet,
              unsigned direction, Flows& flows)
      : Base(ops, shape, tables, packet, direction), flows_(flows) {}

  Run run(const Fate<Word>& before, Word vlan_present, Word generation) {
    Seen h = this->look(vlan_present, generation);
    h.asked = not_(this->end(not_(h.asked)));
    Run out;
    out.fragment.when = out.flow.when = out.judged = out.answers = out.related = o_.truth(false);
    out.core = {c(0), c(0), c(0), c(0), c(0)};
    if (o_.never(h.asked)) {
      out.said = this->settled(h, out.core);
      out.fate = this->finish(before, out.said);
      return out;
    }
    const Word tcp = speaks(h.protocol, {6});
    const Word ports = or_(tcp, speaks(h.protocol, {17, 132}));
    const Word icmp = speaks(h.protocol, {1, 58});
    const Word later = h.fragment;
    const Word from_first = and_(later, or_(ports, icmp));

    // Ports, of a later fragment those of the first.
    const Word cut = and_(and_(ports, not_(later)), shorter(h.l4, 4));
    const Word identified = and_(icmp, not_(shorter(h.l4, 8)));
    Word source = o_.ite(ports, big16(h.l4, 0), o_.ite(identified, big16(h.l4, 4), c16(0)));
    Word destination = o_.extract(h.port, 0, 16);
    out.fragment.key = fragment_key(h);
    out.fragment.value = {source, destination};
    out.fragment.when = and_(and_(h.asked, not_(is(h.part, 0))), not_(or_(later, cut)));
    const Entry first = flows_.look_up(FlowEntry::First, FlowMap::Fragments, out.fragment.key,
                                       and_(h.asked, from_first));
    const Word lost = and_(from_first, not_(first.present));
    source = o_.ite(from_first, first.fields[0], o_.ite(later, c16(0), source));
    destination = o_.ite(from_first, first.fields[1], destination);
    h.port = o_.ite(from_first, o_.zext(destination, 32), h.port);
    h.fragment = and_(later, not_(from_first));
    const Word going = and_(h.asked, not_(or_(cut, lost)));

    const Word request = echo(h.protocol, h.port, 8, 128);
    const Word response = echo(h.protocol, h.port, 0, 129);
    const Word tracked = and_(going, or_(ports, or_(request, response)));
    const Word has_flags = and_(and_(tcp, not_(later)), not_(shorter(h.l4, 14)));
    const Word flags = o_.ite(has_flags, byte(h.l4, 13), o_.constant(0, 8));
    const Word fin = o_.extract(flags, 0, 1), rst = o_.extract(flags, 2, 1);
    const Word connects = and_(o_.extract(flags, 1, 1), not_(o_.extract(flags, 4, 1)));

    // The packet's flow has the packet's two ends; who opened it tells an answer from the others.
    const bool in = this->direction_ == 0;
    Ends ends;
    ends.local = address(h, !in);
    ends.peer = address(h, in);
    const Word no_port = c16(0);
    ends.local_port = o_.ite(ports, in ? destination : source, no_port);
    ends.peer_port = o_.ite(ports, in ? source : destination, source);
    ends.protocol = h.protocol;
    const Word asks = and_(tracked, not_(or_(connects, request)));
    Entry answered =
        flows_.look_up(FlowEntry::Answered, FlowMap::Flows, flow_key(h, ends, in ? 1 : 0), asks);
    const Word now = flows_.clock(0);
    out.answers = and_(asks, live(answered, now));
    const Word by_proxy = o_.extract(answered.fields[1], 1, 1);
    use(answered, out.answers, now, tcp,
        with(with(with(answered.fields[1], o_.truth(true), 1), fin, 8), rst, 16));
    out.answered = answered.fields;

    out.related = related(h, and_(and_(going, not_(tracked)), not_(later)), now);

    // All others are judged, each time.
    out.judged = and_(going, not_(or_(out.answers, out.related)));
    const Verdict core = this->judged(h);
    out.core = core;
    Verdict said;
    said.outcome = o_.ite(
        or_(cut, lost), c(2),
        o_.ite(out.answers, o_.ite(by_proxy, c(3), c(1)), o_.ite(out.related, c(1), core.outcome)));
    said.drop = o_.ite(cut, c(134), o_.ite(lost, c(175), o_.ite(out.judged, core.drop, c(0))));
    said.record = o_.ite(out.judged, core.record, c(0));
    said.identity = o_.ite(out.judged, core.identity, c(0));
    said.cell = o_.ite(out.judged, core.cell, c(0));
    out.said = this->settled(h, said);
    out.fate = this->finish(before, out.said);

    // What passes is remembered; a connection that ended gives way to one that begins.
    const Word kept =
        and_(and_(out.judged, not_(is(core.outcome, 2))), and_(tracked, not_(response)));
    out.flow.key = flow_key(h, ends, in ? 0 : 1);
    Entry own = flows_.look_up(FlowEntry::Own, FlowMap::Flows, out.flow.key, kept);
    const Word later_now = flows_.clock(1);
    const Word redirected = is(core.outcome, 3);
    const Word ended = not_(o_.eq(o_.and_(own.fields[1], c(4 | 8 | 16)), c(0)));
    const Word goes_on = and_(and_(kept, live(own, later_now)), not_(and_(connects, ended)));
    out.flow.when = and_(kept, not_(goes_on));
    const auto noted = [&](Word of) {
      return with(with(with(of, redirected, 2), fin, 4), rst, 16);
    };
    const Word fresh = noted(c(0));
    out.flow.value = {o_.add(later_now, lifetime(tcp, fresh)), fresh, c(0)};
    use(own, goes_on, later_now, tcp, noted(o_.and_(own.fields[1], c(0xFFFFFFFD))));
    out.own = own.fields;
    return out;
  }

 private:
  using Bytes = std::vector<Word>;
  using Entry = FlowValue<Word>;
  struct Ends {
    Bytes local, peer;
    Word local_port, peer_port;  // 16 bits
    Word protocol;               // 8 bits
  };

  Word c(std::uint64_t v) { return o_.constant(v, 32); }
  Word c16(std::uint64_t v) { return o_.constant(v, 16); }
  Word and_(Word a, Word b) { return o_.and_(a, b); }
  Word or_(Word a, Word b) { return o_.or_(a, b); }
  Word not_(Word a) { return o_.not_(a); }
  Word is(Word a, std::uint64_t v) { return o_.eq(a, c(v)); }
  Word byte(Word at, std::uint64_t more) { return Base::byte(Base::plus(at, more)); }
  Word big16(Word at, std::uint64_t more) { return Base::big16(Base::plus(at, more)); }
  // Whether the packet ends before this place.
  Word shorter(Word at, std::uint64_t more) { return Base::shorter(Base::plus(at, more)); }
  Word speaks(Word protocol, std::initializer_list<std::uint64_t> which) {
    Word out = o_.truth(false);
    for (const std::uint64_t p : which) out = or_(out, o_.eq(protocol, o_.constant(p, 8)));
    return out;
  }
  // ICMP or ICMPv6 of this type; the type is the port.
  Word echo(Word protocol, Word type, std::uint64_t v4, std::uint64_t v6) {
    return or_(and_(speaks(protocol, {1}), is(type, v4)),
               and_(speaks(protocol, {58}), is(type, v6)));
  }
  // `flag` is set where the truth holds.
  Word with(Word flags, Word truth, std::uint64_t flag) {
    return o_.or_(flags, o_.ite(truth, c(flag), c(0)));
  }
  Word live(const Entry& e, Word now) { return and_(e.present, o_.ult(now, e.fields[0])); }
  Word lifetime(Word tcp, Word flags) {
    const auto seconds = [&](std::uint64_t s) { return o_.constant(s * 1'000'000'000, 64); };
    const Word both = and_(o_.extract(flags, 2, 1), o_.extract(flags, 3, 1));
    const Word closing = or_(o_.extract(flags, 4, 1), both);
    return o_.ite(and_(tcp, closing), seconds(10),
                  o_.ite(and_(tcp, o_.extract(flags, 0, 1)), seconds(8000), seconds(60)));
  }
  // The entry lives on, with these flags.
  void use(Entry& e, Word when, Word now, Word tcp, Word flags) {
    e.fields[0] = o_.ite(when, o_.add(now, lifetime(tcp, flags)), e.fields[0]);
    e.fields[1] = o_.ite(when, flags, e.fields[1]);
  }

  // An address of an IP header at `ip`.
  Bytes address(Word is4, Word ip, bool source) {
    Bytes out;
    for (std::uint64_t k = 0; k < 16; ++k) {
      const Word six = byte(ip, (source ? 8 : 24) + k);
      const Word four = k < 4 ? byte(ip, (source ? 12 : 16) + k) : o_.constant(0, 8);
      out.push_back(o_.ite(is4, four, six));
    }
    return out;
  }
  Bytes address(const Seen& h, bool source) { return address(h.is4, h.ip, source); }
  static void append(Bytes& to, const Bytes& what) {
    to.insert(to.end(), what.begin(), what.end());
  }
  void append_number(Bytes& to, Word v, unsigned bytes) {
    for (unsigned k = 0; k < bytes; ++k) to.push_back(o_.extract(v, 8 * k, 8));
  }
  Word family(const Seen& h) { return o_.ite(h.is4, o_.constant(4, 8), o_.constant(6, 8)); }
  Bytes flow_key(const Seen& h, const Ends& e, unsigned opened) {
    Bytes out = e.local;
    append(out, e.peer);
    append_number(out, e.local_port, 2);
    append_number(out, e.peer_port, 2);
    append(out, {e.protocol, family(h), o_.constant(opened, 8), o_.constant(0, 8)});
    return out;
  }
  Bytes fragment_key(const Seen& h) {
    Bytes out = address(h, true);
    append(out, address(h, false));
    const Word id6 = o_.concat(big16(h.part, 4), big16(h.part, 6));
    append_number(out, o_.ite(h.is4, o_.zext(big16(h.part, 0), 32), id6), 4);
    append(out, {h.protocol, family(h), o_.constant(this->direction_, 8), o_.constant(0, 8)});
    return out;
  }

  // Whether the packet, where `asked`, is an ICMP error that quotes a packet of a live flow and
  // goes to who sent that one.
  Word related(const Seen& h, Word asked, Word now) {
    const Word e4 = and_(h.is4, and_(speaks(h.protocol, {1}),
                                     or_(is(h.port, 3), or_(is(h.port, 11), is(h.port, 12)))));
    Word e6 = o_.truth(false);
    for (std::uint64_t type = 1; type <= 4; ++type) e6 = or_(e6, is(h.port, type));
    e6 = and_(not_(h.is4), and_(speaks(h.protocol, {58}), e6));
    const Word quote = Base::plus(h.l4, 8);
    const Word size = o_.extract(byte(quote, 0), 0, 4);
    const Word version = o_.extract(byte(quote, 0), 4, 4);
    // A whole packet, or its first fragment.
    Word good4 = and_(not_(shorter(quote, 20)), o_.eq(version, o_.constant(4, 4)));
    good4 = and_(good4, not_(o_.ult(size, o_.constant(5, 4))));
    good4 = and_(good4, o_.eq(o_.extract(big16(quote, 6), 0, 13), o_.constant(0, 13)));
    const Word good6 = and_(not_(shorter(quote, 40)), o_.eq(version, o_.constant(6, 4)));
    const Word at = o_.add(quote, o_.ite(h.is4, o_.shl(o_.zext(size, 32), c(2)), c(40)));
    Word good = and_(asked, or_(and_(e4, good4), and_(e6, good6)));
    const Bytes sender = address(h.is4, quote, true), receiver = address(h, false);
    for (std::size_t k = 0; k < sender.size(); ++k) {
      good = and_(good, o_.eq(sender[k], receiver[k]));
    }
    good = and_(good, not_(shorter(at, 8)));
    // Its own two ends; the endpoint sent it where the error comes in.
    const bool in = this->direction_ == 0;
    Ends ends;
    ends.protocol = o_.ite(h.is4, byte(quote, 9), byte(quote, 6));
    const Bytes other = address(h.is4, quote, false);
    ends.local = in ? sender : other;
    ends.peer = in ? other : sender;
    const Word ports = speaks(ends.protocol, {6, 17, 132});
    const Word type = o_.zext(byte(at, 0), 32);
    const Word identifies =
        or_(echo(ends.protocol, type, 8, 128), echo(ends.protocol, type, 0, 129));
    const Word from = big16(at, 0), to = big16(at, 2);
    ends.local_port = o_.ite(ports, in ? from : to, c16(0));
    ends.peer_port = o_.ite(ports, in ? to : from, big16(at, 4));
    good = and_(good, or_(ports, identifies));
    const Entry by_peer =
        flows_.look_up(FlowEntry::QuotedIn, FlowMap::Flows, flow_key(h, ends, 0), good);
    const Word first = live(by_peer, now);
    const Entry by_endpoint = flows_.look_up(FlowEntry::QuotedOut, FlowMap::Flows,
                                             flow_key(h, ends, 1), and_(good, not_(first)));
    return and_(good, or_(first, live(by_endpoint, now)));
  }

  using Base::o_;
  Flows& flows_;
};

}  // namespace policyc::verify
