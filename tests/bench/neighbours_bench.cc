// What a long prompt costs those that decode beside it, and what a limit on that costs the prompt:
// sequences decode, a prompt arrives, and until its first token the time between the others'
// tokens is taken, with steps that are limited by --max-step-slowdown and without a limit.
//
//   neighbours_bench [--json] [--only TEXT]
//
// --only restricts it to the names that hold TEXT, of "FORMAT, N decode", e.g. "INT8, 4 decode".
// The model is a random Llama of about 200 MB in BF16, on two threads.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/weight_format.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "workers/engine/engine.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr RandomCheckpoint kShape{.num_layers = 6, .max_position_embeddings = 8192};
constexpr int kThreads = 2;
constexpr int kNeighbourPrompt = 64;
constexpr int kPrompt = 2048;
constexpr int kTokensAlone = 12;  // of each neighbour, before the prompt arrives
constexpr int kRepetitions = 2;
constexpr double kSlowdowns[] = {0, 16, 8, 6, 4, 3, 2, 1.5};

struct Format {
  kernels::WeightFormat format;
  const char* name;
  kernels::Activations activations = kernels::Activations::kF32;
};
constexpr Format kFormats[] = {
    {kernels::WeightFormat::kStored, "BF16 x BF16 pairs", kernels::Activations::kBF16Pairs},
    {kernels::WeightFormat::kInt8Group, "INT8"},
};

struct Times {
  double alone = 0;    // seconds between tokens of a neighbour, without the prompt: the median
  double beside = 0;   // with it: the median
  double longest = 0;  // with it
  double prompt = 0;   // seconds until the prompt's first token
};

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

workers::GenerateRequest Request(int seed, int prompt, int max_tokens) {
  workers::GenerateRequest request;
  for (int t = 0; t < prompt; ++t) request.prompt.push_back(1 + (seed * 31 + t * 7) % 300);
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  return request;
}

Times MeasureOnce(workers::Engine& engine, int neighbours) {
  struct Shared {
    absl::Mutex mutex;
    std::vector<std::vector<Clock::time_point>> tokens;
    int ended = 0;
    bool prompt_begun = false;
    Clock::time_point prompt_at;
    Clock::time_point prompt_token;
  } shared;
  shared.tokens.resize(static_cast<size_t>(neighbours));
  std::vector<std::shared_ptr<workers::Generation>> generations;
  const auto submit = [&](workers::GenerateRequest request, auto sink) {
    auto generation = engine.Submit(std::move(request), std::move(sink));
    if (!generation.ok()) {
      std::cerr << generation.status() << '\n';
      std::exit(1);
    }
    generations.push_back(*std::move(generation));
  };
  for (int i = 0; i < neighbours; ++i) {
    submit(Request(i, kNeighbourPrompt, kPrompt), [&shared, i](const auto& event) {
      const Clock::time_point now = Clock::now();
      absl::MutexLock lock(&shared.mutex);
      if (!event.ids.empty()) shared.tokens[static_cast<size_t>(i)].push_back(now);
      if (event.finish != workers::FinishReason::kNone) ++shared.ended;
    });
  }
  const auto all_decode = [&] {
    return std::all_of(shared.tokens.begin(), shared.tokens.end(),
                       [](const auto& times) { return times.size() > kTokensAlone; });
  };
  {
    absl::MutexLock lock(&shared.mutex);
    shared.mutex.Await(absl::Condition(&all_decode));
    shared.prompt_at = Clock::now();
  }
  submit(Request(neighbours, kPrompt, 1), [&shared](const auto& event) {
    const Clock::time_point now = Clock::now();
    absl::MutexLock lock(&shared.mutex);
    if (!event.ids.empty()) {
      shared.prompt_begun = true;
      shared.prompt_token = now;
    }
    if (event.finish != workers::FinishReason::kNone) ++shared.ended;
  });
  {
    absl::MutexLock lock(&shared.mutex);
    shared.mutex.Await(absl::Condition(&shared.prompt_begun));
  }
  for (const auto& generation : generations) generation->Cancel();
  absl::MutexLock lock(&shared.mutex);
  const auto done = [&] { return shared.ended == neighbours + 1; };
  shared.mutex.Await(absl::Condition(&done));

  std::vector<double> alone;
  std::vector<double> beside;
  for (const auto& times : shared.tokens) {
    for (size_t i = 2; i < times.size(); ++i) {
      const double seconds = Seconds(times[i] - times[i - 1]);
      if (times[i] < shared.prompt_at) alone.push_back(seconds);
      // Tokens of the step that gives the prompt's come just before it or just after.
      if (times[i - 1] > shared.prompt_at && times[i - 1] < shared.prompt_token) {
        beside.push_back(seconds);
      }
    }
  }
  return {.alone = Median(alone),
          .beside = Median(beside),
          .longest = beside.empty() ? 0 : *std::max_element(beside.begin(), beside.end()),
          .prompt = Seconds(shared.prompt_token - shared.prompt_at)};
}

