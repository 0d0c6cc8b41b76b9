// Where text came from: files held in memory and ranges inside them.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace policyc {

// Index of a file in a SourceMap. `kNoFile` marks things that no file wrote (defaults, flags).
using FileId = std::uint32_t;
inline constexpr FileId kNoFile = UINT32_MAX;

// Half-open range of byte offsets inside one file.
struct SourceRange {
  FileId file = kNoFile;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  bool known() const { return file != kNoFile; }
  friend auto operator<=>(const SourceRange&, const SourceRange&) = default;
};

// 1-based line and column; the column counts Unicode code points, as editors show it.
struct LineColumn {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
};

// Owns the text of every input file. Files are added from one thread; reading is safe from many.
class SourceMap {
 public:
  FileId add(std::string path, std::string text);
  void rename(FileId file, std::string path) { files_[file].path = std::move(path); }

  std::size_t size() const { return files_.size(); }
  const std::string& path(FileId file) const { return files_[file].path; }
  const std::string& text(FileId file) const { return files_[file].text; }
  // The slice of text a range names; empty where the range is unknown.
  std::string_view slice(SourceRange range) const;
  // Offsets past the end give the last position of the file.
  LineColumn position(FileId file, std::uint32_t offset) const;
  // The line (1-based) without its line break; empty past the last line.
  std::string_view line(FileId file, std::uint32_t line) const;
  // "path:line:column"; "-" where the range is unknown.
  std::string place(SourceRange range) const;

 private:
  struct File {
    std::string path;
    std::string text;
    std::vector<std::uint32_t> line_starts;
  };
  std::deque<File> files_;
};

}  // namespace policyc
