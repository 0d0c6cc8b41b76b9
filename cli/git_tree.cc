#include "cli/git_tree.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "ir/base/file.h"

extern char** environ;

namespace policyc::cli {
namespace {

namespace fs = std::filesystem;

// Runs a program and waits; what it said on standard error where it failed. What it prints goes to
// `output_file` where that is named.
std::optional<Error> run(const std::vector<std::string>& words, const std::string& errors_file,
                         const std::string& output_file = "") {
  std::vector<char*> argv;
  for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors_file.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (!output_file.empty()) {
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output_file.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
  }
  pid_t child = 0;
  const int failed = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return Error{fmt::format("cannot start `{}`; install it", words[0])};
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::nullopt;
  std::string said = [&] {
    auto text = read_file(errors_file);
    return text ? *text : std::string();
  }();
  while (!said.empty() && said.back() == '\n') said.pop_back();
  return Error{fmt::format("{}: {}", words[0], said.empty() ? "failed" : said)};
}

}  // namespace

bool GitTree::is_revision(const std::string& text) {
  if (text.empty() || text[0] == '-') return false;
  return !run({"git", "cat-file", "-e", text + "^{tree}"}, "/dev/null");
}

Expected<GitTree> GitTree::open(bool with_work_tree) {
  const char* base = std::getenv("TMPDIR");
  std::string folder = fs::absolute(base != nullptr ? base : "/tmp") / "policyc-diff-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return Error{"cannot make a folder for a revision"};
  GitTree tree(folder);
  const std::string printed = folder + "/.top", errors = folder + "/.errors";
  const auto error = run({"git", "rev-parse", "--show-toplevel"}, errors, printed);
  if (error && with_work_tree) return *error;
  tree.top_ = ".";  // a bare repository, whose paths are the revision's; or git says more later
  if (!error) {
    auto top = read_file(printed);
    if (!top) return Error{top.error()};
    while (!top->empty() && top->back() == '\n') top->pop_back();
    tree.top_ = std::move(*top);
  }
  std::error_code ignored;
  fs::remove(printed, ignored);
  fs::remove(errors, ignored);
  return tree;
}

Expected<std::string> GitTree::inside(const std::string& path) const {
  // Symbolic links on the way lead into the work tree; one at the end is a file of it, or the work
  // tree itself under another name.
  std::error_code ignored;
  fs::path whole = fs::absolute(path, ignored).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();
  const fs::path top = fs::weakly_canonical(top_, ignored);
  for (const fs::path& at : {fs::weakly_canonical(whole.parent_path(), ignored) / whole.filename(),
                             fs::weakly_canonical(whole, ignored)}) {
    const fs::path out = at.lexically_relative(top);
    if (!out.empty() && *out.begin() != "..") return out.string();
  }
  return Error{fmt::format("{} is outside the work tree {}", path, top_)};
}

bool GitTree::has(const std::string& revision, const std::string& path) const {
  if (revision.empty() || revision[0] == '-') return false;
  return !run({"git", "cat-file", "-e", revision + ":" + (path == "." ? "" : path)}, "/dev/null");
}

std::optional<Error> GitTree::extract(const std::string& revision,
                                      const std::vector<std::string>& paths) {
  if (revision.empty() || revision[0] == '-') {
    return Error{fmt::format("`{}` is no git revision", revision)};
  }
  if (paths.empty()) return std::nullopt;
  const std::string archive = folder_ + "/.tar";
  const std::string errors = folder_ + "/.errors";
  std::vector<std::string> words = {"git", "-C",    top_,     "archive", "--format=tar",
                                    "-o",  archive, revision, "--"};
  words.insert(words.end(), paths.begin(), paths.end());
  if (auto error = run(words, errors)) return error;
  if (auto error = run({"tar", "-xf", archive, "-C", folder_}, errors)) return error;
  std::error_code ignored;
  fs::remove(archive, ignored);
  fs::remove(errors, ignored);
  return std::nullopt;
}

GitTree::~GitTree() {
  if (folder_.empty()) return;
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace policyc::cli
