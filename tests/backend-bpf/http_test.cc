// Request heads in the kernel, against the rules.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "backend-bpf/http_stream.h"
#include "ir/automata/http_head.h"
#include "ir/l7_match.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/http_program.h"
#include "tests/ir/http_gen.h"

namespace policyc {
namespace {

struct Batch {
  std::vector<std::vector<ir::HttpRule>> filters;
  std::vector<std::pair<ir::HttpRequest, std::string>> plain;
  std::vector<std::string> spoiled;
};

rc::Gen<Batch> batches(std::size_t filters, std::size_t heads) {
  return rc::gen::exec([=] {
    Batch out;
    for (std::size_t i = 0; i < filters; ++i) out.filters.push_back(ir::testing::some_rules());
    for (std::size_t i = 0; i < heads; ++i) {
      const ir::HttpRequest request = ir::testing::some_request();
      out.plain.emplace_back(request, ir::testing::head_of(request));
      out.spoiled.push_back(ir::testing::spoiled(ir::testing::head_of(request)));
    }
    return out;
  });
}

bool allowed(const std::vector<ir::HttpRule>& rules, const ir::HttpRequest& request) {
  return std::any_of(rules.begin(), rules.end(),
                     [&](const ir::HttpRule& r) { return ir::http_matches(r, request); });
}

TEST(HttpProgram, JudgesHeadsInTheKernelAsTheRulesDo) {
  POLICYC_NEEDS_BPF();
  using ir::HeadVerdict;
  std::size_t runs = 0, decided_spoiled = 0;
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    // The first has few enough states for the narrow tables, mostly.
    const Batch batch = batches(seed == 1 ? 2 : 20, 60)(rc::Random(seed), 100).value();
    std::vector<ir::Dfa> automata;
    for (const auto& rules : batch.filters) {
      auto automaton = ir::http_head_automaton(rules);
      ASSERT_TRUE(automaton) << automaton.error();
      automata.push_back(std::move(*automaton));
    }
    const auto elf = testing::head_program(automata);
    ASSERT_TRUE(elf) << elf.error();
    const auto object = bpf::LoadedObject::load(*elf, {});
    ASSERT_TRUE(object) << object.error();
    const auto judge = [&](std::size_t filter, const std::string& head) {
      const auto run = object->run(testing::kHeadProgram, testing::head_frame(filter, head));
      EXPECT_TRUE(run) << run.error();
      ++runs;
      return static_cast<HeadVerdict>(run ? run->return_code : 99);
    };
    for (std::size_t f = 0; f < automata.size(); ++f) {
      for (const auto& [request, head] : batch.plain) {
        ASSERT_EQ(judge(f + 1, head),
                  allowed(batch.filters[f], request) ? HeadVerdict::Allow : HeadVerdict::Deny)
            << head;
      }
      for (const std::string& head : batch.spoiled) {
        const HeadVerdict said = judge(f + 1, head);
        ASSERT_EQ(said, static_cast<HeadVerdict>(automata[f].label_of(head))) << head;
        if (said == HeadVerdict::Undecided) continue;
        // What is decided is a head that the proxy's reader understands the same way.
        ++decided_spoiled;
        const auto request =
            bpf::parse_http_head(std::string_view(head).substr(0, head.size() - 4));
        ASSERT_TRUE(request) << head;
        ASSERT_EQ(said == HeadVerdict::Allow, allowed(batch.filters[f], *request)) << head;
      }
    }
    EXPECT_EQ(judge(0, batch.plain[0].second), HeadVerdict::Undecided);
    EXPECT_EQ(judge(automata.size() + 1, batch.plain[0].second), HeadVerdict::Undecided);
  }
  EXPECT_GT(runs, 5000U);
  EXPECT_GT(decided_spoiled, 100U);
}

// POL0506: what no program can decide is named, and its packets stay with the proxy.
TEST(HttpPlan, NamesWhatStaysWithTheProxy) {
  ir::PolicyTable table;
  table.column_begin = {0};
  table.classes = 1;
  table.class_of = {0};
  table.cells = {0};
  ir::VerdictRecord redirect;
  redirect.verdict = ir::VerdictKind::Redirect;
  redirect.parser = "http";
  table.records = {redirect};
  table.cell_filters = {1};
  ir::HttpRule rule;
  rule.method = "GET";
  table.proxy_filters.emplace_back();
  table.proxy_filters[0].http = {rule};
  const ir::PolicyTable none;
  const bpf::HttpPlan decided = bpf::plan_http(table, none);
  EXPECT_TRUE(decided.left_to_proxy.empty());
  EXPECT_EQ(decided.numbers[0], std::vector<std::uint16_t>{1});
  table.proxy_filters[0].tls.push_back({"shop/cert", ""});
  const bpf::HttpPlan left = bpf::plan_http(table, none);
  EXPECT_TRUE(left.text.empty());
  ASSERT_EQ(left.left_to_proxy.size(), 1U);
  EXPECT_NE(left.left_to_proxy[0].find("TLS"), std::string::npos);
}

TEST(HttpProgram, ReadsLongHeadsAndStopsAtItsLimit) {
  POLICYC_NEEDS_BPF();
  ir::HttpRule rule;
  rule.method = "GET";
  rule.path = "/files/.*";
  const auto automaton = ir::http_head_automaton({rule});
  ASSERT_TRUE(automaton);
  const auto elf = testing::head_program({*automaton});
  ASSERT_TRUE(elf) << elf.error();
  const auto object = bpf::LoadedObject::load(*elf, {});
  ASSERT_TRUE(object) << object.error();
  for (std::size_t length = 60; length <= 1600; length += length < 100 ? 1 : 45) {
    std::string head = "GET /files/ HTTP/1.1\r\nHost: b\r\nX-Long: \r\n\r\n";
    head.insert(11, (length - head.size()) / 2, 'a');
    head.insert(head.size() - 4, length - head.size(), 'z');
    ASSERT_EQ(head.size(), length);
    const auto expected = length <= 1536 + 7 ? ir::HeadVerdict::Allow : ir::HeadVerdict::Undecided;
    auto run = object->run(testing::kHeadProgram, testing::head_frame(1, head));
    ASSERT_TRUE(run);
    EXPECT_EQ(static_cast<ir::HeadVerdict>(run->return_code), expected) << length;
    head[5] = 'x';
    run = object->run(testing::kHeadProgram, testing::head_frame(1, head));
    ASSERT_TRUE(run);
    EXPECT_EQ(static_cast<ir::HeadVerdict>(run->return_code),
              length <= 1536 + 7 ? ir::HeadVerdict::Deny : ir::HeadVerdict::Undecided);
  }
  EXPECT_LT(object->instructions(testing::kHeadProgram), 1'000'000U);
}

TEST(HttpProgram, TablesHaveABudget) {
  const auto automaton = ir::http_head_automaton({ir::HttpRule{}});
  ASSERT_TRUE(automaton);
  const auto text = bpf::http_text({*automaton}, 1000);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error(),
            "too large: its tables need " +
                std::to_string(2 * (258 + automaton->states() * (2 + automaton->classes()))) +
                " bytes of at most 1000");
}

}  // namespace
}  // namespace policyc
