#include "backend-bpf/image.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <optional>

#include "ir/base/check.h"

namespace policyc::bpf {
namespace {

constexpr std::size_t kMaxCells = std::size_t{1} << 24U;
constexpr std::size_t kMaxIndex = 65535;

// ---- tries

std::size_t add_block(std::vector<std::uint32_t>& blocks, std::uint32_t fill) {
  const std::size_t block = blocks.size() / kBlock;
  blocks.resize(blocks.size() + kBlock, fill);
  return block;
}

// The entries at `at`, or those of a new block below it that begins with what stood there.
std::size_t descend(std::vector<std::uint32_t>& blocks, std::uint32_t& at) {
  if ((at & kChild) != 0) return at & ~kChild;
  const std::size_t block = add_block(blocks, at);
  at = kChild | static_cast<std::uint32_t>(block);
  return block;
}

// Writes `leaf` over the entries of a stride that a prefix with `bits` (0..8) bits left covers.
void fill(std::vector<std::uint32_t>& entries, std::size_t first, std::uint8_t byte, int bits,
          std::uint32_t leaf) {
  const std::size_t count = std::size_t{1} << static_cast<unsigned>(8 - bits);
  for (std::size_t i = 0; i < count; ++i) entries[first + byte + i] = leaf;
}

void insert4(IdentityImage& image, const ir::Prefix& prefix, std::uint32_t leaf) {
  const auto& b = prefix.address.bytes;
  const std::size_t root = std::size_t{b[0]} << 8U | b[1];
  if (prefix.length <= 16) {
    const std::size_t count = std::size_t{1} << (16U - prefix.length);
    std::fill_n(image.root4.begin() + static_cast<std::ptrdiff_t>(root), count, leaf);
    return;
  }
  std::size_t block = descend(image.blocks4, image.root4[root]);
  if (prefix.length > 24) {
    // The reference must not outlive a resize: go through a copy.
    std::uint32_t entry = image.blocks4[block * kBlock + b[2]];
    const std::size_t below = descend(image.blocks4, entry);
    image.blocks4[block * kBlock + b[2]] = entry;
    fill(image.blocks4, below * kBlock, b[3], prefix.length - 24, leaf);
    return;
  }
  fill(image.blocks4, block * kBlock, b[2], prefix.length - 16, leaf);
}

void insert6(IdentityImage& image, const ir::Prefix& prefix, std::uint32_t leaf) {
  const auto& b = prefix.address.bytes;
  std::size_t block = 0;
  int left = prefix.length;
  std::size_t i = 0;
  for (; left > 8; ++i, left -= 8) {
    std::uint32_t entry = image.blocks6[block * kBlock + b[i]];
    const std::size_t below = descend(image.blocks6, entry);
    image.blocks6[block * kBlock + b[i]] = entry;
    block = below;
  }
  fill(image.blocks6, block * kBlock, b[i], left, leaf);
}

// ---- files

struct SectionData {
  SectionId id;
  std::size_t element;
  const void* data;
  std::size_t count;
};

template <class T>
SectionData section(SectionId id, const std::vector<T>& values) {
  return {id, sizeof(T), values.data(), values.size()};
}

std::string write_file(ImageKind kind, const std::vector<SectionData>& sections) {
  ImageHeader header{};
  std::memcpy(header.magic, kImageMagic, sizeof kImageMagic);
  header.version = kImageVersion;
  header.kind = static_cast<std::uint32_t>(kind);
  header.sections = static_cast<std::uint32_t>(sections.size());
  std::string out(reinterpret_cast<const char*>(&header), sizeof header);
  std::size_t offset = sizeof header + sections.size() * sizeof(SectionHeader);
  for (const SectionData& s : sections) {
    offset = (offset + 7) / 8 * 8;
    const SectionHeader h{static_cast<std::uint32_t>(s.id), static_cast<std::uint32_t>(s.element),
                          offset, s.count};
    out.append(reinterpret_cast<const char*>(&h), sizeof h);
    offset += s.element * s.count;
  }
  for (const SectionData& s : sections) {
    out.resize((out.size() + 7) / 8 * 8, '\0');
    out.append(static_cast<const char*>(s.data), s.element * s.count);
  }
  return out;
}

// The section table of a file, checked: every section lies inside the file.
class FileReader {
 public:
  static Expected<FileReader> open(std::string_view bytes, ImageKind kind) {
    ImageHeader header{};
    if (bytes.size() < sizeof header) return Error{"too short for an image"};
    std::memcpy(&header, bytes.data(), sizeof header);
    if (std::memcmp(header.magic, kImageMagic, sizeof kImageMagic) != 0) {
      return Error{"not an image: the first bytes are not `PCIM`"};
    }
    if (header.version != kImageVersion) {
      return Error{
          fmt::format("image version {}, this policyc reads {}", header.version, kImageVersion)};
    }
    if (header.kind != static_cast<std::uint32_t>(kind)) return Error{"another kind of image"};
    if (header.sections > 64 ||
        bytes.size() < sizeof header + header.sections * sizeof(SectionHeader)) {
      return Error{"section table is cut off"};
    }
    FileReader out;
    out.bytes_ = bytes;
    for (std::size_t i = 0; i < header.sections; ++i) {
      SectionHeader h{};
      std::memcpy(&h, bytes.data() + sizeof header + i * sizeof h, sizeof h);
      if (h.element == 0 || h.offset > bytes.size() ||
          h.count > (bytes.size() - h.offset) / h.element) {
        return Error{fmt::format("section {} lies outside the file", h.id)};
      }
      if (!out.sections_.emplace(h.id, h).second) {
        return Error{fmt::format("section {} stands there twice", h.id)};
      }
    }
    return out;
  }

