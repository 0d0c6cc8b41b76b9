// Connection tracking: what the handbook says of it, written down in verifier/flow_meaning.h, is
// what the kernel does over rows of packets; the emitted program is proved to do that; programs
// with one thing wrong are not. Proofs here are of packets without IPv6 extension headers, for the
// sake of time. POLICYC_PACKETS=N runs N packets (default 3000).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <random>

#include "tests/backend-bpf/bpf_support.h"
#include "tests/verifier/datapath_shape.h"
#include "verifier/program_proof.h"

namespace policyc::verify {
namespace {

std::string stateful_text() {
  bpf::ProgramSpec spec;
  spec.stateful = true;
  return bpf::program_text(spec);
}

std::string compiled(const std::string& text) {
  const auto module = bpf::find_clang_module();
  auto objects = bpf::compile_c(*module, {text});
  EXPECT_TRUE(objects) << (objects ? "" : objects.error());
  return objects ? objects->front() : std::string();
}

DatapathShape stateful_shape() {
  DatapathShape shape = testing::datapath_shape(bpf::SizeClass{});
  shape.stateful = true;
  shape.extension_headers = 0;
  return shape;
}

// Few hosts and few ports, so that packets meet what earlier ones left.
class Traffic {
 public:
  explicit Traffic(std::uint32_t seed) : random_(seed) {}
  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }

  // `out`: from the endpoint.
  std::vector<std::uint8_t> frame(bool out) {
    const bool v6 = below(2) == 0;
    std::vector<std::uint8_t> f(14, 0);
    f[12] = v6 ? 0x86 : 0x08;
    f[13] = v6 ? 0xDD : 0x00;
    const unsigned peer = 2 + below(2);
    static constexpr std::array<std::uint8_t, 6> kProtocols = {6, 6, 17, 1, 58, 132};
    const std::uint8_t protocol = kProtocols[below(6)];
    header(f, v6, out ? 1 : peer, out ? peer : 1, protocol, true);
    const std::size_t l4 = f.size();
    const bool icmp = protocol == 1 || protocol == 58;
    transport(f, protocol, out, v6);
    if (icmp && below(2) == 0) {
      // An error, mostly about a packet that went the other way.
      f[l4] = static_cast<std::uint8_t>(v6 ? 1 + below(5) : below(2) == 0 ? 3 : 11);
      f.resize(l4 + 8);
      const bool other = below(4) != 0 ? !out : out;
      const std::uint8_t quoted = kProtocols[below(6)];
      header(f, v6, other ? 1 : peer, other ? peer : 1, quoted, false);
      transport(f, quoted, other, v6);
    }
    if (below(12) == 0) f.resize(14 + below(static_cast<unsigned>(f.size()) - 13));
    return f;
  }

 private:
  void put16(std::vector<std::uint8_t>& f, unsigned v) {
    f.push_back(static_cast<std::uint8_t>(v >> 8U));
    f.push_back(static_cast<std::uint8_t>(v));
  }
  void header(std::vector<std::uint8_t>& f, bool v6, unsigned from, unsigned to,
              std::uint8_t protocol, bool parts) {
    const unsigned part = parts ? below(6) : 5;  // 0: a first fragment, 1: a later one
    if (v6) {
      const bool cut = part < 2;
      const std::uint8_t next = cut ? 44 : protocol;
      f.insert(f.end(), {0x60, 0, 0, 0, 0, 60, next, 64});
      for (const unsigned host : {from, to}) {
        f.insert(f.end(),
                 {0xFD, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(host)});
      }
      if (cut) {
        f.insert(f.end(), {protocol, 0, static_cast<std::uint8_t>(part), 1, 0, 0, 0,
                           static_cast<std::uint8_t>(below(3))});
      }
      return;
    }
    f.insert(f.end(), {0x45, 0, 0, 60, 0, static_cast<std::uint8_t>(below(3)),
                       static_cast<std::uint8_t>(part == 0 ? 0x20 : 0),
                       static_cast<std::uint8_t>(part == 1 ? 5 : 0), 64, protocol, 0, 0});
    for (const unsigned host : {from, to}) {
      f.insert(f.end(), {10, 1, 0, static_cast<std::uint8_t>(host)});
    }
  }
  void transport(std::vector<std::uint8_t>& f, std::uint8_t protocol, bool out, bool) {
    if (protocol == 1 || protocol == 58) {
      static constexpr std::array<std::array<std::uint8_t, 2>, 2> kEcho = {{{8, 0}, {128, 129}}};
      f.push_back(kEcho[protocol == 58][below(2)]);
      f.insert(f.end(), {0, 0, 0, 0, static_cast<std::uint8_t>(below(2)), 0, 1});
      return;
    }
    const unsigned mine = 4000 + below(2), theirs = 80 + below(3);
    put16(f, out ? mine : theirs);
    put16(f, out ? theirs : mine);
    f.resize(f.size() + 16, 0);
    static constexpr std::array<std::uint8_t, 6> kFlags = {2, 18, 16, 17, 4, 20};
    if (protocol == 6) f[f.size() - 7] = kFlags[below(6)];
  }

