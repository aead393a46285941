#include "tests/bench/engine_speed.h"

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/host_memory.h"
#include "tests/bench/kernels_probes.h"

namespace octogate::bench {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

EngineSpeed MeasureOnce(workers::Engine& engine, int batch, int prompt, int answer) {
  struct Shared {
    absl::Mutex mutex;
    int begun = 0;
    int ended = 0;
    int tokens = 0;  // after all have begun
    Clock::time_point all_begun;
    Clock::time_point last;
  } shared;
  const Clock::time_point submitted = Clock::now();
  for (int i = 0; i < batch; ++i) {
    workers::GenerateRequest request;
    for (int t = 0; t < prompt; ++t) {
      request.prompt.push_back(1 + (i * 31 + t * 7) % 300);
    }
    request.max_tokens = answer;
    request.ignore_eos = true;
    request.sampling.logprobs = 0;  // as of requests to a server
    auto begun = std::make_shared<bool>(false);
    const auto generation =
        engine.Submit(std::move(request), [&shared, batch, begun](const auto& event) {
          const Clock::time_point now = Clock::now();
          absl::MutexLock lock(&shared.mutex);
          if (shared.begun == batch) {
            shared.tokens += static_cast<int>(event.ids.size());
            shared.last = now;
          }
          if (!*begun) {
            *begun = true;
            if (++shared.begun == batch) shared.all_begun = now;
          }
          if (event.finish != workers::FinishReason::kNone) ++shared.ended;
        });
    if (!generation.ok()) {
      std::cerr << generation.status() << '\n';
      std::exit(1);
    }
  }
  absl::MutexLock lock(&shared.mutex);
  const auto done = [&] { return shared.ended == batch; };
  shared.mutex.Await(absl::Condition(&done));
  return {.tokens_per_second =
              shared.tokens == 0 ? 0 : shared.tokens / Seconds(shared.last - shared.all_begun),
          .first_token_seconds = Seconds(shared.all_begun - submitted)};
}

// More than the caches hold, in the host's memory.
struct Memory {
  static constexpr size_t kBytes = size_t{512} << 20;

  Memory() : bytes(kernels::AllocateHost<uint8_t>(kBytes)) {
    if (bytes == nullptr) std::abort();
    std::memset(bytes.get(), 1, kBytes);
  }
  kernels::HostArray<uint8_t> bytes;
};

// Bytes per second of threads that each read `share` bytes by read(thread); the best of three.
template <typename Read>
double Measure(int threads, size_t share, const Read& read) {
  double best = 0;
  for (int repetition = 0; repetition < 3; ++repetition) {
    std::vector<uint64_t> sums(static_cast<size_t>(threads));
    std::vector<std::thread> readers;
    const Clock::time_point begin = Clock::now();
    for (size_t t = 0; t < sums.size(); ++t) {
      readers.emplace_back([&, t] { sums[t] = read(t); });
    }
    for (std::thread& reader : readers) reader.join();
    const double seconds = Seconds(Clock::now() - begin);
    volatile uint64_t keep = sums[0];  // the reads are not left out
    static_cast<void>(keep);
    best = std::max(best, static_cast<double>(share * sums.size()) / seconds);
  }
  return best;
}

}  // namespace

double MeasureReadBandwidth(int threads) {
  const Memory memory;
  const size_t share = Memory::kBytes / static_cast<size_t>(threads) / 1024 * 1024;
  double best = 0;
  for (const auto read : {ReadInOrder, ReadInParts}) {
    best = std::max(best, Measure(threads, share, [&](size_t t) {
                      return read(memory.bytes.get() + t * share, share);
                    }));
  }
  return best;
}

double MeasureRunBandwidth(int threads, size_t run_bytes) {
  const Memory memory;
  std::vector<uint32_t> order(Memory::kBytes / run_bytes);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  const size_t share = order.size() / static_cast<size_t>(threads);
  return Measure(threads, share * run_bytes, [&](size_t t) {
    return ReadRuns(memory.bytes.get(), run_bytes, std::span(order).subspan(t * share, share));
  });
}

EngineSpeed MeasureEngine(workers::Engine& engine, int batch, int prompt, int answer,
                          int repetitions) {
  EngineSpeed best = MeasureOnce(engine, batch, prompt, answer);
  for (int repetition = 1; repetition < repetitions; ++repetition) {
    const EngineSpeed speed = MeasureOnce(engine, batch, prompt, answer);
    best.tokens_per_second = std::max(best.tokens_per_second, speed.tokens_per_second);
    best.first_token_seconds = std::min(best.first_token_seconds, speed.first_token_seconds);
  }
  return best;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "octogate-bench-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    std::cerr << "cannot make " << name << '\n';
    std::exit(1);
  }
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Threads(int threads) {
  return absl::StrCat(threads, threads == 1 ? " thread" : " threads");
}

std::string OnlyOf(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--only") == 0) return argv[i + 1];
  }
  return "";
}

}  // namespace octogate::bench
