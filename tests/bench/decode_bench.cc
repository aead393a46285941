// Decoding speed of the engine by weight format, beside what memory allows (a token at batch 1 has
// to read every weight once, so no engine decodes faster than bandwidth / bytes per token) and
// beside llama.cpp on the same weights.
//
//   decode_bench [--json] [--model FOLDER] [--only TEXT]
//
// --only restricts it to the names that hold TEXT, of "FORMAT, THREADS", e.g. "BF16, 1 thread".
// INT8 and INT4 have a scale for 32 weights, INT8 per channel and FP8 one for a row.
// The model is a random Llama of about 400 MB in BF16, larger than the caches, written to a
// temporary folder; --model measures that checkpoint too, in the format that it has.
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
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
using workers::Checkpoint;
using workers::Engine;

constexpr int kRepetitions = 3;
constexpr int kPromptTokens = 128;  // of all requests of a batch together
constexpr int kAnswerTokens = 32;   // of each

// A format, what a weight takes in it, and the one of llama.cpp that is measured beside it.
struct Format {
  WeightFormat format;
  const char* name;
  double bits;
  const char* llama_cpp;  // null: none
  Activations activations = Activations::kF32;
};
constexpr Format kFormats[] = {
    {WeightFormat::kStored, "BF16", 16, "bf16"},
    {WeightFormat::kStored, "BF16 x BF16", 16, "bf16", Activations::kBF16},
    {WeightFormat::kStored, "BF16 x BF16 pairs", 16, "bf16", Activations::kBF16Pairs},
    {WeightFormat::kFp8, "FP8", 8, nullptr},
    {WeightFormat::kFp8, "FP8 x BF16 pairs", 8, nullptr, Activations::kBF16Pairs},
    {WeightFormat::kInt8, "INT8 per channel", 8, nullptr},
    {WeightFormat::kInt8Group, "INT8", 8.5, "q8_0"},
    {WeightFormat::kInt4Group, "INT4", 4.5, "q4_0"},
};

// Where a model is measured: its folder, and bytes that every token reads in BF16.
struct Model {
  std::string name;
  std::filesystem::path folder;
  uint64_t bytes_per_token = 0;
  bool beyond_caches = false;
};

std::unique_ptr<Engine> CreateEngine(const std::shared_ptr<const Checkpoint>& checkpoint,
                                     const Format& format, int threads) {
  auto engine = Engine::Create(
      checkpoint, nullptr,
      kernels::MakeCpuBackend(
          {.threads = threads, .activations = format.activations, .pin_threads = true}),
      {.max_sequences = 16,
       .max_rows_per_step = 256,
       .kv_tokens = 16 * 256,
       .share_prefixes = false,
       .weight_format = format.format,
       .kv_dtype = kernels::DType::kF16});
  if (!engine.ok()) {
    std::cerr << engine.status() << '\n';
    std::exit(1);
  }
  return *std::move(engine);
}

void MeasureCells(const Model& model, const Format& format, int threads, double bandwidth,
                  Engine& engine, LlamaCpp* llama_cpp, Report& report) {
  for (const int batch : {1, 4, 16}) {
    const int prompt = kPromptTokens / batch;
    const EngineSpeed speed = MeasureEngine(engine, batch, prompt, kAnswerTokens, kRepetitions);
    const std::string cell =
        absl::StrCat(model.name, ", ", format.name, ", batch ", batch, ", ", Threads(threads));
    const double bytes = static_cast<double>(model.bytes_per_token) * format.bits / 16;
    const double bound = batch * bandwidth / bytes;
    Figure rate{.name = absl::StrCat(cell, ": decode"),
                .value = speed.tokens_per_second,
                .unit = "tokens/s",
                .beside = absl::StrCat("bound by memory reads, ", std::lround(bound), " tokens/s"),
                .ratio = speed.tokens_per_second / bound};
    if (batch == 1 && model.beyond_caches) rate.aim = AtLeast(0.85, Aim::kRatio);
    report.Add(std::move(rate));
    if (llama_cpp != nullptr && format.llama_cpp != nullptr) {
      const std::optional<LlamaCppSpeed> other = llama_cpp->Measure({.format = format.llama_cpp,
                                                                     .threads = threads,
                                                                     .batch = batch,
                                                                     .prompt = prompt,
                                                                     .answer = kAnswerTokens - 1,
                                                                     .repetitions = kRepetitions});
      if (other.has_value()) {
        const double rate_of_other = batch * (kAnswerTokens - 1) / other->decode_seconds;
        report.Add({.name = absl::StrCat(cell, ": decode"),
                    .value = speed.tokens_per_second,
                    .unit = "tokens/s",
                    .beside = absl::StrCat("llama.cpp ", format.llama_cpp, ", ",
                                           std::lround(rate_of_other), " tokens/s"),
                    .ratio = speed.tokens_per_second / rate_of_other,
                    .aim = AtLeast(1, Aim::kRatio)});
      }
    }
    report.Add({.name = absl::StrCat(cell, ": first token of ", batch, " x ", prompt),
                .value = speed.first_token_seconds * 1e3,
                .unit = "ms"});
  }
}

void MeasureModel(const Model& model, std::span<const Format> formats, const std::string& only,
                  Report& report) {
  absl::StatusOr<Checkpoint> opened = Checkpoint::Open(model.folder);
  if (!opened.ok()) {
    std::cerr << opened.status() << '\n';
    std::exit(1);
  }
  const auto checkpoint = std::make_shared<const Checkpoint>(*std::move(opened));
  const TemporaryFolder work;
  const auto llama_cpp = model.beyond_caches ? LlamaCpp::Start(model.folder, work.path()) : nullptr;
  for (const int threads : {1, 2}) {
    const double bandwidth = MeasureReadBandwidth(threads);
    report.Add({.name = absl::StrCat("memory read, ", Threads(threads)),
                .value = bandwidth / 1e9,
                .unit = "GB/s"});
    for (const Format& format : formats) {
      if (absl::StrCat(format.name, ", ", Threads(threads)).find(only) == std::string::npos) {
        continue;
      }
      std::cerr << model.name << ", " << format.name << ", " << Threads(threads) << '\n';
      const auto engine = CreateEngine(checkpoint, format, threads);
      MeasureEngine(*engine, 1, 8, 1, 1);  // brings the weights into memory
      MeasureCells(model, format, threads, bandwidth, *engine, llama_cpp.get(), report);
    }
  }
}

int Main(int argc, char** argv) {
  Report report("decode", argc, argv);
  const std::string only = OnlyOf(argc, argv);
  {
    const TemporaryFolder folder;
    const RandomCheckpoint shape;
    if (const absl::Status status = WriteRandomCheckpoint(shape, folder.path()); !status.ok()) {
      std::cerr << status << '\n';
      return 1;
    }
    MeasureModel({"random Llama", folder.path(), BytesPerToken(shape), true}, kFormats, only,
                 report);
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
    const Format as_stored[] = {{WeightFormat::kStored, "as stored", 16, nullptr}};
    MeasureModel({folder.filename().string(), folder, bytes, false}, as_stored, only, report);
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
