// What it costs that sequences outgrow the KV cache together, by what becomes of those that lose
// their pages: they compute what they had again, or it is copied to host memory and back (swap), or
// the engine chooses by what it has measured; and without any limit, for comparison.
//
//   preemption_bench [--json] [--only TEXT]
//
// --only restricts it to the cells whose names hold TEXT, of "context CONTEXT, LINK, PREFIXES",
// e.g. "context 1024, host memory". A sequence ends at CONTEXT tokens, a quarter of which is its
// answer. 12 come at once, 4 run at a time, and the KV cache holds as many tokens as 2.5 of them
// have in the end. LINK is what pages are copied over: memory itself, or as slow as a rate says,
// which stands for hardware on which computing is the cheaper of the two. PREFIXES: whether pages
// that nobody owns are kept for who needs the same tokens.
//
// The model is a random Llama of 30 MB in BF16; keys and values are kept in F16. The ways take
// turns; every figure is the best of the rounds.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "tests/bench/slow_copies.h"
#include "workers/engine/engine.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

using Clock = std::chrono::steady_clock;
using workers::Checkpoint;
using workers::Engine;
using workers::EngineStats;

constexpr RandomCheckpoint kShape{.hidden_size = 512,
                                  .intermediate_size = 1536,
                                  .num_layers = 4,
                                  .num_heads = 8,
                                  .num_kv_heads = 4,
                                  .head_dim = 64,
                                  .vocab_size = 4096,
                                  .max_position_embeddings = 8192};
constexpr int kThreads = 2;
constexpr int kRequests = 12;
constexpr int kSequences = 4;
constexpr double kFitting = 2.5;  // whole sequences
constexpr int kRounds = 2;
constexpr uint64_t kSwapBytes = uint64_t{512} << 20;

struct Cell {
  int context;
  const char* link;
  double bytes_per_second;  // 0: memory's own
  bool share_prefixes;
};
constexpr Cell kCells[] = {
    {256, "host memory", 0, false},   {1024, "host memory", 0, false},
    {4096, "host memory", 0, false},  {1024, "host memory", 0, true},
    {256, "160 MB/s", 160e6, false},  {1024, "160 MB/s", 160e6, false},
    {4096, "160 MB/s", 160e6, false}, {256, "40 MB/s", 40e6, false},
    {1024, "40 MB/s", 40e6, false},   {4096, "40 MB/s", 40e6, false},
    {256, "10 MB/s", 10e6, false},    {1024, "10 MB/s", 10e6, false},
    {4096, "10 MB/s", 10e6, false},   {1024, "10 MB/s", 10e6, true},
};

std::string NameOf(const Cell& cell) {
  return absl::StrCat("context ", cell.context, ", ", cell.link, ", ",
                      cell.share_prefixes ? "prefixes kept" : "no prefixes");
}

enum Way { kUnlimited, kRecompute, kSwap, kChosen };
constexpr const char* kWayNames[] = {"unlimited", "recompute", "swap", "chosen"};

std::unique_ptr<Engine> CreateEngine(const std::shared_ptr<const Checkpoint>& checkpoint,
                                     const Cell& cell, Way way) {
  auto backend = kernels::MakeCpuBackend({.threads = kThreads, .pin_threads = true});
  if (cell.bytes_per_second > 0) {
    backend = MakeSlowCopies(std::move(backend), cell.bytes_per_second);
  }
  auto engine = Engine::Create(
      checkpoint, nullptr, std::move(backend),
      {.max_sequences = kSequences,
       .max_rows_per_step = 256,
       .kv_tokens =
           static_cast<int64_t>((way == kUnlimited ? kSequences + 1 : kFitting) * cell.context),
       .share_prefixes = cell.share_prefixes,
       .step_cost_time = way == kChosen ? absl::Seconds(1) : absl::ZeroDuration(),
       .kv_dtype = kernels::DType::kF16,
       .swap_bytes = way == kSwap || way == kChosen ? kSwapBytes : 0});
  if (!engine.ok()) {
    std::cerr << engine.status() << '\n';
    std::exit(1);
  }
  return *std::move(engine);
}

