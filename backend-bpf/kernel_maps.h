// Maps of the kernel as lists of keys and values: made, filled in batches, read back. For maps in
// Cilium's layout, live ones included. No libbpf type shows here.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::bpf {

// What the kernel keeps of a map; type and flags as in linux/bpf.h.
struct MapDefinition {
  std::uint32_t type = 0;
  std::uint32_t key_size = 0;    // bytes
  std::uint32_t value_size = 0;  // bytes
  std::uint32_t max_entries = 0;
  std::uint32_t flags = 0;
  friend bool operator==(const MapDefinition&, const MapDefinition&) = default;
};

using MapEntry = std::pair<std::string, std::string>;  // bytes of key and value

// An open map; pins and programs keep it alive beyond this handle.
class KernelMap {
 public:
  // `name` is what bpftool shows: letters, digits, `_`, at most 15.
  static Expected<KernelMap> create(const char* name, const MapDefinition& definition);
  // What is pinned at this path. Errors: nothing is, no map, or no permission.
  static Expected<KernelMap> open(const std::string& path);
  // Another handle for an open map.
  static Expected<KernelMap> of_descriptor(int descriptor);
  KernelMap(KernelMap&& other) noexcept;
  KernelMap& operator=(KernelMap&& other) noexcept;
  ~KernelMap();

  int descriptor() const { return descriptor_; }
  Expected<MapDefinition> definition() const;
  // Adds or replaces; in batches where the kernel has them. Errors name how many were written.
  Expected<bool> put(const std::vector<MapEntry>& entries);
  // Removes; keys that are not there are no error.
  Expected<bool> remove(const std::vector<MapEntry>& entries);
  // Sorted by key. A map that others write meanwhile gives what was seen on the way.
  Expected<std::vector<MapEntry>> dump() const;
  Expected<bool> pin(const std::string& path);

 private:
  explicit KernelMap(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace policyc::bpf
