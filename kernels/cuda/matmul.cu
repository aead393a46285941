#include <algorithm>
#include <cassert>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_embed.cuh"
#include "kernels/cuda/matmul_formats.h"
#include "kernels/cuda/matmul_input.cuh"

namespace octogate::kernels::cuda {
namespace {

// Blocks from which on each does all chains: nearly one for each of Hopper's 132
// multiprocessors, and more would cost more in partial sums than they bring.
constexpr int kFoldBlocks = 96;

// Rows up to which several blocks convert one: there are multiprocessors to spare.
constexpr int kFewRows = 16;

constexpr size_t Aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

int OutBlocks(const PackedShape& shape) { return (shape.rows + kBlockOutputs - 1) / kBlockOutputs; }
int RowBlocks(int rows, const MatMulPlan& plan) {
  return (rows + plan.row_tiles * kTileRows - 1) / (plan.row_tiles * kTileRows);
}
bool NeedsPartials(const PackedShape& shape, const MatMulPlan& plan) {
  return !plan.fold && Chains(shape.cols) > 1;
}

// The workspace, in order of place.
struct WorkspaceLayout {
  size_t input;  // bytes of each part
  size_t row_factors;
  size_t counters;
  size_t partials;

  size_t bytes() const { return input + row_factors + counters + partials; }
};

WorkspaceLayout LayOut(const PackedShape& shape, int rows, InputRounding rounding,
                       const MatMulPlan& plan) {
  const size_t tiles = BlocksFor(rows, kTileRows);
  const size_t steps = static_cast<size_t>(PaddedColumns(shape.cols) / kStepColumns);
  const size_t row_count = static_cast<size_t>(rows);
  WorkspaceLayout layout{};
  layout.input = Aligned(tiles * steps * 32 * static_cast<size_t>(InputLaneBytes(rounding)));
  layout.row_factors = Aligned(row_count * sizeof(float));
  if (NeedsPartials(shape, plan)) {
    layout.counters = Aligned(static_cast<size_t>(OutBlocks(shape)) *
                              static_cast<size_t>(RowBlocks(rows, plan)) * sizeof(int));
    layout.partials =
        Aligned(static_cast<size_t>(Chains(shape.cols)) * row_count *
                static_cast<size_t>(OutBlocks(shape)) * kBlockOutputs * sizeof(float));
  }
  return layout;
}

template <typename T>
void LaunchPackInput(Stream stream, InputRounding rounding, const PackInputArguments& arguments) {
  const int quads = PaddedColumns(arguments.cols) / 4;
  const Grid grid{arguments.rows <= kFewRows ? BlocksFor(quads, kPackInputThreads) : 1,
                  static_cast<unsigned>(std::min(arguments.rows, kMaxGridRows))};
  Launch(stream, grid, kPackInputThreads, kPackInputThreads / kWarpThreads * sizeof(uint32_t),
         rounding == InputRounding::kSplit ? PackInputKernel<T, InputRounding::kSplit>
                                           : PackInputKernel<T, InputRounding::kRounded>,
         arguments);
}

LaunchFormatFunction* FormatFunction(PackedFormat format) {
  switch (format) {
    case PackedFormat::kBf16:
      return LaunchMatMulBf16;
    case PackedFormat::kF16:
      return LaunchMatMulF16;
    case PackedFormat::kInt8:
      return LaunchMatMulInt8;
    case PackedFormat::kInt8Group:
      return LaunchMatMulInt8Group;
    case PackedFormat::kInt4Group:
      return LaunchMatMulInt4Group;
    case PackedFormat::kFp8:
      return LaunchMatMulFp8;
  }
  return nullptr;
}

template <PackedFormat kFormat>
void LaunchEmbedAs(Stream stream, const PackedWeight& table, const int32_t* ids, int count,
                   float* out) {
  const Grid grid{BlocksFor(table.shape.cols, kEmbedPackedThreads),
                  static_cast<unsigned>(std::min(count, kMaxGridRows))};
  Launch(stream, grid, kEmbedPackedThreads, 0, EmbedPackedKernel<kFormat>, table.packed,
         table.shape, table.row_scales, ids, count, out);
}

}  // namespace

MatMulPlan PlanMatMul(const PackedShape& shape, int rows) {
  if (rows <= 8) return {1, false};
  if (rows <= 16) return {2, false};
  MatMulPlan plan{rows <= 32 ? 4 : 8, false};
  plan.fold = static_cast<int64_t>(OutBlocks(shape)) * RowBlocks(rows, plan) >= kFoldBlocks;
  return plan;
}

size_t MatMulWorkspaceBytes(const PackedShape& shape, int rows, InputRounding rounding,
                            const MatMulPlan& plan) {
  return LayOut(shape, rows, rounding, plan).bytes();
}

size_t MaxMatMulWorkspaceBytes(const PackedShape& shape, int max_rows, InputRounding rounding) {
  // A plan's need grows with the rows, and beyond kFoldBlocks full blocks of rows
  // none needs partial sums.
  size_t bytes = 0;
  const auto consider = [&](int rows) {
    rows = std::min(rows, max_rows);
    bytes = std::max(bytes, MatMulWorkspaceBytes(shape, rows, rounding, PlanMatMul(shape, rows)));
  };
  for (const int rows : {8, 16, 32, max_rows}) consider(rows);
  for (int rows = 64; rows < max_rows && !PlanMatMul(shape, rows).fold; rows += 64) consider(rows);
  return bytes;
}

void LaunchMatMul(Stream stream, const PackedWeight& weight, const MatMulOperation& operation,
                  const MatMulPlan& plan, void* workspace) {
  const PackedShape& shape = weight.shape;
  assert(operation.out_stride >= shape.rows);
  assert(!plan.fold || plan.row_tiles >= 4);
  if (operation.rows == 0 || shape.rows == 0) return;
  const WorkspaceLayout layout = LayOut(shape, operation.rows, operation.rounding, plan);
  auto* input = static_cast<uint8_t*>(workspace);
  auto* row_factors = reinterpret_cast<float*>(input + layout.input);
  auto* counters = reinterpret_cast<int*>(input + layout.input + layout.row_factors);
  auto* partials = reinterpret_cast<float*>(input + layout.bytes() - layout.partials);

  const int out_blocks = OutBlocks(shape);
  const int row_blocks = RowBlocks(operation.rows, plan);
  PackInputArguments pack{operation.x, operation.rows, shape.cols, input, nullptr, counters, 0};
  if (NeedsPartials(shape, plan)) pack.counter_count = out_blocks * row_blocks;
  if (shape.format == PackedFormat::kBf16) {
    LaunchPackInput<Bf16>(stream, operation.rounding, pack);
  } else {
    pack.row_factors = row_factors;
    LaunchPackInput<F16>(stream, operation.rounding, pack);
  }

  const MatMulArguments arguments{weight.packed,     shape,
                                  weight.row_scales, input,
                                  pack.row_factors,  operation.bias,
                                  operation.rows,    operation.accumulate,
                                  operation.out,     operation.out_stride,
                                  plan.fold,         partials,
                                  counters};
  const int chains = plan.fold ? 1 : Chains(shape.cols);
  const auto blocks = static_cast<unsigned>(static_cast<int64_t>(out_blocks) * chains * row_blocks);
  FormatFunction(shape.format)(stream, operation.rounding, plan.row_tiles, blocks, arguments);
}

void LaunchEmbedPacked(Stream stream, const PackedWeight& table, const int32_t* ids, int count,
                       float* out) {
  switch (table.shape.format) {
    case PackedFormat::kBf16:
      return LaunchEmbedAs<PackedFormat::kBf16>(stream, table, ids, count, out);
    case PackedFormat::kF16:
      return LaunchEmbedAs<PackedFormat::kF16>(stream, table, ids, count, out);
    case PackedFormat::kInt8:
      return LaunchEmbedAs<PackedFormat::kInt8>(stream, table, ids, count, out);
    case PackedFormat::kInt8Group:
      return LaunchEmbedAs<PackedFormat::kInt8Group>(stream, table, ids, count, out);
    case PackedFormat::kInt4Group:
      return LaunchEmbedAs<PackedFormat::kInt4Group>(stream, table, ids, count, out);
    case PackedFormat::kFp8:
      return LaunchEmbedAs<PackedFormat::kFp8>(stream, table, ids, count, out);
  }
}

}  // namespace octogate::kernels::cuda
