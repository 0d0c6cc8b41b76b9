#include "frontend/load.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "frontend/cursor.h"
#include "frontend/discover.h"
#include "frontend/kustomization.h"
#include "frontend/parse_inventory.h"
#include "frontend/parse_policy.h"
#include "frontend/world.h"
#include "ir/base/diag_code.h"
#include "ir/base/file.h"
#include "ir/base/parallel.h"

namespace policyc::frontend {
namespace {

std::string_view api_group(std::string_view api_version) {
  const std::size_t slash = api_version.find('/');
  return slash == std::string_view::npos ? std::string_view() : api_version.substr(0, slash);
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Whether the two words of every Kubernetes object stand in the text; also where it is UTF-16 or
// UTF-32, which have NUL bytes beside the letters.
bool looks_like_object(std::string_view text) {
  std::string letters;
  if (contains(text, std::string_view("\0", 1))) {
    letters.reserve(text.size());
    std::copy_if(text.begin(), text.end(), std::back_inserter(letters),
                 [](char c) { return c != '\0'; });
    text = letters;
  }
  return contains(text, "apiVersion") && contains(text, "kind");
}

// The names of all policy kinds end in one of these.
bool names_policy_kind(std::string_view text) {
  return contains(text, "NetworkPolicy") || contains(text, "CiliumClusterwideNetworkPolicy") ||
         contains(text, "CiliumCIDRGroup");
}

bool is_namespaced(PolicyKind kind) {
  return kind == PolicyKind::CiliumNetworkPolicy || kind == PolicyKind::NetworkPolicy;
}

// Kinds that take part in verdicts but that we do not model.
bool decides_unmodelled(std::string_view group, std::string_view kind) {
  if (group == "policy.networking.k8s.io") {
    return kind == "AdminNetworkPolicy" || kind == "BaselineAdminNetworkPolicy" ||
           kind == "ClusterNetworkPolicy";
  }
  if (group == "cilium.io") {
    return kind == "CiliumLocalRedirectPolicy" || kind == "CiliumEnvoyConfig" ||
           kind == "CiliumClusterwideEnvoyConfig";
  }
  return (group == "projectcalico.org" || group == "crd.projectcalico.org") &&
         (kind == "NetworkPolicy" || kind == "GlobalNetworkPolicy");
}

// The kind of an object that means to be a policy but has an apiVersion under which nobody serves
// it.
std::optional<PolicyKind> misversioned_policy(std::string_view group, std::string_view kind) {
  if (kind == "CiliumNetworkPolicy") return PolicyKind::CiliumNetworkPolicy;
  if (kind == "CiliumClusterwideNetworkPolicy") return PolicyKind::CiliumClusterwideNetworkPolicy;
  if (kind == "CiliumCIDRGroup") return PolicyKind::CiliumCidrGroup;
  const bool ours = group.empty() || group == "extensions" || group == "networking.k8s.io";
  if (kind == "NetworkPolicy" && ours) return PolicyKind::NetworkPolicy;
  return std::nullopt;
}

// A file in the templates folder of a chart, told by the chart's Chart.yaml.
class ChartFinder {
 public:
  bool in_templates(const std::string& path) {
    for (std::string folder = parent_path(path); folder != "." && folder != "/";
         folder = parent_path(folder)) {
      if (base_name(folder) != "templates") continue;
      if (has_chart(parent_path(folder))) return true;
    }
    return false;
  }

 private:
  bool has_chart(const std::string& folder) {
    auto [it, fresh] = known_.emplace(folder, false);
    struct stat info {};
    if (fresh) it->second = stat((folder + "/Chart.yaml").c_str(), &info) == 0;
    return it->second;
  }

  std::map<std::string, bool> known_;
};

// One object of the input on its way to the policies or the inventory.
struct Item {
  YamlRef object;
  FileId file = kNoFile;
  std::uint32_t document = 0;
  std::optional<PolicyKind> policy;  // else inventory
  bool misversioned = false;
  std::string ns;
  NamespaceSource ns_source = NamespaceSource::Written;
  std::string set;
};

class Loader {
 public:
  Loader(const LoadOptions& options, const ir::Settings& base, DiagnosticSink& sink)
      : options_(options), settings_(base), sink_(sink) {}

  Loaded run() {
    find_files();
    phase("discover");
    read_files();
    phase("read");
    parse_files();
    phase("parse");
    sort_objects();
    settle_settings();
    settle_places();
    phase("sort");
    read_policies();
    read_inventory();
    find_alternatives();
    phase("check");
    return std::move(out_);
  }

 private:
  void phase(std::string name) {
    const auto now = std::chrono::steady_clock::now();
    out_.timings.push_back({std::move(name), std::chrono::duration<double>(now - clock_).count()});
    clock_ = now;
  }

  void skip(SourceRange range, std::string reason) {
    out_.skipped.push_back({out_.sources->place(range), std::move(reason)});
  }

  void cannot_open(DiagCode code, const std::string& path, std::string_view cause) {
    sink_.report(code, {}, fmt::format("cannot read `{}`: {}", path, cause));
    ++out_.unreadable_files;
    ++out_.unopened;
  }

  // A settings file beside the manifests. False (with a diagnostic) when it cannot be read.
  bool read_side_file(const std::string& path, std::string& text) {
    auto content = read_file(path, 64U << 20U);
    if (!content) {
      bad_setting(path, content.error());
      return false;
    }
    text = std::move(*content);
    return true;
  }

  void bad_setting(const std::string& path, std::string_view cause) {
    sink_.report(DiagCode::BadSetting, {}, fmt::format("cannot use `{}`: {}", path, cause));
    ++out_.bad_settings;
  }

  static bool exists(const std::string& path) {
    struct stat info {};
    return stat(path.c_str(), &info) == 0;
  }

  // ---- files ----

  void find_files() {
    std::vector<std::string> paths = options_.paths;
    if (!options_.world.empty()) {
      const std::string& world = options_.world;
      paths.clear();
      if (!exists(world)) {
        paths.push_back(world);  // reported as missing
      } else {
        const bool cluster = exists(world + "/cluster.yaml");
        const bool policies = exists(world + "/policies");
        if (cluster) paths.push_back(world + "/cluster.yaml");
        if (policies) paths.push_back(world + "/policies");
        if (!cluster && !policies) {
          cannot_open(DiagCode::PathNotFound, world,
                      "a world holds cluster.yaml and a folder policies, and neither is there");
        }
      }
    }
    Discovery found = discover(paths, options_.exclude);
    for (const auto& [path, cause] : found.missing) {
      cannot_open(DiagCode::PathNotFound, path, cause);
    }
    for (const auto& [path, cause] : found.unreadable) {
      cannot_open(DiagCode::FileUnreadable, path, cause);
    }
    for (auto& [path, reason] : found.skipped) out_.skipped.push_back({path, reason});
    files_ = std::move(found.files);
  }

  void read_files() {
    std::vector<Expected<std::string>> texts(files_.size(), Error{});
    parallel_for(files_.size(), options_.jobs, [&](std::size_t i) {
      // One byte more than the reader of YAML takes, so that it can say what is wrong.
      texts[i] = files_[i].path == "-" ? Expected<std::string>(options_.stdin_text)
                                       : read_file(files_[i].path, YamlLimits().file_bytes + 1);
    });
    std::vector<FoundFile> readable;
    for (std::size_t i = 0; i < files_.size(); ++i) {
      if (!texts[i]) {
        cannot_open(files_[i].named ? DiagCode::PathNotFound : DiagCode::FileUnreadable,
                    files_[i].path, texts[i].error());
        continue;
      }
      const std::string& path = files_[i].path;
      out_.sources->add(path == "-" ? "<stdin>" : path, std::move(*texts[i]));
      readable.push_back(std::move(files_[i]));
    }
    files_ = std::move(readable);
    out_.files = files_.size();
  }

  void parse_files() {
    std::vector<DiagnosticSink> sinks(files_.size());
    out_.streams.resize(files_.size());
    parallel_for(files_.size(), options_.jobs, [&](std::size_t i) {
      const auto file = static_cast<FileId>(i);
      out_.streams[i] = std::make_unique<YamlStream>(read_yaml(*out_.sources, file, sinks[i]));
    });
    for (std::size_t i = 0; i < files_.size(); ++i) {
      if (!out_.streams[i]->ok() && leave_out(i)) {
        out_.streams[i] = std::make_unique<YamlStream>();
        continue;
      }
      if (!out_.streams[i]->ok()) {
        ++out_.unreadable_files;
        const bool marks = contains(out_.sources->text(static_cast<FileId>(i)), "{{");
        for (Diagnostic& d : sinks[i].all()) {
          if (marks && d.help.empty()) {
            d.help =
                "this looks like a template: render it first, e.g. helm template CHART | "
                "policyc lint -";
          }
        }
      }
      sink_.merge(std::move(sinks[i]));
      for (const YamlDocument& document : out_.streams[i]->documents()) {
        if (document.root->kind != NodeKind::Null) ++out_.documents;
      }
    }
  }

  // Whether a file that does not parse is none of our business; says why in `skipped`.
  bool leave_out(std::size_t i) {
    const auto file = static_cast<FileId>(i);
    const std::string& text = out_.sources->text(file);
    const std::string& path = out_.sources->path(file);
    const bool policy = names_policy_kind(text);
    const bool marks = contains(text, "{{");
    if (marks && !policy) {
      out_.skipped.push_back({path, "does not parse; looks like a template without policies"});
      return true;
    }
    if (marks && charts_.in_templates(files_[i].path)) {
      out_.skipped.push_back({path, "Helm template"});
      templates_.push_back({file, 0, 0});
      return true;
    }
    const bool manifest = looks_like_object(text);
    const std::string_view name = std::string_view(path).substr(path.rfind('/') + 1);
    const bool kustomization = name == "kustomization.yaml" || name == "kustomization.yml";
    if (!manifest && !policy && !files_[i].named && !kustomization) {
      out_.skipped.push_back({path, "does not parse, and holds no Kubernetes object"});
      return true;
    }
    return false;
  }

  // ---- objects ----

  void sort_objects() {
    for (std::size_t i = 0; i < files_.size(); ++i) {
      absolute_.push_back(files_[i].path == "-" ? std::string() : absolute_path(files_[i].path));
    }
    for (std::size_t i = 0; i < files_.size(); ++i) {
      for (const YamlDocument& document : out_.streams[i]->documents()) {
        if (kustomization_kind(*document.root, files_[i].path) == KustomizationKind::Kustomize) {
          places_.add_kustomization(absolute_[i], *document.root);
        }
      }
    }
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const bool patch = places_.is_patch(absolute_[i]);
      for (const YamlDocument& document : out_.streams[i]->documents()) {
        if (document.root->kind == NodeKind::Null) continue;
        if (patch) {
          skip(document.root->range, "patch or input of a kustomization");
          continue;
        }
        add_object({document.root, document.root->range}, i, document.index, 0);
      }
    }
    places_.finish(absolute_);
    report_unmodelled();
    if (!templates_.empty()) {
      sink_
          .report(DiagCode::HelmTemplate, templates_.front(),
                  fmt::format("{} with policies {} not rendered and not checked",
                              templates_.size() == 1
                                  ? "a Helm template"
                                  : fmt::format("{} Helm templates", templates_.size()),
                              templates_.size() == 1 ? "was" : "were"))
          .help = "pipe the rendered chart: helm template CHART | policyc lint -";
    }
  }

  void add_object(const YamlRef& ref, std::size_t file, std::uint32_t document, int depth) {
    const YamlNode& node = *ref.node;
    if (!node.is_mapping()) return skip(ref.at, "not an object");
    const std::string_view kind = node.get_text("kind");
    const std::string_view version = node.get_text("apiVersion");
    switch (kustomization_kind(node, files_[file].path)) {
      case KustomizationKind::None:
        break;
      case KustomizationKind::Kustomize:
        return skip(ref.at, "kustomization: read for namespaces and sets only");
      case KustomizationKind::Flux:
        places_.add_flux(absolute_[file], node);
        return skip(ref.at, "Flux Kustomization: read for namespaces and sets only");
    }
    if (kind.empty()) return skip(ref.at, "no Kubernetes object: it has no kind");
    const YamlNode* items = node.get("items");
    if (kind.ends_with("List") && items != nullptr && items->is_sequence() && depth < 8) {
      for (const YamlRef& item : items->items) {
        if (item.node == nullptr || !item.node->is_mapping()) {
          skip(item.at, "list element that is not an object");
        } else {
          add_object(complete_item(node, item, kind), file, document, depth + 1);
        }
      }
      return;
    }
    const YamlNode* metadata = node.get("metadata");
    if (metadata != nullptr && !metadata->is_mapping()) metadata = nullptr;
    Item item{ref, static_cast<FileId>(file), document, policy_kind_of(node), false, {}, {}, {}};
    if (!item.policy) {
      const std::string_view group = api_group(version);
      if (is_inventory_kind(version, kind)) {
        items_.push_back(std::move(item));
        return;
      }
      if (is_cilium_config(node)) {
        configs_.push_back(&node);
        return;
      }
      if (decides_unmodelled(group, kind)) {
        auto [it, fresh] = unmodelled_.emplace(std::pair(group, kind), std::pair(ref.at, 0));
        if (fresh && node.find("kind") != nullptr) it->second.first = node.find("kind")->value.at;
        ++it->second.second;
        return skip(ref.at, fmt::format("kind `{}` ({}) is not modelled", kind, group));
      }
      item.policy = misversioned_policy(group, kind);
      item.misversioned = true;
      if (!item.policy) {
        report_misspelt(node, group, kind);
        return skip(ref.at, fmt::format("kind `{}` is not used", kind));
      }
    }
    if (is_template(node, metadata, file)) {
      templates_.push_back(ref.at);
      return skip(ref.at, "Helm template");
    }
    items_.push_back(std::move(item));
  }

  // `kind: CiliumNetworkPolcy`: skipping it in silence would lose a policy.
  void report_misspelt(const YamlNode& node, std::string_view group, std::string_view kind) {
    std::vector<std::string_view> kinds;
    if (group == "cilium.io") {
      kinds = {"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "CiliumCIDRGroup"};
    } else if (group == "networking.k8s.io") {
      kinds = {"NetworkPolicy"};
    }
    const std::string_view meant = closest(kind, kinds);
    if (meant.empty()) return;
    const YamlRef& value = node.find("kind")->value;
    const SourceRange at = value.at;
    Diagnostic& d = sink_.report(
        DiagCode::MisspeltKind, at,
        fmt::format("`{}` has no kind `{}`", node.get_text("apiVersion"), kind), Layer::Schema);
    d.help = fmt::format("did you mean `{}`?", meant);
    if (const auto place = replaceable(at, kind); place && at == value.node->range) {
      d.fix = Fix{fmt::format("write `{}`", meant), {{*place, std::string(meant)}}};
    }
  }

  bool is_template(const YamlNode& node, const YamlNode* metadata, std::size_t file) {
    if (!contains(out_.sources->slice(node.range), "{{")) return false;
    if (charts_.in_templates(files_[file].path)) return true;
    return metadata != nullptr && (contains(metadata->get_text("name"), "{{") ||
                                   contains(metadata->get_text("namespace"), "{{"));
  }

  // Elements of a typed list (`kind: PodList`) need not repeat their kind and apiVersion.
  YamlRef complete_item(const YamlNode& list, const YamlRef& item, std::string_view list_kind) {
    const YamlEntry* kind = list.find("kind");
    const YamlEntry* version = list.find("apiVersion");
    if (item.node->find("kind") != nullptr || list_kind == "List" || version == nullptr) {
      return item;
    }
    YamlNode kind_node = *kind->value.node;
    kind_node.text = list_kind.substr(0, list_kind.size() - 4);
    out_.made_nodes.push_back(std::move(kind_node));
    const YamlRef kind_ref{&out_.made_nodes.back(), kind->value.at};
    YamlNode full = *item.node;
    full.entries.push_back({"kind", kind->key_range, kind_ref, false});
    if (full.find("apiVersion") == nullptr) full.entries.push_back(*version);
    out_.made_nodes.push_back(std::move(full));
    return {&out_.made_nodes.back(), item.at};
  }

  void report_unmodelled() {
    for (const auto& [key, where] : unmodelled_) {
      const auto& [group, kind] = key;
      sink_.report(
          DiagCode::KindNotModelled, where.first,
          fmt::format("`{}` ({}) is not modelled: answers leave out {} of this kind", kind, group,
                      where.second == 1 ? "an object" : fmt::format("{} objects", where.second)));
    }
  }

  // ---- settings ----

  void settle_settings() {
    bool said = !configs_.empty();
    const std::size_t findings = sink_.all().size();
    for (const YamlNode* config : configs_) read_cilium_config(*config, settings_, sink_);
    for (std::size_t i = findings; i < sink_.all().size(); ++i) {
      if (sink_.all()[i].severity == Severity::Error) ++out_.bad_settings;
    }
    std::string text;
    if (!options_.world.empty()) {
      said = true;
      settings_.assume_admitted = true;
      const std::string path = options_.world + "/config.json";
      if (exists(path) && read_side_file(path, text)) {
        if (auto error = read_world_config(text, settings_)) bad_setting(path, error->message);
      }
      out_.inventory.fqdn.emplace();
      const std::string names = options_.world + "/fqdn.json";
      if (options_.fqdn_file.empty() && exists(names)) read_names(names);
    }
    if (!options_.fqdn_file.empty()) read_names(options_.fqdn_file);
    if (options_.pin_settings) options_.pin_settings(settings_);
    if (said) out_.settings = settings_;
    if (!options_.allocations_file.empty() && read_side_file(options_.allocations_file, text)) {
      if (auto table = read_allocations(text)) {
        allocated_ = std::move(table->addresses);
        out_.inventory.allocated_identities = std::move(table->identities);
      } else {
        bad_setting(options_.allocations_file, table.error());
      }
    }
  }

  void read_names(const std::string& path) {
    std::string text;
    if (!read_side_file(path, text)) return;
    if (auto table = read_fqdn_table(text)) {
      out_.inventory.fqdn = std::move(*table);
    } else {
      bad_setting(path, table.error());
    }
  }

  // ---- namespaces and sets ----

  void settle_places() {
    const std::string here = absolute_path(".");
    std::size_t policies = 0;
    SourceRange first;
    for (Item& item : items_) {
      const YamlNode& node = *item.object.node;
      const std::string& path = absolute_[item.file];
      const bool namespaced =
          item.policy ? is_namespaced(*item.policy) : !is_cluster_wide_kind(node.get_text("kind"));
      if (namespaced) {
        settle_namespace(item, path);
        if (item.ns_source == NamespaceSource::Defaulted) {
          ++out_.defaulted_namespaces;
          if (item.policy && policies++ == 0) first = item.object.at;
        }
      }
      switch (options_.sets) {
        case LoadOptions::Sets::All:
          break;
        case LoadOptions::Sets::Dir:
          item.set = path.empty() ? "-" : parent_path(files_[item.file].path);
          break;
        case LoadOptions::Sets::Auto:
          if (!path.empty() && !places_.empty()) item.set = places_.set_for(path);
          if (item.set == here) {
            item.set = ".";
          } else if (item.set.starts_with(here + "/")) {
            item.set.erase(0, here.size() + 1);
          }
          break;
      }
    }
    // A world says what it means; kubectl's default is part of it.
    if (policies > 0 && options_.world.empty()) {
      sink_
          .report(DiagCode::NamespaceDefaulted, first,
                  policies == 1
                      ? std::string("a policy has no namespace and is read as in `default`")
                      : fmt::format("{} policies have no namespace and are read as in `default`",
                                    policies))
          .help = "give it with -n, in the object, or in a kustomization inside the given paths";
    }
  }

  void settle_namespace(Item& item, const std::string& path) {
    const YamlNode* metadata = item.object.node->get("metadata");
    if (metadata != nullptr && metadata->is_mapping()) {
      item.ns = std::string(metadata->get_text("namespace"));
    }
    if (!item.ns.empty()) return;
    if (!options_.default_namespace.empty()) {
      item.ns = options_.default_namespace;
      item.ns_source = NamespaceSource::Flag;
      return;
    }
    if (!path.empty()) {
      const auto answer = places_.namespace_for(path);
      if (!answer.ns.empty()) {
        item.ns = answer.ns;
        item.ns_source = answer.flux ? NamespaceSource::Flux : NamespaceSource::Kustomization;
        return;
      }
    }
    item.ns = "default";
    item.ns_source = NamespaceSource::Defaulted;
  }

  // ---- policies ----

  void read_policies() {
    std::vector<const Item*> policies;
    for (const Item& item : items_) {
      if (item.policy) policies.push_back(&item);
    }
    std::vector<DiagnosticSink> sinks(policies.size());
    out_.policies.resize(policies.size());
    parallel_for(policies.size(), options_.jobs, [&](std::size_t i) {
      const Item& item = *policies[i];
      LoadedPolicy& policy = out_.policies[i];
      policy.ast = item.misversioned ? refuse_version(item, sinks[i])
                                     : read_policy(item.object, *item.policy, item.file,
                                                   item.document, settings_, sinks[i]);
      if (options_.unknown_fields == LoadOptions::UnknownFields::Prune &&
          policy.ast.layer == Layer::UnknownField) {
        policy.ast.accepted = policy.ast.layer_pruned == Layer::None;
        policy.ast.layer = policy.ast.layer_pruned;
        policy.ast.error = policy.ast.error_pruned;
      }
      policy.ns = item.ns;
      policy.ns_source = item.ns_source;
      policy.set = item.set;
      for (Diagnostic& d : sinks[i].all()) {
        if (d.policy && d.policy->ns.empty()) d.policy->ns = item.ns;
      }
    });
    for (DiagnosticSink& sink : sinks) sink_.merge(std::move(sink));
  }

  // An object that no API server takes: listed, without rules.
  PolicyAst refuse_version(const Item& item, DiagnosticSink& sink) const {
    const YamlNode& node = *item.object.node;
    PolicyAst ast;
    ast.kind = *item.policy;
    ast.file = item.file;
    ast.document = item.document;
    ast.range = item.object.at;
    if (const YamlEntry* kind = node.find("kind"); kind != nullptr) {
      ast.kind_range = kind->value.at;
    }
    if (const YamlNode* metadata = node.get("metadata");
        metadata != nullptr && metadata->is_mapping()) {
      if (const YamlEntry* name = metadata->find("name"); name != nullptr) {
        ast.name = {std::string(metadata->get_text("name")), name->value.at,
                    name->value.node != nullptr && name->value.node->placeholder};
      }
    }
    const std::string_view version = node.get_text("apiVersion");
    const std::string_view right =
        ast.kind == PolicyKind::NetworkPolicy ? "networking.k8s.io/v1" : "cilium.io/v2";
    ast.accepted = false;
    ast.layer = Layer::Schema;
    ast.error = version.empty()
                    ? std::string("apiVersion is missing")
                    : fmt::format("`{}` has no kind `{}`", version, node.get_text("kind"));
    const YamlEntry* entry = node.find("apiVersion");
    const SourceRange at = entry != nullptr ? entry->value.at : ast.kind_range;
    Diagnostic& d = sink.report(DiagCode::WrongApiVersion, at, ast.error, Layer::Schema);
    d.policy = PolicyRef{std::string(node.get_text("kind")), item.ns, ast.name.text};
    d.help = fmt::format("write apiVersion: {}", right);
    const auto place = replaceable(at, version);
    if (entry != nullptr && !version.empty() && place && at == entry->value.node->range) {
      d.fix = Fix{d.help, {{*place, std::string(right)}}};
    }
    return ast;
  }

  void find_alternatives() {
    std::map<std::tuple<PolicyKind, std::string, std::string>, std::vector<std::size_t>> groups;
    for (std::size_t i = 0; i < out_.policies.size(); ++i) {
      const LoadedPolicy& p = out_.policies[i];
      if (p.ast.name.text.empty() || p.ast.name.unknown) continue;
      if (p.ast.ns && p.ast.ns->unknown) continue;
      groups[{p.ast.kind, p.ns, p.ast.name.text}].push_back(i);
    }
    std::vector<std::string> lines;
    std::vector<std::size_t> firsts;
    for (const auto& [key, members] : groups) {
      if (members.size() < 2) continue;
      firsts.push_back(members[1]);
      const auto& [kind, ns, name] = key;
      std::string line = PolicyRef{policy_kind_name(kind), ns, name}.str() + ":";
      for (std::size_t i : members) {
        line +=
            (i == members.front() ? " " : ", ") + out_.sources->place(out_.policies[i].ast.range);
        for (std::size_t j : members) {
          if (i != j) out_.policies[i].alternatives.push_back(j);
        }
      }
      lines.push_back(std::move(line));
    }
    if (lines.empty()) return;
    constexpr std::size_t kShown = 20;
    Diagnostic& d =
        sink_.report(DiagCode::SameObjectTwice,
                     out_.policies[*std::min_element(firsts.begin(), firsts.end())].ast.range,
                     fmt::format("{} defined more than once: taken as alternatives, never combined",
                                 lines.size() == 1 ? "an object is"
                                                   : fmt::format("{} objects are", lines.size())));
    if (lines.size() > kShown) {
      const std::size_t more = lines.size() - kShown;
      lines.resize(kShown);
      lines.push_back(fmt::format("and {} more", more));
    }
    d.notes = std::move(lines);
  }

  // ---- inventory ----

  void read_inventory() {
    std::set<std::string> namespaces;
    bool live = false;     // something that only a cluster writes
    bool planned = false;  // a pod that no cluster has run
    for (const Item& item : items_) {
      if (item.policy) continue;
      read_inventory_object(item.object, item.ns, item.set, out_.inventory, sink_);
      const std::string_view kind = item.object.node->get_text("kind");
      const YamlNode* status = item.object.node->get("status");
      const bool has_status = status != nullptr && !status->entries.empty();
      if (kind == "Namespace") {
        const YamlNode* metadata = item.object.node->get("metadata");
        if (metadata != nullptr) namespaces.insert(std::string(metadata->get_text("name")));
      }
      live = live || kind == "CiliumEndpoint" || (kind == "Pod" && has_status);
      planned = planned || (kind == "Pod" && !has_status);
    }
    // A dump lists the namespace of every policy that it holds; a repository with a few pods does
    // not.
    for (const LoadedPolicy& policy : out_.policies) {
      if (!policy.ns.empty() && namespaces.count(policy.ns) == 0) planned = true;
    }
    std::vector<ir::Prefix> in_use;
    for (const LoadedPolicy& policy : out_.policies) note_prefixes(policy.ast, in_use);
    for (ir::Pod& pod : out_.inventory.pods) {
      auto it = allocated_.find(pod.full_name());
      if (it == allocated_.end() || !pod.ips.empty() || pod.host_network) continue;
      pod.ips = it->second;
      pod.synthetic_ip = true;
    }
    finish_inventory(out_.inventory, settings_, in_use);
    const bool complete = !options_.world.empty() ||
                          options_.inventory == LoadOptions::InventoryMode::Complete ||
                          (options_.inventory == LoadOptions::InventoryMode::Auto &&
                           !namespaces.empty() && live && !planned);
    out_.inventory.completeness = complete ? ir::Completeness::Complete : ir::Completeness::Partial;
  }

  // Every prefix that a policy mentions; CIDR groups go to the inventory on the way.
  void note_prefixes(const PolicyAst& ast, std::vector<ir::Prefix>& in_use) {
    auto use = [&](const Text& text) {
      if (auto prefix = ir::parse_prefix(text.text, true)) in_use.push_back(*prefix);
    };
    auto use_all = [&](const OptList<Text>& list) {
      if (list) std::for_each(list->begin(), list->end(), use);
    };
    for (const RuleAst& rule : ast.rules) {
      for (const auto* section :
           {&rule.ingress, &rule.ingress_deny, &rule.egress, &rule.egress_deny}) {
        if (!*section) continue;
        for (const RuleItemAst& item : **section) {
          use_all(item.cidr);
          if (!item.cidr_set) continue;
          for (const CidrSetAst& set : *item.cidr_set) {
            if (set.cidr) use(*set.cidr);
            std::for_each(set.except.begin(), set.except.end(), use);
          }
        }
      }
    }
    if (ast.netpol) {
      for (const auto* section : {&ast.netpol->ingress, &ast.netpol->egress}) {
        if (!*section) continue;
        for (const NetpolRuleAst& rule : **section) {
          if (!rule.peers) continue;
          for (const NetpolPeerAst& peer : *rule.peers) {
            if (!peer.ip_block) continue;
            use(peer.ip_block->cidr);
            std::for_each(peer.ip_block->except.begin(), peer.ip_block->except.end(), use);
          }
        }
      }
    }
    if (ast.cidr_group && ast.accepted) {
      ir::CidrGroup group;
      group.name = ast.name.text;
      group.range = ast.range;
      for (const auto& [key, value] : ast.labels) group.labels.emplace(key.text, value.text);
      for (const Text& cidr : ast.cidr_group->cidrs) {
        if (auto prefix = ir::parse_prefix(cidr.text, true)) group.cidrs.push_back(*prefix);
      }
      out_.inventory.cidr_groups.push_back(std::move(group));
    }
  }

  const LoadOptions& options_;
  ir::Settings settings_;
  DiagnosticSink& sink_;
  Loaded out_;
  std::chrono::steady_clock::time_point clock_ = std::chrono::steady_clock::now();
  std::vector<FoundFile> files_;       // index = FileId
  std::vector<std::string> absolute_;  // same index; empty for standard input
  ChartFinder charts_;
  DeploymentMap places_;
  std::vector<Item> items_;
  std::vector<const YamlNode*> configs_;
  std::vector<SourceRange> templates_;
  // (group, kind) → first place, number of objects
  std::map<std::pair<std::string_view, std::string_view>, std::pair<SourceRange, int>> unmodelled_;
  NameTable allocated_;
};

}  // namespace

Loaded load(const LoadOptions& options, const ir::Settings& base, DiagnosticSink& sink) {
  Loaded out = Loader(options, base, sink).run();
  for (FileId f = 0; !options.hidden_prefix.empty() && f < out.sources->size(); ++f) {
    const std::string& path = out.sources->path(f);
    if (!path.starts_with(options.hidden_prefix)) continue;
    out.sources->rename(f, options.shown_prefix + path.substr(options.hidden_prefix.size()));
  }
  return out;
}

}  // namespace policyc::frontend
