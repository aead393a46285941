// Products of a decode step on a GPU: Llama-3-8B's shapes with random weights,
// 1 to 128 rows, beside the bandwidth of copies measured in the same run; and in
// BF16, up to 2048 rows, beside cuBLASLt, which does not promise a row the same
// bits in any company: what one order for all numbers of rows costs. Norms,
// attention and sampling are not in these figures (step_bench).
//   gpu_bench [--json]

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/matmul.h"
#include "tests/bench/report.h"
#include "tests/gpu/device_clock.h"
#if defined(OCTOGATE_CUBLASLT)
#include "tests/gpu/vendor_matmul.h"
#endif

namespace octogate::bench {
namespace {

using namespace kernels::cuda;  // NOLINT(google-build-using-namespace)

constexpr int kNoDevice = 3;  // exit status
constexpr int kModelLayers = 32;
// Layers whose weights are held: together far beyond any cache.
constexpr int kLayers = 4;
constexpr int kMaxRows = 2048;
constexpr int kMaxLogitRows = 128;
constexpr int kRowCounts[] = {1, 2, 4, 8, 16, 32, 64, 128};

struct NamedShape {
  const char* name;
  int outputs;
  int cols;
};
constexpr NamedShape kLayerShapes[] = {
    {"query, key, value", 6144, 4096},
    {"attention output", 4096, 4096},
    {"gate and up", 28672, 4096},
    {"down", 4096, 14336},
};
constexpr NamedShape kLogits = {"logits", 128256, 4096};

struct NamedFormat {
  const char* name;
  PackedFormat format;
  double aim;  // of the copies' bandwidth, at one row; 0: none
};
constexpr NamedFormat kFormats[] = {
    {"bf16", PackedFormat::kBf16, 0.90},
    {"int8", PackedFormat::kInt8, 0.85},
    {"int8-group", PackedFormat::kInt8Group, 0.0},
    {"int4-group", PackedFormat::kInt4Group, 0.0},
    {"fp8", PackedFormat::kFp8, 0.85},
};

class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes) : bytes_(bytes) {
    CheckCuda(cudaMalloc(&data_, bytes), "allocating");
  }
  ~DeviceBytes() { CheckCuda(cudaFree(data_), "freeing memory"); }
  DeviceBytes(DeviceBytes&& other) noexcept : data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr;
  }
  DeviceBytes& operator=(DeviceBytes&&) = delete;
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

  // Random bits, but no number of magnitude 2 or more in any 16-bit format: zeros
  // would cost less power than weights do.
  void FillRandomly(std::mt19937_64& random) {
    std::vector<uint64_t> pattern(size_t{1} << 20);
    for (uint64_t& word : pattern) word = random() & 0xBFFFBFFFBFFFBFFFu;
    const size_t pattern_bytes = pattern.size() * sizeof(uint64_t);
    for (size_t at = 0; at < bytes_; at += pattern_bytes) {
      CheckCuda(cudaMemcpy(as<uint8_t>() + at, pattern.data(), std::min(pattern_bytes, bytes_ - at),
                           cudaMemcpyHostToDevice),
                "filling memory");
    }
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

// Weights of kLayers layers and of the logits in one format.
class Model {
 public:
  Model(PackedFormat format, std::mt19937_64& random) {
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const NamedShape& shape : kLayerShapes) Add(format, shape, random);
    }
    Add(format, kLogits, random);
  }

  // Weight i of layer `layer`.
  const PackedWeight& at(int layer, size_t i) const {
    return weights_[static_cast<size_t>(layer) * std::size(kLayerShapes) + i];
  }
  const PackedWeight& logits() const { return weights_.back(); }

 private:
  void Add(PackedFormat format, const NamedShape& named, std::mt19937_64& random) {
    const PackedShape shape{format, named.outputs, named.cols};
    memory_.emplace_back(shape.bytes());
    memory_.back().FillRandomly(random);
    weights_.push_back({shape, memory_.back().as<uint8_t>(), nullptr});
    if (!HasRowScales(format)) return;
    memory_.emplace_back(static_cast<size_t>(named.outputs) * sizeof(float));
    memory_.back().FillRandomly(random);
    weights_.back().row_scales = memory_.back().as<float>();
  }

  std::vector<DeviceBytes> memory_;
  std::vector<PackedWeight> weights_;
};

