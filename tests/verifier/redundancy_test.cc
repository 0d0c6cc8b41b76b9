#include "verifier/redundancy.h"

#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <map>
#include <set>

#include "ir/evaluate.h"
#include "ir/print.h"
#include "tests/ir/world_gen.h"
#include "verifier/deletion.h"
#include "verifier/scene_judge.h"

namespace policyc {
namespace {

using testing::Choice;

std::vector<std::size_t> all_rules(const ir::World& world) {
  std::vector<std::size_t> out(world.policies.rules.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = i;
  return out;
}

// Everything that can be taken away from the policies, one thing at a time.
std::vector<Part> all_parts(const ir::World& world) {
  std::vector<Part> out;
  for (std::size_t p = 0; p < world.policies.policies.size(); ++p) {
    Part part;
    part.policy = p;
    out.push_back(part);
  }
  for (std::size_t r = 0; r < world.policies.rules.size(); ++r) {
    const ir::Rule& rule = world.policies.rules[r];
    for (std::size_t i = 0; i < rule.items.size(); ++i) {
      Part part;
      part.kind = Part::Kind::Item;
      part.policy = rule.policy;
      part.rule = r;
      part.item = i;
      out.push_back(part);
      const ir::RuleItem& item = rule.items[i];
      for (std::size_t k = 0; k < item.peers.size() && item.peers.size() > 1; ++k) {
        part.kind = Part::Kind::Peers;
        part.members = {k};
        out.push_back(part);
      }
      for (std::size_t pr = 0; pr < item.ports.size(); ++pr) {
        for (std::size_t k = 0; k < item.ports[pr].ports.size(); ++k) {
          if (item.ports[pr].ports.size() < 2) continue;
          part.kind = Part::Kind::Ports;
          part.port_rule = pr;
          part.members = {k};
          out.push_back(part);
        }
      }
    }
  }
  return out;
}

// One pod for each label set over the keys of world_gen, in both namespaces.
void inhabit(ir::World& world) {
  world.inventory.pods.clear();
  for (const char* ns : {"m", "n", "other"}) {
    for (const char* app : {"", "a", "b", "c", "d"}) {
      for (const char* tier : {"", "a", "b", "c", "d"}) {
        ir::Pod pod;
        pod.ns = ns;
        pod.name = fmt::format("{}-{}", app, tier);
        if (*app != 0) pod.labels["app"] = app;
        if (*tier != 0) pod.labels["tier"] = tier;
        pod.ports.push_back({"http", 8080, ir::kProtoTcp});
        world.inventory.pods.push_back(std::move(pod));
      }
    }
  }
}

std::string all_text(const ir::World& world) {
  std::string out;
  for (std::size_t i = 0; i < world.policies.policies.size(); ++i) {
    out += ir::print(world.policies, i, nullptr);
  }
  return out;
}

std::string flow_text(const Universe::Scene& scene) {
  std::string out;
  for (const ir::Pod& p : scene.inventory.pods) {
    out += p.full_name();
    for (const auto& [key, value] : p.labels) out += fmt::format(" {}={}", key, value);
    out += "\n";
  }
  for (const ir::Party* party : {&scene.flow.from, &scene.flow.to}) {
    if (const auto* a = std::get_if<ir::AddressParty>(party)) out += a->ip.str() + "\n";
    if (const auto* e = std::get_if<ir::EntityParty>(party)) out += e->entity + "\n";
  }
  return out;
}

struct Count {
  std::map<std::string, int> reasons;
  int redundant = 0, needed = 0, undecided = 0, witnesses = 0, by_solver = 0, scenes = 0;
};
Count& count() {
  static Count c;
  return c;
}

ir::World small_world(const Choice& pick) {
  ir::World world = testing::random_world(pick);
  world.settings.host_firewall = false;
  for (ir::Rule& r : world.policies.rules) r.host_subject = false;
  return world;
}

// The definition, the long way: delete the part, resolve the whole world with everybody in it, and
// compare every verdict record.
void deleting_changes_nothing() {
  const Choice pick;
  ir::World world = small_world(pick);
  if (pick.flip()) world.inventory.fqdn.reset();
  const Universe universe(world);
  RuleBase base(world, universe, all_rules(world), [](std::size_t, std::size_t) { return true; });
  ir::World crowd = world;
  inhabit(crowd);
  for (const Part& part : all_parts(world)) {
    const Redundancy r = base.judge(part);
    switch (r.answer) {
      case Redundancy::Answer::Redundant: {
        ++count().redundant;
        ir::World less = crowd;
        less.policies = without(crowd.policies, part);
        const auto difference = first_difference(crowd, less);
        if (difference) {
          RC_FAIL(
              fmt::format("kind {} policy {} rule {} item {} members {}\n{}{} pod {} peer {} key "
                          "{:#x}: {} becomes {}",
                          static_cast<int>(part.kind), part.policy, part.rule, part.item,
                          fmt::join(part.members, " "), all_text(world),
                          ir::direction_name(difference->direction),
                          crowd.inventory.pods[difference->pod].full_name(), difference->peer.str(),
                          difference->key, difference->before, difference->after));
        }
        break;
      }
      case Redundancy::Answer::Needed:
        ++count().needed;
        if (r.witness) {
          // A near miss: the very flow shows a record that differs.
          const auto scene = universe.scene(*r.witness, r.direction);
          if (!scene) break;
          ir::World seen;
          seen.settings = world.settings;
          seen.policies = world.policies;
          seen.inventory = scene->inventory;
          ir::World less = seen;
          less.policies = without(world.policies, part);
          // A frozen endpoint stays frozen.
          const auto before = ir::evaluate(seen, scene->flow);
          const auto& half = r.direction == ir::Direction::Ingress ? before.ingress : before.egress;
          RC_ASSERT(half.has_value());
          if (half->verdict == ir::VerdictKind::Error) break;
          if (!first_difference(seen, less)) {
            RC_FAIL(
                fmt::format("part kind {} policy {} rule {} item {}: {} to port {:#x} of {} "
                            "shows no difference\n{}{}",
                            static_cast<int>(part.kind), part.policy, part.rule, part.item,
                            ir::direction_name(r.direction), r.witness->key,
                            world.policies.policies.size(), all_text(world), flow_text(*scene)));
          }
          ++count().witnesses;
        }
        break;
      case Redundancy::Answer::Undecided:
        if (r.reason == "it matches nothing") break;
        ++count().undecided;
        ++count().reasons[r.reason];
        break;
    }
  }
}

// Parts found redundant one after the other can all be taken away together.
RC_GTEST_PROP(Redundancy, RetiredPartsGoTogether, ()) {
  const Choice pick;
  const ir::World world = small_world(pick);
  const Universe universe(world);
  RuleBase base(world, universe, all_rules(world), [](std::size_t, std::size_t) { return true; });
  ir::World crowd = world;
  inhabit(crowd);
  ir::World less = crowd;
  std::vector<Part> gone;
  const std::vector<Part> parts = all_parts(world);
  for (std::size_t i = parts.size(); i-- > 0;) {
    if (parts[i].kind != Part::Kind::Item) continue;
    if (base.judge(parts[i]).answer != Redundancy::Answer::Redundant) continue;
    base.retire(parts[i]);
    less.policies = without(less.policies, parts[i]);  // last first: indices before it stay
  }
  const auto difference = first_difference(crowd, less);
  if (difference) {
    RC_FAIL(fmt::format("{}\nwithout:\n{}pod {} peer {} key {:#x}: {} becomes {}", all_text(world),
                        all_text(less), crowd.inventory.pods[difference->pod].full_name(),
                        difference->peer.str(), difference->key, difference->before,
                        difference->after));
  }
}

// The rules near a scene say of it what all rules say, with each part and without it.
void near_rules_say_it_all() {
  const Choice pick;
  const ir::World world = small_world(pick);
  const Universe universe(world);
  const SceneJudge judge(world);
  const auto whole = [&](const Universe::Scene& scene, ir::Direction d, const Part* part) {
    ir::World all = world;
    all.inventory = scene.inventory;
    if (part != nullptr) all.policies = without(world.policies, *part);
    const ir::FlowVerdict v = ir::evaluate(all, scene.flow);
    return d == ir::Direction::Ingress ? v.ingress.value() : v.egress.value();
  };
  const auto text = [](const ir::DirectionVerdict& v) {
    return fmt::format("{} {} {} {} {}", ir::verdict_name(v.verdict), ir::reason_name(v.reason),
                       v.parser, v.auth.has_value(), v.rules.size());
  };
  for (const Part& part : all_parts(world)) {
    RuleBase base(world, universe, all_rules(world), [](std::size_t, std::size_t) { return true; });
    const Redundancy r = base.judge(part);
    if (!r.inside) continue;
    const auto scene = universe.scene(*r.inside, r.direction);
    if (!scene) continue;
    ++count().scenes;
    const std::array<const Part*, 2> cases = {nullptr, &part};
    for (const Part* p : cases) {
      RC_ASSERT(text(judge.verdict(*scene, r.direction, p)) == text(whole(*scene, r.direction, p)));
    }
  }
}

TEST(SceneJudge, LeavesOutNothingThatMatters) {
  EXPECT_TRUE(rc::check(near_rules_say_it_all));
  EXPECT_GT(count().scenes, 100);
}

// Where the algebra has no budget, the solver gives the same answers.
RC_GTEST_PROP(Redundancy, SolverDecidesWhatTheAlgebraLeaves, ()) {
  if (!Solver::available()) return;
  static Solver solver;
  const Choice pick;
  const ir::World world = small_world(pick);
  const Universe universe(world);
  const auto all = [](std::size_t, std::size_t) { return true; };
  RuleBase algebra(world, universe, all_rules(world), all);
  RuleBase poor(world, universe, all_rules(world), all);
  poor.budget = 0;
  poor.decider = [&](const Question& q) { return solver.solve(q); };
  for (const Part& part : all_parts(world)) {
    const Redundancy a = algebra.judge(part), b = poor.judge(part);
    RC_ASSERT(a.answer == b.answer);
    RC_ASSERT(!a.by_solver);
    if (b.by_solver) ++count().by_solver;
  }
}

TEST(Redundancy, DeletingChangesNothing) {
  EXPECT_TRUE(rc::check(deleting_changes_nothing));
  const Count& c = count();
  std::cout << c.redundant << " redundant, " << c.needed << " needed (" << c.witnesses
            << " shown by a flow), " << c.undecided << " undecided\n";
  for (const auto& [reason, n] : c.reasons) std::cout << "  " << n << " " << reason << "\n";
  EXPECT_GT(c.redundant, 10);
  EXPECT_GT(c.witnesses, 10);
}

}  // namespace
}  // namespace policyc