  template <class T>
  bool get(SectionId id, std::vector<T>& values) const {
    const auto it = sections_.find(static_cast<std::uint32_t>(id));
    if (it == sections_.end() || it->second.element != sizeof(T)) return false;
    values.resize(static_cast<std::size_t>(it->second.count));
    if (!values.empty()) {
      std::memcpy(values.data(), bytes_.data() + it->second.offset, values.size() * sizeof(T));
    }
    return true;
  }

 private:
  std::string_view bytes_;
  std::map<std::uint32_t, SectionHeader> sections_;
};

// Every entry is a leaf in range or names a block that nothing else names; `depth` strides follow.
bool trie_sound(const std::vector<std::uint32_t>& blocks, std::vector<bool>& used,
                std::uint32_t entry, int depth, std::size_t identities) {
  if ((entry & kChild) == 0) return entry <= identities;
  const std::size_t block = entry & ~kChild;
  if (depth == 0 || block >= used.size() || used[block]) return false;
  used[block] = true;
  for (std::size_t i = 0; i < kBlock; ++i) {
    if (!trie_sound(blocks, used, blocks[block * kBlock + i], depth - 1, identities)) return false;
  }
  return true;
}

// ---- spans

void append_span(std::vector<AddressSpan>& out, const ir::IpAddress& first, std::uint32_t leaf) {
  if (!out.empty() && out.back().first.family == first.family) {
    if (out.back().first == first) {
      out.back().leaf = leaf;
      // The overwrite may have made it equal to its neighbour.
      if (out.size() > 1 && out[out.size() - 2].first.family == first.family &&
          out[out.size() - 2].leaf == leaf) {
        out.pop_back();
      }
      return;
    }
    if (out.back().leaf == leaf) return;
  }
  out.push_back({first, leaf});
}

void walk(const std::vector<std::uint32_t>& blocks, std::uint32_t entry, ir::IpAddress first,
          std::size_t byte, std::vector<AddressSpan>& out) {
  if ((entry & kChild) == 0) {
    append_span(out, first, entry);
    return;
  }
  for (std::size_t i = 0; i < kBlock; ++i) {
    first.bytes[byte] = static_cast<std::uint8_t>(i);
    walk(blocks, blocks[(entry & ~kChild) * kBlock + i], first, byte + 1, out);
  }
}

// The address after the last of a prefix; nullopt past the end of the family.
std::optional<ir::IpAddress> behind(const ir::Prefix& prefix) {
  ir::IpAddress out = prefix.address;
  for (int bit = prefix.length - 1; bit >= 0; --bit) {
    const auto mask = static_cast<std::uint8_t>(0x80U >> (bit % 8));
    std::uint8_t& byte = out.bytes[static_cast<std::size_t>(bit) / 8];
    byte ^= mask;
    if ((byte & mask) != 0) return out;
  }
  return std::nullopt;
}

// ---- policy tables

RecordWire encode_record(const ir::VerdictRecord& r, const std::vector<std::string>& parsers) {
  RecordWire out;
  out.reason = static_cast<std::uint8_t>(r.reason);
  out.priority = r.priority;
  if (!r.parser.empty()) {
    const auto it = std::lower_bound(parsers.begin(), parsers.end(), r.parser);
    out.parser = static_cast<std::uint8_t>(it - parsers.begin() + 1);
  }
  if (r.auth) {
    out.auth = static_cast<std::uint8_t>(1 + static_cast<unsigned>(r.auth->type) +
                                         (r.auth->is_explicit ? 0x80U : 0U));
  }
  switch (r.verdict) {
    case ir::VerdictKind::Allow:
      out.verdict = static_cast<std::uint8_t>(RecordVerdict::Allow);
      break;
    case ir::VerdictKind::Redirect:
      out.verdict = static_cast<std::uint8_t>(RecordVerdict::Redirect);
      break;
    case ir::VerdictKind::Deny:
    case ir::VerdictKind::Error:
    case ir::VerdictKind::Depends:
      out.verdict = static_cast<std::uint8_t>(RecordVerdict::Deny);
      out.drop = r.reason == ir::Reason::PolicyDeny ? kDropPolicyDeny : kDropPolicy;
      return out;
  }
  if (r.auth && r.auth->type != ir::AuthType::Disabled) out.drop = kDropAuthRequired;
  return out;
}

Expected<PolicyImage> check_sizes(const ir::PolicyTable& ingress, const ir::PolicyTable& egress) {
  std::size_t cells = 0;
  std::size_t records = 0;
  for (const ir::PolicyTable* t : {&ingress, &egress}) {
    if (t->classes == 0 || t->columns() == 0 || t->records.empty()) {
      return Error{"the policy has no tables"};
    }
    if (t->classes > kMaxIndex || t->columns() > kMaxIndex) {
      return Error{
          fmt::format("{} identity classes × {} port classes: the tables hold 65535 of each",
                      t->classes, t->columns())};
    }
    cells += t->cells.size();
    records += t->records.size();
  }
  if (cells > kMaxCells || records > kMaxIndex) {
    return Error{fmt::format("{} decisions, {} verdicts: the tables hold {} and {}", cells, records,
                             kMaxCells, kMaxIndex)};
  }
  return PolicyImage{};
}

std::uint16_t u16(std::size_t value) {
  return static_cast<std::uint16_t>(value);
}

Expected<ir::PolicyTable> decode_direction(const PolicyImage& image, std::size_t direction) {
  const DirectionInfo& info = image.direction[direction];
  ir::PolicyTable out;
  out.enforced = info.enforced != 0;
  out.classes = info.classes;
  for (std::size_t c = 0; c < ir::kProtocolClasses; ++c) {
    for (std::size_t port = 0; port < 65536; ++port) {
      const std::size_t slot = (direction * kClassSlots + c) * kPagesPerClass + port / kPageSize;
      const std::size_t page = image.page_of_port[slot];
      if (page * kPageSize >= image.pages.size()) return Error{"a page is missing"};
      const std::uint16_t column = image.pages[page * kPageSize + port % kPageSize];
      const std::size_t known = out.column_begin.size();
      if (column == known && known < info.columns) {
        if (c == ir::kOther && port != 0) return Error{"ports where the protocol has none"};
        out.column_begin.push_back(static_cast<ir::L4Key>(c << 16U | port));
      } else if (known == 0 || column + 1U != known ||
                 (port == 0 && out.column_begin.back() < c << 16U)) {
        return Error{"port classes are out of order"};
      }
    }
  }
  if (out.column_begin.size() != info.columns) return Error{"port classes are missing"};
  for (const std::uint16_t c : image.class_of[direction]) {
    if (c >= info.classes) return Error{"an identity class is out of range"};
    out.class_of.push_back(c);
  }
  const std::size_t count = std::size_t{info.classes} * info.columns;
  if (info.first_cell > image.cells.size() || count > image.cells.size() - info.first_cell) {
    return Error{"decisions are missing"};
  }
  if (info.first_record > image.records.size() ||
      info.records > image.records.size() - info.first_record) {
    return Error{"verdicts are missing"};
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t record = image.cells[info.first_cell + i];
    if (record < info.first_record || record - info.first_record >= info.records) {
      return Error{"a decision names no verdict of its direction"};
    }
    out.cells.push_back(u16(record - info.first_record));
  }
  for (std::uint32_t i = 0; i < info.records; ++i) {
    out.records.push_back(decode_record(image, info.first_record + i));
  }
  return out;
}

template <class T>
void put(std::string& out, std::size_t offset, const std::vector<T>& values) {
  if (values.empty()) return;
  POLICYC_CHECK(offset + values.size() * sizeof(T) <= out.size(), "image fits its size class");
  std::memcpy(out.data() + offset, values.data(), values.size() * sizeof(T));
}

}  // namespace

IdentityImage encode_identities(const ir::NodeView& view,
                                const std::vector<ir::Identity>& identities) {
  IdentityImage out;
  out.root4.assign(kRoot4, 0);
  add_block(out.blocks6, 0);
  for (const ir::Identity& i : identities) out.numbers.push_back(i.number);
  // Short prefixes first: longer ones are written over them.
  std::vector<std::pair<ir::Prefix, ir::IdentityIndex>> order = view.ipcache;
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.length, a.first.address) < std::pair(b.first.length, b.first.address);
  });
  order.erase(std::unique(order.begin(), order.end(),
                          [](const auto& a, const auto& b) { return a.first == b.first; }),
              order.end());
  for (const auto& [prefix, identity] : order) {
    if (prefix.address.family == ir::Family::V4) {
      insert4(out, prefix, identity + 1);
    } else {
      insert6(out, prefix, identity + 1);
    }
  }
  return out;
}

