// What `lint` calls superfluous is taken away, and every verdict record must stay the same: by
// resolving a world with a pod for each selector and each pair of them, and not by the algebra that
// found it. In files named near-… nothing can be taken away without a difference.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "frontend/kustomization.h"
#include "frontend/load.h"
#include "frontend/lower.h"
#include "ir/base/diag_code.h"
#include "ir/base/file.h"
#include "ir/identity.h"
#include "ir/l7_match.h"
#include "verifier/checks.h"
#include "verifier/deletion.h"

namespace policyc {
namespace {

namespace fs = std::filesystem;

struct Linted {
  frontend::Loaded loaded;
  ir::World world;
  DiagnosticSink sink;
};

// Every question of a proof is put to the solver, too.
struct CrossCheck {
  Solver solver;
  std::size_t questions = 0, unknown = 0;
  std::vector<std::string> sample;  // of questions, for another solver

  void hear(const ProofStep& step) {
    ++questions;
    if (questions % 20 == 1 && step.answer != Coverage::Answer::Undecided && sample.size() < 40) {
      sample.push_back((step.answer == Coverage::Answer::Covered ? "unsat\n" : "sat\n") +
                       smtlib(*step.question));
    }
    if (!Solver::available()) return;
    const Solution s = solver.solve(*step.question);
    if (s.answer == Solution::Answer::Unknown || step.answer == Coverage::Answer::Undecided) {
      ++unknown;
      return;
    }
    EXPECT_EQ(s.answer == Solution::Answer::Covered, step.answer == Coverage::Answer::Covered)
        << step.question->title;
  }
};
CrossCheck& cross_check() {
  static CrossCheck c;
  return c;
}

Linted lint(frontend::LoadOptions options) {
  Linted out;
  DiagnosticSink front;
  out.loaded = frontend::load(options, {}, front);
  out.world.settings = out.loaded.settings.value_or(ir::Settings{});
  out.world.policies = frontend::lower(out.loaded, out.world.settings);
  out.world.inventory = out.loaded.inventory;
  CheckOptions checks;
  checks.roots = frontend::kustomization_roots(out.loaded);
  checks.proofs = [](const ProofStep& step) { cross_check().hear(step); };
  run_checks(out.world, *out.loaded.sources, out.sink, checks);
  return out;
}
Linted lint_file(const fs::path& path) {
  frontend::LoadOptions options;
  options.paths = {path.string()};
  return lint(std::move(options));
}

const std::vector<DiagCode>& superfluous() {
  static const std::vector<DiagCode> codes = {
      DiagCode::RedundantItem,  DiagCode::ShadowedItem,    DiagCode::RedundantPolicy,
      DiagCode::RedundantPeer,  DiagCode::RedundantPort,   DiagCode::EqualPolicies,
      DiagCode::DeadAllow,      DiagCode::UnreachableDeny, DiagCode::RedundantInCluster,
      DiagCode::DnsRuleCovered, DiagCode::KafkaRuleCovered};
  return codes;
}

// The part at which a finding points.
std::optional<Part> part_at(const ir::PolicySet& policies, const Diagnostic& d) {
  Part part;
  for (std::size_t p = 0; p < policies.policies.size(); ++p) {
    if (policies.policies[p].range != d.range) continue;
    part.policy = p;
    return part;
  }
  for (std::size_t r = 0; r < policies.rules.size(); ++r) {
    const ir::Rule& rule = policies.rules[r];
    part.policy = rule.policy;
    part.rule = r;
    for (std::size_t i = 0; i < rule.items.size(); ++i) {
      const ir::RuleItem& item = rule.items[i];
      if (policies.policies[rule.policy].ref != d.policy || item.origin.path != d.rule) continue;
      part.item = i;
      if (item.origin.range == d.range) {
        part.kind = Part::Kind::Item;
        return part;
      }
      part.kind = Part::Kind::Peers;
      for (std::size_t k = 0; k < item.peers.size(); ++k) {
        if (item.peers[k].range == d.range) part.members.push_back(k);
      }
      if (!part.members.empty()) return part;
      part.kind = Part::Kind::Ports;
      for (part.port_rule = 0; part.port_rule < item.ports.size(); ++part.port_rule) {
        const auto& ports = item.ports[part.port_rule].ports;
        for (std::size_t k = 0; k < ports.size(); ++k) {
          if (ports[k].range == d.range) part.members.push_back(k);
        }
        if (!part.members.empty()) return part;
      }
      part.kind = Part::Kind::L7;
      for (part.port_rule = 0; part.port_rule < item.ports.size(); ++part.port_rule) {
        const ir::L7Rules& l7 = item.ports[part.port_rule].l7;
        const auto find = [&](const auto& list) {
          for (std::size_t k = 0; k < list.size(); ++k) {
            if (list[k].range == d.range) part.members.push_back(k);
          }
        };
        find(l7.dns);
        find(l7.kafka);
        if (!part.members.empty()) return part;
      }
    }
  }
  return std::nullopt;
}

// Everything that can be taken away, one thing at a time.
std::vector<Part> all_parts(const ir::PolicySet& policies) {
  std::vector<Part> out;
  for (std::size_t p = 0; p < policies.policies.size(); ++p) {
    out.emplace_back();
    out.back().policy = p;
  }
  for (std::size_t r = 0; r < policies.rules.size(); ++r) {
    for (std::size_t i = 0; i < policies.rules[r].items.size(); ++i) {
      const ir::RuleItem& item = policies.rules[r].items[i];
      Part part;
      part.kind = Part::Kind::Item;
      part.policy = policies.rules[r].policy;
      part.rule = r;
      part.item = i;
      out.push_back(part);
      part.kind = Part::Kind::Peers;
      std::map<SourceRange, std::vector<std::size_t>> entries;
      for (std::size_t k = 0; k < item.peers.size(); ++k) {
        entries[item.peers[k].range].push_back(k);
      }
      for (const auto& [range, members] : entries) {
        part.members = members;
        if (entries.size() > 1) out.push_back(part);
      }
      part.kind = Part::Kind::Ports;
      for (part.port_rule = 0; part.port_rule < item.ports.size(); ++part.port_rule) {
        const auto& ports = item.ports[part.port_rule].ports;
        const ir::L7Rules& l7 = item.ports[part.port_rule].l7;
        const std::size_t rules = std::max(l7.dns.size(), l7.kafka.size());
        for (std::size_t k = 0; k < rules && rules > 1; ++k) {
          part.members = {k};
          out.push_back(part);
          out.back().kind = Part::Kind::L7;
        }
        for (std::size_t k = 0; k < ports.size(); ++k) {
          part.members = {k};
          out.push_back(part);
          if (item.ports[part.port_rule].l7.empty()) continue;
          out.push_back(part);
          out.back().kind = Part::Kind::Restriction;
        }
      }
    }
  }
  return out;
}

// Labels that a selector asks for; nullopt where it selects no pod.
using Labels = std::map<std::string, std::string>;
std::optional<Labels> asked(const ir::Selector& selector, const std::string& absent = "") {
  Labels out;
  for (const ir::Requirement& r : selector.requirements) {
    if (!r.symbol.empty()) return std::nullopt;
    const bool of_pods = r.source == "any" || r.source == "k8s";
    if (r.op == ir::Operator::NotIn || r.op == ir::Operator::DoesNotExist) {
      if (!absent.empty() && r.op == ir::Operator::NotIn) out.try_emplace(r.key, absent);
      continue;
    }
    if (!of_pods || r.cidr) return std::nullopt;
    out[r.key] = r.op == ir::Operator::In ? r.values.front() : "some-value";
  }
  return out;
}

ir::Pod pod_of(const Labels& labels, std::size_t number, ir::Inventory& inventory) {
  static const std::string kMetadataName =
      std::string(ir::kNamespaceLabelsPrefix) + "kubernetes.io/metadata.name";
  ir::Pod pod;
  pod.name = fmt::format("p{}", number);
  pod.ns = "elsewhere";
  ir::StringMap of_namespace;
  for (const auto& [key, value] : labels) {
    if (key == ir::kNamespaceKey || key == kMetadataName) {
      pod.ns = value;
    } else if (key == ir::kServiceAccountKey) {
      pod.service_account = value;
    } else if (key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0) {
      of_namespace[key.substr(ir::kNamespaceLabelsPrefix.size())] = value;
    } else if (key != ir::kClusterKey) {
      pod.labels[key] = value;
    }
  }
  // A namespace has its labels once.
  if (!of_namespace.empty()) pod.ns += fmt::format("-{}", number);
  if (inventory.find_namespace(pod.ns) == nullptr) {
    of_namespace["kubernetes.io/metadata.name"] = pod.ns;
    inventory.namespaces.push_back({pod.ns, of_namespace, {}});
    std::sort(inventory.namespaces.begin(), inventory.namespaces.end(),
              [](const ir::Namespace& a, const ir::Namespace& b) { return a.name < b.name; });
  }
  return pod;
}

// Names that a pattern matches, and their neighbours: each star nothing, a letter, two labels.
void sample_names(const std::string& pattern, std::set<std::string>& out) {
  std::vector<std::string> names = {""};
  for (const char c : pattern) {
    std::vector<std::string> next;
    for (const std::string& name : names) {
      if (c != '*') {
        next.push_back(name + c);
        continue;
      }
      for (const char* text : {"", "x", "api", "x.y"}) next.push_back(name + text);
    }
    names = std::move(next);
  }
  out.insert(names.begin(), names.end());
  for (const std::string& name : names) out.insert("z." + name);
}

// Whether the two let the same of many requests pass: names made of their patterns, combinations of
// the values of their Kafka rules; by the matcher that judges flows.
bool same_requests(const ir::Settings& settings, const ir::ProxyFilter& a,
                   const ir::ProxyFilter& b) {
  if (a.everything != b.everything || a.server_names != b.server_names || a.tls != b.tls ||
      a.listeners != b.listeners || a.http.size() + b.http.size() > 0 ||
      a.generic.size() + b.generic.size() > 0) {
    return false;
  }
  const auto same = [&](const ir::L7Request& request) {
    return ir::proxy_passes(settings.release(), a, request) ==
           ir::proxy_passes(settings.release(), b, request);
  };
  std::set<std::string> names, clients = {"", "somebody"}, topics = {"", "something"};
  std::set<int> versions = {-1};
  for (const ir::ProxyFilter* f : {&a, &b}) {
    for (const ir::DnsRule& r : f->dns) sample_names(r.pattern, names);
    for (const ir::KafkaRule& r : f->kafka) {
      clients.insert(r.client_id);
      topics.insert(r.topic);
      if (r.api_version) versions.insert(*r.api_version);
    }
  }
  for (const std::string& name : names) {
    if (!same(ir::DnsQuery{name})) return false;
  }
  for (int key = 0; key < 80; ++key) {
    for (const std::string& client : clients) {
      for (const std::string& topic : topics) {
        for (const int version : versions) {
          if (!same(ir::KafkaRequest{std::to_string(key), version, client, topic})) return false;
        }
      }
    }
  }
  return true;
}

std::optional<Difference> difference_without(const ir::World& crowd, const Part& part) {
  ir::World less = crowd;
  less.policies = without(crowd.policies, part);
  return first_difference(crowd, less, [&](const ir::ProxyFilter& a, const ir::ProxyFilter& b) {
    return part.kind == Part::Kind::L7 && same_requests(crowd.settings, a, b);
  });
}

// The world with a pod for each selector, each selector with one value changed, and each pair.
ir::World crowd_of(const ir::World& world) {
  constexpr std::size_t kMost = 700;
  ir::World out = world;
  out.settings.host_firewall = true;
  ir::Inventory& inventory = out.inventory;
  inventory.pods.clear();
  inventory.namespaces.clear();
  inventory.services.clear();
  std::set<Labels> wanted = {{}};
  std::vector<Labels> selectors;
  std::set<std::pair<ir::Protocol, std::string>> names;
  const auto want = [&](const ir::Selector& s) {
    for (const char* absent : {"", "another-value"}) {
      if (auto labels = asked(s, absent)) {
        if (wanted.insert(*labels).second) selectors.push_back(*labels);
      }
    }
  };
  for (const ir::Rule& rule : world.policies.rules) {
    if (rule.host_subject) {
      if (auto labels = asked(rule.subject)) {
        ir::Node node;
        node.name = fmt::format("n{}", inventory.nodes.size());
        node.labels.insert(labels->begin(), labels->end());
        inventory.nodes.push_back(std::move(node));
      }
    } else {
      want(rule.subject);
    }
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::Peer& p : item.peers) want(p.selector);
      for (const ir::PortRule& pr : item.ports) {
        for (const ir::Port& p : pr.ports) {
          if (!p.name.empty()) names.insert({p.protocol, p.name});
        }
      }
    }
  }
  for (const Labels& s : selectors) {
    for (const auto& [key, value] : s) {
      Labels other = s;
      other[key] = "another-value";
      wanted.insert(other);
      other.erase(key);
      wanted.insert(other);
    }
  }
  for (std::size_t a = 0; a < selectors.size() && wanted.size() < kMost; ++a) {
    for (std::size_t b = 0; b < selectors.size() && wanted.size() < kMost; ++b) {
      Labels both = selectors[a];
      both.insert(selectors[b].begin(), selectors[b].end());
      wanted.insert(both);
    }
  }
  for (const Labels& labels : wanted) {
    ir::Pod pod = pod_of(labels, inventory.pods.size(), inventory);
    std::uint16_t number = 41'000;
    for (const auto& [protocol, name] : names) pod.ports.push_back({name, number++, protocol});
    inventory.pods.push_back(std::move(pod));
  }
  std::sort(inventory.pods.begin(), inventory.pods.end(), [](const ir::Pod& a, const ir::Pod& b) {
    return std::tie(a.ns, a.kind, a.name) < std::tie(b.ns, b.kind, b.name);
  });
  return out;
}

