// Deterministic automata over bytes: the languages of regular expressions as values that can be
// combined, compared and asked for examples.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/automata/regex.h"
#include "ir/base/expected.h"

namespace policyc::ir {

// Most states that a construction may go through before it gives up.
inline constexpr std::size_t kStateBudget = 20'000;

// A complete minimal automaton, canonical: equal languages (with equal labels) give equal values.
// Each state has a label: what the automaton says of a text that ends there, 0 = refused. Plain
// languages use the labels 0 and 1.
class Dfa {
 public:
  // A state before numbering, whatever the construction needs to know.
  using Key = std::vector<std::uint32_t>;
  struct Steps {
    Key start;
    // Bytes with the same class must lead to the same states.
    std::array<std::uint8_t, 256> class_of{};
    std::function<Key(const Key&, std::uint8_t byte)> step;
    std::function<std::uint32_t(const Key&)> label;
  };

  Dfa() : Dfa(nothing()) {}

  // The texts that the expression matches in full. Every construction fails with "too large", and
  // says how large, where it passes its budget of states.
  static Expected<Dfa> from_regex(const Regex& regex, std::size_t budget = kStateBudget);
  static Expected<Dfa> from_regex(std::string_view text, std::size_t budget = kStateBudget);
  // All that can be reached from a start by steps.
  static Expected<Dfa> explore(const Steps& steps, std::size_t budget = kStateBudget);
  static Dfa nothing();
  static Dfa everything();

  // The product: a text's label is made of both labels.
  static Expected<Dfa> combine(
      const Dfa& a, const Dfa& b,
      const std::function<std::uint32_t(std::uint32_t, std::uint32_t)>& label,
      std::size_t budget = kStateBudget);
  // Of plain languages. `subtract`: in a and not in b.
  static Expected<Dfa> intersect(const Dfa& a, const Dfa& b, std::size_t budget = kStateBudget);
  static Expected<Dfa> unite(const Dfa& a, const Dfa& b, std::size_t budget = kStateBudget);
  static Expected<Dfa> subtract(const Dfa& a, const Dfa& b, std::size_t budget = kStateBudget);
  Dfa complement() const;

  bool empty() const;  // no text has a label other than 0
  std::uint32_t label_of(std::string_view text) const;
  bool matches(std::string_view text) const { return label_of(text) != 0; }
  // A shortest text with a label other than 0 (with exactly this label); of several the one that
  // reads best: lower-case letters, digits, then other printable bytes. Equal automata give equal
  // witnesses.
  std::optional<std::string> witness() const;
  std::optional<std::string> witness(std::uint32_t label) const;

  // States are numbered breadth first from the start, 0; classes by their least byte.
  std::size_t states() const { return labels_.size(); }
  std::size_t classes() const { return classes_; }
  std::uint8_t class_of(std::uint8_t byte) const { return class_of_[byte]; }
  const std::array<std::uint8_t, 256>& class_table() const { return class_of_; }
  std::uint32_t step(std::uint32_t state, std::uint8_t byte) const {
    return next_[state * classes_ + class_of_[byte]];
  }
  std::uint32_t label(std::uint32_t state) const { return labels_[state]; }
  // The state that no byte leaves and that refuses, where there is one.
  std::optional<std::uint32_t> dead() const;

  friend bool operator==(const Dfa&, const Dfa&) = default;

 private:
  struct Raw;
  explicit Dfa(std::vector<std::uint32_t> labels) : labels_(std::move(labels)) {}
  static Dfa minimised(const Raw& raw);
  std::optional<std::string> witness_where(
      const std::function<bool(std::uint32_t label)>& wanted) const;

  std::array<std::uint8_t, 256> class_of_{};
  std::size_t classes_ = 1;
  std::vector<std::uint32_t> next_;    // [state * classes + class]
  std::vector<std::uint32_t> labels_;  // per state
};

// The coarsest byte classes that are finer than both. Numbered by their least byte.
std::array<std::uint8_t, 256> common_classes(const std::array<std::uint8_t, 256>& a,
                                             const std::array<std::uint8_t, 256>& b);

// Whether every text of `inner` is one of `outer`; a shortest one that is not, otherwise nullopt.
// Walks pairs of states only as far as needed.
std::optional<std::string> counterexample(const Dfa& inner, const Dfa& outer);
bool includes(const Dfa& outer, const Dfa& inner);
bool disjoint(const Dfa& a, const Dfa& b);

}  // namespace policyc::ir
