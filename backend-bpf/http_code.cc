#include "backend-bpf/http_code.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>
#include <map>

#include "ir/automata/http_head.h"

namespace policyc::bpf {
namespace {

constexpr std::size_t kRowHead = 2;  // verdict, skip
constexpr std::size_t kSkipRanges = 3;

struct ByteRange {
  unsigned first = 0, last = 0;
  auto operator<=>(const ByteRange&) const = default;
};
using Skip = std::vector<ByteRange>;  // at most kSkipRanges

// How often a byte is met in request heads, roughly.
int weight(unsigned byte) {
  if (byte >= 'a' && byte <= 'z') return 10;
  if (byte >= '0' && byte <= '9') return 6;
  if (byte >= 'A' && byte <= 'Z') return 2;
  return byte == '/' || byte == '-' || byte == '.' || byte == '_' || byte == ' ' ? 8 : 1;
}

// The most useful ranges of ASCII that lead from the state to itself; none where they would hardly
// ever fill eight bytes.
Skip skip_of(const ir::Dfa& dfa, std::uint32_t state) {
  std::vector<ByteRange> all;
  for (unsigned byte = 0; byte < 128; ++byte) {
    if (dfa.step(state, static_cast<std::uint8_t>(byte)) != state) continue;
    if (!all.empty() && all.back().last + 1 == byte) {
      all.back().last = byte;
    } else {
      all.push_back({byte, byte});
    }
  }
  const auto worth = [](const ByteRange& r) {
    int sum = 0;
    for (unsigned byte = r.first; byte <= r.last; ++byte) sum += weight(byte);
    return sum;
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const ByteRange& a, const ByteRange& b) { return worth(a) > worth(b); });
  if (all.size() > kSkipRanges) all.resize(kSkipRanges);
  constexpr int kLeast = 60;  // the digits alone
  int sum = 0;
  for (const ByteRange& r : all) sum += worth(r);
  if (sum < kLeast) all.clear();
  return all;
}

void append_array(std::string& out, const char* type, const char* name, const char* size,
                  const std::vector<std::uint32_t>& numbers) {
  fmt::format_to(std::back_inserter(out), "static const {} {}[{}] = {{", type, name, size);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    out += i % 24 == 0 ? "\n  " : "";
    out += std::to_string(numbers[i]);
    out += ',';
  }
  out += "\n};\n";
}

}  // namespace

Expected<std::string> http_text(const std::vector<ir::Dfa>& automata, std::size_t budget) {
  std::size_t cells = kRowHead + 256, widest = 0;
  for (const ir::Dfa& dfa : automata) {
    cells += dfa.states() * (kRowHead + dfa.classes());
    widest = std::max(widest, kRowHead + dfa.classes());
  }
  // States are offsets: narrow cells hold them where the table ends below 64 KiB.
  const bool wide = cells * sizeof(std::uint16_t) > 0x10000;
  const std::uint32_t cell = wide ? sizeof(std::uint32_t) : sizeof(std::uint16_t);
  if (cells * cell > budget) {
    return Error{
        fmt::format("too large: its tables need {} bytes of at most {}", cells * cell, budget)};
  }

  std::vector<std::uint32_t> starts = {0}, steps(widest, 0);  // filter 0 is none; row 0 is lost
  std::vector<std::uint32_t> columns(256, 0);
  std::map<Skip, std::uint32_t> skips;
  for (const ir::Dfa& dfa : automata) {
    const auto width = static_cast<std::uint32_t>(kRowHead + dfa.classes());
    const auto dead = dfa.dead();
    std::vector<std::uint32_t> row(dfa.states(), 0);
    auto next_row = static_cast<std::uint32_t>(steps.size());
    for (std::uint32_t s = 0; s < dfa.states(); ++s) {
      if (s == dead) continue;
      row[s] = next_row * cell;
      next_row += width;
    }
    starts.push_back(row[0]);
    std::vector<std::uint8_t> example(dfa.classes());
    for (unsigned byte = 0; byte < 256; ++byte) {
      const std::uint8_t c = dfa.class_of(static_cast<std::uint8_t>(byte));
      columns.push_back(static_cast<std::uint32_t>(kRowHead + c) * cell);
      example[c] = static_cast<std::uint8_t>(byte);
    }
    for (std::uint32_t s = 0; s < dfa.states(); ++s) {
      if (s == dead) continue;
      const Skip skip = skip_of(dfa, s);
      steps.push_back(dfa.label(s));
      steps.push_back(skip.empty()
                          ? 0
                          : skips.try_emplace(skip, static_cast<std::uint32_t>(skips.size() + 1))
                                .first->second);
      for (const std::uint8_t byte : example) steps.push_back(row[dfa.step(s, byte)]);
    }
  }

  std::vector<std::string> skip_rows(skips.size() + 1, "{{0}, {0}}");
  for (const auto& [ranges, number] : skips) {
    // A byte b of 7 bits is in a range where b + first has its high bit and b + last has not.
    // Unused ranges hold nothing: both sums have it.
    std::array<std::uint64_t, kSkipRanges> first{}, last{};
    constexpr std::uint64_t kAll = 0x0101010101010101U;
    first.fill(0x80 * kAll);
    last.fill(0x80 * kAll);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      first[i] = (0x80U - ranges[i].first) * kAll;
      last[i] = (0x7FU - ranges[i].last) * kAll;
    }
    skip_rows[number] = fmt::format("{{{{{:#x}, {:#x}, {:#x}}}, {{{:#x}, {:#x}, {:#x}}}}}",
                                    first[0], first[1], first[2], last[0], last[1], last[2]);
  }

  // Narrow: what the largest offset and the largest column together can reach. Wide tables have
  // more bytes than that, so that the size alone tells them apart.
  constexpr std::size_t kNarrowSteps = (0x10000 + 0x10000) / sizeof(std::uint16_t);
  const std::size_t step_count =
      wide ? std::max(std::bit_ceil(steps.size()), kNarrowSteps) : kNarrowSteps;
  const std::size_t filters = std::bit_ceil(starts.size());
  std::string out = "typedef unsigned long long u64;\n\n";
  fmt::format_to(std::back_inserter(out),
                 "#define HTTP_FILTERS {}\n#define HTTP_WIDE {}\n#define HTTP_STEPS {}\n"
                 "#define HTTP_STATES {:#x}\n#define HTTP_SKIPS {}\n\n"
                 "struct http_skip {{\n  u64 first[3], last[3];\n}};\n",
                 filters, wide ? 1 : 0, step_count, wide ? step_count * cell - cell : 0xFFFF,
                 std::bit_ceil(skip_rows.size()));
  append_array(out, "u32", "http_starts", "HTTP_FILTERS", starts);
  append_array(out, "u16", "http_columns", "HTTP_FILTERS][256", columns);
  append_array(out, wide ? "u32" : "u16", "http_steps", "HTTP_STEPS", steps);
  out += "static const struct http_skip http_skips[HTTP_SKIPS] = {\n";
  for (const std::string& row : skip_rows) out += "  " + row + ",\n";
  out += "};\n\n";
  return out + kTemplateHttp;
}

