// Where L7 rules of one kind stand, and which places let the same peers reach the same ports.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "verifier/checks_context.h"

namespace policyc::checks {

struct L7Place {
  const ir::Rule* rule;
  const ir::RuleItem* item;
  const ir::PortRule* ports;
};

class L7Places {
 public:
  // All port entries with rules that are `wanted`, in input order.
  L7Places(const Context& c, const std::function<bool(const ir::L7Rules&)>& wanted);

  const std::vector<L7Place>& all() const { return places_; }
  // The entries whose rules also count for all endpoints, peers and ports of this one, which is
  // among `all`; itself first. Beyond a budget of pairs only itself.
  std::vector<const L7Place*> wider(const L7Place& narrow);

 private:
  bool covers(const L7Place& wide, const L7Place& narrow) const;

  const Context& c_;
  std::vector<L7Place> places_;
  // By deployment set, direction and port.
  std::map<std::tuple<std::string, ir::Direction, std::string>, std::vector<std::size_t>> by_port_;
  std::size_t pairs_ = 0;
};

}  // namespace policyc::checks
