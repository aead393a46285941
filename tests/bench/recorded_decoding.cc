#include "tests/bench/recorded_decoding.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "workers/engine/token_constraint.h"

namespace octogate::bench {
namespace {

using Clock = std::chrono::steady_clock;

// An answer has to be the recorded one. What forks from an answer's constraint, to look at drafts,
// is told nothing of that.
class Forced : public workers::TokenConstraint {
 public:
  Forced(const std::vector<int32_t>* output, int vocab_size, int generation)
      : output_(output), vocab_size_(vocab_size), generation_(generation) {}

  std::unique_ptr<TokenConstraint> Fork() const override {
    auto fork = std::make_unique<Forced>(output_, vocab_size_, generation_ + 1);
    fork->next_ = next_;
    return fork;
  }
  size_t mask_words() const override { return (static_cast<size_t>(vocab_size_) + 63) / 64; }
  absl::Status FillMask(std::span<uint64_t> words) const override {
    std::fill(words.begin(), words.end(), generation_ > 1 ? ~uint64_t{0} : 0);
    if (generation_ > 1) return absl::OkStatus();
    const int32_t id = (*output_)[std::min(next_, output_->size() - 1)];
    words[static_cast<size_t>(id) / 64] |= uint64_t{1} << id % 64;
    return absl::OkStatus();
  }
  absl::Status Accept(int32_t /*id*/) override {
    ++next_;
    return absl::OkStatus();
  }

 private:
  const std::vector<int32_t>* const output_;
  const int vocab_size_;
  const int generation_;  // 0: the request's, 1: the answer's
  size_t next_ = 0;
};

// All requests at once.
Decoding DecodeTogether(workers::Engine& engine, std::span<const RecordedRequest> requests,
                        const DecodingTerms& terms) {
  struct Shared {
    absl::Mutex mutex;
    size_t begun = 0;
    size_t ended = 0;
    int tokens = 0;  // after all have begun
    Clock::time_point all_begun;
    Clock::time_point last;
    int generated = 0;  // but the first of each
    int64_t steps = 0;
  } shared;
  std::vector<std::vector<int32_t>> answers(requests.size());
  std::vector<AnswerTimes> times(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    const RecordedRequest& recorded = requests[i];
    workers::GenerateRequest request;
    request.prompt = recorded.prompt;
    request.max_tokens = static_cast<int>(terms.tokens);
    request.terms.tenant = terms.tenant;
    request.sampling.temperature = static_cast<float>(terms.temperature);
    // The same in plain decoding and beside it: the tenant is.
    request.sampling.seed = std::hash<std::string>()(terms.tenant) + requests.size() + i;
    if (terms.to_own_end) {
      request.ignore_eos = false;
    } else if (recorded.output.empty()) {
      request.ignore_eos = true;
    } else {
      request.constraint = std::make_shared<Forced>(&recorded.output, terms.vocab_size, 0);
    }
    const Clock::time_point submitted_at = Clock::now();
    const auto submitted =
        engine.Submit(std::move(request), [&, i, submitted_at](const auto& event) {
          const Clock::time_point now = Clock::now();
          absl::MutexLock lock(&shared.mutex);
          if (shared.begun == requests.size()) {
            shared.tokens += static_cast<int>(event.ids.size());
            shared.last = now;
          }
          const double since = std::chrono::duration<double>(now - submitted_at).count();
          if (answers[i].empty() && !event.ids.empty()) {
            times[i].first = since;
            if (++shared.begun == requests.size()) shared.all_begun = now;
          }
          answers[i].insert(answers[i].end(), event.ids.begin(), event.ids.end());
          times[i].last = since;
          times[i].tokens = static_cast<int>(answers[i].size());
          if (event.finish == workers::FinishReason::kNone) return;
          ++shared.ended;
          shared.generated += event.usage.generated_tokens - 1;
          if (event.speculation) shared.steps += event.speculation->steps - 1;
        });
    if (!submitted.ok()) {
      std::cerr << submitted.status() << "\n";
      std::exit(1);
    }
  }
  absl::MutexLock lock(&shared.mutex);
  const auto done = [&] { return shared.ended == requests.size(); };
  shared.mutex.Await(absl::Condition(&done));
  return {.tokens = static_cast<double>(shared.tokens),
          .seconds = std::chrono::duration<double>(shared.last - shared.all_begun).count(),
          .chosen = shared.generated,
          .steps = shared.steps,
          .answers = std::move(answers),
          .times = std::move(times)};
}

}  // namespace

Decoding Decode(workers::Engine& engine, std::span<const RecordedRequest> requests, size_t batch,
                const DecodingTerms& terms) {
  Decoding sum;
  for (; requests.size() >= batch; requests = requests.subspan(batch)) {
    Decoding part = DecodeTogether(engine, requests.first(batch), terms);
    sum.tokens += part.tokens;
    sum.seconds += part.seconds;
    sum.chosen += part.chosen;
    sum.steps += part.steps;
    std::move(part.answers.begin(), part.answers.end(), std::back_inserter(sum.answers));
    sum.times.insert(sum.times.end(), part.times.begin(), part.times.end());
  }
  return sum;
}

Decoding Median(std::vector<Decoding> all) {
  std::sort(all.begin(), all.end(), [](const Decoding& a, const Decoding& b) {
    return a.tokens_per_second() < b.tokens_per_second();
  });
  return all[all.size() / 2];
}

}  // namespace octogate::bench
