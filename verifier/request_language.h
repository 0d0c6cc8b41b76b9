// Sets of HTTP requests: what proxies let pass, as a union of pieces (method × path × host, under
// required headers). Exact over methods, paths and hosts; headers count by name and value.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/automata/dfa.h"
#include "ir/base/expected.h"
#include "ir/flow.h"
#include "ir/policy_set.h"
#include "ir/resolved.h"

namespace policyc {

// What the parts of a request can be, as expressions of RE2. The one definition of "any".
// A method is a token (RFC 9110, section 9.1).
inline constexpr const char* kAnyMethod = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
// Whatever proxies let through: no blanks, no control characters; fragments stay with the client.
// Characters beyond ASCII are UTF-8, as RE2 reads them.
inline constexpr const char* kAnyPath = R"(/[^\x00-\x20#\x7f]*)";
// The target of a request that is about the server itself. OPTIONS alone may have it (RFC 9112,
// section 3.2.4).
inline constexpr const char* kServerMethod = "OPTIONS";
inline constexpr const char* kServerPath = R"(\*)";
inline constexpr const char* kAnyHost = R"([^\x00-\x20/?#\\\x7f]+)";

class RequestLanguage {
 public:
  // Every request that a proxy lets through: the parts above.
  static RequestLanguage everything();
  // What the rules match. Errors: an expression that no automaton can hold, a placeholder.
  static Expected<RequestLanguage> of(const std::vector<ir::HttpRule>& rules);
  // What one filter lets pass; nullptr (no redirect) is everything.
  static Expected<RequestLanguage> of(const ir::ProxyFilter* filter);
  // Requests whose method, path and host match the expressions (RE2, in full); empty = any.
  static Expected<RequestLanguage> matching(const std::string& method, const std::string& path,
                                            const std::string& host);

  // Errors: more pieces or states than the budget.
  Expected<RequestLanguage> intersect(const RequestLanguage& other) const;
  // Requests of this that `other` has not, sent with the headers that their piece requires and no
  // others.
  Expected<RequestLanguage> subtract(const RequestLanguage& other) const;
  bool empty() const { return pieces_.empty(); }
  // The shortest method, path and host of the first piece, with its headers.
  std::optional<ir::HttpRequest> witness() const;

 private:
  struct Piece {
    ir::Dfa method, path, host;
    std::vector<ir::HeaderMatch> headers;  // sorted by name and value
  };
  // What the expressions match of the requests that there are; empty = any.
  static Expected<std::vector<Piece>> pieces(const std::string& method, const std::string& path,
                                             const std::string& host);

  std::vector<Piece> pieces_;  // no part of a piece is empty
};

}  // namespace policyc
