// Packet fixtures in YAML, turned into frames.
#pragma once

#include <string>
#include <vector>

#include "backend-bpf/replay.h"
#include "ir/base/diagnostic.h"
#include "ir/base/expected.h"

namespace policyc::cli {

// Reads one fixture file. Names are looked up as in questions; `ns` is the namespace of -n. The
// error carries file, line and column.
Expected<std::vector<bpf::Fixture>> read_fixtures(const std::string& path, const std::string& text,
                                                  const ir::World& world, const std::string& ns);

// A capture as one fixture.
Expected<bpf::Fixture> read_capture_fixture(const std::string& path);

}  // namespace policyc::cli
