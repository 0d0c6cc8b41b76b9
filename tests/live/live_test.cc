// The whole road on live traffic: compile, load, packets between network namespaces.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "backend-bpf/kernel.h"
#include "backend-bpf/kernel_attach.h"
#include "backend-bpf/loader.h"
#include "backend-bpf/packet.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/input/temp_tree.h"
#include "tests/live/network.h"

namespace policyc::live {
namespace {

using testing::bpf_required;

#define POLICYC_NEEDS_NETWORK()                                 \
  POLICYC_NEEDS_BPF();                                          \
  if (const std::string why = Network::enter(); !why.empty()) { \
    if (bpf_required()) FAIL() << why;                          \
    GTEST_SKIP() << "skipped: " << why;                         \
  }                                                             \
  static_assert(true, "takes the semicolon")

constexpr int kRefused = 150;  // milliseconds without an answer
constexpr int kPatience = 3000;

const Pod kFrontend = {"shop/frontend", "10.9.0.1", "fd09::1"};
const Pod kOther = {"shop/other", "10.9.0.2", "fd09::2"};
const Pod kBackend = {"shop/backend", "10.9.0.3", "fd09::3"};

std::string cluster() {
  std::string out =
      "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n"
      "apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n"
      "status: {addresses: [{type: InternalIP, address: 169.254.1.1}]}\n";
  for (const Pod* pod : {&kFrontend, &kOther, &kBackend}) {
    out += fmt::format(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {0}, namespace: shop, labels: {{app: "
        "{0}}}}}\nspec: {{nodeName: node-1, containers: [{{name: c, image: i}}]}}\n"
        "status: {{podIP: {1}, podIPs: [{{ip: {1}}}, {{ip: '{2}'}}]}}\n",
        pod->name.substr(5), pod->v4, pod->v6);
  }
  return out;
}

std::string policy(const std::string& spec) {
  return "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
         "metadata: {name: backend, namespace: shop}\nspec:\n"
         "  endpointSelector: {matchLabels: {app: backend}}\n" +
         spec;
}

std::string allow(const std::string& from, const std::string& rest) {
  return fmt::format("  - fromEndpoints: [{{matchLabels: {{app: {}}}}}]\n{}", from, rest);
}

// The frontend may use port 8080, read (and only read) on port 8081, and ping; nobody else may do
// anything.
std::string first_policy() {
  return policy("  ingress:\n" +
                allow("frontend", "    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]\n") +
                allow("frontend",
                      "    toPorts: [{ports: [{port: '8081', protocol: TCP}], "
                      "rules: {http: [{method: GET}]}}]\n") +
                allow("frontend", "    icmps: [{fields: [{type: 8}]}]\n"));
}

// The frontend keeps port 8080 and loses ping; the other pod comes in on 8082.
std::string second_policy() {
  return policy("  ingress:\n" +
                allow("frontend",
                      "    toPorts: [{ports: [{port: '8080', protocol: TCP}, {port: '8080', "
                      "protocol: UDP}]}]\n") +
                allow("other", "    toPorts: [{ports: [{port: '8082', protocol: TCP}]}]\n"));
}

class Live : public ::testing::Test {
 protected:
  // Compiles into DIR `name`.
  void compile(const std::string& name, const std::string& text, const std::string& flags = "") {
    files_.write(name + "-in/cluster.yaml", cluster());
    files_.write(name + "-in/policy.yaml", text);
    run(fmt::format("compile -q -o {} {} {}", files_.path(name), flags, files_.path(name + "-in")));
  }
  // Runs policyc; gives what it printed.
  std::string run(const std::string& arguments, int exit = 0) {
    std::string said;
    const int code = shell(fmt::format("{}/policyc {}", POLICYC_BINARY_DIR, arguments), &said);
    EXPECT_EQ(code, exit) << arguments << "\n" << said;
    return said;
  }
  std::string load(const std::string& name, const std::string& flags = "") {
    return run(fmt::format("load {} --pin {} {}", files_.path(name), Network::pins(), flags));
  }
  void make_network() {
    network_ = std::make_unique<Network>();
    network_->add(kFrontend, "front");
    network_->add(kOther, "other");
    network_->add(kBackend, "back");
    network_->inside(kBackend.name, [&] {
      for (const int port : {8080, 8081, 8082}) {
        servers_.push_back(std::make_unique<HttpServer>(port));
      }
    });
  }
  bool answered(const Pod& from, int port, bool v6 = false, const char* method = "GET") {
    std::string answer;
    network_->inside(from.name, [&] {
      answer = http(v6 ? kBackend.v6 : kBackend.v4, port,
                    fmt::format("{} / HTTP/1.1\r\nHost: b\r\n\r\n", method), wait_);
    });
    return answer.starts_with("HTTP/1.1 200");
  }
  bool pings(const Pod& from) {
    bool came = false;
    network_->inside(from.name, [&] {
      const int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
      sockaddr_in to{};
      to.sin_family = AF_INET;
      inet_pton(AF_INET, kBackend.v4.c_str(), &to.sin_addr);
      const std::uint8_t echo[8] = {8, 0, 0xf7, 0xfd, 0, 1, 0, 1};
      sendto(fd, echo, sizeof echo, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
      timeval patience{0, wait_ * 1000};
      if (wait_ >= 1000) patience = {wait_ / 1000, 0};
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      std::uint8_t bytes[64];
      const ssize_t n = recv(fd, bytes, sizeof bytes, 0);
      came = n >= 28 && bytes[20] == 0;
      close(fd);
    });
    return came;
  }
  // Sends one datagram to the backend, which waits for it.
  bool datagram_arrives(const Pod& from, bool v6, int port, std::size_t size) {
    Datagrams receiver;
    network_->inside(kBackend.name, [&] { receiver.open(port); });
    network_->inside(from.name, [&] { send_datagram(v6 ? kBackend.v6 : kBackend.v4, port, size); });
    return receiver.receive(wait_) == size;
  }
  void expect(bool wanted, const char* what, const std::function<bool()>& happens) {
    wait_ = wanted ? kPatience : kRefused;
    EXPECT_EQ(happens(), wanted) << what;
  }
  void first_policy_holds() {
    expect(true, "8080", [&] { return answered(kFrontend, 8080); });
    expect(true, "8080 over IPv6", [&] { return answered(kFrontend, 8080, true); });
    expect(false, "GET with no proxy to read it", [&] { return answered(kFrontend, 8081); });
    expect(false, "a port that is not listed", [&] { return answered(kFrontend, 8082); });
    expect(false, "the same over IPv6", [&] { return answered(kFrontend, 8082, true); });
    expect(false, "a pod that is not listed", [&] { return answered(kOther, 8080); });
    expect(true, "ping", [&] { return pings(kFrontend); });
    expect(false, "ping of the other pod", [&] { return pings(kOther); });
  }

  test::TempTree files_;
  std::unique_ptr<Network> network_;
  std::vector<std::unique_ptr<HttpServer>> servers_;
  int wait_ = kPatience;

  void TearDown() override {
    servers_.clear();
    if (!Network::pins().empty()) run("unload --all -q --pin " + Network::pins());
  }
};

TEST_F(Live, PolicyHoldsAtEveryKindOfHook) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  compile("a", first_policy());
  expect(true, "nothing is loaded", [&] { return answered(kOther, 8082); });
  for (const char* way : {"--dev back --attach tc", "--dev back --attach auto"}) {
    load("a", std::string("--endpoint shop/backend ") + way);
    SCOPED_TRACE(way);
    first_policy_holds();
    run("unload --endpoint shop/backend -q --pin " + Network::pins());
    expect(true, "unloaded", [&] { return answered(kOther, 8082); });
    EXPECT_FALSE(std::filesystem::exists(Network::pins()));
  }
  load("a", fmt::format("--endpoint backend --dev eth0 --side pod --netns {}",
                        network_->path(kBackend.name)));
  first_policy_holds();
}

TEST_F(Live, UpdateChangesVerdictsAndLosesNothing) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  compile("a", first_policy());
  compile("b", second_policy());
  load("a", "--endpoint shop/backend --dev back");
  load("a", "--endpoint shop/frontend --dev front");
  // Allowed by both policies: connections go on while the policy changes.
  std::atomic<bool> stop = false;
  std::atomic<int> lost = 0, served = 0;
  std::thread traffic([&] {
    network_->inside(kFrontend.name, [&] {
      while (!stop) {
        const std::string answer =
            http(kBackend.v4, 8080, "GET / HTTP/1.1\r\nHost: b\r\n\r\n", kPatience);
        ++(answer.starts_with("HTTP/1.1 200") ? served : lost);
      }
    });
  });
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(load("b"),
              "shop/backend on back: switched to new tables\n"
              "shop/frontend on front: switched to new tables\n");
    expect(true, "new in B", [&] { return answered(kOther, 8082); });
    expect(false, "not in B", [&] { return pings(kFrontend); });
    load("a");
    expect(false, "not in A", [&] { return answered(kOther, 8082); });
    expect(true, "in A", [&] { return pings(kFrontend); });
  }
  stop = true;
  traffic.join();
  EXPECT_EQ(lost, 0);
  EXPECT_GT(served, 20);
}

// Two policies that say of one packet: A passes, B hands to the proxy. Whatever is put together
// from halves of both drops it: the row of decisions that one policy's classes lead to is another
// row in the other, and all other rows are empty.
TEST_F(Live, NoPacketIsJudgedByAMixture) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  compile("a", policy("  ingress:\n" + allow("frontend",
                                             "    toPorts: [{ports: [{port: '8080', "
                                             "protocol: TCP}]}]\n")));
  // In B a rule for the backend, whose identity comes first, takes the class that is the
  // frontend's in A.
  compile("b", policy("  ingress:\n" +
                      allow("backend", "    toPorts: [{ports: [{port: '1', protocol: TCP}]}]\n") +
                      allow("frontend",
                            "    toPorts: [{ports: [{port: '8080', protocol: TCP}], "
                            "rules: {http: [{method: GET}]}}]\n")));
  const std::string flags = "--endpoint shop/backend --dev back --proxy-port 15001";
  load("a", flags);
  bpf::Packet packet;
  packet.from = *ir::parse_ip(kFrontend.v4);
  packet.to = *ir::parse_ip(kBackend.v4);
  packet.source_port = 4000;
  packet.destination_port = 8080;
  packet.tcp_flags = bpf::kSyn;
  const auto frame = bpf::build_frame(packet);
  const auto program = bpf::open_pin(Network::pins() + "/node-1/shop_backend/ingress");
  ASSERT_TRUE(program) << program.error();
  std::atomic<bool> stop = false;
  std::atomic<int> passed = 0, redirected = 0, mixed = 0;
  const auto judge = [&] {
    while (!stop) {
      const auto run = bpf::run_program(program->get(), frame);
      if (!run) continue;
      if (run->return_code != 0) {
        ++mixed;
      } else {
        ++(run->mark == 0 ? passed : redirected);
      }
    }
  };
  std::thread one(judge), two(judge);
  bpf::LoadRequest request;
  request.pins = Network::pins();
  request.proxy_port = 15001;
  constexpr int kFlips = 60;
  for (int flip = 0; flip < kFlips; ++flip) {
    request.directory = files_.path(flip % 2 == 0 ? "b" : "a");
    const auto done = bpf::load(request);
    ASSERT_TRUE(done) << done.error();
    ASSERT_EQ(done->front().change, bpf::LoadChange::Switched);
  }
  stop = true;
  one.join();
  two.join();
  EXPECT_EQ(mixed, 0);
  EXPECT_GT(passed, kFlips);
  EXPECT_GT(redirected, kFlips);

