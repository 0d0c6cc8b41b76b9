#include "frontend/cursor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "ir/base/diag_code.h"
#include "ir/base/text.h"

namespace policyc::frontend {
namespace {

constexpr std::size_t kMaxAliasLabels = 3;

bool inside(SourceRange inner, SourceRange outer) {
  return inner.known() && inner.file == outer.file && inner.begin >= outer.begin &&
         inner.end <= outer.end;
}

// Letters to insert, delete, replace or swap with their neighbour.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t k = 0; k <= b.size(); ++k) d[0][k] = k;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t k = 1; k <= b.size(); ++k) {
      const std::size_t change = a[i - 1] == b[k - 1] ? 0 : 1;
      d[i][k] = std::min({d[i - 1][k] + 1, d[i][k - 1] + 1, d[i - 1][k - 1] + change});
      if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1]) {
        d[i][k] = std::min(d[i][k], d[i - 2][k - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

bool alnum(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

// Integers in base 0 with underscores, as YAML 1.1 writes them.
std::optional<std::int64_t> parse_int(std::string_view text) {
  std::string digits;
  bool negative = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == 0 && (text[i] == '-' || text[i] == '+')) {
      negative = text[i] == '-';
    } else if (text[i] != '_') {
      digits += text[i];
    }
  }
  int base = 10;
  std::size_t skip = 0;
  if (digits.size() > 1 && digits[0] == '0') {
    const char c = digits[1];
    const bool prefix = !(c >= '0' && c <= '9');
    base = c == 'x' || c == 'X' ? 16 : c == 'b' || c == 'B' ? 2 : 8;
    skip = prefix ? 2 : 1;
  }
  std::int64_t value = 0;
  const char* last = digits.data() + digits.size();
  auto [end, error] = std::from_chars(digits.data() + skip, last, value, base);
  if (error != std::errc() || end != last) return std::nullopt;
  return negative ? -value : value;
}

// The whole number of a scalar; `80.0` and `1e2` are numbers like 80 and 100 to kubectl.
std::optional<std::int64_t> whole_number(const YamlNode& node) {
  if (node.kind == NodeKind::Int) return parse_int(node.text);
  if (node.kind != NodeKind::Float) return std::nullopt;
  std::string digits(node.text.substr(node.text.starts_with('+') ? 1 : 0));
  std::erase(digits, '_');
  double value = 0;
  const char* last = digits.data() + digits.size();
  const auto [end, error] = std::from_chars(digits.data(), last, value);
  constexpr double kExact = 9007199254740992.0;  // 2^53: beyond it a double is no count
  const bool whole = error == std::errc() && end == last && std::trunc(value) == value &&
                     std::abs(value) <= kExact;
  return whole ? std::optional(static_cast<std::int64_t>(value)) : std::nullopt;
}

Text text_of(const Cursor& at) {
  return {std::string(at.node().text), at.ref.at, at.node().placeholder};
}

Diagnostic& wrong_type(Findings& findings, const Cursor& at, std::string_view wanted) {
  Diagnostic& d =
      findings.refuse_schema(DiagCode::WrongType, at.range(), at.path,
                             fmt::format("expected {}, found {}", wanted, kind_words(at.node())));
  if (wanted == "a mapping") {
    d.help = at.node().is_sequence() ? "take the `- ` or the brackets away: one mapping stands here"
                                     : "write fields below it: `field: value`";
  }
  return d;
}

}  // namespace

std::optional<SourceRange> replaceable(SourceRange written, std::string_view text) {
  const std::size_t size = written.end - written.begin;
  if (size == text.size()) return written;
  if (size != text.size() + 2) return std::nullopt;
  return SourceRange{written.file, written.begin + 1, written.end - 1};
}

std::string_view kind_words(const YamlNode& node) {
  switch (node.kind) {
    case NodeKind::Null:
      return "null";
    case NodeKind::Bool:
      return "a boolean";
    case NodeKind::Int:
    case NodeKind::Float:
      return "a number";
    case NodeKind::String:
      return "a string";
    case NodeKind::Sequence:
      return "a list";
    case NodeKind::Mapping:
      return "a mapping";
  }
  return "";
}

bool is_label_value(std::string_view text) {
  if (text.empty()) return true;
  return alnum(text.front()) && alnum(text.back()) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return alnum(c) || c == '-' || c == '_' || c == '.'; });
}

