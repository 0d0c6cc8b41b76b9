// Each flow that `lint` or `diff` prints to show something is a flow that does it: the compiled
// programs are run on it in the kernel, and the reference evaluator judges it, in a world of the
// files that the finding names. Nothing of the run that found it is used. Counted: what was
// printed, what was run, and what cannot be a packet.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/scratch.h"

namespace policyc {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kPolicyc = POLICYC_BINARY_DIR "/policyc";

struct Ran {
  int code = 0;
  std::string out;
};
Ran run(const std::string& command) {
  Ran out;
  FILE* pipe = popen((command + " 2>/dev/null </dev/null").c_str(), "r");
  char buffer[4096];
  for (std::size_t n = 0; (n = fread(buffer, 1, sizeof buffer, pipe)) != 0;) {
    out.out.append(buffer, n);
  }
  out.code = WEXITSTATUS(pclose(pipe));
  return out;
}

std::string quoted(const std::string& text) {
  return "'" + text + "'";
}

// The flows of one question, as a fixture of packets over pods made for them.
class Flows {
 public:
  // Nothing where a flow cannot be a packet from or to a pod.
  bool add(const json& flow) {
    const std::string name = "w" + std::to_string(count_);
    const auto from = party(flow.at("from"), name + "-from");
    const auto to = party(flow.at("to"), name + "-to");
    const std::string protocol = flow.value("proto", "");
    const std::string port = std::to_string(flow.value("port", 0));
    // Any protocol: one without ports (GRE).
    const std::string transport = protocol == "TCP"   ? "tcp: {dport: " + port + ", flags: S}"
                                  : protocol == "UDP" ? "udp: {dport: " + port + "}"
                                  : protocol == "ANY" ? "protocol: 47"
                                                      : "";
    if (!from || !to || transport.empty()) return false;
    packets_ += "- name: " + name + "\n  packets:\n  - {from: '" + *from + "', to: '" + *to +
                "', " + transport + "}\n";
    ++count_;
    return true;
  }
  std::size_t count() const { return count_; }
  const std::string& packets() const { return packets_; }
  std::string pods() const {
    std::string out = pods_;
    for (const std::string& n : namespaces_) {
      out += "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: '" + n + "'}\n";
    }
    return out;
  }

 private:
  std::optional<std::string> party(const json& p, const std::string& name) {
    if (p.contains("ip")) return p.at("ip").get<std::string>();
    if (p.contains("pod")) {
      // "shop/web", or where the pods are made of what policies mention, "shop/app=web,tier=a".
      const std::string pod = p.at("pod");
      if (pod.find('=') == std::string::npos) return pod;
      json labels = json::object();
      const std::string text = pod.substr(pod.find('/') + 1);
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find(',', at), text.size());
        const std::size_t equals = text.find('=', at);
        labels[text.substr(at, equals - at)] = text.substr(equals + 1, end - equals - 1);
        at = end + 1;
      }
      return made(pod.substr(0, pod.find('/')), labels, name);
    }
    if (!p.contains("labels") || !p.contains("namespace")) return std::nullopt;
    return made(p.at("namespace"), p.at("labels"), name);
  }
  std::string made(const std::string& name_space, const json& labels, const std::string& name) {
    namespaces_.insert(name_space);
    pods_ += "---\napiVersion: v1\nkind: Pod\nmetadata: " +
             json{{"name", name}, {"namespace", name_space}, {"labels", labels}}.dump() + "\n";
    return name_space + "/" + name;
  }

  std::size_t count_ = 0;
  std::string pods_, packets_;
  std::set<std::string> namespaces_;
};

// What program and evaluator say of the flows in the world of these files, one verdict each.
// Nothing where the files cannot be compiled together.
std::optional<std::vector<json>> replayed(const std::vector<std::string>& files,
                                          const Flows& flows) {
  const testing::Scratch scratch;
  std::string world = quoted(scratch.path() + "/made.yaml");
  for (const std::string& f : files) world += " " + quoted(f);
  std::ofstream(scratch.path() + "/made.yaml") << flows.pods();
  std::ofstream(scratch.path() + "/packets.yaml") << flows.packets();
  const std::string out = scratch.path() + "/out";
  const Ran compiled = run(kPolicyc + " compile -q --no-verify -o " + out + " " + world);
  if (compiled.code != 0) return std::nullopt;
  const Ran replay = run(kPolicyc + " replay --format json --packets " + scratch.path() +
                         "/packets.yaml " + out + " " + world);
  const json said = json::parse(replay.out, nullptr, false);
  EXPECT_EQ(replay.code, 0) << replay.out;
  if (said.is_discarded()) return std::nullopt;
  EXPECT_EQ(said.at("summary").at("mismatches"), 0) << replay.out;
  EXPECT_EQ(said.at("summary").at("undecided"), 0) << replay.out;
  return said.at("packets").get<std::vector<json>>();
}

