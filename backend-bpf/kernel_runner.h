// Runs packets through compiled artefacts, in the kernel or in the interpreter.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend-bpf/artefact.h"
#include "backend-bpf/image.h"
#include "backend-bpf/kernel_events.h"
#include "backend-bpf/runnable_object.h"
#include "backend-bpf/runner.h"

namespace policyc::bpf {

// Loads an endpoint's object and images when its first packet comes; endpoints of a node share its
// map, and endpoints with the same policy everything. A proxy is there: redirected packets go on
// with its mark. Only output of `--l7 kernel` is run without one, and they end there.
class KernelRunner : public Runner {
 public:
  // `world` and `resolved` name the endpoints; both must outlive the runner.
  static Expected<std::unique_ptr<KernelRunner>> open(const std::string& directory,
                                                      const ir::World& world,
                                                      const ir::Resolved& resolved,
                                                      Engine engine = Engine::Kernel);

  Expected<RunResult> run(std::size_t view, std::size_t endpoint, ir::Direction direction,
                          const std::vector<std::uint8_t>& frame, unsigned repeat) override;

  // Files used so far whose bytes are not what the manifest says.
  const std::vector<std::string>& changed_files() const { return changed_; }

 private:
  struct Node;
  struct Endpoint {
    PolicyImage image;
    RunnableObject object;
    const Node* node = nullptr;
    std::optional<RingReader> events{};
  };
  struct Node {
    IdentityImage identities;
    bool current = false;  // `resolved` numbers identities as the image does
    ClassImage classes;
    // The first object loaded with a node map of some size: it lends its map.
    std::map<std::size_t, const RunnableObject*> lenders;
  };

  KernelRunner(std::string directory, Manifest manifest, const ir::World& world,
               const ir::Resolved& resolved, Engine engine);
  Expected<Endpoint*> endpoint(std::size_t view, std::size_t endpoint);
  Expected<Node*> node(const ManifestEndpoint& endpoint);
  Expected<bool> take_events(Endpoint& endpoint, RunResult& out);
  Expected<std::unique_ptr<Endpoint>> load(const ManifestEndpoint& endpoint);
  Expected<std::string> read(const std::string& path);

  std::string directory_;
  Manifest manifest_;
  const ir::World& world_;
  const ir::Resolved& resolved_;
  Engine engine_;
  std::map<std::pair<std::string, std::string>, const ManifestEndpoint*> by_name_;  // view, name
  std::map<std::pair<std::string, std::string>, Node> nodes_;  // identities, classes
  std::map<std::string, std::unique_ptr<Endpoint>> loaded_;    // by the files they are made of
  std::vector<std::string> changed_;
};

}  // namespace policyc::bpf
