#include "ir/label.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace policyc::ir {

std::string Label::str() const {
  return value.empty() ? fmt::format("{}:{}", source, key)
                       : fmt::format("{}:{}={}", source, key, value);
}

LabelSet::LabelSet(std::vector<Label> labels) : labels_(std::move(labels)) {
  std::sort(labels_.begin(), labels_.end());
  auto same_key = [](const Label& a, const Label& b) {
    return a.source == b.source && a.key == b.key;
  };
  labels_.erase(std::unique(labels_.begin(), labels_.end(), same_key), labels_.end());
  for (const Label& label : labels_) {
    if (label.source == "cidr") cidr_ = parse_prefix(label.key);
  }
}

bool LabelSet::has(std::string_view source, std::string_view key) const {
  return find(source, key) != nullptr;
}

const std::string* LabelSet::find(std::string_view source, std::string_view key) const {
  for (const Label& label : labels_) {
    if (label.key == key && (source == "any" || label.source == source)) return &label.value;
  }
  return nullptr;
}

std::string LabelSet::str() const {
  std::string out;
  for (const Label& label : labels_) {
    if (!out.empty()) out += ',';
    out += label.str();
  }
  return out;
}

Label cidr_label(const Prefix& prefix) {
  return {"cidr", prefix.str(), ""};
}

bool Requirement::matches(const LabelSet& labels) const {
  const std::string* value = nullptr;
  static const std::string kPresent;
  if (cidr) {
    if (labels.cidr() && cidr->contains(*labels.cidr())) value = &kPresent;
  } else {
    value = labels.find(source, key);
  }
  switch (op) {
    case Operator::Exists:
      return value != nullptr;
    case Operator::DoesNotExist:
      return value == nullptr;
    case Operator::In:
      return value != nullptr && std::binary_search(values.begin(), values.end(), *value);
    case Operator::NotIn:
      return value == nullptr || !std::binary_search(values.begin(), values.end(), *value);
  }
  return false;
}

std::string Requirement::str() const {
  const std::string name = source == "any" ? key : source + ":" + key;
  const std::string list = fmt::format("{}", fmt::join(values, ","));
  switch (op) {
    case Operator::Exists:
      return name;
    case Operator::DoesNotExist:
      return "!" + name;
    case Operator::In:
      return values.size() == 1 ? fmt::format("{}={}", name, values[0])
                                : fmt::format("{} in ({})", name, list);
    case Operator::NotIn:
      return fmt::format("{} notin ({})", name, list);
  }
  return name;
}

bool Selector::matches(const LabelSet& labels) const {
  return std::all_of(requirements.begin(), requirements.end(),
                     [&](const Requirement& r) { return r.matches(labels); });
}

std::string Selector::text() const {
  std::vector<std::string> parts;
  parts.reserve(requirements.size());
  for (const Requirement& r : requirements) {
    parts.push_back(r.symbol.empty() ? r.str() : r.str() + "?" + r.symbol);
  }
  std::sort(parts.begin(), parts.end());
  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::pair<std::string, std::string> split_key(std::string_view key) {
  auto cut = [](std::string_view k) { return std::string(k.substr(0, k.find('='))); };
  if (!key.empty() && key[0] == '$') return {"reserved", cut(key.substr(1))};
  if (const auto colon = key.find(':'); colon != std::string_view::npos) {
    return {std::string(key.substr(0, colon)), cut(key.substr(colon + 1))};
  }
  constexpr std::string_view kReserved = "reserved.";
  if (key.substr(0, kReserved.size()) == kReserved) {
    return {"reserved", cut(key.substr(kReserved.size()))};
  }
  return {"any", cut(key)};
}

}  // namespace policyc::ir
