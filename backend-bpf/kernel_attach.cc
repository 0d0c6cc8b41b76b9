#include "backend-bpf/kernel_attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace policyc::bpf {
namespace {

// linux/bpf.h of kernel 6.6; older headers do not have them.
constexpr int kTcxIngress = 46;
constexpr int kTcxEgress = 47;

// What a call came to that failed with this number. Objects that are not there are an input's
// mistake, everything else is this machine's.
Error failed(int error) {
  if (error == EPERM || error == EACCES) {
    return {"not permitted: run as root, or with CAP_BPF and CAP_NET_ADMIN", Error::Kind::Machine};
  }
  const bool missing = error == ENOENT || error == ENODEV || error == ENXIO;
  return {std::strerror(error), missing ? Error::Kind::Input : Error::Kind::Machine};
}

std::size_t page_rounded(std::size_t size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page;
}

bpf_tc_hook tc_hook(const Hook& hook) {
  bpf_tc_hook out{};
  out.sz = sizeof out;
  out.ifindex = static_cast<int>(hook.ifindex);
  out.attach_point = hook.device_ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  return out;
}

bpf_tc_opts tc_options() {
  bpf_tc_opts out{};
  out.sz = sizeof out;
  out.handle = 1;
  out.priority = kFilterPriority;
  return out;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.fd_;
    other.fd_ = -1;
  }
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

bool in_bpffs(const std::string& path) {
  std::filesystem::path at = std::filesystem::absolute(path);
  std::error_code ec;
  while (!std::filesystem::exists(at, ec) && at.has_relative_path()) at = at.parent_path();
  struct statfs info {};
  return statfs(at.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC;
}

Expected<Descriptor> open_pin(const std::string& path) {
  const int fd = bpf_obj_get(path.c_str());
  if (fd < 0) return failed(errno).at(path);
  return Descriptor(fd);
}

Expected<bool> pin(int fd, const std::string& path) {
  const std::string fresh = path + "_new";
  unlink(fresh.c_str());
  if (bpf_obj_pin(fd, fresh.c_str()) != 0 || std::rename(fresh.c_str(), path.c_str()) != 0) {
    const int why = errno;
    unlink(fresh.c_str());
    return failed(why).at(path);
  }
  return true;
}

namespace {

// What the kernel tells of an object; `asked` says what it shall fill in.
template <class Info>
Expected<Info> info_of(int fd, Info asked = {}) {
  __u32 size = sizeof asked;
  if (bpf_obj_get_info_by_fd(fd, &asked, &size) != 0) return failed(errno);
  return asked;
}

}  // namespace

Expected<ObjectInfo> map_info(int fd) {
  const auto info = info_of<bpf_map_info>(fd);
  if (!info) return info.failure();
  ObjectInfo out;
  out.id = info->id;
  out.value_size = info->value_size;
  return out;
}

Expected<ObjectInfo> program_info(int fd) {
  const auto counted = info_of<bpf_prog_info>(fd);
  if (!counted) return counted.failure();
  ObjectInfo out;
  out.maps.resize(counted->nr_map_ids);
  bpf_prog_info asked{};
  asked.nr_map_ids = counted->nr_map_ids;
  asked.map_ids = reinterpret_cast<std::uintptr_t>(out.maps.data());
  const auto info = info_of(fd, asked);
  if (!info) return info.failure();
  out.id = info->id;
  return out;
}

Expected<ObjectInfo> link_info(int fd) {
  const auto info = info_of<bpf_link_info>(fd);
  if (!info) return info.failure();
  ObjectInfo out;
  out.id = info->id;
  out.program = info->prog_id;
  // For tcx the union begins with the device's index, as it does for XDP.
  out.ifindex = info->xdp.ifindex;
  return out;
}

Expected<Descriptor> make_text_map(const char* name, const std::string& text, std::size_t size) {
  if (text.size() >= size)
    return Error{fmt::format("{} bytes do not fit into {}", text.size(), size)};
  const int fd =
      bpf_map_create(BPF_MAP_TYPE_ARRAY, name, sizeof(__u32), static_cast<__u32>(size), 1, nullptr);
  if (fd < 0) return failed(errno);
  Descriptor out(fd);
  std::string value = text;
  value.resize(size);
  const __u32 zero = 0;
  if (bpf_map_update_elem(fd, &zero, value.data(), 0) != 0) return Error{std::strerror(errno)};
  return out;
}

Expected<std::string> read_text_map(int fd) {
  const auto info = map_info(fd);
  if (!info) return Error{info.error()};
  std::string value(page_rounded(info->value_size), '\0');
  const __u32 zero = 0;
  if (bpf_map_lookup_elem(fd, &zero, value.data()) != 0) return Error{std::strerror(errno)};
  value.resize(std::strlen(value.c_str()));
  return value;
}

Expected<MappedValue> MappedValue::open(int map) {
  const auto info = map_info(map);
  if (!info) return Error{info.error()};
  const std::size_t size = page_rounded(info->value_size);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
  if (data == MAP_FAILED) return Error{fmt::format("mmap of a map: {}", std::strerror(errno))};
  return MappedValue(static_cast<std::uint8_t*>(data), info->value_size);
}

MappedValue::MappedValue(MappedValue&& other) noexcept : data_(other.data_), size_(other.size_) {
  other.data_ = nullptr;
}

MappedValue::~MappedValue() {
  if (data_ != nullptr) munmap(data_, page_rounded(size_));
}

// The update of a map in a map returns after an RCU grace period.
Expected<bool> wait_for_programs() {
  const auto cannot = [] { return failed(errno).at("waiting"); };
  const Descriptor inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "policyc_inner", 4, 4, 1, nullptr));
  if (inner.get() < 0) return cannot();
  bpf_map_create_opts options{};
  options.sz = sizeof options;
  options.inner_map_fd = static_cast<__u32>(inner.get());
  const Descriptor outer(
      bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "policyc_wait", 4, 4, 1, &options));
  if (outer.get() < 0) return cannot();
  const __u32 zero = 0;
  const int fd = inner.get();
  if (bpf_map_update_elem(outer.get(), &zero, &fd, 0) != 0) return cannot();
  return true;
}