  // Mixtures do drop it: at rest both halves are equal, so these are whole maps of one policy each.
  const std::string folder = Network::pins() + "/node-1/";
  const auto node_pin = bpf::open_pin(folder + "node");
  const auto policy_pin = bpf::open_pin(folder + "shop_backend/policy");
  ASSERT_TRUE(node_pin && policy_pin);
  const auto node = bpf::MappedValue::open(node_pin->get());
  const auto policy = bpf::MappedValue::open(policy_pin->get());
  ASSERT_TRUE(node && policy);
  const auto bytes = [](const bpf::MappedValue& m) {
    return std::vector<std::uint8_t>(m.data(), m.data() + m.size());
  };
  const auto node_a = bytes(*node), policy_a = bytes(*policy);
  load("b", "--proxy-port 15001");
  const auto node_b = bytes(*node), policy_b = bytes(*policy);
  std::copy(node_a.begin(), node_a.end(), node->data());
  auto run = bpf::run_program(program->get(), frame);
  ASSERT_TRUE(run);
  EXPECT_EQ(run->return_code, 2U) << "A's addresses with B's decisions";
  std::copy(node_b.begin(), node_b.end(), node->data());
  std::copy(policy_a.begin(), policy_a.end(), policy->data());
  run = bpf::run_program(program->get(), frame);
  ASSERT_TRUE(run);
  EXPECT_EQ(run->return_code, 2U) << "B's addresses with A's decisions";
}

// The program itself reads requests. Where egress of the server is isolated too, answers pass only
// with connection tracking.
TEST_F(Live, TheProgramRefusesRequests) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  const std::string isolated = first_policy() + "  egress: [{}]\n";
  compile("open", first_policy(), "--l7 kernel");
  compile("tracked", isolated, "--l7 kernel --stateful");
  compile("untracked", isolated, "--l7 kernel");
  for (const char* name : {"open", "tracked"}) {
    SCOPED_TRACE(name);
    load(name, "--endpoint shop/backend --dev back");
    for (const bool v6 : {false, true}) {
      expect(true, "GET", [&] { return answered(kFrontend, 8081, v6, "GET"); });
      expect(false, "POST", [&] { return answered(kFrontend, 8081, v6, "POST"); });
      expect(false, "GET of another pod", [&] { return answered(kOther, 8081, v6, "GET"); });
      expect(true, "POST where nobody reads",
             [&] { return answered(kFrontend, 8080, v6, "POST"); });
    }
    run("unload --all -q --pin " + Network::pins());
  }
  load("untracked", "--endpoint shop/backend --dev back");
  expect(false, "no answer gets out", [&] { return answered(kFrontend, 8081); });
}

