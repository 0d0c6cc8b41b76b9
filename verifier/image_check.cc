#include "verifier/image_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace policyc::verify {

namespace {

using Address = std::array<std::uint8_t, 16>;  // network order; IPv4 in the first four

// The address behind this one; false behind the last.
bool step(Address& a, std::size_t bytes) {
  for (std::size_t k = bytes; k-- > 0;) {
    if (++a[k] != 0) return true;
  }
  return false;
}

class Check {
 public:
  Check(const DatapathShape& shape, std::string_view node, std::string_view policy)
      : s_(shape), bytes_(node, policy), meaning_(numbers_, shape, bytes_) {
    half_ = {bytes_.word(DatapathMap::Node, {0, 32}, 4).value & 1U, 1};
  }

  ImageReport run(const ir::NodeView& view, const ir::PolicyTable& ingress,
                  const ir::PolicyTable& egress) {
    if (protocols() && addresses(view, ir::Family::V4) && addresses(view, ir::Family::V6)) {
      decisions(ir::Direction::Ingress, ingress) && decisions(ir::Direction::Egress, egress);
    }
    for (const auto& [use, said] : records_) {
      report_.records.push_back({use.first, *said, use.second});
    }
    return std::move(report_);
  }

 private:
  std::uint64_t node(std::uint64_t at) const {
    return bytes_.word(DatapathMap::Node, {320 + half_.value * s_.node_half() + at, 32}, 4).value;
  }
  std::uint64_t policy(std::uint64_t at, unsigned bytes) const {
    return bytes_.word(DatapathMap::Policy, {half_.value * s_.policy_half() + at, 32}, bytes).value;
  }
  void differ(ir::Direction direction, std::optional<ir::IpAddress> peer, ir::Protocol protocol,
              std::uint16_t port, std::string tables, std::string policy) {
    report_.difference = {direction, std::move(peer),   protocol,
                          port,      std::move(tables), std::move(policy)};
  }

  bool protocols() {
    for (unsigned p = 0; p < 256; ++p) {
      const auto said = meaning_.class_of_protocol({p, 8}).value;
      const auto want = ir::protocol_class(static_cast<ir::Protocol>(p));
      if (said == want) continue;
      differ(ir::Direction::Ingress, std::nullopt, static_cast<ir::Protocol>(p), 0,
             fmt::format("protocol class {}", said), fmt::format("{}", std::uint32_t{want}));
      return false;
    }
    return true;
  }

  // Where the tables' answer can change; every block is looked at once for each way to it.
  void borders4(std::set<Address>& out) {
    std::uint64_t blocks = 0;  // visited: a tree has no more than there are
    const auto put = [&](std::uint32_t a) { out.insert(ir::IpAddress::from_v4(a).bytes); };
    std::uint64_t last = ~std::uint64_t{0};
    const auto leaf = [&](std::uint32_t first, std::uint64_t entry) {
      if (entry != last) put(first);
      last = entry;
    };
    const auto block = [&](std::uint64_t entry, std::uint32_t k) {
      const std::uint64_t index = ((entry << 8U) + k) & (std::uint64_t{s_.trie4_blocks} * 256 - 1);
      return node(s_.blocks4() + 4 * index);
    };
    constexpr std::uint64_t kChild = 0x80000000U;
    for (std::uint32_t i = 0; i < 65536; ++i) {
      const std::uint64_t first = node(s_.root4() + std::uint64_t{4} * i);
      if ((first & kChild) == 0) {
        leaf(i << 16U, first);
        continue;
      }
      if (++blocks > s_.trie4_blocks) return tangled();
      for (std::uint32_t j = 0; j < 256; ++j) {
        const std::uint64_t second = block(first, j);
        if ((second & kChild) == 0) {
          leaf(i << 16U | j << 8U, second);
          continue;
        }
        if (++blocks > s_.trie4_blocks) return tangled();
        for (std::uint32_t k = 0; k < 256; ++k) {
          leaf(i << 16U | j << 8U | k, block(second, k));
        }
      }
    }
    for (std::uint64_t b = 0; b < std::uint64_t{1} << s_.hash4_bits; ++b) {
      for (std::uint64_t k = 0; k < 8; ++k) {
        const auto a = static_cast<std::uint32_t>(node(s_.hash4() + 64 * b + 4 * k));
        put(a);
        if (a != 0xFFFFFFFFU) put(a + 1);
      }
    }
  }