std::map<DiagCode, int> count;

// L7 rules that are called void, port by port: one of the ports is meant.
std::vector<Part> restrictions_at(const ir::PolicySet& policies, const Diagnostic& d) {
  std::vector<Part> out;
  for (std::size_t r = 0; r < policies.rules.size(); ++r) {
    const ir::Rule& rule = policies.rules[r];
    for (std::size_t i = 0; i < rule.items.size(); ++i) {
      const ir::RuleItem& item = rule.items[i];
      if (policies.policies[rule.policy].ref != d.policy || item.origin.path != d.rule) continue;
      for (std::size_t k = 0; k < item.ports.size(); ++k) {
        const SourceRange at = item.ports[k].range;
        const bool here = at.file == d.range.file && at.begin <= d.range.begin &&
                          d.range.end <= at.end && !item.ports[k].l7.empty();
        for (std::size_t p = 0; here && p < item.ports[k].ports.size(); ++p) {
          Part part;
          part.kind = Part::Kind::Restriction;
          part.policy = rule.policy;
          part.rule = r;
          part.item = i;
          part.port_rule = k;
          part.members = {p};
          out.push_back(part);
        }
      }
    }
  }
  return out;
}

void check_void_l7(const Linted& linted, const ir::World& crowd, const Diagnostic& d) {
  const auto parts = restrictions_at(linted.world.policies, d);
  EXPECT_FALSE(parts.empty());
  EXPECT_TRUE(std::any_of(parts.begin(), parts.end(), [&](const Part& part) {
    return !difference_without(crowd, part).has_value();
  }));
  ++count[d.code];
}

