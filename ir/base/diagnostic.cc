#include "ir/base/diagnostic.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>

#include "ir/base/diag_code.h"

namespace policyc {

const std::vector<DiagInfo>& all_diagnostics() {
  static const std::vector<DiagInfo> table = [] {
    std::vector<DiagInfo> rows = {
#define POLICYC_DIAGNOSTIC(number, name, severity, title, meaning, example, remedy) \
  DiagInfo{DiagCode::name, #name, Severity::severity, title, meaning, example, remedy},
#include "ir/base/diagnostics/all.def"
#undef POLICYC_DIAGNOSTIC
    };
    std::sort(rows.begin(), rows.end(),
              [](const DiagInfo& a, const DiagInfo& b) { return a.code < b.code; });
    return rows;
  }();
  return table;
}

const DiagInfo& diag_info(DiagCode code) {
  const auto& rows = all_diagnostics();
  auto it = std::lower_bound(rows.begin(), rows.end(), code,
                             [](const DiagInfo& row, DiagCode c) { return row.code < c; });
  return *it;
}

std::string diag_name(DiagCode code) {
  return fmt::format("POL{:04}", static_cast<int>(code));
}

std::optional<DiagCode> parse_diag_code(std::string_view text) {
  std::string_view digits = text;
  if (digits.size() > 3 && (digits.substr(0, 3) == "POL" || digits.substr(0, 3) == "pol")) {
    digits.remove_prefix(3);
  }
  int number = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  bool numeric = error == std::errc() && end == digits.data() + digits.size();
  for (const DiagInfo& row : all_diagnostics()) {
    if (numeric ? static_cast<int>(row.code) == number : row.name == text) return row.code;
  }
  return std::nullopt;
}

std::string_view severity_name(Severity severity) {
  switch (severity) {
    case Severity::Off:
      return "off";
    case Severity::Note:
      return "note";
    case Severity::Warning:
      return "warning";
    case Severity::Error:
      return "error";
  }
  return "";
}

std::string_view layer_name(Layer layer) {
  switch (layer) {
    case Layer::None:
      return "";
    case Layer::Yaml:
      return "yaml";
    case Layer::Schema:
      return "schema";
    case Layer::UnknownField:
      return "unknown-field";
    case Layer::Agent:
      return "agent";
    case Layer::ApiServer:
      return "api-server";
  }
  return "";
}

std::string PolicyRef::str() const {
  return ns.empty() ? fmt::format("{}/{}", kind, name) : fmt::format("{}/{}/{}", kind, ns, name);
}

Diagnostic& DiagnosticSink::report(DiagCode code, SourceRange range, std::string message,
                                   Layer layer) {
  Diagnostic d;
  d.code = code;
  d.severity = diag_info(code).severity;
  d.layer = layer;
  d.message = std::move(message);
  d.range = range;
  d.help = diag_info(code).remedy;
  all_.push_back(std::move(d));
  return all_.back();
}

void DiagnosticSink::merge(DiagnosticSink&& other) {
  all_.insert(all_.end(), std::make_move_iterator(other.all_.begin()),
              std::make_move_iterator(other.all_.end()));
  other.all_.clear();
}

bool DiagnosticSink::has_errors() const {
  return std::any_of(all_.begin(), all_.end(),
                     [](const Diagnostic& d) { return d.severity == Severity::Error; });
}

void DiagnosticSink::sort() {
  std::stable_sort(all_.begin(), all_.end(), [](const Diagnostic& a, const Diagnostic& b) {
    return std::tie(a.range, a.code, a.message) < std::tie(b.range, b.code, b.message);
  });
}

}  // namespace policyc
