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

class RequestLanguage {
 public:
  // Every request that HTTP knows: a method of letters, a path that begins with `/`, some host.
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
  std::vector<Piece> pieces_;  // no part of a piece is empty
};

}  // namespace policyc
