#include "backend-bpf/image.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include "ir/base/check.h"

namespace policyc::bpf {
namespace {

constexpr std::size_t kMaxCells = std::size_t{1} << 22U;
constexpr std::size_t kMaxIndex = 65535;
constexpr std::size_t kFullBlock = 32;  // host routes that are worth a block

std::uint16_t u16(std::size_t value) {
  return static_cast<std::uint16_t>(value);
}

std::uint32_t u32(std::size_t value) {
  return static_cast<std::uint32_t>(value);
}

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

// The leaf that decides an address.
std::uint32_t& leaf4(IdentityImage& image, std::uint32_t address) {
  std::uint32_t* entry = &image.root4[address >> 16U];
  for (const unsigned shift : {8U, 0U}) {
    if ((*entry & kChild) == 0) break;
    entry = &image.blocks4[(*entry & ~kChild) * kBlock + (address >> shift & 255U)];
  }
  return *entry;
}

// ---- hashes of host routes

struct Words6 {
  std::uint64_t high = 0, low = 0;
};
Words6 words6(const std::array<std::uint8_t, 16>& address) {
  Words6 out;
  std::memcpy(&out.high, address.data(), 8);
  std::memcpy(&out.low, address.data() + 8, 8);
  return out;
}

std::uint64_t hash_of(const Host6Wire& host) {
  const Words6 w = words6(host.address);
  return hash6(w.high, w.low);
}
std::uint32_t tag6(std::uint64_t hash) {
  return static_cast<std::uint32_t>(hash >> 16U);
}

constexpr std::uint32_t kLeastBits = 4, kMostBits = 20;

// Two hosts a bucket on average.
std::uint32_t roomy_bits(std::size_t hosts) {
  std::uint32_t bits = kLeastBits;
  while (bits < kMostBits && (std::size_t{2} << bits) < hosts) ++bits;
  return bits;
}

// Puts hosts into buckets in their order; those for which there is no room are given back by index.
std::vector<std::size_t> fill4(const std::vector<Host4>& hosts, std::uint32_t bits,
                               std::vector<Bucket4Wire>& buckets) {
  std::vector<std::size_t> left;
  buckets.assign(std::size_t{1} << bits, {});
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    Bucket4Wire& b = buckets[bucket4(hosts[i].address, bits)];
    const auto slot = std::find(b.leaf.begin(), b.leaf.end(), 0U) - b.leaf.begin();
    if (slot == static_cast<std::ptrdiff_t>(kSlots)) {
      left.push_back(i);
      continue;
    }
    b.address[static_cast<std::size_t>(slot)] = hosts[i].address;
    b.leaf[static_cast<std::size_t>(slot)] = hosts[i].leaf;
  }
  return left;
}

// The same; host k stands at k + 1. A tag occurs once in a bucket.
std::vector<std::size_t> fill6(const std::vector<Host6Wire>& hosts, std::uint32_t bits,
                               std::vector<Bucket6Wire>& buckets) {
  std::vector<std::size_t> left;
  buckets.assign(std::size_t{1} << bits, {});
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const std::uint64_t hash = hash_of(hosts[i]);
    Bucket6Wire& b = buckets[hash >> (64U - bits)];
    std::size_t slot = 0;
    while (slot < kSlots && b.host[slot] != 0 && b.tag[slot] != tag6(hash)) ++slot;
    if (slot == kSlots || b.host[slot] != 0) {
      left.push_back(i);
      continue;
    }
    b.tag[slot] = tag6(hash);
    b.host[slot] = u32(i + 1);
  }
  return left;
}

template <class Host>
std::vector<Host> take_out(std::vector<Host>& hosts, const std::vector<std::size_t>& indices) {
  std::vector<Host> out;
  for (auto it = indices.rbegin(); it != indices.rend(); ++it) {
    out.push_back(hosts[*it]);
    hosts.erase(hosts.begin() + static_cast<std::ptrdiff_t>(*it));
  }
  return out;
}

// The fewest buckets in which all hosts find room.
template <class Host, class Bucket>
std::uint32_t least_bits(const std::vector<Host>& hosts,
                         std::vector<std::size_t> (*fill_buckets)(const std::vector<Host>&,
                                                                  std::uint32_t,
                                                                  std::vector<Bucket>&)) {
  std::vector<Bucket> buckets;
  std::uint32_t bits = roomy_bits(hosts.size());
  while (bits < kMostBits && !fill_buckets(hosts, bits, buckets).empty()) ++bits;
  return bits;
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
  if ((entry & kChild) == 0) return (entry & kLeaf) <= identities;
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
    append_span(out, first, entry & kLeaf);
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

// Host routes laid over the spans of a trie.
struct HostSpan {
  ir::IpAddress address;
  std::uint32_t leaf;
};
std::vector<AddressSpan> overlay(const std::vector<AddressSpan>& spans,
                                 const std::vector<HostSpan>& hosts) {
  std::vector<AddressSpan> out;
  auto host = hosts.begin();
  for (std::size_t i = 0; i < spans.size(); ++i) {
    append_span(out, spans[i].first, spans[i].leaf);
    while (host != hosts.end() && (i + 1 == spans.size() || host->address < spans[i + 1].first)) {
      append_span(out, host->address, host->leaf);
      const auto next = behind(ir::host_prefix(host->address));
      if (next && (i + 1 == spans.size() || *next < spans[i + 1].first)) {
        append_span(out, *next, spans[i].leaf);
      }
      ++host;
    }
  }
  return out;
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
      out.verdict = static_cast<std::uint8_t>(CellKind::Allow);
      break;
    case ir::VerdictKind::Redirect:
      out.verdict = static_cast<std::uint8_t>(CellKind::Redirect);
      break;
    case ir::VerdictKind::Deny:
    case ir::VerdictKind::Error:
    case ir::VerdictKind::Depends:
      out.verdict = static_cast<std::uint8_t>(CellKind::Drop);
      out.drop = r.reason == ir::Reason::PolicyDeny ? kDropPolicyDeny : kDropPolicy;
      return out;
  }
  if (r.auth && r.auth->type != ir::AuthType::Disabled) out.drop = kDropAuthRequired;
  return out;
}

