// policyc map: images of Cilium's maps and maps of the kernel.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "backend-bpf/cilium_image.h"
#include "backend-bpf/kernel.h"
#include "backend-bpf/output_directory.h"
#include "cli/command.h"
#include "cli/options.h"

namespace policyc::cli {
namespace {

constexpr const char* kGlobals = "/sys/fs/bpf/tc/globals/";

struct MapCommand {
  std::string action;
  std::string image;
  std::string pin;
  std::string format = "text";
  bool create = false;
  bool prune = false;
};

int impossible(Env& env, const std::string& why) {
  fmt::print(env.err, "policyc: {}\n", why);
  return kImpossible;
}

// The image's entries with what the map's datapath keeps behind the compared bytes.
std::vector<bpf::MapEntry> merged(const bpf::CiliumImage& image,
                                  const std::vector<bpf::MapEntry>& now) {
  std::vector<bpf::MapEntry> out = image.entries;
  auto old = now.begin();
  for (bpf::MapEntry& e : out) {
    while (old != now.end() && old->first < e.first) ++old;
    if (old != now.end() && old->first == e.first) {
      e.second.replace(image.compared, std::string::npos, old->second, image.compared,
                       std::string::npos);
    }
  }
  return out;
}

void print_difference(const MapCommand& o, const bpf::CiliumImage& image,
                      const bpf::MapDifference& d, const std::string& pin, Env& env) {
  const std::pair<const char*, const std::vector<bpf::MapEntry>*> kinds[] = {
      {"missing", &d.missing}, {"added", &d.added}, {"different", &d.different}};
  if (o.format == "json") {
    nlohmann::ordered_json out = {{"version", 1}, {"image", o.image}, {"map", pin}};
    for (const auto& [name, entries] : kinds) {
      out[name] = nlohmann::ordered_json::array();
      for (const bpf::MapEntry& e : *entries) out[name].push_back(bpf::print_entry(image, e));
    }
    env.out << out.dump(1) << '\n';
    return;
  }
  for (const auto& [name, entries] : kinds) {
    for (const bpf::MapEntry& e : *entries) {
      fmt::print(env.out, "{:<9} {}\n", name, bpf::print_entry(image, e));
    }
  }
  fmt::print(env.out, "{}: {} entries of the image, {} missing, {} added, {} different\n", pin,
             image.entries.size(), d.missing.size(), d.added.size(), d.different.size());
}

int map(MapCommand& o, Env& env) {
  const auto bytes = bpf::read_artefact(o.image);
  if (!bytes) return usage_error(env, bytes.error());
  const auto image = bpf::read_cilium_image(*bytes);
  if (!image) return usage_error(env, o.image + ": " + image.error());
  std::string pin = o.pin;
  if (pin.empty() && !image->pin.empty()) pin = kGlobals + image->pin;
  if (pin.empty()) {
    return usage_error(env,
                       "the image does not know its endpoint's number, so the map must be "
                       "named: --pin PATH");
  }
  const bool fill = o.action == "fill";
  if (fill && !o.create && !image->placeholders.empty()) {
    return usage_error(
        env, fmt::format("{} holds stand-ins for numbers that the agent allocates ({}{}), and "
                         "would be wrong in a live map: compile with --agent-dump, or fill a map "
                         "of your own with --create",
                         o.image, image->placeholders.front(),
                         image->placeholders.size() > 1
                             ? fmt::format(" and {} more", image->placeholders.size() - 1)
                             : ""));
  }
  if (const auto why = bpf::kernel_unavailable()) return impossible(env, *why);
  if (fill && o.create) {
    auto made = bpf::KernelMap::create("policyc_map", image->definition);
    if (!made) return impossible(env, made.error());
    if (const auto pinned = made->pin(pin); !pinned) return usage_error(env, pinned.error());
  }
  auto live = bpf::KernelMap::open(pin);
  if (!live) return usage_error(env, live.error());
  const auto definition = live->definition();
  if (!definition) return impossible(env, definition.error());
  const bpf::MapDefinition& want = image->definition;
  if (definition->type != want.type || definition->key_size != want.key_size ||
      definition->value_size != want.value_size) {
    return usage_error(
        env, fmt::format("{} is a map of type {} with {}-byte keys and {}-byte values, the image's "
                         "of type {} with {} and {}: compile with the agent's release, --profile",
                         pin, definition->type, definition->key_size, definition->value_size,
                         want.type, want.key_size, want.value_size));
  }
  auto now = live->dump();
  if (!now) return impossible(env, now.error());
  if (fill) {
    // Additions first, as the agent does, so that nothing allowed is refused meanwhile.
    if (const auto put = live->put(merged(*image, *now)); !put)
      return usage_error(env, put.error());
    std::size_t removed = 0;
    if (o.prune) {
      const bpf::MapDifference d = bpf::compare(*image, *now);
      removed = d.added.size();
      if (const auto done = live->remove(d.added); !done) return usage_error(env, done.error());
    }
    fmt::print(env.out, "{}: {} entries written, {} removed\n", pin, image->entries.size(),
               removed);
    return kOk;
  }
  const bpf::MapDifference d = bpf::compare(*image, *now);
  print_difference(o, *image, d, pin, env);
  return d.empty() ? kOk : kFindings;
}

}  // namespace

void add_map(Cli& cli) {
  auto o = std::make_shared<MapCommand>();
  CLI::App* command =
      cli.add("map", "fill a map of Cilium's layout from an image, or compare the two",
              "  policyc map compare out/maps/policy-….img --pin "
              "/sys/fs/bpf/tc/globals/cilium_policy_v2_01234\n"
              "  policyc map fill out/maps/ipcache-….img --create --pin /sys/fs/bpf/mine");
  command
      ->add_option("ACTION", o->action, "compare: exit 1 where they differ; fill: write the image")
      ->required()
      ->check(one_of({"compare", "fill"}))
      ->type_name("");
  command->add_option("IMAGE", o->image, "of `compile --target cilium`")->required()->type_name("");
  command->add_option("--pin", o->pin, "the map; default: where Cilium pins it")->type_name("PATH");
  command->add_flag("--create", o->create, "fill: make the map and pin it");
  command->add_flag("--prune", o->prune, "fill: remove what the image does not hold");
  command->add_option("--format", o->format, "compare: how to print differences")
      ->check(one_of({"text", "json"}))
      ->type_name("text|json");
  cli.on_run(command, [o](Env& env) { return map(*o, env); });
}

}  // namespace policyc::cli
