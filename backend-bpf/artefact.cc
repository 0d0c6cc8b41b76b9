#include "backend-bpf/artefact.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "backend-bpf/compiler.h"
#include "backend-bpf/image.h"
#include "backend-bpf/program.h"
#include "ir/base/file.h"
#include "ir/base/sha256.h"

namespace policyc::bpf {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr int kSchema = 1;
// Part of a program's name: objects of another code generator are not taken for ours.
constexpr const char* kCodeGenerator = "clang 19 -O2 -target-cpu v3";

std::string short_hash(const std::string& sha256) {
  return sha256.substr(0, 16);
}

// Relative, downwards only.
bool safe_path(const std::string& path) {
  const fs::path p(path);
  if (path.empty() || p.is_absolute()) return false;
  return std::none_of(p.begin(), p.end(), [](const fs::path& part) { return part == ".."; });
}

// The output directory: knows what an earlier compile left and which files this one wants.
class Directory {
 public:
  explicit Directory(std::string root) : root_(std::move(root)) {
    const auto text = read_artefact(root_ + "/manifest.json");
    if (!text) return;
    const json old = json::parse(*text, nullptr, false);
    if (!old.is_object() || !old.contains("files") || !old["files"].is_object()) return;
    for (const auto& [path, entry] : old["files"].items()) {
      if (!safe_path(path) || !entry.is_object()) continue;
      const auto hash = entry.find("sha256");
      if (hash != entry.end() && hash->is_string()) earlier_[path] = hash->get<std::string>();
    }
  }

  // The bytes that an earlier compile left under this path, where they are still what it wrote.
  bool has(const std::string& path, std::string* sha256) const {
    const auto it = earlier_.find(path);
    if (it == earlier_.end()) return false;
    const auto bytes = read_artefact(root_ + "/" + path);
    if (!bytes || sha256_hex(*bytes) != it->second) return false;
    *sha256 = it->second;
    return true;
  }

  void keep(const std::string& path, const std::string& sha256, std::size_t size) {
    files_[path] = {sha256, size};
  }

  bool put(const std::string& path, const std::string& bytes) {
    const std::string sha256 = sha256_hex(bytes);
    keep(path, sha256, bytes.size());
    std::string there;
    if (has(path, &there) && there == sha256) return true;
    return write(path, bytes);
  }