TEST(Witness, WhatLintShowsIsWhatTheProgramDoes) {
  POLICYC_NEEDS_BPF();
  const fs::path source = POLICYC_SOURCE_DIR;
  std::vector<fs::path> inputs = {source / "examples/traps",
                                  source.parent_path() / "shared/conformance/articles"};
  for (const auto& e : fs::directory_iterator(source / "testdata/golden")) {
    if (e.path().filename().string().starts_with("findings-")) inputs.push_back(e.path());
  }
  // Findings that say that a flow is denied.
  const std::set<std::string> denied = {"POL0347", "POL0348", "POL0349"};
  int printed = 0, confirmed = 0, denials = 0, no_packet = 0, no_world = 0;
  for (const fs::path& input : inputs) {
    if (!fs::exists(input)) continue;
    const Ran lint = run(kPolicyc + " lint --format json " + quoted(input.string()));
    const json found = json::parse(lint.out, nullptr, false);
    if (found.is_discarded()) continue;
    for (const json& d : found.at("diagnostics")) {
      if (!d.at("witness").is_object()) continue;
      ++printed;
      Flows flows;
      if (!flows.add(d.at("witness"))) {
        ++no_packet;
        continue;
      }
      std::set<std::string> files = {d.at("file")};
      for (const json& label : d.at("labels")) files.insert(label.at("file").get<std::string>());
      const auto said = replayed({files.begin(), files.end()}, flows);
      if (!said) {
        ++no_world;
        continue;
      }
      ASSERT_EQ(said->size(), 1U) << d.dump();
      if (denied.count(d.at("code")) != 0) {
        EXPECT_EQ(said->front().at("verdict"), "drop") << d.dump(1) << said->front().dump(1);
        ++denials;
      }
      ++confirmed;
    }
  }
  std::printf(
      "%d flows printed: %d confirmed (%d denials), %d no packets, %d in files that do not "
      "compile\n",
      printed, confirmed, denials, no_packet, no_world);
  EXPECT_GT(confirmed, 10);
  EXPECT_GT(denials, 2);
  EXPECT_LT(no_packet + no_world, confirmed);
}

TEST(Witness, WhatDiffShowsIsWhatTheProgramsOfBothSidesDo) {
  POLICYC_NEEDS_BPF();
  const fs::path source = POLICYC_SOURCE_DIR;
  int printed = 0, confirmed = 0, no_packet = 0, no_world = 0;
  for (const auto& e : fs::directory_iterator(source / "testdata/conformance/handmade")) {
    const fs::path policies = e.path() / "policies", cluster = e.path() / "cluster.yaml";
    if (!fs::exists(policies) || !fs::exists(cluster)) continue;
    std::vector<std::string> all;
    for (const auto& p : fs::directory_iterator(policies)) all.push_back(p.path().string());
    std::sort(all.begin(), all.end());
    // Without the first policy, and with it.
    std::vector<std::string> before = {cluster.string()}, after = before;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i != 0) before.push_back(all[i]);
      after.push_back(all[i]);
    }
    const testing::Scratch scratch;
    for (const auto& [name, files] : {std::pair("base", &before), std::pair("head", &after)}) {
      fs::create_directory(scratch.path() + "/" + name);
      for (const std::string& f : *files) {
        fs::copy(f, scratch.path() + "/" + name + "/" + fs::path(f).filename().string());
      }
    }
    const Ran diff = run(kPolicyc + " diff --format json " + scratch.path() + "/base " +
                         scratch.path() + "/head");
    const json found = json::parse(diff.out, nullptr, false);
    if (found.is_discarded()) {
      ++no_world;
      continue;
    }
    Flows flows;
    std::vector<json> changes;
    for (const json& c : found.at("changes")) {
      if (!c.contains("witness") || c.at("change") == "changed") continue;
      ++printed;
      if (flows.add(c.at("witness"))) {
        changes.push_back(c);
      } else {
        ++no_packet;
      }
    }
    if (changes.empty()) continue;
    const auto old_verdicts = replayed(before, flows), new_verdicts = replayed(after, flows);
    if (!old_verdicts || !new_verdicts) {
      no_world += static_cast<int>(changes.size());
      continue;
    }
    ASSERT_EQ(old_verdicts->size(), changes.size());
    ASSERT_EQ(new_verdicts->size(), changes.size());
    for (std::size_t i = 0; i < changes.size(); ++i) {
      const bool opened = changes[i].at("change") == "opened";
      EXPECT_EQ((*old_verdicts)[i].at("verdict") == "drop", opened) << changes[i].dump(1);
      EXPECT_EQ((*new_verdicts)[i].at("verdict") == "drop", !opened) << changes[i].dump(1);
      ++confirmed;
    }
  }
  std::printf("%d flows printed: %d confirmed, %d no packets, %d in worlds that do not compile\n",
              printed, confirmed, no_packet, no_world);
  EXPECT_GT(confirmed, 10);
  EXPECT_LT(no_packet + no_world, confirmed);
}

}  // namespace
}  // namespace policyc
