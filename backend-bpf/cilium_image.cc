#include "backend-bpf/cilium_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

namespace policyc::bpf {
namespace {

constexpr char kMagic[4] = {'P', 'C', 'C', 'M'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeader = 11 * 4;

void put32(std::string& out, std::uint32_t v) {
  for (int i = 0; i < 4; ++i) out += static_cast<char>(v >> (8 * i) & 0xffU);
}

std::uint32_t get32(std::string_view bytes, std::size_t at) {
  std::uint32_t v = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    v |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return v;
}

void put16_network(std::string& out, std::uint32_t v) {
  out += static_cast<char>(v >> 8U & 0xffU);
  out += static_cast<char>(v & 0xffU);
}

std::uint32_t get16_network(std::string_view bytes, std::size_t at) {
  return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at])) << 8U |
         static_cast<unsigned char>(bytes[at + 1]);
}

unsigned byte_at(std::string_view bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]);
}

// Bits behind the static part of the key, as the value repeats them.
std::uint32_t l4_prefix(const ir::PolicyTable::Entry& e) {
  return e.protocol == ir::kProtoAny ? 0U : 8U + e.block.length;
}

std::string policy_key(std::uint32_t identity, ir::Direction direction,
                       const ir::PolicyTable::Entry& e) {
  std::string out;
  put32(out, kCiliumPolicyPrefix + l4_prefix(e));
  put32(out, identity);
  out += static_cast<char>(direction == ir::Direction::Egress ? 1 : 0);
  out += static_cast<char>(e.protocol);
  put16_network(out, e.block.port);
  return out;
}

// Among entries of one key length the higher precedence decides: 255 deny, redirects by their
// proxy priority, 1 plain allow. All rules of these policies are on the first level.
std::uint32_t precedence(const ir::VerdictRecord& r) {
  std::uint32_t low = 1;
  if (r.verdict == ir::VerdictKind::Deny) {
    low = 255;
  } else if (r.priority > 0) {
    low = r.priority == 1 ? 2 : r.priority;
  }
  return 0xffffff00U | low;
}

std::string policy_value(const CiliumLayout& layout, const ir::PolicyTable::Entry& e,
                         const ir::VerdictRecord& r, std::uint32_t proxy_port) {
  const bool deny = r.verdict == ir::VerdictKind::Deny;
  std::string out;
  put16_network(out, deny ? 0 : proxy_port);
  out += static_cast<char>(l4_prefix(e) << 3U | (deny ? 1U : 0U));
  unsigned auth = 0;
  if (!deny && r.auth) {
    auth = static_cast<unsigned>(r.auth->type) | (r.auth->is_explicit ? 0x80U : 0U);
  }
  out += static_cast<char>(auth);
  if (layout.precedence) {
    put32(out, precedence(r));
  } else {
    out += static_cast<char>(deny ? 0 : r.priority);
  }
  out.resize(layout.policy_value, '\0');
  return out;
}

constexpr std::uint8_t kFirstListener = 155;  // proxy priorities of listeners that name one

// Who reads what this entry redirects: a listener where the rules name one.
std::string proxy_name(const ir::PolicyTable& table, ir::Direction direction, std::size_t c,
                       const ir::PolicyTable::Entry& e, const ir::VerdictRecord& r) {
  const bool listener = r.parser == "crd" || (r.priority >= kFirstListener && r.priority < 255);
  const std::size_t column =
      table.column(e.protocol == ir::kProtoAny ? 0 : ir::l4_key(e.protocol, e.block.port));
  if (listener && c < table.classes) {
    const ir::ProxyFilter* filter = table.filter(c * table.columns() + column);
    if (filter != nullptr) {
      for (const ir::Listener& l : filter->listeners) {
        if (l.priority == 0 || 255 - l.priority == r.priority) {
          return fmt::format("{}/{}/{}", l.kind, l.config, l.name);
        }
      }
    }
  }
  return fmt::format("{}/{}", r.parser, ir::direction_name(direction));
}

// Wildcard entries have no class of their own: the first whose redirect at the key is the same.
std::size_t class_with(const ir::PolicyTable& table, const ir::PolicyTable::Entry& e,
                       const ir::VerdictRecord& r) {
  const std::size_t column =
      table.column(e.protocol == ir::kProtoAny ? 0 : ir::l4_key(e.protocol, e.block.port));
  for (std::size_t c = 0; c < table.classes; ++c) {
    const ir::VerdictRecord& have = table.records[table.cells[c * table.columns() + column]];
    if (have.parser == r.parser && have.priority == r.priority) return c;
  }
  return table.classes;
}