  void tangled() {
    differ(ir::Direction::Ingress, std::nullopt, 0, 0, "blocks that do not form a tree", "a tree");
  }

  void borders6(std::set<Address>& out) {
    walk6(out, 0, 0, {});
    for (std::uint64_t h = 0; h < s_.hosts6; ++h) {
      Address a{};
      for (std::uint64_t k = 0; k < 4; ++k) {
        const auto word = static_cast<std::uint32_t>(node(s_.hosts() + 32 * h + 4 * k));
        std::memcpy(a.data() + 4 * k, &word, 4);
      }
      out.insert(a);
      if (step(a, 16)) out.insert(a);
    }
  }
  void walk6(std::set<Address>& out, std::uint64_t block, std::size_t depth, Address prefix) {
    if (++visited6_ > s_.trie6_blocks) return tangled();
    std::uint64_t last = ~std::uint64_t{0};
    for (std::uint64_t k = 0; k < 256; ++k) {
      const std::uint64_t index = ((block << 8U) + k) & (std::uint64_t{s_.trie6_blocks} * 256 - 1);
      const std::uint64_t entry = node(s_.blocks6() + 4 * index);
      prefix[depth] = static_cast<std::uint8_t>(k);
      if ((entry & 0x80000000U) != 0 && depth < 15) {
        walk6(out, entry & 0x7FFFFFFFU, depth + 1, prefix);
        last = ~std::uint64_t{0};
      } else if (entry != last) {
        out.insert(prefix);
        last = entry;
      }
    }
  }

  std::uint64_t leaf_of(const ir::IpAddress& a) {
    if (a.family == ir::Family::V4) return meaning_.leaf_of_v4(half_, {a.v4(), 32}).value;
    std::array<Number, 16> bytes;
    for (std::size_t k = 0; k < 16; ++k) bytes[k] = {a.bytes[k], 8};
    return meaning_.leaf_of_v6(half_, bytes).value;
  }

  bool addresses(const ir::NodeView& view, ir::Family family) {
    const std::size_t bytes = family == ir::Family::V4 ? 4 : 16;
    std::set<Address> borders = {Address{}};
    // The policy's side: longest prefix, worked out from the shortest to the longest.
    std::vector<std::pair<ir::Prefix, ir::IdentityIndex>> prefixes;
    for (const auto& p : view.ipcache) {
      if (p.first.address.family == family) prefixes.push_back(p);
    }
    std::stable_sort(prefixes.begin(), prefixes.end(),
                     [](const auto& a, const auto& b) { return a.first.length < b.first.length; });
    const auto behind = [&](const ir::Prefix& p, Address& end) {
      end = p.address.bytes;
      for (std::size_t bit = p.length; bit < 8 * bytes; ++bit) {
        end[bit / 8] = static_cast<std::uint8_t>(end[bit / 8] | 0x80U >> bit % 8);
      }
      return step(end, bytes);
    };
    std::map<Address, std::uint64_t> wanted = {{Address{}, 0}};  // identity + 1 from here on
    for (auto p = prefixes.begin(); p != prefixes.end(); ++p) {
      if (p != prefixes.begin() && std::prev(p)->first == p->first) continue;
      const Address begin = p->first.address.bytes;
      Address end;
      const bool more = behind(p->first, end);
      const auto after = more ? wanted.lower_bound(end) : wanted.end();
      const std::uint64_t old = std::prev(after)->second;
      if (more && (after == wanted.end() || after->first != end)) wanted.emplace(end, old);
      wanted.erase(wanted.lower_bound(begin), more ? wanted.find(end) : wanted.end());
      wanted[begin] = std::uint64_t{p->second} + 1;
    }
    for (const auto& [a, id] : wanted) borders.insert(a);
    family == ir::Family::V4 ? borders4(borders) : borders6(borders);
    if (report_.difference) return false;
    for (const Address& a : borders) {
      const ir::IpAddress peer{family, a};
      const std::uint64_t leaf = leaf_of(peer);
      const std::uint64_t want = std::prev(wanted.upper_bound(a))->second;
      ++report_.addresses;
      if (leaf >> s_.identity_shift != want) {
        const auto name = [](std::uint64_t id) {
          return id == 0 ? std::string("no identity") : fmt::format("identity {}", id - 1);
        };
        differ(ir::Direction::Ingress, peer, 0, 0, name(leaf >> s_.identity_shift), name(want));
        return false;
      }
      peers_.try_emplace(leaf, peer);
    }
    return true;
  }