void Measure(const std::shared_ptr<const workers::Checkpoint>& checkpoint, const Format& format,
             int neighbours, const std::string& name, Report& report) {
  double unlimited = 0;
  for (const double slowdown : kSlowdowns) {
    auto engine = workers::Engine::Create(
        checkpoint, nullptr,
        kernels::MakeCpuBackend(
            {.threads = kThreads, .activations = format.activations, .pin_threads = true}),
        {.max_sequences = 16,
         .max_rows_per_step = 256,
         .kv_tokens = 16 * 1024,
         .share_prefixes = false,
         .step_cost_time = absl::Seconds(1),
         .max_step_slowdown = slowdown,
         .weight_format = format.format});
    if (!engine.ok()) {
      std::cerr << engine.status() << '\n';
      std::exit(1);
    }
    Times best = MeasureOnce(**engine, neighbours);
    for (int i = 1; i < kRepetitions; ++i) {
      const Times times = MeasureOnce(**engine, neighbours);
      best.alone = std::min(best.alone, times.alone);
      best.beside = std::min(best.beside, times.beside);
      best.longest = std::min(best.longest, times.longest);
      best.prompt = std::min(best.prompt, times.prompt);
    }
    if (slowdown == 0) unlimited = best.prompt;
    const std::string cell =
        absl::StrCat(name, slowdown == 0 ? ", no limit" : absl::StrCat(", at most ", slowdown));
    const std::string alone = absl::StrCat("without the prompt, ", best.alone * 1e3, " ms");
    report.Add({.name = absl::StrCat(cell, ": between tokens"),
                .value = best.beside * 1e3,
                .unit = "ms",
                .beside = alone,
                .ratio = best.beside / best.alone});
    report.Add({.name = absl::StrCat(cell, ": between tokens, the longest"),
                .value = best.longest * 1e3,
                .unit = "ms",
                .beside = alone,
                .ratio = best.longest / best.alone});
    report.Add({.name = absl::StrCat(cell, ": the prompt's first token"),
                .value = best.prompt * 1e3,
                .unit = "ms",
                .beside = "without a limit",
                .ratio = best.prompt / unlimited});
  }
}

int Main(int argc, char** argv) {
  Report report("neighbours", argc, argv);
  const std::string only = OnlyOf(argc, argv);
  const TemporaryFolder folder;
  const auto opened = OpenRandomCheckpoint(kShape, folder.path());
  if (!opened.ok()) {
    std::cerr << opened.status() << '\n';
    return 1;
  }
  const auto& checkpoint = *opened;
  for (const Format& format : kFormats) {
    for (const int neighbours : {1, 4, 15}) {
      const std::string name = absl::StrCat(format.name, ", ", neighbours, " decode");
      if (name.find(only) == std::string::npos) continue;
      std::cerr << name << '\n';
      Measure(checkpoint, format, neighbours, name, report);
    }
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