Expected<PolicyImage> encode_policy(const ir::PolicyTable& ingress, const ir::PolicyTable& egress) {
  auto checked = check_sizes(ingress, egress);
  if (!checked) return checked;
  PolicyImage out;
  const ir::PolicyTable* const tables[2] = {&ingress, &egress};
  for (const ir::PolicyTable* t : tables) {
    for (const ir::VerdictRecord& r : t->records) {
      if (!r.parser.empty()) out.parsers.push_back(r.parser);
    }
  }
  std::sort(out.parsers.begin(), out.parsers.end());
  out.parsers.erase(std::unique(out.parsers.begin(), out.parsers.end()), out.parsers.end());
  if (out.parsers.size() > 255) return Error{"more than 255 proxy parsers"};

  out.page_of_port.assign(kPageSlots, 0);
  std::map<std::vector<std::uint16_t>, std::uint16_t> pages;
  const auto add_page = [&](std::vector<std::uint16_t> page) {
    const auto [it, fresh] = pages.try_emplace(std::move(page), u16(pages.size()));
    if (fresh) out.pages.insert(out.pages.end(), it->first.begin(), it->first.end());
    return it->second;
  };
  for (std::size_t d = 0; d < 2; ++d) {
    const ir::PolicyTable& t = *tables[d];
    DirectionInfo& info = out.direction[d];
    info.first_cell = static_cast<std::uint32_t>(out.cells.size());
    info.columns = static_cast<std::uint32_t>(t.columns());
    info.classes = t.classes;
    info.first_record = static_cast<std::uint32_t>(out.records.size());
    info.records = static_cast<std::uint32_t>(t.records.size());
    info.enforced = t.enforced ? 1 : 0;
    for (const ir::VerdictRecord& r : t.records)
      out.records.push_back(encode_record(r, out.parsers));
    for (const std::uint32_t c : t.class_of) out.class_of[d].push_back(u16(c));
    for (const std::uint16_t cell : t.cells) out.cells.push_back(u16(info.first_record + cell));
    std::size_t column = 0;
    std::optional<std::pair<std::size_t, std::uint16_t>> uniform;  // column, its page
    for (std::size_t slot = 0; slot < ir::kProtocolClasses * kPagesPerClass; ++slot) {
      const auto end_of = [&](std::size_t k) {
        return k + 1 < t.columns() ? t.column_begin[k + 1] : ir::kL4KeyEnd;
      };
      const std::size_t first = slot * kPageSize;
      while (end_of(column) <= first) ++column;
      std::uint16_t& page = out.page_of_port[d * kClassSlots * kPagesPerClass + slot];
      if (end_of(column) >= first + kPageSize) {
        if (!uniform || uniform->first != column) {
          uniform = {column, add_page(std::vector<std::uint16_t>(kPageSize, u16(column)))};
        }
        page = uniform->second;
        continue;
      }
      std::vector<std::uint16_t> mixed;
      for (std::size_t key = first; key < first + kPageSize; ++key) {
        while (end_of(column) <= key) ++column;
        mixed.push_back(u16(column));
      }
      page = add_page(std::move(mixed));
    }
  }
  return out;
}

