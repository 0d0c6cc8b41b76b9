#include "backend-bpf/loader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <sched.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "backend-bpf/artefact.h"
#include "backend-bpf/image.h"
#include "backend-bpf/kernel.h"
#include "backend-bpf/kernel_attach.h"
#include "backend-bpf/program.h"
#include "ir/base/sha256.h"

namespace policyc::bpf {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kRecordSize = 4096;
// Maps of a node whose contents outlive a program, where the programs have them.
constexpr const char* kLastingMaps[] = {"flows", "fragments"};

std::string pin_name(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-') {
      out += c;
    } else if (c == '/') {
      out += '_';
    } else if (c == '.') {
      out += "__";
    } else {
      out += fmt::format("___{:02x}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

// One load at a time below a root.
class Lock {
 public:
  explicit Lock(const std::string& folder)
      : fd_(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_.get() >= 0) flock(fd_.get(), LOCK_EX);
  }

 private:
  Descriptor fd_;
};

// Enters a network namespace and comes back. Affects the calling thread only.
class InNamespace {
 public:
  // nullopt where there is no such namespace.
  static Expected<std::optional<InNamespace>> enter(const std::string& netns) {
    if (netns.empty()) return std::optional(InNamespace(Descriptor()));
    const std::string path = path_of(netns);
    const Descriptor there(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (there.get() < 0 && errno == ENOENT) return std::optional<InNamespace>();
    if (there.get() < 0) return failed(path);
    Descriptor home(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (home.get() < 0 || setns(there.get(), CLONE_NEWNET) != 0) return failed(path);
    return std::optional(InNamespace(std::move(home)));
  }
  // The same, where what was asked for is wrong without the namespace.
  static Expected<InNamespace> must_enter(const std::string& netns) {
    auto inside = enter(netns);
    if (!inside) return inside.failure();
    if (!*inside) return Error{fmt::format("network namespace {}: there is none", path_of(netns))};
    return std::move(**inside);
  }
  InNamespace(InNamespace&&) noexcept = default;
  InNamespace& operator=(InNamespace&&) = delete;
  ~InNamespace() {
    if (home_.get() >= 0) setns(home_.get(), CLONE_NEWNET);
  }

 private:
  static std::string path_of(const std::string& netns) {
    return netns.find('/') == std::string::npos ? "/run/netns/" + netns : netns;
  }
  // What is no namespace (EINVAL) was named by mistake.
  static Error failed(const std::string& path) {
    const int error = errno;
    const bool permitted = error != EPERM && error != EACCES;
    return {fmt::format("network namespace {}: {}", path,
                        permitted ? std::strerror(error)
                                  : "not permitted: run as root, or with CAP_SYS_ADMIN"),
            error == EINVAL ? Error::Kind::Input : Error::Kind::Machine};
  }
  explicit InNamespace(Descriptor home) : home_(std::move(home)) {}
  Descriptor home_;
};

// What stands in an endpoint's `record`.
struct Record {
  std::string node, endpoint, device, netns, attach;
  std::uint32_t ifindex = 0;
  bool pod_side = false;
  std::string object, image, identities, classes;
  std::size_t slot = 0;
  std::uint16_t proxy_port = 0;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE(Record, node, endpoint, device, netns, attach, ifindex, pod_side,
                                 object, image, identities, classes, slot, proxy_port)
};

Expected<Record> read_record(const fs::path& folder) {
  const auto map = open_pin(folder / "record");
  if (!map) return map.failure();
  const auto text = read_text_map(map->get());
  if (!text) return text.failure();
  const json j = json::parse(*text, nullptr, false);
  try {
    return j.get<Record>();
  } catch (const json::exception&) {
    return Error{fmt::format("{}: not written by this policyc", (folder / "record").string())};
  }
}

Expected<bool> write_record(const fs::path& folder, const Record& record) {
  const auto map = make_text_map("policyc_record", json(record).dump(), kRecordSize);
  if (!map) return map.failure();
  return pin(map->get(), folder / "record");
}

Hook hook_of(const Record& record, bool ingress) {
  // What comes to the pod leaves through the host's end of its veth pair.
  return {record.ifindex, ingress == record.pod_side};
}

std::vector<fs::path> folders_in(const fs::path& path) {
  std::vector<fs::path> out;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(path, ec)) {
    if (entry.is_directory(ec)) out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// ---- what stands at the devices

// Undecided: this machine does not let us see it.
enum class Standing { InPlace, TakenOff, Gone, Undecided };
struct DeviceState {
  Standing standing = Standing::InPlace;
  std::string problem;  // why it is not in place
};

// Whether the endpoint's device is there, and its programs at the hooks.
DeviceState state_of(const fs::path& folder, const Record& record) {
  const auto inside = InNamespace::enter(record.netns);
  if (!inside) return {Standing::Undecided, inside.error()};
  if (!*inside) return {Standing::Gone, "its network namespace is gone"};
  char name[IF_NAMESIZE];
  if (if_indextoname(record.ifindex, name) == nullptr) {
    const bool another = if_nametoindex(record.device.c_str()) != 0;
    return {Standing::Gone, another ? fmt::format("its device is gone, what is called {} now is "
                                                  "another one: --endpoint and --dev take it",
                                                  record.device)
                                    : "its device is gone"};
  }
  for (const char* direction : {"ingress", "egress"}) {
    const auto program = open_pin(folder / direction);
    const auto wanted =
        program ? program_info(program->get()) : Expected<ObjectInfo>(program.failure());
    if (!wanted && wanted.failure().kind == Error::Kind::Machine) {
      return {Standing::Undecided, wanted.error()};
    }
    std::uint32_t there = 0;
    if (record.attach == "tcx") {
      const auto link = open_pin(folder / fmt::format("{}_link", direction));
      const auto info = link ? link_info(link->get()) : Expected<ObjectInfo>(Error{});
      if (info && info->ifindex != 0) there = info->program;
    } else {
      there = filter_program(hook_of(record, std::string_view(direction) == "ingress"));
    }
    if (!wanted || there != wanted->id) {
      return {Standing::TakenOff, "its program was taken off the device"};
    }
  }
  return {};
}

// Whether the endpoint's programs read this map of its node. They do not after a load that gave the
// node another one and failed for this endpoint.
bool reads_map(const fs::path& folder, std::uint32_t map) {
  for (const char* direction : {"ingress", "egress"}) {
    const auto program = open_pin(folder / direction);
    const auto info = program ? program_info(program->get()) : Expected<ObjectInfo>(Error{});
    if (!info || std::find(info->maps.begin(), info->maps.end(), map) == info->maps.end()) {
      return false;
    }
  }
  return true;
}

bool same_device(const Record& a, const Record& b) {
  return a.ifindex == b.ifindex && a.netns == b.netns && a.pod_side == b.pod_side;
}

// Takes tc's filters off the device that an endpoint has left; links go with their pins.
Expected<bool> leave(const Record& record) {
  if (record.attach != "tc") return true;
  const auto inside = InNamespace::enter(record.netns);
  if (!inside) return inside.failure();
  if (!*inside) return true;  // the namespace is gone, and its devices with it
  for (const bool ingress : {true, false}) {
    const auto gone = detach_filter(hook_of(record, ingress));
    if (!gone) return gone;
  }
  return true;
}

// Takes the programs off their hooks and removes the pins. `record` is nullptr where none was left.
Expected<bool> take_off(const fs::path& folder, const Record* record) {
  if (record != nullptr) {
    const auto left = leave(*record);
    if (!left) return left;
  }
  for (const char* direction : {"ingress", "egress"}) {
    if (const auto link = open_pin(folder / fmt::format("{}_link", direction))) detach(link->get());
  }
  std::error_code ec;
  fs::remove_all(folder, ec);
  if (ec) return Error{fmt::format("{}: {}", folder.string(), ec.message())};
  return true;
}

// Whether `asked` means this name: "ns/Kind/name" is also "ns/name" and "name".
bool names(const std::string& name, const std::string& asked) {
  if (name == asked) return true;
  const std::size_t last = name.rfind('/');
  if (last == std::string::npos) return false;
  const std::string base = name.substr(last + 1);
  return base == asked || name.substr(0, name.find('/')) + "/" + base == asked;
}

// One endpoint on its way into the kernel.
struct Target {
  fs::path folder;
  Record record;                 // as it shall be
  std::optional<Record> before;  // where programs are in place that can be kept or replaced
  const ManifestEndpoint* what = nullptr;
  PolicyImage policy;
  std::optional<LoadedObject> object;  // where the program is new
  LoadChange change = LoadChange::None;
};

// A node's endpoints, and the images they share.
class NodeLoad {
 public:
  NodeLoad(const LoadRequest& request, const Manifest& manifest, std::string node)
      : request_(request),
        manifest_(manifest),
        node_(std::move(node)),
        folder_(fs::path(request.pins) / pin_name(node_)) {}

  Expected<bool> run(const ManifestEndpoint* fresh, std::vector<LoadedNow>& out);

 private:
  Expected<bool> collect(const ManifestEndpoint* fresh, std::vector<LoadedNow>& out);
  Expected<bool> read_images();
  Expected<std::string> read(const std::string& path) const;
  bool can_flip() const;
  Expected<bool> load_objects(bool keep_node);
  Expected<bool> flip();
  Expected<bool> attach(Target& target);
  Expected<bool> pin_all(Target& target);
  NodeSettings settings() const { return {targets_.front().record.proxy_port, false}; }

  const LoadRequest& request_;
  const Manifest& manifest_;
  std::string node_;
  fs::path folder_;
  std::vector<Target> targets_;
  bool node_pinned_ = false;  // the pinned map of the node is the one of the new programs
  IdentityImage identities_;
  ClassImage classes_;
};

Expected<std::string> NodeLoad::read(const std::string& path) const {
  auto bytes = read_artefact(request_.directory + "/" + path);
  if (!bytes) return bytes;
  const auto hash = manifest_.sha256.find(path);
  if (hash == manifest_.sha256.end() || sha256_hex(*bytes) != hash->second) {
    return Error{fmt::format("{}/{} is not what the manifest records; compile again",
                             request_.directory, path)};
  }
  return bytes;
}

const ManifestEndpoint* find_endpoint(const Manifest& manifest, const std::string& node,
                                      const std::string& name) {
  for (const ManifestEndpoint& e : manifest.endpoints) {
    if (e.view != node) continue;
    if (std::find(e.names.begin(), e.names.end(), name) != e.names.end()) return &e;
  }
  return nullptr;
}

Expected<bool> NodeLoad::collect(const ManifestEndpoint* fresh, std::vector<LoadedNow>& out) {
  const auto node = open_pin(folder_ / "node");
  const auto node_info = node ? map_info(node->get()) : Expected<ObjectInfo>(Error{});
  std::string name = fresh != nullptr ? fresh->names.front() : "";
  for (const std::string& n : fresh != nullptr ? fresh->names : std::vector<std::string>()) {
    if (names(n, request_.endpoint)) name = n;
  }
  for (const fs::path& folder : folders_in(folder_)) {
    auto record = read_record(folder);
    if (!record) continue;  // the remains of a load that failed; it is made anew or unloaded
    const DeviceState state = state_of(folder, *record);
    const bool asked = fresh != nullptr && record->endpoint == name;
    if (state.standing == Standing::Gone && !(asked && !request_.device.empty())) {
      out.push_back({node_, record->endpoint, record->device, LoadChange::Gone,
                     Error{state.problem + "; unload removes what is left of it"}});
      if (asked) fresh = nullptr;
      continue;
    }
    if (state.standing == Standing::Undecided) {
      return Error{fmt::format("{} on {}: {}", record->endpoint, record->device, state.problem),
                   Error::Kind::Machine};
    }
    Target t;
    t.folder = folder;
    t.record = *record;
    t.what = find_endpoint(manifest_, node_, record->endpoint);
    if (t.what == nullptr) {
      return Error{fmt::format(
          "{} is loaded on node {}, and {} has no program for it: its node changes as a whole, so "
          "compile for it too, or unload it first",
          record->endpoint, node_, request_.directory)};
    }
    const bool kept =
        state.standing == Standing::InPlace && node_info && reads_map(folder, node_info->id);
    if (kept || state.standing == Standing::Gone) t.before = std::move(*record);
    targets_.push_back(std::move(t));
  }
  if (fresh != nullptr) {
    const auto there = std::find_if(targets_.begin(), targets_.end(),
                                    [&](const Target& t) { return t.record.endpoint == name; });
    Target t;
    Target& target = there == targets_.end() ? t : *there;
    if (there == targets_.end()) {
      if (request_.device.empty()) {
        return Error{fmt::format("{} is not loaded yet: --dev names its device", name)};
      }
      t.folder = folder_ / pin_name(name);
      t.what = fresh;
      t.record.node = node_;
      t.record.endpoint = name;
    }
    if (!request_.device.empty()) {
      Record& r = target.record;
      r.device = request_.device;
      r.netns = request_.netns;
      r.pod_side = request_.pod_side;
      const auto inside = InNamespace::must_enter(r.netns);
      if (!inside) return inside.failure();
      r.ifindex = if_nametoindex(r.device.c_str());
      if (r.ifindex == 0) return Error{fmt::format("no device {} here", r.device)};
      const auto all = loaded(request_.pins);
      if (!all) return all.failure();
      for (const LoadedStatus& s : *all) {
        if (s.ifindex != r.ifindex || s.netns != r.netns ||
            (s.node == node_ && s.endpoint == name)) {
          continue;
        }
        return Error{fmt::format("device {} is {}'s already: `policyc unload --endpoint {}` first",
                                 r.device, s.endpoint, s.endpoint)};
      }
    }
    if (there == targets_.end()) targets_.push_back(std::move(t));
  }
  for (Target& t : targets_) {
    t.record.object = t.what->object;
    t.record.image = t.what->image;
    t.record.identities = t.what->identities;
    t.record.classes = t.what->classes;
    t.record.slot = t.what->slot;
    t.record.proxy_port = request_.proxy_port;
  }
  return true;
}

Expected<bool> NodeLoad::read_images() {
  const ManifestEndpoint& first = *targets_.front().what;
  const auto bad = [&](const std::string& path, const std::string& why) {
    return Error{fmt::format("{}/{}: {}", request_.directory, path, why)};
  };
  const auto identity_bytes = read(first.identities);
  if (!identity_bytes) return identity_bytes.failure();
  auto identities = read_identity_image(*identity_bytes);
  if (!identities) return bad(first.identities, identities.error());
  const auto class_bytes = read(first.classes);
  if (!class_bytes) return class_bytes.failure();
  auto classes = read_class_image(*class_bytes);
  if (!classes) return bad(first.classes, classes.error());
  identities_ = std::move(*identities);
  classes_ = std::move(*classes);
  for (Target& t : targets_) {
    const ManifestEndpoint& e = *t.what;
    if (e.identities != first.identities || e.classes != first.classes ||
        e.sizes.node_size() != first.sizes.node_size()) {
      return Error{fmt::format("{}: {} and {} are not of one compile; compile the whole node again",
                               request_.directory, targets_.front().record.endpoint,
                               t.record.endpoint)};
    }
    const auto bytes = read(e.image);
    if (!bytes) return bytes.failure();
    auto policy = read_policy_image(*bytes);
    if (!policy) return bad(e.image, policy.error());
    if (!fits(identities_, classes_, *policy, e.sizes) ||
        !belong_together(*policy, classes_, e.slot)) {
      return bad("manifest.json", "the images do not belong together; compile again");
    }
    t.policy = std::move(*policy);
  }
  return true;
}

// Whether all that is loaded can take the new contents as it stands.
bool NodeLoad::can_flip() const {
  const auto node = open_pin(folder_ / "node");
  if (!node) return false;
  const auto node_info = map_info(node->get());
  if (!node_info || node_info->value_size != targets_.front().what->sizes.node_size()) return false;
  return std::all_of(targets_.begin(), targets_.end(), [](const Target& t) {
    if (!t.before) return true;
    if (t.before->object != t.record.object) return false;
    const auto map = open_pin(t.folder / "policy");
    if (!map) return false;
    const auto info = map_info(map->get());
    return info && info->value_size == t.what->sizes.policy_size();
  });
}

// New programs: for all targets with a new node map, or with the one there is.
Expected<bool> NodeLoad::load_objects(bool keep_node) {
  Descriptor node;
  if (keep_node) {
    auto there = open_pin(folder_ / "node");
    if (!there) return there.failure();
    node = std::move(*there);
  }
  int node_fd = node.get();
  std::map<std::string, Descriptor> lasting;
  for (const char* name : kLastingMaps) {
    if (auto there = open_pin(folder_ / name)) lasting[name] = std::move(*there);
  }
  for (Target& t : targets_) {
    if (keep_node && t.before) continue;
    const auto elf = read(t.what->object);
    if (!elf) return elf.failure();
    std::vector<MapValue> values = {
        {kPolicyMap, policy_value(t.policy, classes_, t.what->slot, t.what->sizes)}};
    std::vector<std::pair<std::string, int>> maps;
    if (node_fd < 0) {
      values.push_back({kNodeMap, node_value(identities_, classes_, t.what->sizes, settings())});
    } else {
      maps.emplace_back(kNodeMap, node_fd);
    }
    for (const auto& [name, fd] : lasting) {
      if (manifest_.stateful) maps.emplace_back(name, fd.get());
    }
    // Who reads the events goes on reading them.
    const auto events = open_pin(t.folder / kEventsMap);
    if (manifest_.events && events) maps.emplace_back(kEventsMap, events->get());
    auto object = LoadedObject::load_with(*elf, values, maps);
    if (!object) {
      return object.failure().at(request_.directory + "/" + t.what->object);
    }
    t.object = std::move(*object);
    if (node_fd < 0) node_fd = t.object->map_descriptor(kNodeMap);
    for (const char* name : kLastingMaps) {
      const int fd = t.object->map_descriptor(name);
      if (fd >= 0 && lasting.count(name) == 0) lasting[name] = Descriptor(dup(fd));
    }
    t.change = t.before ? LoadChange::Replaced : LoadChange::Loaded;
  }
  return true;
}

// Steps 1 to 4 of layout.h.
Expected<bool> NodeLoad::flip() {
  struct Part {
    MappedValue map;
    std::string half;
    std::size_t offset[2];
  };
  std::vector<Part> parts;
  const auto add = [&](const fs::path& pin_path, std::string half, std::size_t first,
                       std::size_t second) -> Expected<bool> {
    const auto map = open_pin(pin_path);
    if (!map) return map.failure();
    auto mapped = MappedValue::open(map->get());
    if (!mapped) return mapped.failure();
    parts.push_back({std::move(*mapped), std::move(half), {first, second}});
    return true;
  };
  const SizeClass& node_size = targets_.front().what->sizes;
  auto added = add(folder_ / "node", node_half(identities_, classes_, node_size),
                   node_size.node_half_offset(0), node_size.node_half_offset(1));
  if (!added) return added;
  bool changed = false;
  for (Target& t : targets_) {
    if (!t.before) continue;
    const Record& b = *t.before;
    const bool same = b.image == t.record.image && b.identities == t.record.identities &&
                      b.classes == t.record.classes && b.slot == t.record.slot;
    if (!same) {
      t.change = LoadChange::Switched;
      changed = true;
    }
    const SizeClass& s = t.what->sizes;
    added = add(t.folder / "policy", policy_half(t.policy, classes_, t.what->slot, s),
                s.policy_half_offset(0), s.policy_half_offset(1));
    if (!added) return added;
  }
  std::uint8_t* node = parts.front().map.data();
  auto* proxy = reinterpret_cast<std::uint32_t*>(node + kProxyPortOffset);
  const std::uint32_t port = __builtin_bswap16(request_.proxy_port);
  if (*proxy != port) std::atomic_ref(*proxy).store(port, std::memory_order_relaxed);
  if (!changed) return true;
  std::atomic_ref generation(*reinterpret_cast<std::uint32_t*>(node + kGenerationOffset));
  const std::uint32_t now = generation.load(std::memory_order_acquire);
  // A load that was cut off may have left the other half behind, so it is written whole each time;
  // the wait at the end has made sure that nobody reads it.
  auto waited = wait_for_programs();
  if (!waited) return waited;
  const auto write = [&](std::uint32_t half) {
    for (const Part& p : parts) {
      std::memcpy(p.map.data() + p.offset[half], p.half.data(), p.half.size());
    }
  };
  write((now + 1) & 1);
  generation.store(now + 1, std::memory_order_release);
  waited = wait_for_programs();
  if (!waited) return waited;
  write(now & 1);
  return true;
}

// Puts the target's new programs to its device, in place of the old ones where there are any. Where
// the second cannot be, the first is taken away again.
Expected<bool> NodeLoad::attach(Target& t) {
  const auto inside = InNamespace::must_enter(t.record.netns);
  if (!inside) return inside.failure();
  const bool same_hook = t.before && same_device(*t.before, t.record);
  const bool keep_way = same_hook || (request_.attach == "auto" && !t.record.attach.empty());
  const std::string way = keep_way ? t.record.attach : request_.attach;
  struct Half {
    Hook hook;
    Descriptor old;      // the program that was there
    Descriptor link;     // of tcx
    bool fresh = false;  // the link is a new one
  };
  std::map<std::string, Half> halves;
  const auto put = [&](const std::string& name, Half& half, int program) -> Expected<bool> {
    if (auto old = open_pin(t.folder / name); old && same_hook) half.old = std::move(*old);
    if (same_hook && way == "tcx") {
      auto link = open_pin(t.folder / (name + "_link"));
      const auto info = link ? link_info(link->get()) : Expected<ObjectInfo>(Error{});
      if (info && info->ifindex == t.record.ifindex) {
        half.link = std::move(*link);
        return replace_program(half.link.get(), program);
      }
    }
    if (way != "tc") {
      auto link = attach_tcx(program, half.hook);
      if (!link) return link.failure();
      if (*link) {
        half.link = std::move(**link);
        half.fresh = true;
        return true;
      }
      if (way == "tcx") {
        return Error{"this kernel has no tcx (6.6 and up): use --attach tc", Error::Kind::Machine};
      }
    }
    return attach_filter(program, half.hook);
  };
  const auto undo = [](const Half& half) {
    const bool replaced = half.old.get() >= 0;
    if (half.fresh) return;  // goes with its handle
    if (half.link.get() >= 0) {
      if (replaced) static_cast<void>(replace_program(half.link.get(), half.old.get()));
    } else if (replaced) {
      static_cast<void>(attach_filter(half.old.get(), half.hook));
    } else {
      static_cast<void>(detach_filter(half.hook));
    }
  };
  for (const char* name : {"ingress", "egress"}) {
    const bool ingress = std::string_view(name) == "ingress";
    Half& half = halves[name];
    half.hook = hook_of(t.record, ingress);
    const auto done =
        put(name, half, t.object->program_descriptor(ingress ? kIngressProgram : kEgressProgram));
    if (done) continue;
    halves.erase(name);
    for (const auto& [other, first] : halves) undo(first);
    return done.failure();
  }
  // An `ingress` qdisc takes filters for both hooks, and has one.
  for (const auto& [name, half] : halves) {
    if (half.link.get() >= 0) continue;
    const auto wanted = program_info(
        t.object->program_descriptor(name == "ingress" ? kIngressProgram : kEgressProgram));
    if (wanted && filter_program(half.hook) == wanted->id) continue;
    for (const auto& [other, each] : halves) undo(each);
    return Error{
        "another qdisc stands where clsact would, and does not hold the programs of both "
        "directions: replace it (tc qdisc replace dev DEVICE clsact), or use --attach tcx",
        Error::Kind::Machine};
  }
  std::error_code ec;
  fs::create_directories(t.folder, ec);
  for (auto& [name, half] : halves) {
    t.record.attach = half.link.get() >= 0 ? "tcx" : "tc";
    if (!half.fresh) continue;
    const auto pinned = pin(half.link.get(), t.folder / (name + "_link"));
    if (!pinned) return pinned;
  }
  return true;
}

// Pins what the target's new programs are made of.
Expected<bool> NodeLoad::pin_all(Target& t) {
  std::vector<std::pair<int, fs::path>> pins = {
      {t.object->map_descriptor(kPolicyMap), t.folder / "policy"},
      {t.object->program_descriptor(kIngressProgram), t.folder / "ingress"},
      {t.object->program_descriptor(kEgressProgram), t.folder / "egress"},
  };
  if (!node_pinned_) pins.emplace_back(t.object->map_descriptor(kNodeMap), folder_ / "node");
  for (const char* name : kLastingMaps)
    pins.emplace_back(t.object->map_descriptor(name), folder_ / name);
  const int events = t.object->map_descriptor(kEventsMap);
  pins.emplace_back(events, t.folder / kEventsMap);
  for (const auto& [fd, path] : pins) {
    if (fd < 0) continue;
    const auto pinned = pin(fd, path);
    if (!pinned) return pinned;
  }
  node_pinned_ = true;
  std::error_code ec;
  if (events < 0) fs::remove(t.folder / kEventsMap, ec);
  return true;
}

Expected<bool> NodeLoad::run(const ManifestEndpoint* fresh, std::vector<LoadedNow>& out) {
  auto ok = collect(fresh, out);
  if (!ok) return ok;
  if (targets_.empty()) return true;
  ok = read_images();
  if (!ok) return ok;
  node_pinned_ = can_flip();
  // A target that moves to another device is loaded anew.
  std::map<std::string, Record> moved;  // by endpoint
  for (Target& t : targets_) {
    if (!t.before || same_device(*t.before, t.record)) continue;
    moved.emplace(t.record.endpoint, *t.before);
    t.before.reset();
  }
  ok = load_objects(node_pinned_);
  if (!ok) return ok;
  if (node_pinned_) {
    ok = flip();
    if (!ok) return ok;
  }
  for (Target& t : targets_) {
    const bool new_here = !fs::exists(t.folder / "record");
    if (t.object) ok = attach(t);
    if (ok && t.object) ok = pin_all(t);
    if (ok) ok = write_record(t.folder, t.record);
    if (const auto old = moved.find(t.record.endpoint); ok && old != moved.end()) {
      ok = leave(old->second);
    }
    if (!ok) {
      // What was not loaded before leaves nothing behind.
      if (new_here) static_cast<void>(take_off(t.folder, &t.record));
      const DeviceState state = state_of(t.folder, t.record);
      const bool gone = !new_here && state.standing == Standing::Gone;
      out.push_back({node_, t.record.endpoint, t.record.device,
                     gone ? LoadChange::Gone : LoadChange::Failed,
                     gone ? Error{state.problem} : ok.failure()});
      ok = true;
      continue;
    }
    out.push_back({node_, t.record.endpoint, t.record.device, t.change, std::nullopt});
  }
  std::error_code ec;
  if (folders_in(folder_).empty()) fs::remove_all(folder_, ec);
  return true;
}

Expected<bool> check_root(const std::string& pins) {
  if (const auto why = kernel_unavailable()) return Error{*why, Error::Kind::Machine};
  if (in_bpffs(pins)) return true;
  return Error{
      fmt::format("{} is not in a BPF file system: mount -t bpf bpf /sys/fs/bpf, or choose --pin",
                  pins),
      Error::Kind::Machine};
}

}  // namespace

Expected<std::vector<LoadedNow>> load(const LoadRequest& request) {
  const auto usable = check_root(request.pins);
  if (!usable) return usable.failure();
  const auto manifest = read_manifest(request.directory);
  if (!manifest) return manifest.failure();
  std::error_code ec;
  fs::create_directories(request.pins, ec);
  if (ec) return Error{fmt::format("{}: {}", request.pins, ec.message())};
  const Lock lock(request.pins);
  std::vector<LoadedNow> out;
  if (request.endpoint.empty()) {
    std::vector<std::string> nodes;
    const auto all = loaded(request.pins);
    if (!all) return all.failure();
    for (const LoadedStatus& s : *all) {
      if (nodes.empty() || nodes.back() != s.node) nodes.push_back(s.node);
    }
    if (nodes.empty()) {
      return Error{"nothing is loaded yet: --endpoint and --dev say what to load, and where"};
    }
    for (const std::string& node : nodes) {
      const auto done = NodeLoad(request, *manifest, node).run(nullptr, out);
      if (!done) return done.failure();
    }
    return out;
  }
  std::vector<const ManifestEndpoint*> found;
  for (const ManifestEndpoint& e : manifest->endpoints) {
    if (!request.node.empty() && e.view != request.node) continue;
    if (std::any_of(e.names.begin(), e.names.end(),
                    [&](const std::string& n) { return names(n, request.endpoint); })) {
      found.push_back(&e);
    }
  }
  if (found.size() != 1) {
    std::string candidates;
    for (const ManifestEndpoint& e :
         found.empty() ? manifest->endpoints : std::vector<ManifestEndpoint>()) {
      candidates +=
          fmt::format("\n  {} on node {}", e.names.empty() ? e.view : e.names.front(), e.view);
    }
    for (const ManifestEndpoint* e : found) {
      candidates += fmt::format("\n  {} on node {}", e->names.front(), e->view);
    }
    return Error{fmt::format("{} endpoint{} of {} {} called {}:{}",
                             found.empty() ? "no" : "more than one", found.empty() ? "" : "s",
                             request.directory, found.empty() ? "is" : "are", request.endpoint,
                             candidates)};
  }
  const auto done = NodeLoad(request, *manifest, found.front()->view).run(found.front(), out);
  if (!done) return done.failure();
  return out;
}

Expected<std::vector<LoadedStatus>> loaded(const std::string& pins) {
  const auto usable = check_root(pins);
  if (!usable) return usable.failure();
  std::vector<LoadedStatus> out;
  std::error_code ec;
  for (const fs::path& node : folders_in(pins)) {
    std::uint32_t generation = 0;
    if (const auto map = open_pin(node / "node")) {
      if (const auto value = MappedValue::open(map->get())) {
        std::memcpy(&generation, value->data() + kGenerationOffset, sizeof generation);
      }
    }
    for (const fs::path& folder : folders_in(node)) {
      LoadedStatus s;
      s.generation = generation;
      const auto record = read_record(folder);
      if (!record) {
        s.node = node.filename();
        s.endpoint = folder.filename();
        s.problem = "the remains of a load that failed; unload removes them";
        out.push_back(std::move(s));
        continue;
      }
      s.node = record->node;
      s.endpoint = record->endpoint;
      s.device = record->device;
      s.netns = record->netns;
      s.attach = record->attach;
      s.ifindex = record->ifindex;
      s.pod_side = record->pod_side;
      s.object = record->object;
      s.image = record->image;
      s.identities = record->identities;
      if (fs::exists(folder / kEventsMap, ec)) s.events = folder / kEventsMap;
      const DeviceState state = state_of(folder, *record);
      s.attached = state.standing == Standing::InPlace;
      s.undecided = state.standing == Standing::Undecided;
      s.problem = state.problem;
      out.push_back(std::move(s));
    }
  }
  return out;
}

Expected<std::vector<Unloaded>> unload(const std::string& pins, const std::string& endpoint) {
  const auto usable = check_root(pins);
  if (!usable) return usable.failure();
  const Lock lock(pins);
  std::vector<Unloaded> out;
  std::error_code ec;
  for (const fs::path& node : folders_in(pins)) {
    for (const fs::path& folder : folders_in(node)) {
      const auto record = read_record(folder);
      const std::string name = record ? record->endpoint : folder.filename().string();
      if (!endpoint.empty() && !names(name, endpoint)) continue;
      const auto gone = take_off(folder, record ? &*record : nullptr);
      out.push_back({name, gone ? std::nullopt : std::optional(gone.failure())});
    }
    if (folders_in(node).empty()) fs::remove_all(node, ec);
  }
  if (folders_in(pins).empty()) fs::remove(pins, ec);
  return out;
}

}  // namespace policyc::bpf
