#include "cli/proof_log.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "ir/base/file.h"

namespace policyc::cli {
namespace {

using nlohmann::ordered_json;

const char* answer_name(Coverage::Answer a) {
  switch (a) {
    case Coverage::Answer::Covered:
      return "unsat";
    case Coverage::Answer::Open:
      return "sat";
    case Coverage::Answer::Undecided:
      break;
  }
  return "unknown";
}

// The questions that the index in the folder names; nullopt where there is no such index.
std::optional<std::vector<std::string>> files_of_log(const std::string& dir) {
  const auto text = read_file(dir + "/index.json");
  if (!text) return std::nullopt;
  const auto index = ordered_json::parse(*text, nullptr, false);
  if (!index.is_object() || !index.contains("questions") || !index["questions"].is_array()) {
    return std::nullopt;
  }
  std::vector<std::string> out;
  for (const auto& question : index["questions"]) {
    if (!question.is_object() || !question.contains("file") || !question["file"].is_string()) {
      return std::nullopt;
    }
    const std::string name = question["file"].get<std::string>();
    // Nothing but what `add` could have written.
    const std::size_t digits = name.find_first_not_of("0123456789");
    if (digits != std::string::npos && digits >= 4 && name.substr(digits) == ".smt2") {
      out.push_back(name);
    }
  }
  return out;
}

}  // namespace

// Makes the folder, or takes away what the index of an earlier log names in it.
void ProofFolder::prepare() {
  if (prepared_) return;
  prepared_ = true;
  std::error_code code;
  std::filesystem::create_directories(dir_, code);
  const bool empty = std::filesystem::is_empty(dir_, code);
  if (code || empty) return;  // writing will say what is wrong with it
  const auto files = files_of_log(dir_);
  if (!files) {
    failure_ = "it is not empty, and has no index.json of a proof log";
    return;
  }
  for (const std::string& name : *files) std::filesystem::remove(dir_ + "/" + name, code);
}

void ProofFolder::add(Entry entry, const std::function<std::string()>& text) {
  if (!dir_.empty()) prepare();
  if (!dir_.empty() && failure_.empty()) {
    entry.file = fmt::format("{:04}.smt2", entries_.size() + 1);
    if (const auto error = write_file_atomic(dir_ + "/" + entry.file, text())) {
      failure_ = error->message;
    }
  }
  entries_.push_back(std::move(entry));
}

std::optional<std::string> ProofFolder::finish() {
  if (dir_.empty()) return std::nullopt;
  prepare();
  ordered_json out;
  out["version"] = 1;
  out["questions"] = ordered_json::array();
  for (const Entry& e : entries_) {
    out["questions"].push_back({{"file", e.file},
                                {"name", e.title},
                                {"answer", e.answer},
                                {"engine", e.engine},
                                {"steps", e.steps},
                                {"resources", e.resources}});
  }
  if (failure_.empty()) {
    if (const auto error = write_file_atomic(dir_ + "/index.json", out.dump(2) + "\n")) {
      failure_ = error->message;
    }
  }
  if (!failure_.empty()) return fmt::format("cannot write to `{}`: {}", dir_, failure_);
  return std::nullopt;
}

void ProofLog::hear(const ProofStep& step) {
  ProofFolder::Entry e;
  e.title = step.question->title;
  e.answer = answer_name(step.answer);
  e.engine = "algebra";
  e.steps = step.steps;
  if (cross_check_) {
    const Solution s = solver_.solve(*step.question);
    e.resources = s.resources;
    const char* other = s.answer == Solution::Answer::Covered ? "unsat"
                        : s.answer == Solution::Answer::Open  ? "sat"
                                                              : "unknown";
    if (s.answer == Solution::Answer::Unknown) {
      ++unknown_;
    } else if (step.answer == Coverage::Answer::Undecided) {
      ++decided_;
      e.answer = other;
      e.engine = "z3";
    } else if (e.answer == other) {
      ++agreed_;
      e.engine = "algebra, z3";
    } else {
      contradictions_.push_back(fmt::format("{}: {} by the algebra, {} by {}", e.title, e.answer,
                                            other, Solver::version()));
    }
  }
  const std::string status = e.answer;
  folder_.add(std::move(e), [&] {
    // Declarations follow the logic; the status belongs between them.
    std::string text = smtlib(*step.question);
    return text.insert(text.find('\n') + 1, fmt::format("(set-info :status {})\n", status));
  });
}

Solution ProofLog::decide(const Question& question) {
  return solver_.solve(question);
}

std::string ProofLog::summary() const {
  std::string out =
      fmt::format("{} question{} put to {} as well: {} agree, {} unknown", folder_.size(),
                  folder_.size() == 1 ? "" : "s", Solver::version(), agreed_, unknown_);
  if (decided_ > 0) out += fmt::format(", {} that the algebra left open", decided_);
  return out;
}

}  // namespace policyc::cli
