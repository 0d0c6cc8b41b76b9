// policyc test: assertion files against policies.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/answer.h"
#include "cli/claims.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/flows.h"
#include "cli/question.h"
#include "cli/render.h"
#include "ir/base/file.h"
#include "ir/base/text.h"

namespace policyc::cli {
namespace {

struct TestOptions : EngineOptions {
  std::vector<std::string> arguments;
  std::string format = "text";
};

enum class Outcome { Passed, Failed, Undecided };

struct TestResult {
  const PolicyTest* test = nullptr;
  Outcome outcome = Outcome::Passed;
  std::vector<std::string> lines;  // what failed, and why
};

bool holds_tests(const std::string& path) {
  const auto text = read_file(path);
  return text && text->find("kind: PolicyTest") != std::string::npos;
}

// Assertion files among the arguments; folders are searched and stay input as well.
void sort_arguments(const std::vector<std::string>& arguments, std::vector<std::string>& files,
                    std::vector<std::string>& paths) {
  namespace fs = std::filesystem;
  for (const std::string& argument : arguments) {
    std::error_code ignored;
    if (fs::is_directory(argument, ignored)) {
      paths.push_back(argument);
      std::vector<std::string> found;
      for (const auto& e : fs::recursive_directory_iterator(argument, ignored)) {
        const std::string ext = e.path().extension();
        if (e.is_regular_file(ignored) && (ext == ".yaml" || ext == ".yml") &&
            holds_tests(e.path())) {
          found.push_back(e.path());
        }
      }
      std::sort(found.begin(), found.end());
      files.insert(files.end(), found.begin(), found.end());
    } else if (holds_tests(argument)) {
      files.push_back(argument);
    } else {
      paths.push_back(argument);
    }
  }
}

class Runner {
 public:
  Runner(const Engine& engine, const std::string& ns)
      : engine_(engine), ns_(ns), claims_(engine.world, ns) {}

  TestResult run(const SourceMap& sources, const PolicyTest& test) {
    TestResult out;
    out.test = &test;
    if (test.claim) claim(*test.claim, out);
    for (const auto& [sentence, range] : test.sentences) {
      const std::size_t before = out.lines.size();
      assertion(sentence, out);
      if (out.lines.size() > before) {
        out.lines.insert(out.lines.begin() + static_cast<std::ptrdiff_t>(before),
                         fmt::format("{}: {}", sources.place(range), sentence));
      }
    }
    return out;
  }

 private:
  static void worse(TestResult& out, Outcome outcome) {
    const bool replace = out.outcome == Outcome::Passed || outcome == Outcome::Failed;
    if (replace) out.outcome = outcome;
  }

  void claim(const Claim& claim, TestResult& out) {
    const auto result = claims_.decide(claim);
    if (!result) {
      worse(out, Outcome::Undecided);
      out.lines.push_back("  " + result.error());
      return;
    }
    switch (result->kind) {
      case ReachResult::Kind::Holds:
        if (result->pairs == 0) {
          worse(out, Outcome::Undecided);
          out.lines.emplace_back("  it speaks of nobody: no pair of the input is meant");
        } else if (const auto any_pod = claims_.decide_for_any_pod(claim);
                   any_pod && any_pod->kind == OpenAnswer::Kind::Fails) {
          // It passes, being about the input; whoever reads it should know what it does not say.
          for (std::string& line :
               any_pod_lines(*any_pod, engine_.sources(), claim.requests.has_value())) {
            out.lines.push_back("  " + std::move(line));
          }
        }
        return;
      case ReachResult::Kind::Unknown:
        worse(out, Outcome::Undecided);
        out.lines.push_back("  not decided: " + result->why);
        return;
      case ReachResult::Kind::Fails:
        break;
    }
    worse(out, Outcome::Failed);
    const ir::Flow& flow = *result->counterexample;
    const ir::FlowVerdict verdict = ir::evaluate(engine_.world, flow);
    out.lines.push_back(fmt::format("  counterexample: {} is {}", flow_text(engine_.world, flow),
                                    ir::verdict_name(verdict.final)));
    for (std::string& line : explain_verdict(engine_.world, engine_.sources(), flow, verdict)) {
      out.lines.push_back("  " + std::move(line));
    }
  }