ir::VerdictRecord decode_record(const PolicyImage& image, std::uint32_t record) {
  const RecordWire& w = image.records[record];
  ir::VerdictRecord out;
  out.verdict =
      w.verdict == static_cast<std::uint8_t>(RecordVerdict::Allow)      ? ir::VerdictKind::Allow
      : w.verdict == static_cast<std::uint8_t>(RecordVerdict::Redirect) ? ir::VerdictKind::Redirect
                                                                        : ir::VerdictKind::Deny;
  out.reason = static_cast<ir::Reason>(w.reason);
  out.priority = w.priority;
  if (w.parser > 0) out.parser = image.parsers[w.parser - 1U];
  if (w.auth != 0) {
    out.auth = ir::Auth{static_cast<ir::AuthType>((w.auth & 0x7FU) - 1U), (w.auth & 0x80U) != 0};
  }
  return out;
}

Expected<DecodedPolicy> decode_policy(const PolicyImage& image) {
  auto ingress = decode_direction(image, 0);
  if (!ingress) return Error{"ingress: " + ingress.error()};
  auto egress = decode_direction(image, 1);
  if (!egress) return Error{"egress: " + egress.error()};
  return DecodedPolicy{std::move(*ingress), std::move(*egress)};
}

std::vector<AddressSpan> address_spans(const IdentityImage& image) {
  std::vector<AddressSpan> out;
  ir::IpAddress first;
  for (std::size_t i = 0; i < kRoot4; ++i) {
    first.bytes[0] = static_cast<std::uint8_t>(i >> 8U);
    first.bytes[1] = static_cast<std::uint8_t>(i);
    walk(image.blocks4, image.root4[i], first, 2, out);
  }
  first = {};
  first.family = ir::Family::V6;
  walk(image.blocks6, kChild, first, 0, out);
  return out;
}

