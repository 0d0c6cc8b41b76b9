// From policies to packets: what the compiled programs do is what the reference evaluator says.
#include "backend-bpf/replay.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "backend-bpf/artefact.h"
#include "backend-bpf/capture.h"
#include "backend-bpf/kernel_runner.h"
#include "ir/base/sha256.h"
#include "ir/resolve.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/scratch.h"
#include "tests/ir/world_gen.h"

namespace policyc {
namespace {

using namespace testing;
namespace fs = std::filesystem;
using bpf::Fate;

bpf::CompileReport compile_into(const std::string& directory, const ir::World& world,
                                const ir::Resolved& resolved, bool http = false) {
  bpf::CompileOptions options;
  options.http = http;
  options.directory = directory;
  options.tool = "policyc test";
  return bpf::compile(world, resolved, options);
}

std::optional<ir::IpAddress> address(const ir::World& world, const ir::Party& party,
                                     ir::Family family) {
  if (const auto* p = std::get_if<ir::PodParty>(&party)) {
    for (const ir::IpAddress& ip : world.inventory.pods[p->pod].ips) {
      if (ip.family == family) return ip;
    }
  } else if (const auto* a = std::get_if<ir::AddressParty>(&party)) {
    if (a->ip.family == family) return a->ip;
  } else if (const auto* n = std::get_if<ir::NodeParty>(&party)) {
    for (const ir::IpAddress& ip : world.inventory.nodes[n->node].addresses) {
      if (ip.family == family) return ip;
    }
  }
  return std::nullopt;
}

TEST(Replay, ProgramsAgreeWithTheEvaluator) {
  POLICYC_NEEDS_BPF();
  // One directory for all worlds: objects of known sizes are not compiled again.
  const Scratch scratch;
  std::size_t judged = 0;
  std::set<Fate> fates;
  const bool ok = rc::check("replay of random worlds", [&] {
    const Choice pick;
    const ir::World world = random_world(pick);
    const ir::Resolved resolved = ir::resolve(world);
    const bpf::CompileReport report = compile_into(scratch.path(), world, resolved);
    if (report.status != bpf::CompileReport::Status::Done) RC_FAIL(report.message);
    // Pods and nodes whose policy cannot be computed have no program.
    std::set<std::size_t> frozen;
    bool host_frozen = false;
    for (const ir::NodeView& view : resolved.views) {
      for (const ir::ResolvedEndpoint& e : view.endpoints) {
        if (e.error.empty()) continue;
        frozen.insert(e.pods.begin(), e.pods.end());
        host_frozen = host_frozen || e.host;
      }
    }
    auto runner = bpf::KernelRunner::open(scratch.path(), world, resolved);
    if (!runner) RC_FAIL(runner.error());
    std::vector<bpf::Fixture> fixtures;
    for (int i = 0; i < 30; ++i) {
      const ir::Flow flow = random_flow(pick, world);
      const auto has_program = [&](const ir::Party& party) {
        const auto* pod = std::get_if<ir::PodParty>(&party);
        return pod != nullptr ? frozen.count(pod->pod) == 0 : !host_frozen;
      };
      if (!has_program(flow.from) || !has_program(flow.to)) continue;
      const auto family = world.settings.ipv6 && pick.flip() ? ir::Family::V6 : ir::Family::V4;
      const auto from = address(world, flow.from, family);
      const auto to = address(world, flow.to, family);
      if (!from || !to) continue;
      bpf::Packet p;
      p.from = *from;
      p.to = *to;
      p.protocol = flow.protocol;
      p.source_port = 40000;
      p.destination_port = flow.port;
      p.icmp_type = static_cast<std::uint8_t>(flow.port);
      p.tcp_flags = bpf::kSyn;
      fixtures.push_back({"f", {{bpf::build_frame(p), std::nullopt}}});
    }
    const auto results = bpf::replay(world, resolved, **runner, fixtures);
    if (!results) RC_FAIL(results.error());
    for (const bpf::PacketResult& r : *results) {
      if (!r.mismatch.empty()) RC_FAIL(r.summary + ": " + r.mismatch);
      judged += r.programs.size();
      fates.insert(r.fate);
    }
    RC_ASSERT((*runner)->changed_files().empty());
  });
  EXPECT_TRUE(ok);
  EXPECT_GT(judged, 500U);
  EXPECT_EQ(fates, (std::set<Fate>{Fate::Pass, Fate::Drop, Fate::Redirect}));
}

// Frontend may GET /api/…, nothing else; everything else is closed.
ir::World http_world() {
  ir::World world;
  world.settings.ipv6 = false;
  ir::Inventory& inv = world.inventory;
  inv.namespaces.push_back({"shop", {{"kubernetes.io/metadata.name", "shop"}}, {}});
  for (const char* name : {"backend", "frontend"}) {
    ir::Pod pod;
    pod.ns = "shop";
    pod.name = name;
    pod.labels["app"] = name;
    pod.ips = {*ir::parse_ip(name[0] == 'b' ? "10.0.0.2" : "10.0.0.1")};
    inv.pods.push_back(pod);
  }
  ir::Policy policy;
  policy.ref = {"CiliumNetworkPolicy", "shop", "backend"};
  world.policies.policies.push_back(policy);
  ir::Rule rule;
  rule.subject.requirements = {label_requirement("k8s", "app", ir::Operator::In, {"backend"})};
  rule.has_ingress = true;
  ir::RuleItem item;
  item.all_l4 = false;
  ir::Peer peer;
  peer.selector.requirements = {label_requirement("k8s", "app", ir::Operator::In, {"frontend"})};
  item.peers.push_back(peer);
  ir::PortRule ports;
  ir::Port port;
  port.number = 80;
  port.text = "80";
  ports.ports.push_back(port);
  ports.l7.parser = ir::Parser::Http;
  ir::HttpRule http;
  http.method = "GET";
  http.path = "/api/.*";
  ports.l7.http.push_back(http);
  item.ports.push_back(ports);
  item.origin = {0, "spec.ingress[0]", {}};
  rule.items.push_back(item);
  world.policies.rules.push_back(rule);
  return world;
}

bpf::Packet to_backend(std::uint8_t flags, std::uint32_t sequence, const std::string& payload) {
  bpf::Packet p;
  p.from = *ir::parse_ip("10.0.0.1");
  p.to = *ir::parse_ip("10.0.0.2");
  p.source_port = 40000;
  p.destination_port = 80;
  p.tcp_flags = flags;
  p.sequence = sequence;
  p.payload.assign(payload.begin(), payload.end());
  return p;
}

bpf::Packet from_backend(std::uint8_t flags) {
  bpf::Packet p = to_backend(flags, 0, "");
  std::swap(p.from, p.to);
  std::swap(p.source_port, p.destination_port);
  return p;
}

TEST(Replay, GetPassesAndPostIsRefused) {
  POLICYC_NEEDS_BPF();
  const ir::World world = http_world();
  const ir::Resolved resolved = ir::resolve(world);
  const Scratch scratch;
  const bpf::CompileReport report = compile_into(scratch.path(), world, resolved);
  ASSERT_EQ(report.status, bpf::CompileReport::Status::Done) << report.message;
  auto runner = bpf::KernelRunner::open(scratch.path(), world, resolved);
  ASSERT_TRUE(runner) << runner.error();
  const auto frame = [](const bpf::Packet& p) {
    return bpf::ReplayPacket{bpf::build_frame(p), std::nullopt};
  };
  bpf::Packet wrong_port = to_backend(bpf::kSyn, 0, "");
  wrong_port.destination_port = 81;
  const std::string get = "GET /api/a HTTP/1.1\r\nHost: b\r\n\r\n";
  const std::string post = "POST /api/a HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n";
  const std::vector<bpf::Fixture> fixtures = {
      {"http",
       {frame(to_backend(bpf::kSyn, 99, "")), frame(from_backend(bpf::kSyn | bpf::kAck)),
        // The request comes in two segments, the second first.
        frame(to_backend(bpf::kAck, 110, get.substr(10))),
        frame(to_backend(bpf::kAck, 100, get.substr(0, 10))),
        frame(to_backend(bpf::kAck, 100 + static_cast<std::uint32_t>(get.size()), post))}},
      {"other port", {frame(wrong_port)}}};
  const auto results = bpf::replay(world, resolved, **runner, fixtures);
  ASSERT_TRUE(results) << results.error();
  std::vector<Fate> fates;
  for (const auto& r : *results) {
    EXPECT_EQ(r.mismatch, "") << r.summary;
    fates.push_back(r.fate);
  }
  EXPECT_EQ(fates, (std::vector<Fate>{Fate::Redirect, Fate::Pass, Fate::Redirect, Fate::Pass,
                                      Fate::Refused, Fate::Drop}));
  const bpf::PacketResult& refused = (*results)[4];
  ASSERT_FALSE(refused.rules.empty());
  EXPECT_EQ(refused.rules[0].policy, 0U);
  EXPECT_NE(refused.reason.find("POST /api/a"), std::string::npos) << refused.reason;
  EXPECT_EQ((*results)[0].programs.size(), 2U);  // egress of the source, ingress of the target
  EXPECT_TRUE((*results)[1].programs.empty());   // a reply
  EXPECT_EQ((*results)[5].programs.back().result.drop_reason, 133U);
}

TEST(Replay, KernelModeDecidesWholeHeadsAndNothingElse) {
  POLICYC_NEEDS_BPF();
  const ir::World world = http_world();
  const ir::Resolved resolved = ir::resolve(world);
  const Scratch scratch;
  const bpf::CompileReport report = compile_into(scratch.path(), world, resolved, true);
  ASSERT_EQ(report.status, bpf::CompileReport::Status::Done) << report.message;
  EXPECT_TRUE(report.left_to_proxy.empty());
  auto runner = bpf::KernelRunner::open(scratch.path(), world, resolved);
  ASSERT_TRUE(runner) << runner.error();
  const std::string get = "GET /api/a HTTP/1.1\r\nHost: b\r\n\r\n";
  struct Step {
    std::uint8_t flags;
    std::string payload;
    Fate fate;
  };
  const std::vector<Step> steps = {
      {bpf::kSyn, "", Fate::Pass},
      {bpf::kAck, "", Fate::Pass},
      {bpf::kAck, get, Fate::Pass},
      {bpf::kAck, "POST /api/a HTTP/1.1\r\nHost: b\r\n\r\n", Fate::Drop},
      {bpf::kAck, "GET /admin HTTP/1.1\r\nHost: b\r\n\r\n", Fate::Drop},
      {bpf::kAck, "GET /api/../admin HTTP/1.1\r\nHost: b\r\n\r\n", Fate::Drop},
      {bpf::kAck, get.substr(0, 10), Fate::Drop},
      {bpf::kAck, get + get, Fate::Drop},
      {bpf::kAck, get + "body", Fate::Drop},
      {bpf::kAck, "\x16\x03\x01", Fate::Drop}};
  bpf::Fixture fixture{"kernel", {}};
  for (const Step& step : steps) {
    fixture.packets.push_back(
        {bpf::build_frame(to_backend(step.flags, 100, step.payload)), step.fate});
  }
  const auto results = bpf::replay(world, resolved, **runner, {fixture});
  ASSERT_TRUE(results) << results.error();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const bpf::PacketResult& r = (*results)[i];
    EXPECT_EQ(r.mismatch, "") << steps[i].payload;
    EXPECT_EQ(r.unmet, "") << steps[i].payload << r.reason;
  }
  // A frame whose IP header means less than it carries is not shown to the filter.
  std::vector<std::uint8_t> frame = bpf::build_frame(to_backend(bpf::kAck, 100, get));
  frame[14 + 3] = static_cast<std::uint8_t>(frame[14 + 3] - 5);
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    for (std::size_t e = 0; e < resolved.views[v].endpoints.size(); ++e) {
      if (world.inventory.pods[resolved.views[v].endpoints[e].pods.at(0)].name != "backend")
        continue;
      const auto run = (*runner)->run(v, e, ir::Direction::Ingress, frame, 1);
      ASSERT_TRUE(run) << run.error();
      EXPECT_EQ(run->outcome, bpf::Outcome::Redirect);
      EXPECT_EQ(run->return_code, 2U);
    }
  }
}

