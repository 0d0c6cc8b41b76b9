// Images say exactly what the resolved policy says, and reading them is safe for any bytes.
#include "backend-bpf/image.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>

#include "tests/backend-bpf/table_gen.h"

namespace policyc {
namespace {

using namespace testing;

void expect_same_table(const ir::PolicyTable& a, const ir::PolicyTable& b) {
  RC_ASSERT(a.enforced == b.enforced);
  RC_ASSERT(a.column_begin == b.column_begin);
  RC_ASSERT(a.classes == b.classes);
  RC_ASSERT(a.class_of == b.class_of);
  RC_ASSERT(a.cells == b.cells);
  RC_ASSERT(a.records == b.records);
}

RC_GTEST_PROP(Image, PolicySurvivesTheFile, ()) {
  const ir::PolicyTable ingress = random_table(9);
  const ir::PolicyTable egress = random_table(9);
  const auto image = bpf::encode_policy(ingress, egress);
  RC_ASSERT(static_cast<bool>(image));
  const auto read = bpf::read_policy_image(bpf::write_image(*image));
  RC_ASSERT(static_cast<bool>(read));
  const auto back = bpf::decode_policy(*read);
  RC_ASSERT(static_cast<bool>(back));
  expect_same_table(back->ingress, ingress);
  expect_same_table(back->egress, egress);
}

RC_GTEST_PROP(Image, EveryAddressKeepsItsIdentity, ()) {
  const ir::NodeView view = random_view(9);
  const bpf::IdentityImage image = bpf::encode_identities(view, numbered_identities(9));
  const auto read = bpf::read_identity_image(bpf::write_image(image));
  RC_ASSERT(static_cast<bool>(read));
  RC_ASSERT(*read == image);
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
  const auto image = bpf::encode_policy(random_table(4), random_table(4));
  const std::string whole =
      below(2) == 0
          ? bpf::write_image(*image)
          : bpf::write_image(bpf::encode_identities(random_view(4), numbered_identities(4)));
  std::string bytes = whole;
  for (std::uint32_t i = below(4); i > 0; --i) {
    // Mostly in the headers, where damage does most.
    const std::size_t reach = below(2) == 0 ? 256 : bytes.size();
    bytes[below(static_cast<std::uint32_t>(reach))] = static_cast<char>(below(256));
  }
  if (below(3) == 0) bytes.resize(below(static_cast<std::uint32_t>(bytes.size())));
  const auto policy = bpf::read_policy_image(bytes);
  if (policy) {
    RC_ASSERT(static_cast<bool>(bpf::decode_policy(*policy)));
    const bpf::SizeClass sizes = bpf::size_class(bpf::IdentityImage{}, *policy);
    RC_ASSERT(bpf::tables_value(*policy, sizes).size() == sizes.tables_size());
  } else {
    RC_ASSERT(!policy.error().empty());
  }
  const auto identities = bpf::read_identity_image(bytes);
  if (!identities) RC_ASSERT(!identities.error().empty());
}

TEST(Image, CutOffAnywhereIsRefused) {
  const auto image = bpf::encode_policy(
      [] {
        ir::PolicyTable t;
        for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) t.column_begin.push_back(c << 16U);
        t.classes = 1;
        t.class_of = {0};
        t.cells.assign(t.columns(), 0);
        t.records.emplace_back();
        return t;
      }(),
      [] {
        ir::PolicyTable t;
        for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) t.column_begin.push_back(c << 16U);
        t.classes = 1;
        t.class_of = {0};
        t.cells.assign(t.columns(), 0);
        t.records.emplace_back();
        return t;
      }());
  ASSERT_TRUE(image);
  const std::string whole = bpf::write_image(*image);
  ASSERT_TRUE(bpf::read_policy_image(whole));
  for (std::size_t size = 0; size < whole.size(); size += size < 300 ? 1 : 997) {
    EXPECT_FALSE(bpf::read_policy_image(whole.substr(0, size))) << size;
  }
}

TEST(Image, BytesOfARecord) {
  ir::PolicyTable t;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) t.column_begin.push_back(c << 16U);
  t.classes = 1;
  t.class_of = {0};
  t.cells.assign(t.columns(), 0);
  ir::VerdictRecord r;
  r.verdict = ir::VerdictKind::Redirect;
  r.reason = ir::Reason::Rule;
  r.parser = "http";
  r.priority = 1;
  r.auth = ir::Auth{ir::AuthType::Spire, true};
  t.records.push_back(r);
  const auto image = bpf::encode_policy(t, t);
  ASSERT_TRUE(image);
  const std::string value = bpf::tables_value(*image, {}, 0x1234);
  // redirect, rule, parser 1, priority 1, explicit spire, 0, drop 189
  EXPECT_EQ(value.substr(24, 8), std::string("\x02\x01\x01\x01\x82\x00\xbd\x00", 8));
  EXPECT_EQ(value.substr(bpf::kProxyPortOffset, 2), "\x12\x34");
}

}  // namespace
}  // namespace policyc
