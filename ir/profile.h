// Cilium releases as data: one row for each, one column for each difference that changes what a
// policy means or whether it is accepted. Reader, lowering and
// validation consult this table and nothing else. docs/profiles.md shows it with its sources.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace policyc::ir {

struct Profile {
  std::string_view name;  // "cilium-1.18"
  int minor = 18;
  bool services_with_ports = true;     // toServices beside toPorts (refused up to 1.16)
  bool cidr_group_selector = true;     // since 1.17
  bool host_egress_dns = true;         // DNS rules in host egress, since 1.17
  bool requires_fields = true;         // fromRequires/toRequires, pruned since 1.19
  bool kafka_rules = true;             // gone in 1.20
  bool generic_l7 = true;              // l7proto, gone in 1.20
  bool multi_label_stars = false;      // `**.` spans labels, since 1.19
  bool local_cluster_default = false;  // policy-default-local-cluster on, since 1.19
  bool parser_priorities = false;      // redirects without a listener rank by parser, since 1.19
  // Stars in serverNames: none up to early 1.18, `*.` and `**.` in front since 1.18 final (counted
  // from 1.19 on), `*` within every label since 1.20.
  enum class SniStars { None, Leading, Anywhere } sni_stars = SniStars::None;
  bool specs_node_selector =
      true;  // CNP specs[].nodeSelector accepted (refused since 1.18.2: 1.19 on)
  bool section_required = false;  // a rule needs ingress, egress or a deny section, since 1.20
  bool narrow_except = false;     // except must lie inside cidr, since 1.20
  bool positive_namespace =
      false;  // NotIn/DoesNotExist on the namespace no longer select world, 1.20
};

// Ascending by release.
const std::vector<Profile>& all_profiles();
// Accepts "cilium-1.18" and "1.18"; nullptr for others.
const Profile* find_profile(std::string_view name);

// A matchName or matchPattern as this release reads it: runs of stars collapse, except that a
// leading
// `**.` stays where it spans labels.
std::string dns_pattern(const Profile& profile, std::string_view text);

// Whether an entry of serverNames lists this name, without regard to case.
bool sni_matches(const Profile& profile, std::string_view pattern, std::string_view name);

}  // namespace policyc::ir