TEST(Replay, KernelModeAgreesWithTheEvaluator) {
  POLICYC_NEEDS_BPF();
  const Scratch scratch;
  std::size_t read = 0, passed = 0, dropped = 0;
  const char* const paths[] = {"/", "/a/x", "/b", "/b/"};
  const char* const methods[] = {"GET", "POST", "PUT"};
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    const auto worlds = rc::gen::exec([&] {
      const Choice pick;
      std::pair<ir::World, std::vector<ir::Flow>> out{random_world(pick), {}};
      for (int i = 0; i < 40; ++i) out.second.push_back(random_flow(pick, out.first));
      return out;
    });
    const auto [world, flows] = worlds(rc::Random(seed), 100).value();
    const ir::Resolved resolved = ir::resolve(world);
    const bpf::CompileReport report = compile_into(scratch.path(), world, resolved, true);
    ASSERT_EQ(report.status, bpf::CompileReport::Status::Done) << report.message;
    auto runner = bpf::KernelRunner::open(scratch.path(), world, resolved);
    ASSERT_TRUE(runner) << runner.error();
    std::vector<bpf::Fixture> fixtures;
    for (const ir::Flow& flow : flows) {
      const auto from = address(world, flow.from, ir::Family::V4);
      const auto to = address(world, flow.to, ir::Family::V4);
      if (!from || !to) continue;
      for (std::size_t i = 0; i < 12; ++i) {
        bpf::Packet p;
        p.from = *from;
        p.to = *to;
        p.protocol = ir::kProtoTcp;
        p.source_port = 40000;
        p.destination_port = flow.port;
        p.tcp_flags = bpf::kAck;
        const std::string head = std::string(methods[i % 3]) + " " + paths[i / 3] +
                                 " HTTP/1.1\r\nHost: b.example\r\nAccept: */*\r\n\r\n";
        p.payload.assign(head.begin(), head.end());
        fixtures.push_back({"f", {{bpf::build_frame(p), std::nullopt}}});
      }
    }
    const auto results = bpf::replay(world, resolved, **runner, fixtures);
    ASSERT_TRUE(results) << results.error();
    for (const bpf::PacketResult& r : *results) {
      if (!r.undecided.empty()) continue;
      EXPECT_EQ(r.mismatch, "") << "seed " << seed << " " << r.summary;
      for (const bpf::ProgramRun& run : r.programs) {
        if (!run.result.reads_http) continue;
        ++read;
        passed += run.result.outcome == bpf::Outcome::Pass ? 1 : 0;
        dropped += run.result.outcome == bpf::Outcome::Drop ? 1 : 0;
      }
    }
  }
  // Plain heads are never left undecided.
  EXPECT_EQ(passed + dropped, read);
  EXPECT_GT(passed, 0U);
}

