// Images of Cilium's maps and the proxy's policies against the verdicts of Cilium's own engine.
//
//   cilium_conformance [-v] DIR…
//
// DIR holds worlds. For each flow the image bytes are looked up as the datapath does (a reader of
// its own, in all layouts), and requests on redirected flows are judged by the JSON that the proxy
// would get (likewise). Entry counts are compared with those of the engine's maps. One line a DIR;
// exit 1 where a verdict or a count disagrees, 77 where there was nothing to compare.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "backend-bpf/cilium_image.h"
#include "backend-bpf/proxy_policy.h"
#include "cli/flows.h"
#include "frontend/load.h"
#include "frontend/lower.h"
#include "ir/identity.h"
#include "ir/l7_match.h"
#include "ir/map_entries.h"
#include "ir/resolve.h"

namespace fs = std::filesystem;
using nlohmann::json;
using namespace policyc;

namespace {

bool verbose = false;

struct Count {
  int verdicts = 0, differ = 0;
  int requests = 0, requests_differ = 0;
  int maps = 0, counts_differ = 0, inexpressible = 0;
};

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

// The longest match in an LPM map, as the kernel finds it: bits of the key behind its length field.
const std::string* longest(const std::vector<bpf::MapEntry>& map, const std::string& data) {
  const std::string* best = nullptr;
  unsigned best_length = 0;
  for (const auto& [key, value] : map) {
    const unsigned length = static_cast<unsigned char>(key[0]);
    if (best != nullptr && length <= best_length) continue;
    bool match = true;
    for (unsigned bit = 0; match && bit < length; ++bit) {
      const auto at = [&](const std::string& s, std::size_t from) {
        return static_cast<unsigned char>(s[from + bit / 8]) >> (7 - bit % 8) & 1;
      };
      match = at(key, 4) == at(data, 0);
    }
    if (match) {
      best = &value;
      best_length = length;
    }
  }
  return best;
}

unsigned byte(const std::string& s, std::size_t at) {
  return static_cast<unsigned char>(s[at]);
}

std::uint32_t little(const std::string& s, std::size_t at) {
  return byte(s, at) | byte(s, at + 1) << 8U | byte(s, at + 2) << 16U | byte(s, at + 3) << 24U;
}

std::string little_bytes(std::uint32_t v) {
  std::string out;
  for (int i = 0; i < 4; ++i) out += static_cast<char>(v >> (8 * i));
  return out;
}

// "deny", "allow", "redirect", each with the authentication asked for.
std::string by_image(const bpf::CiliumLayout& layout, const bpf::CiliumImage& image,
                     std::uint32_t identity, bool egress, ir::Protocol protocol,
                     std::uint16_t port) {
  const auto key = [&](std::uint32_t who) {
    std::string k = little_bytes(who);
    k += static_cast<char>(egress ? 1 : 0);
    k += static_cast<char>(protocol);
    k += static_cast<char>(port >> 8U);
    k += static_cast<char>(port);
    return k;
  };
  const auto rank = [&](const std::string& v) {
    return layout.precedence ? little(v, 4) : (byte(v, 2) & 1U) != 0 ? 256 : byte(v, 4);
  };
  const std::string* peer = longest(image.entries, key(identity));
  const std::string* any = longest(image.entries, key(0));
  const std::string* chosen = peer;
  if (any != nullptr && (peer == nullptr || rank(*any) > rank(*peer) ||
                         (rank(*any) == rank(*peer) && byte(*any, 2) >> 3 > byte(*peer, 2) >> 3))) {
    chosen = any;
  }
  if (chosen == nullptr || (byte(*chosen, 2) & 1U) != 0) return "deny";
  const std::string* other = chosen == peer ? any : peer;
  unsigned auth = byte(*chosen, 3) & 0x7fU;
  if (other != nullptr && (byte(*chosen, 3) & 0x80U) == 0 &&
      (!layout.precedence || rank(*other) == rank(*chosen)) && (byte(*other, 2) & 1U) == 0) {
    auth = std::max(auth, byte(*other, 3) & 0x7fU);
  }
  const bool redirect = byte(*chosen, 0) != 0 || byte(*chosen, 1) != 0;
  return fmt::format("{}{}", redirect ? "redirect" : "allow",
                     auth == 0   ? ""
                     : auth == 1 ? " spire"
                                 : " test-always-fail");
}

// Whether one header matcher of the message matches; written from Envoy's description.
bool header_matches(const json& m, const ir::HttpRequest& request) {
  const std::string name = m["name"];
  std::optional<std::string> value;
  if (name == ":path") value = request.path;
  if (name == ":method") value = request.method;
  if (name == ":authority") value = request.host;
  for (const auto& [key, text] : request.headers) {
    std::string lower = key;
    std::transform(lower.begin(), lower.end(), lower.begin(), ::tolower);
    if (lower == name) value = text;
  }
  if (m.contains("presentMatch")) return value.has_value();
  if (!value) return false;
  if (m.contains("safeRegexMatch")) return ir::regex_matches(m["safeRegexMatch"]["regex"], *value);
  return *value == m["stringMatch"]["exact"].get<std::string>();
}

bool rule_matches(const json& rule, const ir::HttpRequest& request) {
  for (const json& m : rule.value("headers", json::array())) {
    if (!header_matches(m, request)) return false;
  }
  for (const json& m : rule.value("headerMatches", json::array())) {
    if (m.value("mismatchAction", "FAIL_ON_MISMATCH") != "FAIL_ON_MISMATCH") continue;
    return false;  // policyc writes no such matcher
  }
  return true;
}

// What the proxy answers to an HTTP request.
std::string by_proxy(const json& message, bool egress, std::uint32_t identity, std::uint16_t port,
                     const ir::HttpRequest& request) {
  for (const json& p :
       message.value(egress ? "egressPerPortPolicies" : "ingressPerPortPolicies", json::array())) {
    const unsigned first = p["port"];
    const unsigned last = first == 0 ? 65535 : p.value("endPort", first);
    if (p["protocol"] != "TCP" || port < first || port > last) continue;
    for (const json& rule : p["rules"]) {
      if (rule.contains("remotePolicies")) {
        const auto& ids = rule["remotePolicies"];
        if (std::find(ids.begin(), ids.end(), identity) == ids.end()) continue;
      }
      if (rule.value("deny", false)) return "deny";
      if (rule.contains("serverNames")) continue;  // a request in clear names no server
      if (rule.contains("kafkaRules") || rule.contains("l7Rules")) continue;
      if (!rule.contains("httpRules")) return "allow";
      for (const json& r : rule["httpRules"]["httpRules"]) {
        if (rule_matches(r, request)) return "allow";
      }
    }
    return "deny";
  }
  return "no rule";
}

struct Compiled {
  const ir::NodeView* view = nullptr;
  const ir::ResolvedEndpoint* endpoint = nullptr;
  std::vector<std::optional<bpf::CiliumImage>> images;  // by layout
  json proxy;
};

class World {
 public:
  World(const fs::path& dir, Count& count) : dir_(dir), count_(count) {
    DiagnosticSink sink;
    frontend::LoadOptions options;
    options.world = dir.string();
    frontend::Loaded loaded = frontend::load(options, {}, sink);
    world_.settings = loaded.settings.value_or(ir::Settings{});
    world_.inventory = loaded.inventory;
    world_.policies = frontend::lower(loaded, world_.settings);
    resolved_ = ir::resolve(world_);
  }

