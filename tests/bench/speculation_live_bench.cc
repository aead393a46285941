// What speculation gains on recorded answers when the kernels really run: decoding with drafters
// beside plain decoding of the same engine, interleaved in the same run.
//
//   speculation_live_bench --requests=FILE   from tests/bench/speculation_requests.py
//     --task=PREFIX                          only these
//     --batch=1,4,16                         sequences at the same time
//     --drafters=recycling,suffix            any of those and lookahead
//
// The model is a random Llama of about 430 MB in BF16, on two threads, whose every choice is forced
// to be the recorded token. So acceptance is a real model's (or a person's, where solutions are),
// and cost is that of real kernels; recycling learns successors alone, since what a random model
// holds probable says nothing. Sequences are the first of a task that are long enough, cut to
// 64 tokens of answer behind at most 512 of prompt; of a batch of less than four, as many one after
// the other as make four. Each repetition has a tenant of its own, so it
// begins with nothing learned. Speed is that of decoding, after the last of the first tokens.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "tests/bench/speculation_replay.h"
#include "workers/engine/engine.h"
#include "workers/model/checkpoint.h"
#include "workers/speculation/lookahead.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/suffix.h"

namespace octogate::bench {
namespace {

using workers::Engine;
using Clock = std::chrono::steady_clock;

constexpr int kVocabulary = 32000;
constexpr int kRepetitions = 5;
constexpr size_t kAnswerTokens = 64;
constexpr size_t kPromptTokens = 512;
constexpr int kMostSequences = 16;
constexpr size_t kLeastSequences = 4;
constexpr int kDraftNodes = 63;

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

// An answer has to be the recorded one. What forks from an answer's constraint, to look at drafts,
// is told nothing of that.
class Forced : public workers::TokenConstraint {
 public:
  Forced(const std::vector<int32_t>* output, int generation)
      : output_(output), generation_(generation) {}

  std::unique_ptr<TokenConstraint> Fork() const override {
    auto fork = std::make_unique<Forced>(output_, generation_ + 1);
    fork->next_ = next_;
    return fork;
  }
  size_t mask_words() const override { return (kVocabulary + 63) / 64; }
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
  const int generation_;  // 0: the request's, 1: the answer's
  size_t next_ = 0;
};

// A drafter that is not told what the model holds probable.
class WithoutCandidates : public workers::Drafter {
 public:
  explicit WithoutCandidates(std::unique_ptr<Drafter> drafter) : drafter_(std::move(drafter)) {}

  std::string_view name() const override { return drafter_->name(); }
  std::unique_ptr<workers::SequenceDrafter> Begin(std::string_view scope) override {
    return drafter_->Begin(scope);
  }
  uint64_t bytes() const override { return drafter_->bytes(); }

 private:
  const std::unique_ptr<Drafter> drafter_;
};

std::unique_ptr<workers::Drafter> MakeDrafter(const std::string& name) {
  if (name == "recycling") {
    return std::make_unique<WithoutCandidates>(std::make_unique<workers::RecyclingDrafter>(
        workers::RecyclingOptions{.table = {.vocab_size = kVocabulary}}));
  }
  if (name == "suffix") return std::make_unique<workers::SuffixDrafter>(workers::SuffixOptions{});
  if (name == "lookahead") {
    return std::make_unique<workers::LookaheadDrafter>(workers::LookaheadOptions{});
  }
  std::cerr << "there is no drafter '" << name << "' here\n";
  std::exit(2);
}

std::unique_ptr<Engine> Create(const std::shared_ptr<const workers::Checkpoint>& checkpoint,
                               const std::vector<std::string>& names) {
  std::vector<std::unique_ptr<workers::Drafter>> drafters;
  for (const std::string& name : names) drafters.push_back(MakeDrafter(name));
  return OrExit(Engine::Create(checkpoint, nullptr,
                               kernels::MakeCpuBackend({.threads = 2, .pin_threads = true}),
                               {.max_sequences = kMostSequences,
                                .max_rows_per_step = 256,
                                .kv_tokens = kMostSequences * 1024,
                                .share_prefixes = false,
                                .step_cost_time = absl::Seconds(3),
                                .kv_dtype = kernels::DType::kF16,
                                .max_draft_nodes = names.empty() ? 0 : kDraftNodes},
                               std::move(drafters)));
}

struct Decoding {
  double tokens = 0;  // after the last of the first tokens
  double seconds = 0;
  int64_t chosen = 0;  // by steps
  int64_t steps = 0;   // of a sequence; 0: it does not speculate

