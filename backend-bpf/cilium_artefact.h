// The output of `policyc compile --target cilium`: images of Cilium's own maps in DIR/maps, what
// the proxy enforces in DIR/proxy, and the manifest.
#pragma once

#include <map>
#include <string>

#include "backend-bpf/agent_dump.h"
#include "backend-bpf/artefact.h"
#include "backend-bpf/cilium_layout.h"

namespace policyc::bpf {

struct CiliumTarget {
  const CiliumLayout* layout = nullptr;
  std::map<std::string, AgentDump> dumps;  // by node; "" for every node without its own
};

// As `compile`; reports `programs` 0. Endpoints whose map the agent could not fill are refused.
CompileReport compile_cilium(const ir::World& world, const ir::Resolved& resolved,
                             const CompileOptions& options, const CiliumTarget& target);

// DIR/proxy for the endpoints wanted: path → text, and by (view, endpoint) the paths.
struct ProxyFiles {
  std::map<std::string, std::string> files;
  std::map<std::pair<std::size_t, std::size_t>, std::vector<std::string>> of_endpoint;
};
// `numbers` and `endpoint_numbers` per view, where the agent's are known; else ours stand for them.
ProxyFiles proxy_files(const ir::World& world, const ir::Resolved& resolved,
                       const CompileOptions& options,
                       const std::vector<AgentNumbers>* numbers = nullptr,
                       const CiliumTarget* target = nullptr);

}  // namespace policyc::bpf
