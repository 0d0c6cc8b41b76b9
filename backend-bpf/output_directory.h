// The directory that `policyc compile` writes: files are named by the hash of what they hold, so
// that unchanged ones are not written again, and the manifest comes last.
#pragma once

#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::bpf {

// The part of a hash that names files.
inline std::string short_hash(const std::string& sha256) {
  return sha256.substr(0, 16);
}

// Whether a manifest may name this path: relative, downwards only.
bool safe_output_path(const std::string& path);

// A whole file; the error names it.
Expected<std::string> read_artefact(const std::string& path);

// A file under the name of what it holds.
struct OutputFile {
  std::string bytes, sha256;
};

// Knows what an earlier compile left and which files this one wants.
class OutputDirectory {
 public:
  using Json = nlohmann::ordered_json;

  // What an earlier manifest says of endpoints counts only if it has the same target and schema.
  OutputDirectory(std::string root, const std::string& target, int schema);

  // What the earlier manifest says of an endpoint; nullptr: nothing.
  const Json* endpoint(const std::string& view, const std::vector<std::string>& pods) const;
  // Keeps a file of an earlier compile; false where it is not what that compile wrote.
  bool keep(const std::string& path);
  // Keeps every file of an earlier compile below a folder, "proxy/".
  void keep_below(const std::string& folder);
  // Adds a file, and writes it where it is not there already. False: see `error`.
  bool put(const std::string& path, const OutputFile& file);
  bool put(const std::string& path, const std::string& bytes);
  // Writes manifest.json where it differs, then removes what an earlier compile left and nobody
  // wanted. False: see `error`.
  bool finish(const Json& manifest);
  // For the manifest: hash and size of each file.
  Json files_json() const;

  std::string error;
  std::size_t written = 0;

 private:
  bool write(const std::string& path, const std::string& bytes);

  std::string root_;
  std::map<std::string, std::string> earlier_;  // path → hash
  std::map<std::string, Json> endpoints_;       // by view and pods
  std::map<std::string, std::pair<std::string, std::size_t>> files_;
};

}  // namespace policyc::bpf
