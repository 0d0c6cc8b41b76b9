#include "ir/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

namespace policyc {
namespace {

std::string lower_first(std::string text) {
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] + 32);
  return text;
}

Error last_error() {
  return Error{lower_first(std::strerror(errno))};
}

// Closes the descriptor when it goes out of scope.
struct Descriptor {
  int fd;
  explicit Descriptor(int value) : fd(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace

Expected<std::string> read_file(const std::string& path, std::size_t max_bytes) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) return last_error();
  struct stat info {};
  if (fstat(file.fd, &info) != 0) return last_error();
  if (S_ISDIR(info.st_mode)) return Error{"is a directory"};
  std::string text;
  // The size is a hint only: pipes have none, and a file may grow while it is read.
  std::size_t chunk = info.st_size > 0 ? static_cast<std::size_t>(info.st_size) + 1 : 64U << 10U;
  std::size_t used = 0;
  while (true) {
    if (used > max_bytes) return Error{fmt::format("larger than {} bytes", max_bytes)};
    const std::size_t room = chunk < max_bytes ? chunk : max_bytes + 1;
    if (text.size() - used < room) text.resize(used + room);
    const ssize_t got = read(file.fd, text.data() + used, text.size() - used);
    if (got < 0) {
      if (errno == EINTR) continue;
      return last_error();
    }
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
    chunk = 64U << 10U;
  }
  text.resize(used);
  return text;
}

std::optional<Error> write_file_atomic(const std::string& path, std::string_view text) {
  std::string target = path;
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) != nullptr) target = resolved;

  mode_t mode = 0644;
  struct stat info {};
  if (stat(target.c_str(), &info) == 0) {
    if (!S_ISREG(info.st_mode)) {
      // A terminal, a pipe or /dev/null cannot be replaced: write into it.
      const Descriptor file(open(target.c_str(), O_WRONLY | O_CLOEXEC));
      if (file.fd < 0) return last_error();
      while (!text.empty()) {
        const ssize_t put = write(file.fd, text.data(), text.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return last_error();
        text.remove_prefix(static_cast<std::size_t>(put));
      }
      return std::nullopt;
    }
    mode = info.st_mode & 07777U;
  } else {
    const mode_t mask = umask(0);
    umask(mask);
    mode = 0666U & ~mask;
  }

  std::string temporary = target + ".XXXXXX";
  const Descriptor file(mkstemp(temporary.data()));
  if (file.fd < 0) return last_error();
  bool good = true;
  while (good && !text.empty()) {
    const ssize_t put = write(file.fd, text.data(), text.size());
    if (put < 0) {
      good = errno == EINTR;
    } else {
      text.remove_prefix(static_cast<std::size_t>(put));
    }
  }
  good = good && fchmod(file.fd, mode) == 0 && rename(temporary.c_str(), target.c_str()) == 0;
  if (good) return std::nullopt;
  Error error = last_error();
  unlink(temporary.c_str());
  return error;
}

}  // namespace policyc