TEST_F(Live, TrackedRepliesPass) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  const std::string isolated = first_policy() + "  egress: [{}]\n";
  compile("a", isolated, "--stateful --no-verify");
  load("a", "--endpoint shop/backend --dev back");
  first_policy_holds();
  // The same flows go on when the tables change, and end with the rule that let them in.
  compile("b", second_policy() + "  egress: [{}]\n", "--stateful --no-verify");
  EXPECT_EQ(load("b"), "shop/backend on back: switched to new tables\n");
  expect(true, "8080", [&] { return answered(kFrontend, 8080); });
  expect(true, "8082, new", [&] { return answered(kOther, 8082); });
  expect(false, "ping, no more", [&] { return pings(kFrontend); });
}

// What cannot be helped is told, and keeps nobody else from the new policies.
TEST_F(Live, AVanishedDeviceIsToldAndTheOthersChange) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  compile("a", first_policy());
  compile("b", second_policy());
  compile("tracked", second_policy(), "--stateful --no-verify");
  load("a", "--endpoint shop/frontend --dev front");
  load("a", "--endpoint shop/other --dev other --attach tc");
  load("a", "--endpoint shop/backend --dev back");
  ASSERT_EQ(shell("ip link delete front && ip link delete other"), 0);
  const std::string pins = " --pin " + Network::pins();
  const std::string gone =
      "policyc: shop/frontend on front: its device is gone; unload removes what is left of it\n"
      "policyc: shop/other on other: its device is gone; unload removes what is left of it\n";
  // New tables, and new programs.
  EXPECT_EQ(run("load " + files_.path("b") + pins, 1),
            gone + "shop/backend on back: switched to new tables\n");
  EXPECT_EQ(run("load " + files_.path("tracked") + pins, 1),
            gone + "shop/backend on back: replaced by a new program\n");
  EXPECT_NE(run("status" + pins, 1).find("its device is gone"), std::string::npos);
  // A new device of that name is for the user to give.
  ASSERT_EQ(shell("ip link add front type veth peer name front-peer"), 0);
  EXPECT_NE(run("load " + files_.path("b") + pins, 1)
                .find("its device is gone, what is called front now is another one"),
            std::string::npos);
  EXPECT_EQ(run("load " + files_.path("b") + pins + " --endpoint shop/frontend --dev front", 1),
            "policyc: shop/other on other: its device is gone; unload removes what is left of it\n"
            "shop/backend on back: unchanged\nshop/frontend on front: loaded\n");
  EXPECT_EQ(run("unload --endpoint shop/other" + pins), "shop/other: unloaded\n");
  EXPECT_EQ(load("b"), "shop/backend on back: unchanged\nshop/frontend on front: unchanged\n");
  run("unload --all -q" + pins);
  EXPECT_FALSE(std::filesystem::exists(Network::pins()));
  shell("ip link delete front");
}

