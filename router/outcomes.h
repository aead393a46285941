// What is known of which members of a choice answered which queries right.
#ifndef OCTOGATE_ROUTER_OUTCOMES_H_
#define OCTOGATE_ROUTER_OUTCOMES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace octogate::router {

// How one member did on one query.
struct MemberOutcome {
  bool known = false;  // Otherwise nothing below counts.
  bool correct = false;
  bool has_answer = false;    // Whether `answer` is known.
  std::string answer;         // In a normal form of the caller's; empty: none could be found.
  int64_t output_tokens = 0;  // 0: not known.
  double latency_ms = -1;     // Negative: not known.
};

struct QueryOutcomes {
  std::string query;
  std::string domain;                  // Empty: not known.
  std::vector<MemberOutcome> members;  // One for each of OutcomeSet::members.
};

struct OutcomeSet {
  std::vector<std::string> members;
  std::vector<QueryOutcomes> queries;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_OUTCOMES_H_
