// The image half of `verify` has teeth: every kind of cell of every section of the three image
// files is changed in the file's bytes, and what the decoded tables or the verdict core in the
// kernel show to differ must be refuted. POLICYC_MUTANTS=N changes N cells of each kind (default
// 12).
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>

#include "backend-bpf/image.h"
#include "cli/verification.h"
#include "ir/resolve.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/walk_support.h"
#include "tests/ir/world_gen.h"

namespace policyc {
namespace {

using namespace testing;
using bpf::SectionId;

// The fields of one element of a section, by their bytes.
std::vector<std::size_t> fields(SectionId id) {
  switch (id) {
    case SectionId::Hosts4:
      return {4, 4};
    case SectionId::Hosts6: {
      std::vector<std::size_t> out(16, 1);
      out.insert(out.end(), 4, 4);
      return out;
    }
    case SectionId::Directions:
      return {4, 4, 4, 4};
    case SectionId::Records:
      return {1, 1, 1, 1, 1, 1, 2, 2, 2};
    case SectionId::PageOfPort:
    case SectionId::Pages:
    case SectionId::Cells:
    case SectionId::Rows:
      return {2};
    case SectionId::Parsers:
      return {1};
    case SectionId::Root4:
    case SectionId::Blocks4:
    case SectionId::Blocks6:
    case SectionId::Numbers:
    case SectionId::RowBegin:
    case SectionId::Keys:
    case SectionId::ClassOf:
      break;
  }
  return {4};
}

// Cells of one kind: where they stand in the file, and how many bytes each has.
struct Kind {
  std::string name;
  std::size_t bytes = 0;
  std::vector<std::size_t> at;
};

std::vector<Kind> kinds_of(const std::string& file) {
  static const std::map<SectionId, const char*> kNames = {
      {SectionId::Root4, "root4"},       {SectionId::Blocks4, "blocks4"},
      {SectionId::Blocks6, "blocks6"},   {SectionId::Numbers, "numbers"},
      {SectionId::Hosts4, "hosts4"},     {SectionId::Hosts6, "hosts6"},
      {SectionId::Directions, "dirs"},   {SectionId::Records, "records"},
      {SectionId::PageOfPort, "pageof"}, {SectionId::RowBegin, "rowbegin"},
      {SectionId::Keys, "keys"},         {SectionId::Pages, "pages"},
      {SectionId::Cells, "cells"},       {SectionId::Parsers, "parsers"},
      {SectionId::ClassOf, "classof"},   {SectionId::Rows, "rows"}};
  bpf::ImageHeader header{};
  std::memcpy(&header, file.data(), sizeof header);
  std::vector<Kind> out = {{"header", 4, {}}};
  const std::size_t table = sizeof header + header.sections * sizeof(bpf::SectionHeader);
  for (std::size_t at = 0; at < table; at += 4) out.front().at.push_back(at);
  for (std::size_t s = 0; s < header.sections; ++s) {
    bpf::SectionHeader h{};
    std::memcpy(&h, file.data() + sizeof header + s * sizeof h, sizeof h);
    const auto id = static_cast<SectionId>(h.id);
    std::size_t offset = 0;
    const auto parts = fields(id);
    for (std::size_t f = 0; f < parts.size(); ++f) {
      // The bytes of an address are one kind.
      const bool more = id == SectionId::Hosts6 && f > 0 && f < 16;
      if (!more) {
        out.push_back({parts.size() == 1 ? kNames.at(id) : fmt::format("{}.{}", kNames.at(id), f),
                       parts[f],
                       {}});
      }
      for (std::size_t k = 0; k < h.count; ++k) {
        out.back().at.push_back(static_cast<std::size_t>(h.offset) + k * h.element + offset);
      }
      offset += parts[f];
    }
  }
  return out;
}

std::uint32_t cell(const std::string& file, const Kind& kind, std::size_t k) {
  std::uint32_t out = 0;
  std::memcpy(&out, file.data() + kind.at[k], kind.bytes);
  return out;
}

// Cells that differ from the one before come first: there is where something begins.
std::vector<std::size_t> chosen(const std::string& file, const Kind& kind, std::size_t limit,
                                Dice& random) {
  std::vector<std::size_t> borders, others;
  for (std::size_t k = 0; k < kind.at.size(); ++k) {
    const bool border = k == 0 || cell(file, kind, k) != cell(file, kind, k - 1);
    (border ? borders : others).push_back(k);
  }
  std::shuffle(borders.begin(), borders.end(), random.engine);
  std::shuffle(others.begin(), others.end(), random.engine);
  const std::size_t few = std::min(others.size(), limit / 3);
  if (borders.size() > limit - few) borders.resize(limit - few);
  others.resize(std::min(others.size(), limit - borders.size()));
  borders.insert(borders.end(), others.begin(), others.end());
  return borders;
}

// One more, one less, none, the neighbour's, and both exchanged.
std::set<std::string> mutants(const std::string& file, const Kind& kind, std::size_t k) {
  std::set<std::string> out;
  const auto with = [&](std::size_t at, std::uint32_t value, std::string text) {
    std::memcpy(text.data() + kind.at[at], &value, kind.bytes);
    return text;
  };
  const std::uint32_t old = cell(file, kind, k);
  for (const std::uint32_t value : {old + 1, old - 1, 0U}) out.insert(with(k, value, file));
  if (kind.at.size() > 1) {
    const std::size_t next = (k + 1) % kind.at.size();
    out.insert(with(k, cell(file, kind, next), file));
    out.insert(with(next, old, with(k, cell(file, kind, next), file)));
  }
  out.erase(file);
  return out;
}

// Three files of an endpoint, and what they say.
struct Files {
  std::string identities, classes, policy;
};
struct Tables {
  bpf::IdentityImage identities;
  bpf::ClassImage classes;
  bpf::PolicyImage policy;
  std::vector<bpf::AddressSpan> spans;
  bpf::DecodedPolicy decoded;
};

// Nothing where the files contradict themselves or one another.
std::optional<Tables> tables_of(const Files& files, std::size_t slot, const bpf::SizeClass& sizes) {
  const auto identities = bpf::read_identity_image(files.identities);
  const auto classes = bpf::read_class_image(files.classes);
  const auto policy = bpf::read_policy_image(files.policy);
  if (!identities || !classes || !policy) return std::nullopt;
  if (!bpf::fits(*identities, *classes, *policy, sizes)) return std::nullopt;
  auto decoded = bpf::decode_policy(*policy, *classes, slot);
  if (!decoded) return std::nullopt;
  return Tables{*identities, *classes, *policy, bpf::address_spans(*identities),
                std::move(*decoded)};
}

// Where decoded tables say something else: exact, but blind for what only the program reads.
std::optional<WalkTuple> difference(const Tables& a, const Tables& b) {
  WalkTuple t;
  const auto set = [&](const ir::IpAddress& ip) {
    t.address = ip.bytes;
    t.family = ip.family == ir::Family::V4 ? 4 : 6;
  };
  const auto leaf_in = [](const Tables& tables, const ir::IpAddress& ip) {
    const auto after = std::upper_bound(
        tables.spans.begin(), tables.spans.end(), ip,
        [](const ir::IpAddress& x, const bpf::AddressSpan& s) { return x < s.first; });
    return std::prev(after)->leaf;
  };
  for (const auto* spans : {&a.spans, &b.spans}) {
    for (const bpf::AddressSpan& s : *spans) {
      if (leaf_in(a, s.first) == leaf_in(b, s.first)) continue;
      set(s.first);
      return t;
    }
  }
  for (std::uint8_t d = 0; d < 2; ++d) {
    const ir::PolicyTable& x = d == 0 ? a.decoded.ingress : a.decoded.egress;
    const ir::PolicyTable& y = d == 0 ? b.decoded.ingress : b.decoded.egress;
    std::set<ir::L4Key> keys(x.column_begin.begin(), x.column_begin.end());
    keys.insert(y.column_begin.begin(), y.column_begin.end());
    for (const bpf::AddressSpan& s : a.spans) {
      if (s.leaf == 0) continue;
      for (const ir::L4Key key : keys) {
        const ir::Protocol protocol =
            ir::class_protocol(static_cast<ir::ProtocolClass>(key >> 16U));
        const auto port = static_cast<std::uint16_t>(key);
        if (x.lookup(s.leaf - 1, protocol, port) == y.lookup(s.leaf - 1, protocol, port)) continue;
        set(s.first);
        t.direction = d;
        t.protocol = protocol;
        t.port = port;
        return t;
      }
    }
  }
  return std::nullopt;
}

bool same_answer(const WalkTuple& x, const Tables& a, const WalkTuple& y, const Tables& b) {
  if (x.outcome != y.outcome || x.drop != y.drop || x.identity != y.identity) return false;
  if (x.record == 0 || y.record == 0) return x.record == y.record;
  return bpf::decode_record(a.policy, x.record) == bpf::decode_record(b.policy, y.record);
}

struct Count {
  std::size_t made = 0, refused = 0, differ = 0, equal = 0, suspected = 0;
};

class Trial {
 public:
  // The endpoint of the world with the largest tables.
  Trial(unsigned seed, bool intervals, bool hashed) : random_{std::mt19937(seed)} {
    world_ = rc::gen::exec([] { return random_world(Choice{}); })(rc::Random(seed), 100).value();
    resolved_ = ir::resolve(world_);
    std::size_t largest = 0;
    for (const ir::NodeView& v : resolved_.views) {
      for (const ir::ResolvedEndpoint& e : v.endpoints) {
        if (!e.error.empty() || !e.depends_on.empty()) continue;
        const std::size_t size = e.ingress->cells.size() + e.egress->cells.size();
        if (size <= largest) continue;
        largest = size;
        view_ = &v;
        endpoint_ = &e;
      }
    }
    if (endpoint_ == nullptr) throw std::runtime_error("a world without endpoints");
    // As on a node: all of its policies share the classes.
    std::vector<bpf::EncodedPolicy> policies;
    std::vector<const bpf::EncodedPolicy*> of_node;
    for (const ir::ResolvedEndpoint& e : view_->endpoints) {
      if (!e.error.empty()) continue;
      auto policy = bpf::encode_policy(*e.ingress, *e.egress, intervals ? 0 : bpf::kCellBudget);
      if (!policy) throw std::runtime_error(policy.error());
      if (&e == endpoint_) slot_ = policies.size();
      policies.push_back(std::move(*policy));
    }
    for (const bpf::EncodedPolicy& p : policies) of_node.push_back(&p);
    const auto identities =
        bpf::encode_identities(*view_, resolved_.identities, hashed ? 0 : bpf::kTrieBlocks);
    const auto classes = bpf::encode_classes(of_node, resolved_.identities.size());
    const bpf::PolicyImage& policy = policies[slot_].image;
    sizes_ = bpf::size_class(identities, classes, policy);
    files_ = {bpf::write_image(identities), bpf::write_image(classes), bpf::write_image(policy)};
    walker_ = std::make_unique<Walker>(sizes_);
    for (std::size_t i = 0; i < kTuples; ++i) {
      asked_.push_back(some_tuple(*view_, *endpoint_, random_));
    }
  }

