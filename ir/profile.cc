#include "ir/profile.h"

namespace policyc::ir {

const std::vector<Profile>& all_profiles() {
  static const std::vector<Profile> table = [] {
    std::vector<Profile> rows;
    Profile p;
    p.name = "cilium-1.16";
    p.minor = 16;
    p.services_with_ports = false;
    p.cidr_group_selector = false;
    p.host_egress_dns = false;
    rows.push_back(p);
    p.name = "cilium-1.17";
    p.minor = 17;
    p.services_with_ports = true;
    p.cidr_group_selector = true;
    p.host_egress_dns = true;
    rows.push_back(p);
    p.name = "cilium-1.18";
    p.minor = 18;
    rows.push_back(p);
    p.name = "cilium-1.19";
    p.minor = 19;
    p.requires_fields = false;
    p.multi_label_stars = true;
    p.local_cluster_default = true;
    p.specs_node_selector = false;
    rows.push_back(p);
    p.name = "cilium-1.20";
    p.minor = 20;
    p.kafka_rules = false;
    p.generic_l7 = false;
    p.section_required = true;
    p.narrow_except = true;
    p.positive_namespace = true;
    rows.push_back(p);
    return rows;
  }();
  return table;
}

const Profile* find_profile(std::string_view name) {
  for (const Profile& p : all_profiles()) {
    if (p.name == name || p.name.substr(p.name.find('-') + 1) == name) return &p;
  }
  return nullptr;
}

std::string dns_pattern(const Profile& profile, std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '*' && !out.empty() && out.back() == '*') continue;
    out += c;
  }
  if (!profile.multi_label_stars) return out;
  // Only stars, perhaps with the final dot: any name.
  if (text.find_first_not_of('*') == std::string_view::npos && !text.empty()) return "*";
  if (text.size() > 1 && text.back() == '.' && text.find_first_not_of('*') == text.size() - 1) {
    return "*";
  }
  if (text.substr(0, 2) == "**" && out.size() > 1 && out[1] == '.') out.insert(0, "*");
  return out;
}

}  // namespace policyc::ir
