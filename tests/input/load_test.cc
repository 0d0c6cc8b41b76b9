#include "frontend/load.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ir/base/diag_code.h"
#include "tests/input/temp_tree.h"

namespace policyc::frontend {
namespace {

std::string netpol(const std::string& name, const std::string& ns = "") {
  return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name +
         (ns.empty() ? "" : ", namespace: " + ns) + "}\nspec: {podSelector: {}}\n";
}

std::string kustomization(const std::string& body) {
  return "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n" + body;
}

class LoadTest : public ::testing::Test {
 protected:
  Loaded& run() {
    if (options_.paths.empty() && options_.world.empty()) options_.paths = {tree_.root()};
    loaded_ = load(options_, base_, sink_);
    return loaded_;
  }
  const LoadedPolicy& policy(const std::string& name) {
    for (const LoadedPolicy& p : loaded_.policies) {
      if (p.ast.name.text == name) return p;
    }
    throw std::runtime_error("no policy " + name);
  }
  std::size_t count(DiagCode code) const {
    return static_cast<std::size_t>(
        std::count_if(sink_.all().begin(), sink_.all().end(),
                      [&](const Diagnostic& d) { return d.code == code; }));
  }
  bool skipped(const std::string& reason) const {
    return std::any_of(loaded_.skipped.begin(), loaded_.skipped.end(), [&](const SkippedObject& s) {
      return s.reason.find(reason) != std::string::npos;
    });
  }

