// A value, or the reason there is none. Input mistakes travel this way; exceptions do not cross
// module borders.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace policyc {

struct Error {
  // What is to blame: what was asked or given, or this machine, which lacks a facility.
  enum class Kind { Input, Machine };
  std::string message;
  Kind kind = Kind::Input;

  // The same, with the place where it happened before it.
  Error at(const std::string& place) const { return {place + ": " + message, kind}; }
};

template <class T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Expected(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() { return std::get<0>(state_); }
  const T& operator*() const { return std::get<0>(state_); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }
  const std::string& error() const { return std::get<1>(state_).message; }
  // The message with its kind, to be handed on.
  const Error& failure() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

}  // namespace policyc
