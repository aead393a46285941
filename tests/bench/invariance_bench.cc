// The price of bits that do not depend on the batch: our products, whose order of additions is
// fixed, beside oneDNN's with the same weights in its own layout, which adds in whatever order it
// finds fastest.
//
//   invariance_bench [--json] [--only TEXT]
//
// --only restricts it to the names that hold TEXT, of "ROWS rows OUTPUTSxCOLUMNS, FORMAT, THREADS".
// oneDNN runs on the same number of threads (OpenMP). Its F32 product takes F32 weights, ours too;
// its BF16 product rounds nothing: it takes inputs in BF16, which for us rounding is part of.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/float16.h"
#include "kernels/host_memory.h"
#include "tests/bench/report.h"

namespace octogate::bench {
namespace {

using kernels::Activations;
using kernels::DType;

constexpr int kRounds = 5;
constexpr double kRoundSeconds = 0.15;
// Weights of one round together are larger than a core's caches.
constexpr size_t kWeightBytes = size_t{192} << 20;

struct Shape {
  int outputs;
  int columns;
};
constexpr Shape kShapes[] = {{4096, 4096}, {14336, 4096}, {4096, 14336}};

// The best of several rounds of calls of f(i), i counting up; seconds of one call.
template <typename F>
double BestSeconds(const F& f) {
  using Clock = std::chrono::steady_clock;
  f(0);
  double best = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    double seconds = 0;
    int calls = 0;
    while (seconds < kRoundSeconds) {
      f(calls++);
      seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    }
    best = std::min(best, seconds / calls);
  }
  return best;
}

// Products of one shape and type by oneDNN, with `copies` copies of the weight.
class OneDnn {
 public:
  OneDnn(Shape shape, int rows, bool bf16, const float* weight, int copies)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dnnl::memory;
    const auto type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
    const memory::dims x_dims{rows, shape.columns};
    const memory::dims w_dims{shape.columns, shape.outputs};
    const memory::dims y_dims{rows, shape.outputs};
    const memory::desc x(x_dims, type, memory::format_tag::ab);
    const memory::desc any(w_dims, type, memory::format_tag::any);
    const memory::desc y(y_dims, memory::data_type::f32, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc plan(dnnl::matmul::desc(x, any, y), engine_);
    matmul_ = dnnl::matmul(plan);
    name_ = plan.impl_info_str();
    x_ = memory(x, engine_);
    std::memset(x_.get_data_handle(), 0, x.get_size());
    y_ = memory(y, engine_);
    memory stored({w_dims, memory::data_type::f32, memory::format_tag::ba}, engine_,
                  const_cast<float*>(weight));
    for (int i = 0; i < copies; ++i) {
      weights_.emplace_back(plan.weights_desc(), engine_);
      dnnl::reorder(stored, weights_.back()).execute(stream_, stored, weights_.back());
    }
    stream_.wait();
  }

  void Run(int call) {
    matmul_.execute(stream_,
                    {{DNNL_ARG_SRC, x_},
                     {DNNL_ARG_WEIGHTS, weights_[static_cast<size_t>(call) % weights_.size()]},
                     {DNNL_ARG_DST, y_}});
    stream_.wait();
  }

  const std::string& name() const { return name_; }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul matmul_;
  std::string name_;
  dnnl::memory x_;
  dnnl::memory y_;
  std::vector<dnnl::memory> weights_;
};

void Measure(Shape shape, int rows, Activations activations, int threads, const std::string& only,
             Report& report) {
  const bool bf16 = activations != Activations::kF32;
  const std::string name = std::to_string(rows) + (rows == 1 ? " row " : " rows ") +
                           std::to_string(shape.outputs) + "x" + std::to_string(shape.columns) +
                           (activations == Activations::kF32    ? ", F32, "
                            : activations == Activations::kBF16 ? ", BF16 x BF16, "
                                                                : ", BF16 x BF16 pairs, ") +
                           std::to_string(threads) + (threads == 1 ? " thread" : " threads");
  if (name.find(only) == std::string::npos) return;
  std::cerr << name << '\n';
  const auto count = static_cast<size_t>(shape.outputs) * static_cast<size_t>(shape.columns);
  const auto weight = kernels::AllocateHost<float>(count);
  uint32_t state = 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    weight[i] = kernels::BFloat16ToFloat(
        static_cast<uint16_t>(0x3C00u | ((state >> 16) & 0x80FFu)));  // exact in BF16
  }
  const int copies = static_cast<int>(std::max<size_t>(
      1, kWeightBytes / (count * kernels::SizeOf(bf16 ? DType::kBF16 : DType::kF32))));
  double ours = 0;
  {
    const auto backend = kernels::MakeCpuBackend(
        {.threads = threads, .activations = activations, .pin_threads = true});
    std::vector<std::unique_ptr<kernels::Weight>> weights;
    for (int i = 0; i < copies; ++i) {
      weights.push_back(backend->LoadWeight(
          {weight.get(), DType::kF32, shape.outputs, shape.columns},
          bf16 ? kernels::WeightFormat::kBf16 : kernels::WeightFormat::kStored));
    }
    const auto x =
        backend->Allocate(static_cast<size_t>(rows) * static_cast<size_t>(shape.columns));
    const auto out =
        backend->Allocate(static_cast<size_t>(rows) * static_cast<size_t>(shape.outputs));
    std::fill_n(x->data(), x->size(), 0.5f);
    ours = BestSeconds([&](int call) {
      backend->MatMul(*weights[static_cast<size_t>(call % copies)], nullptr, x->data(), rows, false,
                      out->data(), shape.outputs);
    });
  }
  omp_set_num_threads(threads);
  OneDnn other(shape, rows, bf16, weight.get(), copies);
  const double theirs = BestSeconds([&](int call) { other.Run(call); });
  report.Add({.name = name,
              .value = ours * 1e6,
              .unit = "us",
              .beside = "oneDNN " + other.name() + ", " +
                        std::to_string(std::lround(theirs * 1e6)) + " us",
              .ratio = ours / theirs,
              .aim = AtMost(1.05, Aim::kRatio)});
}

int Main(int argc, char** argv) {
  Report report("invariance", argc, argv);
  std::string only;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--only") == 0) only = argv[i + 1];
  }
  for (const int threads : {1, 2}) {
    for (const Activations activations :
         {Activations::kBF16Pairs, Activations::kBF16, Activations::kF32}) {
      for (const Shape shape : kShapes) {
        for (const int rows : {1, 4, 16, 64, 256}) {
          Measure(shape, rows, activations, threads, only, report);
        }
      }
    }
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