TEST(Replay, AFlippedDecisionIsAMismatch) {
  POLICYC_NEEDS_BPF();
  const ir::World world = http_world();
  const ir::Resolved resolved = ir::resolve(world);
  const Scratch scratch;
  ASSERT_EQ(compile_into(scratch.path(), world, resolved).status, bpf::CompileReport::Status::Done);
  // Turn every decision of the image into the other of its verdicts, as a bug of the compiler
  // would.
  std::size_t flipped = 0;
  for (const auto& entry : fs::directory_iterator(scratch.path() + "/maps")) {
    const auto bytes = bpf::read_artefact(entry.path());
    auto image = bpf::read_policy_image(*bytes);
    if (!image) continue;
    if (image->records.size() < 2) continue;
    for (std::size_t i = image->row_begin[0]; i < image->cells.size(); ++i) {
      const std::size_t record = (image->cells[i] & bpf::kCellRecord) % image->records.size();
      const bpf::RecordWire& r = image->records[record];
      const unsigned kind = r.drop != 0 ? 0 : r.verdict;
      image->cells[i] = static_cast<std::uint16_t>(kind << 14U | (record + 1));
      ++flipped;
    }
    std::ofstream(entry.path(), std::ios::binary) << bpf::write_image(*image);
  }
  ASSERT_GT(flipped, 0U);
  auto runner = bpf::KernelRunner::open(scratch.path(), world, resolved);
  ASSERT_TRUE(runner);
  const std::vector<bpf::Fixture> fixtures = {
      {"f", {{bpf::build_frame(to_backend(bpf::kSyn, 0, "")), std::nullopt}}}};
  const auto results = bpf::replay(world, resolved, **runner, fixtures);
  ASSERT_TRUE(results) << results.error();
  EXPECT_NE((*results)[0].mismatch, "");
  EXPECT_FALSE((*runner)->changed_files().empty());
}

