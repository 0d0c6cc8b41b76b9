#include "backend-bpf/capture.h"

#include <fmt/format.h>
#include <pcap/pcap.h>

#include <cstdio>
#include <memory>

namespace policyc::bpf {
namespace {

struct Close {
  void operator()(pcap_t* p) const { pcap_close(p); }
  void operator()(pcap_dumper_t* d) const { pcap_dump_close(d); }
};

// The Ethernet type for an IP packet, by its version.
std::vector<std::uint8_t> with_ethernet(const std::uint8_t* ip, std::size_t size) {
  std::vector<std::uint8_t> out(12, 0);
  const bool v6 = size > 0 && (ip[0] >> 4U) == 6;
  out.push_back(v6 ? 0x86 : 0x08);
  out.push_back(v6 ? 0xDD : 0x00);
  out.insert(out.end(), ip, ip + size);
  return out;
}

}  // namespace

Expected<std::vector<CapturedFrame>> read_capture(const std::string& path) {
  char error[PCAP_ERRBUF_SIZE] = {};
  const std::unique_ptr<pcap_t, Close> pcap(
      pcap_open_offline_with_tstamp_precision(path.c_str(), PCAP_TSTAMP_PRECISION_NANO, error));
  if (!pcap) return Error{fmt::format("{}: {}", path, error)};
  const int link = pcap_datalink(pcap.get());
  std::size_t skip = 0;
  switch (link) {
    case DLT_EN10MB:
    case DLT_RAW:
      break;
    case DLT_LINUX_SLL:
      skip = 16;
      break;
    case DLT_LINUX_SLL2:
      skip = 20;
      break;
    case DLT_NULL:
    case DLT_LOOP:
      skip = 4;
      break;
    default:
      return Error{
          fmt::format("{}: link type {} is not read; capture Ethernet (tcpdump -i eth0) or "
                      "raw IP",
                      path, link)};
  }
  std::vector<CapturedFrame> out;
  pcap_pkthdr* header = nullptr;
  const std::uint8_t* data = nullptr;
  int status = 0;
  while ((status = pcap_next_ex(pcap.get(), &header, &data)) == 1) {
    if (header->caplen < header->len) {
      return Error{fmt::format("{}: packet {} was cut to {} of {} bytes; capture with `-s 0`", path,
                               out.size() + 1, header->caplen, header->len)};
    }
    const std::uint64_t time = static_cast<std::uint64_t>(header->ts.tv_sec) * 1'000'000'000U +
                               static_cast<std::uint64_t>(header->ts.tv_usec);
    if (link == DLT_EN10MB) {
      out.push_back({{data, data + header->caplen}, time});
    } else if (header->caplen >= skip) {
      out.push_back({with_ethernet(data + skip, header->caplen - skip), time});
    }
  }
  if (status == PCAP_ERROR) return Error{fmt::format("{}: {}", path, pcap_geterr(pcap.get()))};
  return out;
}

Expected<std::size_t> write_capture(const std::string& path,
                                    const std::vector<std::vector<std::uint8_t>>& frames) {
  const std::unique_ptr<pcap_t, Close> pcap(pcap_open_dead(DLT_EN10MB, 65535));
  const std::string temporary = path + ".tmp";
  {
    const std::unique_ptr<pcap_dumper_t, Close> dump(pcap_dump_open(pcap.get(), temporary.c_str()));
    if (!dump) return Error{fmt::format("{}: {}", path, pcap_geterr(pcap.get()))};
    std::uint32_t time = 0;
    for (const auto& frame : frames) {
      pcap_pkthdr header{};
      header.ts.tv_usec = static_cast<decltype(header.ts.tv_usec)>(time % 1000000);
      header.ts.tv_sec = static_cast<decltype(header.ts.tv_sec)>(time / 1000000);
      ++time;
      header.caplen = header.len = static_cast<std::uint32_t>(frame.size());
      pcap_dump(reinterpret_cast<std::uint8_t*>(dump.get()), &header, frame.data());
    }
    if (pcap_dump_flush(dump.get()) != 0) return Error{fmt::format("{}: cannot be written", path)};
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    std::remove(temporary.c_str());
    return Error{fmt::format("{}: cannot be written", path)};
  }
  return frames.size();
}

}  // namespace policyc::bpf
