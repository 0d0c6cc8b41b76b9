// Compares our verdicts with those that Cilium's own engine gave for the same worlds.
//
//   conformance [-v] [--expect-all] DIR…
//
// DIR holds worlds (folders with cluster.yaml, policies/, flows.json, expected.json). Prints one
// line a DIR: flows that agree in every field, flows that do not, and how many maps mean the same.
// Exit 1 where anything disagrees, 77 where there was nothing to compare.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "cli/flows.h"
#include "frontend/load.h"
#include "frontend/lower.h"
#include "ir/evaluate.h"
#include "ir/resolve.h"

namespace fs = std::filesystem;
using nlohmann::json;
using namespace policyc;

namespace {

bool verbose = false;

struct Count {
  int agree = 0;
  int differ = 0;
  int skipped = 0;
  int policies = 0;
  int policies_differ = 0;
  int maps = 0;
  int maps_differ = 0;
};

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

// The fields that must agree, as one line of text; `ours` and `theirs` have the same JSON shape.
std::string direction_text(const json& d, bool with_l7) {
  if (d.is_null()) return "none";
  std::string out =
      fmt::format("{} {} {}", d.value("verdict", ""), d.value("reason", ""), d.value("parser", ""));
  if (d.contains("auth")) {
    out +=
        fmt::format(" auth={}/{}", d["auth"].value("type", ""), d["auth"].value("explicit", false));
  }
  if (with_l7 && d.contains("l7")) out += " l7=" + d["l7"].value("verdict", "");
  return out;
}

bool ambiguous(const json& flow) {
  for (const char* d : {"egress", "ingress"}) {
    if (flow[d].is_object() && flow[d].contains("l7") && flow[d]["l7"].value("ambiguous", false)) {
      return true;
    }
  }
  return false;
}

struct MapVerdict {
  std::string verdict;
  int priority = 0;
  std::string auth;
  friend auto operator<=>(const MapVerdict&, const MapVerdict&) = default;
  std::string str() const { return fmt::format("{}/{}/{}", verdict, priority, auth); }
};

// Cilium's two-lookup algorithm over the expected entries.
MapVerdict lookup(const std::vector<const json*>& mine, const std::vector<const json*>& any,
                  int protocol, int port) {
  const auto lpm = [&](const std::vector<const json*>& entries) {
    const json* best = nullptr;
    int best_length = -1;
    for (const json* e : entries) {
      const int p = (*e)["p"].get<int>();
      const int len = (*e)["len"].get<int>();
      const int base = (*e)["port"].get<int>();
      if (p != 0 && p != protocol) continue;
      if (p != 0 && len > 0 && (port >> (16 - len)) != (base >> (16 - len))) continue;
      const int length = p == 0 ? 0 : 8 + len;
      if (length > best_length) {
        best = e;
        best_length = length;
      }
    }
    return std::pair(best, best_length);
  };
  const auto [l3, l3_length] = lpm(mine);
  const auto [l4, l4_length] = lpm(any);
  const auto deny = [](const json* e) { return e != nullptr && (*e)["v"] == "deny"; };
  const auto priority = [](const json* e) { return e->value("prio", 0); };
  const auto auth_type = [](const json* e) -> int {
    if (e == nullptr || !e->contains("auth")) return 0;
    const std::string a = (*e)["auth"].is_string() ? (*e)["auth"].get<std::string>() : "";
    return a == "spire" || a == "required" ? 1 : a == "test-always-fail" ? 2 : 0;
  };
  if (deny(l3) || deny(l4)) return {"deny", 0, ""};
  const json* chosen = nullptr;
  const json* other = nullptr;
  if (l4 != nullptr && (l3 == nullptr || priority(l4) > priority(l3) ||
                        (priority(l4) == priority(l3) && l4_length > l3_length))) {
    chosen = l4;
    other = l3;
  } else if (l3 != nullptr) {
    chosen = l3;
    other = l4;
  }
  if (chosen == nullptr) return {"deny", 0, ""};
  int auth = auth_type(chosen);
  if (other != nullptr && !chosen->value("auth_explicit", false) &&
      priority(other) == priority(chosen)) {
    auth = std::max(auth, auth_type(other));
  }
  return {(*chosen)["v"].get<std::string>(), priority(chosen),
          auth == 0   ? ""
          : auth == 1 ? "spire"
                      : "test-always-fail"};
}

// Interval by interval: every identity, direction, protocol class and port.
std::string compare_table(const ir::Resolved& resolved, const ir::PolicyTable& table,
                          const json& entries, const char* direction,
                          const std::map<std::string, int>& number_of) {
  std::vector<const json*> any;
  std::map<int, std::vector<const json*>> by_identity;
  std::set<std::uint32_t> begins(table.column_begin.begin(), table.column_begin.end());
  for (const json& e : entries) {
    if (e["d"] != direction) continue;
    const int id = e["id"].get<int>();
    (id == 0 ? any : by_identity[id]).push_back(&e);
    const int p = e["p"].get<int>();
    if (p == 0) continue;
    const auto base = static_cast<std::uint32_t>(ir::protocol_class(static_cast<ir::Protocol>(p)))
                      << 16U;
    const auto port = e["port"].get<std::uint32_t>();
    const auto len = e["len"].get<std::uint32_t>();
    begins.insert(base + port);
    const std::uint32_t end = base + port + (1U << (16U - len));
    if (end < ir::kL4KeyEnd) begins.insert(end);
  }
  for (ir::IdentityIndex i = 0; i < resolved.identities.size(); ++i) {
    const auto number = number_of.find(resolved.identities[i].labels.str());
    if (number == number_of.end()) continue;  // an identity that the engine did not have here
    for (const std::uint32_t key : begins) {
      const auto c = static_cast<ir::ProtocolClass>(key >> 16U);
      const int protocol = c == ir::kOther ? 255 : ir::class_protocol(c);
      const int port = static_cast<int>(key & 0xFFFFU);
      const MapVerdict theirs = lookup(by_identity[number->second], any, protocol, port);
      const ir::VerdictRecord& r =
          table.lookup(i, static_cast<ir::Protocol>(protocol), static_cast<std::uint16_t>(port));
      std::string auth;
      if (r.auth && r.auth->type != ir::AuthType::Disabled) auth = ir::auth_name(r.auth->type);
      const MapVerdict ours{std::string(ir::verdict_name(r.verdict)),
                            r.verdict == ir::VerdictKind::Deny ? 0 : r.priority,
                            r.verdict == ir::VerdictKind::Deny ? "" : auth};
      if (ours != theirs) {
        return fmt::format("{} identity {} [{}] proto {} port {}: ours {} theirs {}", direction,
                           number->second, resolved.identities[i].labels.str(), protocol, port,
                           ours.str(), theirs.str());
      }
      // Our own entries, by the same two lookups, must say the same.
      const auto own = [&](const std::vector<ir::PolicyTable::Entry>& list) {
        std::vector<json> out;
        for (const auto& e : list) {
          const ir::VerdictRecord& v = table.records[e.record];
          json j = {{"p", int{e.protocol}},
                    {"port", int{e.block.port}},
                    {"len", int{e.block.length}},
                    {"v", ir::verdict_name(v.verdict)},
                    {"prio", int{v.priority}}};
          if (v.auth) {
            j["auth"] = ir::auth_name(v.auth->type);
            j["auth_explicit"] = v.auth->is_explicit;
          }
          out.push_back(std::move(j));
        }
        return out;
      };
      const std::vector<json> mine = own(table.class_entries[table.class_of[i]]);
      const std::vector<json> wild = own(table.wildcard_entries);
      const auto pointers = [](const std::vector<json>& list) {
        std::vector<const json*> out;
        for (const json& j : list) out.push_back(&j);
        return out;
      };
      const MapVerdict entry = lookup(pointers(mine), pointers(wild), protocol, port);
      if (entry != ours) {
        return fmt::format("{} identity {} [{}] proto {} port {}: table {} entries {}", direction,
                           number->second, resolved.identities[i].labels.str(), protocol, port,
                           ours.str(), entry.str());
      }
    }
  }
  return "";
}

std::string label_text(const json& labels) {
  std::vector<std::string> list = labels.get<std::vector<std::string>>();
  std::vector<ir::Label> out;
  for (const std::string& l : list) {
    const std::size_t colon = l.find(':');
    std::string source = l.substr(0, colon);
    std::string rest = l.substr(colon + 1);
    std::string value;
    if (source != "cidr" && source != "fqdn") {
      if (const std::size_t eq = rest.find('='); eq != std::string::npos) {
        value = rest.substr(eq + 1);
        rest.resize(eq);
      }
    }
    if (source == "cidr") std::replace(rest.begin(), rest.end(), '-', ':');
    if (source == "cidr") {
      if (const auto p = ir::parse_prefix(rest, true)) rest = p->str();
    }
    out.push_back({source, rest, value});
  }
  return ir::LabelSet(std::move(out)).str();
}

void compare_maps(const fs::path& world_dir, const ir::World& world, Count& count) {
  const fs::path file = world_dir / "mapstate.json";
  if (!fs::exists(file)) return;
  const json expected = json::parse(slurp(file));
  const ir::Resolved resolved = ir::resolve(world);
  for (const auto& [node, view] : expected["views"].items()) {
    std::map<std::string, int> number_of = {{"reserved:world", 2},
                                            {"reserved:unmanaged", 3},
                                            {"reserved:health", 4},
                                            {"reserved:init", 5},
                                            {"reserved:remote-node", 6},
                                            {"reserved:ingress", 8},
                                            {"reserved:world-ipv4", 9},
                                            {"reserved:world-ipv6", 10},
                                            {"reserved:kube-apiserver,reserved:remote-node", 7}};
    for (const auto& [id, labels] : expected["identities"].items()) {
      number_of[label_text(labels)] = std::stoi(id);
    }
    for (const auto& [id, labels] : view["local_identities"].items()) {
      number_of[label_text(labels)] = std::stoi(id);
    }
    const auto mine = std::find_if(resolved.views.begin(), resolved.views.end(),
                                   [&, n = node](const ir::NodeView& v) { return v.node == n; });
    for (const json& ep : view["endpoints"]) {
      ++count.maps;
      std::string problem;
      const std::string pod = ep["pods"].empty() ? "" : ep["pods"][0].get<std::string>();
      const ir::ResolvedEndpoint* ours = nullptr;
      if (mine != resolved.views.end()) {
        number_of[resolved.identities[mine->host].labels.str()] = 1;
        for (const ir::ResolvedEndpoint& e : mine->endpoints) {
          if (e.host && ep["identity"] == 1) ours = &e;
          for (const std::size_t p : e.pods) {
            if (world.inventory.pods[p].ns + "/" + world.inventory.pods[p].name == pod) ours = &e;
          }
        }
      }
      if (ours == nullptr) {
        problem = "no such endpoint";
      } else if (!ep.value("error", std::string()).empty() || !ours->error.empty()) {
        if (ep.value("error", std::string()).empty() != ours->error.empty()) {
          problem = "error: ours '" + ours->error + "'";
        }
      } else {
        problem = compare_table(resolved, *ours->ingress, ep["entries"], "I", number_of);
        if (problem.empty()) {
          problem = compare_table(resolved, *ours->egress, ep["entries"], "E", number_of);
        }
      }
      if (!problem.empty()) {
        ++count.maps_differ;
        if (verbose) fmt::print("  map {} {} {}: {}\n", world_dir.string(), node, pod, problem);
      }
    }
  }
}

void run_world(const fs::path& dir, Count& count) {
  const json expected = json::parse(slurp(dir / "expected.json"));
  DiagnosticSink sink;
  frontend::LoadOptions options;
  options.world = dir.string();
  frontend::Loaded loaded = frontend::load(options, {}, sink);
  ir::World world;
  world.settings = loaded.settings.value_or(ir::Settings{});
  world.inventory = loaded.inventory;
  world.policies = frontend::lower(loaded, world.settings);
  for (const json& p : expected["policies"]) {
    ++count.policies;
    const auto it = std::find_if(
        world.policies.policies.begin(), world.policies.policies.end(), [&](const ir::Policy& q) {
          return fs::path(q.file).filename() == p["file"].get<std::string>() &&
                 q.ref.name == p.value("name", "") && q.document == p.value("doc", 0U);
        });
    const bool ok = it != world.policies.policies.end() && it->accepted;
    if (ok != p["ok"].get<bool>()) {
      ++count.policies_differ;
      if (verbose) {
        fmt::print("  policy {} {}: ours {} theirs {} ({}{})\n", dir.string(),
                   p["file"].get<std::string>(), ok, p["ok"].get<bool>(), p.value("error", ""),
                   it == world.policies.policies.end() ? "not read" : it->error);
      }
    }
  }
  auto flows = cli::read_flows(slurp(dir / "flows.json"), world);
  if (!flows) {
    fmt::print("  {}: {}\n", dir.string(), flows.error());
    count.differ += static_cast<int>(expected["flows"].size());
    return;
  }
  std::map<std::string, const json*> theirs;
  for (const json& f : expected["flows"]) theirs[f["id"].get<std::string>()] = &f;
  for (const ir::Flow& flow : *flows) {
    const json& want = *theirs.at(flow.id);
    const json got = json::parse(cli::answer_json(world, ir::evaluate(world, flow)).dump());
    const bool skip_l7 = ambiguous(want);
    std::string a;
    std::string b;
    for (const char* d : {"egress", "ingress"}) {
      a += direction_text(got[d], !skip_l7) + " | ";
      b += direction_text(want[d], !skip_l7) + " | ";
    }
    if (!skip_l7) {
      a += got["final"].value("verdict", "") + " " + got["final"].value("reason", "");
      b += want["final"].value("verdict", "") + " " + want["final"].value("reason", "");
    }
    if (skip_l7) ++count.skipped;
    if (a == b) {
      ++count.agree;
    } else {
      ++count.differ;
      if (verbose)
        fmt::print("  {}/{}\n    ours   {}\n    theirs {}\n", dir.string(), flow.id, a, b);
    }
  }
  compare_maps(dir, world, count);
}

}  // namespace

