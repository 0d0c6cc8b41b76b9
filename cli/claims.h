// Sentences and assertion files with quantifiers: "no pod outside namespace shop reaches db on
// 5432".
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "frontend/yaml_document.h"
#include "ir/base/expected.h"
#include "ir/connectivity.h"
#include "ir/evaluate.h"
#include "verifier/open_reach.h"
#include "verifier/reach.h"

namespace policyc::cli {

// Some parties, described: all conditions that are given must hold.
struct PartySet {
  std::string name;        // a side of a question: "shop/db", "world", "10.0.0.0/8", "app=web"
  std::string ns;          // workloads of this namespace
  std::string labels;      // workloads with these labels: "tier=web,env!=test"
  bool workloads = false;  // workloads only
  std::vector<PartySet> any_of;   // one of these
  std::vector<PartySet> none_of;  // none of these
};

// Requests of which each part matches its expression, or, with `not_`, does not.
struct RequestSet {
  std::string method, path, host;
  bool not_method = false, not_path = false, not_host = false;
};

// A port by its name: of the target's containers, or of the Service that is the target.
struct NamedPort {
  std::string name;
  std::optional<ir::Protocol> protocol;  // nullopt = any
};

struct Claim {
  PartySet from, to;
  std::vector<ir::PortSpan> ports;  // with port_names, empty = all
  std::vector<NamedPort> port_names;
  std::optional<RequestSet> requests;
  bool allow = false;
};

// "no pod outside namespace shop reaches db on 5432", "every pod with tier=web may reach kube-dns
// on 53/UDP", "nobody can POST to db". nullopt where the sentence has no quantifier.
std::optional<Expected<Claim>> parse_claim(const std::string& sentence);

// The world of claims: resolved once, asked often.
class ClaimWorld {
 public:
  // `ns` is the namespace of -n, or empty. The world must outlive this.
  ClaimWorld(const ir::World& world, std::string ns);
  // Errors: names that stand for nobody, selectors that do not parse, expressions that no automaton
  // can hold.
  Expected<ReachResult> decide(const Claim& claim) const;
  // Whether a claim that holds of the input holds whatever pods there are, too; Unknown for claims
  // that everybody may. nullopt where that is no question: the claim is not about pods by namespace
  // and labels.
  std::optional<OpenAnswer> decide_for_any_pod(const Claim& claim) const;

 private:
  // Targets on the same ports (empty = all).
  struct Targets {
    std::vector<ir::GraphParty> parties;
    std::vector<ir::PortSpan> ports;
  };
  Expected<std::vector<ir::GraphParty>> members(const PartySet& set) const;
  // The back ends of a Service are meant on the ports that its own lead to. Targets without a port
  // of a name that is asked for are left out; an error where all are.
  Expected<std::vector<Targets>> targets(const PartySet& set, const Claim& claim) const;
  Expected<RequestLanguage> requests(const RequestSet& set) const;
  void about_nodes(const Claim& claim, const std::vector<ir::GraphParty>& from,
                   const std::vector<Targets>& to, ReachResult& result) const;

  const ir::World& world_;
  std::string ns_;
  ir::Resolved resolved_;
  ir::Connectivity connectivity_;
  std::vector<ir::GraphParty> parties_;
};

// One entry of an assertion file.
struct PolicyTest {
  std::string name;
  SourceRange range;
  std::vector<std::pair<std::string, SourceRange>> sentences;  // of `assert`
  std::optional<Claim> claim;
};

// The documents of kind PolicyTest in a file; other documents are left alone. The error names line
// and column.
Expected<std::vector<PolicyTest>> read_policy_tests(const SourceMap& sources, FileId file);

}  // namespace policyc::cli
