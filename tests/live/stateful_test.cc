// Connection tracking by test runs: what passes, and only because of which earlier packets.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <memory>
#include <set>
#include <stdexcept>

#include "backend-bpf/artefact.h"
#include "backend-bpf/image.h"
#include "backend-bpf/kernel.h"
#include "backend-bpf/kernel_maps.h"
#include "backend-bpf/packet.h"
#include "backend-bpf/program.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/input/temp_tree.h"
#include "tests/live/network.h"

namespace policyc::live {
namespace {

using bpf::Packet;

// The pod `me`, whose policy says: it may open TCP 80 and UDP 53 to `peer`, `peer` may open TCP
// 8080 and ping it, and reading on TCP 81 goes through the proxy. Nothing else.
constexpr const char* kWorld = R"(
apiVersion: v1
kind: Namespace
metadata: {name: d}
---
apiVersion: v1
kind: Node
metadata: {name: n}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: me, namespace: d, labels: {app: me}}
spec: {nodeName: n, containers: [{name: c, image: i}]}
status: {podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: 'fd01::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: peer, namespace: d, labels: {app: peer}}
spec: {nodeName: n, containers: [{name: c, image: i}]}
status: {podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.2}, {ip: 'fd01::2'}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: me, namespace: d}
spec:
  endpointSelector: {matchLabels: {app: me}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: peer}}]
    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
  - fromEndpoints: [{matchLabels: {app: peer}}]
    icmps: [{fields: [{type: 8}]}]
  egress:
  - toEndpoints: [{matchLabels: {app: peer}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}, {port: '53', protocol: UDP}]}]
  - toEndpoints: [{matchLabels: {app: peer}}]
    toPorts: [{ports: [{port: '81', protocol: TCP}], rules: {http: [{method: GET}]}}]
)";

enum class Way { In, Out };

// The programs of `me`, with maps of their own.
class Me {
 public:
  explicit Me(bool stateful) {
    const std::string name = stateful ? "stateful" : "stateless";
    static const test::TempTree files;
    files.write("in/world.yaml", kWorld);
    std::string said;
    const int code = shell(
        fmt::format("{}/policyc compile -q {} -o {} {}", POLICYC_BINARY_DIR,
                    stateful ? "--stateful --no-verify" : "", files.path(name), files.path("in")),
        &said);
    EXPECT_EQ(code, 0) << said;
    const auto manifest = bpf::read_manifest(files.path(name));
    EXPECT_TRUE(manifest);
    for (const bpf::ManifestEndpoint& e : manifest->endpoints) {
      if (e.names.empty() || e.names.front() != "d/me") continue;
      const auto read = [&](const std::string& path) {
        return *bpf::read_artefact(files.path(name + "/" + path));
      };
      const auto identities = *bpf::read_identity_image(read(e.identities));
      const auto classes = *bpf::read_class_image(read(e.classes));
      const auto policy = *bpf::read_policy_image(read(e.image));
      auto object = bpf::LoadedObject::load(
          read(e.object), {{bpf::kNodeMap, node_value(identities, classes, e.sizes, {15001, true})},
                           {bpf::kPolicyMap, policy_value(policy, classes, e.slot, e.sizes)}});
      EXPECT_TRUE(object) << object.error();
      object_ = std::make_unique<bpf::LoadedObject>(std::move(*object));
    }
  }

  bpf::KernelRun run(Way way, const std::vector<std::uint8_t>& frame) const {
    const auto run =
        object_->run(way == Way::In ? bpf::kIngressProgram : bpf::kEgressProgram, frame);
    EXPECT_TRUE(run) << run.error();
    return *run;
  }
  bool passes(Way way, const std::vector<std::uint8_t>& frame) const {
    return run(way, frame).return_code == 0;
  }
  bool passes(Way way, const Packet& packet) const { return passes(way, build_frame(packet)); }
  std::uint32_t drop_reason(Way way, const std::vector<std::uint8_t>& frame) const {
    return run(way, frame).cb[bpf::kCbDrop];
  }
  // Empties the table of flows.
  void forget() const {
    auto flows = bpf::KernelMap::of_descriptor(object_->map_descriptor("flows"));
    if (!flows) throw std::runtime_error(flows.error());
    const auto all = flows->dump();
    if (!all || !flows->remove(*all)) throw std::runtime_error("the flows stay");
  }

 private:
  std::unique_ptr<bpf::LoadedObject> object_;
};

