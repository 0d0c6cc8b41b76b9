// Each finding about meaning has a golden file that has the fault, a near miss and the idiom that
// must stay silent.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "ir/base/diag_code.h"
#include "ir/base/diagnostic.h"

namespace policyc::house {
namespace {

namespace fs = std::filesystem;

// Files in the folder, or, from a `/` on, below testdata/golden. Behind an `@`: what stands in the
// line that is meant; else the whole file is.
struct Shown {
  DiagCode code;
  const char* folder;
  const char *fault, *near_miss, *idiom;
};

const std::vector<Shown>& table() {
  static const std::vector<Shown> rows = {
      {DiagCode::HeaderLooksLikePattern, "findings-http/", "header-pattern.yaml",
       "header-fine.yaml@Accept: text/*", "header-fine.yaml@X-API-Key"},
      {DiagCode::KafkaLooksLikePattern, "findings-http/", "kafka-pattern.yaml",
       "kafka-fine.yaml@orders.v1", "kafka-topics.yaml"},
      {DiagCode::KafkaIsGone, "findings-http/", "kafka-pattern.yaml", "broker-port.yaml@/topics",
       "broker-port.yaml@fromEndpoints: [{matchLabels: {app: a}}]"},
      {DiagCode::HttpNeverMatches, "findings-http/", "never-matches.yaml",
       "request-fine.yaml@(?i)post", "request-fine.yaml@{path: \"/.*\"}"},
      {DiagCode::HttpOnTlsPort, "findings-http/", "tls-port.yaml", "tls-port-fine.yaml@8443",
       "tls-names.yaml"},
      {DiagCode::HttpRuleCovered, "findings-http/", "covered.yaml", "covered-not.yaml",
       "covered-anchor.yaml"},
      {DiagCode::HttpQueryMark, "findings-http/", "query-mark.yaml", R"(query-mark.yaml@/find\?q)",
       "query-mark.yaml@/items/"},
      {DiagCode::HttpHostCapitals, "findings-http/", "never-matches-more.yaml",
       "host-fine.yaml@[Ss]hop", "host-fine.yaml@api[.]shop"},
      {DiagCode::VoidL7Rule, "findings-void-l7/", "same-policy.yaml", "other-port.yaml",
       "visibility.yaml"},
      {DiagCode::DnsBlocked, "findings-names/", "blocked.yaml", "not-seen.yaml",
       "dns-in-another-policy.yaml"},
      {DiagCode::DnsNotSeen, "findings-names/", "not-seen.yaml", "fine.yaml",
       "dns-in-another-policy.yaml"},
      {DiagCode::NameNotResolvable, "findings-names/", "not-resolvable.yaml",
       "used-by-address.yaml", "fine.yaml"},
      {DiagCode::DnsOverUdpOnly, "findings-names/", "udp-only.yaml", "udp-and-tcp.yaml",
       "fine.yaml"},
      {DiagCode::DnsRuleCovered, "findings-l7-lists/", "dns-covered.yaml", "near-dns-covered.yaml",
       "dns-for-the-reader.yaml"},
      {DiagCode::KafkaRuleCovered, "findings-l7-lists/", "kafka-covered.yaml",
       "near-kafka-covered.yaml", "kafka-roles.yaml"},
      {DiagCode::DnsRuleUnused, "findings-names/", "unused.yaml", "used-by-address.yaml",
       "dns-in-another-policy.yaml"},
      {DiagCode::NamespaceAsPodLabel, "findings-selectors/", "namespace-as-label.yaml",
       "namespace-label-fine.yaml@labels.team",
       "namespace-label-fine.yaml@k8s:io.kubernetes.pod.namespace: dev"},
      {DiagCode::LabelNotInIdentity, "findings-selectors/", "filtered-label.yaml",
       "kept-label.yaml@DoesNotExist", "kept-label.yaml@app.kubernetes.io/name"},
      {DiagCode::NegativeSelector, "findings-selectors/", "negative.yaml",
       "negative-fine.yaml@operator: NotIn, values: [dev]",
       "negative-fine.yaml@key: app, operator: NotIn"},
      {DiagCode::ForeignNamespace, "findings-selectors/", "foreign-namespace.yaml",
       "own-namespace.yaml", "clusterwide-namespace.yaml"},
      {DiagCode::EmptyPeerList, "findings-selectors/", "empty-list.yaml",
       "empty-list-fine.yaml@fromEndpoints: [{}]", "empty-list-fine.yaml@egress: [{}]"},
      {DiagCode::NullPeerList, "findings-selectors/", "null-list.yaml",
       "null-list-fine.yaml@fromEndpoints:", "null-list-fine.yaml@\"81\""},
      {DiagCode::PeerSelectsNobody, "findings-inventory/policies/", "peer-nobody.yaml",
       "somebody.yaml@app: db", "somebody.yaml@toEndpoints: [{}]"},
      {DiagCode::SubjectSelectsNobody, "findings-inventory/policies/", "subject-nobody.yaml",
       "somebody.yaml@app: web", "port-by-pod.yaml@endpointSelector: {}"},
      {DiagCode::ServiceMissing, "findings-inventory/policies/", "no-service-no-ports.yaml",
       "service-fine.yaml", "service-target-port.yaml"},
      {DiagCode::ServicePortNotTarget, "findings-inventory/policies/", "service-port.yaml",
       "service-target-port.yaml", "service-fine.yaml"},
      {DiagCode::CidrOfService, "findings-inventory/policies/", "service-address.yaml",
       "cidr-fine.yaml@198.51.100.1/32", "service-fine.yaml"},
      {DiagCode::ServicesInDeny, "findings-inventory/policies/", "service-denied.yaml",
       "service-denied-by-labels.yaml", "service-fine.yaml"},
      {DiagCode::DenyPortUnknown, "findings-inventory/policies/", "deny-port.yaml",
       "deny-port-fine.yaml", "deny-port-number.yaml"},
      {DiagCode::ServiceNotFound, "findings-inventory/policies/", "no-service.yaml",
       "no-service-no-ports.yaml", "service-fine.yaml"},
      {DiagCode::CidrOfMember, "findings-inventory/policies/", "cidr-member.yaml",
       "cidr-fine.yaml@198.51.100.1/32", "cidr-fine.yaml@10.0.0.0/8"},
      {DiagCode::ConflictFreezes, "findings-inventory/policies/", "conflict.yaml",
       "conflict-of-others.yaml", "/findings-http/covered-elsewhere.yaml"},
      {DiagCode::AllowPortUnknown, "findings-inventory/policies/", "port-unknown.yaml",
       "port-known.yaml@port: http}", "service-target-port.yaml"},
      {DiagCode::PortNameAmbiguous, "findings-inventory/policies/", "port-unknown.yaml",
       "port-known.yaml@port: http, protocol", "port-by-pod.yaml"},
      {DiagCode::IcmpTypeZero, "findings-ports/", "icmp-zero.yaml", "icmp-fine.yaml@type: 8",
       "icmp-fine.yaml@EchoRequest"},
      {DiagCode::IcmpTypeTooBig, "findings-ports/", "icmp-256.yaml", "icmp-fine.yaml@type: 255",
       "icmp-fine.yaml@EchoRequest"},
      {DiagCode::EndPortIgnored, "findings-ports/", "inverted.yaml", "range-fine.yaml@endPort: 80,",
       "range-fine.yaml@endPort: 9000"},
      {DiagCode::EmptyPortEntry, "findings-ports/", "empty-entry.yaml", "empty-list.yaml",
       "no-list.yaml"},
      {DiagCode::EmptyToPorts, "findings-ports/", "empty-list.yaml", "empty-entry.yaml",
       "no-list.yaml@toPorts: null"},
      {DiagCode::EmptyPortsMeanAll, "findings-ports/", "empty-list-netpol.yaml", "empty-list.yaml",
       "no-list.yaml"},
      {DiagCode::RedundantItem, "findings-redundant/", "cluster-beside-pods.yaml",
       "other-ports.yaml", "entities-together.yaml"},
      {DiagCode::ShadowedItem, "findings-shadowed/", "item-of-another-spec.yaml",
       "near-item-of-another-spec.yaml", "repeats-the-baseline.yaml"},
      {DiagCode::RedundantPolicy, "findings-shadowed/", "policy-adds-nothing.yaml",
       "near-policy-adds-nothing.yaml", "the-same-name-twice.yaml"},
      {DiagCode::RedundantPeer, "findings-shadowed/", "peer-in-peer.yaml", "near-peer-in-peer.yaml",
       "peers-for-the-reader.yaml"},
      {DiagCode::RedundantPort, "findings-shadowed/", "port-in-port.yaml", "near-port-in-port.yaml",
       "/findings-names/udp-and-tcp.yaml"},
      {DiagCode::EqualPolicies, "findings-shadowed/", "equal-policies.yaml",
       "near-equal-policies.yaml", "the-same-name-twice.yaml"},
      {DiagCode::UnreachableDeny, "findings-shadowed/", "deny-in-deny.yaml",
       "near-deny-in-deny.yaml", "/findings-conflict/ban.yaml"},
      {DiagCode::RedundantInCluster, "findings-api-server/policies/", "nodes-and-api-server.yaml",
       "remote-nodes-and-api-server.yaml", "api-server-alone.yaml"},
      {DiagCode::DeadAllow, "findings-conflict/", "dead-allow.yaml", "near-dead-allow.yaml",
       "ban.yaml"},
      {DiagCode::PartialConflict, "findings-conflict/", "crossing.yaml", "near-crossing.yaml",
       "allow-broad-deny-narrow.yaml"},
      {DiagCode::DefaultDenyAllows, "findings-default-deny/", "lets-cluster-in.yaml",
       "default-deny.yaml", "named-otherwise.yaml"},
      {DiagCode::DenyOnlyIsolates, "findings-default-deny/", "deny-only.yaml",
       "deny-beside-allow.yaml", "deny-without-default.yaml"},
      {DiagCode::DenyStopsProbes, "findings-default-deny/", "stops-probes.yaml", "probes-fine.yaml",
       "deny-beside-allow.yaml"},
      {DiagCode::EmptySection, "findings-default-deny/", "empty-section.yaml", "null-section.yaml",
       "netpol-isolates.yaml"},
      {DiagCode::NoSections, "findings-default-deny/", "no-section.yaml", "null-section.yaml",
       "default-deny.yaml"},
      {DiagCode::DefaultDenyWithoutItems, "findings-default-deny/", "asked-without-items.yaml",
       "asked-with-items.yaml", "deny-without-default.yaml"},
      {DiagCode::AllowsNothing, "findings-default-deny/", "allows-nothing.yaml",
       "allows-something.yaml@name: allow-dns", "allows-something.yaml@default-deny-allow-nothing"},
      {DiagCode::CatchesReserved, "findings-hosts/", "catches-reserved.yaml", "pods-only.yaml",
       "namespaced.yaml"},
      {DiagCode::HostFirewallOff, "findings-hosts/", "host-policy.yaml", "reserved-allowed.yaml",
       "namespaced.yaml"},
      {DiagCode::HostPolicyStops, "findings-hosts/", "host-policy.yaml", "host-policy-fine.yaml",
       "pods-only.yaml"},
      {DiagCode::NotInPolicyTypes, "findings-netpol/", "not-in-policy-types.yaml",
       "policy-types-fine.yaml@policyTypes", "policy-types-fine.yaml@inferred"},
      {DiagCode::EmptyPeersMeanAll, "findings-netpol/", "empty-peers.yaml", "no-peers.yaml",
       "one-peer.yaml"},
      {DiagCode::PeersAreAlternatives, "findings-netpol/", "alternatives.yaml", "one-peer.yaml",
       "enumeration.yaml"},
      {DiagCode::UpgradeChanges, "lint-upgrade-to/", "policy.yaml", "policy.yaml@\"*.example.org\"",
       "policy.yaml@kube-dns"},
  };
  return rows;
}

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

const fs::path& golden() {
  static const fs::path path = fs::path(POLICYC_SOURCE_DIR) / "testdata" / "golden";
  return path;
}

// The lines of the file at which the case's output reports the code.
std::set<std::size_t> lines_with(DiagCode code, const std::string& stdout_text,
                                 const std::string& file) {
  std::set<std::size_t> out;
  std::istringstream lines(stdout_text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(file + ":", 0) != 0) continue;
    if (line.find("[" + diag_name(code) + "]: ") == std::string::npos) continue;
    out.insert(std::stoul(line.substr(file.size() + 1)));
  }
  return out;
}

// What a reference of the table says: empty where it is as it should be.
std::string complaint(DiagCode code, const std::string& folder_of_row, const std::string& name,
                      bool reported) {
  const std::string reference = name[0] == '/' ? name.substr(1) : folder_of_row + name;
  const std::size_t at = reference.find('@');
  const std::string path = reference.substr(0, at);
  const std::string mark = at == std::string::npos ? "" : reference.substr(at + 1);
  const std::string folder = path.substr(0, path.find('/'));
  const std::string file = path.substr(folder.size() + 1);
  const std::string text = read(golden() / path);
  if (text.empty()) return "no such file";
  const std::string shown = read(golden() / folder / "stdout");
  // Each command names its files; one that none names proves nothing by silence.
  const std::string cmd = read(golden() / folder / "cmd");
  if (cmd.find("lint") == std::string::npos) return "not linted";
  const auto lines = lines_with(code, shown, file);
  if (reported) return lines.empty() ? "not reported" : "";
  std::istringstream in(text);
  std::size_t number = 0;
  bool marked = mark.empty();
  for (std::string line; std::getline(in, line);) {
    ++number;
    const bool meant = line.find(mark) != std::string::npos;
    marked = marked || meant;
    if (meant && lines.count(number) != 0) return fmt::format("reported in line {}", number);
  }
  return marked ? "" : "no line with `" + mark + "`";
}

TEST(FindingsGallery, FaultNearMissAndIdiom) {
  for (const Shown& row : table()) {
    SCOPED_TRACE(diag_name(row.code));
    EXPECT_EQ(complaint(row.code, row.folder, row.fault, true), "") << row.fault;
    EXPECT_EQ(complaint(row.code, row.folder, row.near_miss, false), "") << row.near_miss;
    EXPECT_EQ(complaint(row.code, row.folder, row.idiom, false), "") << row.idiom;
    EXPECT_NE(std::string(row.near_miss), row.idiom);
  }
}

TEST(FindingsGallery, NoFindingIsMissing) {
  std::set<DiagCode> listed;
  for (const Shown& row : table()) {
    EXPECT_TRUE(listed.insert(row.code).second) << diag_name(row.code) << " twice";
  }
  for (const DiagInfo& info : all_diagnostics()) {
    const int number = static_cast<int>(info.code);
    if (number < 300 || number > 399) continue;
    EXPECT_EQ(listed.count(info.code), 1U)
        << diag_name(info.code) << " (" << info.name << ") is not in the table";
  }
}

TEST(FindingsGalleryChecker, SeesWhatIsWrong) {
  const std::string http = "findings-http/", file = "query-mark.yaml";
  EXPECT_EQ(complaint(DiagCode::HttpQueryMark, http, file + "@/search?q", false),
            "reported in line 12");
  EXPECT_EQ(complaint(DiagCode::HttpQueryMark, http, file + "@nowhere", false),
            "no line with `nowhere`");
  EXPECT_EQ(complaint(DiagCode::HttpHostCapitals, http, file, true), "not reported");
  EXPECT_EQ(complaint(DiagCode::HttpHostCapitals, http, "/findings-http/nothing.yaml", false),
            "no such file");
}

}  // namespace
}  // namespace policyc::house