// Whoever may not look into a network namespace does not take it for gone.
TEST_F(Live, ANamespaceThatMayNotBeEnteredIsNotGone) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  compile("a", first_policy());
  compile("b", second_policy());
  const std::string pins = " --pin " + Network::pins();
  files_.write("netns", "");
  const std::string netns = files_.path("netns");
  ASSERT_EQ(shell(fmt::format("mount --bind {} {}", network_->path(kBackend.name), netns)), 0);
  const auto attached = [&] {
    std::string said;
    network_->inside(kBackend.name, [&] { shell("tc filter show dev eth0 ingress", &said); });
    return said.find("bpf") != std::string::npos;
  };
  load("a", "--endpoint backend --dev eth0 --side pod --attach tc --netns " + netns);
  ASSERT_TRUE(attached());
  const std::string before = run("status" + pins);
  // Programs that this thread starts cannot have the capability.
  std::thread([&] {
    ASSERT_EQ(prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0), 0);
    const std::string why = fmt::format(
        "network namespace {}: not permitted: run as root, or with CAP_SYS_ADMIN\n", netns);
    const std::string status = run("status" + pins, 3);
    EXPECT_NE(status.find("problem     " + why), std::string::npos) << status;
    EXPECT_NE(run("status --format json" + pins, 3).find("\"attached\": null"), std::string::npos);
    EXPECT_EQ(run("load " + files_.path("b") + pins, 3), "policyc: shop/backend on eth0: " + why);
    EXPECT_EQ(run("unload --all" + pins, 3), "policyc: shop/backend: " + why);
  }).join();
  EXPECT_TRUE(attached());
  EXPECT_EQ(run("status" + pins), before);
  EXPECT_EQ(run("unload --all" + pins), "shop/backend: unloaded\n");
  EXPECT_FALSE(attached());
  load("a", "--endpoint backend --dev eth0 --side pod --attach tc --netns " + netns);
  ASSERT_EQ(shell(fmt::format("umount {0} && rm {0}", netns)), 0);
  EXPECT_NE(run("status" + pins, 1).find("its network namespace is gone"), std::string::npos);
  EXPECT_EQ(run("unload --all" + pins), "shop/backend: unloaded\n");
}

