#include "ir/profile.h"

#include <algorithm>

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
    p.parser_priorities = true;
    p.sni_stars = Profile::SniStars::Leading;
    rows.push_back(p);
    p.name = "cilium-1.20";
    p.minor = 20;
    p.kafka_rules = false;
    p.generic_l7 = false;
    p.section_required = true;
    p.narrow_except = true;
    p.positive_namespace = true;
    p.sni_stars = Profile::SniStars::Anywhere;
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

bool sni_matches(const Profile& profile, std::string_view pattern, std::string_view name) {
  const auto plain = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  const auto equal = [&](std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [&](char x, char y) { return plain(x) == plain(y); });
  };
  if (profile.sni_stars == Profile::SniStars::None) return pattern == name;
  if (pattern.substr(0, 3) == "**.") {
    // One or more whole labels, then the rest.
    for (std::size_t dot = name.find('.'); dot != std::string_view::npos;
         dot = name.find('.', dot + 1)) {
      if (dot > 0 && sni_matches(profile, pattern.substr(3), name.substr(dot + 1))) return true;
    }
    return false;
  }
  if (profile.sni_stars == Profile::SniStars::Leading) {
    if (pattern.substr(0, 2) != "*.") return equal(pattern, name);
    const std::size_t dot = name.find('.');
    return dot != std::string_view::npos && dot > 0 && equal(pattern.substr(1), name.substr(dot));
  }
  // A star is any run of characters within a label.
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return equal(pattern, name);
  if (name.size() < star || !equal(pattern.substr(0, star), name.substr(0, star))) return false;
  for (std::size_t end = star; end <= name.size(); ++end) {
    if (sni_matches(profile, pattern.substr(star + 1), name.substr(end))) return true;
    if (end < name.size() && name[end] == '.') return false;
  }
  return false;
}

}  // namespace policyc::ir
