#include <algorithm>
#include <cassert>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/tensor_attention.cuh"
#include "kernels/cuda/tensor_attention.h"

namespace octogate::kernels::cuda {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr int kMergeThreads = 128;

// Bytes of the parts of one row that sees `units` units.
size_t PartBytes(const AttentionShape& shape, int units) {
  if (units == 1) return 0;
  return sizeof(float) * static_cast<size_t>(shape.heads) * static_cast<size_t>(units) *
         static_cast<size_t>(shape.head_dim + 2);
}

template <typename T, int kDim, int kPairs>
void Attend(Stream stream, const TensorAttentionArguments& arguments, int tiles, int units) {
  using Config = TensorConfig<T, kDim, kPairs>;
  static_assert(Config::kBytes <= kMaxSharedBytes);
  const Grid grid{static_cast<unsigned>(tiles), static_cast<unsigned>(arguments.shape.kv_heads),
                  static_cast<unsigned>(units)};
  Launch(stream, grid, kTensorThreads, Config::kBytes, TensorAttentionKernel<T, kDim, kPairs>,
         arguments);
}

template <typename T, int kDim>
void AttendSlab(Stream stream, const TensorAttention& operation, const AttentionTiles::Slab& slab,
                int tile_units, TensorAttentionArguments arguments) {
  arguments.tiles = operation.narrow + slab.first_narrow;
  Attend<T, kDim, kNarrowPairs>(stream, arguments, slab.narrow, tile_units);
  arguments.tiles = operation.wide + slab.first_wide;
  Attend<T, kDim, kWidePairs>(stream, arguments, slab.wide, tile_units);
}

template <typename T>
void AttendSlabOfDim(Stream stream, const TensorAttention& operation,
                     const AttentionTiles::Slab& slab, int tile_units,
                     const TensorAttentionArguments& arguments) {
  switch (operation.shape.head_dim) {
    case 64:
      return AttendSlab<T, 64>(stream, operation, slab, tile_units, arguments);
    case 96:
      return AttendSlab<T, 96>(stream, operation, slab, tile_units, arguments);
    default:
      assert(operation.shape.head_dim == 128);
      return AttendSlab<T, 128>(stream, operation, slab, tile_units, arguments);
  }
}

}  // namespace

bool TensorAttentionFits(const AttentionShape& shape, DType dtype) {
  const bool type_fits = dtype == DType::kBF16 || dtype == DType::kF8E4M3 || dtype == DType::kI8;
  const bool dim_fits = shape.head_dim == 64 || shape.head_dim == 96 || shape.head_dim == 128;
  return type_fits && dim_fits && shape.heads / shape.kv_heads <= kWidePairs &&
         shape.kv_heads <= kMaxGridRows;
}

void AttentionTiles::Add(const AttentionTile& tile, int group) {
  (tile.rows * group <= kNarrowPairs ? narrow_ : wide_).push_back(tile);
  tile_units_ = std::max(tile_units_, tile.units);
}