CellKind kind_of(const RecordWire& r) {
  return r.drop != 0 ? CellKind::Drop : static_cast<CellKind>(r.verdict);
}

// The ways of an encoder that gives up say what would help.
Error too_large(std::size_t have, const char* what, std::size_t limit) {
  return Error{
      fmt::format("{} {}, and the tables hold {}: the policies that select it tell too many peers "
                  "and ports apart",
                  have, what, limit)};
}

// A direction of a policy with rows and columns that say the same made one.
struct Compact {
  std::vector<std::vector<std::uint16_t>> rows;  // [row][column of the table] = cell
  std::vector<std::uint16_t> column_of;          // per column of the table: which one it became
  std::size_t columns = 0;
};

Compact compact(const ir::PolicyTable& table, const std::vector<std::uint16_t>& cell_of_record,
                std::vector<std::uint16_t>& row_of) {
  Compact out;
  const std::size_t width = table.columns();
  std::map<std::vector<std::uint16_t>, std::vector<std::size_t>>
      rows;  // → classes, in content order
  for (std::size_t c = 0; c < table.classes; ++c) {
    std::vector<std::uint16_t> row(width);
    for (std::size_t k = 0; k < width; ++k) row[k] = cell_of_record[table.cells[c * width + k]];
    rows[std::move(row)].push_back(c);
  }
  std::vector<std::uint16_t> row_of_class(table.classes);
  for (const auto& [row, classes] : rows) {
    for (const std::size_t c : classes) row_of_class[c] = u16(out.rows.size());
    out.rows.push_back(row);
  }
  for (const std::uint32_t c : table.class_of) row_of.push_back(row_of_class[c]);
  std::map<std::vector<std::uint16_t>, std::uint16_t> columns;
  for (std::size_t k = 0; k < width; ++k) {
    std::vector<std::uint16_t> column(out.rows.size());
    for (std::size_t r = 0; r < out.rows.size(); ++r) column[r] = out.rows[r][k];
    out.column_of.push_back(
        columns.try_emplace(std::move(column), u16(columns.size())).first->second);
  }
  out.columns = columns.size();
  return out;
}

ir::L4Key end_of(const ir::PolicyTable& t, std::size_t column) {
  return column + 1 < t.columns() ? t.column_begin[column + 1] : ir::kL4KeyEnd;
}

void put_pages(const ir::PolicyTable& t, std::size_t direction, const Compact& compact,
               std::map<std::vector<std::uint16_t>, std::uint16_t>& known, PolicyImage& out) {
  const auto add_page = [&](std::vector<std::uint16_t> page) {
    const auto [it, fresh] = known.try_emplace(std::move(page), u16(known.size()));
    if (fresh) out.pages.insert(out.pages.end(), it->first.begin(), it->first.end());
    return it->second;
  };
  std::size_t column = 0;
  std::optional<std::pair<std::uint16_t, std::uint16_t>> uniform;  // column, its page
  for (std::size_t slot = 0; slot < ir::kProtocolClasses * kPagesPerClass; ++slot) {
    const std::size_t first = slot * kPageSize;
    while (end_of(t, column) <= first) ++column;
    std::uint16_t& page = out.page_of_port[direction * kClassSlots * kPagesPerClass + slot];
    if (end_of(t, column) >= first + kPageSize) {
      const std::uint16_t c = compact.column_of[column];
      if (!uniform || uniform->first != c) {
        uniform = {c, add_page(std::vector<std::uint16_t>(kPageSize, c))};
      }
      page = uniform->second;
      continue;
    }
    std::vector<std::uint16_t> mixed;
    for (std::size_t key = first; key < first + kPageSize; ++key) {
      while (end_of(t, column) <= key) ++column;
      mixed.push_back(compact.column_of[column]);
    }
    page = add_page(std::move(mixed));
  }
}

