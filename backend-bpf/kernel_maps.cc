#include "backend-bpf/kernel_maps.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "backend-bpf/kernel.h"

namespace policyc::bpf {
namespace {

constexpr std::size_t kBatch = 4096;  // entries of one call

std::string why(int error) {
  return error == EPERM || error == EACCES
             ? "no permission: run as root, or with CAP_BPF and CAP_NET_ADMIN"
             : std::strerror(error);
}

}  // namespace

Expected<KernelMap> KernelMap::create(const char* name, const MapDefinition& definition) {
  if (const auto missing = kernel_unavailable()) return Error{*missing, Error::Kind::Machine};
  bpf_map_create_opts options{};
  options.sz = sizeof options;
  options.map_flags = definition.flags;
  const int fd =
      bpf_map_create(static_cast<bpf_map_type>(definition.type), name, definition.key_size,
                     definition.value_size, definition.max_entries, &options);
  if (fd < 0) return Error{fmt::format("the kernel makes no map `{}`: {}", name, why(errno))};
  return KernelMap(fd);
}

Expected<KernelMap> KernelMap::open(const std::string& path) {
  const int fd = bpf_obj_get(path.c_str());
  if (fd < 0) return Error{fmt::format("{}: {}", path, why(errno))};
  KernelMap map(fd);
  const auto is_map = map.definition();
  if (!is_map) return Error{fmt::format("{}: not a map", path)};
  return map;
}

Expected<KernelMap> KernelMap::of_descriptor(int descriptor) {
  const int fd = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return Error{fmt::format("no open map: {}", why(errno))};
  return KernelMap(fd);
}

KernelMap::KernelMap(KernelMap&& other) noexcept : descriptor_(other.descriptor_) {
  other.descriptor_ = -1;
}

KernelMap& KernelMap::operator=(KernelMap&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

KernelMap::~KernelMap() {
  if (descriptor_ >= 0) close(descriptor_);
}

Expected<MapDefinition> KernelMap::definition() const {
  bpf_map_info info{};
  __u32 size = sizeof info;
  if (bpf_obj_get_info_by_fd(descriptor_, &info, &size) != 0 || info.key_size == 0) {
    return Error{fmt::format("not a map: {}", why(errno))};
  }
  return MapDefinition{info.type, info.key_size, info.value_size, info.max_entries, info.map_flags};
}

Expected<bool> KernelMap::put(const std::vector<MapEntry>& entries) {
  const auto shape = definition();
  if (!shape) return Error{shape.error()};
  for (const auto& [key, value] : entries) {
    if (key.size() != shape->key_size || value.size() != shape->value_size) {
      return Error{fmt::format("the map takes {}-byte keys and {}-byte values, not {} and {}",
                               shape->key_size, shape->value_size, key.size(), value.size())};
    }
  }
  std::size_t done = 0;
  while (done < entries.size()) {
    const std::size_t count = std::min(kBatch, entries.size() - done);
    std::string keys, values;
    for (std::size_t i = done; i < done + count; ++i) {
      keys += entries[i].first;
      values += entries[i].second;
    }
    bpf_map_batch_opts options{};
    options.sz = sizeof options;
    __u32 written = static_cast<__u32>(count);
    if (bpf_map_update_batch(descriptor_, keys.data(), values.data(), &written, &options) == 0) {
      done += count;
      continue;
    }
    // Kernels before 5.6 have no batches, and some maps none.
    if (errno == EINVAL || errno == ENOTSUP || errno == 524) {
      while (done < entries.size() &&
             bpf_map_update_elem(descriptor_, entries[done].first.data(),
                                 entries[done].second.data(), BPF_ANY) == 0) {
        ++done;
      }
      if (done == entries.size()) break;
    }
    const std::string said = errno == ENOSPC || errno == E2BIG
                                 ? fmt::format("it is full at {} entries", shape->max_entries)
                                 : why(errno);
    return Error{fmt::format("{} of {} entries written at least: {}", done, entries.size(), said)};
  }
  return true;
}

Expected<bool> KernelMap::remove(const std::vector<MapEntry>& entries) {
  for (const auto& [key, value] : entries) {
    if (bpf_map_delete_elem(descriptor_, key.data()) != 0 && errno != ENOENT) {
      return Error{fmt::format("an entry cannot be removed: {}", why(errno))};
    }
  }
  return true;
}

Expected<std::vector<MapEntry>> KernelMap::dump() const {
  const auto shape = definition();
  if (!shape) return Error{shape.error()};
  std::vector<MapEntry> out;
  std::string key, value(shape->value_size, '\0'), next(shape->key_size, '\0');
  while (bpf_map_get_next_key(descriptor_, key.empty() ? nullptr : key.data(), next.data()) == 0) {
    key = next;
    if (bpf_map_lookup_elem(descriptor_, key.data(), value.data()) == 0) {
      out.emplace_back(key, value);
    } else if (errno != ENOENT) {
      return Error{fmt::format("an entry cannot be read: {}", why(errno))};
    }
    // A writer that removes what was seen last sends the walk back to the start.
    if (out.size() > 2 * std::size_t{shape->max_entries}) {
      return Error{"the map changes faster than it is read"};
    }
  }
  if (errno != ENOENT) return Error{fmt::format("the map cannot be read: {}", why(errno))};
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end(),
                        [](const MapEntry& a, const MapEntry& b) { return a.first == b.first; }),
            out.end());
  return out;
}

Expected<bool> KernelMap::pin(const std::string& path) {
  if (bpf_obj_pin(descriptor_, path.c_str()) == 0) return true;
  return Error{fmt::format("{}: cannot be pinned: {}", path, why(errno))};
}

}  // namespace policyc::bpf
