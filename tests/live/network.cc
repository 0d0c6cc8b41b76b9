#include "tests/live/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <thread>
#include <vector>

namespace policyc::live {
namespace {

void must(const std::string& command) {
  std::string said;
  if (shell(command, &said) != 0) throw std::runtime_error(command + ": " + said);
}

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
  int family = AF_INET;
};

Address address_of(const std::string& text, int port) {
  Address out;
  if (text.find(':') == std::string::npos) {
    auto* a = reinterpret_cast<sockaddr_in*>(&out.bytes);
    a->sin_family = AF_INET;
    a->sin_port = htons(static_cast<std::uint16_t>(port));
    inet_pton(AF_INET, text.c_str(), &a->sin_addr);
    out.size = sizeof *a;
  } else {
    auto* a = reinterpret_cast<sockaddr_in6*>(&out.bytes);
    out.family = AF_INET6;
    a->sin6_family = AF_INET6;
    a->sin6_port = htons(static_cast<std::uint16_t>(port));
    inet_pton(AF_INET6, text.c_str(), &a->sin6_addr);
    out.size = sizeof *a;
  }
  return out;
}

bool ready(int fd, short events, int milliseconds) {
  pollfd p{fd, events, 0};
  return poll(&p, 1, milliseconds) == 1;
}

std::string& pin_root() {
  static std::string root;
  return root;
}

}  // namespace

int shell(const std::string& command, std::string* output) {
  FILE* pipe = popen(("exec 2>&1 </dev/null; " + command).c_str(), "r");
  if (pipe == nullptr) return -1;
  std::array<char, 4096> part{};
  for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), pipe)) > 0;) {
    if (output != nullptr) output->append(part.data(), n);
  }
  const int status = pclose(pipe);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

std::string Network::enter() {
  static const std::string answer = [] {
    if (shell("ip -Version") != 0) return std::string("there is no `ip` here (package iproute2)");
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) {
      return fmt::format("network namespaces are not permitted: {}", std::strerror(errno));
    }
    mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    std::string folder = (std::filesystem::temp_directory_path() / "policyc-live-XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) return std::string("no temporary folder");
    if (mount("bpf", folder.c_str(), "bpf", 0, nullptr) != 0) {
      return fmt::format("no BPF file system can be mounted: {}", std::strerror(errno));
    }
    // Seen by this process alone, and gone with it; the empty folder too.
    pin_root() = folder + "/policyc";
    std::atexit([] {
      const std::filesystem::path at = std::filesystem::path(pin_root()).parent_path();
      umount2(at.c_str(), MNT_DETACH);
      std::error_code ec;
      std::filesystem::remove(at, ec);
    });
    must("ip link set lo up");
    must("echo 1 > /proc/sys/net/ipv4/ip_forward");
    must("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    return std::string();
  }();
  return answer;
}

std::string Network::pins() {
  return pin_root();
}

void Network::add(const Pod& pod, const std::string& device) {
  int fd = -1;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) == 0) fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  }).join();
  if (fd < 0) throw std::runtime_error("no namespace for " + pod.name);
  namespaces_[pod.name] = fd;
  devices_.push_back(device);
  device_of_[pod.name] = device;
  must(
      fmt::format("ip link add {} address 02:00:00:00:00:01 type veth peer name eth0 address "
                  "02:00:00:00:00:02 netns {}",
                  device, path(pod.name)));
  // Neighbours are known, so that a policy without rules for ICMPv6 does not stop IPv6 altogether.
  must(
      fmt::format("ip addr add 169.254.1.1/32 dev {0} && ip addr add fe80::1/64 dev {0} nodad && "
                  "ip link set {0} up",
                  device));
  inside(pod.name, [&] {
    must(
        fmt::format("ip link set lo up && ip addr add {}/32 dev eth0 && "
                    "ip addr add {}/128 dev eth0 nodad && ip link set eth0 up && "
                    "ip route add 169.254.1.1 dev eth0 scope link && "
                    "ip route add default via 169.254.1.1 && "
                    "ip -6 neigh add fe80::1 dev eth0 lladdr 02:00:00:00:00:01 nud permanent && "
                    "ip -6 route add default via fe80::1 dev eth0",
                    pod.v4, pod.v6));
  });
  must(
      fmt::format("ip route add {0}/32 dev {2} && ip -6 route add {1}/128 dev {2} && "
                  "ip -6 neigh add {1} dev {2} lladdr 02:00:00:00:00:02 nud permanent",
                  pod.v4, pod.v6, device));
}