// What a policy image contradicts itself in; empty where it is sound.
std::string policy_fault(const PolicyImage& image) {
  if (image.records.size() > kCellRecord || image.cells.size() > kMaxCells ||
      image.pages.size() / kPageSize > kMaxIndex) {
    return "a section is too large";
  }
  for (const RecordWire& r : image.records) {
    if (r.verdict > 2 || r.parser > image.parsers.size() ||
        r.reason > static_cast<std::uint8_t>(ir::Reason::None) || (r.auth & 0x7FU) > 3 ||
        r.auth == 0x80U || (r.verdict == 0 && r.drop == 0)) {
      return "a verdict is damaged";
    }
  }
  const DirectionInfo(&d)[2] = image.direction;
  const std::size_t rows = std::size_t{d[0].rows} + d[1].rows;
  if (d[0].rows == 0 || d[1].rows == 0 || d[0].rows > kMaxIndex || d[1].rows > kMaxIndex ||
      d[0].first_row != 0 || d[1].first_row != d[0].rows || image.row_begin.size() != rows + 1 ||
      image.row_begin.back() != image.cells.size()) {
    return "decisions are missing";
  }
  std::size_t reserved = 1;
  if (!image.intervals()) {
    reserved = std::max(d[0].columns, d[1].columns);
    if (d[0].columns == 0 || d[1].columns == 0) return "port classes are missing";
  }
  if (image.row_begin[0] != reserved || reserved > image.cells.size()) {
    return "decisions are missing";
  }
  for (std::size_t r = 0; r < rows; ++r) {
    if (image.row_begin[r + 1] <= image.row_begin[r]) return "rows are out of order";
    const std::size_t width = image.row_begin[r + 1] - image.row_begin[r];
    if (!image.intervals() && width != d[r < d[0].rows ? 0 : 1].columns) {
      return "a row has the wrong width";
    }
  }
  for (std::size_t i = 0; i < image.cells.size(); ++i) {
    const std::size_t record = image.cells[i] & kCellRecord;
    if (i < reserved ? image.cells[i] != 0
                     : record == 0 || record > image.records.size() ||
                           static_cast<CellKind>(image.cells[i] >> 14U) !=
                               kind_of(image.records[record - 1])) {
      return "a decision names no verdict";
    }
  }
  if (image.intervals()) {
    if (image.keys.size() != image.cells.size() || image.keys[0] != 0 || d[0].columns != 0 ||
        d[1].columns != 0 || !image.pages.empty() || !image.page_of_port.empty()) {
      return "a section has the wrong size";
    }
    for (std::size_t r = 0; r < rows; ++r) {
      std::uint32_t before = 0;
      for (std::size_t i = image.row_begin[r]; i < image.row_begin[r + 1]; ++i) {
        const bool first = i == image.row_begin[r];
        if (first ? image.keys[i] != 0 : image.keys[i] <= before)
          return "intervals are out of order";
        if (image.keys[i] >= ir::kL4KeyEnd) return "an interval begins too high";
        before = image.keys[i];
      }
    }
    return "";
  }
  if (image.page_of_port.size() != kPageSlots || image.pages.size() % kPageSize != 0) {
    return "a section has the wrong size";
  }
  std::vector<std::uint16_t> highest(image.pages.size() / kPageSize);
  for (std::size_t i = 0; i < image.pages.size(); ++i) {
    highest[i / kPageSize] = std::max(highest[i / kPageSize], image.pages[i]);
  }
  for (std::size_t slot = 0; slot < kPageSlots; ++slot) {
    const std::size_t page = image.page_of_port[slot];
    if (page >= highest.size()) return "a page is missing";
    if (slot / kPagesPerClass % kClassSlots >= ir::kProtocolClasses) continue;
    if (highest[page] >= d[slot / (kPageSlots / 2)].columns) return "a port class is out of range";
  }
  return "";
}

// Where a direction's decisions may change: the first key of each column of the decoded table.
std::vector<ir::L4Key> decoded_columns(const PolicyImage& image, std::size_t direction) {
  std::set<ir::L4Key> begins;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) begins.insert(c << 16U);
  const DirectionInfo& info = image.direction[direction];
  if (image.intervals()) {
    for (std::size_t i = image.row_begin[info.first_row];
         i < image.row_begin[info.first_row + info.rows]; ++i) {
      // Class 0 has no ports: all its keys are answered by the first.
      if (image.keys[i] >= 1U << 16U) begins.insert(image.keys[i]);
    }
  } else {
    for (std::size_t slot = kPagesPerClass; slot < ir::kProtocolClasses * kPagesPerClass; ++slot) {
      const std::size_t at = direction * kPageSlots / 2 + slot;
      const std::uint16_t* page = &image.pages[image.page_of_port[at] * kPageSize];
      const std::uint16_t* last =
          &image.pages[image.page_of_port[at - 1] * kPageSize + kPageSize - 1];
      if (page[0] != *last) begins.insert(u32(slot * kPageSize));
      for (std::size_t i = 1; i < kPageSize; ++i) {
        if (page[i] != page[i - 1]) begins.insert(u32(slot * kPageSize + i));
      }
    }
  }
  return {begins.begin(), begins.end()};
}

std::uint16_t cell_at(const PolicyImage& image, std::size_t direction, std::size_t row,
                      ir::L4Key key) {
  const std::size_t r = image.direction[direction].first_row + row;
  const std::size_t begin = image.row_begin[r];
  if (image.intervals()) {
    const auto first = image.keys.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto end = image.keys.begin() + static_cast<std::ptrdiff_t>(image.row_begin[r + 1]);
    return image
        .cells[static_cast<std::size_t>(std::upper_bound(first, end, key) - image.keys.begin()) -
               1];
  }
  const std::size_t page = image.page_of_port[direction * kPageSlots / 2 + key / kPageSize];
  return image.cells[begin + image.pages[page * kPageSize + key % kPageSize]];
}