Packet packet(Way way, ir::Protocol protocol, std::uint16_t mine, std::uint16_t theirs,
              std::uint8_t flags = bpf::kAck, bool v6 = false) {
  const ir::IpAddress me = *ir::parse_ip(v6 ? "fd01::1" : "10.1.0.1");
  const ir::IpAddress peer = *ir::parse_ip(v6 ? "fd01::2" : "10.1.0.2");
  Packet p;
  p.protocol = protocol;
  p.from = way == Way::In ? peer : me;
  p.to = way == Way::In ? me : peer;
  p.source_port = way == Way::In ? theirs : mine;
  p.destination_port = way == Way::In ? mine : theirs;
  p.tcp_flags = flags;
  return p;
}

TEST(Stateful, RepliesPassAndNothingElse) {
  POLICYC_NEEDS_BPF();
  const Me me(true);
  for (const bool v6 : {false, true}) {
    const auto tcp = [&](Way way, std::uint16_t mine, std::uint16_t theirs, std::uint8_t flags) {
      return packet(way, ir::kProtoTcp, mine, theirs, flags, v6);
    };
    constexpr std::uint8_t kSynAck = bpf::kSyn | bpf::kAck;
    EXPECT_FALSE(me.passes(Way::In, tcp(Way::In, 4000, 80, kSynAck))) << "nobody asked";
    EXPECT_TRUE(me.passes(Way::Out, tcp(Way::Out, 4000, 80, bpf::kSyn)));
    EXPECT_TRUE(me.passes(Way::In, tcp(Way::In, 4000, 80, kSynAck)));
    EXPECT_FALSE(me.passes(Way::In, tcp(Way::In, 4001, 80, kSynAck))) << "another port";
    EXPECT_FALSE(me.passes(Way::In, tcp(Way::In, 4000, 80, bpf::kSyn))) << "opens, not answers";
    EXPECT_FALSE(me.passes(Way::Out, tcp(Way::Out, 4000, 82, bpf::kSyn)));
    EXPECT_FALSE(me.passes(Way::In, tcp(Way::In, 4000, 82, kSynAck))) << "was never let out";
    // What comes in first has its replies too, although egress allows no such port.
    EXPECT_FALSE(me.passes(Way::Out, tcp(Way::Out, 8080, 4000, kSynAck)));
    EXPECT_TRUE(me.passes(Way::In, tcp(Way::In, 8080, 4000, bpf::kSyn)));
    EXPECT_TRUE(me.passes(Way::Out, tcp(Way::Out, 8080, 4000, kSynAck)));
  }
}

TEST(Stateful, ProxiedFlowsGoBackThroughTheProxy) {
  POLICYC_NEEDS_BPF();
  const Me me(true);
  const auto out =
      me.run(Way::Out, build_frame(packet(Way::Out, ir::kProtoTcp, 4000, 81, bpf::kSyn)));
  EXPECT_EQ(out.mark, 0x0200U | 0x993AU << 16U);
  const auto back = me.run(Way::In, build_frame(packet(Way::In, ir::kProtoTcp, 4000, 81)));
  EXPECT_EQ(back.return_code, 0U);
  EXPECT_EQ(back.mark, out.mark);
}

// An ICMP error from a router about `lost`, for whom sent it.
std::vector<std::uint8_t> icmp_error(const Packet& lost, std::uint8_t type, std::uint8_t code) {
  const auto quoted = build_frame(lost);
  Packet p;
  const bool v6 = lost.from.family == ir::Family::V6;
  p.protocol = v6 ? ir::kProtoIcmp6 : ir::kProtoIcmp;
  p.from = *ir::parse_ip(v6 ? "fd99::1" : "192.0.2.1");
  p.to = lost.from;
  p.icmp_type = type;
  p.icmp_code = code;
  p.payload.assign(quoted.begin() + 14, quoted.end());
  return build_frame(p);
}

TEST(Stateful, ErrorsAboutTrackedFlowsPass) {
  POLICYC_NEEDS_BPF();
  const Me me(true);
  for (const bool v6 : {false, true}) {
    const std::uint8_t unreachable = v6 ? 1 : 3;
    const Packet lost = packet(Way::Out, ir::kProtoUdp, 4000, 53, 0, v6);
    EXPECT_FALSE(me.passes(Way::In, icmp_error(lost, unreachable, 1))) << "of no flow";
    EXPECT_TRUE(me.passes(Way::Out, lost));
    EXPECT_TRUE(me.passes(Way::In, icmp_error(lost, unreachable, 1)));
    Packet other = lost;
    other.source_port = 4001;
    EXPECT_FALSE(me.passes(Way::In, icmp_error(other, unreachable, 1))) << "of another flow";
    EXPECT_FALSE(me.passes(Way::In, icmp_error(lost, v6 ? 137 : 5, 1))) << "a redirect is no error";
  }
}

