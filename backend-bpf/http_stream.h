// The proxy's side of a redirected connection, as far as policies need it: requests read from the
// bytes that the client sends.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/flow.h"

namespace policyc::bpf {

// One direction of a TCP connection. Segments may come in any order; bytes are used once.
class HttpStream {
 public:
  // The sequence number of the first byte to come (a SYN's plus one).
  void start(std::uint32_t next_sequence) { next_ = next_sequence; }
  // Requests that are complete (head and body) with this segment. Bytes that are no HTTP/1 request
  // make the stream `broken`: a proxy would refuse it.
  std::vector<ir::HttpRequest> add(std::uint32_t sequence,
                                   const std::vector<std::uint8_t>& payload);
  bool broken() const { return broken_; }

 private:
  std::vector<ir::HttpRequest> take_requests();

  std::optional<std::uint32_t> next_;                         // unknown until the first segment
  std::map<std::uint32_t, std::vector<std::uint8_t>> early_;  // segments ahead of a hole
  std::string buffer_;
  std::size_t body_left_ = 0;
  bool chunked_ = false;
  bool broken_ = false;
};

// The head of one HTTP/1.x request without the empty line; nullopt where it is none.
std::optional<ir::HttpRequest> parse_http_head(std::string_view head);

// The name that a DNS query asks for (first question, without the final dot); nullopt where the
// bytes are no query.
std::optional<std::string> parse_dns_query(const std::vector<std::uint8_t>& message);

}  // namespace policyc::bpf
