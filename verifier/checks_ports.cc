#include <fmt/format.h>

#include "ir/base/diag_code.h"
#include "verifier/checks_context.h"
#include "verifier/checks_empty.h"

namespace policyc::checks {

void check_ports(Context& c) {
  check_empty(c);
  for (const ir::Rule& rule : c.rules()) {
    for (const ir::RuleItem& item : rule.items) {
      const char* verb = item.deny ? "denies" : "allows";
      for (const ir::PortRule& ports : item.ports) {
        for (const ir::Port& p : ports.ports) {
          const bool icmp = p.protocol == ir::kProtoIcmp || p.protocol == ir::kProtoIcmp6;
          const char* family = p.protocol == ir::kProtoIcmp6 ? "ICMPv6" : "ICMPv4";
          if (icmp && p.symbol.empty() && p.number == 0) {
            Diagnostic& d =
                c.report(DiagCode::IcmpTypeZero, rule, p.range,
                         fmt::format("type 0 {} every {} type", verb, family), item.origin.path);
            d.notes.push_back("replies to an allowed request pass without a rule");
            d.help = p.protocol == ir::kProtoIcmp6 ? "write type 128 (EchoRequest) for ping"
                                                   : "write type 8 (EchoRequest) for ping";
          }
          if (icmp && p.number > 255) {
            c.report(
                 DiagCode::IcmpTypeTooBig, rule, p.range,
                 fmt::format("there is no {} type {}: this entry matches nothing", family, p.text),
                 item.origin.path)
                .help = "write a type from 0 to 255, or its name";
          }
          if (p.ignored_end.known()) {
            c.report(DiagCode::EndPortIgnored, rule, p.ignored_end,
                     fmt::format("`endPort` is below `port`, so only port {} is meant", p.text),
                     item.origin.path)
                .help = "swap the two ports, or leave endPort out";
          }
        }
      }
    }
  }
}

}  // namespace policyc::checks
