// What outlives policyc in the kernel: pins in bpffs, programs at the hooks of devices, mapped
// tables. Descriptors stand for kernel objects; no libbpf type shows here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::bpf {

// An open descriptor, closed with its handle.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const { return fd_; }

 private:
  int fd_;
};

// Whether `path`, or the folder above it that exists, lies in a BPF file system.
bool in_bpffs(const std::string& path);
// What is pinned there. Errors: nothing is, or no permission.
Expected<Descriptor> open_pin(const std::string& path);
// Pins, in place of what was pinned there before (by renaming: the path never lacks an object).
Expected<bool> pin(int fd, const std::string& path);

struct ObjectInfo {
  std::uint32_t id = 0;
  std::uint32_t value_size = 0;     // maps
  std::uint32_t ifindex = 0;        // links: 0 when the device went away
  std::uint32_t program = 0;        // links: the program's id
  std::vector<std::uint32_t> maps;  // programs: ids of their maps
};
Expected<ObjectInfo> map_info(int fd);
Expected<ObjectInfo> program_info(int fd);
Expected<ObjectInfo> link_info(int fd);

// A map with one value, as texts are kept in the kernel (NUL-terminated, up to `size` bytes).
Expected<Descriptor> make_text_map(const char* name, const std::string& text, std::size_t size);
Expected<std::string> read_text_map(int fd);

// The value of an array map of one element, mapped into memory: stores are seen by programs at
// once. The map must be mmapable (.bss and .data are).
class MappedValue {
 public:
  static Expected<MappedValue> open(int map);
  MappedValue(MappedValue&& other) noexcept;
  MappedValue& operator=(MappedValue&&) = delete;
  ~MappedValue();
  std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  MappedValue(std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  std::uint8_t* data_;
  std::size_t size_;
};

// Returns when every program that ran at the call has ended.
Expected<bool> wait_for_programs();

// A hook of a device, in the network namespace of the calling thread.
struct Hook {
  std::uint32_t ifindex = 0;
  bool device_ingress = true;  // packets that the device receives; else those that it sends
};

// tcx (kernel 6.6): a link that holds the program at the hook; detached when its last pin and
// descriptor go. nullopt where the kernel has no tcx.
Expected<std::optional<Descriptor>> attach_tcx(int program, const Hook& hook);
// The link's program becomes this one; each packet meets one of the two.
Expected<bool> replace_program(int link, int program);
// Takes the program of a link away from its hook.
void detach(int link);

// The classifier of a clsact qdisc, which is made where the device has none: policyc's filter is
// the one with this priority. Attaching replaces it, as above. A qdisc stays when its filter goes.
inline constexpr std::uint32_t kFilterPriority = 0x7043;
Expected<bool> attach_filter(int program, const Hook& hook);
Expected<bool> detach_filter(const Hook& hook);
// Id of the program of that filter; 0 where there is none.
std::uint32_t filter_program(const Hook& hook);

}  // namespace policyc::bpf
