// What a step of the model costs as the work in it grows, beside what the machine allows: the bytes
// that it has to read at the rate at which memory is read, or its operations at the rate of
// multiply-adds in registers, whichever takes longer, all measured in the same run. A cost that
// rises faster than this bound is a cliff of ours.
//
//   growth_bench [--json] [--only TEXT]
//
// --only restricts it to the names that hold TEXT, of "FORMAT, THREADS", e.g. "INT8, 2 threads".
// Sweeps, each from a decoding step of one sequence behind 480 positions, of a random Llama of 6
// layers (200 MB in BF16): sequences, positions, layers, and rows of one prompt. Keys and values
// are kept in F16, pages stand in random order. Every figure is the best of several steps; the
// ratio is the bound's share of the time, and "after" compares it with the ratio of the step
// before. Operations bound only where both factors are floats: BF16.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/weight_format.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/kernels_probes.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "workers/engine/transformer.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

using Clock = std::chrono::steady_clock;
using kernels::Activations;
using kernels::WeightFormat;
using workers::Checkpoint;
using workers::Transformer;

constexpr int kLayers = 6;
constexpr int kPositions = 131072 + 1024;  // a multiple of kMaxRows
constexpr int kPageSize = 16;
constexpr int kMaxRows = 512;
constexpr int kContext = 480;
constexpr int kRepetitions = 5;
constexpr double kLongStep = 0.5;  // seconds after which a step is not repeated as often

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
    {WeightFormat::kInt8Group, "INT8", 8.5},
    {WeightFormat::kInt4Group, "INT4", 4.5},
};

RandomCheckpoint ShapeOf(int layers) {
  return {.num_layers = layers, .max_position_embeddings = kPositions};
}

// Sequences of `rows` rows each behind `context` positions; the last row of each has logits.
struct Step {
  int sequences = 1;
  int rows = 1;
  int context = kContext;
};

struct Machine {
  double bandwidth;   // bytes per second
  double operations;  // per second; 0: no bound
};

