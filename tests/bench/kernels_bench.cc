// CPU kernels against what the machine can do at most, measured in the same
// run: products with few rows of input (decoding, verifying) against reading the
// same bytes or the multiply-adds that they take, whichever allows less; products
// with many rows (prefill) against multiply-adds in registers; and what it costs
// to share an operation between threads. Every
// figure is the best of several rounds in which the two take turns, so that
// other load on the machine hits both.
//
//   kernels_bench [--cpu-time] [--only TEXT] [--json]
// --cpu-time counts the process's CPU time, divided by its threads, in place of
// time on the clock: less wrong on a machine that does other work. --only runs
// the figures whose name contains TEXT.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/host_memory.h"
#include "tests/bench/kernels_probes.h"
#include "tests/bench/report.h"

namespace octogate::bench {
namespace {

using kernels::Backend;
using kernels::DType;
using kernels::Isa;

constexpr int kRounds = 12;
constexpr size_t kBytes = size_t{512} << 20;  // far beyond the caches

struct Options {
  bool cpu_time = false;
  std::string only;
};

// Seconds that f took, or its CPU time divided by the threads that it ran on.
template <typename F>
double Seconds(const Options& options, int threads, const F& f) {
  const auto now = [&] {
    timespec time;
    clock_gettime(options.cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double start = now();
  f();
  return (now() - start) / (options.cpu_time ? threads : 1);
}

// Small numbers of every sign in any of the storage types.
kernels::HostArray<uint8_t> MakeWeights(DType dtype) {
  auto bytes = kernels::AllocateHost<uint8_t>(kBytes);
  uint32_t state = 1;
  for (size_t i = 0; i < kBytes; i += 2) {
    state = state * 1664525 + 1013904223;
    // Exponents around zero for BF16, F16 and the high half of F32.
    const auto half =
        static_cast<uint16_t>(dtype == DType::kF16 ? 0x2800u | ((state >> 16) & 0x87FFu)
                                                   : 0x3C00u | ((state >> 16) & 0x80FFu));
    std::memcpy(bytes.get() + i, &half, 2);
  }
  return bytes;
}

double BestReadRate(const Options& options, kernels::ThreadPool& pool, const uint8_t* bytes) {
  const int tasks = pool.threads() * 8;
  const size_t part = kBytes / static_cast<size_t>(tasks) / 1024 * 1024;
  std::vector<uint64_t> sums(static_cast<size_t>(tasks));
  double best = 0;
  for (const auto read : {ReadInOrder, ReadInParts}) {
    const double seconds = Seconds(options, pool.threads(), [&] {
      pool.Run(tasks, [&](int task, int /*thread*/) {
        sums[static_cast<size_t>(task)] = read(bytes + static_cast<size_t>(task) * part, part);
      });
    });
    best = std::max(best, static_cast<double>(part) * tasks / seconds);
  }
  volatile uint64_t keep = sums[0];
  static_cast<void>(keep);
  return best;
}

// Weights of a type, by inputs in F32 or rounded.
struct Inputs {
  DType dtype;
  kernels::Activations activations = kernels::Activations::kF32;
};

// Multiplications and additions per second, in registers.
double PeakRate(const Options& options, kernels::ThreadPool& pool, Isa isa, Inputs inputs) {
  std::vector<double> done(static_cast<size_t>(pool.threads()));
  const double seconds = Seconds(options, pool.threads(), [&] {
    pool.Run(pool.threads(), [&](int task, int /*thread*/) {
      constexpr int kIterations = 2'000'000;
      done[static_cast<size_t>(task)] = inputs.activations == kernels::Activations::kBF16Pairs
                                            ? MultiplyAddPairs(kIterations)
                                            : MultiplyAdd(kernels::Name(isa), kIterations);
    });
  });
  double total = 0;
  for (const double operations : done) total += operations;
  return total / seconds;
}

// An operation without work, on the clock: what sharing costs.
void EmptyRun(const Options& options, Report& report, int threads) {
  const std::string name = "empty operation x" + std::to_string(threads);
  if (name.find(options.only) == std::string::npos) return;
  constexpr int kRepeats = 200;
  kernels::ThreadPool pool(threads);
  double best = 1;
  for (int round = 0; round < 100 * kRounds; ++round) {
    const double seconds = Seconds({}, threads, [&] {
      for (int i = 0; i < kRepeats; ++i) pool.Run(threads, [](int /*task*/, int /*thread*/) {});
    });
    best = std::min(best, seconds / kRepeats);
  }
  report.Add({.name = name, .value = best * 1e6, .unit = "us"});
}

const char* Rounded(kernels::Activations activations) {
  return activations == kernels::Activations::kF32    ? " "
         : activations == kernels::Activations::kBF16 ? " x BF16 "
                                                      : " x BF16 pairs ";
}

std::string Name(Isa isa, int threads, Inputs inputs, int rows) {
  const char* const rounded = Rounded(inputs.activations);
  return "matmul " + std::to_string(rows) + (rows == 1 ? " row " : " rows ") +
         kernels::Name(inputs.dtype) + rounded + kernels::Name(isa) + " x" +
         std::to_string(threads);
}

void Decode(const Options& options, Report& report, Isa isa, int threads, Inputs inputs, int rows) {
  const std::string name = Name(isa, threads, inputs, rows);
  if (name.find(options.only) == std::string::npos) return;
  constexpr int kCols = 4096;
  const DType dtype = inputs.dtype;
  const auto bytes = MakeWeights(dtype);
  const int layer_rows = 4096;
  const size_t layer_bytes = size_t{kCols} * layer_rows * kernels::SizeOf(dtype);
  const auto backend =
      kernels::MakeCpuBackend({.threads = threads, .isa = isa, .activations = inputs.activations});
  kernels::ThreadPool pool(threads);
  std::vector<std::unique_ptr<kernels::Weight>> layers;
  for (size_t at = 0; at + layer_bytes <= kBytes; at += layer_bytes) {
    layers.push_back(backend->LoadWeight({bytes.get() + at, dtype, layer_rows, kCols},
                                         kernels::WeightFormat::kStored));
  }
  const auto x = backend->Allocate(static_cast<size_t>(rows) * kCols);
  const auto out = backend->Allocate(static_cast<size_t>(rows) * layer_rows);
  std::fill_n(x->data(), x->size(), 0.5f);
  double read = 0;
  double peak = 0;
  double rate = 0;
  for (int round = 0; round < kRounds; ++round) {
    read = std::max(read, BestReadRate(options, pool, bytes.get()));
    peak = std::max(peak, PeakRate(options, pool, isa, inputs));
    const double seconds = Seconds(options, threads, [&] {
      for (const auto& layer : layers) {
        backend->MatMul(*layer, nullptr, x->data(), rows, false, out->data(), layer_rows);
      }
    });
    rate = std::max(rate, static_cast<double>(layers.size() * layer_bytes) / seconds);
  }
  // Each weight takes a multiply-add for every row.
  const double computed = peak / (2.0 * rows) * static_cast<double>(kernels::SizeOf(dtype));
  const double bound = std::min(read, computed);
  char beside[120];
  std::snprintf(beside, sizeof(beside), "reading memory: %.1f GB/s, multiply-adds: %.1f GB/s",
                read / 1e9, computed / 1e9);
  Figure figure{
      .name = name, .value = rate / 1e9, .unit = "GB/s", .beside = beside, .ratio = rate / bound};
  if (rows == 1) figure.aim = AtLeast(0.85, Aim::kRatio);
  report.Add(std::move(figure));
}

void Prefill(const Options& options, Report& report, Isa isa, int threads, Inputs inputs,
             int rows) {
  const std::string name = Name(isa, threads, inputs, rows);
  if (name.find(options.only) == std::string::npos) return;
  constexpr int kSize = 2048;
  const DType dtype = inputs.dtype;
  const auto bytes = MakeWeights(dtype);
  const auto backend =
      kernels::MakeCpuBackend({.threads = threads, .isa = isa, .activations = inputs.activations});
  kernels::ThreadPool pool(threads);
  const auto weight =
      backend->LoadWeight({bytes.get(), dtype, kSize, kSize}, kernels::WeightFormat::kStored);
  const auto x = backend->Allocate(static_cast<size_t>(rows) * kSize);
  const auto out = backend->Allocate(static_cast<size_t>(rows) * kSize);
  std::fill_n(x->data(), x->size(), 0.5f);
  double peak = 0;
  double rate = 0;
  for (int round = 0; round < kRounds; ++round) {
    peak = std::max(peak, PeakRate(options, pool, isa, inputs));
    constexpr int kRepeats = 3;
    const double seconds = Seconds(options, threads, [&] {
      for (int i = 0; i < kRepeats; ++i) {
        backend->MatMul(*weight, nullptr, x->data(), rows, false, out->data(), kSize);
      }
    });
    rate = std::max(rate, 2.0 * kRepeats * rows * kSize * kSize / seconds);
  }
  char beside[80];
  std::snprintf(beside, sizeof(beside), "multiply-adds in registers: %.0f GFLOP/s", peak / 1e9);
  Figure figure{
      .name = name, .value = rate / 1e9, .unit = "GFLOP/s", .beside = beside, .ratio = rate / peak};
  if (rows >= 64) figure.aim = AtLeast(0.5, Aim::kRatio);
  report.Add(std::move(figure));
}

// Products with weights of a format, made from BF16, beyond the caches. Reading
// the bytes is the bound for few rows; for many, arithmetic is.
void Formats(const Options& options, Report& report, Isa isa, int threads,
             kernels::WeightFormat format, kernels::Activations activations) {
  constexpr int kSize = 4096;
  constexpr int kRowCounts[] = {1, 4, 8, 16, 32, 256};
  const auto name = [&](int rows) {
    return std::string("matmul ") + std::to_string(rows) + (rows == 1 ? " row " : " rows ") +
           kernels::Name(format) + " format" + Rounded(activations) + kernels::Name(isa) + " x" +
           std::to_string(threads);
  };
  if (std::none_of(std::begin(kRowCounts), std::end(kRowCounts),
                   [&](int rows) { return name(rows).find(options.only) != std::string::npos; })) {
    return;
  }
  const auto bytes = MakeWeights(DType::kBF16);
  const auto backend =
      kernels::MakeCpuBackend({.threads = threads, .isa = isa, .activations = activations});
  kernels::ThreadPool pool(threads);
  std::vector<std::unique_ptr<kernels::Weight>> layers;
  size_t layer_bytes = 0;
  for (size_t at = 0; at + size_t{2} * kSize * kSize <= kBytes; at += size_t{2} * kSize * kSize) {
    layers.push_back(backend->LoadWeight({bytes.get() + at, DType::kBF16, kSize, kSize}, format));
    layer_bytes = layers.back()->bytes;
  }
  const auto x = backend->Allocate(size_t{256} * kSize);
  const auto out = backend->Allocate(size_t{256} * kSize);
  for (size_t i = 0; i < x->size(); ++i) x->data()[i] = 0.01f * static_cast<float>(i % 201) - 1;
  for (const int rows : kRowCounts) {
    if (name(rows).find(options.only) == std::string::npos) continue;
    const size_t used = rows > 32 ? 2 : layers.size();
    double read = 0;
    double rate = 0;
    for (int round = 0; round < kRounds; ++round) {
      read = std::max(read, BestReadRate(options, pool, bytes.get()));
      const double seconds = Seconds(options, threads, [&] {
        for (size_t layer = 0; layer < used; ++layer) {
          backend->MatMul(*layers[layer], nullptr, x->data(), rows, false, out->data(), kSize);
        }
      });
      rate = std::max(rate, static_cast<double>(used * layer_bytes) / seconds);
    }
    const double operations = 2.0 * rows * kSize * kSize / static_cast<double>(layer_bytes);
    char beside[100];
    std::snprintf(beside, sizeof(beside), "reading memory: %.1f GB/s; %.0f G operations/s",
                  read / 1e9, rate * operations / 1e9);
    Figure figure{.name = name(rows),
                  .value = rate / 1e9,
                  .unit = "GB/s",
                  .beside = beside,
                  .ratio = rate / read};
    if (rows == 1) figure.aim = AtLeast(0.85, Aim::kRatio);
    report.Add(std::move(figure));
  }
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--cpu-time") == 0) options.cpu_time = true;
    if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc) options.only = argv[++i];
  }
  Report report("kernels", argc, argv);
  EmptyRun(options, report, 2);
  const auto measure = [&](Isa isa, int threads, Inputs inputs) {
    std::fprintf(stderr, "%s, %d threads, %s\n", kernels::Name(isa), threads,
                 kernels::Name(inputs.dtype));
    Decode(options, report, isa, threads, inputs, 1);
    if (inputs.dtype != DType::kBF16) return;
    for (const int rows : {2, 3, 4, 5, 6, 8, 12, 16, 24, 32}) {
      Decode(options, report, isa, threads, inputs, rows);
    }
    for (const int rows : {64, 256}) Prefill(options, report, isa, threads, inputs, rows);
  };
  for (const Isa isa : {Isa::kAvx512Bf16, Isa::kAvx512, Isa::kAvx2}) {
    if (!kernels::IsSupported(isa)) continue;
    for (const int threads : {1, 2}) {
      if (isa == Isa::kAvx512Bf16) {
        measure(isa, threads, {DType::kBF16, kernels::Activations::kBF16Pairs});
        continue;
      }
      for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
        measure(isa, threads, {dtype});
      }
    }
  }
  for (const Isa isa : {kernels::BestIsa(), Isa::kAvx2}) {
    if (!kernels::IsSupported(isa)) continue;
    for (const int threads : {1, 2}) {
      for (const kernels::WeightFormat format : kernels::kWeightFormats) {
        if (format == kernels::WeightFormat::kStored) continue;
        Formats(options, report, isa, threads, format, kernels::Activations::kF32);
        if (format == kernels::WeightFormat::kFp8) {
          Formats(options, report, isa, threads, format, kernels::Activations::kBF16Pairs);
        }
      }
    }
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
