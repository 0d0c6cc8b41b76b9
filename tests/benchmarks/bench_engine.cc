// How long the engine takes to read, lower, resolve, ask, prove and lint, and `verify` to check
// tables and to prove a program. Processor time of all threads; medians and minima over rounds. Run
// by hand: no test is timed.
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "backend-bpf/compiler.h"
#include "backend-bpf/image.h"
#include "backend-bpf/program.h"
#include "cli/verification.h"
#include "frontend/load.h"
#include "frontend/lower.h"
#include "ir/base/file.h"
#include "ir/resolve.h"
#include "tests/benchmarks/datapath_world.h"
#include "tests/verifier/datapath_shape.h"
#include "tests/verifier/rule_sets.h"
#include "verifier/checks.h"
#include "verifier/program_proof.h"

namespace policyc {
namespace {

namespace fs = std::filesystem;

double processor_ms() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

class Bench {
 public:
  explicit Bench(unsigned rounds) : rounds_(rounds) {}

  // Returns the median, in milliseconds.
  double measure(const std::string& what, std::size_t size, const std::function<void()>& work,
                 unsigned rounds) {
    std::vector<double> times;
    for (unsigned i = 0; i < rounds; ++i) {
      const double begin = processor_ms();
      work();
      times.push_back(processor_ms() - begin);
    }
    std::sort(times.begin(), times.end());
    const double median = times[times.size() / 2];
    fmt::print("{:<28} {:>6} {:>10.2f} ms  min {:>10.2f}  max {:>10.2f}  rounds {}\n", what, size,
               median, times.front(), times.back(), rounds);
    results.push_back({{"what", what},
                       {"size", size},
                       {"ms", std::round(median * 1000) / 1000},
                       {"min", std::round(times.front() * 1000) / 1000},
                       {"max", std::round(times.back() * 1000) / 1000},
                       {"rounds", rounds}});
    return median;
  }
  double measure(const std::string& what, std::size_t size, const std::function<void()>& work) {
    return measure(what, size, work, rounds_);
  }

  nlohmann::ordered_json results = nlohmann::ordered_json::array();