  void run() {
    compile();
    counts();
    const auto flows = cli::read_flows(slurp(dir_ / "flows.json"), world_);
    if (!flows) return;
    const json expected = json::parse(slurp(dir_ / "expected.json"));
    std::map<std::string, const json*> theirs;
    for (const json& f : expected["flows"]) theirs[f["id"].get<std::string>()] = &f;
    for (const ir::Flow& flow : *flows) {
      judge(flow, *theirs.at(flow.id), true);
      judge(flow, *theirs.at(flow.id), false);
    }
  }

 private:
  void compile() {
    numbers_.identities.clear();
    for (const ir::Identity& i : resolved_.identities) {
      numbers_.identities.push_back({i.number, false});
    }
    for (const ir::NodeView& view : resolved_.views) {
      const auto identities = ir::agent_identities(resolved_, view);
      for (const ir::ResolvedEndpoint& ep : view.endpoints) {
        if (!ep.error.empty()) continue;
        for (const auto d : {ir::Direction::Ingress, ir::Direction::Egress}) {
          for (const auto& n :
               bpf::proxy_names(d == ir::Direction::Ingress ? *ep.ingress : *ep.egress, d)) {
            numbers_.proxy_ports[n] = {15001, false};
          }
        }
        Compiled c{&view, &ep, {}, json::object()};
        for (const bpf::CiliumLayout& layout : bpf::cilium_layouts()) {
          const auto lending =
              layout.precedence ? ir::AuthLending::SameRank : ir::AuthLending::Always;
          const auto in = ir::fewest_entries(*ep.ingress, lending);
          const auto eg = ir::fewest_entries(*ep.egress, lending);
          c.images.emplace_back();
          if (!in || !eg) {
            ++count_.inexpressible;
            continue;
          }
          c.images.back() =
              bpf::policy_map_image(layout, 16384, ep, *in, *eg, identities, numbers_);
        }
        std::vector<std::uint32_t> of;
        for (const ir::Identity& i : resolved_.identities) of.push_back(i.number);
        const bpf::ProxyPolicy proxy = bpf::proxy_policy(ep, {}, 0, of, identities);
        if (!proxy.network_policy.empty()) c.proxy = json::parse(proxy.network_policy);
        compiled_.push_back(std::move(c));
      }
    }
  }