// Of several failures the gravest gives the exit code, wherever it stands in the list.
TEST_F(Live, UnloadEndsWithTheGravestFailure) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  compile("a", first_policy());
  for (const Pod* pod : {&kBackend, &kFrontend}) {
    const std::string name = pod->name.substr(5);
    files_.write(name, "");
    ASSERT_EQ(
        shell(fmt::format("mount --bind {} {}", network_->path(pod->name), files_.path(name))), 0);
    load("a", fmt::format("--endpoint {} --dev eth0 --side pod --attach tc --netns {}", name,
                          files_.path(name)));
  }
  // What stands there now is a file, and no namespace: exit code 2 alone.
  ASSERT_EQ(shell("umount " + files_.path("frontend")), 0);
  const std::string unload = "unload --all --pin " + Network::pins();
  std::thread([&] {
    ASSERT_EQ(prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0), 0);
    const std::string said = run(unload, 3);
    EXPECT_LT(said.find("shop/backend: network namespace"), said.find("shop/frontend: network"));
    EXPECT_NE(said.find("Invalid argument"), std::string::npos) << said;
  }).join();
  EXPECT_NE(run(unload, 2).find("shop/backend: unloaded"), std::string::npos);
  ASSERT_EQ(
      shell(fmt::format("umount {0}; rm {0} {1}", files_.path("backend"), files_.path("frontend"))),
      0);
  EXPECT_EQ(run(unload), "shop/frontend: unloaded\n");
}

