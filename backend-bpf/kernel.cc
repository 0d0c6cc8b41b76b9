// Maps are never pinned, whatever the object says.
#include "backend-bpf/kernel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/pkt_cls.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace policyc::bpf {
namespace {

// libbpf speaks on stderr; it is kept instead, and told only where something failed.
thread_local std::string g_said;

int keep(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  // The verifier's log comes in one piece of any length, its reason last.
  va_list again;
  va_copy(again, arguments);
  const int n = vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (n <= 0) return n;
  const std::size_t before = g_said.size();
  g_said.resize(before + static_cast<std::size_t>(n) + 1);
  vsnprintf(&g_said[before], static_cast<std::size_t>(n) + 1, format, arguments);
  g_said.pop_back();
  return n;
}

std::string last_lines(const std::string& text, std::size_t count) {
  std::size_t at = text.size();
  while (count > 0 && at > 0) {
    at = text.rfind('\n', at - 1);
    if (at == std::string::npos) return text;
    --count;
  }
  return text.substr(at);
}

// The verifier's last words, without those of libbpf around them.
std::string verifier_words(const std::string& said) {
  const std::size_t end = said.find("-- END PROG LOAD LOG --");
  return last_lines(end == std::string::npos ? said : said.substr(0, end), 12);
}

std::string reason(int error) {
  switch (error) {
    case EPERM:
    case EACCES:
      return "bpf() is not permitted here: run as root, or with CAP_BPF and CAP_NET_ADMIN (older "
             "kernels: CAP_SYS_ADMIN)";
    case ENOSYS:
      return "this kernel has no bpf()";
    default:
      return fmt::format("bpf(): {}", std::strerror(error));
  }
}

// By the end of the name: libbpf puts the object's name before `.bss`.
bpf_map* find_map(const bpf_object* object, std::string_view name) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const std::string_view have = bpf_map__name(map);
    if (have.size() >= name.size() && have.substr(have.size() - name.size()) == name) return map;
  }
  return nullptr;
}

}  // namespace

std::optional<std::string> kernel_unavailable() {
  static const std::optional<std::string> answer = []() -> std::optional<std::string> {
    libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
    libbpf_set_print(keep);
    const bpf_insn program[2] = {
        {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, TC_ACT_OK},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    const int fd =
        bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "policyc_probe", "Apache-2.0", program, 2, nullptr);
    if (fd < 0) return reason(errno);
    std::string frame(64, '\0');
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = frame.data();
    options.data_size_in = static_cast<__u32>(frame.size());
    options.repeat = 1;
    const int result = bpf_prog_test_run_opts(fd, &options);
    const int why = errno;
    close(fd);
    if (result != 0) return "test runs of programs do not work here: " + reason(why);
    return std::nullopt;
  }();
  return answer;
}

struct LoadedObject::State {
  bpf_object* object = nullptr;
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { bpf_object__close(object); }
};

LoadedObject::LoadedObject(std::unique_ptr<State> state) : state_(std::move(state)) {}
LoadedObject::LoadedObject(LoadedObject&&) noexcept = default;
LoadedObject& LoadedObject::operator=(LoadedObject&&) noexcept = default;
LoadedObject::~LoadedObject() = default;

Expected<LoadedObject> LoadedObject::load(std::string_view elf, const std::vector<MapValue>& values,
                                          const LoadedObject* donor,
                                          const std::vector<std::string>& shared) {
  std::vector<std::pair<std::string, int>> maps;
  for (const std::string& name : shared) {
    const int fd = donor == nullptr ? -1 : donor->map_descriptor(name);
    maps.emplace_back(name, fd);
  }
  return load_with(elf, values, maps);
}