  void assertion(const std::string& sentence, TestResult& out) {
    if (auto quantified = parse_claim(sentence)) {
      if (*quantified) return claim(**quantified, out);
      worse(out, Outcome::Undecided);
      out.lines.push_back("  " + quantified->error());
      return;
    }
    // "cannot X" is "can X" with the other answer.
    std::string positive = sentence;
    bool allow = true;
    for (const char* word : {"cannot ", "can't ", "can not "}) {
      const std::string w = word;
      if (positive.size() >= w.size() && lower(positive.substr(0, w.size())) == w) {
        positive = "can " + positive.substr(w.size());
        allow = false;
      }
    }
    const auto question = parse_sentence(positive);
    const auto prepared =
        question && question->kind == Question::Kind::Can
            ? prepare(engine_.world, *question, ns_)
            : Expected<PreparedQuestion>(
                  Error{question ? "a sentence here begins with can, cannot, no or every"
                                 : question.error()});
    if (!prepared) {
      worse(out, Outcome::Undecided);
      out.lines.push_back("  " + prepared.error());
      return;
    }
    const Answer a = answer(engine_.world, engine_.sources(), *prepared);
    if (a.word == (allow ? Answer::Word::Yes : Answer::Word::No)) return;
    worse(out, a.word == Answer::Word::Depends ? Outcome::Undecided : Outcome::Failed);
    out.lines.push_back("  " + a.headline);
    for (const std::string& line : a.lines) out.lines.push_back("  " + line);
  }

  const Engine& engine_;
  std::string ns_;
  ClaimWorld claims_;
};

const char* outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::Passed:
      return "ok";
    case Outcome::Failed:
      return "FAIL";
    case Outcome::Undecided:
      return "undecided";
  }
  return "";
}

void print_text(const std::vector<TestResult>& results, bool color, Env& env) {
  std::array<std::size_t, 3> counts{};
  for (const TestResult& r : results) {
    ++counts[static_cast<std::size_t>(r.outcome)];
    const char* on = !color                         ? ""
                     : r.outcome == Outcome::Passed ? "\x1b[1;32m"
                     : r.outcome == Outcome::Failed ? "\x1b[1;31m"
                                                    : "\x1b[1;33m";
    fmt::print(env.out, "{}{:<9}{} {}\n", on, outcome_name(r.outcome), color ? "\x1b[0m" : "",
               r.test->name);
    for (const std::string& line : r.lines) fmt::print(env.out, "  {}\n", line);
  }
  fmt::print(env.out, "{} passed, {} failed, {} undecided\n", counts[0], counts[1], counts[2]);
}

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

