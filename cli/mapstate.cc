#include "cli/mapstate.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "ir/identity.h"
#include "ir/map_entries.h"

namespace policyc::cli {
namespace {

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string label_list(const ir::LabelSet& labels) {
  std::string out = "[";
  for (const ir::Label& l : labels.labels()) {
    if (out.size() > 1) out += ',';
    out += quoted(l.str());
  }
  return out + "]";
}

bool is_pod_identity(const ir::Identity& identity) {
  return identity.labels.has("k8s", ir::kNamespaceKey);
}

bool is_local_identity(const ir::Identity& identity) {
  return identity.number >= ir::kIdentityFirstLocal;
}

struct EntryPrinter {
  std::string& out;
  bool first = true;

  void operator()(const char* direction, std::uint32_t identity, const ir::PolicyTable& table,
                  const ir::PolicyTable::Entry& e) {
    const ir::VerdictRecord& r = table.records[e.record];
    auto to = std::back_inserter(out);
    fmt::format_to(to, "{}{{\"d\":\"{}\",\"id\":{},\"p\":{},\"port\":{},\"len\":{},\"v\":\"{}\"",
                   first ? "\n" : ",\n", direction, identity, e.protocol, e.block.port,
                   e.block.length, ir::verdict_name(r.verdict));
    first = false;
    if (!r.parser.empty()) fmt::format_to(to, ",\"l7\":{}", quoted(r.parser));
    if (r.priority != 0) fmt::format_to(to, ",\"prio\":{}", r.priority);
    if (r.auth) {
      fmt::format_to(to, ",\"auth\":\"{}\",\"auth_explicit\":{}", ir::auth_name(r.auth->type),
                     r.auth->is_explicit);
    }
    out += '}';
  }
};

// As the agent of a node installs them.
template <class Visit>
void for_each_entry(const ir::Resolved& resolved, const std::vector<ir::IdentityIndex>& identities,
                    const ir::PolicyTable& table, Visit visit) {
  for (const auto& e : table.wildcard_entries) visit(0U, e);
  if (table.class_entries.empty()) return;
  for (const ir::IdentityIndex i : identities) {
    for (const auto& e : table.class_entries[table.class_of[i]]) {
      visit(resolved.identities[i].number, e);
    }
  }
}

}  // namespace

std::string mapstate_json(const ir::World& world, const ir::Resolved& resolved) {
  std::string out = "{\"version\":1,\n\"identities\":{";
  auto to = std::back_inserter(out);
  bool first = true;
  for (const ir::Identity& i : resolved.identities) {
    if (!is_pod_identity(i)) continue;
    fmt::format_to(to, "{}\"{}\":{}", first ? "\n" : ",\n", i.number, label_list(i.labels));
    first = false;
  }
  out += "},\n\"views\":{";
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    const ir::NodeView& view = resolved.views[v];
    fmt::format_to(to, "{}{}:{{\"local_identities\":{{", v == 0 ? "\n" : ",\n", quoted(view.node));
    first = true;
    const std::vector<ir::IdentityIndex> identities = ir::agent_identities(resolved, view);
    for (const ir::IdentityIndex index : identities) {
      const ir::Identity& i = resolved.identities[index];
      if (!is_local_identity(i)) continue;
      fmt::format_to(to, "{}\"{}\":{}", first ? "\n" : ",\n", i.number, label_list(i.labels));
      first = false;
    }
    out += "},\n\"ipcache\":{";
    first = true;
    for (const auto& [prefix, identity] : view.ipcache) {
      const ir::Identity& i = resolved.identities[identity];
      if (is_pod_identity(i)) continue;
      fmt::format_to(to, "{}\"{}\":{}", first ? "\n" : ",\n", prefix.str(), i.number);
      first = false;
    }
    out += "},\n\"endpoints\":[";
    for (std::size_t e = 0; e < view.endpoints.size(); ++e) {
      const ir::ResolvedEndpoint& ep = view.endpoints[e];
      fmt::format_to(to, "{}{{\"identity\":{},\"pods\":[", e == 0 ? "\n" : ",\n",
                     resolved.identities[ep.identity].number);
      for (std::size_t p = 0; p < ep.pods.size(); ++p) {
        const ir::Pod& pod = world.inventory.pods[ep.pods[p]];
        fmt::format_to(to, "{}{}", p == 0 ? "" : ",", quoted(pod.ns + "/" + pod.name));
      }
      if (ep.host) out += quoted("host:" + view.node);
      fmt::format_to(to, "],\"ingress_enforced\":{},\"egress_enforced\":{},\"error\":{}",
                     ep.ingress->enforced, ep.egress->enforced, quoted(ep.error));
      if (!ep.depends_on.empty()) {
        out += ",\"depends_on\":" + nlohmann::json(ep.depends_on).dump();
      }
      out += ",\"entries\":[";
      EntryPrinter print{out};
      for_each_entry(resolved, identities, *ep.ingress, [&](std::uint32_t id, const auto& entry) {
        print("I", id, *ep.ingress, entry);
      });
      for_each_entry(resolved, identities, *ep.egress, [&](std::uint32_t id, const auto& entry) {
        print("E", id, *ep.egress, entry);
      });
      out += "]}";
    }
    out += "]}";
  }
  out += "}}\n";
  return out;
}

