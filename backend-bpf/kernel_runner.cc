#include "backend-bpf/kernel_runner.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend-bpf/program.h"
#include "ir/base/sha256.h"

namespace policyc::bpf {
namespace {

constexpr std::uint16_t kProxyPort = 15001;
// What a packet for the proxy carries: Cilium's mark, the port in network byte order.
constexpr std::uint32_t kProxyMark = 0x0200U | 0x993AU << 16U;

}  // namespace

KernelRunner::KernelRunner(std::string directory, Manifest manifest, const ir::World& world,
                           const ir::Resolved& resolved, Engine engine)
    : directory_(std::move(directory)),
      manifest_(std::move(manifest)),
      world_(world),
      resolved_(resolved),
      engine_(engine) {
  for (const ManifestEndpoint& e : manifest_.endpoints) {
    for (const std::string& name : e.names) by_name_[{e.view, name}] = &e;
  }
}

Expected<std::unique_ptr<KernelRunner>> KernelRunner::open(const std::string& directory,
                                                           const ir::World& world,
                                                           const ir::Resolved& resolved,
                                                           Engine engine) {
  auto manifest = read_manifest(directory);
  if (!manifest) return manifest.failure();
  if ((manifest->stateful || manifest->events) && engine == Engine::Interpreter) {
    return Error{fmt::format(
        "the programs in {} {}, which the interpreter cannot; compile without --{}, or replay in "
        "the kernel",
        directory, manifest->stateful ? "track connections" : "write events",
        manifest->stateful ? "stateful" : "events")};
  }
  return std::unique_ptr<KernelRunner>(
      new KernelRunner(directory, std::move(*manifest), world, resolved, engine));
}

Expected<std::string> KernelRunner::read(const std::string& path) {
  auto bytes = read_artefact(directory_ + "/" + path);
  if (!bytes) return bytes;
  const auto it = manifest_.sha256.find(path);
  const bool same = it != manifest_.sha256.end() && sha256_hex(*bytes) == it->second;
  if (!same && std::find(changed_.begin(), changed_.end(), path) == changed_.end()) {
    changed_.push_back(path);
  }
  return bytes;
}

Expected<KernelRunner::Node*> KernelRunner::node(const ManifestEndpoint& endpoint) {
  const auto key = std::pair(endpoint.identities, endpoint.classes);
  const auto it = nodes_.find(key);
  if (it != nodes_.end()) return &it->second;
  const auto identity_bytes = read(endpoint.identities);
  if (!identity_bytes) return identity_bytes.failure();
  const auto class_bytes = read(endpoint.classes);
  if (!class_bytes) return class_bytes.failure();
  auto identities = read_identity_image(*identity_bytes);
  if (!identities) {
    return Error{fmt::format("{}/{}: {}", directory_, endpoint.identities, identities.error())};
  }
  auto classes = read_class_image(*class_bytes);
  if (!classes) {
    return Error{fmt::format("{}/{}: {}", directory_, endpoint.classes, classes.error())};
  }
  Node& node = nodes_[key];
  for (const ir::NodeView& view : resolved_.views) {
    if (view.node != endpoint.view) continue;
    node.current = write_image(encode_identities(view, resolved_.identities)) == *identity_bytes;
  }
  node.identities = std::move(*identities);
  node.classes = std::move(*classes);
  return &node;
}

Expected<std::unique_ptr<KernelRunner::Endpoint>> KernelRunner::load(const ManifestEndpoint& m) {
  const auto object = read(m.object);
  if (!object) return object.failure();
  const auto node = this->node(m);
  if (!node) return node.failure();
  const auto policy_bytes = read(m.image);
  if (!policy_bytes) return policy_bytes.failure();
  auto policy = read_policy_image(*policy_bytes);
  if (!policy) return Error{fmt::format("{}/{}: {}", directory_, m.image, policy.error())};
  if (!fits((*node)->identities, (*node)->classes, *policy, m.sizes)) {
    return Error{fmt::format("{}/manifest.json: `sizes` are too small for the images", directory_)};
  }
  if (!belong_together(*policy, (*node)->classes, m.slot)) {
    return Error{fmt::format("{}/manifest.json: {} is not policy {} of {}", directory_, m.image,
                             m.slot, m.classes)};
  }
  std::vector<MapValue> values = {
      {kPolicyMap, policy_value(*policy, (*node)->classes, m.slot, m.sizes)}};
  const RunnableObject*& lender = (*node)->lenders[m.sizes.node_size()];
  std::vector<std::string> shared;
  if (lender == nullptr) {
    const NodeSettings settings = {manifest_.http ? std::uint16_t{0} : kProxyPort, true};
    values.push_back(
        {kNodeMap, node_value((*node)->identities, (*node)->classes, m.sizes, settings)});
  } else {
    shared.emplace_back(kNodeMap);
  }
  auto loaded = RunnableObject::load(engine_, *object, values, lender, shared);
  if (!loaded) return loaded.failure().at(directory_ + "/" + m.object);
  auto out = std::make_unique<Endpoint>(Endpoint{std::move(*policy), std::move(*loaded), *node});
  if (const int ring = out->object.map_descriptor(kEventsMap); ring >= 0) {
    auto events = RingReader::open({ring});
    if (!events) return events.failure();
    out->events = std::move(*events);
  }
  if (lender == nullptr) lender = &out->object;
  return out;
}

Expected<KernelRunner::Endpoint*> KernelRunner::endpoint(std::size_t view, std::size_t index) {
  const ir::NodeView& v = resolved_.views[view];
  const std::vector<std::string> names = endpoint_names(world_, v, v.endpoints[index]);
  const auto it = names.empty() ? by_name_.end() : by_name_.find({v.node, names.front()});
  if (it == by_name_.end()) {
    return Error{fmt::format("{} has no program for {}; compile again", directory_,
                             names.empty() ? v.node : names.front())};
  }
  const ManifestEndpoint& m = *it->second;
  auto& slot =
      loaded_[fmt::format("{} {} {} {} {}", m.object, m.image, m.identities, m.classes, m.slot)];
  if (!slot) {
    auto loaded = load(m);
    if (!loaded) return loaded.failure();
    slot = std::move(*loaded);
  }
  return slot.get();
}

// What the program told of the packet must be what it did with it.
Expected<bool> KernelRunner::take_events(Endpoint& endpoint, RunResult& out) {
  const auto entries = endpoint.events->read(0);
  if (!entries) return entries.failure();
  for (const RingReader::Entry& entry : *entries) {
    auto event = read_event(entry.bytes);
    if (!event) return Error{"the program's ring buffer holds what is no event"};
    if (event->kind == EventKind::Verdict &&
        (event->outcome != static_cast<std::uint32_t>(out.outcome) ||
         (event->verdict < 0) != stops(out) || event->record != out.cb[kCbRecord] ||
         event->identity != out.cb[kCbIdentity] ||
         (out.drop_reason != 0 && event->verdict != -static_cast<int>(out.drop_reason)))) {
      return Error{"the program's event is not what it did"};
    }
    out.events.push_back(std::move(*event));
  }
  return true;
}

Expected<RunResult> KernelRunner::run(std::size_t view, std::size_t index, ir::Direction direction,
                                      const std::vector<std::uint8_t>& frame, unsigned repeat) {
  const auto e = endpoint(view, index);
  if (!e) return e.failure();
  const bool ingress = direction == ir::Direction::Ingress;
  const char* program = ingress ? kIngressProgram : kEgressProgram;
  const auto run = (*e)->object.run(program, frame);
  if (!run) return run.failure();
  RunResult out;
  out.return_code = run->return_code;
  out.mark = run->mark;
  out.cb = run->cb;
  if (run->cb[kCbOutcome] > static_cast<std::uint32_t>(Outcome::Prelude) ||
      (run->cb[kCbOutcome] == static_cast<std::uint32_t>(Outcome::Prelude) && !manifest_.prelude)) {
    return Error{fmt::format("the program reports outcome {}", run->cb[kCbOutcome])};
  }
  out.outcome = static_cast<Outcome>(run->cb[kCbOutcome]);
  out.drop_reason = run->cb[kCbDrop];
  // What tc sees must agree with what the program reports.
  const bool redirect = out.outcome == Outcome::Redirect;
  const bool shot = out.outcome == Outcome::Drop || (redirect && manifest_.http);
  const std::uint32_t mark = redirect && !manifest_.http ? kProxyMark : 0;
  const bool prelude = out.outcome == Outcome::Prelude;
  if (!prelude && (run->return_code != (shot ? 2U : 0U) || run->mark != mark)) {
    return Error{fmt::format("the program returns {} with mark {:#x}, but reports outcome {}",
                             run->return_code, run->mark, run->cb[kCbOutcome])};
  }
  if (run->cb[kCbRecord] != 0) {
    const std::uint32_t record = run->cb[kCbRecord];
    if (record > (*e)->image.records.size()) return Error{"the program names no verdict"};
    out.record = static_cast<int>(record) - 1;
    out.said = decode_record((*e)->image, record);
    out.reads_http = (*e)->image.records[record - 1].filter != 0;
    const std::uint32_t identity = run->cb[kCbIdentity];
    const Node& node = *(*e)->node;
    if (identity > node.identities.numbers.size()) return Error{"the program names no identity"};
    if (identity != 0) {
      out.identity_number = node.identities.numbers[identity - 1];
      if (node.current) out.identity = identity - 1;
    }
  }
  if ((*e)->events) {
    const auto taken = take_events(**e, out);
    if (!taken) return taken.failure();
  }
  if (repeat > 1) {
    const auto timed = (*e)->object.run(program, frame, repeat);
    if (!timed) return timed.failure();
    out.nanoseconds = timed->nanoseconds;
    // Events of the repeated runs say the same again.
    if ((*e)->events) {
      const auto again = (*e)->events->read(0);
      if (!again) return again.failure();
    }
  }
  return out;
}

}  // namespace policyc::bpf
