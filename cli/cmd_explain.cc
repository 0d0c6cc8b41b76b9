// policyc explain: what a diagnostic means.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <memory>

#include "cli/command.h"
#include "cli/suggest.h"
#include "ir/base/diagnostic.h"

namespace policyc::cli {
namespace {

struct ExplainOptions {
  std::vector<std::string> codes;
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

int explain(const ExplainOptions& o, Env& env) {
  if (o.list) {
    for (const DiagInfo& info : all_diagnostics()) {
      fmt::print(env.out, "{}  {:<7}  {}\n", diag_name(info.code), severity_name(info.severity),
                 info.title);
    }
    return kOk;
  }
  if (o.codes.empty())
    return usage_error(env, "give a code, e.g. policyc explain POL0101, or --list");
  for (std::size_t i = 0; i < o.codes.size(); ++i) {
    const auto code = parse_diag_code(o.codes[i]);
    if (!code) {
      std::vector<std::string> names;
      for (const DiagInfo& info : all_diagnostics()) {
        names.push_back(diag_name(info.code));
        names.emplace_back(info.name);
      }
      const std::string near = nearest_name(o.codes[i], names);
      return usage_error(env,
                         fmt::format("unknown code `{}`{}", o.codes[i],
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
      cli.add("explain", "say what a diagnostic means, with an example and a remedy",
              "  policyc explain POL0120\n"
              "  policyc explain --list");
  command->add_option("CODE", o->codes, "codes or names of diagnostics")->type_name("");
  command->add_flag("--list", o->list, "list all diagnostics");
  cli.on_run(command, [o](Env& env) { return explain(*o, env); });
}

}  // namespace policyc::cli
