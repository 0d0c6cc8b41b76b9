// HTTP rules as tables and C text of a program that decides request heads itself.
#pragma once

#include <string>
#include <vector>

#include "backend-bpf/image.h"
#include "ir/automata/dfa.h"
#include "ir/base/expected.h"
#include "ir/resolved.h"

namespace policyc::bpf {

// templates/http.bpf.c as it was at build time.
extern const char* const kTemplateHttp;

// Most bytes that the tables of one program's filters may take.
inline constexpr std::size_t kHttpTableBudget = std::size_t{4} << 20U;

// C text with `int http_head(u32 filter, const u8 *p, const u8 *end)`: the label that
// automata[filter - 1] gives the bytes (ir::HeadVerdict), HTTP_UNDECIDED for other filters and for
// heads above 1,543 bytes. No helpers, no maps but read-only data. Equal automata give equal text.
// Errors: "too large" for the budget.
Expected<std::string> http_text(const std::vector<ir::Dfa>& automata,
                                std::size_t budget = kHttpTableBudget);

// The HTTP rules of one policy that its program decides itself.
struct HttpPlan {
  std::string text;           // for ProgramSpec::http; empty: none
  HttpFilterNumbers numbers;  // for encode_policy
  // Why a list of rules stays with the proxy: each reason once.
  std::vector<std::string> left_to_proxy;
};
HttpPlan plan_http(const ir::PolicyTable& ingress, const ir::PolicyTable& egress);

}  // namespace policyc::bpf