struct Outcome {
  double seconds = 0;       // until the last request has ended
  double mean_seconds = 0;  // that a request took
};

Outcome Run(Engine& engine, int context) {
  struct Shared {
    absl::Mutex mutex;
    int ended = 0;
    Outcome outcome;
  } shared;
  const int answer = context / 4;
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < kRequests; ++i) {
    workers::GenerateRequest request;
    // No two requests begin alike.
    for (int t = 0; t < context - answer; ++t)
      request.prompt.push_back(1 + (i * 31 + t * 7) % 4000);
    request.max_tokens = answer;
    request.ignore_eos = true;
    const auto generation = engine.Submit(std::move(request), [&](const auto& event) {
      if (event.finish == workers::FinishReason::kNone) return;
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      absl::MutexLock lock(&shared.mutex);
      shared.outcome.seconds = std::max(shared.outcome.seconds, seconds);
      shared.outcome.mean_seconds += seconds / kRequests;
      ++shared.ended;
    });
    if (!generation.ok()) {
      std::cerr << generation.status() << '\n';
      std::exit(1);
    }
  }
  absl::MutexLock lock(&shared.mutex);
  const auto done = [&] { return shared.ended == kRequests; };
  shared.mutex.Await(absl::Condition(&done));
  return shared.outcome;
}

void Measure(const std::shared_ptr<const Checkpoint>& checkpoint, const Cell& cell,
             Report& report) {
  constexpr int kWays = 4;
  Outcome best[kWays];
  EngineStats stats[kWays];
  for (int round = 0; round < kRounds; ++round) {
    for (int way = 0; way < kWays; ++way) {
      // A new one each time: nothing is left of the round before.
      const auto engine = CreateEngine(checkpoint, cell, static_cast<Way>(way));
      const Outcome outcome = Run(*engine, cell.context);
      if (round == 0 || outcome.seconds < best[way].seconds) best[way] = outcome;
      if (!engine->Drain(absl::Now() + absl::Seconds(10)).ok()) std::abort();
      stats[way] = engine->stats();
    }
  }
  const double tokens = kRequests * static_cast<double>(cell.context / 4);
  const double better = tokens / std::min(best[kRecompute].seconds, best[kSwap].seconds);
  for (int way = 0; way < kWays; ++way) {
    const std::string name = absl::StrCat(NameOf(cell), ", ", kWayNames[way]);
    const double rate = tokens / best[way].seconds;
    Figure figure{.name = name, .value = rate, .unit = "tokens/s"};
    if (way != kUnlimited) {
      figure.beside = absl::StrCat("the better of recompute and swap, ", std::lround(better));
      figure.ratio = rate / better;
    }
    if (way == kChosen) figure.aim = AtLeast(0.97, Aim::kRatio);
    report.Add(std::move(figure));
    report.Add({.name = absl::StrCat(name, ": a request takes on average"),
                .value = best[way].mean_seconds,
                .unit = "s",
                .beside = absl::StrCat(stats[way].preemptions, " preemptions, ",
                                       stats[way].preemptions_saved, " saved, ",
                                       stats[way].recomputed_tokens, " tokens computed again, ",
                                       stats[way].restored_tokens, " restored")});
  }
}

int Main(int argc, char** argv) {
  Report report("preemption", argc, argv);
  const std::string only = OnlyOf(argc, argv);
  const TemporaryFolder folder;
  const auto opened = OpenRandomCheckpoint(kShape, folder.path());
  if (!opened.ok()) {
    std::cerr << opened.status() << '\n';
    return 1;
  }
  const auto& checkpoint = *opened;
  for (const Cell& cell : kCells) {
    if (NameOf(cell).find(only) == std::string::npos) continue;
    std::cerr << NameOf(cell) << '\n';
    Measure(checkpoint, cell, report);
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