  void run(std::size_t limit, std::map<std::string, Count>& counts) {
    const auto tables = tables_of(files_, slot_, sizes_);
    ASSERT_TRUE(tables);
    original_ = *tables;
    ASSERT_EQ(check(files_).answer, cli::ProofAnswer::Proved) << check(files_).detail;
    answers_ = answers(*tables, asked_);
    for (const auto file : {&Files::identities, &Files::classes, &Files::policy}) {
      for (const Kind& kind : kinds_of(files_.*file)) {
        Count& count = counts[kind.name];
        for (const std::size_t k : chosen(files_.*file, kind, limit, random_)) {
          for (const std::string& mutant : mutants(files_.*file, kind, k)) {
            Files changed = files_;
            changed.*file = mutant;
            judge(fmt::format("{} cell {}", kind.name, k), changed, count);
            if (::testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }

 private:
  cli::ProofLine check(const Files& files) const {
    cli::NodeTables node = cli::read_node_tables(files.identities, files.classes);
    return cli::check_tables(node, files.policy, slot_, sizes_, *view_, *endpoint_);
  }
  std::vector<WalkTuple> answers(const Tables& t, std::vector<WalkTuple> tuples) const {
    walker_->walk({bpf::kNodeMap, bpf::node_value(t.identities, t.classes, sizes_)},
                  {bpf::kPolicyMap, bpf::policy_value(t.policy, t.classes, slot_, sizes_)}, tuples);
    return tuples;
  }

  void judge(const std::string& name, const Files& changed, Count& count) {
    ++count.made;
    const cli::ProofLine line = check(changed);
    const bool proved = line.answer == cli::ProofAnswer::Proved;
    const auto tables = tables_of(changed, slot_, sizes_);
    if (!tables) {
      EXPECT_FALSE(proved) << name;
      ++count.refused;
      return;
    }
    std::vector<WalkTuple> tuples = asked_;
    const auto witness = difference(original_, *tables);
    if (witness) tuples.front() = *witness;
    const std::vector<WalkTuple> now = answers(*tables, tuples);
    bool differs = witness.has_value();
    for (std::size_t i = witness ? 1 : 0; i < kTuples && !differs; ++i) {
      differs = !same_answer(answers_[i], original_, now[i], *tables);
    }
    if (witness) {
      // What the decoded tables show, the kernel does.
      const std::vector<WalkTuple> before = answers(original_, tuples);
      EXPECT_FALSE(same_answer(before[0], original_, now[0], *tables)) << name;
    }
    if (differs) {
      ++count.differ;
      EXPECT_FALSE(proved) << name;
    } else if (proved) {
      ++count.equal;
    } else {
      ++count.suspected;
      std::printf("not shown to differ: %s: %s\n", name.c_str(), line.detail.c_str());
    }
  }

  Dice random_;
  ir::World world_;
  ir::Resolved resolved_;
  const ir::NodeView* view_ = nullptr;
  const ir::ResolvedEndpoint* endpoint_ = nullptr;
  std::size_t slot_ = 0;
  bpf::SizeClass sizes_;
  Files files_;
  Tables original_;
  std::unique_ptr<Walker> walker_;
  std::vector<WalkTuple> asked_, answers_;
};

TEST(ImageMutants, WhatDiffersIsRefuted) {
  POLICYC_NEEDS_BPF();
  const char* wanted = std::getenv("POLICYC_MUTANTS");
  const std::size_t limit = wanted == nullptr ? 12 : std::strtoul(wanted, nullptr, 10);
  std::map<std::string, Count> counts;
  unsigned seed = 20260801;
  for (const bool intervals : {false, true}) {
    for (const bool hashed : {false, true}) {
      Trial trial(seed++, intervals, hashed);
      trial.run(limit, counts);
      if (HasFatalFailure()) return;
    }
  }
  Count all;
  std::printf("%-14s %8s %8s %8s %8s %8s\n", "cells", "mutants", "refused", "differ", "equal",
              "other");
  for (const auto& [name, c] : counts) {
    std::printf("%-14s %8zu %8zu %8zu %8zu %8zu\n", name.c_str(), c.made, c.refused, c.differ,
                c.equal, c.suspected);
    all.made += c.made;
    all.refused += c.refused;
    all.differ += c.differ;
    all.equal += c.equal;
    all.suspected += c.suspected;
  }
  std::printf("%-14s %8zu %8zu %8zu %8zu %8zu\n", "all", all.made, all.refused, all.differ,
              all.equal, all.suspected);
  // Every section is there, in one of the worlds.
  EXPECT_EQ(counts.size(), 33U);
  for (const char* name :
       {"root4", "blocks4", "blocks6", "hosts4.0", "hosts4.1", "hosts6.0", "hosts6.16", "records.0",
        "records.6", "pageof", "pages", "keys", "cells", "classof", "rows"}) {
    EXPECT_GT(counts[name].made, 0U) << name;
    EXPECT_GT(counts[name].refused + counts[name].differ, 0U) << name;
  }
  EXPECT_GT(all.differ, 0U);
  EXPECT_EQ(all.suspected, 0U);
}

}  // namespace
}  // namespace policyc
