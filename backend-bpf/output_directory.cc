#include "backend-bpf/output_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "ir/base/file.h"
#include "ir/base/sha256.h"

namespace policyc::bpf {
namespace fs = std::filesystem;

bool safe_output_path(const std::string& path) {
  const fs::path p(path);
  if (path.empty() || p.is_absolute()) return false;
  return std::none_of(p.begin(), p.end(), [](const fs::path& part) { return part == ".."; });
}

Expected<std::string> read_artefact(const std::string& path) {
  auto text = policyc::read_file(path);
  if (!text) return Error{path + ": " + text.error()};
  return text;
}

OutputDirectory::OutputDirectory(std::string root, const std::string& target, int schema)
    : root_(std::move(root)) {
  const auto text = read_artefact(root_ + "/manifest.json");
  if (!text) return;
  const Json old = Json::parse(*text, nullptr, false);
  if (!old.is_object() || !old.contains("files") || !old["files"].is_object()) return;
  for (const auto& [path, entry] : old["files"].items()) {
    if (!safe_output_path(path) || !entry.is_object()) continue;
    const auto hash = entry.find("sha256");
    if (hash != entry.end() && hash->is_string()) earlier_[path] = hash->get<std::string>();
  }
  const auto same = [&](const char* name, const Json& value) {
    return old.contains(name) && old[name] == value;
  };
  if (!same("schema", schema) || !same("target", target) || !old.contains("endpoints")) return;
  for (const Json& e : old["endpoints"]) {
    if (e.is_object() && e.contains("view") && e.contains("pods")) {
      endpoints_.emplace(e["view"].dump() + e["pods"].dump(), e);
    }
  }
}

const OutputDirectory::Json* OutputDirectory::endpoint(const std::string& view,
                                                       const std::vector<std::string>& pods) const {
  const auto it = endpoints_.find(Json(view).dump() + Json(pods).dump());
  return it == endpoints_.end() ? nullptr : &it->second;
}

bool OutputDirectory::keep(const std::string& path) {
  const auto it = earlier_.find(path);
  if (it == earlier_.end()) return false;
  const auto bytes = read_artefact(root_ + "/" + path);
  if (!bytes || sha256_hex(*bytes) != it->second) return false;
  files_[path] = {it->second, bytes->size()};
  return true;
}

void OutputDirectory::keep_below(const std::string& folder) {
  for (const auto& [path, hash] : earlier_) {
    if (path.rfind(folder, 0) == 0 && files_.count(path) == 0) keep(path);
  }
}

bool OutputDirectory::put(const std::string& path, const OutputFile& file) {
  files_[path] = {file.sha256, file.bytes.size()};
  const auto it = earlier_.find(path);
  if (it != earlier_.end() && it->second == file.sha256) {
    const auto there = read_artefact(root_ + "/" + path);
    if (there && *there == file.bytes) return true;
  }
  return write(path, file.bytes);
}

bool OutputDirectory::put(const std::string& path, const std::string& bytes) {
  return put(path, OutputFile{bytes, sha256_hex(bytes)});
}

bool OutputDirectory::write(const std::string& path, const std::string& bytes) {
  std::error_code ec;
  const fs::path full = fs::path(root_) / path;
  fs::create_directories(full.parent_path(), ec);
  if (const auto failure = write_file_atomic(full.string(), bytes)) {
    error = fmt::format("{}: {}", full.string(), failure->message);
    return false;
  }
  ++written;
  return true;
}

bool OutputDirectory::finish(const Json& manifest) {
  const std::string text = manifest.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  const auto there = read_artefact(root_ + "/manifest.json");
  if ((!there || *there != text) && !write("manifest.json", text)) return false;
  std::error_code ec;
  for (const auto& [path, hash] : earlier_) {
    if (files_.count(path) == 0) fs::remove(fs::path(root_) / path, ec);
  }
  return true;
}

OutputDirectory::Json OutputDirectory::files_json() const {
  Json out = Json::object();
  for (const auto& [path, file] : files_) {
    out[path] = {{"sha256", file.first}, {"bytes", file.second}};
  }
  return out;
}

}  // namespace policyc::bpf
