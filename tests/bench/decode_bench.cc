// Decoding speed of the engine beside what memory allows: a token at batch 1 has to read every
// weight once, so no engine decodes faster than bandwidth / bytes per token.
//
//   decode_bench [--json] [--model FOLDER]
//
// The model is a random Llama of about 400 MB in BF16, larger than the caches, written to a
// temporary folder; --model measures that checkpoint too.
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "workers/engine/engine.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

using Clock = std::chrono::steady_clock;
using workers::Checkpoint;
using workers::Engine;

constexpr int kRepetitions = 3;     // the best counts: everything that disturbs makes it slower
constexpr int kPromptTokens = 128;  // of all requests of a batch together
constexpr int kAnswerTokens = 32;   // of each

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// Bytes per second at which `threads` threads together read memory that is in no cache.
double MeasureReadBandwidth(int threads) {
  constexpr size_t kBytes = size_t{512} << 20;
  std::vector<uint64_t> memory(kBytes / sizeof(uint64_t), 1);
  const size_t share = memory.size() / static_cast<size_t>(threads);
  double best = 0;
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    std::vector<uint64_t> sums(static_cast<size_t>(threads));
    std::vector<std::thread> readers;
    const Clock::time_point begin = Clock::now();
    for (size_t t = 0; t < static_cast<size_t>(threads); ++t) {
      readers.emplace_back([&, t] {
        uint64_t sum = 0;
        const uint64_t* data = memory.data() + t * share;
        for (size_t i = 0; i < share; ++i) sum += data[i];
        sums[t] = sum;
      });
    }
    for (std::thread& reader : readers) reader.join();
    const double seconds = Seconds(Clock::now() - begin);
    uint64_t total = 0;
    for (uint64_t sum : sums) total += sum;
    if (total != share * static_cast<size_t>(threads)) std::abort();  // keeps the reads alive
    best = std::max(best, static_cast<double>(total * sizeof(uint64_t)) / seconds);
  }
  return best;
}

struct Speed {
  double tokens_per_second = 0;
  double first_token_seconds = 0;
};

// `batch` equal requests at once. The rate counts what comes after the last of the first tokens.
Speed MeasureOnce(Engine& engine, int batch, int prompt_tokens) {
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
    for (int t = 0; t < prompt_tokens; ++t) request.prompt.push_back(1 + (i * 31 + t * 7) % 300);
    request.max_tokens = kAnswerTokens;
    request.ignore_eos = true;
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
  return {.tokens_per_second = shared.tokens / Seconds(shared.last - shared.all_begun),
          .first_token_seconds = Seconds(shared.all_begun - submitted)};
}

void MeasureModel(const std::string& name, const std::filesystem::path& folder,
                  uint64_t bytes_per_token, bool beyond_caches, Report& report) {
  absl::StatusOr<Checkpoint> opened = Checkpoint::Open(folder);
  if (!opened.ok()) {
    std::cerr << opened.status() << '\n';
    std::exit(1);
  }
  const auto checkpoint = std::make_shared<const Checkpoint>(*std::move(opened));
  for (int threads : {1, 2}) {
    std::cerr << name << ", " << threads << " threads\n";
    const double bandwidth = MeasureReadBandwidth(threads);
    report.Add({.name = absl::StrCat("memory read, ", threads, " threads"),
                .value = bandwidth / 1e9,
                .unit = "GB/s"});
    auto engine =
        Engine::Create(checkpoint, nullptr, kernels::MakeCpuBackend({.threads = threads}),
                       {.max_sequences = 16,
                        .max_rows_per_step = 256,
                        .kv_tokens = 16 * 256,
                        .share_prefixes = false});
    if (!engine.ok()) {
      std::cerr << engine.status() << '\n';
      std::exit(1);
    }
    MeasureOnce(**engine, 1, 8);  // brings the weights into memory
    for (int batch : {1, 4, 16}) {
      const int prompt_tokens = kPromptTokens / batch;
      Speed best;
      for (int repetition = 0; repetition < kRepetitions; ++repetition) {
        const Speed speed = MeasureOnce(**engine, batch, prompt_tokens);
        best.tokens_per_second = std::max(best.tokens_per_second, speed.tokens_per_second);
        best.first_token_seconds =
            repetition == 0 ? speed.first_token_seconds
                            : std::min(best.first_token_seconds, speed.first_token_seconds);
      }
      const std::string cell = absl::StrCat(name, ", batch ", batch, ", ", threads,
                                            threads == 1 ? " thread" : " threads");
      const double bound = batch * bandwidth / static_cast<double>(bytes_per_token);
      Figure rate{
          .name = absl::StrCat(cell, ": decode"),
          .value = best.tokens_per_second,
          .unit = "tokens/s",
          .beside = absl::StrCat("bound by memory reads, ", std::lround(bound), " tokens/s"),
          .ratio = best.tokens_per_second / bound};
      if (batch == 1 && beyond_caches) rate.aim = AtLeast(0.8, Aim::kRatio);
      report.Add(std::move(rate));
      report.Add({.name = absl::StrCat(cell, ": first token of ", batch, " x ", prompt_tokens),
                  .value = best.first_token_seconds * 1e3,
                  .unit = "ms"});
    }
  }
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "octogate-bench-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      std::cerr << "cannot make " << name << '\n';
      std::exit(1);
    }
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

int Main(int argc, char** argv) {
  Report report("decode", argc, argv);
  {
    const TemporaryFolder folder;
    const RandomCheckpoint shape;
    if (const absl::Status status = WriteRandomCheckpoint(shape, folder.path()); !status.ok()) {
      std::cerr << status << '\n';
      return 1;
    }
    MeasureModel("random Llama BF16", folder.path(), BytesPerToken(shape), true, report);
  }
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--model") != 0) continue;
    const std::filesystem::path folder = argv[i + 1];
    const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
    if (!checkpoint.ok()) {
      std::cerr << checkpoint.status() << '\n';
      return 1;
    }
    uint64_t bytes = checkpoint->weight_bytes();
    if (!checkpoint->config().tie_word_embeddings) {
      bytes -= checkpoint->weights().embed_tokens.size_bytes();
    }
    MeasureModel(folder.filename().string(), folder, bytes, false, report);
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
