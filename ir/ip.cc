#include "ir/ip.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <cstring>

namespace policyc::ir {

std::uint32_t IpAddress::v4() const {
  return (std::uint32_t{bytes[0]} << 24U) | (std::uint32_t{bytes[1]} << 16U) |
         (std::uint32_t{bytes[2]} << 8U) | std::uint32_t{bytes[3]};
}

IpAddress IpAddress::from_v4(std::uint32_t host_order) {
  IpAddress ip;
  for (std::size_t i = 0; i < 4; ++i) {
    ip.bytes[i] = static_cast<std::uint8_t>(host_order >> (24U - 8U * i));
  }
  return ip;
}

std::string IpAddress::str() const {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(family == Family::V4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof text);
  return text;
}

std::optional<IpAddress> parse_ip(std::string_view text) {
  if (text.size() >= INET6_ADDRSTRLEN) return std::nullopt;
  const std::string copy(text);
  IpAddress ip;
  if (inet_pton(AF_INET, copy.c_str(), ip.bytes.data()) == 1) return ip;
  ip.family = Family::V6;
  if (inet_pton(AF_INET6, copy.c_str(), ip.bytes.data()) == 1) return ip;
  return std::nullopt;
}

bool Prefix::contains(const IpAddress& ip) const {
  if (ip.family != address.family) return false;
  const std::size_t whole = length / 8U;
  if (std::memcmp(address.bytes.data(), ip.bytes.data(), whole) != 0) return false;
  const unsigned rest = length % 8U;
  if (rest == 0) return true;
  const unsigned mask = (0xFFU << (8U - rest)) & 0xFFU;
  return ((static_cast<unsigned>(address.bytes[whole]) ^ ip.bytes[whole]) & mask) == 0;
}

bool Prefix::contains(const Prefix& other) const {
  return other.length >= length && contains(other.address);
}

std::string Prefix::str() const {
  return fmt::format("{}/{}", address.str(), length);
}

Prefix make_prefix(const IpAddress& ip, int length) {
  Prefix p{ip, static_cast<std::uint8_t>(length)};
  for (int i = 0; i < 16; ++i) {
    const int kept = length - 8 * i;
    const unsigned mask = kept >= 8 ? 0xFFU : kept <= 0 ? 0U : (0xFFU << (8 - kept)) & 0xFFU;
    auto& byte = p.address.bytes[static_cast<std::size_t>(i)];
    byte = static_cast<std::uint8_t>(byte & mask);
  }
  return p;
}

Prefix host_prefix(const IpAddress& ip) {
  return {ip, static_cast<std::uint8_t>(ip.bits())};
}

std::optional<Prefix> parse_prefix(std::string_view text, bool bare_ip) {
  const std::size_t slash = text.find('/');
  const auto ip = parse_ip(text.substr(0, slash));
  if (!ip) return std::nullopt;
  if (slash == std::string_view::npos) {
    return bare_ip ? std::optional(host_prefix(*ip)) : std::nullopt;
  }
  const std::string_view digits = text.substr(slash + 1);
  int length = -1;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (error != std::errc() || end != digits.data() + digits.size() || length < 0 ||
      length > ip->bits() || digits[0] == '-' || (digits.size() > 1 && digits[0] == '0')) {
    return std::nullopt;
  }
  return make_prefix(*ip, length);
}

}  // namespace policyc::ir
