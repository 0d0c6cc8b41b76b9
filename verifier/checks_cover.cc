#include <fmt/format.h>

#include <algorithm>

#include "ir/base/diag_code.h"
#include "ir/identity.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

bool plain(const ir::RuleItem& item) {
  if (item.deny || item.auth || !item.requires_.empty() || !contributes(item)) return false;
  return std::all_of(item.ports.begin(), item.ports.end(), [](const ir::PortRule& r) {
    return r.l7.parser == ir::Parser::None && r.l7.empty() && r.server_names.empty() &&
           !r.listener && r.tls == ir::TlsContext{};
  });
}

bool ports_cover(const ir::RuleItem& wide, const ir::RuleItem& narrow) {
  if (wide.all_l4) return true;
  if (narrow.all_l4) return false;
  for (const ir::PortRule& n : narrow.ports) {
    for (const ir::Port& p : n.ports) {
      const bool covered =
          std::any_of(wide.ports.begin(), wide.ports.end(), [&](const ir::PortRule& w) {
            return std::any_of(w.ports.begin(), w.ports.end(),
                               [&](const ir::Port& q) { return port_covers(q, p); });
          });
      if (!covered) return false;
    }
  }
  return true;
}

// Entities side by side (`host`, `cluster`, `kube-apiserver`) and names are written on purpose.
bool worth_saying(const ir::RuleItem& item) {
  return !item.any_peer && std::all_of(item.peers.begin(), item.peers.end(), [](const ir::Peer& p) {
    return (p.kind == ir::PeerKind::Endpoint || p.kind == ir::PeerKind::Cidr) &&
           !p.selector.wildcard() && !has_symbol(p.selector);
  });
}

bool item_covers(const Context& c, const ir::RuleItem& wide, const ir::RuleItem& narrow) {
  return wide.direction == narrow.direction && plain(wide) && ports_cover(wide, narrow) &&
         peers_cover(wide, narrow, c.world.settings);
}

// The peer of the wider item that takes in the first of the narrower.
const ir::Peer* covering_peer(const Context& c, const ir::RuleItem& wide,
                              const ir::RuleItem& narrow) {
  for (const ir::Peer& p : wide.peers) {
    if (selector_covers(p.selector, narrow.peers[0].selector, c.world.settings)) return &p;
  }
  return nullptr;
}

std::string who(const ir::Peer* cover) {
  if (cover == nullptr || (cover->selector.wildcard() && cover->text.empty())) return "everybody";
  return "`" + cover->text + "`";
}

// Somebody in particular is named, beside a `cluster` or `all` that takes everybody in on every
// port: one of the two is not meant. Everything else may be meant for the reader.
bool contradictory(const ir::RuleItem& wide, const ir::RuleItem& narrow, const ir::Peer* cover) {
  if (!wide.all_l4 || cover == nullptr || cover->kind != ir::PeerKind::Entity) return false;
  return std::any_of(narrow.peers.begin(), narrow.peers.end(), [](const ir::Peer& p) {
    return std::any_of(p.selector.requirements.begin(), p.selector.requirements.end(),
                       [](const ir::Requirement& r) { return r.key != ir::kNamespaceKey; });
  });
}

// Text that one anchor gives to two rules is one text, and no repetition.
bool same_text(const ir::RuleItem& a, const ir::RuleItem& b) {
  return a.origin.range == b.origin.range;
}

}  // namespace

void check_cover(Context& c) {
  for (const ir::Rule& rule : c.rules()) {
    for (std::size_t i = 0; i < rule.items.size(); ++i) {
      const ir::RuleItem& narrow = rule.items[i];
      if (!plain(narrow) || !worth_saying(narrow)) continue;
      for (std::size_t k = 0; k < rule.items.size(); ++k) {
        const ir::RuleItem& wide = rule.items[k];
        if (i == k || same_text(wide, narrow) || !item_covers(c, wide, narrow)) continue;
        const bool equal = item_covers(c, narrow, wide);
        if (equal && k > i) continue;  // of two equal items the later one is too much
        // One `from` list of a NetworkPolicy is split into items; its entries may well overlap.
        if (c.is_netpol(rule)) {
          const auto list = [](const ir::RuleItem& item) {
            return item.origin.path.substr(0, item.origin.path.rfind('.'));
          };
          if (list(wide) == list(narrow)) continue;
        }
        const ir::Peer* cover = covering_peer(c, wide, narrow);
        Diagnostic& d = c.report(
            DiagCode::RedundantItem, rule, narrow.origin.range,
            fmt::format("this item adds nothing: `{}` allows {} on the same ports, these peers "
                        "included",
                        wide.origin.path, who(cover)),
            narrow.origin.path);
        if (!contradictory(wide, narrow, cover)) d.severity = Severity::Note;
        d.labels.push_back(
            {wide.origin.range, equal ? "the same is allowed here" : "this allows more"});
        d.help = "delete the narrower item, or confine the wider one";
        break;
      }
    }
  }
}

}  // namespace policyc::checks