// Calls visit(class, entry) for all entries of one direction; class kAny for the wildcard ones.
constexpr std::size_t kAny = SIZE_MAX;
template <class Visit>
void for_each(const std::vector<ir::PolicyTable::Entry>& wildcard,
              const std::vector<std::vector<ir::PolicyTable::Entry>>& classes, Visit visit) {
  for (const auto& e : wildcard) visit(kAny, e);
  for (std::size_t c = 0; c < classes.size(); ++c) {
    for (const auto& e : classes[c]) visit(c, e);
  }
}

std::string address_text(std::string_view key) {
  const int bits = static_cast<int>(get32(key, 0)) - static_cast<int>(kCiliumIpcachePrefix);
  ir::IpAddress ip;
  ip.family = byte_at(key, 7) == 1 ? ir::Family::V4 : ir::Family::V6;
  std::memcpy(ip.bytes.data(), key.data() + 8, ip.family == ir::Family::V4 ? 4 : 16);
  return fmt::format("{}/{}", ip.str(), bits);
}

std::string policy_entry_text(const CiliumLayout& layout, const MapEntry& entry) {
  const auto& [key, value] = entry;
  const std::uint32_t length = get32(key, 0) - kCiliumPolicyPrefix;
  const std::uint32_t identity = get32(key, 4);
  const auto protocol = static_cast<ir::Protocol>(byte_at(key, 9));
  std::string port = "any";
  if (length >= 8) {
    port = ir::protocol_name(protocol);
    if (length > 8) {
      const ir::PortBlock block{static_cast<std::uint16_t>(get16_network(key, 10)),
                                static_cast<std::uint8_t>(length - 8)};
      port += fmt::format("/{}", block.port);
      if (block.length < 16) port += fmt::format("-{}", block.last());
    }
  }
  std::string what = (byte_at(value, 2) & 1U) != 0 ? "deny" : "allow";
  if (const std::uint32_t proxy = get16_network(value, 0); proxy != 0) {
    what = fmt::format("redirect to {}", proxy);
  }
  std::string rank;
  if (layout.precedence) {
    rank = fmt::format(" precedence {:#x}", get32(value, 4));
  } else if (byte_at(value, 4) != 0) {
    rank = fmt::format(" priority {}", byte_at(value, 4));
  }
  if (const unsigned auth = byte_at(value, 3); auth != 0) {
    rank += fmt::format(" auth {}{}", auth & 0x7fU, (auth & 0x80U) != 0 ? "" : " (derived)");
  }
  return fmt::format("{:<7} {:>10} {:<18} {}{}", byte_at(key, 8) == 1 ? "egress" : "ingress",
                     identity == 0 ? "any" : std::to_string(identity), port, what, rank);
}

const CiliumLayout* layout_of(const CiliumImage& image) {
  for (const CiliumLayout& l : cilium_layouts()) {
    if (image.definition.key_size == kCiliumPolicyKey &&
        image.definition.value_size == l.policy_value) {
      return &l;
    }
    if (image.definition.key_size == kCiliumIpcacheKey &&
        image.definition.value_size == l.ipcache_value) {
      return &l;
    }
  }
  return nullptr;
}

}  // namespace

std::vector<std::string> proxy_names(const ir::PolicyTable& table, ir::Direction direction) {
  std::set<std::string> out;
  for_each(table.wildcard_entries, table.class_entries,
           [&](std::size_t c, const ir::PolicyTable::Entry& e) {
             const ir::VerdictRecord& r = table.records[e.record];
             if (r.verdict != ir::VerdictKind::Redirect) return;
             if (c == kAny) c = class_with(table, e, r);
             out.insert(proxy_name(table, direction, c, e, r));
           });
  return {out.begin(), out.end()};
}

