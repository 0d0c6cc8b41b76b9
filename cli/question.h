// What-if questions: the sentence or the flags, turned into flows.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/names.h"
#include "ir/base/expected.h"
#include "ir/connectivity.h"
#include "ir/evaluate.h"

namespace policyc::cli {

struct Question {
  enum class Kind {
    Can,
    Who,
    What
  } kind = Kind::Can;  // can A reach B; who can reach B; what can A reach
  std::string from;    // as written; empty for Who
  std::string to;      // as written; empty for What
  std::optional<std::uint16_t> port;
  std::string port_name;  // "on http"
  std::optional<ir::Protocol> protocol;
  ir::L7Request l7;
};

// "can frontend POST /x to backend on 8080/TCP", "who can reach db on 5432", "what can web reach",
// "why can't a reach b". Case-insensitive. The error says what was not understood.
Expected<Question> parse_sentence(const std::string& sentence);

// "GET /path" → method and path; "produce topic" → Kafka.
Expected<ir::L7Request> parse_http(const std::string& text);
Expected<ir::L7Request> parse_kafka(const std::string& text);

// A port of a Service and where it leads at one back end.
struct BackEndPort {
  ir::ServicePort port;
  std::uint16_t target = 0;
};
// Where the Service's ports lead at this back end; a named target port that it lacks leads nowhere.
std::vector<BackEndPort> back_end_ports(const ir::World& world, const ir::Service& service,
                                        const ir::Party& back_end);
// `wanted` ports of the Service (empty = all that it has) as ports of this back end. ICMP, which no
// Service answers, is taken as meant for the back end. A Service without ports maps nothing.
std::vector<ir::PortSpan> back_end_spans(const ir::World& world, const ir::Service& service,
                                         const ir::Party& back_end,
                                         const std::vector<ir::PortSpan>& wanted);
// Whether the Service has one of these ports (empty = any).
bool has_service_port(const ir::Service& service, const std::vector<ir::PortSpan>& wanted);
// "Service shop/api has no port 8081; it has 80/TCP".
std::string lacks_port(const ir::Service& service, const std::string& port);
std::string lacks_port(const ir::Service& service, const std::vector<ir::PortSpan>& wanted);

// A question with its flows, one for each pair of parties and each port that may matter.
struct PreparedQuestion {
  std::vector<ir::Flow> flows;
  std::string nobody;  // no flows: nobody answers there, and why
  std::vector<std::string> notes;
  bool all_ports = false;  // no port was named: flows probe every port that may matter
  bool ranges = false;     // each stands for the ports up to the next of its protocol, too
};

Expected<PreparedQuestion> prepare(const ir::World& world, const Question& question,
                                   const std::string& ns);

}  // namespace policyc::cli
