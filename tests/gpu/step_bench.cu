// Whole steps on a GPU as the engine drives them (Backend::BeginStep, EndStep, then
// the best logit of each row): Llama-3-8B's shapes with random weights, keys and
// values. Decoding for 1 to 256 sequences over 1 Ki to 127 Ki positions, and for one
// long sequence beside short ones; trees beside one row of each sequence, which
// begin where units of positions do and elsewhere; and chunks of prompts; with keys
// and values of 16 and 8 bits, attention on tensor cores beside the CPU's order, and
// with and without CUDA graphs. Decoding stands beside the least time that its bytes take
// at the rate of copies and its operations at cuBLASLt's in large products, both measured
// in the same run. What the cache has no room for is named behind the table.
//   step_bench [--json]
//
// Four layers are held, far more than any cache has room for, and a step goes through
// all of them: one of 32 takes eight times the difference to a step of none, and the
// latter once. That a layer more takes as long as the last is in the table.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/stream.h"
#include "kernels/dtype.h"
#include "kernels/float16.h"
#include "tests/bench/report.h"
#include "tests/bench/turns.h"
#include "tests/gpu/device_clock.h"
#if defined(OCTOGATE_CUBLASLT)
#include "tests/gpu/vendor_matmul.h"
#endif

namespace octogate::bench {
namespace {

using kernels::Backend;
using kernels::Buffer;
using kernels::DType;
using kernels::KvCache;
using kernels::SequenceRows;
using kernels::Weight;
using kernels::WeightFormat;
using kernels::cuda::CheckCuda;

constexpr int kNoDevice = 3;  // exit status
constexpr int kModelLayers = 32;
constexpr int kLayers = 4;
constexpr int kHidden = 4096;
constexpr int kHeads = 32;
constexpr int kKvHeads = 8;
constexpr int kHeadDim = 128;
constexpr int kIntermediate = 14336;
constexpr int kVocabulary = 128256;
constexpr int kQkv = (kHeads + 2 * kKvHeads) * kHeadDim;
constexpr int kMaxRows = 2048;
constexpr int kMaxLogitRows = 256;
constexpr int kPageSize = 16;
constexpr int kWarmSteps = 3;  // the second one makes the graph
constexpr int kSteps = 11;
// Of the cache: the longest decoding of 256 sequences over 1 Ki positions fits.
constexpr int kMaxTokens = 256 * ((1024 + kWarmSteps + kSteps) / kPageSize + 1) * kPageSize;
// Positions behind a multiple of 512 (kUnitPositions): between two tiles of 64, and
// with as many of the past as a row of a tree ever reads by itself.
constexpr int kBetweenTiles = 480;
constexpr int kBehindATile = 63;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Random BF16 of magnitude below 1/16, the same ones over and over.
std::vector<uint16_t> RandomWeights(std::mt19937& random, size_t count) {
  std::vector<uint16_t> pattern(size_t{1} << 20);
  std::uniform_real_distribution<float> uniform(-0x1p-4f, 0x1p-4f);
  for (uint16_t& value : pattern) value = kernels::FloatToBFloat16(uniform(random));
  std::vector<uint16_t> values(count);
  for (size_t at = 0; at < count; at += pattern.size()) {
    std::copy_n(pattern.begin(), std::min(pattern.size(), count - at),
                values.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return values;
}

class Model {
 public:
  explicit Model(Backend& backend) : backend_(backend) {}

  // Whether there was memory for all of it.
  bool Load(WeightFormat format, std::mt19937& random) {
    const std::vector<uint16_t> values =
        RandomWeights(random, static_cast<size_t>(kVocabulary) * kHidden);
    bool complete = true;
    double loaded = 0;
    const double begin = Now();
    const auto load_as = [&](WeightFormat as, int rows, int cols) {
      auto weight = backend_.LoadWeight({values.data(), DType::kBF16, rows, cols}, as);
      complete = complete && weight != nullptr;
      if (weight != nullptr) loaded += static_cast<double>(weight->bytes);
      return weight;
    };
    const auto load = [&](int rows, int cols) { return load_as(format, rows, cols); };
    for (int i = 0; i < kLayers; ++i) {
      layers_.push_back({load(kQkv, kHidden), load(kHidden, kHeads * kHeadDim),
                         load(2 * kIntermediate, kHidden), load(kHidden, kIntermediate)});
    }
    logits_weight_ = load(kVocabulary, kHidden);
    embedding_ = load_as(WeightFormat::kStored, kVocabulary, kHidden);
    loading_rate_ = loaded / (Now() - begin);
    for (int i = 0; i < kHeadDim / 2; ++i) {
      frequencies_.push_back(std::pow(500000.0f, -2.0f * static_cast<float>(i) / kHeadDim));
    }
    const auto allocate = [&](int rows, int columns) {
      auto buffer = backend_.Allocate(static_cast<size_t>(rows) * static_cast<size_t>(columns));
      complete = complete && buffer != nullptr;
      return buffer;
    };
    x_ = allocate(kMaxRows, kHidden);
    normed_ = allocate(kMaxRows, kHidden);
    qkv_ = allocate(kMaxRows, kQkv);
    attention_ = allocate(kMaxRows, kHeads * kHeadDim);
    gate_up_ = allocate(kMaxRows, 2 * kIntermediate);
    gated_ = allocate(kMaxRows, kIntermediate);
    selected_ = allocate(kMaxLogitRows, kHidden);
    logits_ = allocate(kMaxLogitRows, kVocabulary);
    norm_ = allocate(1, kHidden);
    if (!complete) return false;
    const std::vector<float> ones(kHidden, 1.0f);
    backend_.Upload(ones, norm_->data());
    return true;
  }

  // Bytes of weights that came to the device each second, quantised and packed on the way.
  double loading_rate() const { return loading_rate_; }

  // Bytes of weights that a step of all layers reads.
  double bytes() const {
    double layer = 0;
    for (const auto* weight :
         {&layers_[0].qkv, &layers_[0].o, &layers_[0].gate_up, &layers_[0].down}) {
      layer += static_cast<double>((*weight)->bytes);
    }
    return layer * kModelLayers + static_cast<double>(logits_weight_->bytes);
  }

  // One step of `layers` layers; logits of the rows in `logit_rows`.
  void Step(int layers, std::span<const int32_t> ids, std::span<const int32_t> positions,
            std::span<const SequenceRows> sequences, std::span<const int32_t> logit_rows,
            KvCache& cache) {
    const int rows = static_cast<int>(ids.size());
    backend_.BeginStep();
    backend_.Embed(*embedding_, ids, x_->data());
    for (int i = 0; i < layers; ++i) {
      const Layer& layer = layers_[static_cast<size_t>(i)];
      float* q = qkv_->data();
      float* k = q + kHeads * kHeadDim;
      backend_.RmsNorm(x_->data(), norm_->data(), rows, kHidden, 1e-5f, normed_->data());
      backend_.MatMul(*layer.qkv, nullptr, normed_->data(), rows, false, q, kQkv);
      backend_.Rope({kHeads + kKvHeads, kHeadDim, frequencies_, 1}, positions, kQkv, q);
      backend_.WriteKv(cache, i, sequences, k, k + kKvHeads * kHeadDim, kQkv);
      backend_.Attention({kHeads, kKvHeads, kHeadDim, 1 / std::sqrt(1.0f * kHeadDim), 0}, cache, i,
                         sequences, q, kQkv, attention_->data());
      backend_.MatMul(*layer.o, nullptr, attention_->data(), rows, true, x_->data(), kHidden);
      backend_.RmsNorm(x_->data(), norm_->data(), rows, kHidden, 1e-5f, normed_->data());
      backend_.MatMul(*layer.gate_up, nullptr, normed_->data(), rows, false, gate_up_->data(),
                      2 * kIntermediate);
      backend_.SiluMul(gate_up_->data(), rows, kIntermediate, gated_->data());
      backend_.MatMul(*layer.down, nullptr, gated_->data(), rows, true, x_->data(), kHidden);
    }
    const int selected = static_cast<int>(logit_rows.size());
    backend_.GatherRows(x_->data(), logit_rows, kHidden, selected_->data());
    backend_.RmsNorm(selected_->data(), norm_->data(), selected, kHidden, 1e-5f, selected_->data());
    backend_.MatMul(*logits_weight_, nullptr, selected_->data(), selected, false, logits_->data(),
                    kVocabulary);
    backend_.EndStep();
    best_.resize(static_cast<size_t>(selected));
    values_.resize(best_.size());
    sums_.resize(best_.size());
    backend_.TopK(logits_->data(), selected, kVocabulary, 1, best_, values_, sums_);
  }

  // Fills the cache with random keys and values.
  void Fill(KvCache& cache, std::span<const int32_t> pages, std::mt19937& random) {
    std::vector<float> values(static_cast<size_t>(kMaxRows) * kQkv);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = i < 1 << 20 ? normal(random) : values[i - (1 << 20)];
    }
    backend_.Upload(values, qkv_->data());
    const int positions = static_cast<int>(pages.size()) * kPageSize;
    for (int first = 0; first < positions; first += kMaxRows) {
      const SequenceRows rows{0, std::min(kMaxRows, positions - first), first, pages};
      for (int layer = 0; layer < kLayers; ++layer) {
        backend_.WriteKv(cache, layer, {&rows, 1}, qkv_->data(), qkv_->data() + kHidden, kQkv);
      }
    }
    backend_.Synchronize();
  }

 private:
  struct Layer {
    std::unique_ptr<Weight> qkv, o, gate_up, down;
  };

  Backend& backend_;
  std::vector<Layer> layers_;
  std::unique_ptr<Weight> embedding_, logits_weight_;
  std::vector<float> frequencies_;
  std::unique_ptr<Buffer> x_, normed_, qkv_, attention_, gate_up_, gated_, selected_, logits_,
      norm_;
  std::vector<int32_t> best_;
  std::vector<float> values_, sums_;
  double loading_rate_ = 0;
};

// What a step holds: `sequences` of `rows` rows each behind `context` positions.
struct Shape {
  int sequences = 1;
  int rows = 1;
  int context = 0;
  bool tree = false;     // otherwise a chain
  int long_context = 0;  // where not 0, that of the first sequence

  int ContextOf(int sequence) const {
    return sequence == 0 && long_context > 0 ? long_context : context;
  }
};

class Bench {
 public:
  // Null, with a message, where the device or its memory cannot be had.
  static std::unique_ptr<Bench> Make(const kernels::cuda::Options& options, WeightFormat format,
                                     DType cache_type, std::mt19937& random) {
    std::string problem;
    auto backend = kernels::cuda::MakeBackend(options, &problem);
    if (backend == nullptr) {
      std::fprintf(stderr, "step_bench: %s\n", problem.c_str());
      return nullptr;
    }
    std::unique_ptr<Bench> bench(new Bench(std::move(backend), cache_type));
    if (bench->Load(format, random)) return bench;
    std::fprintf(stderr, "step_bench: the device's memory is too small\n");
    return nullptr;
  }

  bool Fits(const Shape& shape) const {
    int64_t pages = 0;
    for (int s = 0; s < shape.sequences; ++s) pages += Pages(shape, s);
    return shape.sequences * shape.rows <= kMaxRows && pages * kPageSize <= kMaxTokens;
  }

  double loading_rate() const { return model_.loading_rate(); }

  // Seconds of a step of the whole model.
  double Seconds(const Shape& shape) {
    const double without = StepSeconds(shape, 0);
    return without + (StepSeconds(shape, kLayers) - without) / kLayers * kModelLayers;
  }
  // Of a step of so many layers, in the median.
  double StepSeconds(const Shape& shape, int layers) {
    std::vector<kernels::AncestorMask> masks;
    for (int r = 0; r < shape.rows && shape.tree; ++r) {  // a binary tree
      masks.emplace_back();
      if (r > 0) masks.back() = masks[static_cast<size_t>((r - 1) / 2)];
      masks.back().words[r / 64] |= uint64_t{1} << (r % 64);
    }
    std::vector<double> seconds;
    for (int step = 0; step < kWarmSteps + kSteps; ++step) {
      std::vector<int32_t> ids, positions, logit_rows;
      std::vector<SequenceRows> sequences;
      size_t first_page = 0;
      for (int s = 0; s < shape.sequences; ++s) {
        const auto pages =
            std::span(pages_).subspan(first_page, static_cast<size_t>(Pages(shape, s)));
        first_page += pages.size();
        const int first = shape.ContextOf(s) + (shape.rows == 1 ? step : 0);
        sequences.push_back({static_cast<int>(ids.size()), shape.rows, first, pages, masks});
        for (int r = 0; r < shape.rows; ++r) {
          positions.push_back(kernels::PositionOf(sequences.back(), r));
          if (shape.rows == 1 || shape.tree) logit_rows.push_back(static_cast<int>(ids.size()));
          ids.push_back((step * 7919 + static_cast<int>(ids.size()) * 104729) % kVocabulary);
        }
        if (logit_rows.empty()) logit_rows.push_back(static_cast<int>(ids.size()) - 1);
      }
      backend_->Synchronize();
      const double begin = Now();
      model_.Step(layers, ids, positions, sequences, logit_rows, *cache_);
      if (step >= kWarmSteps) seconds.push_back(Now() - begin);
    }
    return Median(std::move(seconds));
  }

  // Bytes of weights, keys and values that such a step reads at least.
  double Bytes(const Shape& shape) const {
    const double kv = 2.0 * kModelLayers * kKvHeads *
                      static_cast<double>(kernels::KvHeadBytes(cache_type_, kHeadDim));
    double positions = 0;
    for (int s = 0; s < shape.sequences; ++s) positions += shape.ContextOf(s) + shape.rows;
    return model_.bytes() + kv * positions;
  }
  // Additions and multiplications of a step of decoding, with inputs as they are.
  double Operations(const Shape& shape) const {
    constexpr double kLayerWeights =
        1.0 * kHidden * (kQkv + kHeads * kHeadDim + 2 * kIntermediate + kIntermediate);
    constexpr double kWeights = kModelLayers * kLayerWeights + 1.0 * kVocabulary * kHidden;
    double positions = 0;
    for (int s = 0; s < shape.sequences; ++s) positions += shape.ContextOf(s) + 1;
    return 2 * kWeights * shape.sequences + 4.0 * kModelLayers * kHeads * kHeadDim * positions;
  }

 private:
  Bench(std::unique_ptr<Backend> backend, DType cache_type)
      : backend_(std::move(backend)), cache_type_(cache_type), model_(*backend_) {}

  bool Load(WeightFormat format, std::mt19937& random) {
    if (!model_.Load(format, random)) return false;
    pages_.resize(kMaxTokens / kPageSize);
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), random);
    cache_ = backend_->CreateKvCache(
        {kLayers, static_cast<int>(pages_.size()), kPageSize, kKvHeads, kHeadDim, cache_type_});
    if (cache_ == nullptr) return false;
    model_.Fill(*cache_, pages_, random);
    return true;
  }

