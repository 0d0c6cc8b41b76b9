// Images say exactly what the resolved policy says, and reading them is safe for any bytes.
#include "backend-bpf/image.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>
#include <string>

#include "tests/backend-bpf/table_gen.h"

namespace policyc {
namespace {

using namespace testing;

// Tables may number classes, columns and records in their own way; what they say is the same.
void expect_same_meaning(const ir::PolicyTable& decoded, const ir::PolicyTable& table) {
  RC_ASSERT(decoded.enforced == table.enforced);
  RC_ASSERT(decoded.class_of.size() == table.class_of.size());
  std::set<ir::L4Key> keys;
  for (const ir::PolicyTable* t : {&decoded, &table}) {
    for (std::size_t k = 0; k < t->columns(); ++k) {
      keys.insert(t->column_begin[k]);
      keys.insert((k + 1 < t->columns() ? t->column_begin[k + 1] : ir::kL4KeyEnd) - 1);
    }
  }
  for (ir::IdentityIndex i = 0; i < table.class_of.size(); ++i) {
    for (const ir::L4Key key : keys) {
      const ir::Protocol protocol = ir::class_protocol(static_cast<ir::ProtocolClass>(key >> 16U));
      const auto port = static_cast<std::uint16_t>(key);
      RC_ASSERT(decoded.lookup(i, protocol, port) == table.lookup(i, protocol, port));
    }
  }
}

RC_GTEST_PROP(Image, PoliciesOfANodeSurviveTheFiles, ()) {
  std::vector<std::pair<ir::PolicyTable, ir::PolicyTable>> tables;
  std::vector<bpf::EncodedPolicy> policies;
  std::vector<const bpf::EncodedPolicy*> slots;
  for (std::uint32_t n = 1 + below(4); n > 0; --n) {
    tables.emplace_back(random_table(9), random_table(9));
    auto encoded = bpf::encode_policy(tables.back().first, tables.back().second,
                                      below(2) == 0 ? bpf::kCellBudget : below(400));
    RC_ASSERT(static_cast<bool>(encoded));
    policies.push_back(std::move(*encoded));
  }
  for (const bpf::EncodedPolicy& p : policies) slots.push_back(&p);
  const auto classes = bpf::read_class_image(bpf::write_image(bpf::encode_classes(slots, 9)));
  RC_ASSERT(static_cast<bool>(classes));
  for (std::size_t slot = 0; slot < policies.size(); ++slot) {
    const auto policy = bpf::read_policy_image(bpf::write_image(policies[slot].image));
    RC_ASSERT(static_cast<bool>(policy));
    const auto back = bpf::decode_policy(*policy, *classes, slot);
    RC_ASSERT(static_cast<bool>(back));
    expect_same_meaning(back->ingress, tables[slot].first);
    expect_same_meaning(back->egress, tables[slot].second);
  }
}

RC_GTEST_PROP(Image, EveryAddressKeepsItsIdentity, ()) {
  const ir::NodeView view = random_view(9);
  const bpf::IdentityImage image =
      bpf::encode_identities(view, numbered_identities(9), below(2) == 0 ? 0 : bpf::kTrieBlocks);
  const auto read = bpf::read_identity_image(bpf::write_image(image));
  RC_ASSERT(static_cast<bool>(read));
  RC_ASSERT(bpf::write_image(*read) == bpf::write_image(image));
  const auto expected = bpf::address_spans(view);
  RC_ASSERT(bpf::address_spans(*read) == expected);
  // The spans themselves are held against longest-prefix match.
  for (const bpf::AddressSpan& span : expected) {
    bool known = false;
    for (const auto& [prefix, identity] : view.ipcache)
      known = known || prefix.contains(span.first);
    RC_ASSERT(span.leaf == (known ? view.identity_of(span.first) + 1 : 0));
  }
}

// A table of one class whose TCP ports go to as many proxies.
ir::PolicyTable table_of_proxies(std::uint16_t parsers) {
  ir::PolicyTable t;
  t.enforced = true;
  t.classes = 1;
  t.class_of = {0};
  t.records.emplace_back();
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) {
    const bool tcp = c == ir::kTcp;
    for (std::uint16_t port = 0; port < (tcp ? parsers : 1); ++port) {
      t.column_begin.push_back((c << 16U) | port);
      t.cells.push_back(static_cast<std::uint16_t>(tcp ? t.records.size() : 0));
      if (!tcp) continue;
      ir::VerdictRecord r;
      r.verdict = ir::VerdictKind::Redirect;
      r.reason = ir::Reason::Rule;
      r.parser = "p" + std::to_string(port);
      t.records.push_back(r);
    }
  }
  return t;
}

TEST(Image, PolicyTooLargeIsRefused) {
  EXPECT_TRUE(bpf::encode_policy(table_of_proxies(255), table_of_proxies(1)));
  const auto refused = bpf::encode_policy(table_of_proxies(256), table_of_proxies(1));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().find("256 proxy parsers, and the tables hold 255"), std::string::npos)
      << refused.error();
}

