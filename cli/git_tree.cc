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

// Runs a program and waits; what it said on standard error where it failed.
std::optional<Error> run(const std::vector<std::string>& words, const std::string& errors_file) {
  std::vector<char*> argv;
  for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors_file.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0600);
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

bool GitTree::has(const std::string& revision, const std::string& path) {
  if (revision.empty() || revision[0] == '-') return false;
  return !run({"git", "cat-file", "-e", revision + ":./" + path}, "/dev/null");
}

Expected<GitTree> GitTree::extract(const std::string& revision,
                                   const std::vector<std::string>& paths) {
  if (revision.empty() || revision[0] == '-') {
    return Error{fmt::format("`{}` is no git revision", revision)};
  }
  const char* base = std::getenv("TMPDIR");
  std::string folder = std::string(base != nullptr ? base : "/tmp") + "/policyc-diff-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    return Error{fmt::format("cannot make a folder for {}", revision)};
  }
  GitTree tree(folder);
  const std::string archive = folder + "/.tar";
  const std::string errors = folder + "/.errors";
  if (paths.empty()) return tree;
  std::vector<std::string> words = {"git",    "archive", "--format=tar", "-o", archive,
                                    revision, "--"};
  words.insert(words.end(), paths.begin(), paths.end());
  if (auto error = run(words, errors)) return Error{error->message};
  if (auto error = run({"tar", "-xf", archive, "-C", folder}, errors)) return Error{error->message};
  std::error_code ignored;
  std::filesystem::remove(archive, ignored);
  std::filesystem::remove(errors, ignored);
  return tree;
}

GitTree::~GitTree() {
  if (folder_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace policyc::cli
