// Packet captures: pcap and pcapng. The only users of libpcap are capture.cc and its tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::bpf {

// All frames of a capture, each with an Ethernet header (made up where the link has none: raw IP,
// Linux cooked). Frames that were cut short when captured are an error: their verdict could be
// wrong.
Expected<std::vector<std::vector<std::uint8_t>>> read_capture(const std::string& path);

// Classic pcap, Ethernet, time stamps counting up by one microsecond from zero.
Expected<std::size_t> write_capture(const std::string& path,
                                    const std::vector<std::vector<std::uint8_t>>& frames);

}  // namespace policyc::bpf