TEST(Image, OneChangedTrieEntryIsSeen) {
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0}, {*ir::parse_prefix("10.1.0.0/16"), 1}};
  bpf::IdentityImage image = bpf::encode_identities(view, numbered_identities(3));
  ASSERT_EQ(bpf::address_spans(image), bpf::address_spans(view));
  image.root4[0x0A02] = 3;
  EXPECT_NE(bpf::address_spans(image), bpf::address_spans(view));
}

TEST(Image, SpansOfNestedPrefixes) {
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0},
                  {*ir::parse_prefix("10.0.0.0/8"), 1},
                  {*ir::parse_prefix("10.255.255.0/24"), 2},
                  {*ir::parse_prefix("255.255.255.255/32"), 1}};
  const auto at = [](const char* ip, std::uint32_t leaf) {
    return bpf::AddressSpan{*ir::parse_ip(ip), leaf};
  };
  EXPECT_EQ(
      bpf::address_spans(view),
      (std::vector<bpf::AddressSpan>{at("0.0.0.0", 1), at("10.0.0.0", 2), at("10.255.255.0", 3),
                                     at("11.0.0.0", 1), at("255.255.255.255", 2), at("::", 0)}));
}

RC_GTEST_PROP(Image, DamagedFilesAreReadSafely, ()) {
  const auto image = bpf::encode_policy(random_table(4), random_table(4), below(2) == 0 ? 0 : 4096);
  const bpf::ClassImage classes = bpf::encode_classes({&*image}, 4);
  const auto identities = bpf::encode_identities(random_view(4), numbered_identities(4));
  const std::uint32_t kind = below(3);
  const std::string whole = kind == 0   ? bpf::write_image(image->image)
                            : kind == 1 ? bpf::write_image(classes)
                                        : bpf::write_image(identities);
  std::string bytes = whole;
  for (std::uint32_t i = below(4); i > 0; --i) {
    // Mostly in the headers, where damage does most.
    const std::size_t reach =
        below(2) == 0 ? std::min<std::size_t>(256, bytes.size()) : bytes.size();
    bytes[below(static_cast<std::uint32_t>(reach))] = static_cast<char>(below(256));
  }
  if (below(3) == 0) bytes.resize(below(static_cast<std::uint32_t>(bytes.size())));
  const auto policy = bpf::read_policy_image(bytes);
  if (policy) {
    RC_ASSERT(bpf::belong_together(*policy, classes, 0) ==
              static_cast<bool>(bpf::decode_policy(*policy, classes, 0)));
    const bpf::SizeClass sizes = bpf::size_class(identities, classes, *policy);
    RC_ASSERT(bpf::fits(identities, classes, *policy, sizes));
    if (bpf::belong_together(*policy, classes, 0)) {
      RC_ASSERT(bpf::policy_value(*policy, classes, 0, sizes).size() == sizes.policy_size());
    }
  } else {
    RC_ASSERT(!policy.error().empty());
  }
  const auto who = bpf::read_identity_image(bytes);
  const auto which = bpf::read_class_image(bytes);
  if (who) {
    bpf::SizeClass sizes = bpf::size_class(*who, classes, image->image);
    if (bpf::fits(*who, classes, image->image, sizes)) {
      RC_ASSERT(bpf::node_value(*who, classes, sizes).size() == sizes.node_size());
    }
  }
  if (which && bpf::belong_together(image->image, *which, 0)) {
    RC_ASSERT(static_cast<bool>(bpf::decode_policy(image->image, *which, 0)));
  }
}

// One class, one column a protocol class, one record.
ir::PolicyTable plain_table(ir::VerdictRecord record = {}) {
  ir::PolicyTable t;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) t.column_begin.push_back(c << 16U);
  t.classes = 1;
  t.class_of = {0};
  t.cells.assign(t.columns(), 0);
  t.records.push_back(std::move(record));
  return t;
}

TEST(Image, CutOffAnywhereIsRefused) {
  const auto image = bpf::encode_policy(plain_table(), plain_table());
  ASSERT_TRUE(image);
  const std::string whole = bpf::write_image(image->image);
  ASSERT_TRUE(bpf::read_policy_image(whole));
  for (std::size_t size = 0; size < whole.size(); size += size < 300 ? 1 : 997) {
    EXPECT_FALSE(bpf::read_policy_image(whole.substr(0, size))) << size;
  }
}

