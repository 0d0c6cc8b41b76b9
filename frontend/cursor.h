// Typed access to the fields of one object, with paths. What a field's type, enum or pattern
// refuses is reported here as the CRD's schema would; what nobody asked for is unknown.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "frontend/ast.h"
#include "frontend/yaml_document.h"
#include "ir/base/diagnostic.h"

namespace policyc::frontend {

// The findings of one object. The first refusal in layer order becomes the object's answer.
class Findings {
 public:
  Findings(PolicyAst& policy, DiagnosticSink& sink) : policy_(policy), sink_(sink) {}

  // The cluster refuses the object. The reference is good until the next finding.
  Diagnostic& refuse(Layer layer, DiagCode code, SourceRange range, const std::string& rule,
                     std::string message);
  Diagnostic& refuse_schema(DiagCode code, SourceRange range, const std::string& rule,
                            std::string message) {
    return refuse(Layer::Schema, code, range, rule, std::move(message));
  }
  Diagnostic& refuse_agent(DiagCode code, SourceRange range, const std::string& rule,
                           std::string message) {
    return refuse(Layer::Agent, code, range, rule, std::move(message));
  }
  // The cluster takes the object, but a reader should know.
  Diagnostic& warn(DiagCode code, SourceRange range, const std::string& rule, std::string message);

  // Remembers that the text at `at` stands for the one at `target`, for later findings.
  void saw_alias(SourceRange at, SourceRange target);
  // Whether the schema has already refused something inside the range; the agent's check of the
  // same value would only repeat it.
  bool schema_refused(SourceRange range) const;

 private:
  Diagnostic& report(Layer layer, DiagCode code, SourceRange range, const std::string& rule,
                     std::string message);

  PolicyAst& policy_;
  DiagnosticSink& sink_;
  std::vector<std::pair<SourceRange, SourceRange>> aliases_;
  std::vector<SourceRange> schema_;
};

// A place in an object: the node and its path ("spec.ingress[0]").
struct Cursor {
  YamlRef ref;
  std::string path;

  const YamlNode& node() const { return *ref.node; }
  SourceRange range() const { return ref.at; }
};

// What a string field must look like.
struct StringRule {
  std::vector<std::string_view> choices = {};
  std::size_t max_length = 0;  // 0 = any
  bool (*pattern)(std::string_view) = nullptr;
  std::string_view expected = {};  // the pattern in words
  // What to write in place of a text that the pattern refuses; empty where nobody can tell.
  std::string (*hint)(std::string_view) = nullptr;
};

// The fields of one mapping. Asking for a field makes it known; null is the same as absent.
class Fields {
 public:
  Fields(Findings& findings, Cursor at);

  bool is_mapping() const { return at_.node().is_mapping(); }
  SourceRange range() const { return at_.ref.at; }
  const std::string& path() const { return at_.path; }

  void know(std::string_view key) { known_.push_back(key); }
  std::optional<Cursor> field(std::string_view key);
  bool written(std::string_view key) const;  // present and not null
  std::optional<Text> text(std::string_view key, const StringRule& rule = {});
  // Missing is a schema error.
  Text required_text(std::string_view key, const StringRule& rule = {});
  std::optional<bool> boolean(std::string_view key);
  std::optional<std::int64_t> integer(std::string_view key, std::int64_t min, std::int64_t max);
  // Integer or string, as text.
  std::optional<Text> int_or_string(std::string_view key, bool* numeric);
  std::optional<std::vector<Cursor>> list(std::string_view key, std::size_t max_items = 0);
  std::optional<std::vector<Text>> text_list(std::string_view key, const StringRule& rule = {});
  std::vector<std::pair<Text, Text>> text_map(std::string_view key, const StringRule& rule = {});

  template <class F>
  auto each(std::string_view key, F&& read, std::size_t max_items = 0)
      -> std::optional<std::vector<decltype(read(std::declval<const Cursor&>()))>> {
    auto items = list(key, max_items);
    if (!items) return std::nullopt;
    std::vector<decltype(read(std::declval<const Cursor&>()))> out;
    out.reserve(items->size());
    for (const Cursor& item : *items) out.push_back(read(item));
    return out;
  }

  // The schema's "exactly one of": reports none and several.
  void exactly_one(std::initializer_list<std::string_view> keys, std::string_view none_help);

  // Reports every field that nobody asked for. `elsewhere` maps words of other places and of the
  // other policy kind to what belongs here; `consequence` says what the rule means without the
  // field.
  struct Elsewhere {
    std::string_view wrong;
    std::string_view hint;  // "write `fromEndpoints`"
  };
  // What the cluster makes of unknown fields: refuses the object, or takes it without them.
  enum class Unknown { Refuse, Tolerate, Foreign };
  void finish(const std::vector<Elsewhere>& elsewhere = {},
              const std::function<std::string()>& consequence = nullptr,
              Unknown unknown = Unknown::Refuse);

 private:
  Findings& findings_;
  Cursor at_;
  std::vector<std::string_view> known_;
};

// Reads one scalar as a string; anything else is a schema error.
Text read_text(Findings& findings, const Cursor& at, const StringRule& rule = {});

// The word in `known` that `word` was meant to be, or empty: the same letters in another case, or
// few edits away.
std::string_view closest(std::string_view word, const std::vector<std::string_view>& known);

// Where a fix may write instead of a scalar's text: inside the quotes, if there are any, and
// nowhere if the text stands otherwise (with escapes, an anchor, a tag, as a block).
std::optional<SourceRange> replaceable(SourceRange written, std::string_view text);

// In words: "a number", "a list".
std::string_view kind_words(const YamlNode& node);

// Patterns of the schemas.
bool is_label_value(std::string_view text);  // without its length
std::string label_value_hint(std::string_view text);
bool is_subdomain(std::string_view text);
bool is_qualified_name(std::string_view text);  // [prefix/]name

}  // namespace policyc::frontend
