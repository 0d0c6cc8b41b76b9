#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "frontend/parse_inventory.h"
#include "ir/base/diag_code.h"

namespace policyc::frontend {
namespace {

class InventoryTest : public ::testing::Test {
 protected:
  void read(const std::string& text, const std::string& ns = "shop") {
    const FileId file = sources_.add("in.yaml", text);
    streams_.push_back(std::make_unique<YamlStream>(read_yaml(sources_, file, sink_)));
    for (const YamlDocument& document : streams_.back()->documents()) {
      const std::string_view kind = document.root->get_text("kind");
      ASSERT_TRUE(is_inventory_kind(document.root->get_text("apiVersion"), kind)) << kind;
      read_inventory_object({document.root, document.root->range},
                            is_cluster_wide_kind(kind) ? "" : ns, "", inventory_, sink_);
    }
  }
  void finish(const std::vector<ir::Prefix>& in_use = {}) {
    finish_inventory(inventory_, settings_, in_use);
  }

  SourceMap sources_;
  DiagnosticSink sink_;
  std::vector<std::unique_ptr<YamlStream>> streams_;
  ir::Inventory inventory_;
  ir::Settings settings_;
};

TEST_F(InventoryTest, Pod) {
  read(R"(apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web, empty: }}
spec:
  serviceAccountName: robot
  nodeName: n1
  hostNetwork: true
  initContainers:
  - {name: once, ports: [{containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{containerPort: 15090, name: metrics}]}
  containers:
  - {name: a, ports: [{containerPort: 80, name: http}, {containerPort: 53, protocol: UDP}]}
  - {name: b, ports: [{containerPort: 80, name: http}]}
status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
)");
  finish();
  ASSERT_EQ(inventory_.pods.size(), 1U);
  const ir::Pod& pod = inventory_.pods[0];
  EXPECT_EQ(pod.full_name(), "shop/web");
  EXPECT_EQ(pod.labels, (ir::StringMap{{"app", "web"}, {"empty", ""}}));
  EXPECT_EQ(pod.service_account, "robot");
  EXPECT_EQ(pod.node, "n1");
  EXPECT_TRUE(pod.host_network);
  EXPECT_FALSE(pod.synthetic_ip);
  ASSERT_EQ(pod.ips.size(), 2U);
  EXPECT_EQ(pod.ips[1].str(), "fd00::1");
  EXPECT_EQ(pod.ports, (std::vector<ir::ContainerPort>{{"http", 80, ir::kProtoTcp},
                                                       {"", 53, ir::kProtoUdp},
                                                       {"metrics", 15090, ir::kProtoTcp}}));
  ASSERT_NE(inventory_.find_namespace("shop"), nullptr);
  EXPECT_EQ(inventory_.find_namespace("shop")->labels.at("kubernetes.io/metadata.name"), "shop");
  EXPECT_TRUE(sink_.all().empty());
}

TEST_F(InventoryTest, ServiceAccountIsNeverDefaulted) {
  read("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n");
  EXPECT_EQ(inventory_.pods.at(0).service_account, "");
}

TEST_F(InventoryTest, EndedPodsAreNoEndpoints) {
  read(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {phase: Succeeded, podIP: "
      "10.0.0.1}\n");
  EXPECT_TRUE(inventory_.pods.empty());
}

TEST_F(InventoryTest, Workloads) {
  for (const char* kind : {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}) {
    read(std::string("apiVersion: apps/v1\nkind: ") + kind +
         "\nmetadata: {name: w}\nspec: {template: {metadata: {labels: {app: w}}, spec: {}}}\n");
  }
  read(
      "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\n"
      "spec: {jobTemplate: {spec: {template: {metadata: {labels: {app: c}}}}}}\n");
  finish();
  ASSERT_EQ(inventory_.pods.size(), 5U);
  EXPECT_EQ(inventory_.pods[0].full_name(), "shop/CronJob/c");
  EXPECT_EQ(inventory_.pods[0].labels.at("app"), "c");
  EXPECT_TRUE(inventory_.find_pod("shop/Deployment/w").has_value());
}

// A ReplicaSet that a Deployment made stands for the Deployment.
TEST_F(InventoryTest, PodsKnowWhoMadeThem) {
  const auto pod = [&](const char* name, const char* labels, const char* owners) {
    read(
        fmt::format("apiVersion: v1\nkind: Pod\nmetadata: {{name: {}, labels: {{{}}}, "
                    "ownerReferences: [{}]}}\nspec: {{}}\n",
                    name, labels, owners));
  };
  pod("a", "pod-template-hash: 7d9f", "{kind: ReplicaSet, name: web-7d9f, controller: true}");
  pod("b", "", "{kind: ReplicaSet, name: web-7d9f, controller: true}");
  pod("c", "", "{kind: Helper, name: x}, {kind: StatefulSet, name: db, controller: true}");
  pod("d", "", "{kind: StatefulSet, name: db}");
  finish();
  std::vector<std::string> owners;
  for (const ir::Pod& p : inventory_.pods) owners.push_back(p.owner);
  EXPECT_EQ(owners, (std::vector<std::string>{"Deployment/web", "ReplicaSet/web-7d9f",
                                              "StatefulSet/db", ""}));
}

TEST_F(InventoryTest, WorkloadWithoutTemplateIsReported) {
  read("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w}\nspec: {}\n");
  ASSERT_EQ(sink_.all().size(), 1U);
  EXPECT_EQ(sink_.all()[0].code, DiagCode::BadInventory);
}

TEST_F(InventoryTest, ServicesAndTheirEndpoints) {
  read(R"(apiVersion: v1
kind: Service
metadata: {name: api}
spec:
  selector: {app: api}
  clusterIP: 10.96.0.9
  clusterIPs: [10.96.0.9, "fd00::9"]
  ports: [{name: http, port: 80, targetPort: web}, {port: 53, protocol: UDP, targetPort: 5353}]
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, type: ClusterIP}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-x1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.2]}
- {addresses: [10.0.0.3], conditions: {ready: false}}
---
apiVersion: v1
kind: Endpoints
metadata: {name: old}
subsets: [{addresses: [{ip: 10.0.0.4}]}]
)");
  finish();
  ASSERT_EQ(inventory_.services.size(), 2U);
  const ir::Service& api = inventory_.services[0];
  EXPECT_EQ(api.cluster_ips.size(), 2U);
  EXPECT_EQ(api.ports.at(0).target_name, "web");
  EXPECT_EQ(api.ports.at(1).target_port, 5353);
  EXPECT_TRUE(inventory_.services[1].cluster_ips.empty());
  EXPECT_TRUE(inventory_.services[1].headless);
  EXPECT_FALSE(api.headless);
  ASSERT_EQ(inventory_.endpoints.size(), 2U);
  EXPECT_EQ(inventory_.endpoints[0].service, "api");
  EXPECT_EQ(inventory_.endpoints[0].addresses.size(), 1U);
  EXPECT_EQ(inventory_.endpoints[1].service, "old");
}

TEST_F(InventoryTest, NodesListInternalAddressesFirst) {
  read(R"(apiVersion: v1
kind: Node
metadata: {name: n1, labels: {zone: a}}
status:
  addresses:
  - {type: ExternalIP, address: 203.0.113.5}
  - {type: Hostname, address: n1}
  - {type: InternalIP, address: 192.168.0.1}
---
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {name: n1, labels: {extra: "1"}}
spec: {addresses: [{type: InternalIP, ip: 192.168.0.1}, {type: CiliumInternalIP, ip: 10.0.0.254}]}
)");
  finish();
  ASSERT_EQ(inventory_.nodes.size(), 1U);
  const ir::Node& node = inventory_.nodes[0];
  ASSERT_EQ(node.addresses.size(), 3U);
  EXPECT_EQ(node.addresses[0].str(), "192.168.0.1");
  EXPECT_EQ(node.addresses[1].str(), "203.0.113.5");
  EXPECT_EQ(node.labels.size(), 2U);
}

TEST_F(InventoryTest, CiliumDump) {
  read(R"(apiVersion: cilium.io/v2
kind: CiliumIdentity
metadata: {name: "4242"}
security-labels: {"k8s:app": web, "k8s:flag": ""}
---
apiVersion: cilium.io/v2
kind: CiliumEndpoint
metadata: {name: web-1}
status:
  identity:
    id: 4242
    labels:
    - k8s:app=web
    - k8s:io.kubernetes.pod.namespace=shop
    - k8s:io.cilium.k8s.namespace.labels.team=red
    - k8s:io.cilium.k8s.policy.serviceaccount=robot
  networking: {addressing: [{ipv4: 10.0.0.7, ipv6: "fd00::7"}]}
  named-ports: [{name: http, port: 8080, protocol: TCP}]
)");
  finish();
  ASSERT_EQ(inventory_.known_identities.size(), 1U);
  EXPECT_EQ(inventory_.known_identities[0].id, 4242U);
  EXPECT_EQ(inventory_.known_identities[0].labels.at(0), "k8s:app=web");
  ASSERT_EQ(inventory_.pods.size(), 1U);
  const ir::Pod& pod = inventory_.pods[0];
  EXPECT_EQ(pod.kind, "Pod");
  EXPECT_EQ(pod.labels, (ir::StringMap{{"app", "web"}}));
  EXPECT_EQ(pod.service_account, "robot");
  EXPECT_EQ(pod.ips.size(), 2U);
  EXPECT_EQ(pod.ports.at(0).port, 8080);
  EXPECT_EQ(inventory_.find_namespace("shop")->labels.at("team"), "red");
}

TEST_F(InventoryTest, EndpointGivesItsPodAnAddress) {
  read("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: a}}\n");
  read(
      "apiVersion: cilium.io/v2\nkind: CiliumEndpoint\nmetadata: {name: a}\n"
      "status: {networking: {addressing: [{ipv4: 10.0.0.8}]}}\n");
  finish();
  ASSERT_EQ(inventory_.pods.size(), 1U);
  EXPECT_EQ(inventory_.pods[0].ips.at(0).str(), "10.0.0.8");
  EXPECT_EQ(inventory_.pods[0].labels.at("app"), "a");
}

TEST_F(InventoryTest, BadValuesAreReportedAndLeftOut) {
  read(R"(apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {containers: [{ports: [{containerPort: 70000}, {containerPort: 80, protocol: tcp}]}]}
status: {podIP: 10.0.0.256}
)");
  EXPECT_EQ(sink_.all().size(), 3U);
  EXPECT_TRUE(inventory_.pods.at(0).ips.empty());
  EXPECT_TRUE(inventory_.pods.at(0).ports.empty());
}

TEST_F(InventoryTest, SyntheticAddressesClashWithNothing) {
  for (int i = 0; i < 600; ++i) {
    read("apiVersion: v1\nkind: Pod\nmetadata: {name: p" + std::to_string(1000 + i) + "}\n");
  }
  read("apiVersion: v1\nkind: Pod\nmetadata: {name: fixed}\nstatus: {podIP: 198.51.100.3}\n");
  inventory_.fqdn = {{"example.com", {*ir::parse_ip("203.0.113.10")}}};
  const auto taken = ir::parse_prefix("198.51.100.128/25");
  finish({*taken, *ir::parse_prefix("0.0.0.0/0"), *ir::parse_prefix("2001:db8::/64")});
  std::set<ir::IpAddress> seen;
  std::size_t synthetic = 0;
  for (const ir::Pod& pod : inventory_.pods) {
    for (const ir::IpAddress& ip : pod.ips) {
      EXPECT_TRUE(seen.insert(ip).second) << ip.str();
      EXPECT_FALSE(taken->contains(ip)) << ip.str();
      EXPECT_NE(ip.str(), "203.0.113.10");
      EXPECT_FALSE(ir::parse_prefix("2001:db8::/64")->contains(ip));
    }
    if (pod.synthetic_ip) {
      ++synthetic;
      EXPECT_EQ(pod.ips.size(), 2U);
    }
  }
  EXPECT_EQ(synthetic, 600U);
  // The first pod after "fixed" by name gets the first free address.
  EXPECT_EQ(inventory_.pods.at(1).ips.at(0).str(), "198.51.100.1");
}

}  // namespace
}  // namespace policyc::frontend