TEST(Artefact, SecondCompileWritesNothing) {
  if (const auto module = bpf::find_clang_module(); !module) {
    GTEST_SKIP() << "skipped: " << module.error();
  }
  ir::World world = http_world();
  const Scratch scratch;
  const auto snapshot = [&] {
    std::map<std::string, std::string> out;
    for (const auto& entry : fs::recursive_directory_iterator(scratch.path())) {
      if (entry.is_regular_file())
        out[entry.path()] = sha256_hex(*bpf::read_artefact(entry.path()));
    }
    return out;
  };
  const auto first = compile_into(scratch.path(), world, ir::resolve(world));
  ASSERT_EQ(first.status, bpf::CompileReport::Status::Done) << first.message;
  EXPECT_EQ(first.endpoints, 2U);
  EXPECT_EQ(first.programs, 1U);
  EXPECT_EQ(first.compiled, 1U);
  EXPECT_EQ(first.images, 4U);  // identities, classes, and a policy each
  const auto before = snapshot();
  const auto second = compile_into(scratch.path(), world, ir::resolve(world));
  EXPECT_EQ(second.compiled, 0U);
  EXPECT_EQ(second.written, 0U);
  EXPECT_EQ(snapshot(), before);
  // Another policy: one image, perhaps other classes, and the manifest; no compiler; the old images
  // go.
  world.policies.rules[0].items[0].ports[0].ports[0].number = 8080;
  world.policies.rules[0].items[0].ports[0].ports[0].text = "8080";
  const auto third = compile_into(scratch.path(), world, ir::resolve(world));
  EXPECT_EQ(third.compiled, 0U);
  EXPECT_LE(third.written, 3U);
  EXPECT_EQ(snapshot().size(), before.size());
  // A damaged object is made again.
  for (const auto& entry : fs::directory_iterator(scratch.path() + "/obj")) {
    std::ofstream(entry.path(), std::ios::binary | std::ios::app) << "x";
  }
  EXPECT_EQ(compile_into(scratch.path(), world, ir::resolve(world)).compiled, 1U);
}