TEST_F(Live, AProgramThatWasTakenOffIsPutThereAgain) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  compile("a", first_policy());
  compile("b", second_policy());
  for (const char* name : {"a", "b"}) {
    SCOPED_TRACE(name);
    load("a", "--endpoint shop/backend --dev back --attach tc");
    ASSERT_EQ(shell("tc qdisc delete dev back clsact"), 0);
    expect(true, "nothing keeps the other pod out", [&] { return answered(kOther, 8081); });
    EXPECT_NE(run("status --pin " + Network::pins(), 1).find("its program was taken off"),
              std::string::npos);
    EXPECT_EQ(load(name), "shop/backend on back: loaded\n");
    expect(false, "no policy lets it in", [&] { return answered(kOther, 8081); });
    run("status --pin " + Network::pins());
    run("unload --all -q --pin " + Network::pins());
  }
}

// A load that is refused half-way: what was there goes on, what is new leaves nothing.
TEST_F(Live, AFailedLoadChangesNothing) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  compile("a", first_policy());
  const std::string pins = " --pin " + Network::pins();
  // Stands where clsact would, and has no hook for what the device sends.
  ASSERT_EQ(shell("tc qdisc add dev back ingress"), 0);
  const std::string said =
      run("load " + files_.path("a") + pins + " --endpoint shop/backend --dev back --attach tc", 3);
  EXPECT_NE(said.find("policyc: shop/backend on back: another qdisc"), std::string::npos) << said;
  EXPECT_EQ(run("status" + pins), "nothing is loaded\n");
  expect(true, "nothing is loaded", [&] { return answered(kOther, 8082); });
}

TEST_F(Live, PinsNeedABpfFileSystem) {
  POLICYC_NEEDS_NETWORK();
  compile("a", first_policy());
  const std::string pins = " --pin " + files_.path("pins");
  for (const std::string& command :
       {"load " + files_.path("a") + " --endpoint shop/backend --dev lo", std::string("status"),
        std::string("unload --all")}) {
    EXPECT_NE(run(command + pins, 3).find("mount -t bpf bpf /sys/fs/bpf"), std::string::npos);
  }
}

// A datagram of three fragments. Alone, a later fragment shows no port, and only a rule for all
// ports would let it pass; tracked, it fares as the first.
TEST_F(Live, FragmentsFareAsTheFirstOnlyWhereTheyAreTracked) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  const std::string text =
      policy("  ingress:\n" +
             allow("frontend", "    toPorts: [{ports: [{port: '9000', protocol: UDP}]}]\n"));
  compile("alone", text);
  compile("tracked", text, "--stateful --no-verify");
  for (const bool v6 : {false, true}) {
    SCOPED_TRACE(v6 ? "IPv6" : "IPv4");
    const auto arrives = [&](int port, std::size_t size) {
      return datagram_arrives(kFrontend, v6, port, size);
    };
    load("alone", "--endpoint shop/backend --dev back");
    expect(true, "a whole datagram", [&] { return arrives(9000, 500); });
    expect(false, "another port", [&] { return arrives(9001, 500); });
    expect(false, "fragments", [&] { return arrives(9000, 4000); });
    load("tracked");
    expect(true, "fragments, tracked", [&] { return arrives(9000, 4000); });
    expect(false, "fragments to another port", [&] { return arrives(9001, 4000); });
    run("unload --all -q --pin " + Network::pins());
  }
}

