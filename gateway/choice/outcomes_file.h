// A file of outcomes, from which choice nodes learn which member answers what right.
#ifndef OCTOGATE_GATEWAY_CHOICE_OUTCOMES_FILE_H_
#define OCTOGATE_GATEWAY_CHOICE_OUTCOMES_FILE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/graph.pb.h"
#include "router/outcomes.h"

namespace octogate::gateway {

struct OutcomesLimits {
  uintmax_t max_file_bytes = uintmax_t{512} << 20;
  size_t max_line_bytes = size_t{4} << 20;
  size_t max_query_bytes = size_t{64} << 10;
  size_t max_queries = 100'000;
  int64_t max_tokens = 1'000'000;
  double max_latency_ms = 3'600'000;
};

// Reads JSON lines: one object per line, empty lines skipped, with the keys
//   "query"     text, required, unlike those of other lines
//   "domain"    text; default: not known
//   "outcomes"  an object, required: by names of nodes true or false for a right or a wrong answer,
//               or an object with "correct" (required), "answer" (text, empty where none could be
//               found), "output_tokens" (whole number from 0) and "latency_ms" (0 or more)
// and no others. Outcomes of nodes that are no `members` are checked and left out, and so are
// queries without any other. Answers are kept in the normal form `same`. The first thing that is
// wrong is INVALID_ARGUMENT (RESOURCE_EXHAUSTED for limits) as "NAME:LINE: ...", and so is a file
// without an outcome of any member; a file that cannot be read is NOT_FOUND; DEADLINE_EXCEEDED
// where reading takes longer.
absl::StatusOr<router::OutcomeSet> ReadOutcomes(const std::filesystem::path& file,
                                                std::string_view name,
                                                const std::vector<std::string>& members,
                                                v1::AnswerForm same, absl::Time deadline,
                                                const OutcomesLimits& limits = {});

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CHOICE_OUTCOMES_FILE_H_
