#include "backend-bpf/cilium_artefact.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "backend-bpf/cilium_image.h"
#include "backend-bpf/output_directory.h"
#include "backend-bpf/proxy_policy.h"
#include "ir/base/sha256.h"
#include "ir/map_entries.h"

namespace policyc::bpf {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSchema = 1;
constexpr const char* kTarget = "cilium";

const AgentDump& dump_of(const CiliumTarget& target, const std::string& node) {
  static const AgentDump kNone;
  auto it = target.dumps.find(node);
  if (it == target.dumps.end()) it = target.dumps.find("");
  return it == target.dumps.end() ? kNone : it->second;
}

bool wanted(const CompileOptions& options, std::size_t view, std::size_t endpoint) {
  return options.only.empty() || std::find(options.only.begin(), options.only.end(),
                                           std::pair(view, endpoint)) != options.only.end();
}

// A file name from an object's name.
std::string file_name(std::string text) {
  for (char& c : text) {
    if (c == '/') c = '.';
  }
  return text;
}

}  // namespace

ProxyFiles proxy_files(const ir::World& world, const ir::Resolved& resolved,
                       const CompileOptions& options, const std::vector<AgentNumbers>* numbers,
                       const CiliumTarget* target) {
  ProxyFiles out;
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    const ir::NodeView& view = resolved.views[v];
    std::vector<std::uint32_t> number_of;
    for (std::size_t i = 0; i < resolved.identities.size(); ++i) {
      number_of.push_back(numbers != nullptr ? (*numbers)[v].identities[i].value
                                             : resolved.identities[i].number);
    }
    const std::vector<ir::IdentityIndex> identities = ir::agent_identities(resolved, view);
    for (std::size_t e = 0; e < view.endpoints.size(); ++e) {
      const ir::ResolvedEndpoint& ep = view.endpoints[e];
      if (!wanted(options, v, e) || !ep.error.empty() || !ep.depends_on.empty()) continue;
      const auto write = [&](const std::string& name, const std::vector<ir::IpAddress>& addresses) {
        std::uint64_t number = 0;
        if (target != nullptr) {
          const AgentDump& dump = dump_of(*target, view.node);
          const auto it = dump.endpoints.find(name);
          if (it != dump.endpoints.end()) number = it->second;
        }
        ProxyPolicy policy = proxy_policy(ep, addresses, number, number_of, identities);
        const auto add = [&](const char* suffix, std::string text) {
          if (text.empty()) return;
          const std::string path = fmt::format("proxy/{}{}", file_name(name), suffix);
          out.files[path] = std::move(text);
          out.of_endpoint[{v, e}].push_back(path);
        };
        add(".json", std::move(policy.network_policy));
        add(".dns.json", std::move(policy.dns));
      };
      for (const std::size_t p : ep.pods) {
        const ir::Pod& pod = world.inventory.pods[p];
        write(pod.full_name(), pod.ips);
      }
      if (ep.host) {
        for (const ir::Node& node : world.inventory.nodes) {
          if (node.name == view.node) write("node/" + node.name, node.addresses);
        }
      }
    }
  }
  return out;
}

