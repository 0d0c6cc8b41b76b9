// Answers in words: the verdict first, then each direction with the rules that decide it.
#pragma once

#include <string>
#include <vector>

#include "cli/question.h"
#include "ir/base/source.h"
#include "ir/evaluate.h"
#include "verifier/open_reach.h"

namespace policyc::cli {

// What the verdicts of a prepared question come to.
struct Answer {
  enum class Word { Yes, No, Depends } word = Word::No;
  std::string headline;                   // "yes: default/a can reach default/b on TCP/80"
  std::vector<std::string> lines;         // the explanation, indented, without line breaks
  std::vector<ir::FlowVerdict> verdicts;  // one for each flow; none where nobody answers there
  std::size_t deciding = 0;               // index of the flow that stands for the answer
};

std::string_view answer_word(Answer::Word word);  // "yes", "no", "it depends"

Answer answer(const ir::World& world, const SourceMap& sources, const PreparedQuestion& question);

// The lines for one verdict: both directions, the rules, the proxy's decision.
std::vector<std::string> explain_verdict(const ir::World& world, const SourceMap& sources,
                                         const ir::Flow& flow, const ir::FlowVerdict& verdict);

// What an answer about every pod that could exist adds to one about the pods of the input.
std::string_view any_pod_word(OpenAnswer::Kind kind);  // "holds", "fails", "not decided"
// `requests`: the claim was about HTTP requests.
std::vector<std::string> any_pod_lines(const OpenAnswer& any_pod, const SourceMap& sources,
                                       bool requests);

// "GET /a to default/backend on TCP/80"
std::string flow_text(const ir::World& world, const ir::Flow& flow);

}  // namespace policyc::cli