  void counts() {
    if (!fs::exists(dir_ / "mapstate.json")) return;
    const json expected = json::parse(slurp(dir_ / "mapstate.json"));
    for (const Compiled& c : compiled_) {
      if (c.endpoint->host || !expected["views"].contains(c.view->node)) continue;
      const ir::Pod& pod = world_.inventory.pods[c.endpoint->pods.front()];
      for (const json& ep : expected["views"][c.view->node]["endpoints"]) {
        const auto& pods = ep["pods"];
        if (std::find(pods.begin(), pods.end(), pod.ns + "/" + pod.name) == pods.end()) continue;
        if (!ep.value("error", std::string()).empty()) continue;
        ++count_.maps;
        const std::size_t ours =
            ir::agent_entries(*c.endpoint, ir::agent_identities(resolved_, *c.view));
        if (ours == ep["entries"].size()) continue;
        ++count_.counts_differ;
        if (verbose) {
          fmt::print("  {} {}/{}: {} entries, by the engine {}\n", dir_.string(), pod.ns, pod.name,
                     ours, ep["entries"].size());
        }
      }
    }
  }

  const Compiled* find(const ir::Party& party) const {
    for (const Compiled& c : compiled_) {
      if (const auto* pod = std::get_if<ir::PodParty>(&party)) {
        const auto& pods = c.endpoint->pods;
        if (std::find(pods.begin(), pods.end(), pod->pod) != pods.end()) return &c;
      } else if (const auto* node = std::get_if<ir::NodeParty>(&party)) {
        if (c.endpoint->host && c.view->node == world_.inventory.nodes[node->node].name) return &c;
      }
    }
    return nullptr;
  }