CiliumImage policy_map_image(const CiliumLayout& layout, std::uint32_t max_entries,
                             const ir::ResolvedEndpoint& endpoint, const ir::MapEntries& ingress,
                             const ir::MapEntries& egress,
                             const std::vector<ir::IdentityIndex>& identities,
                             const AgentNumbers& numbers) {
  CiliumImage out;
  out.definition = {kMapTypeLpmTrie, kCiliumPolicyKey, layout.policy_value, max_entries,
                    kMapNoPrealloc};
  out.compared = layout.policy_compare;
  std::set<std::string> placeholders;
  const auto side = [&](const ir::PolicyTable& table, const ir::MapEntries& map,
                        ir::Direction direction) {
    const auto add = [&](std::uint32_t identity, std::size_t c, const ir::PolicyTable::Entry& e) {
      const ir::VerdictRecord& r = map.records[e.record];
      std::uint32_t port = 0;
      if (r.verdict == ir::VerdictKind::Redirect) {
        const std::string name = proxy_name(table, direction, c, e, r);
        const AgentNumbers::Number& number = numbers.proxy_ports.at(name);
        port = number.value;
        if (number.placeholder) placeholders.insert(fmt::format("proxy port {} of {}", port, name));
      }
      out.entries.emplace_back(policy_key(identity, direction, e),
                               policy_value(layout, e, r, port));
    };
    for (const auto& e : map.wildcard) add(0, class_with(table, e, map.records[e.record]), e);
    for (const ir::IdentityIndex i : identities) {
      const std::size_t c = table.class_of[i];
      if (map.classes[c].empty()) continue;
      const AgentNumbers::Number& number = numbers.identities[i];
      if (number.placeholder) placeholders.insert(fmt::format("identity {}", number.value));
      for (const auto& e : map.classes[c]) add(number.value, c, e);
    }
  };
  side(*endpoint.ingress, ingress, ir::Direction::Ingress);
  side(*endpoint.egress, egress, ir::Direction::Egress);
  out.placeholders.assign(placeholders.begin(), placeholders.end());
  std::sort(out.entries.begin(), out.entries.end());
  // Two identities of ours that are one of the agent's.
  out.entries.erase(std::unique(out.entries.begin(), out.entries.end(),
                                [](const auto& a, const auto& b) { return a.first == b.first; }),
                    out.entries.end());
  return out;
}

CiliumImage ipcache_image(const CiliumLayout& layout, const ir::NodeView& view,
                          const AgentNumbers& numbers) {
  CiliumImage out;
  out.definition = {kMapTypeLpmTrie, kCiliumIpcacheKey, layout.ipcache_value, kCiliumIpcacheEntries,
                    kMapNoPrealloc};
  out.compared = 4;
  out.pin = layout.ipcache_pin;
  std::set<std::string> placeholders;
  for (const auto& [prefix, identity] : view.ipcache) {
    const bool v4 = prefix.address.family == ir::Family::V4;
    std::string key;
    put32(key, kCiliumIpcachePrefix + static_cast<std::uint32_t>(prefix.length));
    key += std::string(3, '\0');
    key += static_cast<char>(v4 ? 1 : 2);
    key.append(reinterpret_cast<const char*>(prefix.address.bytes.data()), v4 ? 4 : 16);
    key.resize(kCiliumIpcacheKey, '\0');
    const AgentNumbers::Number& number = numbers.identities[identity];
    if (number.placeholder) placeholders.insert(fmt::format("identity {}", number.value));
    std::string value;
    put32(value, number.value);
    value.resize(layout.ipcache_value, '\0');
    out.entries.emplace_back(std::move(key), std::move(value));
  }
  out.placeholders.assign(placeholders.begin(), placeholders.end());
  std::sort(out.entries.begin(), out.entries.end());
  return out;
}

std::string write_image(const CiliumImage& image) {
  std::string placeholders;
  for (const std::string& p : image.placeholders) placeholders += p + '\0';
  std::string out(kMagic, sizeof kMagic);
  const MapDefinition& d = image.definition;
  for (const std::uint32_t v : {kVersion, d.type, d.key_size, d.value_size, d.max_entries, d.flags,
                                image.compared, static_cast<std::uint32_t>(image.entries.size()),
                                static_cast<std::uint32_t>(image.pin.size()),
                                static_cast<std::uint32_t>(placeholders.size())}) {
    put32(out, v);
  }
  out += image.pin;
  out += placeholders;
  for (const MapEntry& e : image.entries) out += e.first;
  for (const MapEntry& e : image.entries) out += e.second;
  return out;
}

