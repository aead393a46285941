#include <algorithm>
#include <cassert>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/tensor_attention.cuh"
#include "kernels/cuda/tensor_attention.h"

namespace octogate::kernels::cuda {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr int kMergeThreads = 128;

// The tiles of one list from `arguments.tiles` on, which is moved behind them.
template <typename T, int kDim, int kPairs>
void Attend(Stream stream, TensorAttentionArguments& arguments, int tiles, int kv_heads) {
  using Config = TensorConfig<T, kDim, kPairs>;
  static_assert(Config::kBytes <= kMaxSharedBytes);
  const Grid grid{static_cast<unsigned>(tiles), static_cast<unsigned>(kv_heads)};
  Launch(stream, grid, kTensorThreads, Config::kBytes, TensorAttentionKernel<T, kDim, kPairs>,
         arguments);
  arguments.tiles += tiles;
}

template <typename T, int kDim>
void AttendSlab(Stream stream, const AttentionTiles::Slab& slab, int kv_heads,
                TensorAttentionArguments arguments) {
  using List = AttentionTiles::List;
  Attend<T, kDim, kNarrowPairs>(stream, arguments, slab.tiles[List::kNarrow], kv_heads);
  Attend<T, kDim, kWidePairs>(stream, arguments, slab.tiles[List::kWide], kv_heads);
  Attend<T, kDim, kNarrowPairs>(stream, arguments, slab.tiles[List::kNarrowRest], kv_heads);
  Attend<T, kDim, kWidePairs>(stream, arguments, slab.tiles[List::kWideRest], kv_heads);
}

template <typename T>
void AttendSlabOfDim(Stream stream, const AttentionTiles::Slab& slab, int kv_heads,
                     const TensorAttentionArguments& arguments) {
  switch (arguments.shape.head_dim) {
    case 64:
      return AttendSlab<T, 64>(stream, slab, kv_heads, arguments);
    case 96:
      return AttendSlab<T, 96>(stream, slab, kv_heads, arguments);
    default:
      assert(arguments.shape.head_dim == 128);
      return AttendSlab<T, 128>(stream, slab, kv_heads, arguments);
  }
}

// Units that a row has parts of, or, of a tree, may have.
int PartsOf(const StepRow& row, int sliding_window) {
  const int units = UnitsOf(row, sliding_window);
  const bool continues = row.path >= 0 && row.tree_position % kUnitPositions >= kTilePositions;
  return units > 1 || continues ? units : 0;
}

}  // namespace

bool TensorAttentionFits(const AttentionShape& shape, DType dtype) {
  const bool type_fits = dtype == DType::kBF16 || dtype == DType::kF8E4M3 || dtype == DType::kI8;
  const bool dim_fits = shape.head_dim == 64 || shape.head_dim == 96 || shape.head_dim == 128;
  return type_fits && dim_fits && shape.heads / shape.kv_heads <= kWidePairs &&
         shape.kv_heads <= kMaxGridRows;
}

void AttentionTiles::CloseSlab() {
  if (slabs_.empty()) return;
  Slab& slab = slabs_.back();
  slab.first_tile = static_cast<int>(tiles_.size());
  for (int i = 0; i < kLists; ++i) {
    std::vector<AttentionTile>& list = lists_[i];
    if (!list.empty())
      list.resize(static_cast<size_t>(RoundedCount(static_cast<int>(list.size()))));
    slab.tiles[i] = static_cast<int>(list.size());
    tiles_.insert(tiles_.end(), list.begin(), list.end());
    list.clear();
  }
}