  bool write(const std::string& path, const std::string& bytes) {
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

  void remove_unwanted() const {
    std::error_code ec;
    for (const auto& [path, hash] : earlier_) {
      if (files_.count(path) == 0) fs::remove(fs::path(root_) / path, ec);
    }
  }

  ordered_json files_json() const {
    ordered_json out = ordered_json::object();
    for (const auto& [path, file] : files_) {
      out[path] = {{"sha256", file.first}, {"bytes", file.second}};
    }
    return out;
  }

  std::string error;
  std::size_t written = 0;

 private:
  std::string root_;
  std::map<std::string, std::string> earlier_;
  std::map<std::string, std::pair<std::string, std::size_t>> files_;
};

ordered_json sizes_json(const SizeClass& s) {
  return {{"trie4_blocks", s.trie4_blocks},
          {"trie6_blocks", s.trie6_blocks},
          {"identities", s.identities},
          {"pages", s.pages},
          {"cells", s.cells},
          {"records", s.records}};
}

ordered_json direction_json(const ir::PolicyTable& table) {
  return {{"enforced", table.enforced},
          {"identity_classes", table.classes},
          {"port_classes", table.columns()},
          {"verdicts", table.records.size()}};
}

// One program to be compiled, and who needs it.
struct Program {
  std::string text, source_path, object_path;
};

bool power_of_two(std::uint32_t n) {
  return n != 0 && (n & (n - 1)) == 0;
}

Expected<SizeClass> read_sizes(const json& j) {
  SizeClass out;
  for (const auto& [name, field] :
       {std::pair{"trie4_blocks", &out.trie4_blocks}, std::pair{"trie6_blocks", &out.trie6_blocks},
        std::pair{"identities", &out.identities}, std::pair{"pages", &out.pages},
        std::pair{"cells", &out.cells}, std::pair{"records", &out.records}}) {
    const auto it = j.find(name);
    if (it == j.end() || !it->is_number_unsigned()) return Error{fmt::format("no `{}`", name)};
    const auto value = it->get<std::uint64_t>();
    if (value > (1U << 24U) || !power_of_two(static_cast<std::uint32_t>(value))) {
      return Error{fmt::format("`{}` is {}", name, value)};
    }
    *field = static_cast<std::uint32_t>(value);
  }
  return out;
}

}  // namespace

Expected<std::string> read_artefact(const std::string& path) {
  auto text = policyc::read_file(path);
  if (!text) return Error{path + ": " + text.error()};
  return text;
}

std::vector<std::string> endpoint_names(const ir::World& world, const ir::NodeView& view,
                                        const ir::ResolvedEndpoint& endpoint) {
  if (endpoint.host) return {view.node};
  std::vector<std::string> out;
  for (const std::size_t pod : endpoint.pods) out.push_back(world.inventory.pods[pod].full_name());
  return out;
}

CompileReport compile(const ir::World& world, const ir::Resolved& resolved,
                      const CompileOptions& options) {
  CompileReport report;
  Directory directory(options.directory);
  const auto fail = [&](CompileReport::Status status, std::string message) {
    report.status = status;
    report.message = std::move(message);
    report.written = directory.written;
    return report;
  };
  const std::set<std::pair<std::size_t, std::size_t>> only(options.only.begin(),
                                                           options.only.end());
  std::map<std::string, Program> programs;    // by object path
  std::map<std::string, std::string> images;  // path → bytes
  std::map<std::pair<const ir::PolicyTable*, const ir::PolicyTable*>,
           std::pair<PolicyImage, std::string>>
      policies;
  ordered_json views = ordered_json::array();
  ordered_json endpoints = ordered_json::array();
  const auto add_image = [&](const char* kind, std::string bytes) {
    std::string path = fmt::format("maps/{}-{}.img", kind, short_hash(sha256_hex(bytes)));
    images.emplace(path, std::move(bytes));
    return path;
  };
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    const ir::NodeView& view = resolved.views[v];
    const auto wanted = [&](std::size_t e) { return only.empty() || only.count({v, e}) != 0; };
    bool any = false;
    for (std::size_t e = 0; e < view.endpoints.size(); ++e) any = any || wanted(e);
    if (!any) continue;
    const IdentityImage tries = encode_identities(view, resolved.identities);
    const std::string tries_path = add_image("identities", write_image(tries));
    views.push_back({{"node", view.node}, {"identities", tries_path}});
    for (std::size_t e = 0; e < view.endpoints.size(); ++e) {
      if (!wanted(e)) continue;
      const ir::ResolvedEndpoint& endpoint = view.endpoints[e];
      const std::vector<std::string> names = endpoint_names(world, view, endpoint);
      const auto refuse = [&](Refusal refusal, std::string why) {
        report.refused.push_back(
            {names.empty() ? view.node : names.front(), refusal, std::move(why)});
      };
      if (!endpoint.error.empty()) {
        refuse(Refusal::Error, endpoint.error);
        continue;
      }
      if (!endpoint.depends_on.empty()) {
        refuse(Refusal::Depends, endpoint.depends_on.front());
        continue;
      }
      auto [it, fresh] = policies.try_emplace({endpoint.ingress.get(), endpoint.egress.get()});
      if (fresh) {
        auto image = encode_policy(*endpoint.ingress, *endpoint.egress);
        if (!image) {
          policies.erase(it);
          refuse(Refusal::TooLarge, image.error());
          continue;
        }
        std::string path = add_image("policy", write_image(*image));
        it->second = {std::move(*image), std::move(path)};
      }
      const SizeClass sizes = size_class(tries, it->second.first);
      const std::string text = program_text({sizes, {}});
      const std::string hash = short_hash(sha256_hex(kCodeGenerator + text));
      const std::string source_path = fmt::format("src/policy-{}.c", hash);
      const std::string object_path = fmt::format("obj/policy-{}.o", hash);
      programs.try_emplace(object_path, Program{text, source_path, object_path});
      const ir::Identity& identity = resolved.identities[endpoint.identity];
      ordered_json labels = ordered_json::array();
      for (const ir::Label& l : identity.labels.labels()) labels.push_back(l.str());
      endpoints.push_back({{"view", view.node},
                           {"identity", identity.number},
                           {"labels", labels},
                           {"host", endpoint.host},
                           {"pods", names},
                           {"source", source_path},
                           {"object", object_path},
                           {"image", it->second.second},
                           {"identities", tries_path},
                           {"sizes", sizes_json(sizes)},
                           {"ingress", direction_json(*endpoint.ingress)},
                           {"egress", direction_json(*endpoint.egress)}});
      ++report.endpoints;
    }
  }
  report.programs = programs.size();
  report.images = images.size();

