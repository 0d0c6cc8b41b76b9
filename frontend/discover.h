// From PATHs to a list of files: folders are walked, ignore rules applied, doubles dropped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace policyc::frontend {

// Whether a pattern of .policycignore or --exclude matches a path (relative, `/` between parts).
// `*` and `?` stay within one part, `**` crosses parts, `[a-z]` is a set. A pattern without a slash
// matches any one part of the path; a pattern with one matches from the start. What matches a
// folder matches everything in it. Linear in pattern × path.
bool glob_match(std::string_view pattern, std::string_view path);

// The path with `.`, `..` and doubled slashes resolved by text alone, made absolute.
std::string absolute_path(std::string_view path);
// The folder of a path ("." for a bare name), and the last part.
std::string parent_path(std::string_view path);
std::string_view base_name(std::string_view path);

struct FoundFile {
  std::string path;    // as users know it: given path + "/" + what the walk found; "-" for stdin
  bool named = false;  // given on the command line rather than found in a folder
};

struct Discovery {
  std::vector<FoundFile> files;                              // sorted by path, no doubles
  std::vector<std::pair<std::string, std::string>> skipped;  // path, reason
  std::vector<std::pair<std::string, std::string>> missing;  // PATHs that cannot be opened, cause
  std::vector<std::pair<std::string, std::string>> unreadable;  // folders below them
};

// Walks every PATH. Found in folders: *.yaml, *.yml, *.json and files named Kustomization; hidden
// files and folders, node_modules and ignored paths are not entered, links to folders not followed.
Discovery discover(const std::vector<std::string>& paths, const std::vector<std::string>& exclude);

}  // namespace policyc::frontend
