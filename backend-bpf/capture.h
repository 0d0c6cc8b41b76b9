// Packet captures: pcap and pcapng. The only users of libpcap are capture.cc and its tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::bpf {

struct CapturedFrame {
  std::vector<std::uint8_t> bytes;
  std::uint64_t time = 0;  // nanoseconds since 1970, UTC
};

// All frames of a capture, each with an Ethernet header (made up where the link has none: raw IP,
// Linux cooked). Frames that were cut short when captured are an error: their verdict could be
// wrong.
Expected<std::vector<CapturedFrame>> read_capture(const std::string& path);

// Classic pcap, Ethernet, time stamps counting up by one microsecond from zero.
Expected<std::size_t> write_capture(const std::string& path,
                                    const std::vector<std::vector<std::uint8_t>>& frames);

}  // namespace policyc::bpf
