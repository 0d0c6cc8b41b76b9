#include "ir/decide.h"

#include <algorithm>
#include <array>
#include <tuple>

namespace policyc::ir {
namespace {

constexpr std::size_t kLengths = 25;  // 0, 8, 9 … 24

// A key of the policy map, after merging: the highest priority and the strongest explicit auth.
struct Key {
  bool present = false;
  int priority = 0;
  std::optional<AuthType> own;
};

// Keys of one side (concrete identity or wildcard) by prefix length. All match one packet, so a
// shorter key covers every longer one.
using Side = std::array<Key, kLengths>;

std::optional<Auth> effective(const Side& side, int at) {
  for (int length = at; length >= 0; --length) {
    const Key& key = side[static_cast<std::size_t>(length)];
    if (key.present && key.own) return Auth{*key.own, length == at};
  }
  return std::nullopt;
}

std::optional<Auth> authentication(const std::vector<Atom>& allows, const Atom& best) {
  std::array<Side, 2> sides;
  for (const Atom& a : allows) {
    if (a.policy != nullptr && a.policy->no_entry) continue;
    Key& key = sides[a.specific ? 1 : 0][static_cast<std::size_t>(a.length)];
    key.present = true;
    key.priority = std::max(key.priority, a.priority);
    if (a.policy != nullptr && a.policy->auth) {
      key.own = key.own ? std::max(*key.own, *a.policy->auth) : *a.policy->auth;
    }
  }
  // Keys under a wider one of higher priority are not in the map.
  std::array<int, 2> longest = {-1, -1};
  for (std::size_t s = 0; s < 2; ++s) {
    int top = 0;
    for (std::size_t length = 0; length < kLengths; ++length) {
      Key& key = sides[s][length];
      if (!key.present) continue;
      if (key.priority < top) {
        key = {};
        continue;
      }
      top = key.priority;
      longest[s] = static_cast<int>(length);
    }
  }
  std::optional<Auth> result = effective(sides[best.specific ? 1 : 0], best.length);
  const std::size_t other = best.specific ? 0 : 1;
  if (!(result && result->is_explicit) && longest[other] >= 0 &&
      sides[other][static_cast<std::size_t>(longest[other])].priority == best.priority) {
    const std::optional<Auth> theirs = effective(sides[other], longest[other]);
    if (theirs && (!result || theirs->type > result->type)) result = Auth{theirs->type, false};
  }
  if (result && result->type == AuthType::Disabled && !result->is_explicit) return std::nullopt;
  return result;
}

}  // namespace

Decision decide(const std::vector<Atom>& allows) {
  Decision out;
  bool any_auth = false;
  for (const Atom& a : allows) {
    if (a.policy != nullptr && a.policy->no_entry) continue;
    any_auth = any_auth || (a.policy != nullptr && a.policy->auth);
    if (out.best == nullptr ||
        std::tuple(a.priority, a.length, a.specific) >
            std::tuple(out.best->priority, out.best->length, out.best->specific)) {
      out.best = &a;
    }
  }
  if (out.best == nullptr) return out;
  // The reason names the origin of the chosen key: a rule if any contributed to it.
  out.reason = Reason::Localhost;
  for (const Atom& a : allows) {
    if (a.specific != out.best->specific || a.length != out.best->length || a.policy == nullptr) {
      continue;
    }
    if (!a.policy->synthetic) {
      out.reason = Reason::Rule;
    } else if (out.reason == Reason::Localhost) {
      out.reason = Reason::NonDefaultDeny;
    }
  }
  if (any_auth) out.auth = authentication(allows, *out.best);
  return out;
}

}  // namespace policyc::ir
