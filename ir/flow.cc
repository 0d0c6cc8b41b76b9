#include "ir/flow.h"

namespace policyc::ir {

std::string_view verdict_name(VerdictKind kind) {
  switch (kind) {
    case VerdictKind::Allow:
      return "allow";
    case VerdictKind::Deny:
      return "deny";
    case VerdictKind::Redirect:
      return "redirect";
    case VerdictKind::Error:
      return "error";
    case VerdictKind::Depends:
      return "depends";
  }
  return "";
}

std::string_view reason_name(Reason reason) {
  switch (reason) {
    case Reason::NoPolicy:
      return "no-policy";
    case Reason::Rule:
      return "rule";
    case Reason::Localhost:
      return "localhost";
    case Reason::NonDefaultDeny:
      return "non-default-deny";
    case Reason::DefaultDeny:
      return "default-deny";
    case Reason::PolicyDeny:
      return "policy-deny";
    case Reason::Error:
      return "error";
    case Reason::None:
      return "";
  }
  return "";
}

std::string_view auth_name(AuthType type) {
  switch (type) {
    case AuthType::Disabled:
      return "disabled";
    case AuthType::Spire:
      return "spire";
    case AuthType::AlwaysFail:
      return "test-always-fail";
  }
  return "";
}

}  // namespace policyc::ir