size_t BytesOf(const PackedWeight& weight) {
  return weight.shape.bytes() +
         (weight.row_scales != nullptr ? static_cast<size_t>(weight.shape.rows) * 4 : 0);
}

class Bench {
 public:
  Bench(cudaStream_t stream, Report* report)
      : stream_(stream),
        report_(report),
        x_(static_cast<size_t>(kMaxRows) * 14336 * sizeof(float)),
        out_(std::max(static_cast<size_t>(kMaxRows) * 28672,
                      static_cast<size_t>(kMaxLogitRows) * kLogits.outputs) *
             sizeof(float)),
        workspace_(WorkspaceBytes()) {
    x_.FillRandomly(random_);
    copy_ = CopyBytesPerSecond(stream, size_t{1} << 30);
    report->Add({.name = "copies of 1 GiB", .value = copy_ * 1e-9, .unit = "GB/s"});
  }

#if defined(OCTOGATE_CUBLASLT)
  // Both read the same bytes as BF16 weights; cuBLASLt's inputs are BF16 already.
  void RunBesideVendor() {
    std::fprintf(stderr, "beside cuBLASLt\n");
    const Model model(PackedFormat::kBf16, random_);
    for (size_t i = 0; i < std::size(kLayerShapes); ++i) {
      const NamedShape& shape = kLayerShapes[i];
      std::vector<const void*> weights;
      for (int layer = 0; layer < kLayers; ++layer) weights.push_back(model.at(layer, i).packed);
      for (const int rows : {1, 8, 64, 128, 512, 2048}) {
        const auto vendor = VendorMatMul::Make(stream_, shape.outputs, shape.cols, rows, weights,
                                               x_.as<void>(), out_.as<void>());
        if (vendor == nullptr) continue;
        const double theirs = SecondsOnDevice(stream_, [&] {
          for (const void* weight : weights) {
            vendor->Enqueue(stream_, weight, x_.as<void>(), out_.as<void>());
          }
        });
        for (const InputRounding rounding : {InputRounding::kSplit, InputRounding::kRounded}) {
          const double ours = SecondsOnDevice(stream_, [&] {
            for (int layer = 0; layer < kLayers; ++layer) {
              Multiply(model.at(layer, i), rows, rounding);
            }
          });
          report_->Add({.name = std::string("bf16, ") +
                                (rounding == InputRounding::kSplit ? "split: " : "rounded: ") +
                                shape.name + ", rows " + std::to_string(rows),
                        .value = ours / kLayers * 1e6,
                        .unit = "us",
                        .beside = "cuBLASLt",
                        .ratio = ours / theirs});
        }
      }
    }
  }
#endif

  void Run(const NamedFormat& format) {
    std::fprintf(stderr, "%s\n", format.name);
    const Model model(format.format, random_);
    for (const InputRounding rounding : {InputRounding::kSplit, InputRounding::kRounded}) {
      const std::string name =
          std::string(format.name) + (rounding == InputRounding::kSplit ? ", split" : ", rounded");
      for (size_t i = 0; i < std::size(kLayerShapes); ++i) {
        for (const int rows : {1, 64}) {
          const double seconds = SecondsOnDevice(stream_,
                                                 [&] {
                                                   for (int layer = 0; layer < kLayers; ++layer) {
                                                     Multiply(model.at(layer, i), rows, rounding);
                                                   }
                                                 }) /
                                 kLayers;
          AddBandwidth(name + ": " + kLayerShapes[i].name, rows, BytesOf(model.at(0, i)), seconds,
                       0);
        }
      }
      Steps(model, format, name, rounding);
    }
  }