  // Objects that are not there yet.
  if (options.emit_objects) {
    std::vector<const Program*> missing;
    for (const auto& [path, program] : programs) {
      std::string sha256;
      if (!directory.has(path, &sha256)) {
        missing.push_back(&program);
        continue;
      }
      std::error_code ec;
      directory.keep(path, sha256, fs::file_size(fs::path(options.directory) / path, ec));
    }
    if (!missing.empty()) {
      const auto module = find_clang_module();
      if (!module) return fail(CompileReport::Status::NoCompiler, module.error());
      std::vector<std::string> sources;
      for (const Program* p : missing) sources.push_back(p->text);
      const auto objects = compile_c(*module, sources);
      if (!objects) {
        const bool unusable = objects.error().find("cannot be opened") != std::string::npos;
        return fail(unusable ? CompileReport::Status::NoCompiler : CompileReport::Status::Failed,
                    objects.error());
      }
      for (std::size_t i = 0; i < missing.size(); ++i) {
        if (!directory.put(missing[i]->object_path, (*objects)[i])) {
          return fail(CompileReport::Status::CannotWrite, directory.error);
        }
      }
      report.compiled = missing.size();
    }
  }
  bool ok = true;
  if (options.emit_c) {
    for (const auto& [path, program] : programs) {
      ok = ok && directory.put(program.source_path, program.text);
    }
  }
  if (options.emit_maps) {
    for (const auto& [path, bytes] : images) ok = ok && directory.put(path, bytes);
  }
  for (const auto& [path, text] : options.more) ok = ok && directory.put(path, text);
  if (!ok) return fail(CompileReport::Status::CannotWrite, directory.error);

  ordered_json inputs = ordered_json::array();
  for (const InputFile& f : options.inputs)
    inputs.push_back({{"path", f.path}, {"sha256", f.sha256}});
  ordered_json refused = ordered_json::array();
  for (const RefusedEndpoint& r : report.refused) {
    refused.push_back({{"endpoint", r.name}, {"why", r.why}});
  }
  const ordered_json manifest = {{"schema", kSchema},
                                 {"tool", options.tool},
                                 {"target", "standalone"},
                                 {"profile", world.settings.profile},
                                 {"limits",
                                  {{"identity_classes", 65535},
                                   {"port_classes", 65535},
                                   {"cells", 1U << 24U},
                                   {"ipv6_extension_headers", 6}}},
                                 {"inputs", inputs},
                                 {"views", views},
                                 {"endpoints", endpoints},
                                 {"refused", refused},
                                 {"files", directory.files_json()}};
  const std::string text = manifest.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
  const auto there = read_artefact(options.directory + "/manifest.json");
  if (!there || *there != text) {
    if (!directory.write("manifest.json", text)) {
      return fail(CompileReport::Status::CannotWrite, directory.error);
    }
  }
  directory.remove_unwanted();
  report.written = directory.written;
  return report;
}

Expected<Manifest> read_manifest(const std::string& directory) {
  const std::string path = directory + "/manifest.json";
  const auto text = read_artefact(path);
  if (!text) return Error{text.error() + "; is this the output of `policyc compile`?"};
  const json j = json::parse(*text, nullptr, false);
  const auto bad = [&](const std::string& what) { return Error{path + ": " + what}; };
  if (!j.is_object()) return bad("no JSON object");
  if (const auto it = j.find("schema");
      it == j.end() || !it->is_number_integer() || *it != kSchema) {
    return bad(fmt::format("`schema` is not {}; compile again", kSchema));
  }
  Manifest out;
  if (const auto files = j.find("files"); files != j.end() && files->is_object()) {
    for (const auto& [name, entry] : files->items()) {
      if (!safe_path(name)) return bad(fmt::format("`{}` leads out of the directory", name));
      if (!entry.is_object() || !entry.contains("sha256") || !entry["sha256"].is_string()) {
        return bad(fmt::format("`files.{}` has no hash", name));
      }
      out.sha256[name] = entry["sha256"].get<std::string>();
    }
  }
  const auto endpoints = j.find("endpoints");
  if (endpoints == j.end() || !endpoints->is_array()) return bad("no `endpoints`");
  for (const json& e : *endpoints) {
    if (!e.is_object()) return bad("an endpoint is no object");
    ManifestEndpoint m;
    for (const auto& [name, field] :
         {std::pair{"view", &m.view}, std::pair{"object", &m.object}, std::pair{"image", &m.image},
          std::pair{"identities", &m.identities}}) {
      const auto it = e.find(name);
      if (it == e.end() || !it->is_string())
        return bad(fmt::format("an endpoint has no `{}`", name));
      *field = it->get<std::string>();
      if (field != &m.view && !safe_path(*field)) {
        return bad(fmt::format("`{}` leads out of the directory", *field));
      }
    }
    const auto pods = e.find("pods");
    if (pods == e.end() || !pods->is_array()) return bad("an endpoint has no `pods`");
    for (const json& pod : *pods) {
      if (!pod.is_string()) return bad("a pod is no string");
      m.names.push_back(pod.get<std::string>());
    }
    const auto host = e.find("host");
    m.host = host != e.end() && host->is_boolean() && host->get<bool>();
    const auto sizes = e.find("sizes");
    if (sizes == e.end() || !sizes->is_object()) return bad("an endpoint has no `sizes`");
    auto read = read_sizes(*sizes);
    if (!read) return bad("`sizes`: " + read.error());
    m.sizes = *read;
    out.endpoints.push_back(std::move(m));
  }
  return out;
}

}  // namespace policyc::bpf
