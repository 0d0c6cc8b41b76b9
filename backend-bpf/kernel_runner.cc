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

bool fits(const IdentityImage& tries, const PolicyImage& policy, const SizeClass& sizes) {
  const SizeClass needed = size_class(tries, policy);
  return needed.trie4_blocks <= sizes.trie4_blocks && needed.trie6_blocks <= sizes.trie6_blocks &&
         needed.identities <= sizes.identities && needed.pages <= sizes.pages &&
         needed.cells <= sizes.cells && needed.records <= sizes.records;
}

}  // namespace

KernelRunner::KernelRunner(std::string directory, Manifest manifest, const ir::World& world,
                           const ir::Resolved& resolved)
    : directory_(std::move(directory)),
      manifest_(std::move(manifest)),
      world_(world),
      resolved_(resolved) {
  for (const ManifestEndpoint& e : manifest_.endpoints) {
    for (const std::string& name : e.names) by_name_[{e.view, name}] = &e;
  }
}

Expected<std::unique_ptr<KernelRunner>> KernelRunner::open(const std::string& directory,
                                                           const ir::World& world,
                                                           const ir::Resolved& resolved) {
  auto manifest = read_manifest(directory);
  if (!manifest) return Error{manifest.error()};
  return std::unique_ptr<KernelRunner>(
      new KernelRunner(directory, std::move(*manifest), world, resolved));
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

Expected<KernelRunner::Endpoint*> KernelRunner::endpoint(std::size_t view, std::size_t index) {
  auto& slot = loaded_[{view, index}];
  if (slot) return slot.get();
  const ir::NodeView& v = resolved_.views[view];
  const std::vector<std::string> names = endpoint_names(world_, v, v.endpoints[index]);
  const auto it = names.empty() ? by_name_.end() : by_name_.find({v.node, names.front()});
  if (it == by_name_.end()) {
    return Error{fmt::format("{} has no program for {}; compile again", directory_,
                             names.empty() ? v.node : names.front())};
  }
  const ManifestEndpoint& m = *it->second;
  const auto object = read(m.object);
  if (!object) return Error{object.error()};
  const auto tries_bytes = read(m.identities);
  if (!tries_bytes) return Error{tries_bytes.error()};
  const auto policy_bytes = read(m.image);
  if (!policy_bytes) return Error{policy_bytes.error()};
  const auto tries = read_identity_image(*tries_bytes);
  if (!tries) return Error{fmt::format("{}/{}: {}", directory_, m.identities, tries.error())};
  auto policy = read_policy_image(*policy_bytes);
  if (!policy) return Error{fmt::format("{}/{}: {}", directory_, m.image, policy.error())};
  if (!fits(*tries, *policy, m.sizes)) {
    return Error{fmt::format("{}/manifest.json: `sizes` are too small for the images", directory_)};
  }
  std::vector<MapValue> values = {{kTablesMap, tables_value(*policy, m.sizes, kProxyPort)}};
  const LoadedObject*& lender = lenders_[{m.identities, m.sizes.tries_size()}];
  std::vector<std::string> shared;
  if (lender == nullptr) {
    values.push_back({kTriesMap, tries_value(*tries, m.sizes)});
  } else {
    shared.emplace_back(kTriesMap);
  }
  auto loaded = LoadedObject::load(*object, values, lender, shared);
  if (!loaded) return Error{fmt::format("{}/{}: {}", directory_, m.object, loaded.error())};
  slot = std::make_unique<Endpoint>(Endpoint{std::move(*policy), std::move(*loaded)});
  if (lender == nullptr) lender = &slot->object;
  return slot.get();
}

Expected<RunResult> KernelRunner::run(std::size_t view, std::size_t index, ir::Direction direction,
                                      const std::vector<std::uint8_t>& frame, unsigned repeat) {
  const auto e = endpoint(view, index);
  if (!e) return Error{e.error()};
  const bool ingress = direction == ir::Direction::Ingress;
  const char* program = ingress ? kIngressProgram : kEgressProgram;
  const auto run = (*e)->object.run(program, frame);
  if (!run) return Error{run.error()};
  RunResult out;
  out.return_code = run->return_code;
  if (run->cb[kCbOutcome] > static_cast<std::uint32_t>(Outcome::Redirect)) {
    return Error{fmt::format("the program reports outcome {}", run->cb[kCbOutcome])};
  }
  out.outcome = static_cast<Outcome>(run->cb[kCbOutcome]);
  out.drop_reason = run->cb[kCbDrop];
  // What tc sees must agree with what the program reports.
  const bool shot = out.outcome == Outcome::Drop;
  const std::uint32_t mark = out.outcome == Outcome::Redirect ? kProxyMark : 0;
  if (run->return_code != (shot ? 2U : 0U) || run->mark != mark) {
    return Error{fmt::format("the program returns {} with mark {:#x}, but reports outcome {}",
                             run->return_code, run->mark, run->cb[kCbOutcome])};
  }
  if (run->cb[kCbRecord] != 0) {
    const std::uint32_t record = run->cb[kCbRecord] - 1;
    if (record >= (*e)->image.records.size()) return Error{"the program names no verdict"};
    out.record = static_cast<int>(record);
    out.said = decode_record((*e)->image, record);
    if (run->cb[kCbIdentity] != 0) out.identity = run->cb[kCbIdentity] - 1;
  }
  if (repeat > 1) {
    const auto timed = (*e)->object.run(program, frame, repeat);
    if (!timed) return Error{timed.error()};
    out.nanoseconds = timed->nanoseconds;
  }
  return out;
}

}  // namespace policyc::bpf
