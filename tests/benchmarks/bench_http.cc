// bench_http [--json FILE]: what it costs to judge a request head in the kernel, by length. Every
// round runs each case and the empty program once; medians over rounds, the empty program's taken
// off.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "backend-bpf/kernel.h"
#include "ir/automata/http_head.h"
#include "ir/base/file.h"
#include "tests/backend-bpf/http_program.h"

namespace policyc {
namespace {

constexpr std::array<std::size_t, 4> kLengths = {64, 128, 512, 1400};
constexpr unsigned kRepeat = 20'000;
constexpr int kRounds = 15;

struct Variant {
  const char* name;
  ir::HttpRule rule;
  std::string before, filler, after;  // a head of the wanted length: `filler` over and over
};

ir::HttpRule rule(const char* method, const char* path) {
  ir::HttpRule out;
  out.method = method;
  out.path = path;
  return out;
}

std::vector<Variant> variants() {
  const std::string rest = " HTTP/1.1\r\nHost: b\r\n\r\n";
  return {
      {"skip: literals and one class", rule("GET", "/items/[a-z0-9-]*"), "GET /items/",
       "ab-1-cd-2-ef-3-gh", rest},
      {"skip: long segment", rule("GET", "/api/.*"), "GET /api/", "a1b2c3d4e5f6g7", rest},
      {"skip: long header", rule("GET", "/api/.*"),
       "GET /api/x HTTP/1.1\r\nHost: b\r\nCookie: ", "key=value; other=\"1\" ", "\r\n\r\n"},
      {"tables: a state for each byte", rule("GET", "/(ab/cd/)*"), "GET /", "ab/cd/", rest},
      {"tables: short segments", rule("GET", "/api/.*"), "GET /api/", "a.b/c-d/e/", rest},
  };
}

std::string head_of(const Variant& v, std::size_t length) {
  std::string middle;
  while (v.before.size() + middle.size() + v.filler.size() + v.after.size() <= length) {
    middle += v.filler;
  }
  return v.before + middle + v.after;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int run(const char* json) {
  const auto fail = [](const std::string& why) {
    fmt::print(stderr, "bench_http: {}\n", why);
    return 3;
  };
  if (const auto why = bpf::kernel_unavailable()) return fail(*why);
  const std::vector<Variant> all = variants();
  std::vector<ir::Dfa> automata;
  for (const Variant& v : all) {
    auto automaton = ir::http_head_automaton({v.rule});
    if (!automaton) return fail(automaton.error());
    automata.push_back(std::move(*automaton));
  }
  const auto elf = testing::head_program(automata);
  if (!elf) return fail(elf.error());
  const auto object = bpf::LoadedObject::load(*elf, {});
  if (!object) return fail(object.error());

  struct Case {
    std::size_t variant, bytes;
    std::vector<std::uint8_t> frame;
    std::vector<double> ns;
  };
  std::vector<Case> cases;
  for (std::size_t v = 0; v < all.size(); ++v) {
    for (const std::size_t length : kLengths) {
      const std::string head = head_of(all[v], length);
      if (automata[v].label_of(head) == 0) return fail("a head is not decided: " + head);
      cases.push_back({v, head.size(), testing::head_frame(v + 1, head), {}});
    }
  }
  for (int round = 0; round < kRounds; ++round) {
    for (Case& c : cases) {
      const auto empty = object->run(testing::kEmptyProgram, c.frame, kRepeat);
      const auto full = object->run(testing::kHeadProgram, c.frame, kRepeat);
      if (!empty || !full) return fail("cannot run: " + (empty ? full.error() : empty.error()));
      c.ns.push_back(static_cast<double>(full->nanoseconds) -
                     static_cast<double>(empty->nanoseconds));
    }
  }
  std::string out;
  fmt::print("{} instructions for all variants\n{:32} {:>6}", object->instructions("head"),
             "ns over the empty program", "states");
  for (const std::size_t length : kLengths) fmt::print(" {:>7}", fmt::format("{} B", length));
  fmt::print(" {:>8}\n", "ns/B");
  for (std::size_t v = 0; v < all.size(); ++v) {
    fmt::print("{:32} {:>6}", all[v].name, automata[v].states());
    const Case* shortest = nullptr;
    const Case* longest = nullptr;
    for (const Case& c : cases) {
      if (c.variant != v) continue;
      if (shortest == nullptr) shortest = &c;
      longest = &c;
      fmt::print(" {:>7.0f}", median(c.ns));
    }
    const double slope = (median(longest->ns) - median(shortest->ns)) /
                         static_cast<double>(longest->bytes - shortest->bytes);
    fmt::print(" {:>8.2f}\n", slope);
    for (const Case& c : cases) {
      if (c.variant != v) continue;
      out += fmt::format(
          "{}{{\"variant\":\"{}\",\"states\":{},\"bytes\":{},\"ns\":{:.1f},\"nsPerByte\":{:.3f},"
          "\"rounds\":{}}}",
          out.empty() ? "" : ",", all[v].name, automata[v].states(), c.bytes, median(c.ns), slope,
          kRounds);
    }
  }
  if (json == nullptr) return 0;
  const auto error = write_file_atomic(json, "{\"version\":1,\"results\":[" + out + "]}\n");
  return error ? fail(error->message) : 0;
}

}  // namespace
}  // namespace policyc

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--json") return policyc::run(argv[2]);
  if (argc == 1) return policyc::run(nullptr);
  fmt::print(stderr, "usage: bench_http [--json FILE]\n");
  return 2;
}
