// A node with pods, made of network namespaces and veth pairs. All of it belongs to the test's own
// process and goes with it. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN, and `ip` of iproute2.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace policyc::live {

struct Pod {
  std::string name, v4, v6;
};

class Network {
 public:
  // Moves the process into a network and mount namespace of its own (once), with a BPF file system
  // at pins(). Empty where that worked, else why not.
  static std::string enter();
  // Root of the pins, in that file system.
  static std::string pins();

  // A pod behind the device `device` of the node. Routed, not bridged: what a pod sends to another
  // passes through the node.
  void add(const Pod& pod, const std::string& device);
  // Runs something inside the pod's namespace; sockets opened there stay there.
  void inside(const std::string& pod, const std::function<void()>& action) const;
  // Makes the node ask again who has the pod's IPv6 address.
  void forget_neighbour(const Pod& pod) const;
  // A path that names the pod's namespace.
  std::string path(const std::string& pod) const;
  ~Network();

 private:
  std::map<std::string, int> namespaces_;
  std::vector<std::string> devices_;
  std::map<std::string, std::string> device_of_;
};

// Exit code of a shell command; its output goes into `output`.
int shell(const std::string& command, std::string* output = nullptr);

// What a client sees of a TCP connection: nullopt-like empty answer where the connection is not
// established or not answered within `milliseconds`.
std::string http(const std::string& address, int port, const std::string& request,
                 int milliseconds);
// UDP, both families. Sockets stay in the namespace of the thread that opened them.
class Datagrams {
 public:
  Datagrams() = default;
  Datagrams(const Datagrams&) = delete;
  Datagrams& operator=(const Datagrams&) = delete;
  ~Datagrams();
  void open(int port);
  // Bytes of the datagram that came within `milliseconds`; 0: none.
  std::size_t receive(int milliseconds) const;

 private:
  int fd_ = -1;
};
void send_datagram(const std::string& address, int port, std::size_t size);

// A server in the calling thread's namespace, both families; answers every request with 200 and its
// first line. It ends with the handle.
class HttpServer {
 public:
  explicit HttpServer(int port);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

 private:
  struct State;
  State* state_;
};

}  // namespace policyc::live