void Network::forget_neighbour(const Pod& pod) const {
  must(fmt::format("ip -6 neigh flush dev {0} && ip -6 neigh del {1} dev {0} || true",
                   device_of_.at(pod.name), pod.v6));
}

void Network::inside(const std::string& pod, const std::function<void()>& action) const {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      if (setns(namespaces_.at(pod), CLONE_NEWNET) != 0) throw std::runtime_error("setns");
      action();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

std::string Network::path(const std::string& pod) const {
  return fmt::format("/proc/{}/fd/{}", getpid(), namespaces_.at(pod));
}

Network::~Network() {
  for (const std::string& device : devices_) shell("ip link del " + device);
  for (const auto& [name, fd] : namespaces_) close(fd);
}

std::string http(const std::string& address, int port, const std::string& request,
                 int milliseconds) {
  const Address to = address_of(address, port);
  const int fd = socket(to.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  std::string answer;
  connect(fd, reinterpret_cast<const sockaddr*>(&to.bytes), to.size);
  int error = 0;
  socklen_t size = sizeof error;
  if (ready(fd, POLLOUT, milliseconds) &&
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0 &&
      send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0 &&
      ready(fd, POLLIN, milliseconds)) {
    std::array<char, 4096> part{};
    const ssize_t n = recv(fd, part.data(), part.size(), 0);
    if (n > 0) answer.assign(part.data(), static_cast<std::size_t>(n));
  }
  close(fd);
  return answer;
}

Datagrams::~Datagrams() {
  if (fd_ >= 0) close(fd_);
}

void Datagrams::open(int port) {
  fd_ = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const Address at = address_of("::", port);
  if (bind(fd_, reinterpret_cast<const sockaddr*>(&at.bytes), at.size) != 0) {
    throw std::runtime_error(fmt::format("port {}: {}", port, std::strerror(errno)));
  }
}

std::size_t Datagrams::receive(int milliseconds) const {
  std::vector<char> bytes(65536);
  if (!ready(fd_, POLLIN, milliseconds)) return 0;
  const ssize_t n = recv(fd_, bytes.data(), bytes.size(), 0);
  return n < 0 ? 0 : static_cast<std::size_t>(n);
}

void send_datagram(const std::string& address, int port, std::size_t size) {
  const Address to = address_of(address, port);
  const int fd = socket(to.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const std::vector<char> bytes(size, 'x');
  sendto(fd, bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&to.bytes), to.size);
  close(fd);
}

struct HttpServer::State {
  int listener = -1;
  std::atomic<bool> stop = false;
  std::thread thread;
};

HttpServer::HttpServer(int port) : state_(new State) {
  state_->listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(state_->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const Address at = address_of("::", port);
  if (bind(state_->listener, reinterpret_cast<const sockaddr*>(&at.bytes), at.size) != 0 ||
      listen(state_->listener, 16) != 0) {
    throw std::runtime_error(fmt::format("port {}: {}", port, std::strerror(errno)));
  }
  state_->thread = std::thread([state = state_] {
    while (!state->stop) {
      if (!ready(state->listener, POLLIN, 20)) continue;
      const int fd = accept4(state->listener, nullptr, nullptr, SOCK_CLOEXEC);
      std::array<char, 4096> part{};
      ssize_t n = ready(fd, POLLIN, 300) ? recv(fd, part.data(), part.size(), 0) : 0;
      if (n > 0) {
        std::string line(part.data(), static_cast<std::size_t>(n));
        line.resize(std::min(line.find('\r'), line.size()));
        const std::string answer =
            fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                        line.size(), line);
        send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
      }
      close(fd);
    }
  });
}

HttpServer::~HttpServer() {
  state_->stop = true;
  state_->thread.join();
  close(state_->listener);
  delete state_;
}

}  // namespace policyc::live
