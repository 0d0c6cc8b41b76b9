// Does one L7 rule match one request? HTTP regexes are RE2, matched in full.
#pragma once

#include <string>
#include <string_view>

#include "ir/flow.h"
#include "ir/policy_set.h"
#include "ir/profile.h"
#include "ir/resolved.h"

namespace policyc::ir {

// Whether the text is a regex that RE2 accepts; the reason in `error` where not.
bool valid_regex(std::string_view regex, std::string* error);
// Full match; an invalid regex matches nothing.
bool regex_matches(const std::string& regex, std::string_view text);

// Length of the match at the start of the text, leftmost first; 0 where there is none.
std::size_t regex_prefix(const std::string& regex, std::string_view text);

bool http_matches(const HttpRule& rule, const HttpRequest& request);
bool kafka_matches(const KafkaRule& rule, const KafkaRequest& request);
// Whether the filter lets the request pass. Rules with placeholders count as matching nothing.
bool proxy_passes(const Profile& release, const ProxyFilter& filter, const L7Request& request);

// Kafka API key by name ("produce") or number ("0"); -1 when it is neither.
int kafka_api_key(std::string_view text);
// API keys of a role: produce or consume; empty for others.
std::vector<int> kafka_role_keys(std::string_view role);

}  // namespace policyc::ir
