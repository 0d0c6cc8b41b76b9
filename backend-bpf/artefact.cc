#include "backend-bpf/artefact.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "backend-bpf/compiler.h"
#include "backend-bpf/http_code.h"
#include "backend-bpf/image.h"
#include "backend-bpf/output_directory.h"
#include "backend-bpf/program.h"
#include "ir/base/file.h"
#include "ir/base/sha256.h"

namespace policyc::bpf {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr int kSchema = 2;
// Part of a program's name: objects of another code generator are not taken for ours.
constexpr const char* kCodeGenerator = "clang 19 -O2 -target-cpu v3";

// Names and fields of SizeClass, in the manifest's order.
constexpr std::pair<const char*, std::uint32_t SizeClass::*> kSizes[] = {
    {"trie4_blocks", &SizeClass::trie4_blocks},
    {"hash4_bits", &SizeClass::hash4_bits},
    {"hash6_bits", &SizeClass::hash6_bits},
    {"hosts6", &SizeClass::hosts6},
    {"trie6_blocks", &SizeClass::trie6_blocks},
    {"classes", &SizeClass::classes},
    {"identity_shift", &SizeClass::identity_shift},
    {"pages", &SizeClass::pages},
    {"cells", &SizeClass::cells},
    {"records", &SizeClass::records},
    {"intervals", &SizeClass::intervals},
    {"interval_steps", &SizeClass::interval_steps}};

ordered_json sizes_json(const SizeClass& s) {
  ordered_json out;
  for (const auto& [name, field] : kSizes) out[name] = s.*field;
  return out;
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

Expected<SizeClass> read_sizes(const json& j) {
  SizeClass out;
  for (const auto& [name, field] : kSizes) {
    const auto it = j.find(name);
    if (it == j.end() || !it->is_number_unsigned()) return Error{fmt::format("no `{}`", name)};
    const auto value = it->get<std::uint64_t>();
    if (value > (1U << 26U)) return Error{fmt::format("`{}` is {}", name, value)};
    out.*field = static_cast<std::uint32_t>(value);
  }
  const auto power_of_two = [](std::uint32_t n) { return n != 0 && (n & (n - 1)) == 0; };
  const bool tables = out.intervals != 0 ? power_of_two(out.intervals)
                                         : power_of_two(out.pages) && power_of_two(out.cells);
  if (!tables || !power_of_two(out.trie4_blocks) || !power_of_two(out.hosts6) ||
      !power_of_two(out.trie6_blocks) || !power_of_two(out.classes) || !power_of_two(out.records) ||
      out.hash4_bits > 20 || out.hash6_bits > 20) {
    return Error{"not what policyc writes"};
  }
  return out;
}

}  // namespace

std::vector<std::string> endpoint_names(const ir::World& world, const ir::NodeView& view,
                                        const ir::ResolvedEndpoint& endpoint) {
  if (endpoint.host) return {view.node};
  std::vector<std::string> out;
  for (const std::size_t pod : endpoint.pods) out.push_back(world.inventory.pods[pod].full_name());
  return out;
}

namespace {

// Everything that one compile emits, collected view by view.
class Compilation {
 public:
  Compilation(const ir::World& world, const ir::Resolved& resolved, const CompileOptions& options,
              const OutputDirectory& earlier, CompileReport& report)
      : world_(world), resolved_(resolved), options_(options), earlier_(earlier), report_(report) {}

  void add_view(std::size_t index);

  std::map<std::string, Program> programs;   // by object path
  std::map<std::string, OutputFile> images;  // by path
  std::set<std::string> kept;                // files of endpoints that stay as they are
  ordered_json views = ordered_json::array();
  ordered_json endpoints = ordered_json::array();

 private:
  struct Policy {
    EncodedPolicy encoded;
    HttpPlan http;
    std::string path;
    std::string why_not;
  };

  bool wanted(std::size_t view, std::size_t endpoint) const {
    const auto& only = options_.only;
    return only.empty() ||
           std::find(only.begin(), only.end(), std::pair(view, endpoint)) != only.end();
  }
  std::string add_image(const char* kind, std::string bytes) {
    std::string sha256 = sha256_hex(bytes);
    std::string path = fmt::format("maps/{}-{}.img", kind, short_hash(sha256));
    images.emplace(path, OutputFile{std::move(bytes), std::move(sha256)});
    return path;
  }
  // The policy of an endpoint; nullptr with a reason where there is none.
  const Policy* policy(const ir::ResolvedEndpoint& endpoint, Refusal& refusal, std::string& why);