  std::mt19937 random_;
};

// The maps of connection tracking, as the meaning keeps them.
using Kept = std::map<std::string, std::vector<std::uint64_t>>;  // by "flow KEY", "fragment KEY"

void keep(Kept& kept, const std::vector<std::string>& lines) {
  for (std::string line : lines) {
    if (line.starts_with("new ")) line = line.substr(4);
    const std::size_t colon = line.find(": ");
    std::vector<std::uint64_t>& fields = kept[line.substr(0, colon)];
    fields.clear();
    const char* at = line.c_str() + colon + 2;
    for (char* end = nullptr; *at != 0; at = *end == ' ' ? end + 1 : end) {
      fields.push_back(std::strtoull(at, &end, 10));
    }
  }
}

TEST(FlowProof, TheKernelDoesWhatTheHandbookSays) {
  POLICYC_NEEDS_BPF();
  const std::string elf = compiled(stateful_text());
  const DatapathShape shape = stateful_shape();
  std::mt19937 random(20260801);
  // Tables of every kind of decision; everybody has an identity.
  std::string node(shape.node_size(), '\0'), policy(shape.policy_size(), '\0');
  for (char& c : policy) c = static_cast<char>(random() & 255U);
  for (std::size_t at = 320; at + 4 <= node.size(); at += 4) node[at] = static_cast<char>(random());
  for (const auto& [protocol, kind] : {std::pair(6, 1), {17, 2}, {132, 3}, {1, 4}, {58, 5}}) {
    node[static_cast<std::size_t>(64 + protocol)] = static_cast<char>(kind);
  }
  node[4] = 1;     // report
  node[8] = 0x3A;  // a proxy
  const auto kernel =
      bpf::LoadedObject::load(elf, {{bpf::kNodeMap, node}, {bpf::kPolicyMap, policy}});
  ASSERT_TRUE(kernel) << kernel.error();
  const char* wanted = std::getenv("POLICYC_PACKETS");
  const int packets = wanted == nullptr ? 3000 : std::atoi(wanted);
  Traffic traffic(7);
  Kept kept;
  int ran = 0, passed = 0, answers = 0, from_first = 0;
  for (int i = 0; i < packets; ++i) {
    const bool out = traffic.below(2) == 0;
    const auto frame = traffic.frame(out);
    const auto run = kernel->run(out ? bpf::kEgressProgram : bpf::kIngressProgram, frame);
    if (!run) continue;  // too short to be run
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    FlowsFound found;
    found.clock.fill(static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                     static_cast<std::uint64_t>(now.tv_nsec));
    PacketFate fate;
    // What is asked for later depends on what was found first.
    for (int round = 0; round < 4; ++round) {
      for (auto& e : found.entries) e.key.clear();
      fate = fate_of(frame, 0, out ? 1 : 0, shape, node, policy, found);
      for (std::size_t k = 0; k < kFlowEntries; ++k) {
        FlowsFound::Entry& e = found.entries[k];
        if (e.key.empty()) continue;
        std::string name = k == 0 ? "fragment " : "flow ";
        for (const char c : e.key) name += fmt::format("{:02x}", static_cast<std::uint8_t>(c));
        const auto known = kept.find(name);
        e.present = known != kept.end();
        if (e.present) e.fields = known->second;
      }
    }
    keep(kept, fate.kept);
    ++ran;
    passed += fate.action == 0 ? 1 : 0;
    answers += fate.action == 0 && fate.cb[2] == 0 && found.entries[1].present ? 1 : 0;
    from_first += found.entries[0].present ? 1 : 0;
    ASSERT_EQ(fate.action, run->return_code) << "packet " << i;
    ASSERT_EQ(fate.mark, run->mark) << "packet " << i;
    ASSERT_EQ(fate.cb, run->cb) << "packet " << i;
  }
  std::printf("%d packets, %d pass, %d answer, %d later fragments of known first ones\n", ran,
              passed, answers, from_first);
  EXPECT_GT(answers, ran / 100);
  EXPECT_GT(from_first, ran / 200);
}

ProofReport report_of(const std::string& elf, unsigned direction) {
  TermSolver solver;
  const auto object = ebpf::read_object(elf);
  return object ? prove_program(*object, direction == 0 ? "policyc_ingress" : "policyc_egress",
                                direction, stateful_shape(), solver)
                : ProofReport{};
}

TEST(FlowProof, TheProgramIsProved) {
  if (!bpf::find_clang_module()) GTEST_SKIP() << "skipped: no clang module";
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const std::string elf = compiled(stateful_text());
  for (const unsigned direction : {0U, 1U}) {
    const ProofReport r = report_of(elf, direction);
    // Left out is what the shape leaves out, and nothing else.
    EXPECT_TRUE(r.left_out);
    EXPECT_EQ(r.reason,
              "proved of all packets but those of IPv6 with more than 0 extension headers");
  }
}

TEST(FlowProof, WrongTextsAreNotProved) {
  if (!bpf::find_clang_module()) GTEST_SKIP() << "skipped: no clang module";
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  struct Change {
    const char *what, *from, *to;
  };
  const Change changes[] = {
      {"the answer's ends are not exchanged",
       "u32 *source = direction == INGRESS ? key->peer : key->local;\n  u32 *destination = "
       "direction == INGRESS ? key->local : key->peer;",
       "u32 *source = key->peer;\n  u32 *destination = key->local;"},
      {"a segment with SYN answers", "if (!opens) {", "if (1) {"},
      {"flows never end", "f && f->expires > now ? f : 0", "f ? f : 0"},
      {"errors go to anybody", "if (outer[0] != source[0] || ",
       "if (0 && outer[0] != source[0] || "},
      {"what is dropped is remembered", "if (v.outcome != OUTCOME_DROP) tell |= remember",
       "if (1) tell |= remember"},
      {"later fragments are errors", "!later && related(", "related("},
      {"what went to the proxy is forgotten", "outcome == OUTCOME_REDIRECT ? FLOW_PROXIED : 0",
       "0"},
  };
  const std::string text = stateful_text();
  for (const Change& c : changes) {
    const std::size_t at = text.find(c.from);
    ASSERT_NE(at, std::string::npos) << c.what;
    std::string changed = text;
    changed.replace(at, std::strlen(c.from), c.to);
    // At ingress the first change changes nothing.
    const ProofReport r = report_of(compiled(changed), &c == changes ? 1 : 0);
    EXPECT_FALSE(r.left_out) << c.what;
    EXPECT_NE(r.answer, ProofReport::Answer::Proved) << c.what;
    std::printf("%s: %s\n", c.what, r.witness ? "refuted" : r.reason.c_str());
    if (r.witness) {
      EXPECT_FALSE(r.witness->program == r.witness->meaning) << c.what;
    }
  }
}

}  // namespace
}  // namespace policyc::verify