 private:
  unsigned rounds_;
};

// One policy of a repository as teams keep them: an application, who may call it, whom it calls.
std::string policy_text(std::size_t i) {
  const std::size_t ns = i % 40;
  std::string out = fmt::format(
      "apiVersion: cilium.io/v2\n"
      "kind: CiliumNetworkPolicy\n"
      "metadata:\n"
      "  name: app-{0}\n"
      "  namespace: team-{1}\n"
      "spec:\n"
      "  endpointSelector:\n"
      "    matchLabels:\n"
      "      app: app-{0}\n"
      "  ingress:\n"
      "    - fromEndpoints:\n"
      "        - matchLabels:\n"
      "            app: app-{2}\n"
      "        - matchLabels:\n"
      "            k8s:io.kubernetes.pod.namespace: monitoring\n"
      "            app: prometheus\n"
      "      toPorts:\n"
      "        - ports:\n"
      "            - port: \"{3}\"\n"
      "              protocol: TCP\n",
      i, ns, i + 40, 8000 + i % 100);
  if (i % 5 == 0) {
    out +=
        "          rules:\n            http:\n              - method: GET\n"
        "                path: \"/api/.*\"\n";
  }
  out += fmt::format(
      "  egress:\n"
      "    - toEndpoints:\n"
      "        - matchLabels:\n"
      "            k8s:io.kubernetes.pod.namespace: kube-system\n"
      "            k8s-app: kube-dns\n"
      "      toPorts:\n"
      "        - ports:\n"
      "            - port: \"53\"\n"
      "              protocol: ANY\n"
      "          rules:\n"
      "            dns:\n"
      "              - matchPattern: \"*\"\n"
      "    - toEndpoints:\n"
      "        - matchLabels:\n"
      "            app: app-{}\n",
      i >= 40 ? i - 40 : i);
  if (i % 4 == 0) out += "    - toFQDNs:\n        - matchPattern: \"*.example.com\"\n";
  if (i % 7 == 0) out += fmt::format("    - toCIDR:\n        - 10.{}.0.0/16\n", i % 250);
  return out;
}

std::string pods_text(std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    out += fmt::format(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: app-{0}, namespace: team-{1}, labels: {{app: "
        "app-{0}}}}}\nspec: {{containers: [{{name: c}}]}}\n---\n",
        i, i % 40);
  }
  return out;
}

// A folder that goes away again.
struct Folder {
  fs::path path;
  explicit Folder(std::size_t policies) {
    std::string name = (fs::temp_directory_path() / "policyc-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::exit(1);
    path = name;
    fs::create_directories(path / "policies");
    for (std::size_t i = 0; i < policies; ++i) {
      write(fmt::format("policies/{:05}.yaml", i), policy_text(i));
    }
    write("pods.yaml", pods_text(policies));
  }
  ~Folder() {
    std::error_code code;
    fs::remove_all(path, code);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  void write(const std::string& name, const std::string& text) const {
    if (write_file_atomic((path / name).string(), text)) std::exit(1);
  }
};

frontend::LoadOptions load_options(const fs::path& path) {
  frontend::LoadOptions options;
  options.paths = {path.string()};
  return options;
}

void lint(const fs::path& path) {
  DiagnosticSink sink;
  frontend::Loaded loaded = frontend::load(load_options(path), {}, sink);
  ir::World world;
  world.policies = frontend::lower(loaded, world.settings);
  world.inventory = std::move(loaded.inventory);
  run_checks(world, *loaded.sources, sink);
}

void repository(Bench& bench, std::size_t policies) {
  const Folder folder(policies);
  DiagnosticSink sink;
  bench.measure("read", policies, [&] {
    DiagnosticSink own;
    frontend::load(load_options(folder.path), {}, own);
  });
  const frontend::Loaded loaded = frontend::load(load_options(folder.path), {}, sink);
  ir::World world;
  bench.measure("lower", policies,
                [&] { world.policies = frontend::lower(loaded, world.settings); });
  world.inventory = loaded.inventory;
  bench.measure("resolve", policies, [&] { ir::resolve(world); });
  bench.measure("query, 1000 flows", policies, [&] {
    for (std::size_t i = 0; i < 1000; ++i) {
      ir::Flow flow;
      flow.from = ir::PodParty{i % policies};
      flow.to = ir::PodParty{(i * 7 + 1) % policies};
      flow.port = static_cast<std::uint16_t>(8000 + i % 100);
      ir::evaluate(world, flow);
    }
  });
  // Each file on its own, then all of them as one deployment.
  bench.measure("lint, files apart", policies, [&] { lint(folder.path / "policies"); });
  folder.write("policies/kustomization.yaml", "kind: Kustomization\nresources: [.]\n");
  bench.measure(
      "lint, deployed together", policies, [&] { lint(folder.path / "policies"); }, 3);
}

void proofs(Bench& bench, std::size_t rules, bool wide) {
  const testing::RuleSet set = testing::generate_rules(rules, wide, 7);
  const std::string name = wide ? "wide" : "narrow";
  const double algebra = bench.measure("dead rules, " + name + ", algebra", rules,
                                       [&] { dead_rules(set.space, set.rules); });
  if (!Solver::available()) return;
  const double z3 = bench.measure(
      "dead rules, " + name + ", Z3", rules,
      [&] {
        Solver solver;
        for (std::size_t i = 0; i < rules; ++i) solver.solve(testing::dead_question(set, i));
      },
      1);
  fmt::print("{:<28} {:>6} {:>10.0f} times\n", "  Z3 against algebra", rules, z3 / algebra);
  bench.results.back()["ratio"] = std::round(z3 / algebra);
}

// What `verify` does with the images of an endpoint whose policy map would have that many entries:
// read, laid out, and compared with the policy.
void tables(Bench& bench, std::size_t entries, bool distinct) {
  const bench::World w = bench::make_world({.entries = entries, .distinct = distinct});
  ir::ResolvedEndpoint endpoint;
  endpoint.ingress = std::make_shared<const ir::PolicyTable>(w.ingress);
  endpoint.egress = std::make_shared<const ir::PolicyTable>(w.egress);
  const auto policy = bpf::encode_policy(w.ingress, w.egress);
  if (!policy) std::exit(1);
  const auto identities = bpf::encode_identities(w.view, w.identities);
  const auto classes = bpf::encode_classes({&*policy}, w.identities.size());
  const bpf::SizeClass sizes = bpf::size_class(identities, classes, policy->image);
  const std::string files[] = {bpf::write_image(identities), bpf::write_image(classes),
                               bpf::write_image(policy->image)};
  bench.measure(fmt::format("check tables, {} profiles", distinct ? "own" : "shared"), entries,
                [&] {
                  cli::NodeTables node = cli::read_node_tables(files[0], files[1]);
                  const auto line = cli::check_tables(node, files[2], 0, sizes, w.view, endpoint);
                  if (line.answer != cli::ProofAnswer::Proved) {
                    fmt::print(stderr, "the tables are not proved: {}\n", line.detail);
                    std::exit(1);
                  }
                });
}

void program(Bench& bench, unsigned rounds) {
  const auto module = bpf::find_clang_module();
  if (!module || !verify::TermSolver::available()) return;
  const bpf::SizeClass sizes;
  const auto objects = bpf::compile_c(*module, {bpf::program_text({.sizes = sizes})});
  if (!objects) std::exit(1);
  const auto object = ebpf::read_object(objects->front());
  if (!object) std::exit(1);
  for (const unsigned direction : {0U, 1U}) {
    const char* name = direction == 0 ? bpf::kIngressProgram : bpf::kEgressProgram;
    bench.measure(
        std::string("prove ") + name, object->program(name)->code.size(),
        [&] {
          verify::TermSolver solver;
          const auto report = verify::prove_program(*object, name, direction,
                                                    testing::datapath_shape(sizes), solver);
          if (report.answer == verify::ProofReport::Answer::Proved) return;
          fmt::print(stderr, "the program is not proved: {}\n", report.reason);
          std::exit(1);
        },
        rounds);
  }
}

int run(const std::vector<std::string>& arguments) {
  std::string json;
  unsigned rounds = 7;
  bool quick = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--json" && i + 1 < arguments.size()) {
      json = arguments[++i];
    } else if (arguments[i] == "--rounds" && i + 1 < arguments.size()) {
      rounds = static_cast<unsigned>(std::max(1, std::atoi(arguments[++i].c_str())));
    } else if (arguments[i] == "--quick") {
      quick = true;
    } else {
      fmt::print("bench_engine [--json FILE] [--rounds N] [--quick]\n");
      return arguments[i] == "--help" ? 0 : 2;
    }
  }
  Bench bench(rounds);
  repository(bench, quick ? 20 : 1000);
  for (const bool wide : {false, true}) {
    for (const std::size_t rules :
         quick ? std::vector<std::size_t>{20} : std::vector<std::size_t>{1000, 5000}) {
      proofs(bench, rules, wide);
    }
  }
  for (const bool distinct : {false, true}) {
    for (const std::size_t entries :
         quick ? std::vector<std::size_t>{100} : std::vector<std::size_t>{100, 1000, 10000}) {
      tables(bench, entries, distinct);
    }
  }
  program(bench, rounds);
  if (json.empty()) return 0;
  utsname system{};
  uname(&system);
  const nlohmann::ordered_json out = {{"version", 1},
                                      {"machine",
                                       {{"kernel", std::string(system.release)},
                                        {"cpus", sysconf(_SC_NPROCESSORS_ONLN)},
                                        {"solver", Solver::version()}}},
                                      {"results", bench.results}};
  const auto error = write_file_atomic(json, out.dump(2) + "\n");
  if (error) fmt::print(stderr, "cannot write {}: {}\n", json, error->message);
  return error ? 1 : 0;
}

}  // namespace
}  // namespace policyc

int main(int argc, char** argv) {
  return policyc::run({argv + 1, argv + argc});
}