TEST(Artefact, OneEndpointLeavesTheOthersInPlace) {
  if (const auto module = bpf::find_clang_module(); !module) {
    GTEST_SKIP() << "skipped: " << module.error();
  }
  ir::World world = http_world();
  const Scratch scratch;
  const ir::Resolved resolved = ir::resolve(world);
  ASSERT_EQ(compile_into(scratch.path(), world, resolved).status, bpf::CompileReport::Status::Done);
  const auto files = [&] {
    std::set<std::string> out;
    for (const auto& entry : fs::recursive_directory_iterator(scratch.path())) {
      if (entry.is_regular_file()) out.insert(entry.path());
    }
    return out;
  };
  const auto before = files();
  bpf::CompileOptions one;
  one.directory = scratch.path();
  one.only = {{0, 0}};
  // Nothing changed: all is as it was.
  bpf::CompileReport report = bpf::compile(world, resolved, one);
  ASSERT_EQ(report.status, bpf::CompileReport::Status::Done) << report.message;
  EXPECT_EQ(files(), before);
  EXPECT_EQ(bpf::read_manifest(scratch.path())->endpoints.size(), 2U);
  // Other policies: the endpoint that was not asked for keeps what it had.
  world.policies.rules[0].items[0].ports[0].ports[0].number = 8080;
  world.policies.rules[0].items[0].ports[0].ports[0].text = "8080";
  const ir::Resolved changed = ir::resolve(world);
  for (std::size_t e = 0; e < 2; ++e) {
    const auto old = bpf::read_manifest(scratch.path());
    one.only = {{0, e}};
    report = bpf::compile(world, changed, one);
    ASSERT_EQ(report.status, bpf::CompileReport::Status::Done) << report.message;
    const auto now = bpf::read_manifest(scratch.path());
    ASSERT_TRUE(now) << now.error();
    ASSERT_EQ(now->endpoints.size(), 2U);
    if (e == 0) {
      EXPECT_EQ(now->endpoints[1].image, old->endpoints[1].image);
    }
    for (const bpf::ManifestEndpoint& m : now->endpoints) {
      for (const std::string& file : {m.object, m.image, m.identities, m.classes}) {
        EXPECT_TRUE(fs::exists(scratch.path() + "/" + file)) << file;
      }
    }
  }
  EXPECT_EQ(files().size(), before.size());
}

