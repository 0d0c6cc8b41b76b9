// A flow between pods that could exist, for people and for machines.
#pragma once

#include <string>

#include "verifier/universe.h"

namespace policyc {

// "from a pod with app=a in namespace shop to a pod with app=web in namespace shop, TCP/80"
std::string scene_text(const Universe::Scene& scene);
// {"from":{"labels":{"app":"a"},"namespace":"shop"},"to":{…},"proto":"TCP","port":80}; who is no
// pod is {"ip":"192.0.2.1"} or {"entity":"host"}.
std::string scene_json(const Universe::Scene& scene);

}  // namespace policyc
