#include "tests/bench/grammar_share.h"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/random_checkpoint.h"
#include "workers/engine/engine.h"
#include "workers/engine/generate.h"
#include "workers/grammar/grammar_constraint.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

using Clock = std::chrono::steady_clock;
using namespace workers;  // NOLINT: a benchmark of one library

constexpr int kAnswers = 8;
constexpr int kAnswerTokens = 64;

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

// Adds up the time that a constraint takes, of whoever forks from it. One answer at a time.
class TimedConstraint : public TokenConstraint {
 public:
  TimedConstraint(std::unique_ptr<TokenConstraint> timed, Clock::duration* total)
      : timed_(std::move(timed)), total_(total) {}

  std::unique_ptr<TokenConstraint> Fork() const override {
    return std::make_unique<TimedConstraint>(timed_->Fork(), total_);
  }
  size_t mask_words() const override { return timed_->mask_words(); }
  absl::Status FillMask(std::span<uint64_t> words) const override {
    const Clock::time_point start = Clock::now();
    absl::Status status = timed_->FillMask(words);
    *total_ += Clock::now() - start;
    return status;
  }
  absl::Status Accept(int32_t id) override {
    const Clock::time_point start = Clock::now();
    absl::Status status = timed_->Accept(id);
    *total_ += Clock::now() - start;
    return status;
  }

 private:
  const std::unique_ptr<TokenConstraint> timed_;
  Clock::duration* const total_;
};

// Of one mask, applied to logits.
double SecondsToApply(const CompiledGrammar& grammar) {
  constexpr int kRepetitions = 100;
  std::vector<uint64_t> words(grammar.mask_words(), 0x5555555555555555U);
  std::vector<float> logits(static_cast<size_t>(grammar.trie().vocab_size()), 1.0F);
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < kRepetitions; ++i) {
    if (absl::Status status = ApplyMask(words, logits); !status.ok()) OrExit<int>(status);
  }
  return std::chrono::duration<double>(Clock::now() - start).count() / kRepetitions;
}

void MeasureModel(const std::string& name, const RandomCheckpoint& shape,
                  const std::shared_ptr<const CompiledGrammar>& grammar, Report& report) {
  const TemporaryFolder folder;
  const auto checkpoint = OrExit(OpenRandomCheckpoint(shape, folder.path()));
  const auto engine = OrExit(Engine::Create(checkpoint, nullptr, kernels::MakeCpuBackend({}),
                                            {.max_sequences = 1, .kv_tokens = 1024}));
  Clock::duration constrained{};
  double decode = 0;
  int tokens = 0;
  for (int i = 0; i < kAnswers; ++i) {
    GenerateRequest request;
    request.prompt = {1, 2, 3 + i};
    request.max_tokens = kAnswerTokens;
    request.sampling.temperature = 1;
    request.sampling.seed = static_cast<uint64_t>(i);
    const std::span<const int32_t> ends = grammar->trie().end_ids();
    request.stop_token_ids.assign(ends.begin(), ends.end());
    request.constraint = std::make_shared<TimedConstraint>(
        std::make_unique<GrammarConstraint>(GrammarMatcher(grammar)), &constrained);
    const GeneratedText text = OrExit(Generate(*engine, std::move(request)));
    decode += absl::ToDoubleSeconds(text.timings.decode + text.timings.prefill);
    tokens += text.usage.generated_tokens;
  }
  const double grammar_seconds =
      std::chrono::duration<double>(constrained).count() + tokens * SecondsToApply(*grammar);
  report.Add({.name = absl::StrCat(name, ", share of a step of ", BytesPerToken(shape) / 1'000'000,
                                   " MB of weights"),
              .value = 100 * grammar_seconds / decode,
              .unit = "%",
              .beside = absl::StrCat(static_cast<int>(1e6 * decode / tokens), " us a step"),
              .aim = AtMost(10)});
}

}  // namespace

void MeasureShareOfSteps(const std::string& name,
                         const std::shared_ptr<const CompiledGrammar>& grammar, Report& report) {
  const int vocab_size = grammar->trie().vocab_size();
  MeasureModel(name,
               {.hidden_size = 256,
                .intermediate_size = 768,
                .num_layers = 4,
                .num_heads = 4,
                .num_kv_heads = 2,
                .vocab_size = vocab_size},
               grammar, report);
  MeasureModel(name, {.vocab_size = vocab_size}, grammar, report);
}

}  // namespace octogate::bench
