#include "ir/resolved.h"

#include <algorithm>

namespace policyc::ir {

std::size_t PolicyTable::column(L4Key key) const {
  const auto it = std::upper_bound(column_begin.begin(), column_begin.end(), key);
  return static_cast<std::size_t>(it - column_begin.begin()) - 1;
}

const VerdictRecord& PolicyTable::lookup(IdentityIndex identity, Protocol protocol,
                                         std::uint16_t port) const {
  return records[cells[class_of[identity] * columns() + column(l4_key(protocol, port))]];
}

IdentityIndex NodeView::identity_of(const IpAddress& ip) const {
  for (int length = ip.bits(); length >= 0; --length) {
    const Prefix p = make_prefix(ip, length);
    const auto it = std::lower_bound(ipcache.begin(), ipcache.end(), p,
                                     [](const auto& e, const Prefix& q) { return e.first < q; });
    if (it != ipcache.end() && it->first == p) return it->second;
  }
  return 0;
}

}  // namespace policyc::ir