  // Where pages lead to another column.
  std::vector<ir::L4Key> page_borders(unsigned direction) const {
    std::vector<ir::L4Key> out;
    std::uint64_t last = ~std::uint64_t{0};
    for (std::uint64_t slot = 0; slot < ir::kProtocolClasses * 1024; ++slot) {
      const std::uint64_t page = policy(s_.page_of() + 2 * (direction * 8192 + slot), 2);
      for (std::uint64_t k = 0; k < 64; ++k) {
        const std::uint64_t index = (page * 64 + k) & (std::uint64_t{s_.pages} * 64 - 1);
        const std::uint64_t column = policy(s_.pages_at() + 2 * index, 2);
        if (column != last) out.push_back(static_cast<ir::L4Key>(slot * 64 + k));
        last = column;
      }
    }
    return out;
  }
  // Where the search in the intervals of a leaf's row can end elsewhere: it reads no others.
  std::vector<ir::L4Key> interval_borders(unsigned direction, std::uint64_t leaf) const {
    const std::uint64_t row = direction * s_.classes + (leaf & (s_.classes - 1U));
    const std::uint64_t first = policy(s_.rows() + 8 * row, 4);
    std::uint64_t count = policy(s_.rows() + 8 * row + 4, 4);
    // The search takes counts above this for negative or not, as it comes: look at all it can
    // reach.
    constexpr std::uint64_t kSign = std::uint64_t{1} << 31U;
    if (count >= kSign) count = kSign;
    count = std::min({count, std::uint64_t{s_.intervals}, std::uint64_t{1} << s_.interval_steps});
    std::vector<ir::L4Key> out;
    for (std::uint64_t k = 0; k < count; ++k) {
      const std::uint64_t key = policy(s_.keys() + 4 * ((first + k) & (s_.intervals - 1U)), 4);
      // Compared by the sign of a difference, which changes at two places.
      out.push_back(static_cast<ir::L4Key>(key));
      out.push_back(static_cast<ir::L4Key>(key ^ kSign));
    }
    return out;
  }