Expected<LoadedObject> LoadedObject::load_with(
    std::string_view elf, const std::vector<MapValue>& values,
    const std::vector<std::pair<std::string, int>>& maps) {
  if (const auto why = kernel_unavailable()) return Error{*why, Error::Kind::Machine};
  g_said.clear();
  auto state = std::make_unique<State>();
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.object_name = "policyc";
  state->object = bpf_object__open_mem(elf.data(), elf.size(), &options);
  if (state->object == nullptr) {
    return Error{fmt::format("not a BPF object: {}", last_lines(g_said, 3))};
  }
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, state->object) bpf_map__set_pin_path(map, nullptr);
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, state->object) {
    bpf_program__set_type(program, BPF_PROG_TYPE_SCHED_CLS);
  }
  for (const MapValue& value : values) {
    bpf_map* target = find_map(state->object, value.map);
    if (target == nullptr) return Error{fmt::format("the object has no map `{}`", value.map)};
    if (bpf_map__value_size(target) != value.bytes.size()) {
      return Error{fmt::format("map `{}` holds {} bytes, the image {}", value.map,
                               bpf_map__value_size(target), value.bytes.size())};
    }
    if (bpf_map__set_initial_value(target, value.bytes.data(), value.bytes.size()) != 0) {
      return Error{fmt::format("map `{}` takes no contents", value.map)};
    }
  }
  for (const auto& [name, fd] : maps) {
    bpf_map* to = find_map(state->object, name);
    if (to == nullptr || fd < 0) return Error{fmt::format("map `{}` cannot be shared", name)};
    bpf_map_info info{};
    __u32 size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0 ||
        info.value_size != bpf_map__value_size(to) || bpf_map__reuse_fd(to, fd) != 0) {
      return Error{fmt::format("map `{}` cannot be shared: the sizes differ", name)};
    }
  }
  if (bpf_object__load(state->object) != 0) {
    const int why = errno;
    return Error{fmt::format("the kernel refuses the program: {}\n{}", std::strerror(why),
                             verifier_words(g_said)),
                 Error::Kind::Machine};
  }
  return LoadedObject(std::move(state));
}

int LoadedObject::map_descriptor(const std::string& name) const {
  const bpf_map* map = find_map(state_->object, name);
  return map == nullptr ? -1 : bpf_map__fd(map);
}

int LoadedObject::program_descriptor(const char* name) const {
  const bpf_program* program = bpf_object__find_program_by_name(state_->object, name);
  return program == nullptr ? -1 : bpf_program__fd(program);
}

Expected<bool> LoadedObject::write(const MapValue& value) {
  bpf_map* map = find_map(state_->object, value.map);
  if (map == nullptr) return Error{fmt::format("the object has no map `{}`", value.map)};
  const std::uint32_t zero = 0;
  if (bpf_map__update_elem(map, &zero, sizeof zero, value.bytes.data(), value.bytes.size(), 0) !=
      0) {
    return Error{fmt::format("map `{}`: {}", value.map, std::strerror(errno))};
  }
  return true;
}

Expected<KernelRun> LoadedObject::run(const char* program, const std::vector<std::uint8_t>& frame,
                                      unsigned repeat) const {
  const bpf_program* p = bpf_object__find_program_by_name(state_->object, program);
  if (p == nullptr) return Error{fmt::format("the object has no program `{}`", program)};
  return run_program(bpf_program__fd(p), frame, repeat);
}

Expected<KernelRun> run_program(int program, const std::vector<std::uint8_t>& frame,
                                unsigned repeat) {
  __sk_buff context{};
  bpf_test_run_opts options{};
  options.sz = sizeof options;
  options.data_in = frame.data();
  options.data_size_in = static_cast<__u32>(frame.size());
  options.ctx_in = &context;
  options.ctx_size_in = sizeof context;
  options.ctx_out = &context;
  options.ctx_size_out = sizeof context;
  options.repeat = static_cast<int>(repeat);
  if (bpf_prog_test_run_opts(program, &options) != 0) {
    return Error{fmt::format("the kernel does not run a frame of {} bytes: {}", frame.size(),
                             std::strerror(errno))};
  }
  KernelRun out;
  out.return_code = options.retval;
  out.mark = context.mark;
  out.nanoseconds = options.duration;
  for (std::size_t i = 0; i < out.cb.size(); ++i) out.cb[i] = context.cb[i];
  return out;
}

std::size_t LoadedObject::instructions(const char* program) const {
  const bpf_program* p = bpf_object__find_program_by_name(state_->object, program);
  return p == nullptr ? 0 : bpf_program__insn_cnt(p);
}

}  // namespace policyc::bpf
