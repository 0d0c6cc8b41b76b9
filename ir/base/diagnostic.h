// Everything policyc says about its input: one code per kind of finding, a place, a remedy.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/base/source.h"

namespace policyc {

enum class Severity { Off, Note, Warning, Error };

// Who refuses the object, in the order in which a cluster would: the YAML decoder, the CRD schema,
// the strict-field check, Cilium's agent, or the API server's admission rules for NetworkPolicy.
enum class Layer { None, Yaml, Schema, UnknownField, Agent, ApiServer };

// Its enumerators are in ir/base/diag_code.h, which only those include that name one: a new code
// would else compile everything again.
enum class DiagCode : int;

// The row of a code: what `policyc explain CODE` prints.
struct DiagInfo {
  DiagCode code;
  std::string_view name;     // the enumerator, e.g. "UnknownField"
  Severity severity;         // default; configurable per code
  std::string_view title;    // a few words
  std::string_view meaning;  // what it means and why it matters
  std::string_view example;  // YAML or command that shows it; may be empty
  std::string_view remedy;   // what to write or do instead
};

const DiagInfo& diag_info(DiagCode code);
const std::vector<DiagInfo>& all_diagnostics();  // ascending by code
// "POL0120"
std::string diag_name(DiagCode code);
// Accepts "POL0120", "pol120", "0120", "120" and the name "UnknownField".
std::optional<DiagCode> parse_diag_code(std::string_view text);

std::string_view severity_name(Severity severity);  // "error", "warning", "note", "off"
std::string_view layer_name(Layer layer);           // "schema", …; "" for None

// The object a finding is about.
struct PolicyRef {
  std::string kind;
  std::string ns;  // empty for cluster-wide kinds
  std::string name;

  std::string str() const;  // "CiliumNetworkPolicy/default/a"; without the empty namespace part
  friend auto operator<=>(const PolicyRef&, const PolicyRef&) = default;
};

// A second place that belongs to a finding.
struct DiagLabel {
  SourceRange range;
  std::string text;
};

struct Edit {
  SourceRange range;  // replaced by `text`
  std::string text;
};

// A change that is certain to be right.
struct Fix {
  std::string description;
  std::vector<Edit> edits;
};

struct Diagnostic {
  DiagCode code{};
  Severity severity = Severity::Error;
  Layer layer = Layer::None;
  std::string message;  // lower case, no full stop, user text in backticks
  SourceRange range;
  std::optional<PolicyRef> policy;
  std::string rule;  // path inside the object: "spec.ingress[0].toPorts[1]"; may be empty
  std::vector<DiagLabel> labels;
  std::vector<std::string> notes;  // more facts
  std::string help;                // the remedy, one sentence; may be empty
  std::optional<Fix> fix;
  std::optional<std::string> witness;  // a flow that shows the finding, as JSON text
  std::string proof;                   // "z3", "exact", or empty where nothing was proved
};

// Collects findings. `report` fills the severity from the code's row.
class DiagnosticSink {
 public:
  Diagnostic& report(DiagCode code, SourceRange range, std::string message,
                     Layer layer = Layer::None);
  void add(Diagnostic diagnostic) { all_.push_back(std::move(diagnostic)); }
  void merge(DiagnosticSink&& other);

  const std::vector<Diagnostic>& all() const { return all_; }
  std::vector<Diagnostic>& all() { return all_; }
  bool has_errors() const;
  // By file order, offset, code, message. Makes output independent of thread timing.
  void sort();

 private:
  std::vector<Diagnostic> all_;
};

}  // namespace policyc