Expected<CiliumImage> read_cilium_image(std::string_view bytes) {
  if (bytes.size() < kHeader || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
    return Error{"not an image of a map of Cilium's"};
  }
  if (get32(bytes, 4) != kVersion) return Error{"an image of another version; compile again"};
  CiliumImage out;
  out.definition = {get32(bytes, 8), get32(bytes, 12), get32(bytes, 16), get32(bytes, 20),
                    get32(bytes, 24)};
  out.compared = get32(bytes, 28);
  const std::uint64_t count = get32(bytes, 32);
  const std::uint64_t pin = get32(bytes, 36);
  const std::uint64_t placeholders = get32(bytes, 40);
  const MapDefinition& d = out.definition;
  if (d.key_size == 0 || d.key_size > 512 || d.value_size == 0 || d.value_size > 512 ||
      out.compared > d.value_size || pin > 64 || count > d.max_entries) {
    return Error{"the image's header makes no sense"};
  }
  if (kHeader + pin + placeholders + count * (std::uint64_t{d.key_size} + d.value_size) !=
      bytes.size()) {
    return Error{"the image is cut off"};
  }
  std::size_t at = kHeader;
  out.pin = bytes.substr(at, pin);
  if (out.pin.find('/') != std::string::npos) return Error{"the image's pin name is a path"};
  at += pin;
  for (std::string_view rest = bytes.substr(at, placeholders); !rest.empty();) {
    const std::size_t end = rest.find('\0');
    if (end == std::string_view::npos) return Error{"the image's placeholders are cut off"};
    out.placeholders.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  at += placeholders;
  const std::size_t values = at + count * d.key_size;
  for (std::size_t i = 0; i < count; ++i) {
    out.entries.emplace_back(bytes.substr(at + i * d.key_size, d.key_size),
                             bytes.substr(values + i * d.value_size, d.value_size));
  }
  const auto ascends = [](const MapEntry& a, const MapEntry& b) { return a.first < b.first; };
  if (!std::is_sorted(out.entries.begin(), out.entries.end(), ascends) ||
      std::adjacent_find(out.entries.begin(), out.entries.end(), std::not_fn(ascends)) !=
          out.entries.end()) {
    return Error{"the image's keys do not ascend"};
  }
  return out;
}

std::string print_entry(const CiliumImage& image, const MapEntry& entry) {
  const CiliumLayout* layout = layout_of(image);
  if (layout == nullptr) return "entry";
  if (image.definition.key_size == kCiliumPolicyKey) return policy_entry_text(*layout, entry);
  return fmt::format("{:<40} {}", address_text(entry.first), get32(entry.second, 0));
}

Expected<std::string> print_image(const CiliumImage& image) {
  const CiliumLayout* layout = layout_of(image);
  if (layout == nullptr) {
    return Error{fmt::format("no map of Cilium's has {}-byte keys and {}-byte values",
                             image.definition.key_size, image.definition.value_size)};
  }
  const bool policy = image.definition.key_size == kCiliumPolicyKey;
  std::string out =
      fmt::format("{}{}{}: LPM_TRIE, key {} bytes, value {} bytes, {} of {} entries, flags {}\n",
                  policy ? "policy map" : "ipcache", image.pin.empty() ? "" : " ", image.pin,
                  image.definition.key_size, image.definition.value_size, image.entries.size(),
                  image.definition.max_entries, image.definition.flags);
  for (const std::string& p : image.placeholders) out += "placeholder: " + p + '\n';
  for (const MapEntry& e : image.entries) out += "  " + print_entry(image, e) + '\n';
  return out;
}

MapDifference compare(const CiliumImage& image, const std::vector<MapEntry>& map) {
  MapDifference out;
  auto a = image.entries.begin();
  auto b = map.begin();
  while (a != image.entries.end() || b != map.end()) {
    if (b == map.end() || (a != image.entries.end() && a->first < b->first)) {
      out.missing.push_back(*a++);
    } else if (a == image.entries.end() || b->first < a->first) {
      out.added.push_back(*b++);
    } else {
      if (a->second.compare(0, image.compared, b->second, 0, image.compared) != 0) {
        out.different.push_back(*b);
      }
      ++a;
      ++b;
    }
  }
  return out;
}

}  // namespace policyc::bpf