Expected<std::optional<Descriptor>> attach_tcx(int program, const Hook& hook) {
  const auto type = static_cast<bpf_attach_type>(hook.device_ingress ? kTcxIngress : kTcxEgress);
  const int fd = bpf_link_create(program, static_cast<int>(hook.ifindex), type, nullptr);
  if (fd >= 0) return std::optional<Descriptor>(Descriptor(fd));
  if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) {
    return std::optional<Descriptor>();
  }
  return failed(errno);
}

Expected<bool> replace_program(int link, int program) {
  if (bpf_link_update(link, program, nullptr) != 0) return failed(errno);
  return true;
}

void detach(int link) {
  bpf_link_detach(link);
}

Expected<bool> attach_filter(int program, const Hook& hook) {
  bpf_tc_hook at = tc_hook(hook);
  bpf_tc_hook both = at;
  both.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  const int made = bpf_tc_hook_create(&both);
  if (made != 0 && made != -EEXIST) return failed(-made);
  bpf_tc_opts options = tc_options();
  options.prog_fd = program;
  options.flags = BPF_TC_F_REPLACE;
  const int done = bpf_tc_attach(&at, &options);
  if (done != 0) return failed(-done);
  return true;
}

Expected<bool> detach_filter(const Hook& hook) {
  bpf_tc_hook at = tc_hook(hook);
  bpf_tc_opts options = tc_options();
  const int done = bpf_tc_detach(&at, &options);
  if (done != 0 && done != -ENOENT && done != -ENODEV && done != -EINVAL) {
    return failed(-done);
  }
  return true;
}

std::uint32_t filter_program(const Hook& hook) {
  bpf_tc_hook at = tc_hook(hook);
  bpf_tc_opts options = tc_options();
  return bpf_tc_query(&at, &options) == 0 ? options.prog_id : 0;
}

}  // namespace policyc::bpf