  static int Pages(const Shape& shape, int sequence) {
    // A decoding sequence grows from step to step.
    const int grown = shape.rows == 1 ? kSteps + kWarmSteps : shape.rows;
    return (shape.ContextOf(sequence) + grown) / kPageSize + 1;
  }

  const std::unique_ptr<Backend> backend_;
  const DType cache_type_;
  Model model_;
  std::unique_ptr<KvCache> cache_;
  std::vector<int32_t> pages_;
};

std::string Positions(int count) {
  const std::string rest = count % 1024 == 0 ? "" : " + " + std::to_string(count % 1024);
  return count < 1024 ? std::to_string(count) : std::to_string(count / 1024) + " Ki" + rest;
}

// Figures, and the names of those that there is no room for.
struct Results {
  Report report;
  std::vector<std::string> skipped;

  bool Has(const Bench& bench, const Shape& shape, const std::string& name) {
    if (bench.Fits(shape)) return true;
    skipped.push_back(name);
    return false;
  }
};

// What the device was measured to do each second.
struct Rates {
  double bytes = 0;
  double operations = 0;  // 0: not known
};

struct Run {
  const char* name;
  WeightFormat format;
  DType cache;
  // The least shares of what the rates allow that are aimed at; 0: none.
  double aim_for_one = 0;
  double aim_for_64 = 0;
};

void MeasureDecoding(const Run& run, Bench& bench, const Rates& rates, Results* results) {
  const auto measure = [&](const Shape& shape, const std::string& name, double aim) {
    if (!results->Has(bench, shape, name)) return;
    const double seconds = bench.Seconds(shape);
    double least = bench.Bytes(shape) / rates.bytes;
    if (rates.operations > 0) {
      least = std::max(least, bench.Operations(shape) / rates.operations);
    }
    Figure figure{
        .name = name,
        .value = shape.sequences / seconds,
        .unit = "tokens/s",
        .beside = rates.operations > 0 ? "bound by bytes and operations" : "bound by bytes alone",
        .ratio = least / seconds};
    if (aim > 0) figure.aim = AtLeast(aim, Aim::kRatio);
    results->report.Add(figure);
  };
  const std::string decode = std::string(run.name) + ": decode, ";
  constexpr int kLong = (1 << 17) - 1024;
  for (const int context : {1 << 10, 1 << 13, 1 << 15, kLong}) {
    for (const int batch : {1, 4, 16, 64, 256}) {
      measure({batch, 1, context, false},
              decode + "batch " + std::to_string(batch) + ", context " + Positions(context),
              batch == 1 ? run.aim_for_one : (batch == 64 ? run.aim_for_64 : 0));
    }
  }
  for (const int context : {1 << 15, kLong}) {
    measure({64, 1, 1 << 10, false, context},
            decode + "one of " + Positions(context) + " beside 63 of " + Positions(1 << 10), 0);
  }
  const Shape one{1, 1, 1 << 10, false};
  const double without = bench.StepSeconds(one, 0);
  const auto layer_of = [&](int layers) {
    return (bench.StepSeconds(one, layers) - without) / layers;
  };
  const double layer = layer_of(kLayers);
  for (int layers = 1; layers < kLayers; ++layers) {
    const double seconds = layer_of(layers);
    results->report.Add(
        {.name = decode + "batch 1, context 1 Ki, a layer of " + std::to_string(layers),
         .value = seconds * 1e6,
         .unit = "us",
         .beside = "a layer of " + std::to_string(kLayers),
         .ratio = seconds / layer});
  }
}

void MeasureTreesAndPrompts(const std::string& run, Bench& bench, Results* results) {
  const auto tree = [&](int sequences, int rows, int context) {
    const Shape shape{sequences, rows, context, true};
    const std::string name =
        run + ": " + (sequences == 1 ? "" : std::to_string(sequences) + " x ") + "tree of " +
        std::to_string(rows) + " rows, context " + Positions(context);
    if (!results->Has(bench, shape, name)) return;
    const double seconds = bench.Seconds(shape);
    results->report.Add(
        {.name = name,
         .value = seconds * 1e3,
         .unit = "ms",
         .beside = "one row each",
         .ratio = seconds / bench.Seconds({sequences, 1, context, false}),
         .aim = sequences == 1 ? std::optional<Aim>(AtMost(1.15, Aim::kRatio)) : std::nullopt});
  };
  for (const int context : {1 << 10, 1 << 13, 1 << 15}) {
    for (const int behind : {0, kBehindATile, kBetweenTiles}) tree(1, 64, context + behind);
  }
  for (const int behind : {0, kBetweenTiles}) tree(16, 16, (1 << 10) + behind);
  for (const int context : {0, 1 << 13, 1 << 15}) {
    const Shape chunk{1, kMaxRows, context, false};
    const std::string name =
        run + ": prompt, " + Positions(kMaxRows) + " rows behind " + Positions(context);
    if (!results->Has(bench, chunk, name)) continue;
    results->report.Add(
        {.name = name, .value = kMaxRows / bench.Seconds(chunk), .unit = "tokens/s"});
  }
}

int Main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "step_bench: no GPU answers; nothing was measured\n");
    return kNoDevice;
  }
  std::mt19937 random(std::random_device{}());
  Results results{Report("steps", argc, argv), {}};
  cudaStream_t stream;
  CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  Rates rates{.bytes = CopyBytesPerSecond(stream, size_t{1} << 30)};
  results.report.Add({.name = "copies of 1 GiB", .value = rates.bytes * 1e-9, .unit = "GB/s"});
