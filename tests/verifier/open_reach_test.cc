// Claims about every pod that could exist, against the evaluator and pods that come.
#include "verifier/open_reach.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/ir/world_gen.h"

namespace policyc {
namespace {

using testing::Choice;
using testing::label_requirement;

ir::Pod random_pod(const Choice& pick) {
  ir::Pod pod;
  pod.name = "newcomer";
  pod.ns = pick.of<std::string>({"m", "n", "elsewhere", "other"});
  for (const char* key : {"app", "tier", "zone"}) {
    if (pick.flip()) pod.labels[key] = pick.of<std::string>({"a", "b", "c", "d"});
  }
  pod.ips = {*ir::parse_ip("10.99.0.1")};
  return pod;
}

// Label filters that take away what claims and rules go by, and a rule that names a namespace.
void filter_labels(const Choice& pick, ir::World& world) {
  world.settings.label_filter = *ir::parse_label_filter(pick.of<std::string>(
      {"!io.cilium.k8s.namespace.labels.kubernetes.io", "!io.cilium.k8s.namespace.labels",
       "!io.kubernetes.pod.namespace", "!tier", "!io.cilium.k8s.policy.cluster", "k8s:app"}));
  for (ir::Rule& rule : world.policies.rules) {
    for (ir::RuleItem& item : rule.items) {
      if (item.any_peer || pick.flip()) continue;
      ir::Peer peer;
      peer.selector.requirements = {label_requirement(
          "k8s", std::string(ir::kNamespaceLabelsPrefix) + "kubernetes.io/metadata.name",
          ir::Operator::In, {pick.of<std::string>({"m", "other"})})};
      item.peers.push_back(std::move(peer));
    }
  }
}

RC_GTEST_PROP(OpenReach, HoldsForWhoeverComes, ()) {
  const Choice pick;
  ir::World world = testing::random_world(pick);
  if (pick(3) == 0) filter_labels(pick, world);
  RC_PRE(!world.inventory.pods.empty());
  OpenClaim claim;
  claim.from = testing::random_selector(pick);
  const std::string ns = pick.of<std::string>({"m", "n", "elsewhere"});
  claim.from.requirements.push_back(
      label_requirement("k8s", std::string(ir::kNamespaceKey), ir::Operator::Exists, {}));
  if (pick.flip()) {
    claim.from.requirements.push_back(
        label_requirement("k8s", std::string(ir::kNamespaceKey),
                          pick.flip() ? ir::Operator::In : ir::Operator::NotIn, {ns}));
  }
  claim.to = {static_cast<std::size_t>(pick(static_cast<int>(world.inventory.pods.size())))};
  if (world.inventory.pods[claim.to[0]].host_network) return;
  const auto port = pick.of<std::uint16_t>({80, 443, 53, 8080, 9999});
  const auto protocol = pick.of<ir::Protocol>({ir::kProtoTcp, ir::kProtoUdp});
  claim.ports = {{protocol, port, port, ""}};
  const OpenAnswer answer = no_pod_reaches(world, claim);
  RC_TAG(answer.kind == OpenAnswer::Kind::Holds   ? "holds"
         : answer.kind == OpenAnswer::Kind::Fails ? "fails"
                                                  : "unknown: " + answer.why);
  const auto passes = [](const ir::World& w, const ir::Flow& flow) {
    const ir::VerdictKind said = ir::evaluate(w, flow).final;
    return said == ir::VerdictKind::Allow || said == ir::VerdictKind::Redirect;
  };
  if (answer.kind == OpenAnswer::Kind::Fails) {
    RC_ASSERT(passes(answer.world, answer.counterexample));
    const ir::LabelSet who = ir::pod_identity(answer.world.inventory, world.settings,
                                              answer.world.inventory.pods.back());
    RC_ASSERT(claim.from.matches(who));
    RC_ASSERT(answer.counterexample.port == port && answer.counterexample.protocol == protocol);
  }
  if (answer.kind != OpenAnswer::Kind::Holds) return;
  for (int i = 0; i < 30; ++i) {
    ir::World with = world;
    with.inventory.pods.push_back(random_pod(pick));
    const ir::LabelSet who =
        ir::pod_identity(with.inventory, with.settings, with.inventory.pods.back());
    if (!claim.from.matches(who)) continue;
    ir::Flow flow;
    flow.from = ir::PodParty{with.inventory.pods.size() - 1};
    flow.to = ir::PodParty{claim.to[0]};
    flow.protocol = protocol;
    flow.port = port;
    RC_ASSERT(!passes(with, flow));
  }
}

// The same for requests that are not of one method: whoever comes, none of them passes.
RC_GTEST_PROP(OpenReach, NoRequestPassesWhoeverComes, ()) {
  const Choice pick;
  const ir::World world = testing::random_world(pick);
  OpenClaim claim;
  claim.from = testing::random_selector(pick);
  claim.from.requirements.push_back(
      label_requirement("k8s", std::string(ir::kNamespaceKey), ir::Operator::Exists, {}));
  claim.to = {static_cast<std::size_t>(pick(static_cast<int>(world.inventory.pods.size())))};
  const auto port = pick.of<std::uint16_t>({80, 443, 8080});
  claim.ports = {{ir::kProtoTcp, port, port, ""}};
  const std::string spared = pick.of<std::string>({"GET", "POST", "GET|POST"});
  const auto all = RequestLanguage::everything();
  const auto without = RequestLanguage::matching(spared, "", "");
  RC_ASSERT(static_cast<bool>(without));
  auto asked = all.subtract(*without);
  RC_ASSERT(static_cast<bool>(asked));
  claim.requests = std::move(*asked);
  const OpenAnswer answer = no_pod_reaches(world, claim);
  RC_TAG(answer.kind == OpenAnswer::Kind::Holds   ? "holds"
         : answer.kind == OpenAnswer::Kind::Fails ? "fails"
                                                  : "unknown: " + answer.why);
  const auto passes = [](const ir::World& w, const ir::Flow& flow) {
    const ir::VerdictKind said = ir::evaluate(w, flow).final;
    return said == ir::VerdictKind::Allow || said == ir::VerdictKind::Redirect;
  };
  const auto is_spared = [&](const std::string& method) {
    return spared.find(method) != std::string::npos;
  };
  if (answer.kind == OpenAnswer::Kind::Fails) {
    RC_ASSERT(passes(answer.world, answer.counterexample));
    const auto* request = std::get_if<ir::HttpRequest>(&answer.counterexample.l7);
    RC_ASSERT(request != nullptr);
    RC_ASSERT(!is_spared(request->method));
    RC_ASSERT(claim.from.matches(ir::pod_identity(answer.world.inventory, world.settings,
                                                  answer.world.inventory.pods.back())));
  }
  if (answer.kind != OpenAnswer::Kind::Holds) return;
  for (int i = 0; i < 20; ++i) {
    ir::World with = world;
    with.inventory.pods.push_back(random_pod(pick));
    if (!claim.from.matches(
            ir::pod_identity(with.inventory, with.settings, with.inventory.pods.back()))) {
      continue;
    }
    ir::Flow flow;
    flow.from = ir::PodParty{with.inventory.pods.size() - 1};
    flow.to = ir::PodParty{claim.to[0]};
    flow.port = port;
    for (const char* method : {"GET", "POST", "PUT", "M-SEARCH"}) {
      if (is_spared(method)) continue;
      for (const char* path : {"/", "/a/x", "/b", "/b/"}) {
        ir::HttpRequest request;
        request.method = method;
        request.path = path;
        flow.l7 = request;
        RC_ASSERT(!passes(with, flow));
      }
    }
  }
}

}  // namespace
}  // namespace policyc
