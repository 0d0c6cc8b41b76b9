#include "cli/settings.h"

#include <fmt/format.h>

#include <charconv>

#include "ir/identity.h"
#include "ir/profile.h"

namespace policyc::cli {
namespace {

using ir::Settings;

// One of the words apart by `|`.
bool is_one_of(std::string_view value, std::string_view words) {
  while (!words.empty()) {
    const std::size_t bar = words.find('|');
    if (words.substr(0, bar) == value) return true;
    words.remove_prefix(bar == std::string_view::npos ? words.size() : bar + 1);
  }
  return false;
}

bool* switch_of(std::string_view name, Settings& s) {
  if (name == "host-firewall") return &s.host_firewall;
  if (name == "l7-proxy") return &s.l7_proxy;
  if (name == "icmp-rules") return &s.icmp_rules;
  if (name == "node-selector-labels") return &s.node_selector_labels;
  if (name == "sctp") return &s.sctp;
  if (name == "non-default-deny") return &s.non_default_deny;
  if (name == "default-local-cluster") return &s.default_local_cluster;
  if (name == "assume-admitted") return &s.assume_admitted;
  return nullptr;
}

}  // namespace

const std::vector<SettingRow>& setting_rows() {
  constexpr std::string_view kSwitch = "true|false";
  static const std::vector<SettingRow> rows = {
      {"profile", "cilium-1.16|…|cilium-1.20", "Cilium release whose rules apply (cilium-1.18)"},
      {"semantics", "cilium|kubernetes", "whose reading of NetworkPolicy applies (cilium)"},
      {"cluster-name", "NAME", "name of the cluster (default)"},
      {"enforcement", "default|always|never", "policy enforcement mode (default)"},
      {"ip-family", "4|6|dual", "address families of the cluster (dual)"},
      {"host-firewall", kSwitch, "policies apply to nodes too", true},
      {"allow-localhost", "always|policy", "whether a node always reaches its pods (always)"},
      {"cidr-match-mode", "pods|nodes", "whether CIDR rules match nodes (pods: they do not)"},
      {"l7-proxy", kSwitch, "L7 rules are enabled (true)", true},
      {"icmp-rules", kSwitch, "ICMP rules are enabled (true)", true},
      {"node-selector-labels", kSwitch, "fromNodes and toNodes are enabled (false)", true},
      {"sctp", kSwitch, "SCTP is enabled (false)", true},
      {"non-default-deny", kSwitch, "enableDefaultDeny is honoured (true)", true},
      {"default-local-cluster", kSwitch, "selectors mean the local cluster only (by profile)",
       true},
      {"policy-map-max", "N", "size of the policy map (16384)"},
      {"labels", "PATTERNS", "label filter as in cilium-config, \"k8s:app !k8s:job\" (default)"},
      {"assume-admitted", kSwitch, "evaluate objects that the API server's own rules refuse", true},
  };
  return rows;
}

std::optional<Error> apply_setting(std::string_view name, std::string_view value, Settings& s) {
  const SettingRow* row = nullptr;
  for (const SettingRow& r : setting_rows()) {
    if (r.name == name) row = &r;
  }
  if (row == nullptr) return Error{fmt::format("unknown setting `{}`", name)};
  const Error wrong{fmt::format("`{}` must be {}, not `{}`", name, row->values, value)};

  if (bool* target = switch_of(name, s); target != nullptr) {
    if (!is_one_of(value, row->values)) return wrong;
    *target = value == "true";
  } else if (name == "profile") {
    const ir::Profile* profile = ir::find_profile(value);
    if (profile == nullptr) {
      std::string known;
      for (const ir::Profile& p : ir::all_profiles()) {
        known += (known.empty() ? "" : ", ") + std::string(p.name);
      }
      return Error{fmt::format("unknown profile `{}`; known are {}", value, known)};
    }
    s.profile = profile->name;
    s.default_local_cluster = profile->local_cluster_default;
  } else if (name == "cluster-name") {
    if (value.empty()) return wrong;
    s.cluster_name = value;
  } else if (name == "labels") {
    auto filter = ir::parse_label_filter(value);
    if (!filter) return Error{filter.error()};
    s.label_filter = std::move(*filter);
  } else if (name == "policy-map-max") {
    std::uint32_t number = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number == 0) {
      return Error{fmt::format("`{}` must be a positive number, not `{}`", name, value)};
    }
    s.policy_map_max = number;
  } else if (!is_one_of(value, row->values)) {
    return wrong;
  } else if (name == "semantics") {
    s.kubernetes_semantics = value == "kubernetes";
  } else if (name == "enforcement") {
    s.enforcement = value == "always"  ? Settings::Enforcement::Always
                    : value == "never" ? Settings::Enforcement::Never
                                       : Settings::Enforcement::Default;
  } else if (name == "ip-family") {
    s.ipv4 = value != "6";
    s.ipv6 = value != "4";
  } else if (name == "allow-localhost") {
    s.allow_localhost_policy = value == "policy";
  } else if (name == "cidr-match-mode") {
    s.cidr_match_nodes = value == "nodes";
  }
  return std::nullopt;
}

}  // namespace policyc::cli