ir::PolicyTable decode_direction(const PolicyImage& image, const ClassImage& classes,
                                 std::size_t slot, std::size_t direction) {
  const DirectionInfo& info = image.direction[direction];
  ir::PolicyTable out;
  out.enforced = info.enforced != 0;
  out.column_begin = decoded_columns(image, direction);
  out.classes = info.rows;
  for (const std::uint32_t c : classes.class_of) {
    out.class_of.push_back(classes.row(slot, direction, c));
  }
  for (std::size_t row = 0; row < info.rows; ++row) {
    for (const ir::L4Key key : out.column_begin) {
      out.cells.push_back(u16((cell_at(image, direction, row, key) & kCellRecord) - 1));
    }
  }
  for (std::size_t r = 1; r <= image.records.size(); ++r) {
    out.records.push_back(decode_record(image, u32(r)));
  }
  return out;
}

std::uint32_t classes_needed(std::uint32_t classes) {
  return std::max(SizeClass{}.classes, std::bit_ceil(classes + 1));
}

// Whether a class and an identity fit into a leaf together.
bool packable(std::uint32_t classes, std::size_t identities, std::uint32_t class_slots) {
  const std::size_t shift = static_cast<std::size_t>(std::countr_zero(class_slots));
  return classes < class_slots && (identities + 1) << shift <= kLeaf;
}

std::uint32_t at_least(std::uint32_t minimum, std::size_t needed) {
  return std::max(minimum, std::bit_ceil(u32(needed)));
}

