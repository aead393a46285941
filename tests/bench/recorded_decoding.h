// Decodes recorded requests on an engine, and says how fast that was.
#ifndef OCTOGATE_TESTS_BENCH_RECORDED_DECODING_H_
#define OCTOGATE_TESTS_BENCH_RECORDED_DECODING_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/bench/speculation_replay.h"
#include "workers/engine/engine.h"

namespace octogate::bench {

struct DecodingTerms {
  size_t tokens = 0;  // of an answer
  double temperature = 0;
  // Answers end where the model ends them. Else they go on: a recorded one is forced upon the
  // model, one that is empty is its own.
  bool to_own_end = false;
  int vocab_size = 0;
  std::string tenant;
};

// Of one answer, since its request was submitted.
struct AnswerTimes {
  double first = 0;  // seconds until its first token
  double last = 0;   // until its last one
  int tokens = 0;

  // Seconds from one token to the next, where there are two.
  double between() const { return (last - first) / (tokens - 1); }
};

struct Decoding {
  double tokens = 0;  // after the last of the first tokens
  double seconds = 0;
  int64_t chosen = 0;  // by steps
  int64_t steps = 0;   // of a sequence; 0: it does not speculate
  // In the order of the requests.
  std::vector<std::vector<int32_t>> answers;
  std::vector<AnswerTimes> times;

  double tokens_per_second() const { return tokens / seconds; }
  double mat() const {
    return steps == 0 ? 1 : static_cast<double>(chosen) / static_cast<double>(steps);
  }
};

// So many requests at once, one such batch after the other, of all that there are. Speed is that
// after the last of the first tokens of a batch. Ends the program where one is refused.
Decoding Decode(workers::Engine& engine, std::span<const RecordedRequest> requests, size_t batch,
                const DecodingTerms& terms);

// By the speed.
Decoding Median(std::vector<Decoding> all);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_RECORDED_DECODING_H_