TEST(Image, BytesOfARecord) {
  ir::VerdictRecord r;
  r.verdict = ir::VerdictKind::Redirect;
  r.reason = ir::Reason::Rule;
  r.parser = "http";
  r.priority = 1;
  r.auth = ir::Auth{ir::AuthType::Spire, true};
  const auto encoded = bpf::encode_policy(plain_table(r), plain_table(r));
  ASSERT_TRUE(encoded);
  const bpf::ClassImage classes = bpf::encode_classes({&*encoded}, 1);
  const std::string value = bpf::policy_value(encoded->image, classes, 0, {});
  // 0: nobody, dropped with 139. 1: redirect, rule, parser 1, priority 1, explicit spire, drop 189.
  EXPECT_EQ(value.substr(0, 24), std::string("\0\0\0\0\0\0\x8b\0\0\0\0\0"
                                             "\x02\x01\x01\x01\x82\0\xbd\0\0\0\0\0",
                                             24));
  bpf::IdentityImage nobody;
  nobody.root4.assign(bpf::kRoot4, 0);
  nobody.blocks6.assign(bpf::kBlock, 0);
  nobody.numbers = {256};
  const std::string node = bpf::node_value(nobody, classes, {}, {0x1234, true});
  EXPECT_EQ(node.substr(0, 12), std::string("\0\0\0\0\x01\0\0\0\x12\x34\0\0", 12));
}

TEST(Image, SparseHostRoutesNeedNoBlocks) {
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0}};
  for (std::uint32_t i = 0; i < 5000; ++i) {
    view.ipcache.emplace_back(ir::host_prefix(ir::IpAddress::from_v4(0x0A000000U + i * 2711U)),
                              1 + i % 3);
  }
  const bpf::IdentityImage image = bpf::encode_identities(view, numbered_identities(4));
  EXPECT_GT(image.hosts4.size(), 4990U);
  EXPECT_LT(image.blocks4.size() / bpf::kBlock, 20U);
  const auto read = bpf::read_identity_image(bpf::write_image(image));
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(bpf::address_spans(*read), bpf::address_spans(view));
}

TEST(Image, LargePoliciesBecomeIntervals) {
  // 1,200 kinds of peers, each with a port of its own.
  ir::PolicyTable t = plain_table();
  ir::VerdictRecord allow;
  allow.verdict = ir::VerdictKind::Allow;
  allow.reason = ir::Reason::Rule;
  t.records.push_back(allow);
  const std::uint32_t kinds = 1200;
  std::set<ir::L4Key> begins(t.column_begin.begin(), t.column_begin.end());
  for (std::uint32_t i = 0; i < kinds; ++i) {
    begins.insert({ir::kTcp << 16U | (2000 + 2 * i), ir::kTcp << 16U | (2001 + 2 * i)});
  }
  t.column_begin.assign(begins.begin(), begins.end());
  t.classes = kinds;
  t.class_of.clear();
  t.cells.assign(std::size_t{kinds} * t.columns(), 0);
  for (std::uint32_t i = 0; i < kinds; ++i) {
    t.class_of.push_back(i);
    t.cells[i * t.columns() + t.column(ir::l4_key(6, static_cast<std::uint16_t>(2000 + 2 * i)))] =
        1;
  }
  const auto encoded = bpf::encode_policy(t, plain_table());
  ASSERT_TRUE(encoded) << encoded.error();
  EXPECT_TRUE(encoded->image.intervals());
  EXPECT_LT(encoded->image.cells.size(), 4 * kinds);
}

TEST(Image, TooManyVerdictsAreRefusedWithTheReason) {
  ir::PolicyTable t = plain_table();
  t.column_begin.clear();
  for (std::uint32_t i = 0; i < 20000; ++i) {
    t.column_begin.push_back(i);
    ir::VerdictRecord r;
    r.verdict = ir::VerdictKind::Redirect;
    r.reason = ir::Reason::Rule;
    r.priority = static_cast<std::uint8_t>(i % 256);
    r.parser = std::to_string(i / 256);
    t.records.push_back(std::move(r));
  }
  t.cells.assign(t.columns(), 0);
  const auto encoded = bpf::encode_policy(t, plain_table());
  ASSERT_FALSE(encoded);
  EXPECT_NE(encoded.error().find("20001 different verdicts, and the tables hold 16383"),
            std::string::npos)
      << encoded.error();
}

}  // namespace
}  // namespace policyc