std::vector<AddressSpan> address_spans(const ir::NodeView& view) {
  std::vector<AddressSpan> out;
  // Sorted by address, then length: a prefix comes right before those inside it. The stack holds
  // the prefixes that contain the current address.
  auto entries = view.ipcache;
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const ir::Family family : {ir::Family::V4, ir::Family::V6}) {
    ir::IpAddress zero;
    zero.family = family;
    append_span(out, zero, 0);
    std::vector<std::pair<ir::Prefix, std::uint32_t>> open;
    const auto close_before = [&](const ir::IpAddress* next) {
      while (!open.empty()) {
        const auto end = behind(open.back().first);
        if (!end || (next != nullptr && *next < *end)) {
          if (next != nullptr) return;
          open.pop_back();
          continue;
        }
        open.pop_back();
        append_span(out, *end, open.empty() ? 0 : open.back().second);
      }
    };
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const ir::Prefix& prefix = entries[i].first;
      if (prefix.address.family != family) continue;
      if (i > 0 && entries[i - 1].first == prefix) continue;
      close_before(&prefix.address);
      append_span(out, prefix.address, entries[i].second + 1);
      open.emplace_back(prefix, entries[i].second + 1);
    }
    close_before(nullptr);
  }
  return out;
}

std::string write_image(const IdentityImage& image) {
  return write_file(
      ImageKind::Identities,
      {section(SectionId::Root4, image.root4), section(SectionId::Blocks4, image.blocks4),
       section(SectionId::Blocks6, image.blocks6), section(SectionId::Numbers, image.numbers)});
}

