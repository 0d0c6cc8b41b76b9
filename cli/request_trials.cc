#include "cli/request_trials.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>
#include <vector>

#include "backend-bpf/interpreter.h"
#include "backend-bpf/program.h"
#include "verifier/http_tables.h"

namespace policyc::cli {
namespace {

using Frame = std::vector<std::uint8_t>;

// Tables by which every packet is left to the proxy, after `filter` is asked.
std::pair<std::string, std::string> all_to(std::uint16_t filter, bool proxy,
                                           const verify::DatapathShape& shape) {
  std::string node(shape.node_size(), '\0'), policy(shape.policy_size(), '\0');
  node[4] = 1;  // say in cb what was decided
  if (proxy) node[8] = 1;
  node[64 + 6] = 1;
  node[64 + 17] = 2;
  // Everybody is the first identity, every cell the first record.
  for (std::size_t at = 320; at < node.size(); at += 4) node[at] = 1;
  policy[12] = 2;
  policy[20] = static_cast<char>(filter & 255U);
  policy[21] = static_cast<char>(filter >> 8U);
  const std::uint32_t cells = shape.intervals != 0 ? shape.intervals : shape.cells;
  for (std::uint32_t k = 0; k < cells; ++k) {
    const std::size_t at = shape.cells_at() + 2 * std::size_t{k};
    policy[at] = 1;
    policy[at + 1] = static_cast<char>(0x80);
  }
  return {node, policy};
}

struct Headers {
  bool v6 = false;
  std::uint8_t protocol = 6, words = 5;  // of the TCP header
  int total = 0;                         // what the IP header says too much
  bool later = false;                    // a later fragment
};

Frame frame_of(const Headers& h, const std::string& payload) {
  const std::size_t l4 = h.v6 ? 54 : 34;
  Frame out(l4 + h.words * std::size_t{4});
  out[12] = h.v6 ? 0x86 : 0x08;
  out[13] = h.v6 ? 0xDD : 0x00;
  out[14] = h.v6 ? 0x60 : 0x45;
  out[h.v6 ? 20 : 23] = h.protocol;
  if (h.later && !h.v6) out[21] = 1;
  out[l4 + 3] = 80;
  out[l4 + 12] = static_cast<std::uint8_t>(h.words << 4U);
  out.insert(out.end(), payload.begin(), payload.end());
  const auto total = static_cast<int>(out.size()) - (h.v6 ? 54 : 14) + h.total;
  out[h.v6 ? 18 : 16] = static_cast<std::uint8_t>(total >> 8);
  out[h.v6 ? 19 : 17] = static_cast<std::uint8_t>(total);
  return out;
}

// Heads that the filter allows and denies, of many lengths, whole and with one thing changed.
std::vector<std::string> payloads_for(const verify::HttpTables& http, std::uint16_t filter) {
  std::vector<std::string> out = {""};
  for (const std::uint32_t verdict : {1U, 2U}) {
    std::vector<std::string> heads;
    for (std::size_t length = 16; length <= 96; ++length) {
      std::string head = http.example(filter, verdict, length);
      if (!head.empty()) heads.push_back(std::move(head));
    }
    for (const std::size_t length : {1527U, 1535U, 1536U, 1537U, 1543U, 1544U, 1551U}) {
      std::string head = http.example(filter, verdict, length);
      if (!head.empty()) out.push_back(head);
      if (!head.empty()) out.push_back(head + "z");
    }
    out.insert(out.end(), heads.begin(), heads.end());
    for (const std::size_t which : {heads.size() / 3, heads.size() * 2 / 3}) {
      if (which >= heads.size()) continue;
      const std::string& head = heads[which];
      for (std::size_t at = 0; at < head.size(); ++at) {
        out.push_back(head.substr(0, at));
        out.push_back(head);
        out.back()[at] = static_cast<char>(static_cast<unsigned char>(head[at]) ^ 0x20U);
      }
    }
    // Any byte amid many that change nothing.
    for (unsigned byte = 0; byte < 256 && !heads.empty(); ++byte) {
      out.push_back(heads.back());
      out.back()[heads.back().size() / 2] = static_cast<char>(byte);
    }
  }
  return out;
}

}  // namespace

std::optional<RequestTrial> try_requests(const std::string& elf, const char* program,
                                         unsigned direction, const verify::DatapathShape& shape) {
  const auto object = ebpf::read_object(elf);
  const auto http = object ? verify::HttpTables::read(*object) : Error{object.error()};
  if (!http) return std::nullopt;
  constexpr std::uint16_t kMostFilters = 4;
  const auto filters = static_cast<std::uint16_t>(
      std::min<std::size_t>(http->filters(), kMostFilters + std::size_t{1}));
  for (std::uint16_t filter = 1; filter < filters; ++filter) {
    struct Try {
      Frame frame;
      const std::string* payload;
    };
    std::vector<Try> tries;
    const std::vector<std::string> payloads = payloads_for(*http, filter);
    for (std::size_t k = 0; k < payloads.size(); ++k) {
      const auto add = [&](const Headers& h) {
        tries.push_back({frame_of(h, payloads[k]), &payloads[k]});
      };
      add({.v6 = k % 2 == 1});
      if (k % 7 != 0) continue;
      for (const bool v6 : {false, true}) {
        add({.v6 = v6, .protocol = 17});
        for (const std::uint8_t words : std::array<std::uint8_t, 3>{4, 6, 15}) {
          add({.v6 = v6, .words = words});
        }
        for (const int total : {-1, 1}) {
          add({.v6 = v6, .total = total});
        }
        add({.v6 = v6, .later = true});
      }
    }
    for (const bool proxy : {false, true}) {
      verify::ProgramWitness w;
      std::tie(w.node, w.policy) = all_to(filter, proxy, shape);
      const auto machine =
          bpf::InterpretedObject::load(elf, {{bpf::kNodeMap, w.node}, {bpf::kPolicyMap, w.policy}});
      if (!machine) return std::nullopt;
      for (const auto& [frame, payload] : tries) {
        const auto run = machine->run(program, frame);
        w.meaning = fate_of(frame, 0, direction, shape, w.node, w.policy, &*http);
        if (run) {
          w.program = {run->return_code, run->mark, run->cb};
          if (w.program == w.meaning) continue;
        } else {
          w.outside = run.error();
        }
        w.frame = frame;
        return RequestTrial{w, *payload};
      }
    }
  }
  return std::nullopt;
}

}  // namespace policyc::cli
