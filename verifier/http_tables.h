// The tables of a program that reads request heads (`--l7 kernel`), held against the automaton of
// the rules: from the bytes of the object file, without a solver. What is shown is that the tables
// hold the automaton; that the program walks them is for request_proof.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "ir/automata/dfa.h"
#include "ir/base/expected.h"
#include "ir/bpf/object.h"

namespace policyc::verify {

// Heads are read in blocks of eight bytes, and up to seven more; longer ones are not decided.
inline constexpr unsigned kHeadBlocks = 192;

// The read-only arrays http_starts, http_columns, http_steps and http_skips of an object. A state
// is the offset of its row in the steps, in bytes; state 0 is lost. The first cell of a row is what
// is said of a head that ends there, the second names a set of bytes that stay in the state, the
// others are the next states.
class HttpTables {
 public:
  // Errors: an array is missing, or none of the sizes that the loop can have.
  static Expected<HttpTables> read(const ebpf::Object& object);

  std::size_t filters() const { return starts_.size() / 4; }    // a power of two
  bool wide() const { return wide_; }                           // cells of four bytes, else two
  std::size_t steps_size() const { return steps_.size(); }      // in bytes
  std::size_t skip_rows() const { return skips_.size() / 48; }  // a power of two
  // What the tables say of the bytes (ir::HeadVerdict), one byte after the other.
  std::uint32_t verdict(std::uint32_t filter, std::string_view bytes) const;
  // What becomes of a packet with this payload: 1 passes, 2 dropped, 3 the proxy's.
  std::uint32_t outcome(std::uint32_t filter, std::string_view payload, bool proxy) const;
  // Bytes of this number that get the verdict (1 or 2); empty where there are none.
  std::string example(std::uint32_t filter, std::uint32_t verdict, std::size_t length) const;

 private:
  friend class HttpCheck;
  std::uint32_t cell(std::uint32_t state, std::uint32_t column) const;
  std::uint32_t start(std::uint32_t filter) const;
  std::uint32_t column(std::uint32_t filter, std::uint8_t byte) const;
  std::uint32_t next(std::uint32_t filter, std::uint32_t state, std::uint8_t byte) const;

  bool wide_ = false;
  std::string starts_, columns_, steps_, skips_;
};

struct HttpReport {
  enum class Answer : std::uint8_t { Proved, Refuted, NotProved } answer = Answer::NotProved;
  std::string reason;                   // NotProved: why
  std::string request;                  // Refuted: a shortest head for which they differ
  std::uint32_t tables = 0, rules = 0;  // Refuted: what each says of it
  std::size_t states = 0;               // pairs of states compared
};

// Whether filter `filter` (1 and up) gives every text the automaton's label.
HttpReport check_http_tables(const HttpTables& tables, std::uint32_t filter,
                             const ir::Dfa& automaton);

}  // namespace policyc::verify