std::string write_image(const PolicyImage& image) {
  const std::vector<DirectionInfo> directions(std::begin(image.direction),
                                              std::end(image.direction));
  std::vector<char> parsers;
  for (const std::string& p : image.parsers) {
    parsers.insert(parsers.end(), p.begin(), p.end());
    parsers.push_back('\0');
  }
  return write_file(
      ImageKind::Policy,
      {section(SectionId::Directions, directions), section(SectionId::Records, image.records),
       section(SectionId::PageOfPort, image.page_of_port),
       section(SectionId::ClassOfIngress, image.class_of[0]),
       section(SectionId::ClassOfEgress, image.class_of[1]), section(SectionId::Pages, image.pages),
       section(SectionId::Cells, image.cells), section(SectionId::Parsers, parsers)});
}

Expected<IdentityImage> read_identity_image(std::string_view bytes) {
  const auto file = FileReader::open(bytes, ImageKind::Identities);
  if (!file) return Error{file.error()};
  IdentityImage out;
  if (!file->get(SectionId::Root4, out.root4) || !file->get(SectionId::Blocks4, out.blocks4) ||
      !file->get(SectionId::Blocks6, out.blocks6) || !file->get(SectionId::Numbers, out.numbers)) {
    return Error{"a section is missing"};
  }
  if (out.root4.size() != kRoot4 || out.blocks4.size() % kBlock != 0 ||
      out.blocks6.size() % kBlock != 0 || out.blocks6.empty()) {
    return Error{"a trie is cut off"};
  }
  std::vector<bool> used4(out.blocks4.size() / kBlock);
  for (const std::uint32_t entry : out.root4) {
    if (!trie_sound(out.blocks4, used4, entry, 2, out.numbers.size())) {
      return Error{"the IPv4 trie is damaged"};
    }
  }
  std::vector<bool> used6(out.blocks6.size() / kBlock);
  if (!trie_sound(out.blocks6, used6, kChild, 16, out.numbers.size())) {
    return Error{"the IPv6 trie is damaged"};
  }
  return out;
}