// Neighbour solicitations and advertisements are ICMPv6 like any other: rules for types 135 and 136
// let them pass. (Cilium's own datapath answers them before policy.)
TEST_F(Live, NeighbourDiscoveryNeedsARule) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  const std::string port =
      allow("frontend", "    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]\n");
  compile("without", policy("  ingress:\n" + port));
  compile("with", policy("  ingress:\n" + port +
                         "  - fromEntities: [all]\n"
                         "    icmps: [{fields: [{type: 135, family: IPv6}, "
                         "{type: 136, family: IPv6}]}]\n"));
  network_->forget_neighbour(kBackend);
  load("without", "--endpoint shop/backend --dev back");
  expect(false, "nobody is asked who has the address",
         [&] { return answered(kFrontend, 8080, true); });
  expect(true, "IPv4 has ARP, which is no IP", [&] { return answered(kFrontend, 8080); });
  load("with");
  network_->forget_neighbour(kBackend);
  expect(true, "types 135 and 136", [&] { return answered(kFrontend, 8080, true); });
}

TEST_F(Live, MonitorTellsWhatHappened) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  const std::string text =
      policy("  ingress:\n" +
             allow("frontend", "    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]\n") +
             allow("frontend",
                   "    toPorts: [{ports: [{port: '8081', protocol: TCP}], rules: {http: [{method: "
                   "GET}]}}]\n") +
             allow("frontend",
                   "    authentication: {mode: required}\n"
                   "    toPorts: [{ports: [{port: '8082', protocol: TCP}]}]\n"));
  compile("quiet", text);
  compile("a", text, "--events --l7 kernel --stateful");
  const auto monitor = [&](const std::string& arguments, int exit = 0) {
    return run(fmt::format("monitor {} --pin {} --timeout 0.2", arguments, Network::pins()), exit);
  };
  load("quiet", "--endpoint shop/backend --dev back");
  EXPECT_NE(monitor("", 2).find("compile --events"), std::string::npos);
  load("a");
  const auto traffic = [&] {
    expect(true, "8080", [&] { return answered(kFrontend, 8080); });
    expect(false, "POST", [&] { return answered(kFrontend, 8081, true, "POST"); });
    expect(false, "authentication", [&] { return answered(kFrontend, 8082); });
    expect(false, "another pod", [&] { return answered(kOther, 8080); });
  };
  traffic();
  const std::string in = files_.path("a") + " " + files_.path("a-in");
  std::vector<nlohmann::json> flows;
  std::istringstream lines(monitor(in + " --format hubble-json"));
  for (std::string line; std::getline(lines, line);) {
    const auto parsed = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(parsed.is_object()) << line;
    flows.push_back(parsed["flow"]);
  }
  const auto find = [&](const std::string& direction, const std::string& verdict, const char* type,
                        int value) {
    return std::count_if(flows.begin(), flows.end(), [&](const nlohmann::json& f) {
      return f["traffic_direction"] == direction && f["verdict"] == verdict &&
             (std::string(type).empty() || f.value(type, 0) == value);
    });
  };
  // Each connection once, by its first packet; dropped ones as often as they were tried.
  EXPECT_GE(find("INGRESS", "FORWARDED", "", 0), 1);
  EXPECT_GE(find("INGRESS", "DROPPED", "drop_reason", 189), 1);
  EXPECT_GE(find("INGRESS", "DROPPED", "drop_reason", 133), 1);
  EXPECT_EQ(find("EGRESS", "FORWARDED", "", 0), 0) << "answers are no new flows";
  bool passed = false, other = false, refused = false, auth = false;
  for (const nlohmann::json& f : flows) {
    const auto policy_name = [&](const char* key) {
      return f.contains(key) && f[key][0]["name"] == "backend";
    };
    if (f["Type"] == "L7") {
      refused = refused || (f["verdict"] == "DROPPED" && f["l7"]["http"]["method"] == "POST" &&
                            f["IP"]["ipVersion"] == "IPv6");
      continue;
    }
    EXPECT_EQ(f["destination"]["pod_name"], "backend");
    if (f["verdict"] == "FORWARDED" && f["l4"]["TCP"]["destination_port"] == 8080) {
      passed = f["source"]["pod_name"] == "frontend" && policy_name("ingress_allowed_by") &&
               f["policy_match_type"] == 2 && f["event_type"]["type"] == 5;
    }
    other = other || (f["source"]["pod_name"] == "other" && policy_name("ingress_denied_by") &&
                      f["drop_reason_desc"] == "POLICY_DENIED");
    auth = auth || f.value("drop_reason_desc", "") == "AUTH_REQUIRED";
  }
  EXPECT_TRUE(passed && other && refused && auth) << passed << other << refused << auth << "\n"
                                                  << nlohmann::json(flows).dump(1);

  // Text; and with less at hand, less is told.
  traffic();
  const std::string told = monitor(in + " -c 1");
  EXPECT_NE(told.find("shop/backend ingress  pass "), std::string::npos) << told;
  EXPECT_NE(told.find("CiliumNetworkPolicy/shop/backend  spec.ingress[0]"), std::string::npos)
      << told;
  EXPECT_NE(monitor("").find("drop "), std::string::npos);
  // Policies that say the same of this packet, by another rule, and not of all: none is named.
  const std::string port = "    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]\n";
  compile("wide", policy("  ingress:\n" + allow("other", port) + allow("frontend", port)));
  traffic();
  const std::string wide = monitor(files_.path("a") + " " + files_.path("wide-in"));
  EXPECT_NE(wide.find("shop/backend ingress  pass "), std::string::npos) << wide;
  EXPECT_EQ(wide.find("spec.ingress"), std::string::npos) << wide;
  monitor("");
  traffic();
  const std::string bare = monitor("--format hubble-json -c 1");
  EXPECT_NE(bare.find("\"pod_name\":\"backend\""), std::string::npos) << bare;
  EXPECT_EQ(bare.find("allowed_by"), std::string::npos) << bare;

  // The ring outlives new tables and new programs, and a signal ends the reader in order.
  monitor("");
  compile("b", second_policy(), "--events --l7 kernel --stateful");
  load("b");
  expect(true, "8082", [&] { return answered(kOther, 8082); });
  const std::string after = monitor(files_.path("b") + " " + files_.path("b-in"));
  EXPECT_NE(after.find("spec.ingress[1]"), std::string::npos) << after;
  std::string said;
  EXPECT_EQ(shell(fmt::format("timeout --preserve-status -s INT 0.3 {}/policyc monitor --pin {}",
                              POLICYC_BINARY_DIR, Network::pins()),
                  &said),
            0)
      << said;
  load("quiet", "--endpoint shop/backend --dev back");
  monitor("", 2);
}

