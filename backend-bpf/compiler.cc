#include "backend-bpf/compiler.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "backend-bpf/clang_module/module.h"

namespace policyc::bpf {
namespace {

constexpr const char* kModuleName = "libpolicyc-clang.so";

// What the child says of each source, over the pipe: state, size, bytes.
enum class State : std::uint32_t { Object = 0, Rejected = 1, NoModule = 2 };

bool write_all(int fd, const void* data, std::size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = write(fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

bool send(int fd, State state, const char* bytes, std::size_t size) {
  const auto word = static_cast<std::uint32_t>(state);
  const std::uint64_t length = size;
  return write_all(fd, &word, sizeof word) && write_all(fd, &length, sizeof length) &&
         write_all(fd, bytes, size);
}

[[noreturn]] void child(int fd, const std::string& module,
                        const std::vector<std::string>& sources) {
  void* library = dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);
  using Compile = decltype(&policyc_clang_compile);
  Compile compile = nullptr;
  if (library != nullptr) {
    compile = reinterpret_cast<Compile>(dlsym(library, "policyc_clang_compile"));
  }
  if (compile == nullptr) {
    const char* why = dlerror();
    if (why == nullptr) why = "it does not export policyc_clang_compile";
    send(fd, State::NoModule, why, std::strlen(why));
    _exit(1);
  }
  for (const std::string& source : sources) {
    char* object = nullptr;
    std::size_t size = 0;
    char* said = nullptr;
    const bool ok = compile(source.data(), source.size(), &object, &size, &said) == 0;
    const bool sent = ok ? send(fd, State::Object, object, size)
                         : send(fd, State::Rejected, said, std::strlen(said));
    std::free(object);
    std::free(said);
    if (!sent || !ok) _exit(1);
  }
  // Nothing to unwind: the pages go back with the process.
  _exit(0);
}

std::string read_all(int fd) {
  std::string out;
  char buffer[65536];
  while (true) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return out;
    out.append(buffer, static_cast<std::size_t>(n));
  }
}

std::string own_folder() {
  char path[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0) return ".";
  return std::filesystem::path(std::string(path, static_cast<std::size_t>(n))).parent_path();
}

}  // namespace

Expected<std::string> find_clang_module() {
  std::error_code ec;
  if (const char* set = std::getenv("POLICYC_CLANG_MODULE"); set != nullptr && *set != '\0') {
    if (std::filesystem::is_regular_file(set, ec)) return std::string(set);
    return Error{fmt::format("POLICYC_CLANG_MODULE names `{}`, which is no file", set)};
  }
  const std::string here = own_folder();
  for (const std::string& folder :
       {here, here + "/../lib/policyc", std::string(POLICYC_MODULE_FOLDER)}) {
    const std::string path = folder + "/" + kModuleName;
    if (std::filesystem::is_regular_file(path, ec)) return path;
  }
  return Error{fmt::format(
      "compiling BPF needs {}, which is neither beside this program nor in {}: build policyc with "
      "-DPOLICYC_CLANG_MODULE=ON (packages llvm-19-dev libclang-19-dev libzstd-dev), or point "
      "POLICYC_CLANG_MODULE at it",
      kModuleName, POLICYC_MODULE_FOLDER)};
}

Expected<std::vector<std::string>> compile_c(const std::string& module,
                                             const std::vector<std::string>& sources) {
  std::vector<std::string> out;
  if (sources.empty()) return out;
  int ends[2];
  if (pipe(ends) != 0) return Error{fmt::format("pipe: {}", std::strerror(errno))};
  const pid_t pid = fork();
  if (pid < 0) {
    const int why = errno;
    close(ends[0]);
    close(ends[1]);
    return Error{fmt::format("fork: {}", std::strerror(why))};
  }
  if (pid == 0) {
    close(ends[0]);
    child(ends[1], module, sources);
  }
  close(ends[1]);
  const std::string said = read_all(ends[0]);
  close(ends[0]);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }

  std::size_t at = 0;
  while (out.size() < sources.size()) {
    std::uint32_t state = 0;
    std::uint64_t size = 0;
    if (said.size() - at < sizeof state + sizeof size) break;
    std::memcpy(&state, said.data() + at, sizeof state);
    std::memcpy(&size, said.data() + at + sizeof state, sizeof size);
    at += sizeof state + sizeof size;
    if (said.size() - at < size) break;
    std::string bytes = said.substr(at, size);
    at += size;
    switch (static_cast<State>(state)) {
      case State::Object:
        out.push_back(std::move(bytes));
        break;
      case State::Rejected:
        return Error{"the program does not compile:\n" + bytes};
      case State::NoModule:
        return Error{fmt::format("{} cannot be opened: {}", module, bytes)};
    }
  }
  if (out.size() < sources.size()) {
    return Error{WIFSIGNALED(status)
                     ? fmt::format("the code generator ended by signal {}", WTERMSIG(status))
                     : "the code generator ended early"};
  }
  return out;
}

}  // namespace policyc::bpf
