// Runs many requests on an engine and collects what came of them, for tests.
#ifndef OCTOGATE_TESTS_WORKERS_ENGINE_RUN_REQUESTS_H_
#define OCTOGATE_TESTS_WORKERS_ENGINE_RUN_REQUESTS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "workers/engine/engine.h"

namespace octogate::workers {

inline constexpr absl::Duration kLong = absl::Seconds(300);

// What came of one request.
struct Outcome {
  std::vector<int32_t> ids;
  std::string text;
  std::vector<float> logprobs;  // of each token, then of the most probable beside it
  FinishReason finish = FinishReason::kNone;
  int preemptions = 0;
  int cached_tokens = 0;
  int shared_tokens = 0;
  int last_events = 0;
  int64_t drafted = 0;   // tokens that were verified
  int64_t accepted = 0;  // of these
};

// That goes on to its last token, with log-probabilities of the chosen ones and of so many beside.
inline GenerateRequest RequestFor(std::vector<int32_t> prompt, int max_tokens,
                                  std::string salt = "", int logprobs = 0) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  request.sampling.logprobs = logprobs;
  request.terms.cache_salt = std::move(salt);
  return request;
}

// Runs all requests, one after another or `together`: then all are there before any begins.
// `cancel_after`: tokens after which each of them is cancelled; empty: none is.
inline std::vector<Outcome> RunAll(Engine& engine, const std::vector<GenerateRequest>& requests,
                                   bool together, const std::vector<size_t>& cancel_after = {}) {
  std::vector<Outcome> outcomes(requests.size());
  absl::Mutex mutex;
  size_t ended = 0;
  absl::Notification all_submitted;
  if (together) {
    GenerateRequest first;
    first.prompt = {1};
    first.max_tokens = 1;
    EXPECT_TRUE(engine
                    .Submit(first,
                            [&](const GenerateEvent&) {
                              all_submitted.WaitForNotification();  // holds the engine's thread
                            })
                    .ok());
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto handle = std::make_shared<Generation>();
    const auto take = [&, i, handle](const GenerateEvent& event) {
      absl::MutexLock lock(&mutex);
      Outcome& outcome = outcomes[i];
      outcome.ids.insert(outcome.ids.end(), event.ids.begin(), event.ids.end());
      if (!cancel_after.empty() && outcome.ids.size() >= cancel_after[i]) handle->Cancel();
      outcome.text += event.text;
      for (const TokenLogprobs& token : event.logprobs) {
        outcome.logprobs.push_back(token.logprob);
        for (const TokenLogprob& top : token.top) outcome.logprobs.push_back(top.logprob);
      }
      if (event.finish == FinishReason::kNone) return;
      outcome.finish = event.finish;
      outcome.preemptions = event.timings.preemptions;
      outcome.cached_tokens = event.usage.cached_tokens;
      outcome.shared_tokens = event.usage.shared_tokens;
      if (event.speculation) {
        outcome.drafted = event.speculation->tokens.drafted;
        outcome.accepted = event.speculation->tokens.accepted;
      }
      ++outcome.last_events;
      ++ended;
    };
    const auto generation = engine.Submit(requests[i], take, handle);
    EXPECT_TRUE(generation.ok()) << generation.status();
    const size_t wanted = together ? requests.size() : i + 1;
    if (together && i + 1 == requests.size()) all_submitted.Notify();
    if (!together || i + 1 == requests.size()) {
      absl::MutexLock lock(&mutex);
      const auto reached = [&] { return ended == wanted; };
      EXPECT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&reached), kLong));
    }
  }
  return outcomes;
}

// Bit for bit.
inline void ExpectSameAnswers(const std::vector<Outcome>& got,
                              const std::vector<Outcome>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(got[i].ids, expected[i].ids);
    EXPECT_EQ(got[i].text, expected[i].text);
    EXPECT_EQ(got[i].finish, expected[i].finish);
    EXPECT_EQ(got[i].last_events, 1);
    ASSERT_EQ(got[i].logprobs.size(), expected[i].logprobs.size());
    if (got[i].logprobs.empty()) continue;
    EXPECT_EQ(std::memcmp(got[i].logprobs.data(), expected[i].logprobs.data(),
                          got[i].logprobs.size() * sizeof(float)),
              0);
  }
}

// Bit for bit, as far as those that were cancelled came.
inline void ExpectBeginnings(const std::vector<Outcome>& got,
                             const std::vector<Outcome>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(got[i].last_events, 1);
    if (got[i].finish != FinishReason::kCancelled) {
      ExpectSameAnswers({got[i]}, {expected[i]});
      continue;
    }
    ASSERT_LE(got[i].ids.size(), expected[i].ids.size());
    EXPECT_TRUE(std::equal(got[i].ids.begin(), got[i].ids.end(), expected[i].ids.begin()));
    ASSERT_LE(got[i].logprobs.size(), expected[i].logprobs.size());
    if (got[i].logprobs.empty()) continue;
    EXPECT_EQ(std::memcmp(got[i].logprobs.data(), expected[i].logprobs.data(),
                          got[i].logprobs.size() * sizeof(float)),
              0);
  }
}

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_ENGINE_RUN_REQUESTS_H_