  test::TempTree tree_;
  LoadOptions options_;
  ir::Settings base_;
  DiagnosticSink sink_;
  Loaded loaded_;
};

TEST_F(LoadTest, StreamsListsAndTypedLists) {
  tree_.write("a.yaml", netpol("one", "x") + "---\n---\n" + netpol("two", "x"));
  tree_.write("b.json", R"({"apiVersion":"v1","kind":"List","items":[
    {"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy",
     "metadata":{"name":"three","namespace":"x"},"spec":{"podSelector":{}}},
    {"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"x"}}]})");
  tree_.write("c.yaml",
              "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: q, namespace: x}\n");
  run();
  EXPECT_EQ(loaded_.policies.size(), 3U);
  EXPECT_EQ(policy("two").ast.document, 2U);
  EXPECT_EQ(loaded_.inventory.pods.size(), 2U);
  EXPECT_EQ(loaded_.files, 3U);
  EXPECT_EQ(loaded_.documents, 4U);
}

TEST_F(LoadTest, ResultsDoNotDependOnThreads) {
  for (int i = 0; i < 60; ++i) {
    tree_.write("f" + std::to_string(100 + i) + ".yaml", netpol("p" + std::to_string(100 + i)));
  }
  options_.jobs = 8;
  run();
  ASSERT_EQ(loaded_.policies.size(), 60U);
  EXPECT_TRUE(std::is_sorted(loaded_.policies.begin(), loaded_.policies.end(),
                             [](const LoadedPolicy& a, const LoadedPolicy& b) {
                               return a.ast.name.text < b.ast.name.text;
                             }));
}

TEST_F(LoadTest, ForeignFilesAreSkippedWithoutNoise) {
  tree_.write("values.yaml", "replicas: 3\n");
  tree_.write("ci.yaml", "- job: build\n");
  tree_.write("empty.yaml", "# nothing\n");
  tree_.write("broken-ci.yaml", "a: !reference [x, y]\nb: [\n");
  tree_.write("template.yaml", "apiVersion: v1\nkind: ConfigMap\n{{ if .x }}\na: {{ .b }}\n");
  tree_.write("crd.yaml", "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\n");
  run();
  EXPECT_TRUE(sink_.all().empty());
  EXPECT_EQ(loaded_.unreadable_files, 0U);
  EXPECT_TRUE(skipped("kind `Widget` is not used"));
  EXPECT_TRUE(skipped("template"));
}

TEST_F(LoadTest, BrokenPolicyFileIsAFindingAndTheOthersAreRead) {
  tree_.write("a.yaml",
              "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a\n");
  tree_.write("b.yaml", netpol("b", "x"));
  run();
  EXPECT_EQ(loaded_.unreadable_files, 1U);
  EXPECT_EQ(loaded_.unopened, 0U);
  EXPECT_TRUE(sink_.has_errors());
  EXPECT_EQ(loaded_.policies.size(), 1U);
}

TEST_F(LoadTest, ChartTemplatesAreNamedOnce) {
  tree_.write("chart/Chart.yaml", "name: c\nversion: 1.0.0\n");
  tree_.write("chart/templates/a.yaml",
              "kind: NetworkPolicy\n{{- if .x }}\nb: {{ .c }}\n{{ end }}\n");
  tree_.write("chart/templates/b.yaml",
              "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
              "metadata: {name: \"{{ .Release.Name }}\"}\nspec: {podSelector: {}}\n");
  run();
  EXPECT_EQ(count(DiagCode::HelmTemplate), 1U);
  EXPECT_FALSE(sink_.has_errors());
  EXPECT_TRUE(loaded_.policies.empty());
}

TEST_F(LoadTest, ForeignNetworkPolicyKinds) {
  tree_.write("a.yaml",
              "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: a}\n---\n"
              "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: b}\n---\n"
              "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\n"
              "metadata: {name: c}\n");
  run();
  EXPECT_EQ(count(DiagCode::KindNotModelled), 2U);
  EXPECT_TRUE(loaded_.policies.empty());
}

TEST_F(LoadTest, UnknownVersionsAreRefused) {
  tree_.write("a.yaml",
              "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\n"
              "metadata: {name: a, namespace: x}\nspec: {podSelector: {}}\n");
  run();
  ASSERT_EQ(count(DiagCode::WrongApiVersion), 1U);
  ASSERT_EQ(loaded_.policies.size(), 1U);
  EXPECT_FALSE(loaded_.policies[0].ast.accepted);
  EXPECT_EQ(loaded_.policies[0].ast.layer, Layer::Schema);
}

TEST_F(LoadTest, MissingVersionIsRefusedAndMisspeltKindsAreNamed) {
  tree_.write("a.yaml",
              "kind: CiliumNetworkPolicy\nmetadata: {name: a, namespace: x}\n---\n"
              "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolcy\nmetadata: {name: b}\n---\n"
              "apiVersion: cilium.io/v2\nkind: CiliumNodeConfig\nmetadata: {name: c}\n");
  run();
  EXPECT_EQ(count(DiagCode::WrongApiVersion), 1U);
  EXPECT_EQ(loaded_.policies.size(), 1U);
  ASSERT_EQ(count(DiagCode::MisspeltKind), 1U);
  EXPECT_EQ(sink_.all()[0].fix->edits.at(0).text, "CiliumNetworkPolicy");
}

TEST_F(LoadTest, NamespacesByFlagAndByDefault) {
  tree_.write("a.yaml", netpol("a") + "---\n" + netpol("b", "written"));
  run();
  EXPECT_EQ(policy("a").ns, "default");
  EXPECT_EQ(policy("a").ns_source, NamespaceSource::Defaulted);
  EXPECT_EQ(policy("b").ns, "written");
  EXPECT_EQ(loaded_.defaulted_namespaces, 1U);
  EXPECT_EQ(count(DiagCode::NamespaceDefaulted), 1U);
  options_.default_namespace = "flag";
  sink_ = {};
  run();
  EXPECT_EQ(policy("a").ns, "flag");
  EXPECT_EQ(count(DiagCode::NamespaceDefaulted), 0U);
}

TEST_F(LoadTest, NearestKustomizationGivesTheNamespace) {
  tree_.write("kustomization.yaml", kustomization("namespace: outer\nresources: [app, plain]\n"));
  tree_.write("app/kustomization.yaml", "namespace: inner\nresources: [a.yaml]\n");
  tree_.write("app/a.yaml", netpol("a"));
  tree_.write("plain/kustomization.yaml", kustomization("resources: [deep/b.yaml]\n"));
  tree_.write("plain/deep/b.yaml", netpol("b"));
  run();
  EXPECT_EQ(policy("a").ns, "inner");
  EXPECT_EQ(policy("b").ns, "outer");
  EXPECT_EQ(policy("b").ns_source, NamespaceSource::Kustomization);
  EXPECT_EQ(policy("a").set, policy("b").set);
}

TEST_F(LoadTest, BaseTakesTheNamespaceOnWhichItsUsersAgree) {
  tree_.write("base/kustomization.yaml", kustomization("resources: [a.yaml]\n"));
  tree_.write("base/a.yaml", netpol("a"));
  tree_.write("prod/kustomization.yaml", kustomization("namespace: prod\nresources: [../base]\n"));
  run();
  EXPECT_EQ(policy("a").ns, "prod");
  EXPECT_EQ(policy("a").set, tree_.path("prod"));
  tree_.write("dev/kustomization.yaml", kustomization("namespace: dev\nresources: [../base]\n"));
  run();
  EXPECT_EQ(policy("a").ns_source, NamespaceSource::Defaulted);
  EXPECT_EQ(policy("a").set, tree_.path("base"));
}

TEST_F(LoadTest, FluxKustomizationGivesTheNamespaceOfItsFolder) {
  tree_.write("cluster/ks.yaml",
              "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n"
              "metadata: {name: web}\nspec: {path: ./apps/web, targetNamespace: shop}\n");
  tree_.write("apps/web/a.yaml", netpol("a"));
  tree_.write("apps/other/b.yaml", netpol("b"));
  run();
  EXPECT_EQ(policy("a").ns, "shop");
  EXPECT_EQ(policy("a").ns_source, NamespaceSource::Flux);
  EXPECT_EQ(policy("b").ns, "default");
}

TEST_F(LoadTest, PatchesAreNoObjects) {
  tree_.write("kustomization.yaml",
              kustomization("resources: [a.yaml]\npatches: [{path: p.yaml}]\n"));
  tree_.write("a.yaml", netpol("a", "x"));
  tree_.write("p.yaml", netpol("a", "x"));
  run();
  EXPECT_EQ(loaded_.policies.size(), 1U);
  EXPECT_TRUE(skipped("patch"));
}

TEST_F(LoadTest, SetsByRootByFolderAndAll) {
  tree_.write("dev/kustomization.yaml", kustomization("resources: [a.yaml]\n"));
  tree_.write("dev/a.yaml", netpol("a"));
  tree_.write("prod/kustomization.yaml", kustomization("resources: [b.yaml]\n"));
  tree_.write("prod/b.yaml", netpol("b"));
  tree_.write("c.yaml", netpol("c"));
  run();
  EXPECT_EQ(policy("a").set, tree_.path("dev"));
  EXPECT_EQ(policy("b").set, tree_.path("prod"));
  EXPECT_EQ(policy("c").set, tree_.root());
  options_.sets = LoadOptions::Sets::All;
  run();
  EXPECT_EQ(policy("a").set, "");
  options_.sets = LoadOptions::Sets::Dir;
  run();
  EXPECT_EQ(policy("c").set, tree_.root());
}

TEST_F(LoadTest, KustomizationsInARingEnd) {
  tree_.write("a/kustomization.yaml", kustomization("resources: [../b, x.yaml]\n"));
  tree_.write("b/kustomization.yaml", kustomization("resources: [../a, y.yaml]\n"));
  tree_.write("a/x.yaml", netpol("x"));
  tree_.write("b/y.yaml", netpol("y"));
  run();
  EXPECT_EQ(policy("x").set, policy("y").set);
  EXPECT_EQ(policy("x").ns, "default");
}

TEST_F(LoadTest, SameNameTwiceAreAlternatives) {
  tree_.write("a.yaml", netpol("same", "x"));
  tree_.write("b.yaml", netpol("same", "x"));
  tree_.write("c.yaml", netpol("same", "y"));
  run();
  EXPECT_EQ(loaded_.policies[0].alternatives, (std::vector<std::size_t>{1}));
  EXPECT_EQ(loaded_.policies[1].alternatives, (std::vector<std::size_t>{0}));
  EXPECT_TRUE(loaded_.policies[2].alternatives.empty());
  EXPECT_EQ(count(DiagCode::SameObjectTwice), 1U);
}

TEST_F(LoadTest, CompletenessNeedsAClusterDump) {
  tree_.write("a.yaml",
              "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\n"
              "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: x}\n");
  EXPECT_EQ(run().inventory.completeness, ir::Completeness::Partial);
  tree_.write("a.yaml",
              "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\n"
              "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: x}\n"
              "status: {phase: Running}\n");
  EXPECT_EQ(run().inventory.completeness, ir::Completeness::Complete);
  options_.inventory = LoadOptions::InventoryMode::Partial;
  EXPECT_EQ(run().inventory.completeness, ir::Completeness::Partial);
}

TEST_F(LoadTest, CiliumConfigSetsWhatItNames) {
  tree_.write(
      "a.yaml",
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cilium-config}\n"
      "data: {enable-policy: always, enable-ipv6: \"false\", bpf-policy-map-max: \"100\",\n"
      "  policy-cidr-match-mode: nodes, allow-localhost: policy, enable-sctp: \"maybe\"}\n");
  options_.pin_settings = [](ir::Settings& s) { s.policy_map_max = 7; };
  run();
  ASSERT_TRUE(loaded_.settings.has_value());
  EXPECT_EQ(loaded_.settings->enforcement, ir::Settings::Enforcement::Always);
  EXPECT_FALSE(loaded_.settings->ipv6);
  EXPECT_TRUE(loaded_.settings->ipv4);
  EXPECT_TRUE(loaded_.settings->cidr_match_nodes);
  EXPECT_TRUE(loaded_.settings->allow_localhost_policy);
  EXPECT_EQ(loaded_.settings->policy_map_max, 7U);
  EXPECT_EQ(count(DiagCode::BadSetting), 1U);
}

TEST_F(LoadTest, World) {
  tree_.write("w/cluster.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: x}\n");
  tree_.write("w/policies/a.yaml", netpol("a"));
  tree_.write("w/other.yaml", netpol("not-read"));
  tree_.write("w/config.json", R"({"ipv6": false, "hostFirewall": true, "enforcement": "never",
                                   "allowLocalhost": "policy", "clusterName": "c1"})");
  options_.world = tree_.path("w");
  run();
  EXPECT_EQ(loaded_.policies.size(), 1U);
  EXPECT_EQ(loaded_.inventory.completeness, ir::Completeness::Complete);
  ASSERT_TRUE(loaded_.inventory.fqdn.has_value());
  EXPECT_TRUE(loaded_.inventory.fqdn->empty());
  ASSERT_TRUE(loaded_.settings.has_value());
  EXPECT_TRUE(loaded_.settings->assume_admitted);
  EXPECT_TRUE(loaded_.settings->host_firewall);
  EXPECT_FALSE(loaded_.settings->ipv6);
  EXPECT_EQ(loaded_.settings->enforcement, ir::Settings::Enforcement::Never);
  EXPECT_EQ(loaded_.settings->cluster_name, "c1");
  EXPECT_EQ(loaded_.inventory.pods.at(0).ips.size(), 1U);
  tree_.write("w/fqdn.json", R"({"Example.COM.": ["10.1.1.1", "10.1.1.1"], "b.org": "fd00::1"})");
  run();
  EXPECT_EQ(loaded_.inventory.fqdn->at("example.com").size(), 1U);
  EXPECT_EQ(loaded_.inventory.fqdn->at("b.org").at(0).str(), "fd00::1");
}

TEST_F(LoadTest, BadSideFilesAreCounted) {
  for (const char* text : {"{", "[]", R"({"enforcement": "sometimes"})", R"({"unknown": true})",
                           R"({"ipv4": "yes"})"}) {
    tree_.write("w/cluster.yaml", "");
    tree_.write("w/config.json", text);
    options_.world = tree_.path("w");
    EXPECT_EQ(run().bad_settings, 1U) << text;
  }
}

TEST_F(LoadTest, MissingPathsAreErrors) {
  options_.paths = {tree_.path("nope")};
  run();
  EXPECT_EQ(loaded_.unopened, 1U);
  EXPECT_EQ(count(DiagCode::PathNotFound), 1U);
}

TEST_F(LoadTest, StandardInput) {
  options_.paths = {"-"};
  options_.stdin_text = netpol("a", "x");
  run();
  ASSERT_EQ(loaded_.policies.size(), 1U);
  EXPECT_EQ(loaded_.sources->path(loaded_.policies[0].ast.file), "<stdin>");
}

TEST_F(LoadTest, AllocationsKeepAddresses) {
  tree_.write("a.yaml",
              "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: x}\n---\n"
              "apiVersion: v1\nkind: Pod\nmetadata: {name: q, namespace: x}\n");
  tree_.write("alloc.txt", R"({"version": 1, "addresses": {"x/q": ["198.51.100.1"]}})");
  options_.allocations_file = tree_.path("alloc.txt");
  run();
  EXPECT_EQ(loaded_.inventory.pods.at(1).ips.at(0).str(), "198.51.100.1");
  EXPECT_EQ(loaded_.inventory.pods.at(0).ips.at(0).str(), "198.51.100.2");
}

}  // namespace
}  // namespace policyc::frontend
