// Decoding speed by batch size and by context, beside what memory allows: a step reads every weight
// once and, for each sequence, the keys and values of its context. Shows whether there is a cliff:
// a larger batch should never give fewer tokens a second.
//
//   batch_bench [--json] [--only TEXT]
//
// --only restricts it to the names that hold TEXT, of "FORMAT, THREADS", e.g. "INT8, 2 threads".
// INT8 and INT4 have a scale for 32 weights, INT8 per channel and FP8 one for a row.
// The model is a random Llama of about 200 MB in BF16; keys and values are kept in F16.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/weight_format.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "workers/engine/engine.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

using kernels::Activations;
using kernels::WeightFormat;

constexpr RandomCheckpoint kShape{.num_layers = 6, .max_position_embeddings = 40960};
constexpr int kAnswerTokens = 24;
constexpr int kMaxBatch = 64;
constexpr int kShortContext = 128;  // of each sequence, where the batch is swept
constexpr int kLongestContext = 32768;

struct Format {
  WeightFormat format;
  const char* name;
  double bits;
  Activations activations = Activations::kF32;
};
constexpr Format kFormats[] = {
    {WeightFormat::kStored, "BF16", 16},
    {WeightFormat::kStored, "BF16 x BF16", 16, Activations::kBF16},
    {WeightFormat::kStored, "BF16 x BF16 pairs", 16, Activations::kBF16Pairs},
    {WeightFormat::kFp8, "FP8", 8},
    {WeightFormat::kFp8, "FP8 x BF16 pairs", 8, Activations::kBF16Pairs},
    {WeightFormat::kInt8, "INT8 per channel", 8},
    {WeightFormat::kInt8Group, "INT8", 8.5},
    {WeightFormat::kInt4Group, "INT4", 4.5},
};

// Tokens a second that the memory allows.
double Bound(const Format& format, double bandwidth, int batch, int context) {
  const double weights = static_cast<double>(BytesPerToken(kShape)) * format.bits / 16;
  const double kv_position =
      2.0 * kShape.num_layers * kShape.num_kv_heads *
      static_cast<double>(kernels::KvHeadBytes(kernels::DType::kF16, kShape.head_dim));
  return batch * bandwidth / (weights + batch * kv_position * context);
}

void Measure(workers::Engine& engine, const Format& format, int threads, double bandwidth,
             Report& report) {
  const std::string prefix = absl::StrCat(format.name, ", ", Threads(threads), ", ");
  double previous = 0;
  for (int batch = 1; batch <= kMaxBatch; batch *= 2) {
    const double rate =
        MeasureEngine(engine, batch, kShortContext, kAnswerTokens, 2).tokens_per_second;
    const double bound = Bound(format, bandwidth, batch, kShortContext + kAnswerTokens / 2);
    report.Add({.name = absl::StrCat(prefix, "batch ", batch),
                .value = rate,
                .unit = "tokens/s",
                .beside = absl::StrCat("bound by memory reads, ", std::lround(bound), " tokens/s"),
                .ratio = rate / bound});
    if (previous > 0) {
      report.Add({.name = absl::StrCat(prefix, "batch ", batch, " after ", batch / 2),
                  .value = rate,
                  .unit = "tokens/s",
                  .beside = absl::StrCat(std::lround(previous), " tokens/s"),
                  .ratio = rate / previous,
                  .aim = AtLeast(1, Aim::kRatio)});
    }
    previous = rate;
  }
  for (int context = 1024; context <= kLongestContext; context *= 4) {
    const int prompt = std::min(context, kLongestContext - kAnswerTokens);
    const double rate = MeasureEngine(engine, 1, prompt, kAnswerTokens, 1).tokens_per_second;
    const double bound = Bound(format, bandwidth, 1, prompt);
    report.Add({.name = absl::StrCat(prefix, "context ", context),
                .value = rate,
                .unit = "tokens/s",
                .beside = absl::StrCat("bound by memory reads, ", std::lround(bound), " tokens/s"),
                .ratio = rate / bound});
  }
}

int Main(int argc, char** argv) {
  Report report("batch", argc, argv);
  const std::string only = OnlyOf(argc, argv);
  const TemporaryFolder folder;
  const auto opened = OpenRandomCheckpoint(kShape, folder.path());
  if (!opened.ok()) {
    std::cerr << opened.status() << '\n';
    return 1;
  }
  const auto& checkpoint = *opened;
  for (const int threads : {1, 2}) {
    const double bandwidth = MeasureReadBandwidth(threads);
    for (const Format& format : kFormats) {
      if (absl::StrCat(format.name, ", ", Threads(threads)).find(only) == std::string::npos) {
        continue;
      }
      std::cerr << format.name << ", " << Threads(threads) << '\n';
      const auto engine = workers::Engine::Create(
          checkpoint, nullptr,
          kernels::MakeCpuBackend(
              {.threads = threads, .activations = format.activations, .pin_threads = true}),
          {.max_sequences = kMaxBatch,
           .max_rows_per_step = 512,
           .kv_tokens = kLongestContext + 1024,
           .share_prefixes = false,
           .weight_format = format.format,
           .kv_dtype = kernels::DType::kF16});
      if (!engine.ok()) {
        std::cerr << engine.status() << '\n';
        return 1;
      }
      MeasureEngine(**engine, 1, 8, 1, 1);  // brings the weights into memory
      Measure(**engine, format, threads, bandwidth, report);
    }
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