int main(int argc, char** argv) {
  bool failed = false;
  int worlds = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "-v") {
      verbose = true;
      continue;
    }
    std::vector<fs::path> dirs;
    if (fs::exists(fs::path(arg) / "expected.json") && fs::exists(fs::path(arg) / "flows.json")) {
      dirs.push_back(arg);
    } else if (fs::is_directory(arg)) {
      for (const auto& e : fs::directory_iterator(arg)) {
        // Where the engine's own result depends on the order of its maps, there is no verdict to
        // meet.
        if (fs::exists(e.path() / "unstable.json")) continue;
        if (fs::exists(e.path() / "flows.json")) dirs.push_back(e.path());
      }
    } else {
      fmt::print("{}: skipped, not present\n", arg);
      continue;
    }
    std::sort(dirs.begin(), dirs.end());
    Count count;
    for (const fs::path& d : dirs) run_world(d, count);
    worlds += static_cast<int>(dirs.size());
    fmt::print(
        "{}: {} worlds; flows {} agree, {} differ ({} with the L7 part left out as ambiguous); "
        "policies {} of {} agree; maps {} of {} mean the same\n",
        arg, dirs.size(), count.agree, count.differ, count.skipped,
        count.policies - count.policies_differ, count.policies, count.maps - count.maps_differ,
        count.maps);
    failed = failed || count.differ > 0 || count.policies_differ > 0 || count.maps_differ > 0;
  }
  if (worlds == 0) {
    fmt::print("skipped: no worlds given or present\n");
    return 77;
  }
  return failed ? 1 : 0;
}