CompileReport compile_cilium(const ir::World& world, const ir::Resolved& resolved,
                             const CompileOptions& options, const CiliumTarget& target) {
  CompileReport report;
  OutputDirectory directory(options.directory, kTarget, kSchema);
  const auto fail = [&](std::string message) {
    report.status = CompileReport::Status::CannotWrite;
    report.message = std::move(message);
    report.written = directory.written;
    return report;
  };
  const CiliumLayout& layout = *target.layout;
  const auto lending = layout.precedence ? ir::AuthLending::SameRank : ir::AuthLending::Always;

  std::vector<AgentNumbers> numbers;
  for (const ir::NodeView& view : resolved.views) {
    auto n =
        agent_numbers(resolved, view, world.inventory.known_identities, dump_of(target, view.node));
    if (!n) return fail(fmt::format("dump of {}: {}", view.node, n.error()));
    numbers.push_back(std::move(*n));
  }
  const ProxyFiles proxy = proxy_files(world, resolved, options, &numbers, &target);

  std::map<std::string, OutputFile> images;
  const auto add_image = [&](const char* kind, const CiliumImage& image) {
    std::string bytes = write_image(image);
    std::string sha256 = sha256_hex(bytes);
    std::string path = fmt::format("maps/{}-{}.img", kind, short_hash(sha256));
    images.emplace(path, OutputFile{std::move(bytes), std::move(sha256)});
    return path;
  };
  struct Fewest {
    ir::MapEntries entries;
    std::string why_not;
  };
  std::map<const ir::PolicyTable*, Fewest> tables;
  const auto fewest = [&](const ir::PolicyTable& table) -> const Fewest& {
    auto [it, fresh] = tables.try_emplace(&table);
    if (fresh) {
      auto found = ir::fewest_entries(table, lending);
      if (found) {
        it->second.entries = std::move(*found);
      } else {
        it->second.why_not = found.error();
      }
    }
    return it->second;
  };

  Json views = Json::array();
  Json endpoints = Json::array();
  std::set<std::string> kept;
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    const ir::NodeView& view = resolved.views[v];
    const CiliumImage ipcache = ipcache_image(layout, view, numbers[v]);
    views.push_back({{"node", view.node},
                     {"ipcache", add_image("ipcache", ipcache)},
                     {"entries", ipcache.entries.size()},
                     {"placeholders", ipcache.placeholders}});
    const std::vector<ir::IdentityIndex> identities = ir::agent_identities(resolved, view);
    const AgentDump& dump = dump_of(target, view.node);
    for (std::size_t e = 0; e < view.endpoints.size(); ++e) {
      const ir::ResolvedEndpoint& ep = view.endpoints[e];
      const std::vector<std::string> names = endpoint_names(world, view, ep);
      if (!wanted(options, v, e)) {
        if (const Json* old = directory.endpoint(view.node, names); old != nullptr) {
          endpoints.push_back(*old);
          kept.insert(old->value("policy_map", ""));
          for (const Json& path : old->value("proxy", Json::array())) kept.insert(path);
        }
        continue;
      }
      const std::string& name = names.empty() ? view.node : names.front();
      const auto refuse = [&](Refusal refusal, std::string why) {
        report.refused.push_back({name, refusal, std::move(why)});
      };
      if (!ep.error.empty()) {
        refuse(Refusal::Error, ep.error);
        continue;
      }
      if (!ep.depends_on.empty()) {
        refuse(Refusal::Depends, ep.depends_on.front());
        continue;
      }
      const std::size_t installed = ir::agent_entries(ep, identities);
      const std::size_t limit = world.settings.policy_map_max;
      if (installed > limit) {
        refuse(Refusal::MapFull,
               fmt::format("the agent would install {} entries, its policy map holds {}", installed,
                           limit));
        continue;
      }
      const Fewest& ingress = fewest(*ep.ingress);
      const Fewest& egress = fewest(*ep.egress);
      if (!ingress.why_not.empty() || !egress.why_not.empty()) {
        refuse(Refusal::NoLayout, !ingress.why_not.empty() ? "ingress: " + ingress.why_not
                                                           : "egress: " + egress.why_not);
        continue;
      }
      CiliumImage image = policy_map_image(layout, world.settings.policy_map_max, ep,
                                           ingress.entries, egress.entries, identities, numbers[v]);
      // One map for each pod: equal contents, so one image; a pin only where it is one pod's.
      Json pins = Json::object();
      for (const std::string& n : names) {
        const auto it = dump.endpoints.find(n);
        if (it != dump.endpoints.end()) {
          pins[n] = fmt::format("{}{:05}", kCiliumPolicyPin, it->second);
        }
      }
      if (names.size() == 1 && pins.size() == 1) image.pin = pins.begin()->get<std::string>();
      const ir::Identity& identity = resolved.identities[ep.identity];
      Json labels = Json::array();
      for (const ir::Label& l : identity.labels.labels()) labels.push_back(l.str());
      const auto of_proxy = proxy.of_endpoint.find({v, e});
      endpoints.push_back(
          {{"view", view.node},
           {"identity", numbers[v].identities[ep.identity].value},
           {"labels", labels},
           {"host", ep.host},
           {"pods", names},
           {"policy_map", add_image("policy", image)},
           {"pins", pins},
           {"entries", image.entries.size()},
           {"agent_entries", installed},
           {"placeholders", image.placeholders},
           {"proxy",
            of_proxy == proxy.of_endpoint.end() ? Json::array() : Json(of_proxy->second)}});
      ++report.endpoints;
    }
  }
  report.images = images.size();

  bool ok = true;
  if (options.emit_maps) {
    for (const auto& [path, file] : images) ok = ok && directory.put(path, file);
  }
  for (const auto& [path, text] : proxy.files) ok = ok && directory.put(path, text);
  for (const auto& [path, text] : options.more) ok = ok && directory.put(path, text);
  if (!ok) return fail(directory.error);
  for (const std::string& path : kept) directory.keep(path);

  Json inputs = Json::array();
  for (const InputFile& f : options.inputs) {
    inputs.push_back({{"path", f.path}, {"sha256", f.sha256}});
  }
  Json refused = Json::array();
  for (const RefusedEndpoint& r : report.refused) {
    refused.push_back({{"endpoint", r.name}, {"why", r.why}});
  }
  const Json manifest = {{"schema", kSchema},
                         {"tool", options.tool},
                         {"target", kTarget},
                         {"profile", world.settings.profile},
                         {"layout",
                          {{"name", layout.name},
                           {"policy_key", kCiliumPolicyKey},
                           {"policy_value", layout.policy_value},
                           {"precedence", layout.precedence},
                           {"ipcache_key", kCiliumIpcacheKey},
                           {"ipcache_value", layout.ipcache_value},
                           {"ipcache_pin", layout.ipcache_pin},
                           {"policy_pin", fmt::format("{}%05d", kCiliumPolicyPin)}}},
                         {"limits", {{"policy_map_entries", world.settings.policy_map_max}}},
                         {"inputs", inputs},
                         {"views", views},
                         {"endpoints", endpoints},
                         {"refused", refused},
                         {"files", directory.files_json()}};
  if (!directory.finish(manifest)) return fail(directory.error);
  report.written = directory.written;
  return report;
}

}  // namespace policyc::bpf