TEST_F(Live, LoadSaysWhatItCannotDo) {
  POLICYC_NEEDS_NETWORK();
  make_network();
  compile("a", first_policy());
  load("a", "--endpoint shop/backend --dev back");
  const auto fails = [&](const std::string& arguments, int exit) {
    return run(fmt::format("load {} --pin {}", arguments, Network::pins()), exit);
  };
  EXPECT_NE(fails(files_.path("a") + " --endpoint shop/other --dev back", 2)
                .find("device back is shop/backend's already: `policyc unload --endpoint "
                      "shop/backend` first"),
            std::string::npos);
  files_.write("wild.c",
               "int policyc_prelude(struct __sk_buff *skb) {\n"
               "  return *(const u8 *)(long)skb->data;\n}\n");
  compile("wild", first_policy(), "--prelude " + files_.path("wild.c"));
  run("unload --all -q --pin " + Network::pins());
  const std::string refused = fails(files_.path("wild") + " --endpoint shop/backend --dev back", 3);
  EXPECT_NE(refused.find("the kernel refuses the program"), std::string::npos) << refused;
  EXPECT_NE(refused.find("invalid access to packet"), std::string::npos) << refused;
  expect(true, "nothing is loaded", [&] { return answered(kOther, 8082); });
  compile("cilium", first_policy(), "--target cilium");
  EXPECT_NE(fails(files_.path("cilium") + " --endpoint shop/backend --dev back", 2)
                .find("images of Cilium's maps"),
            std::string::npos);
}

}  // namespace
}  // namespace policyc::live