  const ir::World& world_;
  const ir::Resolved& resolved_;
  const CompileOptions& options_;
  const OutputDirectory& earlier_;
  CompileReport& report_;
  std::map<std::pair<const ir::PolicyTable*, const ir::PolicyTable*>, Policy> policies_;
};

const Compilation::Policy* Compilation::policy(const ir::ResolvedEndpoint& endpoint,
                                               Refusal& refusal, std::string& why) {
  if (!endpoint.error.empty()) {
    refusal = Refusal::Error;
    why = endpoint.error;
    return nullptr;
  }
  if (!endpoint.depends_on.empty()) {
    refusal = Refusal::Depends;
    why = endpoint.depends_on.front();
    return nullptr;
  }
  const auto [it, fresh] = policies_.try_emplace({endpoint.ingress.get(), endpoint.egress.get()});
  Policy& p = it->second;
  if (fresh) {
    if (options_.http) p.http = plan_http(*endpoint.ingress, *endpoint.egress);
    auto encoded = encode_policy(*endpoint.ingress, *endpoint.egress, kCellBudget, p.http.numbers);
    if (encoded) {
      p.encoded = std::move(*encoded);
      p.path = add_image("policy", write_image(p.encoded.image));
    } else {
      p.why_not = encoded.error();
    }
  }
  if (p.why_not.empty()) return &p;
  refusal = Refusal::TooLarge;
  why = p.why_not;
  return nullptr;
}

void Compilation::add_view(std::size_t index) {
  const ir::NodeView& view = resolved_.views[index];
  const std::size_t count = view.endpoints.size();
  bool any = false;
  for (std::size_t e = 0; e < count; ++e) any = any || wanted(index, e);
  // The classes are those of all endpoints of the node, wanted or not: they share its map.
  std::vector<const Policy*> of_endpoint(count);
  std::vector<const EncodedPolicy*> slots;
  std::map<const Policy*, std::size_t> slot_of;
  for (std::size_t e = 0; any && e < count; ++e) {
    Refusal refusal = Refusal::Error;
    std::string why;
    const Policy* p = of_endpoint[e] = policy(view.endpoints[e], refusal, why);
    if (p != nullptr && slot_of.try_emplace(p, slots.size()).second) slots.push_back(&p->encoded);
    if (p != nullptr || !wanted(index, e)) continue;
    const std::vector<std::string> names = endpoint_names(world_, view, view.endpoints[e]);
    report_.refused.push_back({names.empty() ? view.node : names.front(), refusal, std::move(why)});
  }
  IdentityImage identities;
  ClassImage classes;
  SizeClass node;
  std::string identities_path, classes_path;
  if (any) {
    identities = encode_identities(view, resolved_.identities);
    classes = encode_classes(slots, resolved_.identities.size());
    node = node_sizes(identities, classes);
    identities_path = add_image("identities", write_image(identities));
    classes_path = add_image("classes", write_image(classes));
    views.push_back(
        {{"node", view.node}, {"identities", identities_path}, {"classes", classes_path}});
  }
  for (std::size_t e = 0; e < count; ++e) {
    const ir::ResolvedEndpoint& endpoint = view.endpoints[e];
    const std::vector<std::string> names = endpoint_names(world_, view, endpoint);
    const Policy* p = of_endpoint[e];
    if (!wanted(index, e)) {
      const ordered_json* old = earlier_.endpoint(view.node, names);
      if (old == nullptr) continue;
      // Where nothing changed for it, it moves on with its node; otherwise it stays as it was.
      if (p == nullptr || old->value("image", "") != p->path) {
        for (const char* file : {"source", "object", "image", "identities", "classes"}) {
          kept.insert(old->value(file, ""));
        }
        endpoints.push_back(*old);
        continue;
      }
    }
    if (p == nullptr) continue;
    const SizeClass sizes = with_policy(node, p->encoded.image);
    const std::string text = program_text({.sizes = sizes,
                                           .vlan = options_.vlan,
                                           .stateful = options_.stateful,
                                           .events = options_.events,
                                           .prelude = options_.prelude,
                                           .prelude_file = options_.prelude_file,
                                           .http = p->http.text});
    const std::string hash = short_hash(sha256_hex(kCodeGenerator + text));
    const std::string source_path = fmt::format("src/policy-{}.c", hash);
    const std::string object_path = fmt::format("obj/policy-{}.o", hash);
    programs.try_emplace(object_path, Program{text, source_path, object_path});
    const ir::Identity& identity = resolved_.identities[endpoint.identity];
    ordered_json labels = ordered_json::array();
    for (const ir::Label& l : identity.labels.labels()) labels.push_back(l.str());
    endpoints.push_back({{"view", view.node},
                         {"identity", identity.number},
                         {"labels", labels},
                         {"host", endpoint.host},
                         {"pods", names},
                         {"source", source_path},
                         {"object", object_path},
                         {"image", p->path},
                         {"identities", identities_path},
                         {"classes", classes_path},
                         {"slot", slot_of.at(p)},
                         {"sizes", sizes_json(sizes)},
                         {"ingress", direction_json(*endpoint.ingress)},
                         {"egress", direction_json(*endpoint.egress)}});
    for (const std::string& why : p->http.left_to_proxy) {
      report_.left_to_proxy.emplace_back(names.empty() ? view.node : names.front(), why);
    }
    ++report_.endpoints;
  }
}

}  // namespace

namespace {

ordered_json prelude_json(const CompileOptions& options) {
  if (options.prelude.empty()) return nullptr;
  return {
      {"file", options.prelude_file}, {"sha256", sha256_hex(options.prelude)}, {"proved", false}};
}

}  // namespace

CompileReport compile(const ir::World& world, const ir::Resolved& resolved,
                      const CompileOptions& options) {
  CompileReport report;
  OutputDirectory directory(options.directory, "standalone", kSchema);
  const auto fail = [&](CompileReport::Status status, std::string message) {
    report.status = status;
    report.message = std::move(message);
    report.written = directory.written;
    return report;
  };
  Compilation out(world, resolved, options, directory, report);
  for (std::size_t v = 0; v < resolved.views.size(); ++v) out.add_view(v);
  report.programs = out.programs.size();
  report.images = out.images.size();

  // Objects that are not there yet.
  if (options.emit_objects) {
    std::vector<const Program*> missing;
    for (const auto& [path, program] : out.programs) {
      if (!directory.keep(path)) missing.push_back(&program);
    }
    if (!missing.empty()) {
      const auto module = find_clang_module();
      if (!module) return fail(CompileReport::Status::NoCompiler, module.error());
      std::vector<std::string> sources;
      for (const Program* p : missing) sources.push_back(p->text);
      const auto objects = compile_c(*module, sources);
      if (!objects) {
        const bool unusable = objects.error().find("cannot be opened") != std::string::npos;
        if (unusable) return fail(CompileReport::Status::NoCompiler, objects.error());
        // Our own text compiles without one.
        if (options.prelude.empty()) {
          return fail(CompileReport::Status::Failed, objects.error());
        }
        const bool nameless = options.prelude.find("policyc_prelude") == std::string::npos;
        return fail(CompileReport::Status::PreludeRejected,
                    nameless ? fmt::format("{} does not define `int policyc_prelude(struct "
                                           "__sk_buff *skb)`",
                                           options.prelude_file)
                             : objects.error());
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
    for (const auto& [path, program] : out.programs) {
      ok = ok && directory.put(program.source_path, program.text);
    }
  }
  if (options.emit_maps) {
    for (const auto& [path, file] : out.images) ok = ok && directory.put(path, file);
  }
  for (const auto& [path, text] : options.more) ok = ok && directory.put(path, text);
  if (!ok) return fail(CompileReport::Status::CannotWrite, directory.error);
  if (!options.only.empty()) directory.keep_below("proxy/");
  for (const std::string& path : out.kept) directory.keep(path);

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
                                 {"l7", options.http ? "kernel" : "proxy"},
                                 {"vlan", options.vlan ? "allow" : "drop"},
                                 {"stateful", options.stateful},
                                 {"events", options.events},
                                 {"prelude", prelude_json(options)},
                                 {"limits",
                                  {{"peers_told_apart", 65535},
                                   {"verdicts", kCellRecord},
                                   {"cells", 1U << 22U},
                                   {"ipv6_extension_headers", 6}}},
                                 {"inputs", inputs},
                                 {"views", out.views},
                                 {"endpoints", out.endpoints},
                                 {"refused", refused},
                                 {"files", directory.files_json()}};
  if (!directory.finish(manifest)) return fail(CompileReport::Status::CannotWrite, directory.error);
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
  if (j.value("target", json()) == "cilium") {
    return bad(
        "images of Cilium's maps (--target cilium) and no programs of ours: `policyc map` and "
        "`policyc dump image` are for them");
  }
  if (const auto it = j.find("schema");
      it == j.end() || !it->is_number_integer() || *it != kSchema) {
    return bad(fmt::format("`schema` is not {}; compile again", kSchema));
  }
  Manifest out;
  out.stateful = j.value("stateful", json()) == true;
  out.prelude = j.value("prelude", json()).is_object();
  out.vlan = j.value("vlan", json()) == "allow";
  out.events = j.value("events", json()) == true;
  if (const auto inputs = j.find("inputs"); inputs != j.end() && inputs->is_array()) {
    for (const json& i : *inputs) {
      if (!i.is_object() || !i.contains("path") || !i["path"].is_string() ||
          !i.contains("sha256") || !i["sha256"].is_string()) {
        return bad("`inputs` is not what policyc writes");
      }
      out.inputs.push_back({i["path"].get<std::string>(), i["sha256"].get<std::string>()});
    }
  }
  const auto l7 = j.find("l7");
  out.http = l7 != j.end() && *l7 == "kernel";
  if (const auto files = j.find("files"); files != j.end() && files->is_object()) {
    for (const auto& [name, entry] : files->items()) {
      if (!safe_output_path(name)) return bad(fmt::format("`{}` leads out of the directory", name));
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
          std::pair{"identities", &m.identities}, std::pair{"classes", &m.classes}}) {
      const auto it = e.find(name);
      if (it == e.end() || !it->is_string())
        return bad(fmt::format("an endpoint has no `{}`", name));
      *field = it->get<std::string>();
      if (field != &m.view && !safe_output_path(*field)) {
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
    const auto slot = e.find("slot");
    if (slot == e.end() || !slot->is_number_unsigned()) return bad("an endpoint has no `slot`");
    m.slot = slot->get<std::size_t>();
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
