// IPv4 and IPv6 addresses and prefixes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace policyc::ir {

enum class Family : std::uint8_t { V4, V6 };

// 16 bytes in network order; an IPv4 address uses the first four, the rest are zero.
struct IpAddress {
  Family family = Family::V4;
  std::array<std::uint8_t, 16> bytes{};

  int bits() const { return family == Family::V4 ? 32 : 128; }
  // Bit 0 is the most significant bit of the first byte.
  bool bit(int index) const {
    return ((bytes[static_cast<std::size_t>(index) / 8] >> (7 - index % 8)) & 1) != 0;
  }
  std::uint32_t v4() const;  // host order; IPv4 only
  static IpAddress from_v4(std::uint32_t host_order);
  std::string str() const;
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
};

std::optional<IpAddress> parse_ip(std::string_view text);

// A prefix in canonical form: bits behind `length` are zero.
struct Prefix {
  IpAddress address;
  std::uint8_t length = 0;

  bool contains(const IpAddress& ip) const;
  bool contains(const Prefix& other) const;  // equal or longer, same family
  std::string str() const;                   // "10.0.0.0/8"
  friend auto operator<=>(const Prefix&, const Prefix&) = default;
};

// Masks host bits away. A bare address is refused unless `bare_ip`, then it is a /32 or /128.
std::optional<Prefix> parse_prefix(std::string_view text, bool bare_ip = false);
Prefix host_prefix(const IpAddress& ip);
Prefix make_prefix(const IpAddress& ip, int length);

}  // namespace policyc::ir