TEST(Artefact, HostileManifestsAreRefused) {
  const Scratch scratch;
  const auto with = [&](const std::string& text) {
    std::ofstream(scratch.path() + "/manifest.json", std::ios::trunc) << text;
    const auto m = bpf::read_manifest(scratch.path());
    return m ? std::string() : m.error();
  };
  EXPECT_NE(bpf::read_manifest(scratch.path() + "/none").error(), "");
  EXPECT_NE(with("["), "");
  EXPECT_NE(with("{}").find("schema"), std::string::npos);
  EXPECT_NE(with(R"({"schema":2,"endpoints":[7]})"), "");
  EXPECT_NE(with(R"({"schema":2,"files":{"../x":{"sha256":""}},"endpoints":[]})").find("out of"),
            std::string::npos);
  const std::string endpoint =
      R"({"view":"-","pods":["a/b"],"object":"OBJ","image":"i","identities":"t","classes":"c",)"
      R"("slot":0,"sizes":{"trie4_blocks":64,"hash4_bits":4,"hash6_bits":4,"hosts6":16,)"
      R"("trie6_blocks":64,"classes":NUM,"identity_shift":8,"pages":64,"cells":4096,)"
      R"("records":64,"intervals":0,"interval_steps":0}})";
  const auto endpoint_with = [&](const std::string& object, const std::string& classes) {
    std::string e = endpoint;
    e.replace(e.find("OBJ"), 3, object);
    e.replace(e.find("NUM"), 3, classes);
    return with(R"({"schema":2,"endpoints":[)" + e + "]}");
  };
  EXPECT_EQ(endpoint_with("obj/a.o", "256"), "");
  EXPECT_NE(endpoint_with("/etc/passwd", "256").find("out of"), std::string::npos);
  EXPECT_NE(endpoint_with("obj/a.o", "255").find("sizes"), std::string::npos);
  EXPECT_NE(endpoint_with("obj/a.o", "4294967296").find("classes"), std::string::npos);
}