std::string label_value_hint(std::string_view text) {
  return !text.empty() && text.front() == '!'
             ? "to exclude a value write `matchExpressions` with `operator: NotIn`"
             : "a value has at most 63 letters, digits, `-`, `_`, `.`";
}

bool is_subdomain(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  const auto lower_alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (lower_alnum(text[i])) continue;
    if (text[i] != '-' && text[i] != '.') return false;
    if (i == 0 || i + 1 == text.size()) return false;
    if (text[i] == '.' && !(lower_alnum(text[i - 1]) && lower_alnum(text[i + 1]))) return false;
  }
  return true;
}

bool is_qualified_name(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash != std::string_view::npos) {
    if (!is_subdomain(text.substr(0, slash))) return false;
    text.remove_prefix(slash + 1);
  }
  return !text.empty() && text.size() <= 63 && is_label_value(text);
}

std::string_view closest(std::string_view word, const std::vector<std::string_view>& known) {
  const std::string low = lower(word);
  std::string_view best;
  std::size_t best_distance = 0;
  for (std::string_view candidate : known) {
    const std::size_t distance = edit_distance(low, lower(candidate));
    const std::size_t allowed = std::max<std::size_t>(1, candidate.size() / 4);
    if (distance > allowed || (candidate.size() <= 3 && distance > 0)) continue;
    if (best.empty() || distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

// -- Findings ----------------------------------------------------------------------------------

Diagnostic& Findings::report(Layer layer, DiagCode code, SourceRange range, const std::string& rule,
                             std::string message) {
  Diagnostic& d = sink_.report(code, range, std::move(message), layer);
  const bool namespaced =
      policy_.kind == PolicyKind::CiliumNetworkPolicy || policy_.kind == PolicyKind::NetworkPolicy;
  d.policy = PolicyRef{policy_kind_name(policy_.kind),
                       namespaced && policy_.ns ? policy_.ns->text : "", policy_.name.text};
  d.rule = rule;
  for (const auto& [at, target] : aliases_) {
    if (d.labels.size() >= kMaxAliasLabels) break;
    if (range == at) {
      d.labels.push_back({target, "the alias stands for this"});
    } else if (inside(range, target)) {
      d.labels.push_back({at, "used through this alias"});
    }
  }
  return d;
}

Diagnostic& Findings::refuse(Layer layer, DiagCode code, SourceRange range, const std::string& rule,
                             std::string message) {
  if (policy_.accepted || layer < policy_.layer) {
    policy_.accepted = false;
    policy_.layer = layer;
    policy_.error = rule.empty() ? message : fmt::format("{}: {}", rule, message);
  }
  const bool first = policy_.layer_pruned == Layer::None || layer < policy_.layer_pruned;
  if (layer != Layer::UnknownField && first) {
    policy_.layer_pruned = layer;
    policy_.error_pruned = rule.empty() ? message : fmt::format("{}: {}", rule, message);
  }
  if (layer == Layer::Schema) schema_.push_back(range);
  return report(layer, code, range, rule, std::move(message));
}

Diagnostic& Findings::warn(DiagCode code, SourceRange range, const std::string& rule,
                           std::string message) {
  return report(Layer::None, code, range, rule, std::move(message));
}

void Findings::saw_alias(SourceRange at, SourceRange target) {
  const auto pair = std::pair(at, target);
  if (std::find(aliases_.begin(), aliases_.end(), pair) == aliases_.end()) {
    aliases_.push_back(pair);
  }
}

bool Findings::schema_refused(SourceRange range) const {
  return std::any_of(schema_.begin(), schema_.end(),
                     [&](SourceRange seen) { return inside(seen, range); });
}

// -- Fields ------------------------------------------------------------------------------------

Fields::Fields(Findings& findings, Cursor at) : findings_(findings), at_(std::move(at)) {
  if (!is_mapping() && !at_.node().placeholder) wrong_type(findings_, at_, "a mapping");
}

bool Fields::written(std::string_view key) const {
  return at_.node().get(key) != nullptr;
}

std::optional<Cursor> Fields::field(std::string_view key) {
  know(key);
  const YamlEntry* entry = at_.node().find(key);
  if (entry == nullptr || entry->value.node->kind == NodeKind::Null) return std::nullopt;
  // Merged entries and aliases stand elsewhere.
  if (entry->value.at != entry->value.node->range) {
    findings_.saw_alias(entry->value.at, entry->value.node->range);
  }
  return Cursor{entry->value,
                at_.path.empty() ? std::string(key) : fmt::format("{}.{}", at_.path, key)};
}

Text read_text(Findings& findings, const Cursor& at, const StringRule& rule) {
  const YamlNode& node = at.node();
  if (!node.is_scalar()) {
    wrong_type(findings, at, "a string");
    return {"", at.range(), false};
  }
  Text text = text_of(at);
  if (text.unknown) return text;
  if (node.kind != NodeKind::String) {
    Diagnostic& d = wrong_type(findings, at, "a string");
    d.message += fmt::format(" `{}`", node.text);
    d.help = fmt::format("put it in quotes: \"{}\"", node.text);
    if (node.plain && at.ref.at == node.range && node.kind != NodeKind::Null) {
      d.fix = Fix{"put the value in quotes", {{node.range, fmt::format("\"{}\"", node.text)}}};
    }
    return text;
  }
  const std::vector<std::string_view>& choices = rule.choices;
  if (!choices.empty()) {
    if (std::find(choices.begin(), choices.end(), text.text) != choices.end()) return text;
    Diagnostic& d = findings.refuse_schema(
        DiagCode::UnknownValue, at.range(), at.path,
        fmt::format("`{}` is none of: {}", text.text, fmt::join(choices, ", ")));
    const std::string_view meant = closest(text.text, choices);
    if (!meant.empty()) d.help = fmt::format("did you mean `{}`?", meant);
    return text;
  }
  if (rule.max_length > 0 && text.text.size() > rule.max_length) {
    findings
        .refuse_schema(DiagCode::BadFormat, at.range(), at.path,
                       fmt::format("the text has {} characters; the limit is {}", text.text.size(),
                                   rule.max_length))
        .help = fmt::format("write {} characters at most", rule.max_length);
  } else if (rule.pattern != nullptr && !rule.pattern(text.text)) {
    Diagnostic& d = findings.refuse_schema(
        DiagCode::BadFormat, at.range(), at.path,
        text.empty() ? fmt::format("the text is empty, not {}", rule.expected)
                     : fmt::format("`{}` is not {}", text.text, rule.expected));
    d.help = rule.hint == nullptr ? "" : rule.hint(text.text);
    if (text.text.find("{{") != std::string::npos) {
      d.help = "looks like a template; render it first: `helm template … | policyc lint -`";
    }
  }
  return text;
}

std::optional<Text> Fields::text(std::string_view key, const StringRule& rule) {
  auto at = field(key);
  if (!at) return std::nullopt;
  return read_text(findings_, *at, rule);
}

Text Fields::required_text(std::string_view key, const StringRule& rule) {
  auto value = text(key, rule);
  if (value) return *value;
  if (is_mapping()) {
    const std::string what = !rule.choices.empty()
                                 ? fmt::format(", one of: {}", fmt::join(rule.choices, ", "))
                             : rule.expected.empty() ? std::string()
                                                     : fmt::format(", {}", rule.expected);
    findings_
        .refuse_schema(DiagCode::MissingField, range(), path(), fmt::format("`{}` is missing", key))
        .help = fmt::format("write `{}: …`{}", key, what);
  }
  return {"", range(), false};
}

std::optional<bool> Fields::boolean(std::string_view key) {
  auto at = field(key);
  if (!at || at->node().placeholder) return std::nullopt;
  if (at->node().kind != NodeKind::Bool) {
    wrong_type(findings_, *at, "`true` or `false`").help = "write `true` or `false` without quotes";
    return std::nullopt;
  }
  const std::string value = lower(at->node().text);
  return value == "true" || value == "yes" || value == "y" || value == "on";
}

std::optional<std::int64_t> Fields::integer(std::string_view key, std::int64_t min,
                                            std::int64_t max) {
  auto at = field(key);
  if (!at || at->node().placeholder) return std::nullopt;
  const auto value = whole_number(at->node());
  if (!value) {
    wrong_type(findings_, *at, "a whole number").help = "write the number without quotes";
    return std::nullopt;
  }
  if (*value < min || *value > max) {
    findings_.refuse_schema(DiagCode::OutOfRange, at->range(), at->path,
                            fmt::format("`{}` is outside {} to {}", at->node().text, min, max));
  }
  return value;
}

std::optional<Text> Fields::int_or_string(std::string_view key, bool* numeric) {
  auto at = field(key);
  if (!at) return std::nullopt;
  Text text = text_of(*at);
  const auto value = whole_number(at->node());
  if (numeric != nullptr) *numeric = value || at->node().kind == NodeKind::Int;
  if (value) {
    text.text = std::to_string(*value);
  } else if (at->node().kind == NodeKind::Int) {
    return text;  // too large: refused as a port
  } else if (at->node().kind != NodeKind::String) {
    wrong_type(findings_, *at, "a number or a string").help = "write the number or the name";
  }
  return text;
}

std::optional<std::vector<Cursor>> Fields::list(std::string_view key, std::size_t max_items) {
  auto at = field(key);
  if (!at || at->node().placeholder) return std::nullopt;
  if (!at->node().is_sequence()) {
    Diagnostic& d = wrong_type(findings_, *at, "a list");
    d.help = fmt::format("put `- ` before each item of `{}`", key);
    return std::nullopt;
  }
  const auto& nodes = at->node().items;
  if (max_items > 0 && nodes.size() > max_items) {
    findings_.refuse_schema(DiagCode::TooManyItems, at->range(), at->path,
                            fmt::format("{} items; the limit is {}", nodes.size(), max_items));
  }
  std::vector<Cursor> items;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Cursor item{nodes[i], fmt::format("{}[{}]", at->path, i)};
    if (item.ref.at != item.node().range) findings_.saw_alias(item.ref.at, item.node().range);
    if (item.node().kind == NodeKind::Null) {
      findings_.refuse_schema(DiagCode::WrongType, item.range(), item.path, "a list item is null")
          .help = "write the item, or take the `-` away";
      continue;
    }
    items.push_back(std::move(item));
  }
  return items;
}

std::optional<std::vector<Text>> Fields::text_list(std::string_view key, const StringRule& rule) {
  return each(key, [&](const Cursor& at) { return read_text(findings_, at, rule); });
}

std::vector<std::pair<Text, Text>> Fields::text_map(std::string_view key, const StringRule& rule) {
  std::vector<std::pair<Text, Text>> out;
  auto at = field(key);
  if (!at || at->node().placeholder) return out;
  if (!at->node().is_mapping()) {
    wrong_type(findings_, *at, "a mapping of strings");
    return out;
  }
  for (const YamlEntry& entry : at->node().entries) {
    if (entry.value.at != entry.value.node->range) {
      findings_.saw_alias(entry.value.at, entry.value.node->range);
    }
    Text name{std::string(entry.key), entry.key_range,
              entry.key.find("${") != std::string_view::npos};
    Cursor value{entry.value, fmt::format("{}.{}", at->path, entry.key)};
    if (!entry.key_written.empty()) {
      Diagnostic& d =
          findings_.warn(DiagCode::WrongType, entry.key_range, at->path,
                         fmt::format("the key `{}` is a boolean in YAML: the API server gets `{}`",
                                     entry.key_written, entry.key));
      d.severity = Severity::Warning;
      d.help = fmt::format("put it in quotes: \"{}\"", entry.key_written);
      if (!entry.merged && replaceable(entry.key_range, entry.key_written) == entry.key_range) {
        d.fix = Fix{"put the key in quotes",
                    {{entry.key_range, fmt::format("\"{}\"", entry.key_written)}}};
      }
    }
    // A null value of a map of strings decodes to the empty string.
    if (value.node().kind == NodeKind::Null) {
      out.emplace_back(std::move(name), Text{"", value.range(), false});
      continue;
    }
    out.emplace_back(std::move(name), read_text(findings_, value, rule));
  }
  return out;
}

void Fields::exactly_one(std::initializer_list<std::string_view> keys, std::string_view none_help) {
  for (std::string_view key : keys) know(key);
  if (!is_mapping()) return;
  std::vector<std::string_view> given;
  for (std::string_view key : keys) {
    if (written(key)) given.push_back(key);
  }
  if (given.empty()) {
    findings_
        .refuse_schema(DiagCode::NotExactlyOne, range(), path(),
                       fmt::format("one of {} is needed", fmt::join(keys, ", ")))
        .help = none_help;
  } else if (given.size() > 1) {
    std::sort(given.begin(), given.end(), [&](std::string_view a, std::string_view b) {
      return at_.node().find(a)->key_range.begin < at_.node().find(b)->key_range.begin;
    });
    const YamlEntry* second = at_.node().find(given[1]);
    Diagnostic& d = findings_.refuse_schema(
        DiagCode::NotExactlyOne, second->key_range, path(),
        fmt::format("`{}` and `{}` exclude each other", given[0], given[1]));
    d.labels.push_back({at_.node().find(given[0])->key_range, "the other one stands here"});
    d.help = "keep one of them; write the other as an item of its own";
  }
}

void Fields::finish(const std::vector<Elsewhere>& elsewhere,
                    const std::function<std::string()>& consequence, Unknown unknown) {
  for (const YamlEntry& entry : at_.node().entries) {
    if (std::find(known_.begin(), known_.end(), entry.key) != known_.end()) continue;
    if (entry.key.find("${") != std::string_view::npos) continue;
    std::string message = fmt::format("unknown field `{}`", entry.key);
    std::string help;
    const std::string_view meant = closest(entry.key, known_);
    const bool free = !meant.empty() && at_.node().find(meant) == nullptr;
    const auto other = std::find_if(elsewhere.begin(), elsewhere.end(),
                                    [&](const Elsewhere& e) { return e.wrong == entry.key; });
    const bool same_letters = !meant.empty() && lower(meant) == lower(entry.key);
    if (other != elsewhere.end() && !same_letters) {
      help = other->hint;
    } else if (!meant.empty()) {
      message += fmt::format("; did you mean `{}`?", meant);
      help = fmt::format("write `{}`", meant);
    } else if (!known_.empty()) {
      std::vector<std::string_view> sorted = known_;
      std::sort(sorted.begin(), sorted.end());
      sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
      help = fmt::format("known fields here: {}", fmt::join(sorted, ", "));
    }
    const DiagCode code =
        unknown == Unknown::Foreign ? DiagCode::UnknownTopLevelField : DiagCode::UnknownField;
    Diagnostic& d = unknown == Unknown::Refuse
                        ? findings_.refuse(Layer::UnknownField, code, entry.key_range, path(),
                                           std::move(message))
                        : findings_.warn(code, entry.key_range, path(), std::move(message));
    if (unknown != Unknown::Refuse) d.severity = Severity::Warning;
    d.help = std::move(help);
    if (consequence) d.notes.push_back(consequence());
    const bool plain_slip = other == elsewhere.end() || same_letters;
    const auto place = replaceable(entry.key_range, entry.key);
    if (free && plain_slip && !entry.merged && place &&
        (same_letters || edit_distance(entry.key, meant) == 1)) {
      d.fix = Fix{fmt::format("write `{}`", meant), {{*place, std::string(meant)}}};
    }
  }
}

}  // namespace policyc::frontend