void AttentionTiles::Fill(std::span<const StepRow> rows, const AttentionShape& shape,
                          size_t workspace_bytes) {
  tiles_.clear();
  slabs_.clear();
  first_parts_.clear();
  const int window = shape.sliding_window;
  const int group = shape.heads / shape.kv_heads;
  int64_t most_parts = 0;  // of one row
  for (const StepRow& row : rows) most_parts = std::max<int64_t>(most_parts, PartsOf(row, window));
  // Parts, with those of one kv head's heads, that there is room for.
  const auto room = static_cast<int64_t>(
      workspace_bytes / (sizeof(float) * static_cast<size_t>(group * (shape.head_dim + 2))));
  assert(most_parts <= room);
  kv_heads_ = most_parts == 0
                  ? shape.kv_heads
                  : static_cast<int>(std::min<int64_t>(shape.kv_heads, room / most_parts));
  const int64_t parts_at_once = room / kv_heads_;
  const int most_rows = kWidePairs / group;  // of a tile
  int64_t parts = 0;                         // of the slab at hand

  for (size_t first = 0; first < rows.size();) {
    const StepRow& begin = rows[first];
    const bool tree = begin.path >= 0;
    if (slabs_.empty() || parts + PartsOf(begin, window) > parts_at_once) {
      CloseSlab();
      slabs_.push_back({.first_row = static_cast<int>(first)});
      parts = 0;
    }
    Slab& slab = slabs_.back();
    size_t end = first;
    int first_position = FirstSeen(begin.position, window);
    int end_position = 0;
    for (; end < rows.size() && end - first < static_cast<size_t>(most_rows); ++end) {
      const StepRow& row = rows[end];
      const int own_parts = PartsOf(row, window);
      if (row.first_page != begin.first_page || (row.path >= 0) != tree ||
          parts + own_parts > parts_at_once) {
        break;
      }
      first_parts_.push_back(static_cast<int32_t>(parts));
      parts += own_parts;
      slab.merges = slab.merges || UnitsOf(row, window) > 1;
      first_position = std::min(first_position, FirstSeen(row.position, window));
      end_position = std::max(end_position, row.position + 1);
    }
    const int count = static_cast<int>(end - first);
    slab.rows += count;

    // Tiles for the positions [from, to) of `tile_rows` rows, of which the unit
    // `cut` is shared out among tiles.
    const auto add = [&](size_t row, int tile_rows, int from, int to, int cut, TilePart part) {
      const bool narrow = tile_rows * group <= kNarrowPairs;
      for (int unit = from / kUnitPositions; unit * kUnitPositions < to; ++unit) {
        const int start = unit * kUnitPositions;
        const TilePart own = unit == cut ? part : TilePart::kAll;
        const bool rest = own == TilePart::kRest;
        lists_[rest ? (narrow ? kNarrowRest : kWideRest) : (narrow ? kNarrow : kWide)].push_back(
            {static_cast<int32_t>(row), unit, static_cast<int16_t>(tile_rows), own,
             static_cast<int16_t>(std::max(from - start, 0)),
             static_cast<int16_t>(std::min(to - start, kUnitPositions))});
      }
    };
    // The positions that all rows have in the same slots: of a chain all, of a tree
    // whole tiles of positions before it.
    constexpr int kNone = -1;
    if (!tree) {
      if (first_position < end_position) {
        add(first, count, first_position, end_position, kNone, TilePart::kAll);
      }
    } else {
      const int shared_end = begin.tree_position / kTilePositions * kTilePositions;
      const int unit = begin.tree_position / kUnitPositions;
      // The unit in which the tree begins, where the rows share some of it.
      const int cut = shared_end > std::max(first_position, unit * kUnitPositions) ? unit : kNone;
      if (first_position < shared_end) {
        add(first, count, first_position, shared_end, cut, TilePart::kBeginning);
      }
      for (size_t r = first; r < end; ++r) {
        const int from = std::max(FirstSeen(rows[r].position, window), shared_end);
        add(r, 1, from, rows[r].position + 1, cut, TilePart::kRest);
      }
    }
    first = end;
  }
  CloseSlab();
}

void LaunchTensorAttention(Stream stream, const TensorAttention& operation,
                           const AttentionTiles& tiles, const Workspace& workspace) {
  const AttentionShape& shape = operation.shape;
  const int group = shape.heads / shape.kv_heads;
  TensorAttentionArguments arguments;
  arguments.shape = shape;
  arguments.cache = operation.cache;
  arguments.layer = operation.layer;
  arguments.rows = operation.rows;
  arguments.split = operation.rounding == InputRounding::kSplit;
  arguments.log2_scale = shape.scale * kLog2E;
  arguments.q = operation.q;
  arguments.q_stride = operation.q_stride;
  arguments.part_heads = tiles.kv_heads() * group;
  arguments.parts = static_cast<float*>(workspace.data);
  arguments.first_parts = operation.first_parts;
  arguments.out = operation.out;
  for (const AttentionTiles::Slab& slab : tiles.slabs()) {
    arguments.first_row = slab.first_row;
    arguments.tiles = operation.tiles + slab.first_tile;
    for (int first = 0; first < shape.kv_heads; first += tiles.kv_heads()) {
      const int kv_heads = std::min(tiles.kv_heads(), shape.kv_heads - first);
      arguments.first_kv_head = first;
      switch (operation.cache.dtype) {
        case DType::kBF16:
          AttendSlabOfDim<Bf16>(stream, slab, kv_heads, arguments);
          break;
        case DType::kF8E4M3:
          AttendSlabOfDim<F8>(stream, slab, kv_heads, arguments);
          break;
        default:
          assert(operation.cache.dtype == DType::kI8);
          AttendSlabOfDim<I8>(stream, slab, kv_heads, arguments);
          break;
      }
      if (!slab.merges) continue;
      const Grid grid{static_cast<unsigned>(slab.rows), static_cast<unsigned>(kv_heads * group)};
      Launch(stream, grid, kMergeThreads, 0, MergeUnitsKernel, arguments);
    }
  }
}

}  // namespace octogate::kernels::cuda