double MeasurePeak(int threads) {
  constexpr int kIterations = 4'000'000;
  const char* isa = kernels::Name(kernels::BestIsa());
  double best = 0;
  for (int repetition = 0; repetition < 3; ++repetition) {
    std::vector<double> done(static_cast<size_t>(threads));
    std::vector<std::thread> workers;
    const Clock::time_point begin = Clock::now();
    for (double& count : done) {
      workers.emplace_back([&count, isa] { count = MultiplyAdd(isa, kIterations); });
    }
    for (std::thread& worker : workers) worker.join();
    best = std::max(best, std::accumulate(done.begin(), done.end(), 0.0) /
                              std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

double BoundSeconds(const RandomCheckpoint& shape, const Format& format, const Machine& machine,
                    const Step& step) {
  const auto weights = static_cast<double>(BytesPerToken(shape)) / 2;  // numbers
  const double head = static_cast<double>(shape.vocab_size) * shape.hidden_size;
  const double rows = static_cast<double>(step.sequences) * step.rows;
  const double positions = static_cast<double>(step.sequences) * (step.context + step.rows);
  const double attended = rows * (step.context + (step.rows + 1) / 2.0);
  const double kv_bytes =
      2.0 * shape.num_layers * shape.num_kv_heads *
      static_cast<double>(kernels::KvHeadBytes(kernels::DType::kF16, shape.head_dim));
  const double reading = (weights * format.bits / 8 + positions * kv_bytes) / machine.bandwidth;
  if (machine.operations == 0) return reading;
  const double operations = 2 * (weights - head) * rows + 2 * head * step.sequences +
                            4.0 * shape.num_layers * shape.num_heads * shape.head_dim * attended;
  return std::max(reading, operations / machine.operations);
}

// A model with the memory of its steps.
class Model {
 public:
  Model(int layers, int positions, const Format& format, int threads)
      : shape_(ShapeOf(layers)),
        backend_(kernels::MakeCpuBackend(
            {.threads = threads, .activations = format.activations, .pin_threads = true})) {
    const TemporaryFolder folder;  // the checkpoint stays open without it
    const auto checkpoint = OpenRandomCheckpoint(shape_, folder.path());
    if (!checkpoint.ok()) Fail(checkpoint.status());
    auto loaded =
        Transformer::Load(*checkpoint, backend_.get(),
                          {.max_rows = kMaxRows, .max_logit_rows = kMaxRows}, format.format);
    if (!loaded.ok()) Fail(loaded.status());
    transformer_ = *std::move(loaded);
    pages_.resize(static_cast<size_t>(positions / kPageSize));
    auto cache = transformer_->CreateKvCache(static_cast<int>(pages_.size()), kPageSize,
                                             kernels::DType::kF16);
    if (!cache.ok()) Fail(cache.status());
    cache_ = *std::move(cache);
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), std::mt19937(1));
    // Every page has been written to.
    for (int at = 0; at < positions; at += kMaxRows) WriteRows(at);
  }

  const RandomCheckpoint& shape() const { return shape_; }

  double Seconds(const Step& step) {
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < kRepetitions && (i < 2 || best < kLongStep); ++i) {
      best = std::min(best, Run(step));
    }
    return best;
  }

 private:
  [[noreturn]] static void Fail(const absl::Status& status) {
    std::cerr << status << '\n';
    std::exit(1);
  }

  void WriteRows(int first_position) {
    const std::vector<float> values(
        static_cast<size_t>(kMaxRows * shape_.num_kv_heads * shape_.head_dim), 0.01f);
    const kernels::SequenceRows rows{
        .row_count = kMaxRows, .first_position = first_position, .pages = pages_};
    for (int layer = 0; layer < shape_.num_layers; ++layer) {
      backend_->WriteKv(*cache_, layer, {&rows, 1}, values.data(), values.data(),
                        shape_.num_kv_heads * shape_.head_dim);
    }
  }

  double Run(const Step& step) {
    const auto pages_each =
        static_cast<size_t>((step.context + step.rows + kPageSize - 1) / kPageSize);
    std::vector<workers::StepSequence> sequences;
    std::vector<int32_t> ids;
    std::vector<int32_t> logit_rows;
    for (int s = 0; s < step.sequences; ++s) {
      sequences.push_back({.row_count = step.rows,
                           .first_position = step.context,
                           .pages = std::span<const int32_t>(pages_).subspan(
                               static_cast<size_t>(s) * pages_each, pages_each)});
      for (int r = 0; r < step.rows; ++r) ids.push_back(static_cast<int32_t>(ids.size()));
      logit_rows.push_back(static_cast<int32_t>(ids.size()) - 1);
    }
    logits_.resize(logit_rows.size() * static_cast<size_t>(shape_.vocab_size));
    const Clock::time_point begin = Clock::now();
    transformer_->Forward({.ids = ids, .sequences = sequences, .logit_rows = logit_rows}, *cache_,
                          logits_, {});
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  const RandomCheckpoint shape_;
  const std::unique_ptr<kernels::Backend> backend_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<kernels::KvCache> cache_;
  std::vector<int32_t> pages_;
  std::vector<float> logits_;
};

// One sweep: each step beside the bound, and its ratio beside that of the step before.
class Sweep {
 public:
  Sweep(std::string name, const Format& format, const Machine& machine, Report& report)
      : name_(std::move(name)), format_(format), machine_(machine), report_(report) {}

  void Add(int x, Model& model, const Step& step) {
    const double seconds = model.Seconds(step);
    const double bound = BoundSeconds(model.shape(), format_, machine_, step);
    const double ratio = bound / seconds;
    std::string beside = absl::StrFormat("bound %.3g ms", bound * 1e3);
    if (last_ratio_ > 0) absl::StrAppendFormat(&beside, ", after %.2f", last_ratio_);
    report_.Add({.name = absl::StrCat(name_, " ", x),
                 .value = seconds * 1e3,
                 .unit = "ms",
                 .beside = std::move(beside),
                 .ratio = ratio});
    last_ratio_ = ratio;
  }

 private:
  const std::string name_;
  const Format& format_;
  const Machine& machine_;
  Report& report_;
  double last_ratio_ = 0;
};

void Measure(const Format& format, int threads, const Machine& machine, Report& report) {
  const std::string prefix = absl::StrCat(format.name, ", ", Threads(threads), ", ");
  Model model(kLayers, kPositions, format, threads);
  Sweep sequences(prefix + "sequences", format, machine, report);
  for (int n = 1; n <= 256; n *= 2) sequences.Add(n, model, {.sequences = n});
  Sweep positions(prefix + "positions", format, machine, report);
  for (int n = 1024; n <= 131072; n *= 2) positions.Add(n, model, {.context = n});
  Sweep rows(prefix + "rows of a prompt", format, machine, report);
  for (int n = 1; n <= kMaxRows; n *= 2) rows.Add(n, model, {.rows = n});
  Sweep layers(prefix + "layers", format, machine, report);
  for (const int n : {2, 4, 8, 16, 32}) {
    Model other(n, 2 * kMaxRows, format, threads);
    layers.Add(n, other, {});
  }
}

int Main(int argc, char** argv) {
  Report report("growth", argc, argv);
  const std::string only = OnlyOf(argc, argv);
  for (const int threads : {1, 2}) {
    const double bandwidth = MeasureReadBandwidth(threads);
    const double operations = MeasurePeak(threads);
    report.Add({.name = absl::StrCat("memory read, ", Threads(threads)),
                .value = bandwidth / 1e9,
                .unit = "GB/s"});
    report.Add({.name = absl::StrCat("multiply-adds, ", Threads(threads)),
                .value = operations / 1e9,
                .unit = "GFLOP/s"});
    for (const Format& format : kFormats) {
      if (absl::StrCat(format.name, ", ", Threads(threads)).find(only) == std::string::npos) {
        continue;
      }
      std::cerr << format.name << ", " << Threads(threads) << '\n';
      const bool floats =
          format.format == WeightFormat::kStored && format.activations == Activations::kF32;
      Measure(format, threads, {bandwidth, floats ? operations : 0}, report);
    }
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
