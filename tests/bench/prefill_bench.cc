// How fast the engine reads prompts, by weight format, length and threads, beside llama.cpp on the
// same weights.
//
//   prefill_bench [--json] [--only TEXT]
//
// --only restricts it to the names that hold TEXT, of "FORMAT, THREADS", e.g. "BF16, 1 thread".
// The model is the random Llama of decode_bench.
#include <cmath>
#include <iostream>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/weight_format.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/llama_cpp.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "workers/engine/engine.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

using kernels::Activations;
using kernels::WeightFormat;

constexpr int kRepetitions = 3;

struct Format {
  WeightFormat format;
  const char* name;
  const char* llama_cpp;  // null: none
  Activations activations = Activations::kF32;
};
constexpr Format kFormats[] = {
    {WeightFormat::kStored, "BF16", "bf16"},
    {WeightFormat::kStored, "BF16 x BF16", "bf16", Activations::kBF16},
    {WeightFormat::kStored, "BF16 x BF16 pairs", "bf16", Activations::kBF16Pairs},
    {WeightFormat::kFp8, "FP8", nullptr},
    {WeightFormat::kFp8, "FP8 x BF16 pairs", nullptr, Activations::kBF16Pairs},
    {WeightFormat::kInt8, "INT8 per channel", nullptr},
    {WeightFormat::kInt8Group, "INT8", "q8_0"},
    {WeightFormat::kInt4Group, "INT4", "q4_0"},
};

int Main(int argc, char** argv) {
  Report report("prefill", argc, argv);
  const std::string only = OnlyOf(argc, argv);
  const TemporaryFolder folder;
  const TemporaryFolder work;
  const auto opened = OpenRandomCheckpoint({}, folder.path());
  if (!opened.ok()) {
    std::cerr << opened.status() << '\n';
    return 1;
  }
  const auto& checkpoint = *opened;
  const auto llama_cpp = LlamaCpp::Start(folder.path(), work.path());
  for (const int threads : {1, 2}) {
    for (const Format& format : kFormats) {
      if (absl::StrCat(format.name, ", ", Threads(threads)).find(only) == std::string::npos) {
        continue;
      }
      std::cerr << format.name << ", " << Threads(threads) << '\n';
      const auto engine = workers::Engine::Create(
          checkpoint, nullptr,
          kernels::MakeCpuBackend(
              {.threads = threads, .activations = format.activations, .pin_threads = true}),
          {.max_sequences = 1,
           .max_rows_per_step = 512,
           .kv_tokens = 4096,
           .share_prefixes = false,
           .weight_format = format.format,
           .kv_dtype = kernels::DType::kF16});
      if (!engine.ok()) {
        std::cerr << engine.status() << '\n';
        return 1;
      }
      MeasureEngine(**engine, 1, 8, 1, 1);  // brings the weights into memory
      for (const int prompt : {32, 128, 512, 2048}) {
        const int repetitions = prompt > 512 ? 1 : kRepetitions;
        const double seconds =
            MeasureEngine(**engine, 1, prompt, 1, repetitions).first_token_seconds;
        Figure figure{.name = absl::StrCat("random Llama, ", format.name, ", ", prompt, " tokens, ",
                                           Threads(threads)),
                      .value = prompt / seconds,
                      .unit = "tokens/s"};
        const std::optional<LlamaCppSpeed> other =
            llama_cpp == nullptr || format.llama_cpp == nullptr
                ? std::nullopt
                : llama_cpp->Measure({.format = format.llama_cpp,
                                      .threads = threads,
                                      .batch = 1,
                                      .prompt = prompt,
                                      .answer = 1,
                                      .repetitions = repetitions});
        if (other.has_value()) {
          figure.beside = absl::StrCat("llama.cpp ", format.llama_cpp, ", ",
                                       std::lround(prompt / other->prompt_seconds), " tokens/s");
          figure.ratio = other->prompt_seconds / seconds;
          figure.aim = AtLeast(1, Aim::kRatio);
        }
        report.Add(std::move(figure));
      }
    }
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
