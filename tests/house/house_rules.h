// The rules of the house that can be read off the text of its files: who may include whom, where
// the heavy libraries may be named, and what no file may mention. Pure functions from texts to
// complaints, so that the tests can show them bad input.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace policyc::house {

struct File {
  std::string path;  // relative to the repository, with forward slashes
  std::string text;
};

// One `#include`: the line (from 1), what stands between the marks, and whether those were <>.
struct Include {
  int line = 0;
  std::string target;
  bool angled = false;
};
std::vector<Include> includes_of(std::string_view text);

// Complaints as `path:line: …`, in the order of the files; empty = all well. Looks at C++ only
// (.cc, .h, .def); other files are passed over.
std::vector<std::string> check_includes(const std::vector<File>& files);

// Machine paths, and links to hosts that no reader of this repository knows.
std::vector<std::string> check_mentions(const std::vector<File>& files);

// Lines of C and C++ beyond 100 columns (tables of texts, .def, are spared), and comments that cite
// sections of documents.
std::vector<std::string> check_text(const std::vector<File>& files);

// Names at the top of the repository that have no place there.
std::vector<std::string> check_top_level(const std::vector<std::string>& names);

// The text files of the repository under `root`, sorted by path; build output, .git and binary
// files are left out.
std::vector<File> read_repository(const std::string& root);

}  // namespace policyc::house