#if defined(OCTOGATE_CUBLASLT)
  rates.operations = VendorOperationsPerSecond(stream);
  results.report.Add({.name = "cuBLASLt, bf16, products of 8192 x 8192",
                      .value = rates.operations * 1e-12,
                      .unit = "TFLOP/s"});
#endif
  CheckCuda(cudaStreamDestroy(stream), "destroying a stream");

  constexpr Run kRuns[] = {{"bf16, kv bf16", WeightFormat::kStored, DType::kBF16, 0.90, 0.70},
                           {"bf16, kv fp8", WeightFormat::kStored, DType::kF8E4M3, 0.90, 0.70},
                           {"fp8, kv fp8", WeightFormat::kFp8, DType::kF8E4M3, 0.85, 0.70},
                           {"int8, kv int8", WeightFormat::kInt8, DType::kI8, 0.85, 0.70},
                           {"int4-group, kv int8", WeightFormat::kInt4Group, DType::kI8}};
  bool all_made = true;
  for (const Run& run : kRuns) {
    std::fprintf(stderr, "%s\n", run.name);
    const auto bench = Bench::Make({}, run.format, run.cache, random);
    all_made = all_made && bench != nullptr;
    if (bench == nullptr) continue;
    results.report.Add({.name = std::string(run.name) + ": weights to the device",
                        .value = bench->loading_rate() * 1e-9,
                        .unit = "GB/s"});
    MeasureDecoding(run, *bench, rates, &results);
    MeasureTreesAndPrompts(run.name, *bench, &results);
  }
  // The same with one thing changed, beside the first run.
  const auto beside = [&](const char* name, const kernels::cuda::Options& options) {
    std::fprintf(stderr, "%s\n", name);
    const auto as_it_is = Bench::Make({}, WeightFormat::kStored, DType::kBF16, random);
    const auto other = Bench::Make(options, WeightFormat::kStored, DType::kBF16, random);
    all_made = all_made && as_it_is != nullptr && other != nullptr;
    if (as_it_is == nullptr || other == nullptr) return;
    for (const Shape& shape :
         {Shape{1, 1, 1024, false}, Shape{64, 1, 1024, false}, Shape{1, 1, 1 << 15, false},
          Shape{1, 64, 1 << 13, true}, Shape{1, 64, (1 << 13) + kBetweenTiles, true},
          Shape{1, kMaxRows, 1 << 13, false}}) {
      const std::string what = std::string(name) + ": " + std::to_string(shape.sequences) + " x " +
                               std::to_string(shape.rows) + " rows, context " +
                               Positions(shape.context);
      if (!results.Has(*other, shape, what)) continue;
      const double seconds = other->Seconds(shape);
      results.report.Add({.name = what,
                          .value = seconds * 1e3,
                          .unit = "ms",
                          .beside = "with it as it is",
                          .ratio = seconds / as_it_is->Seconds(shape)});
    }
  };
  beside("without CUDA graphs", {.step_graphs = 0});
  beside("attention in the CPU's order", {.exact_attention = true});
  beside("inputs rounded to BF16", {.input_rounding = kernels::cuda::InputRounding::kRounded});
  const int status = results.report.Print();
  for (const std::string& name : results.skipped) {
    std::fprintf(results.report.json() ? stderr : stdout, "not measured, no room: %s\n",
                 name.c_str());
  }
  return all_made ? status : 1;
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