void AttentionTiles::Fill(std::span<const StepRow> rows, const AttentionShape& shape,
                          size_t workspace_bytes) {
  narrow_.clear();
  wide_.clear();
  slabs_.clear();
  const int window = shape.sliding_window;
  units_ = 1;
  tile_units_ = 1;
  for (const StepRow& row : rows) units_ = std::max(units_, UnitsOf(row, window));
  // So that a sequence that grows has the same launches for most of its steps.
  const int rounded = RoundedCount(units_);
  if (rounded <= kMaxGridRows && PartBytes(shape, rounded) <= workspace_bytes) units_ = rounded;
  const size_t part_bytes = PartBytes(shape, units_);
  assert(units_ <= kMaxGridRows && part_bytes <= workspace_bytes);
  const int rows_at_once =
      part_bytes == 0 ? static_cast<int>(rows.size())
                      : static_cast<int>(std::min(workspace_bytes / part_bytes, rows.size()));
  const int group = shape.heads / shape.kv_heads;
  const int tile_rows = std::min(kWidePairs / group, std::max(1, rows_at_once));

  for (size_t first = 0; first < rows.size();) {
    const StepRow& begin = rows[first];
    const bool tree = begin.path >= 0;
    size_t end = first + 1;
    while (end < rows.size() && end - first < static_cast<size_t>(tile_rows) &&
           rows[end].first_page == begin.first_page && (rows[end].path >= 0) == tree) {
      ++end;
    }
    const int count = static_cast<int>(end - first);
    if (slabs_.empty() || slabs_.back().rows + count > rows_at_once) {
      slabs_.push_back({static_cast<int>(first), 0, static_cast<int>(narrow_.size()), 0,
                        static_cast<int>(wide_.size()), 0});
    }
    // The positions that all rows have in the same slots: of a chain all, of a
    // tree those of the units before the one in which it begins.
    AttentionTile shared{static_cast<int32_t>(first),       count, 0, 0,
                         FirstSeen(begin.position, window), 0};
    for (size_t r = first; r < end; ++r) {
      shared.first_position = std::min(shared.first_position, FirstSeen(rows[r].position, window));
      shared.end_position = std::max(shared.end_position, rows[r].position + 1);
    }
    const int tree_unit = begin.tree_position / kUnitPositions;
    if (tree) shared.end_position = tree_unit * kUnitPositions;
    shared.first_unit = shared.first_position / kUnitPositions;
    shared.units = (shared.end_position + kUnitPositions - 1) / kUnitPositions - shared.first_unit;
    if (shared.first_position < shared.end_position) Add(shared, group);
    for (size_t r = first; tree && r < end; ++r) {
      AttentionTile own{static_cast<int32_t>(r), 1, 0, 0, FirstSeen(rows[r].position, window),
                        rows[r].position + 1};
      own.first_position = std::max(own.first_position, tree_unit * kUnitPositions);
      own.first_unit = own.first_position / kUnitPositions;
      own.units = rows[r].position / kUnitPositions - own.first_unit + 1;
      Add(own, group);
    }
    Slab& slab = slabs_.back();
    slab.rows += count;
    slab.narrow = static_cast<int>(narrow_.size()) - slab.first_narrow;
    slab.wide = static_cast<int>(wide_.size()) - slab.first_wide;
    first = end;
  }
  assert(tile_units_ <= kMaxGridRows);
  tile_units_ = std::min(RoundedCount(tile_units_), kMaxGridRows);
}

void LaunchTensorAttention(Stream stream, const TensorAttention& operation,
                           const AttentionTiles& tiles, const Workspace& workspace) {
  TensorAttentionArguments arguments;
  arguments.shape = operation.shape;
  arguments.cache = operation.cache;
  arguments.layer = operation.layer;
  arguments.rows = operation.rows;
  arguments.split = operation.rounding == InputRounding::kSplit;
  arguments.log2_scale = operation.shape.scale * kLog2E;
  arguments.q = operation.q;
  arguments.q_stride = operation.q_stride;
  arguments.parts = static_cast<float*>(workspace.data);
  arguments.units = tiles.units();
  arguments.out = operation.out;
  for (const AttentionTiles::Slab& slab : tiles.slabs()) {
    arguments.first_row = slab.first_row;
    arguments.tiles = nullptr;
    switch (operation.cache.dtype) {
      case DType::kBF16:
        AttendSlabOfDim<Bf16>(stream, operation, slab, tiles.tile_units(), arguments);
        break;
      case DType::kF8E4M3:
        AttendSlabOfDim<F8>(stream, operation, slab, tiles.tile_units(), arguments);
        break;
      default:
        assert(operation.cache.dtype == DType::kI8);
        AttendSlabOfDim<I8>(stream, operation, slab, tiles.tile_units(), arguments);
        break;
    }
    if (tiles.units() == 1) continue;
    const Grid grid{static_cast<unsigned>(slab.rows), static_cast<unsigned>(operation.shape.heads)};
    Launch(stream, grid, kMergeThreads, 0, MergeUnitsKernel, arguments);
  }
}

}  // namespace octogate::kernels::cuda
