// A revision of a git repository as files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::cli {

// The files of one revision in a folder of their own, which goes with this object. Needs the
// programs git and tar, and a working directory in a work tree or a bare repository.
class GitTree {
 public:
  // Whether git knows the text as a revision.
  static bool is_revision(const std::string& text);
  // No files yet. Errors say what git said; no work tree is one where it is wanted.
  static Expected<GitTree> open(bool with_work_tree);
  // A path, absolute or relative to the working directory, relative to the top of the work tree.
  // An error where it lies outside.
  Expected<std::string> inside(const std::string& path) const;
  // Whether the revision has the path, which is relative to the top.
  bool has(const std::string& revision, const std::string& path) const;
  // Extracts files of `revision` under the paths, which are relative to the top; none where there
  // are no paths. Errors say what git said.
  std::optional<Error> extract(const std::string& revision, const std::vector<std::string>& paths);
  GitTree(GitTree&& other) noexcept
      : folder_(std::move(other.folder_)), top_(std::move(other.top_)) {
    other.folder_.clear();
  }
  GitTree& operator=(GitTree&&) = delete;
  ~GitTree();

  const std::string& folder() const { return folder_; }

 private:
  explicit GitTree(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
  std::string top_;  // the work tree
};

}  // namespace policyc::cli