  std::optional<std::uint32_t> identity(const Compiled& at, const ir::Party& peer) const {
    std::optional<ir::IpAddress> ip;
    if (const auto* pod = std::get_if<ir::PodParty>(&peer)) {
      const ir::Pod& p = world_.inventory.pods[pod->pod];
      if (!p.ips.empty()) ip = p.ips.front();
    } else if (const auto* address = std::get_if<ir::AddressParty>(&peer)) {
      ip = address->ip;
    } else if (const auto* node = std::get_if<ir::NodeParty>(&peer)) {
      ip = world_.inventory.nodes[node->node].addresses.front();
    }
    if (!ip) return std::nullopt;
    return resolved_.identities[at.view->identity_of(*ip)].number;
  }

  void judge(const ir::Flow& flow, const json& want, bool egress) {
    const json& d = want[egress ? "egress" : "ingress"];
    if (d.is_null() || d["verdict"] == "error") return;
    const Compiled* at = find(egress ? flow.from : flow.to);
    if (at == nullptr) return;
    const auto peer = identity(*at, egress ? flow.to : flow.from);
    if (!peer) return;
    std::string verdict = d["verdict"];
    if (d.contains("auth") && d["auth"].value("type", "disabled") != "disabled") {
      verdict += " " + d["auth"]["type"].get<std::string>();
    }
    for (std::size_t l = 0; l < at->images.size(); ++l) {
      if (!at->images[l]) continue;
      const bpf::CiliumLayout& layout = bpf::cilium_layouts()[l];
      const std::string got =
          by_image(layout, *at->images[l], *peer, egress, flow.protocol, flow.port);
      ++count_.verdicts;
      if (got == verdict) continue;
      ++count_.differ;
      if (verbose) {
        fmt::print("  {} {} {} layout {}: {}, by the engine {}\n", dir_.string(), flow.id,
                   egress ? "egress" : "ingress", layout.name, got, verdict);
      }
    }
    const auto* http = std::get_if<ir::HttpRequest>(&flow.l7);
    if (http == nullptr || d["verdict"] != "redirect" || !d.contains("l7") ||
        d["l7"].value("ambiguous", false) || d.value("parser", "") != "http") {
      return;
    }
    const std::string want_l7 = d["l7"]["verdict"];
    if (want_l7 != "allow" && want_l7 != "deny") return;
    ++count_.requests;
    const std::string got = by_proxy(at->proxy, egress, *peer, flow.port, *http);
    if (got == want_l7) return;
    ++count_.requests_differ;
    if (verbose) {
      fmt::print("  {} {} {}: the proxy says {}, by the engine {}\n", dir_.string(), flow.id,
                 egress ? "egress" : "ingress", got, want_l7);
    }
  }

  fs::path dir_;
  Count& count_;
  ir::World world_;
  ir::Resolved resolved_;
  bpf::AgentNumbers numbers_;
  std::vector<Compiled> compiled_;
};

}  // namespace

int main(int argc, char** argv) {
  bool any = false, bad = false;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "-v") {
      verbose = true;
      continue;
    }
    std::vector<fs::path> worlds;
    std::error_code ec;
    for (const auto& entry : fs::directory_iterator(argv[i], ec)) {
      if (fs::exists(entry.path() / "flows.json") && !fs::exists(entry.path() / "unstable.json")) {
        worlds.push_back(entry.path());
      }
    }
    std::sort(worlds.begin(), worlds.end());
    Count count;
    for (const fs::path& dir : worlds) World(dir, count).run();
    any = any || count.verdicts > 0;
    fmt::print(
        "{}: {} lookups, {} differ; {} requests, {} differ; {} maps, {} of another size; {} "
        "not expressible\n",
        argv[i], count.verdicts, count.differ, count.requests, count.requests_differ, count.maps,
        count.counts_differ, count.inexpressible);
    // Up to 1.18 the datapath lends authentication where the engine does not, so that no entries
    // say what it says.
    bad = bad || count.differ > 0 || count.requests_differ > 0 ||
          count.inexpressible * 200 > count.maps || count.counts_differ != 0;
  }
  return !any ? 77 : bad ? 1 : 0;
}