std::size_t longest_row(const PolicyImage& policy) {
  std::size_t out = 1;
  for (std::size_t r = 0; r + 1 < policy.row_begin.size(); ++r) {
    out = std::max<std::size_t>(out, policy.row_begin[r + 1] - policy.row_begin[r]);
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

bool ClassImage::discrete() const {
  return !packable(classes, class_of.size(), classes_needed(classes));
}

IdentityImage encode_identities(const ir::NodeView& view,
                                const std::vector<ir::Identity>& identities,
                                std::size_t trie_blocks) {
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
  // How full the trie's last blocks would be, and which of them stand for more than host routes.
  std::map<std::uint32_t, std::size_t> routes24;
  std::set<std::uint32_t> blocks16, mixed24;
  for (const auto& [prefix, identity] : order) {
    if (prefix.address.family != ir::Family::V4 || prefix.length <= 16) continue;
    const std::uint32_t address = prefix.address.v4();
    blocks16.insert(address >> 16U);
    if (prefix.length <= 24) continue;
    ++routes24[address >> 8U];
    if (prefix.length < 32) mixed24.insert(address >> 8U);
  }
  const bool sparse = blocks16.size() + routes24.size() > trie_blocks;
  const auto hashed = [&](const ir::Prefix& p) {
    if (p.address.family == ir::Family::V6) return p.length == 128;
    if (!sparse || p.length != 32) return false;
    const std::uint32_t block = p.address.v4() >> 8U;
    return routes24[block] < kFullBlock && mixed24.count(block) == 0;
  };
  const auto insert = [&](const ir::Prefix& prefix, std::uint32_t leaf) {
    if (prefix.address.family == ir::Family::V4) {
      insert4(out, prefix, leaf);
    } else {
      insert6(out, prefix, leaf);
    }
  };
  for (const auto& [prefix, identity] : order) {
    if (!hashed(prefix)) {
      insert(prefix, identity + 1);
    } else if (prefix.address.family == ir::Family::V4) {
      out.hosts4.push_back({prefix.address.v4(), identity + 1});
    } else {
      out.hosts6.push_back({prefix.address.bytes, identity + 1, {}});
    }
  }
  // Host routes for which the hash has no room go to the trie: nothing in it is longer.
  std::vector<Bucket4Wire> buckets4;
  for (const Host4& h :
       take_out(out.hosts4, fill4(out.hosts4, roomy_bits(out.hosts4.size()), buckets4))) {
    insert(ir::host_prefix(ir::IpAddress::from_v4(h.address)), h.leaf);
  }
  std::vector<Bucket6Wire> buckets6;
  for (const Host6Wire& h :
       take_out(out.hosts6, fill6(out.hosts6, roomy_bits(out.hosts6.size()), buckets6))) {
    insert(ir::host_prefix({ir::Family::V6, h.address}), h.leaf);
  }
  for (const Host4& h : out.hosts4) leaf4(out, h.address) |= kHashed;
  return out;
}

namespace {

// A table whose records tell apart what different HTTP filters judge.
struct FilteredTable {
  ir::PolicyTable table;
  std::vector<std::uint16_t> filter_of;  // per record
};

Expected<FilteredTable> with_filters(const ir::PolicyTable& in,
                                     const std::vector<std::uint16_t>& http) {
  FilteredTable out{in, {}};
  out.table.records.clear();
  std::map<std::pair<std::uint16_t, std::uint16_t>, std::uint16_t> number;  // old record, filter
  for (std::size_t cell = 0; cell < in.cells.size(); ++cell) {
    const std::uint16_t of = cell < in.cell_filters.size() ? in.cell_filters[cell] : 0;
    const std::uint16_t filter = of == 0 ? 0 : http[of - 1U];
    const auto [it, fresh] =
        number.try_emplace({in.cells[cell], filter}, u16(out.table.records.size()));
    if (fresh) {
      if (number.size() > kCellRecord) {
        return too_large(number.size(), "different verdicts", kCellRecord);
      }
      out.table.records.push_back(in.records[in.cells[cell]]);
      out.filter_of.push_back(filter);
    }
    out.table.cells[cell] = it->second;
  }
  return out;
}

}  // namespace

Expected<EncodedPolicy> encode_policy(const ir::PolicyTable& ingress, const ir::PolicyTable& egress,
                                      std::size_t budget, const HttpFilterNumbers& http) {
  EncodedPolicy encoded;
  PolicyImage& out = encoded.image;
  const ir::PolicyTable* tables[2] = {&ingress, &egress};
  FilteredTable filtered[2];
  for (std::size_t d = 0; d < 2; ++d) {
    if (http[d].empty()) continue;
    auto split = with_filters(*tables[d], http[d]);
    if (!split) return Error{split.error()};
    filtered[d] = std::move(*split);
    tables[d] = &filtered[d].table;
  }
  const auto encode = [&](std::size_t d, std::size_t record) {
    RecordWire wire = encode_record(tables[d]->records[record], out.parsers);
    if (!filtered[d].filter_of.empty()) wire.filter = filtered[d].filter_of[record];
    return wire;
  };
  for (const ir::PolicyTable* t : tables) {
    if (t->classes == 0 || t->columns() == 0 || t->records.empty()) {
      return Error{"the policy has no tables"};
    }
    for (const ir::VerdictRecord& r : t->records) {
      if (!r.parser.empty()) out.parsers.push_back(r.parser);
    }
  }
  std::sort(out.parsers.begin(), out.parsers.end());
  out.parsers.erase(std::unique(out.parsers.begin(), out.parsers.end()), out.parsers.end());
  if (out.parsers.size() > 255) return too_large(out.parsers.size(), "proxy parsers", 255);
  for (std::size_t d = 0; d < 2; ++d) {
    for (std::size_t r = 0; r < tables[d]->records.size(); ++r) {
      out.records.push_back(encode(d, r));
    }
  }
  std::sort(out.records.begin(), out.records.end());
  out.records.erase(std::unique(out.records.begin(), out.records.end()), out.records.end());
  if (out.records.size() > kCellRecord) {
    return too_large(out.records.size(), "different verdicts", kCellRecord);
  }

  Compact compacts[2];
  std::size_t cells = 0;
  for (std::size_t d = 0; d < 2; ++d) {
    const ir::PolicyTable& t = *tables[d];
    std::vector<std::uint16_t> cell_of_record;
    for (std::size_t r = 0; r < t.records.size(); ++r) {
      const RecordWire wire = encode(d, r);
      const auto at = std::lower_bound(out.records.begin(), out.records.end(), wire);
      cell_of_record.push_back(u16(static_cast<std::size_t>(kind_of(wire)) << 14U |
                                   static_cast<std::size_t>(at - out.records.begin() + 1)));
    }
    compacts[d] = compact(t, cell_of_record, encoded.row_of[d]);
    if (compacts[d].rows.size() > kMaxIndex) {
      return too_large(compacts[d].rows.size(), "kinds of peers", kMaxIndex);
    }
    cells += compacts[d].rows.size() * compacts[d].columns;
    out.direction[d].rows = u32(compacts[d].rows.size());
    out.direction[d].enforced = t.enforced ? 1 : 0;
  }
  out.direction[1].first_row = out.direction[0].rows;
  const std::size_t widest = std::max(compacts[0].columns, compacts[1].columns);
  if (2 * (cells + widest) <= budget && widest <= kMaxIndex) {
    out.cells.assign(widest, 0);
    out.page_of_port.assign(kPageSlots, 0);
    std::map<std::vector<std::uint16_t>, std::uint16_t> pages;
    for (std::size_t d = 0; d < 2; ++d) {
      out.direction[d].columns = u32(compacts[d].columns);
      put_pages(*tables[d], d, compacts[d], pages, out);
      for (const std::vector<std::uint16_t>& row : compacts[d].rows) {
        const std::size_t begin = out.cells.size();
        out.row_begin.push_back(u32(begin));
        out.cells.resize(begin + compacts[d].columns);
        for (std::size_t k = 0; k < row.size(); ++k) {
          out.cells[begin + compacts[d].column_of[k]] = row[k];
        }
      }
    }
  } else {
    out.keys = {0};
    out.cells = {0};
    for (std::size_t d = 0; d < 2; ++d) {
      for (const std::vector<std::uint16_t>& row : compacts[d].rows) {
        out.row_begin.push_back(u32(out.cells.size()));
        for (std::size_t k = 0; k < row.size(); ++k) {
          if (k > 0 && row[k] == row[k - 1]) continue;
          out.keys.push_back(tables[d]->column_begin[k]);
          out.cells.push_back(row[k]);
        }
      }
    }
    if (out.cells.size() > kMaxCells) {
      return too_large(out.cells.size(), "stretches of ports", kMaxCells);
    }
  }
  out.row_begin.push_back(u32(out.cells.size()));
  return encoded;
}

ClassImage encode_classes(const std::vector<const EncodedPolicy*>& policies,
                          std::size_t identities) {
  ClassImage out;
  out.slots = u32(policies.size());
  out.class_of.assign(identities, 0);
  out.classes = identities == 0 ? 0 : 1;
  for (const EncodedPolicy* policy : policies) {
    for (std::size_t d = 0; d < 2; ++d) {
      const std::size_t rows = policy->image.direction[d].rows;
      if (rows <= 1) continue;
      // Numbered as they first come.
      std::unordered_map<std::uint64_t, std::uint32_t> finer;
      for (std::size_t i = 0; i < identities; ++i) {
        const std::uint64_t key = std::uint64_t{out.class_of[i]} * rows + policy->row_of[d][i];
        out.class_of[i] = finer.try_emplace(key, u32(finer.size())).first->second;
      }
      out.classes = u32(finer.size());
    }
  }
  for (std::uint32_t& c : out.class_of) ++c;
  if (out.discrete()) {
    out.classes = u32(identities);
    for (std::size_t i = 0; i < identities; ++i) out.class_of[i] = u32(i + 1);
  }
  out.rows.assign(std::size_t{out.slots} * 2 * out.classes, 0);
  for (std::size_t slot = 0; slot < policies.size(); ++slot) {
    for (std::size_t d = 0; d < 2; ++d) {
      for (std::size_t i = 0; i < identities; ++i) {
        out.rows[(slot * 2 + d) * out.classes + out.class_of[i] - 1] = policies[slot]->row_of[d][i];
      }
    }
  }
  return out;
}

ir::VerdictRecord decode_record(const PolicyImage& image, std::uint32_t record) {
  const RecordWire& w = image.records[record - 1];
  ir::VerdictRecord out;
  out.verdict = w.verdict == static_cast<std::uint8_t>(CellKind::Allow) ? ir::VerdictKind::Allow
                : w.verdict == static_cast<std::uint8_t>(CellKind::Redirect)
                    ? ir::VerdictKind::Redirect
                    : ir::VerdictKind::Deny;
  out.reason = static_cast<ir::Reason>(w.reason);
  out.priority = w.priority;
  if (w.parser > 0) out.parser = image.parsers[w.parser - 1U];
  if (w.auth != 0) {
    out.auth = ir::Auth{static_cast<ir::AuthType>((w.auth & 0x7FU) - 1U), (w.auth & 0x80U) != 0};
  }
  return out;
}

Expected<DecodedPolicy> decode_policy(const PolicyImage& policy, const ClassImage& classes,
                                      std::size_t slot) {
  if (!belong_together(policy, classes, slot)) {
    return Error{"the images of policy and classes do not belong together"};
  }
  return DecodedPolicy{decode_direction(policy, classes, slot, 0),
                       decode_direction(policy, classes, slot, 1)};
}

std::vector<AddressSpan> address_spans(const IdentityImage& image) {
  std::vector<AddressSpan> out;
  std::vector<HostSpan> hosts;
  for (const Host4& h : image.hosts4) hosts.push_back({ir::IpAddress::from_v4(h.address), h.leaf});
  ir::IpAddress first;
  for (std::size_t i = 0; i < kRoot4; ++i) {
    first.bytes[0] = static_cast<std::uint8_t>(i >> 8U);
    first.bytes[1] = static_cast<std::uint8_t>(i);
    walk(image.blocks4, image.root4[i], first, 2, out);
  }
  for (const Host6Wire& h : image.hosts6) hosts.push_back({{ir::Family::V6, h.address}, h.leaf});
  first = {};
  first.family = ir::Family::V6;
  walk(image.blocks6, kChild, first, 0, out);
  return overlay(out, hosts);
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
       section(SectionId::Hosts4, image.hosts4), section(SectionId::Blocks6, image.blocks6),
       section(SectionId::Hosts6, image.hosts6), section(SectionId::Numbers, image.numbers)});
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
       section(SectionId::PageOfPort, image.page_of_port), section(SectionId::Pages, image.pages),
       section(SectionId::RowBegin, image.row_begin), section(SectionId::Keys, image.keys),
       section(SectionId::Cells, image.cells), section(SectionId::Parsers, parsers)});
}