TEST(Stateful, EchoRepliesPass) {
  POLICYC_NEEDS_BPF();
  const Me me(true);
  const auto echo = [](Way way, std::uint8_t type, std::uint16_t id) {
    Packet p = packet(way, ir::kProtoIcmp, 0, 0);
    p.icmp_type = type;
    p.icmp_id = id;
    return p;
  };
  EXPECT_FALSE(me.passes(Way::Out, echo(Way::Out, 0, 7)));
  EXPECT_TRUE(me.passes(Way::In, echo(Way::In, 8, 7)));
  EXPECT_TRUE(me.passes(Way::Out, echo(Way::Out, 0, 7)));
  EXPECT_FALSE(me.passes(Way::Out, echo(Way::Out, 0, 8))) << "another identifier";
  EXPECT_FALSE(me.passes(Way::Out, echo(Way::Out, 8, 7))) << "a request";
}

TEST(Stateful, LaterFragmentsFareAsTheFirst) {
  POLICYC_NEEDS_BPF();
  const Me me(true);
  const auto part = [](std::uint16_t theirs, std::uint8_t id, bool later) {
    auto frame = build_frame(packet(Way::Out, ir::kProtoUdp, 4000, theirs));
    frame[18] = 0;
    frame[19] = id;
    frame[20] = later ? 0 : 0x20;  // more fragments
    frame[21] = later ? 100 : 0;   // offset
    return frame;
  };
  EXPECT_EQ(me.drop_reason(Way::Out, part(53, 1, true)), bpf::kDropFragmentNotFound);
  EXPECT_TRUE(me.passes(Way::Out, part(53, 1, false)));
  // Ports of a later fragment are whatever stands in its data.
  EXPECT_TRUE(me.passes(Way::Out, part(9, 1, true)));
  EXPECT_FALSE(me.passes(Way::Out, part(54, 2, false)));
  EXPECT_EQ(me.drop_reason(Way::Out, part(53, 2, true)), bpf::kDropPolicy);
}

// A random conversation: what the shell lets pass is what the core allows, or the answer to
// something that passed before; nothing more, nothing less.
RC_GTEST_PROP(StatefulProperty, PassesWhatTheCoreAllowsAndItsReplies, ()) {
  if (!testing::missing_for_kernel_tests().empty()) {
    if (testing::bpf_required()) RC_FAIL(testing::missing_for_kernel_tests());
    return;
  }
  static const Me shell(true);
  static const Me core(false);
  shell.forget();
  std::set<std::tuple<Way, ir::Protocol, std::uint16_t, std::uint16_t, bool>> flows;
  const int count = *rc::gen::inRange(1, 60);
  for (int i = 0; i < count; ++i) {
    const Way way = *rc::gen::element(Way::In, Way::Out);
    const auto protocol = *rc::gen::element(ir::kProtoTcp, ir::kProtoUdp, ir::kProtoSctp);
    const auto mine = *rc::gen::element<std::uint16_t>(80, 8080, 4000, 53);
    const auto theirs = *rc::gen::element<std::uint16_t>(80, 53, 4000, 81);
    const auto flags = *rc::gen::element<std::uint8_t>(bpf::kSyn, bpf::kSyn | bpf::kAck, bpf::kAck,
                                                       bpf::kFin | bpf::kAck, bpf::kRst);
    const bool v6 = *rc::gen::arbitrary<bool>();
    const Packet p = packet(way, protocol, mine, theirs, flags, v6);
    const bool opens = protocol == ir::kProtoTcp && flags == bpf::kSyn;
    const Way other = way == Way::In ? Way::Out : Way::In;
    const bool reply = !opens && flows.count({other, protocol, mine, theirs, v6}) != 0;
    const bool allowed = core.passes(way, p);
    RC_ASSERT(shell.passes(way, p) == (allowed || reply));
    if (allowed && !reply) flows.insert({way, protocol, mine, theirs, v6});
  }
}

}  // namespace
}  // namespace policyc::live
