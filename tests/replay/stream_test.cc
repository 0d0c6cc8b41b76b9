// The proxy model's reading of bytes, and packets built and taken apart.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "backend-bpf/http_stream.h"
#include "backend-bpf/packet.h"

namespace policyc::bpf {
namespace {

std::vector<std::uint8_t> bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

TEST(HttpHead, MethodPathHostHeaders) {
  const auto r = parse_http_head("POST /a/b?c=d HTTP/1.1\r\nHost: shop:8080\r\nX-A:  v  ");
  ASSERT_TRUE(r.has_value());
  EXPECT_EQ(r->method, "POST");
  EXPECT_EQ(r->path, "/a/b?c=d");
  EXPECT_EQ(r->host, "shop:8080");
  ASSERT_EQ(r->headers.size(), 2U);
  EXPECT_EQ(r->headers[1].second, "v");
}

TEST(HttpHead, AbsoluteFormGivesTheHost) {
  const auto r = parse_http_head("GET http://shop/x HTTP/1.1\r\nHost: other");
  ASSERT_TRUE(r.has_value());
  EXPECT_EQ(r->host, "shop");
  EXPECT_EQ(r->path, "/x");
}

TEST(HttpHead, WhatIsNoRequest) {
  for (const char* bad : {"", "GET /", "GET / HTTP/2.0", "G@T / HTTP/1.1", "GET  HTTP/1.1",
                          "GET / HTTP/1.1\r\nno colon here", "\x16\x03\x01"}) {
    EXPECT_FALSE(parse_http_head(bad).has_value()) << bad;
  }
}

TEST(HttpStream, BodiesAreSkipped) {
  HttpStream s;
  s.start(1);
  const auto one =
      s.add(1, bytes("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nGETGET /b HTTP/1.1\r\n\r\n"));
  ASSERT_EQ(one.size(), 2U);
  EXPECT_EQ(one[0].path, "/a");
  EXPECT_EQ(one[1].path, "/b");
  EXPECT_FALSE(s.broken());
}

TEST(HttpStream, ChunkedBodiesAreSkipped) {
  HttpStream s;
  s.start(1);
  const auto all = s.add(1, bytes("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                                  "5\r\nGET /\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n"));
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[1].path, "/b");
}

// However the bytes are cut and ordered, repeated segments included, the requests are the same.
RC_GTEST_PROP(HttpStream, SegmentsInAnyOrder, ()) {
  const std::string text =
      "GET /a HTTP/1.1\r\nHost: h\r\n\r\nPUT /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyGET /c "
      "HTTP/1.0\r\n\r\n";
  const auto start = *rc::gen::arbitrary<std::uint32_t>();
  struct Segment {
    std::uint32_t sequence;
    std::vector<std::uint8_t> data;
  };
  std::vector<Segment> segments;
  for (std::size_t at = 0; at < text.size();) {
    const auto n = static_cast<std::size_t>(*rc::gen::inRange(1, 30));
    segments.push_back({start + static_cast<std::uint32_t>(at), bytes(text.substr(at, n))});
    at += n;
  }
  const auto order =
      *rc::gen::container<std::vector<int>>(segments.size(), rc::gen::inRange(0, 1000));
  std::vector<std::size_t> index(segments.size());
  for (std::size_t i = 0; i < index.size(); ++i) index[i] = i;
  std::stable_sort(index.begin(), index.end(),
                   [&](std::size_t a, std::size_t b) { return order[a] < order[b]; });
  HttpStream s;
  s.start(start);
  std::vector<std::string> paths;
  for (const std::size_t i : index) {
    for (int copies = 0; copies < 2; ++copies) {
      for (const auto& r : s.add(segments[i].sequence, segments[i].data)) paths.push_back(r.path);
    }
  }
  RC_ASSERT(paths == (std::vector<std::string>{"/a", "/b", "/c"}));
  RC_ASSERT(!s.broken());
}

TEST(HttpStream, OtherProtocolsBreakTheStream) {
  HttpStream s;
  s.start(1);
  EXPECT_TRUE(s.add(1, bytes("SSH-2.0-x\r\n\r\n")).empty());
  EXPECT_TRUE(s.broken());
}

TEST(Dns, QueryName) {
  std::vector<std::uint8_t> q = {0, 1,   1,   0,   0, 1,   0,   0, 0, 0, 0, 0,
                                 3, 'a', 'p', 'i', 2, 'i', 'o', 0, 0, 1, 0, 1};
  EXPECT_EQ(parse_dns_query(q), "api.io");
  q[2] = 0x81;  // a response
  EXPECT_FALSE(parse_dns_query(q).has_value());
  EXPECT_FALSE(parse_dns_query({1, 2, 3}).has_value());
}

RC_GTEST_PROP(Dns, AnyBytesAreSafe, (std::vector<std::uint8_t> message)) {
  const auto name = parse_dns_query(message);
  const bool sane = !name || name->size() < message.size();
  RC_ASSERT(sane);
}

RC_GTEST_PROP(Packet, BuiltAndTakenApartIsTheSame, (std::vector<std::uint8_t> payload)) {
  Packet p;
  const bool v6 = *rc::gen::arbitrary<bool>();
  p.from = *ir::parse_ip(v6 ? "2001:db8::1" : "10.0.0.1");
  p.to = *ir::parse_ip(v6 ? "2001:db8::2" : "10.0.0.2");
  p.protocol = *rc::gen::elementOf(std::vector<ir::Protocol>{
      ir::kProtoTcp, ir::kProtoUdp, ir::kProtoSctp, ir::kProtoIcmp, ir::kProtoIcmp6});
  const bool icmp = p.protocol == ir::kProtoIcmp || p.protocol == ir::kProtoIcmp6;
  if (icmp) {
    p.icmp_type = *rc::gen::arbitrary<std::uint8_t>();
  } else {
    p.source_port = *rc::gen::arbitrary<std::uint16_t>();
    p.destination_port = *rc::gen::arbitrary<std::uint16_t>();
  }
  if (p.protocol == ir::kProtoTcp) {
    p.tcp_flags = kSyn;
    p.sequence = *rc::gen::arbitrary<std::uint32_t>();
  }
  p.payload = payload;
  const auto back = parse_frame(build_frame(p));
  RC_ASSERT(static_cast<bool>(back));
  RC_ASSERT(back->has_value());
  const Packet& q = **back;
  RC_ASSERT(q.str() == p.str());
  RC_ASSERT(q.payload == p.payload);
  RC_ASSERT(q.sequence == p.sequence);
  RC_ASSERT(q.policy_port() == p.policy_port());
}

RC_GTEST_PROP(Packet, AnyBytesAreSafe, (std::vector<std::uint8_t> bytes)) {
  bytes.resize(bytes.size() + 14);
  const bool v6 = *rc::gen::arbitrary<bool>();
  bytes[12] = v6 ? 0x86 : 0x08;
  bytes[13] = v6 ? 0xDD : 0x00;
  const auto parsed = parse_frame(bytes);
  const bool sane = !parsed || !*parsed || (*parsed)->payload.size() <= bytes.size();
  RC_ASSERT(sane);
}

}  // namespace
}  // namespace policyc::bpf
