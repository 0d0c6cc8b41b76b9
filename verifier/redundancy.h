// What can be taken away without changing a verdict, proved for every pod that could exist.
//
// A part (policy, item, peers, ports, one L7 rule) is first asked of the algebra: do the other
// rules cover all that it matches? That is necessary, and where all that meets it is plain (no
// proxy, no authentication) it is the proof. Otherwise the classes of the part's region are
// inhabited, one pod each, and every verdict record is compared with and without the part.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "verifier/deletion.h"
#include "verifier/solver.h"
#include "verifier/universe.h"

namespace policyc {

// A rule's item, as a cause.
struct ItemRef {
  std::size_t rule = 0, item = 0;
  friend auto operator<=>(const ItemRef&, const ItemRef&) = default;
};

struct Redundancy {
  enum class Answer : std::uint8_t {
    Redundant,  // taking it away changes nothing
    Needed,     // some verdict changes
    Undecided   // not within the budget
  } answer = Answer::Undecided;
  std::vector<ItemRef> causes;        // Redundant: minimal items that make it so, in input order
  std::vector<std::size_t> isolates;  // Redundant: rules that keep the default deny
  bool by_denies = false;             // Redundant allow: denies alone cover it
  bool by_solver = false;             // the algebra gave up on some question, the solver did not
  std::optional<FlowPoint> witness;   // Needed: a flow (where one was found)
  std::optional<FlowPoint> inside;    // some flow of the part
  ir::Direction direction = ir::Direction::Ingress;  // of witness and inside
  std::string reason;                                // Undecided: why
};

// Rules that are in force together (one deployment set), and questions about them.
class RuleBase {
 public:
  // `rules`: indices into world.policies.rules; `usable(a, b)`: whether rule b counts as certainly
  // there, and its subject as comparable, when a is judged.
  // `universe` of the same world.
  RuleBase(const ir::World& world, const Universe& universe, std::vector<std::size_t> rules,
           std::function<bool(std::size_t, std::size_t)> usable);
  ~RuleBase();
  RuleBase(const RuleBase&) = delete;
  RuleBase& operator=(const RuleBase&) = delete;

  Redundancy judge(const Part& part);
  // Parts found redundant are out of the way of later questions, so that all of them together can
  // be taken away.
  void retire(const Part& part);

  // Pairs that overlap in part: some flows of the allow are denied, others pass, and the deny
  // denies more than this.
  struct Overlap {
    ItemRef allow, deny;
    FlowPoint point;
    ir::Direction direction = ir::Direction::Ingress;
  };
  std::vector<Overlap> partial_denies();

  ProofListener listener;
  Decider decider;                       // asked where the algebra gives up; may be empty
  std::size_t budget = kCoverageBudget;  // of the algebra, for one question
  std::size_t questions() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace policyc