  double tokens_per_second() const { return tokens / seconds; }
  double mat() const {
    return steps == 0 ? 1 : static_cast<double>(chosen) / static_cast<double>(steps);
  }
};

// All requests at once.
Decoding Measure(Engine& engine, std::span<const RecordedRequest> requests,
                 const std::string& tenant) {
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
  for (const RecordedRequest& recorded : requests) {
    workers::GenerateRequest request;
    request.prompt = recorded.prompt;
    request.max_tokens = static_cast<int>(recorded.output.size());
    request.terms.tenant = tenant;
    request.constraint = std::make_shared<Forced>(&recorded.output, 0);
    auto first = std::make_shared<bool>(true);
    const auto submitted = engine.Submit(std::move(request), [&, first](const auto& event) {
      const Clock::time_point now = Clock::now();
      absl::MutexLock lock(&shared.mutex);
      if (shared.begun == requests.size()) {
        shared.tokens += static_cast<int>(event.ids.size());
        shared.last = now;
      }
      if (*first && ++shared.begun == requests.size()) shared.all_begun = now;
      *first = false;
      if (event.finish == workers::FinishReason::kNone) return;
      ++shared.ended;
      shared.generated += event.usage.generated_tokens - 1;
      if (event.speculation) shared.steps += event.speculation->steps - 1;
    });
    if (!submitted.ok()) OrExit<int>(submitted.status());
  }
  absl::MutexLock lock(&shared.mutex);
  const auto done = [&] { return shared.ended == requests.size(); };
  shared.mutex.Await(absl::Condition(&done));
  return {.tokens = static_cast<double>(shared.tokens),
          .seconds = std::chrono::duration<double>(shared.last - shared.all_begun).count(),
          .chosen = shared.generated,
          .steps = shared.steps};
}

// So many at once, one after the other.
Decoding Measure(Engine& engine, std::span<const RecordedRequest> requests, size_t batch,
                 const std::string& tenant) {
  Decoding sum;
  for (; requests.size() >= batch; requests = requests.subspan(batch)) {
    const Decoding part = Measure(engine, requests.first(batch), tenant);
    sum.tokens += part.tokens;
    sum.seconds += part.seconds;
    sum.chosen += part.chosen;
    sum.steps += part.steps;
  }
  return sum;
}

Decoding Median(std::vector<Decoding> all) {
  std::sort(all.begin(), all.end(), [](const Decoding& a, const Decoding& b) {
    return a.tokens_per_second() < b.tokens_per_second();
  });
  return all[all.size() / 2];
}

// Of each task the first that are long enough.
std::map<std::string, std::vector<RecordedRequest>> Choose(std::vector<RecordedRequest> requests,
                                                           const std::string& prefix) {
  std::map<std::string, std::vector<RecordedRequest>> tasks;
  for (RecordedRequest& request : requests) {
    const std::string task = request.task.substr(0, request.task.find(' '));
    std::vector<RecordedRequest>& chosen = tasks[task];
    if (!task.starts_with(prefix) || chosen.size() == kMostSequences ||
        request.output.size() < kAnswerTokens) {
      continue;
    }
    request.output.resize(kAnswerTokens);
    if (request.prompt.size() > kPromptTokens) {
      request.prompt.erase(request.prompt.begin(), request.prompt.end() - kPromptTokens);
    }
    chosen.push_back(std::move(request));
  }
  return tasks;
}

std::string Option(int argc, char** argv, const std::string& name, const std::string& otherwise) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument(argv[i]);
    if (argument.starts_with(name)) return std::string(argument.substr(name.size()));
  }
  return otherwise;
}

int Main(int argc, char** argv) {
  Report report("speculation_live", argc, argv);
  const std::string file = Option(argc, argv, "--requests=", "");
  if (file.empty()) {
    std::cerr << "--requests=FILE is missing\n";
    return 2;
  }
  const std::vector<std::string> drafters =
      absl::StrSplit(Option(argc, argv, "--drafters=", "recycling,suffix"), ',');
  const auto tasks = Choose(ReadRequests(file), Option(argc, argv, "--task=", ""));
  const TemporaryFolder folder;
  if (absl::Status status = WriteRandomCheckpoint({.vocab_size = kVocabulary}, folder.path());
      !status.ok()) {
    OrExit<int>(status);
  }
  const auto checkpoint =
      std::make_shared<const workers::Checkpoint>(OrExit(workers::Checkpoint::Open(folder.path())));
  const auto plain = Create(checkpoint, {});
  const auto speculating = Create(checkpoint, drafters);
  int tenants = 0;
  for (const std::string& text :
       std::vector<std::string>(absl::StrSplit(Option(argc, argv, "--batch=", "1,4,16"), ','))) {
    size_t batch = 0;
    if (!absl::SimpleAtoi(text, &batch) || batch < 1 || batch > kMostSequences) {
      std::cerr << "--batch is of numbers from 1 to " << kMostSequences << "\n";
      return 2;
    }
    for (const auto& [task, requests] : tasks) {
      const size_t count =
          std::min(requests.size() / batch, std::max<size_t>(1, kLeastSequences / batch)) * batch;
      if (count == 0) continue;
      const auto some = std::span(requests).first(count);
      std::vector<Decoding> all[2];
      for (int repetition = 0; repetition < kRepetitions; ++repetition) {
        const std::string tenant = absl::StrCat("tenant ", ++tenants);
        all[0].push_back(Measure(*plain, some, batch, tenant));
        all[1].push_back(Measure(*speculating, some, batch, tenant));
      }
      const Decoding without = Median(all[0]);
      const Decoding with = Median(all[1]);
      report.Add({.name = absl::StrCat("batch ", batch, ", ", task),
                  .value = with.tokens_per_second(),
                  .unit = "tokens/s",
                  .beside = absl::StrCat("plain, ", std::lround(without.tokens_per_second()),
                                         " tokens/s; MAT ", absl::SixDigits(with.mat())),
                  .ratio = with.tokens_per_second() / without.tokens_per_second(),
                  .aim = AtLeast(0.98, Aim::kRatio)});
      std::cerr << task << ", batch " << batch << ": " << with.tokens_per_second() << " / "
                << without.tokens_per_second() << " tokens/s, MAT " << with.mat() << "\n";
    }
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