Expected<PolicyImage> read_policy_image(std::string_view bytes) {
  const auto file = FileReader::open(bytes, ImageKind::Policy);
  if (!file) return Error{file.error()};
  PolicyImage out;
  std::vector<DirectionInfo> directions;
  std::vector<char> parsers;
  if (!file->get(SectionId::Directions, directions) ||
      !file->get(SectionId::Records, out.records) ||
      !file->get(SectionId::PageOfPort, out.page_of_port) ||
      !file->get(SectionId::ClassOfIngress, out.class_of[0]) ||
      !file->get(SectionId::ClassOfEgress, out.class_of[1]) ||
      !file->get(SectionId::Pages, out.pages) || !file->get(SectionId::Cells, out.cells) ||
      !file->get(SectionId::Parsers, parsers)) {
    return Error{"a section is missing"};
  }
  if (directions.size() != 2 || out.page_of_port.size() != kPageSlots ||
      out.pages.size() % kPageSize != 0 || out.pages.size() / kPageSize > kMaxIndex + 1 ||
      out.cells.size() > kMaxCells || out.records.size() > kMaxIndex + 1) {
    return Error{"a section has the wrong size"};
  }
  std::copy(directions.begin(), directions.end(), out.direction);
  if (!parsers.empty() && parsers.back() != '\0') return Error{"parser names are cut off"};
  for (auto it = parsers.begin(); it != parsers.end();) {
    const auto end = std::find(it, parsers.end(), '\0');
    out.parsers.emplace_back(it, end);
    it = end + 1;
  }
  for (const RecordWire& r : out.records) {
    if (r.verdict > 2 || r.parser > out.parsers.size() ||
        r.reason > static_cast<std::uint8_t>(ir::Reason::None) || (r.auth & 0x7FU) > 3 ||
        r.auth == 0x80U) {
      return Error{"a verdict is damaged"};
    }
  }
  const auto decoded = decode_policy(out);
  if (!decoded) return Error{decoded.error()};
  return out;
}

SizeClass size_class(const IdentityImage& identities, const PolicyImage& policy) {
  const SizeClass least;
  const auto at_least = [](std::uint32_t minimum, std::size_t needed) {
    return std::max(minimum, std::bit_ceil(static_cast<std::uint32_t>(needed)));
  };
  SizeClass out;
  out.trie4_blocks = at_least(least.trie4_blocks, identities.blocks4.size() / kBlock);
  out.trie6_blocks = at_least(least.trie6_blocks, identities.blocks6.size() / kBlock);
  out.identities =
      at_least(least.identities, std::max(policy.class_of[0].size(), policy.class_of[1].size()));
  out.pages = at_least(least.pages, policy.pages.size() / kPageSize);
  out.cells = at_least(least.cells, policy.cells.size());
  out.records = at_least(least.records, policy.records.size());
  return out;
}

std::string tries_value(const IdentityImage& image, const SizeClass& sizes) {
  std::string out(sizes.tries_size(), '\0');
  put(out, 0, image.root4);
  put(out, 4 * kRoot4, image.blocks4);
  put(out, 4 * (kRoot4 + kBlock * sizes.trie4_blocks), image.blocks6);
  return out;
}

std::string tables_value(const PolicyImage& image, const SizeClass& sizes,
                         std::uint16_t proxy_port) {
  std::string out(sizes.tables_size(), '\0');
  std::vector<DirectionWire> directions;
  for (const DirectionInfo& d : image.direction) directions.push_back({d.first_cell, d.columns});
  put(out, 0, directions);
  out[kProxyPortOffset] = static_cast<char>(proxy_port >> 8U);
  out[kProxyPortOffset + 1] = static_cast<char>(proxy_port & 0xFFU);
  put(out, sizes.records_offset(), image.records);
  put(out, sizes.page_of_offset(), image.page_of_port);
  put(out, sizes.class_of_offset(), image.class_of[0]);
  put(out, sizes.class_of_offset() + 2 * std::size_t{sizes.identities}, image.class_of[1]);
  put(out, sizes.pages_offset(), image.pages);
  put(out, sizes.cells_offset(), image.cells);
  return out;
}

}  // namespace policyc::bpf
