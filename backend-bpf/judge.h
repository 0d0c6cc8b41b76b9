// Whose packet it is, and what the policies say of it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backend-bpf/packet.h"
#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::bpf {

class Judge {
 public:
  // Where an endpoint with some address stands in ir::Resolved.
  struct Place {
    std::size_t view = 0, endpoint = 0;
    std::string name;  // "default/frontend", or the node
  };
  // The evaluator's answer to one question.
  struct Judged {
    ir::Flow flow;
    ir::FlowVerdict verdict;
    // The rules that decide a direction, the isolating ones where nothing allows.
    const std::vector<ir::Origin>& rules(ir::Direction direction) const {
      return direction == ir::Direction::Egress ? egress_rules : ingress_rules;
    }
    std::vector<ir::Origin> egress_rules, ingress_rules;
  };

  // Both must outlive the judge.
  Judge(const ir::World& world, const ir::Resolved& resolved);

  // Who has the address: a pod or node that is an endpoint, or just the address.
  ir::Party party(const ir::IpAddress& ip) const;
  const Place* place(const ir::IpAddress& ip) const;  // nullptr where the address is no endpoint
  // Answers are kept, since captures ask the same questions again and again; the reference stays
  // good until they are forgotten.
  const Judged& judge(const Packet& packet);
  // Forgets the answers where there are more than `most`; references to them go bad.
  void forget_beyond(std::size_t most) {
    if (judged_.size() > most) judged_.clear();
  }

 private:
  const ir::World& world_;
  std::map<ir::IpAddress, Place> places_;
  std::map<ir::IpAddress, ir::Party> parties_;
  std::map<std::string, Judged> judged_;
};

}  // namespace policyc::bpf