HttpPlan plan_http(const ir::PolicyTable& ingress, const ir::PolicyTable& egress) {
  HttpPlan out;
  std::vector<ir::Dfa> automata;
  std::map<std::string, std::uint16_t> known;  // filters that let the same pass share an automaton
  const auto leave = [&](const std::string& why) {
    if (std::find(out.left_to_proxy.begin(), out.left_to_proxy.end(), why) ==
        out.left_to_proxy.end()) {
      out.left_to_proxy.push_back(why);
    }
    return std::uint16_t{0};
  };
  const auto number_of = [&](const ir::ProxyFilter& filter) -> std::uint16_t {
    // Whoever may send TLS or another protocol is not read here.
    if (!filter.tls.empty()) return leave("the proxy ends or begins TLS there");
    if (!filter.server_names.empty()) return leave("rules about server names stand beside them");
    if (!filter.kafka.empty() || !filter.dns.empty() || !filter.generic.empty()) return 0;
    std::vector<ir::HttpRule> rules = filter.http;
    if (filter.everything) rules = {ir::HttpRule{}};
    auto automaton = ir::http_head_automaton(rules);
    if (!automaton) return leave(automaton.error());
    automata.push_back(std::move(*automaton));
    return static_cast<std::uint16_t>(automata.size());
  };
  const ir::PolicyTable* const tables[2] = {&ingress, &egress};
  for (std::size_t d = 0; d < 2; ++d) {
    const ir::PolicyTable& t = *tables[d];
    std::vector<bool> is_http(t.proxy_filters.size(), true);
    for (std::size_t cell = 0; cell < t.cell_filters.size(); ++cell) {
      if (t.cell_filters[cell] == 0) continue;
      if (t.records[t.cells[cell]].parser != "http") is_http[t.cell_filters[cell] - 1U] = false;
    }
    for (std::size_t f = 0; f < t.proxy_filters.size(); ++f) {
      if (!is_http[f]) {
        out.numbers[d].push_back(0);
        continue;
      }
      const auto [it, fresh] = known.try_emplace(t.proxy_filters[f].text(), std::uint16_t{0});
      if (fresh) it->second = number_of(t.proxy_filters[f]);
      out.numbers[d].push_back(it->second);
    }
  }
  if (automata.empty()) {
    out.numbers = {};
    return out;
  }
  auto text = http_text(automata);
  if (text) {
    out.text = std::move(*text);
  } else {
    leave(text.error());
    out.numbers = {};
  }
  return out;
}

}  // namespace policyc::bpf
