// Attention of decoding rows by context, in the same run beside reading as many bytes once in
// order, and in the runs that keys and values stand in: what a long context costs beyond what the
// memory allows.
//
//   attention_bench [--json] [--only TEXT]
//
// --only restricts it to the names that hold TEXT, of "DTYPE, head HEAD_DIM, THREADS, context
// CONTEXT", e.g. "BF16, head 128". A row has 4 heads for each of its kv heads. Pages stand in
// random order. Every figure is the best of several rounds in which the two take turns.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/report.h"

namespace octogate::bench {
namespace {

constexpr int kRounds = 5;
constexpr int kHeadsPerKvHead = 4;
constexpr int kKvHeads = 4;
constexpr int kPageSize = 16;
constexpr size_t kLeastBytes = size_t{768} << 20;  // read in a round: beyond the caches

struct Cell {
  kernels::DType dtype;
  int head_dim;
  int threads;
  int context;
};

void Measure(const Cell& cell, Report& report) {
  const auto backend = kernels::MakeCpuBackend({.threads = cell.threads, .pin_threads = true});
  const size_t position_bytes = 2 * kKvHeads * kernels::KvHeadBytes(cell.dtype, cell.head_dim);
  const size_t sequence_bytes = position_bytes * static_cast<size_t>(cell.context);
  const int sequences = static_cast<int>((kLeastBytes + sequence_bytes - 1) / sequence_bytes);
  const int pages_each = cell.context / kPageSize;
  const auto cache = backend->CreateKvCache({.layers = 1,
                                             .pages = sequences * pages_each,
                                             .page_size = kPageSize,
                                             .kv_heads = kKvHeads,
                                             .head_dim = cell.head_dim,
                                             .dtype = cell.dtype});
  if (cache == nullptr) std::abort();
  std::vector<int32_t> pages(static_cast<size_t>(cache->shape().pages));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), std::mt19937(1));
  const int heads = kKvHeads * kHeadsPerKvHead;
  const kernels::AttentionShape shape{
      .heads = heads, .kv_heads = kKvHeads, .head_dim = cell.head_dim, .scale = 0.1f};
  const int columns = heads * cell.head_dim;
  std::vector<float> values(static_cast<size_t>(cell.context * kKvHeads * cell.head_dim));
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.01f * static_cast<float>(i % 201) - 1;
  std::vector<kernels::SequenceRows> rows;
  for (int s = 0; s < sequences; ++s) {
    const auto own = std::span(pages).subspan(static_cast<size_t>(s * pages_each),
                                              static_cast<size_t>(pages_each));
    const kernels::SequenceRows whole{.row_count = cell.context, .pages = own};
    backend->WriteKv(*cache, 0, std::span(&whole, 1), values.data(), values.data(),
                     kKvHeads * cell.head_dim);
    rows.push_back({.row_count = 1, .first_position = cell.context - 1, .pages = own});
  }
  const auto q = backend->Allocate(static_cast<size_t>(columns));
  const auto out = backend->Allocate(static_cast<size_t>(columns));
  std::copy_n(values.begin(), columns, q->data());
  const size_t run_bytes = kPageSize * kernels::KvHeadBytes(cell.dtype, cell.head_dim);
  double read = 0;
  double read_runs = 0;
  double rate = 0;
  for (int round = 0; round < kRounds; ++round) {
    read = std::max(read, MeasureReadBandwidth(cell.threads));
    read_runs = std::max(read_runs, MeasureRunBandwidth(cell.threads, run_bytes));
    const absl::Time start = absl::Now();
    for (const kernels::SequenceRows& row : rows) {
      backend->Attention(shape, *cache, 0, std::span(&row, 1), q->data(), columns, out->data());
    }
    backend->Synchronize();
    rate = std::max(rate, static_cast<double>(sequence_bytes) * sequences /
                              absl::ToDoubleSeconds(absl::Now() - start));
  }
  report.Add(
      {.name = absl::StrCat(kernels::Name(cell.dtype), ", head ", cell.head_dim, ", ",
                            Threads(cell.threads), ", context ", cell.context),
       .value = rate / 1e9,
       .unit = "GB/s",
       .beside = absl::StrFormat("reading memory: %.1f GB/s, in runs of a page %.1f: %.2f of that",
                                 read / 1e9, read_runs / 1e9, rate / read_runs),
       .ratio = rate / read});
}

int Main(int argc, char** argv) {
  Report report("attention", argc, argv);
  const std::string only = OnlyOf(argc, argv);
  for (const kernels::DType dtype :
       {kernels::DType::kBF16, kernels::DType::kF16, kernels::DType::kF8E4M3, kernels::DType::kI8,
        kernels::DType::kF32}) {
    for (const int head_dim : {64, 128}) {
      for (const int threads : {1, 2}) {
        for (const int context : {1024, 16384, 131072}) {
          const std::string name = absl::StrCat(kernels::Name(dtype), ", head ", head_dim, ", ",
                                                Threads(threads), ", context ", context);
          if (name.find(only) == std::string::npos) continue;
          Measure({dtype, head_dim, threads, context}, report);
        }
      }
    }
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