  bool decisions(ir::Direction direction, const ir::PolicyTable& table) {
    const unsigned d = direction == ir::Direction::Ingress ? 0 : 1;
    std::vector<ir::L4Key> always;
    for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) always.push_back(c << 16U);
    if (s_.intervals == 0) {
      const std::vector<ir::L4Key> pages = page_borders(d);
      always.insert(always.end(), pages.begin(), pages.end());
    }
    // Peers of one class are answered alike by the tables; by the policy, where theirs are one too.
    std::set<std::pair<std::uint64_t, std::uint64_t>> done;
    for (const auto& [leaf, peer] : peers_) {
      const std::uint64_t identity = leaf >> s_.identity_shift;
      if (identity > table.class_of.size()) {
        differ(direction, peer, 0, 0, fmt::format("identity {}", identity - 1), "no such identity");
        return false;
      }
      const std::uint64_t row = identity == 0 ? ~std::uint64_t{0} : table.class_of[identity - 1];
      if (!done.insert({leaf & (s_.classes - 1U), row}).second) continue;
      std::vector<ir::L4Key> borders = always;
      if (identity != 0) {
        const std::uint16_t* cells = &table.cells[row * table.columns()];
        for (std::size_t k = 1; k < table.columns(); ++k) {
          const std::size_t at = row * table.columns() + k;
          if (cells[k] != cells[k - 1] || table.filter(at) != table.filter(at - 1))
            borders.push_back(table.column_begin[k]);
        }
      }
      if (s_.intervals != 0) {
        const std::vector<ir::L4Key> own = interval_borders(d, leaf);
        borders.insert(borders.end(), own.begin(), own.end());
      }
      std::sort(borders.begin(), borders.end());
      borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
      for (const ir::L4Key key : borders) {
        // Protocols without ports are asked about one key only.
        if (key >= ir::kL4KeyEnd || (key != 0 && key < 1U << 16U)) continue;
        if (!decision(direction, table, leaf, identity, peer, key)) return false;
      }
    }
    return true;
  }

  bool decision(ir::Direction direction, const ir::PolicyTable& table, std::uint64_t leaf,
                std::uint64_t identity, const ir::IpAddress& peer, ir::L4Key key) {
    const auto cls = static_cast<ir::ProtocolClass>(key >> 16U);
    const auto port = static_cast<std::uint16_t>(key & 0xFFFFU);
    const auto v = meaning_.judge(half_, direction == ir::Direction::Ingress ? 0 : 1, {leaf, 32},
                                  {cls, 8}, {port, 32}, {0, 1});
    ++report_.decisions;
    std::uint64_t outcome = 2, drop = 139;
    const ir::VerdictRecord* want = nullptr;
    const ir::ProxyFilter* filter = nullptr;
    if (identity != 0) {
      const std::size_t at = table.class_of[identity - 1] * table.columns() + table.column(key);
      want = &table.records[table.cells[at]];
      filter = table.filter(at);
      const bool allowed =
          want->verdict == ir::VerdictKind::Allow || want->verdict == ir::VerdictKind::Redirect;
      const bool auth = want->auth && want->auth->type != ir::AuthType::Disabled;
      drop = !allowed ? (want->reason == ir::Reason::PolicyDeny ? 181U : 133U) : auth ? 189U : 0U;
      outcome = drop != 0 ? 2U : want->verdict == ir::VerdictKind::Redirect ? 3U : 1U;
    }
    if (v.outcome.value == outcome && v.drop.value == drop) {
      if (want != nullptr) {
        const auto [it, fresh] =
            records_.try_emplace({static_cast<std::uint32_t>(v.record.value), filter}, want);
        if (fresh || *it->second == *want) return true;
      } else {
        return true;
      }
    }
    const auto words = [](std::uint64_t o, std::uint64_t reason) {
      return o == 2   ? fmt::format("drop, reason -{}", reason)
             : o == 3 ? std::string("redirect")
                      : std::string("pass");
    };
    differ(direction, peer, ir::class_protocol(cls), port,
           fmt::format("{} (record {})", words(v.outcome.value, v.drop.value), v.record.value),
           words(outcome, drop));
    return false;
  }

  const DatapathShape& s_;
  Numbers numbers_;
  const MapBytes bytes_;
  Meaning<Numbers, Number, const MapBytes> meaning_;
  Number half_;
  ImageReport report_;
  std::uint64_t visited6_ = 0;
  std::map<std::uint64_t, ir::IpAddress> peers_;  // per leaf, one that has it
  std::map<std::pair<std::uint32_t, const ir::ProxyFilter*>, const ir::VerdictRecord*> records_;
};

}  // namespace

ImageReport check_image(const DatapathShape& shape, std::string_view node, std::string_view policy,
                        const ir::NodeView& view, const ir::PolicyTable& ingress,
                        const ir::PolicyTable& egress) {
  return Check(shape, node, policy).run(view, ingress, egress);
}

}  // namespace policyc::verify
