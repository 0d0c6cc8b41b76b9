// policyc explain: what a diagnostic means.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <memory>

#include "cli/answer.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/flows.h"
#include "cli/question.h"
#include "cli/suggest.h"
#include "ir/base/diagnostic.h"

namespace policyc::cli {
namespace {

struct ExplainOptions : EngineOptions {
  std::vector<std::string> arguments;  // codes; with --flow: paths
  std::string flow;                    // a question, or a flow as in flows.json
  bool list = false;
};

// Breaks text into lines of at most `width` bytes at spaces.
std::string wrapped(std::string_view text, std::size_t width) {
  std::string out;
  std::size_t column = 0;
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    if (column > 0 && column + 1 + word.size() > width) {
      out += '\n';
      column = 0;
    } else if (column > 0) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  }
  return out;
}

std::string indented(std::string_view text) {
  std::string out = "  ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "  ";
  }
  return out;
}

void print_row(const DiagInfo& info, Env& env) {
  fmt::print(env.out, "{} {} ({}): {}\n\n{}\n", diag_name(info.code), info.name,
             severity_name(info.severity), info.title, wrapped(info.meaning, 80));
  if (!info.example.empty()) fmt::print(env.out, "\nExample:\n{}\n", indented(info.example));
  fmt::print(env.out, "\nRemedy:\n{}\n", indented(wrapped(info.remedy, 78)));
}

// Which rules decide a flow, step by step: both directions, what isolates, what nearly matches.
int explain_flow(ExplainOptions& o, Env& env) {
  o.common.load.paths = o.arguments;
  Engine engine;
  int exit_code = kOk;
  if (!load_engine(o, env, engine, exit_code)) return exit_code;
  PreparedQuestion question;
  if (o.flow.find('{') != std::string::npos) {
    auto flows = read_flows("[" + o.flow + "]", engine.world);
    if (!flows) return usage_error(env, "--flow: " + flows.error());
    question.flows = std::move(*flows);
  } else {
    auto asked = parse_sentence(o.flow);
    if (!asked) return usage_error(env, "--flow: " + asked.error());
    if (asked->kind != Question::Kind::Can) {
      return usage_error(env, "--flow wants one flow, like `can frontend reach backend on 80`");
    }
    auto prepared = prepare(engine.world, *asked, o.common.load.default_namespace);
    if (!prepared) return usage_error(env, "--flow: " + prepared.error());
    question = std::move(*prepared);
  }
  const Answer a = answer(engine.world, engine.sources(), question);
  fmt::print(env.out, "{}\n", a.headline);
  for (std::size_t i = 0; i < question.flows.size(); ++i) {
    fmt::print(env.out, "{}: {}\n", flow_text(engine.world, question.flows[i]),
               ir::verdict_name(a.verdicts[i].final));
    for (const std::string& line :
         explain_verdict(engine.world, engine.sources(), question.flows[i], a.verdicts[i])) {
      fmt::print(env.out, "{}\n", line);
    }
  }
  for (const std::string& note : question.notes) fmt::print(env.out, "note: {}\n", note);
  return kOk;
}

int explain(ExplainOptions& o, Env& env) {
  if (!o.flow.empty()) return explain_flow(o, env);
  if (o.list) {
    for (const DiagInfo& info : all_diagnostics()) {
      fmt::print(env.out, "{}  {:<7}  {}\n", diag_name(info.code), severity_name(info.severity),
                 info.title);
    }
    return kOk;
  }
  if (o.arguments.empty())
    return usage_error(env, "give a code, e.g. policyc explain POL0101, or --list");
  for (std::size_t i = 0; i < o.arguments.size(); ++i) {
    const auto code = parse_diag_code(o.arguments[i]);
    if (!code) {
      std::vector<std::string> names;
      for (const DiagInfo& info : all_diagnostics()) {
        names.push_back(diag_name(info.code));
        names.emplace_back(info.name);
      }
      const std::string near = nearest_name(o.arguments[i], names);
      return usage_error(env,
                         fmt::format("unknown code `{}`{}", o.arguments[i],
                                     near.empty() ? "; --list names all of them"
                                                  : fmt::format("; did you mean `{}`?", near)));
    }
    if (i > 0) env.out << "\n";
    print_row(diag_info(*code), env);
  }
  return kOk;
}

}  // namespace

void add_explain(Cli& cli) {
  auto o = std::make_shared<ExplainOptions>();
  CLI::App* command =
      cli.add("explain", "say what a diagnostic means, or which rules decide a flow",
              "  policyc explain POL0120\n"
              "  policyc explain --list\n"
              "  policyc explain --flow \"can web reach db on 5432\" manifests/");
  add_engine_options(*command, *o, PathArgument::None);
  command->add_option("CODE", o->arguments, "codes or names of diagnostics; with --flow: PATHs")
      ->type_name("");
  command->add_option("--flow", o->flow, "a question, or one flow as in flows.json")
      ->type_name("FLOW");
  command->add_flag("--list", o->list, "list all diagnostics");
  cli.on_run(command, [o](Env& env) { return explain(*o, env); });
}

}  // namespace policyc::cli