TEST(Artefact, EndpointsThatCannotBeComputedAreNamed) {
  if (const auto module = bpf::find_clang_module(); !module) {
    GTEST_SKIP() << "skipped: " << module.error();
  }
  ir::World world = http_world();
  world.policies.rules[0].items[0].auth_symbol = "${MODE}";
  const Scratch scratch;
  const auto report = compile_into(scratch.path(), world, ir::resolve(world));
  ASSERT_EQ(report.status, bpf::CompileReport::Status::Done) << report.message;
  EXPECT_EQ(report.endpoints, 1U);
  ASSERT_EQ(report.refused.size(), 1U);
  EXPECT_EQ(report.refused[0].name, "shop/backend");
  EXPECT_EQ(report.refused[0].refusal, bpf::Refusal::Depends);
}

TEST(Replay, PacketsToAnEndpointWithoutProgramAreUndecided) {
  POLICYC_NEEDS_BPF();
  ir::World world = http_world();
  world.policies.rules[0].items[0].auth_symbol = "${MODE}";
  const ir::Resolved resolved = ir::resolve(world);
  const Scratch scratch;
  ASSERT_EQ(compile_into(scratch.path(), world, resolved).status, bpf::CompileReport::Status::Done);
  auto runner = bpf::KernelRunner::open(scratch.path(), world, resolved);
  ASSERT_TRUE(runner);
  const std::vector<bpf::Fixture> fixtures = {
      {"f", {{bpf::build_frame(to_backend(bpf::kSyn, 0, "")), Fate::Pass}}}};
  const auto results = bpf::replay(world, resolved, **runner, fixtures);
  ASSERT_TRUE(results) << results.error();
  EXPECT_NE((*results)[0].undecided.find("${MODE}"), std::string::npos);
  EXPECT_EQ((*results)[0].unmet, "");
}

TEST(Capture, PcapSurvivesTheFile) {
  const Scratch scratch;
  const std::vector<std::vector<std::uint8_t>> frames = {
      bpf::build_frame(to_backend(bpf::kSyn, 0, "")),
      bpf::build_frame(to_backend(bpf::kAck, 1, "GET / HTTP/1.1\r\n\r\n"))};
  const std::string path = scratch.path() + "/a.pcap";
  ASSERT_TRUE(bpf::write_capture(path, frames));
  const auto back = bpf::read_capture(path);
  ASSERT_TRUE(back) << back.error();
  ASSERT_EQ(back->size(), frames.size());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    EXPECT_EQ((*back)[i].bytes, frames[i]);
    EXPECT_EQ((*back)[i].time, 1000 * i);
  }
}

// A pcapng file by hand: section header, interface (Ethernet), one enhanced packet block.
TEST(Capture, PcapngIsRead) {
  const Scratch scratch;
  const std::vector<std::uint8_t> frame = bpf::build_frame(to_backend(bpf::kSyn, 0, "ab"));
  std::string out;
  const auto u32 = [&](std::uint32_t v) {
    out.append(reinterpret_cast<const char*>(&v), sizeof v);
  };
  for (const std::uint32_t v : {0x0A0D0D0AU, 28U, 0x1A2B3C4DU, 1U, ~0U, ~0U, 28U}) u32(v);
  for (const std::uint32_t v : {1U, 20U, 1U, 65535U, 20U}) u32(v);
  const auto size = static_cast<std::uint32_t>(frame.size());
  const std::uint32_t padded = (size + 3) / 4 * 4;
  for (const std::uint32_t v : {6U, 32 + padded, 0U, 0U, 0U, size, size}) u32(v);
  out.append(frame.begin(), frame.end());
  out.append(padded - size, '\0');
  u32(32 + padded);
  const std::string path = scratch.path() + "/a.pcapng";
  std::ofstream(path, std::ios::binary) << out;
  const auto back = bpf::read_capture(path);
  ASSERT_TRUE(back) << back.error();
  ASSERT_EQ(back->size(), 1U);
  EXPECT_EQ((*back)[0].bytes, frame);
  // Cut off in the middle of the packet: an error, not fewer packets.
  std::ofstream(path, std::ios::binary | std::ios::trunc) << out.substr(0, out.size() - 20);
  EXPECT_FALSE(bpf::read_capture(path));
}

}  // namespace
}  // namespace policyc
