// A revision of a git repository as files.
#pragma once

#include <string>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::cli {

// The files of one revision in a folder of their own, which goes with this object. Needs the
// programs git and tar.
class GitTree {
 public:
  // Whether git knows the text as a revision.
  static bool is_revision(const std::string& text);
  // Whether the revision has the path, which is relative to the working directory.
  static bool has(const std::string& revision, const std::string& path);
  // `paths` are relative to the working directory, which lies in the repository; files of
  // `revision` under them are extracted, none where there are no paths. Errors say what git
  // said.
  static Expected<GitTree> extract(const std::string& revision,
                                   const std::vector<std::string>& paths);
  GitTree(GitTree&& other) noexcept : folder_(std::move(other.folder_)) { other.folder_.clear(); }
  GitTree& operator=(GitTree&&) = delete;
  ~GitTree();

  const std::string& folder() const { return folder_; }

 private:
  explicit GitTree(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
};

}  // namespace policyc::cli