std::string mapstate_text(const ir::World& world, const ir::Resolved& resolved) {
  std::string out;
  auto to = std::back_inserter(out);
  for (const ir::NodeView& view : resolved.views) {
    fmt::format_to(to, "node {}\n", view.node);
    const std::vector<ir::IdentityIndex> identities = ir::agent_identities(resolved, view);
    for (const ir::ResolvedEndpoint& ep : view.endpoints) {
      fmt::format_to(to, "  endpoint identity {}", resolved.identities[ep.identity].number);
      for (const std::size_t p : ep.pods) {
        const ir::Pod& pod = world.inventory.pods[p];
        fmt::format_to(to, " {}/{}", pod.ns, pod.name);
      }
      if (ep.host) out += " (the host)";
      out += '\n';
      if (!ep.error.empty()) fmt::format_to(to, "    error: {}\n", ep.error);
      for (const std::string& what : ep.depends_on) fmt::format_to(to, "    depends on {}\n", what);
      const auto table = [&](const ir::PolicyTable& t, const char* direction) {
        fmt::format_to(to, "    {}{}\n", direction, t.enforced ? "" : " (not enforced)");
        for_each_entry(
            resolved, identities, t, [&](std::uint32_t id, const ir::PolicyTable::Entry& e) {
              const ir::VerdictRecord& r = t.records[e.record];
              std::string port =
                  e.protocol == ir::kProtoAny ? "any"
                  : e.block.length == 0
                      ? ir::protocol_name(e.protocol)
                      : fmt::format("{}/{}", ir::protocol_name(e.protocol), e.block.port);
              if (e.block.length > 0 && e.block.length < 16)
                port += fmt::format("-{}", e.block.last());
              fmt::format_to(to, "      {:>8} {:<16} {}{}{}\n",
                             id == 0 ? "any" : std::to_string(id), port,
                             ir::verdict_name(r.verdict), r.parser.empty() ? "" : " " + r.parser,
                             r.auth ? fmt::format(" auth {}", ir::auth_name(r.auth->type)) : "");
            });
      };
      table(*ep.ingress, "ingress");
      table(*ep.egress, "egress");
    }
  }
  return out;
}

std::string identities_json(const ir::Resolved& resolved) {
  std::string out = "{\"version\":1,\n\"identities\":{";
  bool first = true;
  for (const ir::Identity& i : resolved.identities) {
    fmt::format_to(std::back_inserter(out), "{}\"{}\":{}", first ? "\n" : ",\n", i.number,
                   label_list(i.labels));
    first = false;
  }
  return out + "}}\n";
}

}  // namespace policyc::cli
