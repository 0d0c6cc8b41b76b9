#include "ir/base/source.h"

#include <fmt/format.h>

#include <algorithm>

namespace policyc {

FileId SourceMap::add(std::string path, std::string text) {
  File file{std::move(path), std::move(text), {0}};
  for (std::size_t i = 0; i < file.text.size(); ++i) {
    if (file.text[i] == '\n') file.line_starts.push_back(static_cast<std::uint32_t>(i + 1));
  }
  files_.push_back(std::move(file));
  return static_cast<FileId>(files_.size() - 1);
}

std::string_view SourceMap::slice(SourceRange range) const {
  if (!range.known() || range.begin >= range.end) return {};
  std::string_view all = files_[range.file].text;
  if (range.begin >= all.size()) return {};
  return all.substr(range.begin, range.end - range.begin);
}

LineColumn SourceMap::position(FileId file, std::uint32_t offset) const {
  const File& f = files_[file];
  offset = std::min(offset, static_cast<std::uint32_t>(f.text.size()));
  auto it = std::upper_bound(f.line_starts.begin(), f.line_starts.end(), offset);
  auto line = static_cast<std::uint32_t>(it - f.line_starts.begin());
  std::uint32_t column = 1;
  for (std::uint32_t i = f.line_starts[line - 1]; i < offset; ++i) {
    // Continuation bytes of UTF-8 do not start a code point.
    if ((static_cast<unsigned char>(f.text[i]) & 0xC0U) != 0x80U) ++column;
  }
  return {line, column};
}

std::string_view SourceMap::line(FileId file, std::uint32_t line) const {
  const File& f = files_[file];
  if (line == 0 || line > f.line_starts.size()) return {};
  std::uint32_t begin = f.line_starts[line - 1];
  std::size_t end = line < f.line_starts.size() ? f.line_starts[line] - 1 : f.text.size();
  std::string_view text = std::string_view(f.text).substr(begin, end - begin);
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  return text;
}

std::string SourceMap::place(SourceRange range) const {
  if (!range.known()) return "-";
  LineColumn at = position(range.file, range.begin);
  return fmt::format("{}:{}:{}", path(range.file), at.line, at.column);
}

}  // namespace policyc
