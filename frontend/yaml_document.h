// The one reader of YAML (and JSON, which is YAML): libyaml events into an arena tree whose nodes
// know where they begin and end.
//
// Refused with a diagnostic: text that is not UTF-8, nesting deeper than 100, documents and scalars
// over the size limits, duplicate keys (both places shown), custom tags, unknown or recursive
// aliases, alias or merge-key expansion over the budget. `${VAR}` placeholders are not errors: the
// scalar is marked `placeholder`, and whoever needs its value treats it as unknown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "ir/base/diagnostic.h"
#include "ir/base/source.h"

namespace policyc::frontend {

enum class NodeKind : std::uint8_t { Null, Bool, Int, Float, String, Sequence, Mapping };

struct YamlNode;

// A child as it stands in its parent. `at` is where the reader of the file sees it: the alias
// (`*name`) where one was used, else the node itself. Findings point at `at` and label
// `node->range`.
struct YamlRef {
  const YamlNode* node = nullptr;
  SourceRange at;
};

struct YamlEntry {
  std::string_view key;  // keys are strings: a plain `80:` keeps its text, `yes:` is "true"
  SourceRange key_range;
  YamlRef value;
  bool merged = false;             // came in through `<<:`
  std::string_view key_written{};  // `yes`, where the decoder made another word of it; else empty
};

struct YamlNode {
  NodeKind kind = NodeKind::Null;  // typed as YAML 1.1 does for the API server: plain `yes` is Bool
  bool plain = false;              // scalar without quotes
  bool placeholder = false;        // contains `${VAR}` (or `$(VAR)`): value unknown
  SourceRange range;
  std::string_view text;           // scalar text after unquoting
  std::vector<YamlRef> items;      // Sequence
  std::vector<YamlEntry> entries;  // Mapping, in file order; merge keys resolved, own keys first

  bool is_scalar() const { return kind != NodeKind::Sequence && kind != NodeKind::Mapping; }
  bool is_mapping() const { return kind == NodeKind::Mapping; }
  bool is_sequence() const { return kind == NodeKind::Sequence; }
  // The entry of that name, or nullptr.
  const YamlEntry* find(std::string_view key) const;
  // The node under that key, or nullptr where it is missing or null.
  const YamlNode* get(std::string_view key) const;
  // Text of a scalar child; empty where missing or no scalar.
  std::string_view get_text(std::string_view key) const;
};

struct YamlLimits {
  std::size_t file_bytes = 64U << 20U;
  std::size_t scalar_bytes = 1U << 20U;
  std::size_t depth = 100;
  std::size_t expanded_nodes = 1'000'000;  // per document, aliases and merges counted at each use
};

struct YamlDocument {
  const YamlNode* root = nullptr;  // never nullptr; a Null node for an empty document
  std::uint32_t index = 0;         // 0-based position in the stream
  SourceRange range;
};

// All documents of one file. Owns the nodes and the unquoted text. A document that does not parse
// ends the stream (the rest of the file cannot be trusted) and `ok` is false; the documents before
// it stay.
class YamlStream {
 public:
  const std::vector<YamlDocument>& documents() const { return documents_; }
  bool ok() const { return ok_; }

 private:
  friend YamlStream read_yaml(const SourceMap&, FileId, DiagnosticSink&, const YamlLimits&);
  friend class YamlBuilder;
  std::deque<YamlNode> nodes_;
  std::deque<std::string> strings_;
  std::vector<YamlDocument> documents_;
  bool ok_ = true;
};

// Diagnostics carry Layer::Yaml. Linear in the size of the text and of the expansion.
YamlStream read_yaml(const SourceMap& sources, FileId file, DiagnosticSink& sink,
                     const YamlLimits& limits = {});

}  // namespace policyc::frontend
