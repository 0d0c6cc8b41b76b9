// Labels, label sets and selectors: how Cilium names who somebody is.
#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/base/source.h"
#include "ir/ip.h"

namespace policyc::ir {

// `source:key=value`. A label never has the source `any`; selectors may.
struct Label {
  std::string source;
  std::string key;
  std::string value;

  std::string str() const;  // "k8s:app=web", "reserved:host"
  friend auto operator<=>(const Label&, const Label&) = default;
};

// Sorted, without duplicates of (source, key). A `cidr` label keeps its prefix at hand, because it
// satisfies every requirement on a prefix that contains it.
class LabelSet {
 public:
  LabelSet() = default;
  explicit LabelSet(std::vector<Label> labels);

  const std::vector<Label>& labels() const { return labels_; }
  const std::optional<Prefix>& cidr() const { return cidr_; }
  bool has(std::string_view source, std::string_view key) const;
  // The value, or nullptr. Source `any` takes the first label of that key in sorted order.
  const std::string* find(std::string_view source, std::string_view key) const;
  std::string str() const;  // comma-separated, sorted
  friend bool operator==(const LabelSet& a, const LabelSet& b) { return a.labels_ == b.labels_; }
  friend auto operator<=>(const LabelSet& a, const LabelSet& b) { return a.labels_ <=> b.labels_; }

 private:
  std::vector<Label> labels_;
  std::optional<Prefix> cidr_;
};

Label cidr_label(const Prefix& prefix);  // cidr:10.0.0.0/8

enum class Operator { In, NotIn, Exists, DoesNotExist };

// One condition on one key. `symbol` names the unknown that decides it where the policy has a
// placeholder in key or value: "${VAR} at file:line".
struct Requirement {
  std::string source = "any";
  std::string key;
  Operator op = Operator::Exists;
  std::vector<std::string> values;  // sorted; In and NotIn only
  std::optional<Prefix> cidr;       // source cidr: the prefix that the key names
  std::string symbol;               // empty = known
  SourceRange range;

  // Ignores `symbol`: callers with an unknown decide themselves.
  bool matches(const LabelSet& labels) const;
  std::string str() const;
};

// Conjunction of requirements. No requirement at all is the wildcard: every identity matches.
struct Selector {
  std::vector<Requirement> requirements;
  SourceRange range;

  bool wildcard() const { return requirements.empty(); }
  bool matches(const LabelSet& labels) const;
  // Canonical text: two selectors with equal text are one selector for merging.
  std::string text() const;
};

// Splits a key as written in YAML: `k8s:app`, `$host`, `reserved.host`, `app`.
std::pair<std::string, std::string> split_key(std::string_view key);

}  // namespace policyc::ir