void check_findings(const Linted& linted, const std::string& where) {
  std::optional<ir::World> crowd;
  for (const Diagnostic& d : linted.sink.all()) {
    const bool void_l7 = d.code == DiagCode::VoidL7Rule;
    if (!void_l7 && std::count(superfluous().begin(), superfluous().end(), d.code) == 0) continue;
    SCOPED_TRACE(where + " " + linted.loaded.sources->place(d.range) + " " + d.message);
    EXPECT_FALSE(d.proof.empty());
    // Rules of other files are not in force here where they may be alternatives.
    if (!crowd) crowd = crowd_of(linted.world);
    if (void_l7) {
      check_void_l7(linted, *crowd, d);
      continue;
    }
    const auto part = part_at(linted.world.policies, d);
    ASSERT_TRUE(part);
    const auto difference = difference_without(*crowd, *part);
    EXPECT_FALSE(difference) << difference->peer.str() << " " << difference->key << ": "
                             << difference->before << " becomes " << difference->after;
    ++count[d.code];
  }
}

std::vector<fs::path> yaml_below(const fs::path& folder) {
  std::vector<fs::path> out;
  if (!fs::exists(folder)) return out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto extension = entry.path().extension();
    if (entry.is_regular_file() && (extension == ".yaml" || extension == ".yml")) {
      out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

fs::path source(const std::string& path) {
  return fs::path(POLICYC_SOURCE_DIR) / path;
}

TEST(RedundantFindings, GoldenCasesAndExamples) {
  for (const char* folder : {"testdata/golden", "examples"}) {
    for (const fs::path& file : yaml_below(source(folder))) {
      check_findings(lint_file(file), file.string());
    }
  }
  check_findings(lint_file(source("testdata/golden/findings-sets/deployed")), "sets");
  for (const char* cluster : {"cluster.yaml", "outside.yaml"}) {
    const fs::path folder = source("testdata/golden/findings-api-server");
    frontend::LoadOptions options;
    options.paths = {(folder / cluster).string(), (folder / "policies").string()};
    check_findings(lint(std::move(options)), cluster);
  }
  for (const DiagCode code : superfluous()) {
    EXPECT_GT(count[code], 0) << diag_name(code);
  }
  EXPECT_GT(count[DiagCode::VoidL7Rule], 4);
}

TEST(RedundantFindings, NearMissesChangeARecord) {
  std::size_t files = 0, parts = 0;
  for (const char* folder :
       {"findings-shadowed", "findings-conflict", "findings-void-l7", "findings-l7-lists"}) {
    for (const fs::path& file : yaml_below(source("testdata/golden") / folder)) {
      if (file.filename().string().rfind("near-", 0) != 0) continue;
      ++files;
      const Linted linted = lint_file(file);
      const ir::World crowd = crowd_of(linted.world);
      for (const Part& part : all_parts(crowd.policies)) {
        EXPECT_TRUE(difference_without(crowd, part))
            << file << " kind " << static_cast<int>(part.kind) << " rule " << part.rule << " item "
            << part.item;
        ++parts;
      }
    }
  }
  EXPECT_GE(files, 12U);
  EXPECT_GT(parts, 3 * files);
}

// The sets beside the repository, where they are present.
TEST(RedundantFindings, ArticlesAndCorpus) {
  const fs::path shared = source("../shared");
  if (!fs::exists(shared)) GTEST_SKIP() << "no outside set beside the repository";
  const auto before = count;
  for (const char* folder : {"conformance/worlds", "conformance/articles", "corpus"}) {
    for (const fs::path& file : yaml_below(shared / folder)) {
      check_findings(lint_file(file), file.string());
    }
  }
  for (const auto& [code, n] : count) {
    const auto it = before.find(code);
    std::cout << diag_name(code) << ": " << n - (it == before.end() ? 0 : it->second) << "\n";
  }
}

TEST(RedundantFindingsProofs, OtherSolversAgree) {
  for (const char* folder : {"findings-shadowed", "findings-conflict"}) {
    for (const fs::path& file : yaml_below(source("testdata/golden") / folder)) lint_file(file);
  }
  const CrossCheck& c = cross_check();
  ASSERT_GT(c.sample.size(), 5U);
  if (Solver::available()) {
    std::cout << c.questions << " questions, " << c.unknown << " without a second answer\n";
    EXPECT_LT(c.unknown, c.questions / 100 + 1);
  }
  if (std::system("command -v cvc5 >/dev/null") != 0) return;
  const fs::path dir = fs::path(::testing::TempDir()) / "policyc-redundant-smt";
  fs::create_directories(dir);
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < c.sample.size(); ++i) {
    const std::size_t line = c.sample[i].find('\n') + 1;
    const std::string file = (dir / fmt::format("{}.smt2", i)).string();
    ASSERT_FALSE(write_file_atomic(file, c.sample[i].substr(line)));
    ASSERT_EQ(std::system(fmt::format("cvc5 --rlimit=2000000 {0} >{0}.out 2>&1", file).c_str()), 0);
    const std::string answer = *read_file(file + ".out");
    if (answer == "unknown\n") {
      ++unknown;
    } else {
      EXPECT_EQ(answer, c.sample[i].substr(0, line)) << c.sample[i];
    }
  }
  std::cout << "cvc5: " << c.sample.size() << " questions, " << unknown << " unknown\n";
  fs::remove_all(dir);
}

}  // namespace
}  // namespace policyc