std::string write_image(const ClassImage& image) {
  return write_file(ImageKind::Classes, {section(SectionId::ClassOf, image.class_of),
                                         section(SectionId::Rows, image.rows)});
}

Expected<IdentityImage> read_identity_image(std::string_view bytes) {
  const auto file = FileReader::open(bytes, ImageKind::Identities);
  if (!file) return Error{file.error()};
  IdentityImage out;
  if (!file->get(SectionId::Root4, out.root4) || !file->get(SectionId::Blocks4, out.blocks4) ||
      !file->get(SectionId::Hosts4, out.hosts4) || !file->get(SectionId::Blocks6, out.blocks6) ||
      !file->get(SectionId::Hosts6, out.hosts6) || !file->get(SectionId::Numbers, out.numbers)) {
    return Error{"a section is missing"};
  }
  if (out.root4.size() != kRoot4 || out.blocks4.size() % kBlock != 0 ||
      out.blocks6.size() % kBlock != 0 || out.blocks6.empty() || out.numbers.size() >= kLeaf) {
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
  for (const std::vector<bool>* used : {&used4, &used6}) {
    if (std::find(used->begin(), used->end(), false) != used->end()) {
      return Error{"a block of a trie hangs in the air"};
    }
  }
  for (std::size_t i = 0; i < out.hosts4.size(); ++i) {
    const Host4& h = out.hosts4[i];
    if (h.leaf == 0 || h.leaf > out.numbers.size() ||
        (i > 0 && out.hosts4[i - 1].address >= h.address) ||
        (leaf4(out, h.address) & kHashed) == 0) {
      return Error{"the IPv4 host routes are damaged"};
    }
  }
  for (std::size_t i = 0; i < out.hosts6.size(); ++i) {
    const Host6Wire& h = out.hosts6[i];
    if (h.leaf == 0 || h.leaf > out.numbers.size() ||
        (i > 0 && out.hosts6[i - 1].address >= h.address)) {
      return Error{"the IPv6 host routes are damaged"};
    }
  }
  std::vector<Bucket4Wire> buckets4;
  std::vector<Bucket6Wire> buckets6;
  if (!fill4(out.hosts4, least_bits(out.hosts4, fill4), buckets4).empty() ||
      !fill6(out.hosts6, least_bits(out.hosts6, fill6), buckets6).empty()) {
    return Error{"the host routes do not fit into any hash"};
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
      !file->get(SectionId::Pages, out.pages) || !file->get(SectionId::RowBegin, out.row_begin) ||
      !file->get(SectionId::Keys, out.keys) || !file->get(SectionId::Cells, out.cells) ||
      !file->get(SectionId::Parsers, parsers)) {
    return Error{"a section is missing"};
  }
  if (directions.size() != 2) return Error{"a section has the wrong size"};
  std::copy(directions.begin(), directions.end(), out.direction);
  if (!parsers.empty() && parsers.back() != '\0') return Error{"parser names are cut off"};
  for (auto it = parsers.begin(); it != parsers.end();) {
    const auto end = std::find(it, parsers.end(), '\0');
    out.parsers.emplace_back(it, end);
    it = end + 1;
  }
  std::string fault = policy_fault(out);
  if (!fault.empty()) return Error{std::move(fault)};
  return out;
}

Expected<ClassImage> read_class_image(std::string_view bytes) {
  const auto file = FileReader::open(bytes, ImageKind::Classes);
  if (!file) return Error{file.error()};
  ClassImage out;
  if (!file->get(SectionId::ClassOf, out.class_of) || !file->get(SectionId::Rows, out.rows)) {
    return Error{"a section is missing"};
  }
  std::vector<bool> used(out.class_of.size() + 1);
  for (const std::uint32_t c : out.class_of) {
    if (c == 0 || c > out.class_of.size()) return Error{"a class is out of range"};
    used[c] = true;
    out.classes = std::max(out.classes, c);
  }
  for (std::uint32_t c = 1; c <= out.classes; ++c) {
    if (!used[c]) return Error{"a class is empty"};
  }
  if (out.discrete()) {
    for (std::size_t i = 0; i < out.class_of.size(); ++i) {
      if (out.class_of[i] != i + 1) return Error{"there are too many classes"};
    }
  }
  const std::size_t width = 2 * std::size_t{out.classes};
  if (width == 0 ? !out.rows.empty() : out.rows.size() % width != 0) {
    return Error{"rows are missing"};
  }
  out.slots = width == 0 ? 0 : u32(out.rows.size() / width);
  return out;
}

SizeClass node_sizes(const IdentityImage& identities, const ClassImage& classes) {
  const SizeClass least;
  SizeClass out;
  out.trie4_blocks = at_least(least.trie4_blocks, identities.blocks4.size() / kBlock);
  out.hash4_bits = least_bits(identities.hosts4, fill4);
  out.hash6_bits = least_bits(identities.hosts6, fill6);
  out.hosts6 = at_least(least.hosts6, identities.hosts6.size() + 1);
  out.trie6_blocks = at_least(least.trie6_blocks, identities.blocks6.size() / kBlock);
  out.classes = classes_needed(classes.classes);
  out.identity_shift =
      classes.discrete() ? 0 : static_cast<std::uint32_t>(std::countr_zero(out.classes));
  return out;
}

SizeClass with_policy(SizeClass sizes, const PolicyImage& policy) {
  const SizeClass least;
  sizes.records = at_least(least.records, policy.records.size() + 1);
  if (policy.intervals()) {
    sizes.pages = sizes.cells = 0;
    sizes.intervals = at_least(least.cells, policy.keys.size());
    // In steps of four, so that programs are shared.
    sizes.interval_steps =
        u32((static_cast<std::size_t>(std::bit_width(longest_row(policy))) + 3) / 4 * 4);
  } else {
    sizes.pages = at_least(least.pages, policy.pages.size() / kPageSize);
    sizes.cells = at_least(least.cells, policy.cells.size());
    sizes.intervals = sizes.interval_steps = 0;
  }
  return sizes;
}

SizeClass size_class(const IdentityImage& identities, const ClassImage& classes,
                     const PolicyImage& policy) {
  return with_policy(node_sizes(identities, classes), policy);
}

bool fits(const IdentityImage& identities, const ClassImage& classes, const PolicyImage& policy,
          const SizeClass& sizes) {
  if (identities.numbers.size() != classes.class_of.size()) return false;
  std::vector<Bucket4Wire> buckets4;
  std::vector<Bucket6Wire> buckets6;
  if (identities.blocks4.size() / kBlock > sizes.trie4_blocks ||
      identities.blocks6.size() / kBlock > sizes.trie6_blocks ||
      identities.hosts6.size() + 1 > sizes.hosts6 || sizes.hash4_bits < kLeastBits ||
      sizes.hash4_bits > kMostBits || sizes.hash6_bits < kLeastBits ||
      sizes.hash6_bits > kMostBits ||
      !fill4(identities.hosts4, sizes.hash4_bits, buckets4).empty() ||
      !fill6(identities.hosts6, sizes.hash6_bits, buckets6).empty()) {
    return false;
  }
  if (classes.classes >= sizes.classes) return false;
  if (sizes.identity_shift == 0) {
    // Every identity must be its own class.
    for (std::size_t i = 0; i < classes.class_of.size(); ++i) {
      if (classes.class_of[i] != i + 1) return false;
    }
  } else if (sizes.classes != 1U << sizes.identity_shift ||
             !packable(classes.classes, classes.class_of.size(), sizes.classes)) {
    return false;
  }
  if (policy.records.size() >= sizes.records) return false;
  if (policy.intervals()) {
    return policy.keys.size() <= sizes.intervals && sizes.interval_steps < 32 &&
           longest_row(policy) <= std::size_t{1} << sizes.interval_steps;
  }
  return sizes.intervals == 0 && policy.pages.size() / kPageSize <= sizes.pages &&
         policy.cells.size() <= sizes.cells;
}

bool belong_together(const PolicyImage& policy, const ClassImage& classes, std::size_t slot) {
  if (slot >= classes.slots) return false;
  for (std::size_t d = 0; d < 2; ++d) {
    for (std::uint32_t c = 1; c <= classes.classes; ++c) {
      if (classes.row(slot, d, c) >= policy.direction[d].rows) return false;
    }
  }
  return true;
}

std::string node_half(const IdentityImage& identities, const ClassImage& classes,
                      const SizeClass& sizes) {
  std::string out(sizes.node_half_size(), '\0');
  const auto leaf = [&](std::uint32_t identity) {
    if (sizes.identity_shift == 0 || identity == 0) return identity;
    return identity << sizes.identity_shift | classes.class_of[identity - 1];
  };
  const auto entries = [&](std::vector<std::uint32_t> values) {
    for (std::uint32_t& e : values) {
      if ((e & kChild) == 0) e = (e & kHashed) | leaf(e & kLeaf);
    }
    return values;
  };
  put(out, 0, entries(identities.root4));
  put(out, sizes.blocks4_offset(), entries(identities.blocks4));
  put(out, sizes.blocks6_offset(), entries(identities.blocks6));
  std::vector<Host4> hosts4 = identities.hosts4;
  for (Host4& h : hosts4) h.leaf = leaf(h.leaf);
  std::vector<Bucket4Wire> buckets4;
  std::vector<Bucket6Wire> buckets6;
  POLICYC_CHECK(fill4(hosts4, sizes.hash4_bits, buckets4).empty(), "image fits its size class");
  POLICYC_CHECK(fill6(identities.hosts6, sizes.hash6_bits, buckets6).empty(),
                "image fits its size class");
  put(out, sizes.hash4_offset(), buckets4);
  put(out, sizes.hash6_offset(), buckets6);
  std::vector<Host6Wire> hosts6 = identities.hosts6;
  for (Host6Wire& h : hosts6) h.leaf = leaf(h.leaf);
  put(out, sizes.hosts6_offset() + sizeof(Host6Wire), hosts6);
  return out;
}

std::string policy_half(const PolicyImage& policy, const ClassImage& classes, std::size_t slot,
                        const SizeClass& sizes) {
  POLICYC_CHECK(belong_together(policy, classes, slot), "the policy's own slot");
  std::string out(sizes.policy_half_size(), '\0');
  std::vector<RecordWire> records(1);
  records[0].drop = kDropUnknownL3;
  records.insert(records.end(), policy.records.begin(), policy.records.end());
  put(out, 0, records);
  // Peers without an identity read the first cells, which name record 0.
  const std::size_t words = policy.intervals() ? 2 : 1;
  std::vector<std::uint32_t> rows(2 * words * sizes.classes);
  for (std::size_t d = 0; d < 2; ++d) {
    for (std::uint32_t c = 0; c <= classes.classes; ++c) {
      const std::size_t at = words * (d * sizes.classes + c);
      const std::size_t row = c == 0 ? 0 : policy.direction[d].first_row + classes.row(slot, d, c);
      rows[at] = c == 0 ? 0 : policy.row_begin[row];
      if (words == 2) rows[at + 1] = c == 0 ? 1 : policy.row_begin[row + 1] - policy.row_begin[row];
    }
  }
  put(out, sizes.rows_offset(), rows);
  if (policy.intervals()) {
    put(out, sizes.keys_offset(), policy.keys);
  } else {
    put(out, sizes.page_of_offset(), policy.page_of_port);
    put(out, sizes.pages_offset(), policy.pages);
  }
  put(out, sizes.cells_offset(), policy.cells);
  return out;
}

std::string node_value(const IdentityImage& identities, const ClassImage& classes,
                       const SizeClass& sizes, const NodeSettings& settings) {
  std::string out(kNodeHeader, '\0');
  if (settings.observe) out[kFlagsOffset] = static_cast<char>(kNodeObserve);
  for (std::size_t p = 0; p < 256; ++p) {
    out[kProtocolClassOffset + p] =
        static_cast<char>(ir::protocol_class(static_cast<ir::Protocol>(p)));
  }
  out[kProxyPortOffset] = static_cast<char>(settings.proxy_port >> 8U);
  out[kProxyPortOffset + 1] = static_cast<char>(settings.proxy_port & 0xFFU);
  const std::string half = node_half(identities, classes, sizes);
  return out + half + half;
}

std::string policy_value(const PolicyImage& policy, const ClassImage& classes, std::size_t slot,
                         const SizeClass& sizes) {
  const std::string half = policy_half(policy, classes, slot, sizes);
  return half + half;
}

}  // namespace policyc::bpf