 private:
  static size_t WorkspaceBytes() {
    size_t bytes = 0;
    for (const NamedFormat& format : kFormats) {
      for (const NamedShape& shape : kLayerShapes) {
        bytes = std::max(bytes, Needed(format.format, shape));
      }
      bytes = std::max(bytes, Needed(format.format, kLogits));
    }
    return bytes;
  }
  static size_t Needed(PackedFormat format, const NamedShape& shape) {
    return MaxMatMulWorkspaceBytes({format, shape.outputs, shape.cols}, kMaxRows,
                                   InputRounding::kSplit);
  }

  void Multiply(const PackedWeight& weight, int rows, InputRounding rounding) {
    MatMulOperation operation;
    operation.x = x_.as<float>();
    operation.rows = rows;
    operation.out = out_.as<float>();
    operation.out_stride = weight.shape.rows;
    operation.rounding = rounding;
    LaunchMatMul(stream_, weight, operation, PlanMatMul(weight.shape, rows), workspace_.as<void>());
  }

  void AddBandwidth(const std::string& name, int rows, size_t bytes, double seconds, double aim) {
    const double rate = static_cast<double>(bytes) / seconds;
    Figure figure{.name = name + ", rows " + std::to_string(rows),
                  .value = rate * 1e-9,
                  .unit = "GB/s",
                  .beside = "copies",
                  .ratio = rate / copy_};
    if (aim > 0) figure.aim = AtLeast(aim, Aim::kRatio);
    report_->Add(figure);
  }

  // All products of a step of the whole model: kLayers layers are measured, and
  // the time of the others is theirs.
  void Steps(const Model& model, const NamedFormat& format, const std::string& name,
             InputRounding rounding) {
    size_t layer_bytes = 0;
    for (size_t i = 0; i < std::size(kLayerShapes); ++i) layer_bytes += BytesOf(model.at(0, i));
    const size_t bytes = kModelLayers * layer_bytes + BytesOf(model.logits());
    double one_row = 0;
    for (const int rows : kRowCounts) {
      const double layers = SecondsOnDevice(stream_, [&] {
        for (int layer = 0; layer < kLayers; ++layer) {
          for (size_t i = 0; i < std::size(kLayerShapes); ++i) {
            Multiply(model.at(layer, i), rows, rounding);
          }
        }
      });
      const double logits =
          SecondsOnDevice(stream_, [&] { Multiply(model.logits(), rows, rounding); });
      const double seconds = layers / kLayers * kModelLayers + logits;
      if (rows == 1) one_row = seconds;
      AddBandwidth(name + ": all products", rows, bytes, seconds, rows == 1 ? format.aim : 0);
      Figure figure{.name = name + ": all products, rows " + std::to_string(rows),
                    .value = seconds * 1e3,
                    .unit = "ms",
                    .beside = "one row",
                    .ratio = seconds / one_row};
      if (rows == 64) figure.aim = AtMost(1.15, Aim::kRatio);
      report_->Add(figure);
    }
  }

  cudaStream_t stream_;
  Report* report_;
  std::mt19937_64 random_{std::random_device{}()};
  DeviceBytes x_;
  DeviceBytes out_;
  DeviceBytes workspace_;
  double copy_ = 0;
};

int Main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "gpu_bench: no GPU answers; nothing was measured\n");
    return kNoDevice;
  }
  cudaStream_t stream;
  CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  Report report("gpu", argc, argv);
  {
    Bench bench(stream, &report);
    for (const NamedFormat& format : kFormats) bench.Run(format);
#if defined(OCTOGATE_CUBLASLT)
    bench.RunBesideVendor();
#endif
  }
  CheckCuda(cudaStreamDestroy(stream), "destroying a stream");
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