int test(TestOptions& options, Env& env) {
  std::vector<std::string> files;
  sort_arguments(options.arguments, files, options.common.load.paths);
  if (files.empty()) {
    return usage_error(env,
                       "no assertion file: give one with `kind: PolicyTest`, and the policies");
  }
  SourceMap sources;
  std::vector<PolicyTest> tests;
  for (const std::string& path : files) {
    auto text = read_file(path);
    if (!text) return usage_error(env, fmt::format("{}: {}", path, text.error()));
    auto list = read_policy_tests(sources, sources.add(path, std::move(*text)));
    if (!list) return usage_error(env, list.error());
    tests.insert(tests.end(), std::make_move_iterator(list->begin()),
                 std::make_move_iterator(list->end()));
  }
  Engine engine;
  int code = kOk;
  if (!load_engine(options, env, engine, code)) return code;
  Runner runner(engine, options.common.load.default_namespace);
  std::vector<TestResult> results;
  for (const PolicyTest& t : tests) results.push_back(runner.run(sources, t));

  if (options.format == "json") {
    nlohmann::ordered_json out;
    out["version"] = 1;
    out["tests"] = nlohmann::ordered_json::array();
    for (const TestResult& r : results) {
      const LineColumn at = sources.position(r.test->range.file, r.test->range.begin);
      out["tests"].push_back({{"name", r.test->name},
                              {"outcome", r.outcome == Outcome::Failed   ? "failed"
                                          : r.outcome == Outcome::Passed ? "passed"
                                                                         : "undecided"},
                              {"file", sources.path(r.test->range.file)},
                              {"line", at.line},
                              {"details", r.lines}});
    }
    env.out << out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  } else if (options.format == "junit") {
    const auto count = [&](Outcome outcome) {
      return std::count_if(results.begin(), results.end(),
                           [&](const TestResult& r) { return r.outcome == outcome; });
    };
    fmt::print(env.out,
               "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite "
               "name=\"policyc test\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
               results.size(), count(Outcome::Failed), count(Outcome::Undecided));
    for (const TestResult& r : results) {
      fmt::print(env.out, "    <testcase classname=\"{}\" name=\"{}\"",
                 xml_escape(sources.path(r.test->range.file)), xml_escape(r.test->name));
      if (r.outcome == Outcome::Passed) {
        fmt::print(env.out, "/>\n");
      } else if (r.outcome == Outcome::Undecided) {
        // JUnit knows no third outcome; "skipped" is the one that is neither passed nor failed.
        fmt::print(env.out,
                   ">\n      <skipped message=\"undecided\">{}</skipped>\n    </testcase>\n",
                   xml_escape(joined(r.lines)));
      } else {
        fmt::print(env.out, ">\n      <failure type=\"{}\">{}</failure>\n    </testcase>\n",
                   outcome_name(r.outcome), xml_escape(joined(r.lines)));
      }
    }
    fmt::print(env.out, "  </testsuite>\n</testsuites>\n");
  } else if (options.format == "github") {
    for (const TestResult& r : results) {
      if (r.outcome == Outcome::Passed) continue;
      const LineColumn at = sources.position(r.test->range.file, r.test->range.begin);
      std::string text = joined(r.lines);
      for (std::size_t i = 0; (i = text.find('\n', i)) != std::string::npos;) {
        text.replace(i, 1, "%0A");
      }
      fmt::print(env.out, "::{} file={},line={},col={},title={}::{}\n",
                 r.outcome == Outcome::Failed ? "error" : "warning",
                 sources.path(r.test->range.file), at.line, at.column, r.test->name, text);
    }
  } else {
    print_text(results, use_color(options.common, env.out_terminal), env);
  }
  int exit_code = kOk;
  for (const TestResult& r : results) {
    if (r.outcome == Outcome::Failed) return kFindings;
    if (r.outcome == Outcome::Undecided) exit_code = kUndecided;
  }
  return account_for_refused(options, engine, exit_code, env);
}

}  // namespace

void add_test(Cli& cli) {
  auto options = std::make_shared<TestOptions>();
  CLI::App* command =
      cli.add("test", "run assertion files against policies",
              "  policyc test reachability.yaml manifests/\n"
              "  policyc test --format junit tests/ manifests/ cluster-dump.yaml\n"
              "\n  # reachability.yaml\n"
              "  apiVersion: policyc.io/v1\n"
              "  kind: PolicyTest\n"
              "  tests:\n"
              "  - name: frontend reads and never writes\n"
              "    assert: [can frontend GET / to backend, cannot frontend POST to backend]\n"
              "  - name: the database is private\n"
              "    assert: [no pod outside namespace shop reaches shop/db on 5432]");
  command->add_option("FILE", options->arguments,
                      "assertion files (kind: PolicyTest), policies and inventory, in any order");
  add_engine_options(*command, *options, PathArgument::None);
  command->add_option("--format", options->format, "text, json, junit or github")
      ->check(CLI::IsMember({"text", "json", "junit", "github"}));
  cli.on_run(command, [options](Env& env) { return test(*options, env); });
}

}  // namespace policyc::cli
