// `policyc load`, `status` and `unload`: what `compile` wrote, put to work at devices of this
// machine, from pins in a BPF file system. Below the root of the pins:
//   NODE/node                    the map that the node's endpoints share (layout.h)
//   NODE/{flows,fragments}       likewise, where the programs have them; they outlive a program
//   NODE/ENDPOINT/policy         the endpoint's map
//   NODE/ENDPOINT/events         its ring buffer (event.h), where the programs tell of verdicts
//   NODE/ENDPOINT/{ingress,egress}            its programs
//   NODE/ENDPOINT/{ingress_link,egress_link}  their links, where the kernel has tcx
//   NODE/ENDPOINT/record         one text (JSON): what is loaded, and where
// In names `/` becomes `_`, `.` becomes `__`, and what else bpffs may refuse `___` and its number.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::bpf {

inline constexpr const char* kDefaultPins = "/sys/fs/bpf/policyc";

struct LoadRequest {
  std::string directory;  // what `compile` wrote
  std::string pins;       // root, in a BPF file system
  // The endpoint to load, as the manifest names its pods (or without namespace and kind), or, where
  // this is empty, all that are loaded already.
  std::string endpoint;
  std::string node;             // where several nodes have that endpoint
  std::string device;           // for an endpoint that is not loaded yet
  std::string netns;            // name (ip netns) or path of the device's network namespace
  bool pod_side = false;        // the device is the pod's own, not the other end of its veth pair
  std::string attach = "auto";  // tcx, tc (clsact), or what the kernel has
  std::uint16_t proxy_port = 0;
};

// What happened to an endpoint. Gone: its device is not there any more, and its programs went with
// it. Failed: it is as it was before, and an endpoint that was not loaded leaves nothing behind.
enum class LoadChange { None, Loaded, Switched, Replaced, Gone, Failed };
struct LoadedNow {
  std::string node, endpoint, device;
  LoadChange change = LoadChange::None;
  std::optional<Error> problem;  // Gone and Failed: why
};

// Brings the endpoint, and all endpoints of its node that are loaded, to what the directory says.
// Where the programs stay as they are, all of them change between two packets (generation flip, see
// layout.h); otherwise new programs with maps of their own take the place of the old ones, each
// between two packets. Nothing changes before everything is in the kernel. A program that was taken
// off its device is put there again. Endpoints that cannot be helped do not keep the others from
// changing. Errors: a message that says what to do; nothing has changed on that node then.
Expected<std::vector<LoadedNow>> load(const LoadRequest& request);

struct LoadedStatus {
  std::string node, endpoint, device, netns, attach;
  std::uint32_t ifindex = 0;
  bool pod_side = false;
  // File names, which carry the hash of the contents.
  std::string object, image, identities;
  std::string events;  // where its ring buffer is pinned; empty: its programs have none
  std::uint32_t generation = 0;
  bool attached = false;   // both programs stand at their hooks
  std::string problem;     // why not; or what is wrong with the pins
  bool undecided = false;  // this machine does not let us see what is attached; `problem` says why
};
// All that is pinned below the root, by node and endpoint. A root that is not there holds nothing;
// one outside a BPF file system is an error (of kind Machine, as for the others).
Expected<std::vector<LoadedStatus>> loaded(const std::string& pins);

struct Unloaded {
  std::string endpoint;
  std::optional<Error> problem;  // it is still loaded, and why
};
// Takes the endpoint away from its device and removes its pins; all endpoints where it is empty.
// Remains of loads that failed go too.
Expected<std::vector<Unloaded>> unload(const std::string& pins, const std::string& endpoint);

}  // namespace policyc::bpf
