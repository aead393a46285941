// Kernels of tensor_attention.h.
//
// A thread block of four warps takes one tile of rows, one kv head and one unit of
// positions. Its pairs of row and head are the rows of the matrices: either each
// warp has 16 pairs and all positions and columns (kWidePairs), or all warps have
// the same 16 pairs and each a quarter of the positions and of the columns
// (kNarrowPairs). Both do the same operations on every number.
//
// Keys of the next tile of positions are under way while values are multiplied,
// and values while scores are.

#ifndef OCTOGATE_KERNELS_CUDA_TENSOR_ATTENTION_CUH_
#define OCTOGATE_KERNELS_CUDA_TENSOR_ATTENTION_CUH_

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/step_rows.h"
#include "kernels/cuda/tensor_attention.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::cuda {

inline constexpr int kTensorThreads = 128;
inline constexpr int kTensorWarps = kTensorThreads / kWarpThreads;
inline constexpr int kSlices = kTilePositions / 16;

struct TensorAttentionArguments {
  AttentionShape shape;
  KvView cache;
  int layer = 0;
  StepRows rows;
  const AttentionTile* tiles = nullptr;
  bool split = true;     // q and p are two BF16
  float log2_scale = 0;  // scale log2(e)
  const float* q = nullptr;
  int q_stride = 0;
  int first_kv_head = 0;
  int part_heads = 0;  // heads that are computed at once
  // Of a row's units from first_parts[row] on, [part][head], each max, sum and
  // head_dim values; rows that see one unit, and all of it in one tile, have none.
  float* parts = nullptr;
  const int32_t* first_parts = nullptr;
  int first_row = 0;  // of the slab
  float* out = nullptr;
  bool operator==(const TensorAttentionArguments&) const = default;
};

OCTOGATE_HOST_DEVICE inline int FirstUnit(const StepRow& row, int sliding_window) {
  return FirstSeen(row.position, sliding_window) / kUnitPositions;
}
OCTOGATE_HOST_DEVICE inline int UnitsOf(const StepRow& row, int sliding_window) {
  return row.position / kUnitPositions - FirstUnit(row, sliding_window) + 1;
}

OCTOGATE_DEVICE int64_t PartFloats(int head_dim) { return head_dim + 2; }
// The part of one unit of a row, both counted from their first, and of one head.
OCTOGATE_DEVICE float* PartOf(const TensorAttentionArguments& a, int row, int own_unit, int head) {
  const int64_t part = a.first_parts[row] + own_unit;
  const int own_head = head - a.first_kv_head * (a.shape.heads / a.shape.kv_heads);
  return a.parts + (part * a.part_heads + own_head) * PartFloats(a.shape.head_dim);
}

// What the pairs of a thread block are, and its shared memory.
template <typename T, int kDim, int kPairs>
struct TensorConfig {
  static constexpr int kWarpRows = kPairs / 16;
  static constexpr int kWarpColumns = kTensorWarps / kWarpRows;
  static constexpr int kOwnSlices = kSlices / kWarpColumns;
  static constexpr int kOwnTiles = kDim / 8 / kWarpColumns;  // of 8 columns
  // Rows of BF16 are 16 bytes longer than they need, so that the eight rows of a
  // matrix lie in different banks.
  static constexpr int kDimStride = kDim + 8;
  static constexpr int kPositionStride = kTilePositions + 8;

  int64_t* offsets;   // [kUnitPositions]: bytes to the key of each position
  float* scales;      // [2][kTilePositions] of keys and values, where T is I8
  uint16_t* q;        // [2][kPairs][kDimStride]: high and low
  uint16_t* keys;     // [kTilePositions][kDimStride]
  uint16_t* values;   // [kTilePositions][kDimStride]
  uint16_t* weights;  // [2][kPairs][kPositionStride]: high and low
  float* slice_max;   // [kPairs][kSlices]
  float* slice_sum;   // [kPairs][kSlices]
  int* first_seen;    // [kPairs]
  int* last_seen;     // [kPairs]; before first_seen where there is no pair

  static constexpr size_t kBytes =
      sizeof(int64_t) * kUnitPositions + sizeof(float) * 2 * kTilePositions +
      sizeof(uint16_t) * (2 * kPairs * kDimStride + 2 * kTilePositions * kDimStride +
                          2 * kPairs * kPositionStride) +
      sizeof(float) * 2 * kPairs * kSlices + sizeof(int) * 2 * kPairs;

  OCTOGATE_DEVICE_MEMBER void Carve() {
    offsets = SharedMemory<int64_t>();
    scales = reinterpret_cast<float*>(offsets + kUnitPositions);
    q = reinterpret_cast<uint16_t*>(scales + 2 * kTilePositions);
    keys = q + 2 * kPairs * kDimStride;
    values = keys + kTilePositions * kDimStride;
    weights = values + kTilePositions * kDimStride;
    slice_max = reinterpret_cast<float*>(weights + 2 * kPairs * kPositionStride);
    slice_sum = slice_max + kPairs * kSlices;
    first_seen = reinterpret_cast<int*>(slice_sum + kPairs * kSlices);
    last_seen = first_seen + kPairs;
  }
};

// Two floats as BF16, and what is missing to them.
struct SplitPair {
  uint32_t high;
  uint32_t low;
};
OCTOGATE_DEVICE SplitPair Split(float x, float y) {
  const float x_high = ToFloat(FromFloat<Bf16>(x));
  const float y_high = ToFloat(FromFloat<Bf16>(y));
  return {Pack<Bf16>(x_high, y_high), Pack<Bf16>(x - x_high, y - y_high)};
}

// Takes keys or values of the tile that begins `start` positions into the unit to
// shared memory; zeros for positions outside of [begin, end), counted likewise.
template <typename T, int kDim>
OCTOGATE_DEVICE void FetchTile(const uint8_t* data, const int64_t* offsets, int start, int begin,
                               int end, uint16_t* to) {
  constexpr int kStride = kDim + 8;
  constexpr int kVectorElements = 16 / static_cast<int>(sizeof(T));
  constexpr int kVectors = kDim / kVectorElements;  // of a position
  for (int i = ThreadIndex(); i < kTilePositions * kVectors; i += kTensorThreads) {
    const int j = start + i / kVectors;
    const bool inside = j >= begin && j < end;
    const uint8_t* from = data + (inside ? offsets[j] : 0) + i % kVectors * 16;
    uint16_t* target = to + i / kVectors * kStride + i % kVectors * kVectorElements;
    if constexpr (std::is_same_v<T, Bf16>) {
      CopyAsync(target, inside ? from : data, inside);
    } else {
      Vector16 packed{};
      if (inside) packed = LoadVector(from);
      Vector16 widened[2];
#pragma unroll
      for (int w = 0; w < 8; ++w) {
        const uint32_t two = packed.words[w / 2] >> (w % 2 * 16);
        float value[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const auto bits = static_cast<uint8_t>(two >> (8 * e));
          if constexpr (std::is_same_v<T, F8>) {
            value[e] = ToFloat(F8{bits});
          } else {
            value[e] = ToFloat(I8{static_cast<int8_t>(bits)});
          }
        }
        widened[w / 4].words[w % 4] = Pack<Bf16>(value[0], value[1]);
      }
      StoreVector(target, widened[0]);
      StoreVector(target + 8, widened[1]);
    }
  }
}

template <typename T, int kDim, int kPairs>
OCTOGATE_KERNEL void OCTOGATE_LAUNCH_BOUNDS(kTensorThreads, kPairs == kNarrowPairs ? 3 : 2)
    TensorAttentionKernel(TensorAttentionArguments a) {
  using Config = TensorConfig<T, kDim, kPairs>;
  Config shared;
  shared.Carve();
  const AttentionTile tile = a.tiles[BlockX()];
  if (tile.rows == 0) return;
  const int kv_head = a.first_kv_head + BlockY();
  const int group = a.shape.heads / a.shape.kv_heads;
  const int unit_start = tile.unit * kUnitPositions;
  const StepRow* rows = a.rows.rows + tile.first_row;
  const uint8_t* data = static_cast<const uint8_t*>(a.cache.data);
  const int pairs = tile.rows * group;

  // Positions are counted from the start of the unit from here on.
  const int begin = tile.begin;
  const int end = tile.end;
  for (int j = begin + ThreadIndex(); j < end; j += kTensorThreads) {
    // All rows of a tile that is not one row's alone have their tree, if any,
    // behind these positions.
    const int slot = SlotOf(rows[0], a.rows.paths, unit_start + j);
    const int page = a.rows.pages[rows[0].first_page + slot / a.cache.page_size];
    shared.offsets[j] =
        RunOffset(a.cache, page, a.layer, kv_head) + SlotOffset(a.cache, slot % a.cache.page_size);
  }
  for (int i = ThreadIndex(); i < kPairs; i += kTensorThreads) {
    const bool there = i < pairs;
    const int position = there ? rows[i / group].position : 0;
    shared.first_seen[i] = there ? FirstSeen(position, a.shape.sliding_window) - unit_start : 1;
    shared.last_seen[i] = there ? position - unit_start : 0;
  }
  for (int i = ThreadIndex(); i < kPairs * kDim / 2; i += kTensorThreads) {
    const int pair = i / (kDim / 2);
    const int d = i % (kDim / 2) * 2;
    SplitPair two{0, 0};
    if (pair < pairs) {
      const float* from = a.q + static_cast<int64_t>(rows[pair / group].row) * a.q_stride +
                          (kv_head * group + pair % group) * kDim + d;
      two = Split(from[0], from[1]);
    }
    uint16_t* to = shared.q + pair * Config::kDimStride + d;
    *reinterpret_cast<uint32_t*>(to) = two.high;
    *reinterpret_cast<uint32_t*>(to + kPairs * Config::kDimStride) = two.low;
  }
  Barrier();

  const int warp_row = Warp() / Config::kWarpColumns;
  const int warp_column = Warp() % Config::kWarpColumns;
  const int row = Lane() / 4;           // of the matrices, and row + 8
  const int column = 2 * (Lane() % 4);  // of 8, and column + 1
  const int pair0 = warp_row * 16 + row;
  // Where this lane's row of four 8 x 8 matrices begins: those of 16 rows by 16
  // columns as the first operand, and as the second one.
  const int left = Lane() % 16;
  const int left_column = Lane() / 16 * 8;
  const int right = Lane() % 8 + Lane() / 16 * 8;
  const int right_column = Lane() / 8 % 2 * 8;

  float o[Config::kOwnTiles][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};

  if (tile.part == TilePart::kRest) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int pair = pair0 + 8 * r;
      if (pair >= pairs) continue;
      const int own_unit = tile.unit - FirstUnit(rows[0], a.shape.sliding_window);
      const float* part = PartOf(a, tile.first_row, own_unit, kv_head * group + pair);
      max[r] = part[0];
      sum[r] = part[1];
#pragma unroll
      for (int n = 0; n < Config::kOwnTiles; ++n) {
        const int d = (warp_column * Config::kOwnTiles + n) * 8 + column;
        o[n][2 * r] = part[2 + d];
        o[n][2 * r + 1] = part[2 + d + 1];
      }
    }
  }

  const uint8_t* value_data = data + a.cache.run_bytes;
  const int first_tile = begin / kTilePositions;
  const int tiles = (end + kTilePositions - 1) / kTilePositions;
  FetchTile<T, kDim>(data, shared.offsets, first_tile * kTilePositions, begin, end, shared.keys);
  CopyAsyncCommit();
  FetchTile<T, kDim>(value_data, shared.offsets, first_tile * kTilePositions, begin, end,
                     shared.values);
  CopyAsyncCommit();
  for (int t = first_tile; t < tiles; ++t) {
    const int start = t * kTilePositions;
    if constexpr (std::is_same_v<T, I8>) {
      for (int i = ThreadIndex(); i < 2 * kTilePositions; i += kTensorThreads) {
        const int j = start + i % kTilePositions;
        float scale = 0;
        if (j >= begin && j < end) {
          const int slot = SlotOf(rows[0], a.rows.paths, unit_start + j);
          const int page = a.rows.pages[rows[0].first_page + slot / a.cache.page_size];
          const uint8_t* run = data + RunOffset(a.cache, page, a.layer, kv_head) +
                               (i < kTilePositions ? 0 : a.cache.run_bytes);
          scale =
              *reinterpret_cast<const float*>(run + ScaleOffset(a.cache, slot % a.cache.page_size));
        }
        shared.scales[i] = scale;
      }
    }
    CopyAsyncWait<1>();
    Barrier();

    float s[Config::kOwnSlices][2][4] = {};
#pragma unroll
    for (int k = 0; k < kDim; k += 16) {
      uint32_t high[4];
      uint32_t low[4] = {};
      const uint16_t* from =
          shared.q + (warp_row * 16 + left) * Config::kDimStride + k + left_column;
      LoadMatrix4(from, high);
      if (a.split) LoadMatrix4(from + kPairs * Config::kDimStride, low);
#pragma unroll
      for (int i = 0; i < Config::kOwnSlices; ++i) {
        const int slice = warp_column * Config::kOwnSlices + i;
        uint32_t key[4];
        LoadMatrix4(shared.keys + (slice * 16 + right) * Config::kDimStride + k + right_column,
                    key);
        const uint32_t first[2] = {key[0], key[1]};
        const uint32_t second[2] = {key[2], key[3]};
        Mma<Bf16>(s[i][0], high, first);
        Mma<Bf16>(s[i][1], high, second);
        if (a.split) {
          Mma<Bf16>(s[i][0], low, first);
          Mma<Bf16>(s[i][1], low, second);
        }
      }
    }
    // Scores that are not seen are minus infinity.
#pragma unroll
    for (int i = 0; i < Config::kOwnSlices; ++i) {
      const int slice = warp_column * Config::kOwnSlices + i;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int first_seen = shared.first_seen[pair0 + 8 * r];
        const int last_seen = shared.last_seen[pair0 + 8 * r];
        float slice_max = -INFINITY;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int in_tile = slice * 16 + e / 2 * 8 + column + e % 2;
          float& score = s[i][e / 2][2 * r + e % 2];
          if constexpr (std::is_same_v<T, I8>) score *= shared.scales[in_tile];
          const int j = start + in_tile;
          score = j >= first_seen && j <= last_seen ? score * a.log2_scale : -INFINITY;
          slice_max = Maximum(score, slice_max);
        }
        slice_max = Maximum(ShuffleXor(slice_max, 1), slice_max);
        slice_max = Maximum(ShuffleXor(slice_max, 2), slice_max);
        if (Lane() % 4 == 0) shared.slice_max[(pair0 + 8 * r) * kSlices + slice] = slice_max;
      }
    }
    Barrier();
    // The keys are not needed any more.
    const bool more = t + 1 < tiles;
    if (more) {
      FetchTile<T, kDim>(data, shared.offsets, start + kTilePositions, begin, end, shared.keys);
    }
    CopyAsyncCommit();

    float shrink[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float now = max[r];
      for (int i = 0; i < kSlices; ++i) {
        now = Maximum(shared.slice_max[(pair0 + 8 * r) * kSlices + i], now);
      }
      shrink[r] = max[r] == now ? 1.0f : Exp2(max[r] - now);
      max[r] = now;
    }
#pragma unroll
    for (int i = 0; i < Config::kOwnSlices; ++i) {
      const int slice = warp_column * Config::kOwnSlices + i;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float p[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float score = s[i][e / 2][2 * r + e % 2];
          p[e] = score == -INFINITY ? 0.0f : Exp2(score - max[r]);
        }
        float slice_sum = (p[0] + p[1]) + (p[2] + p[3]);
        slice_sum += ShuffleXor(slice_sum, 1);
        slice_sum += ShuffleXor(slice_sum, 2);
        if (Lane() % 4 == 0) shared.slice_sum[(pair0 + 8 * r) * kSlices + slice] = slice_sum;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int in_tile = slice * 16 + half * 8 + column;
          float first = p[2 * half];
          float second = p[2 * half + 1];
          if constexpr (std::is_same_v<T, I8>) {
            // A scale that is a NaN stays with those that see it.
            if (first != 0) first *= shared.scales[kTilePositions + in_tile];
            if (second != 0) second *= shared.scales[kTilePositions + in_tile + 1];
          }
          const SplitPair two = Split(first, second);
          uint16_t* to = shared.weights + (pair0 + 8 * r) * Config::kPositionStride + in_tile;
          *reinterpret_cast<uint32_t*>(to) = two.high;
          *reinterpret_cast<uint32_t*>(to + kPairs * Config::kPositionStride) = two.low;
        }
      }
    }
    CopyAsyncWait<1>();
    Barrier();

#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float* slices = shared.slice_sum + (pair0 + 8 * r) * kSlices;
      float tile_sum = slices[0];
      for (int i = 1; i < kSlices; ++i) tile_sum += slices[i];
      sum[r] = sum[r] * shrink[r] + tile_sum;
    }
    uint32_t high[kSlices][4];
    uint32_t low[kSlices][4] = {};
#pragma unroll
    for (int i = 0; i < kSlices; ++i) {
      const uint16_t* from =
          shared.weights + (warp_row * 16 + left) * Config::kPositionStride + i * 16 + left_column;
      LoadMatrix4(from, high[i]);
      if (a.split) LoadMatrix4(from + kPairs * Config::kPositionStride, low[i]);
    }
#pragma unroll
    for (int n = 0; n < Config::kOwnTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) o[n][e] *= shrink[e / 2];
      const int d = (warp_column * Config::kOwnTiles + n) * 8;
#pragma unroll
      for (int i = 0; i < kSlices; i += 2) {
        uint32_t value[4];
        LoadMatrix4Transposed(shared.values + (i * 16 + Lane()) * Config::kDimStride + d, value);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint32_t operand[2] = {value[2 * half], value[2 * half + 1]};
          Mma<Bf16>(o[n], high[i + half], operand);
          if (a.split) Mma<Bf16>(o[n], low[i + half], operand);
        }
      }
    }
    Barrier();
    if (more) {
      FetchTile<T, kDim>(value_data, shared.offsets, start + kTilePositions, begin, end,
                         shared.values);
    }
    CopyAsyncCommit();
  }
  CopyAsyncWait<0>();

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int pair = pair0 + 8 * r;
    if (pair >= pairs) continue;
    const StepRow own = rows[pair / group];
    const int head = kv_head * group + pair % group;
    const int own_unit = tile.unit - FirstUnit(own, a.shape.sliding_window);
    const int own_units = UnitsOf(own, a.shape.sliding_window);
    if (own_unit < 0 || own_unit >= own_units) continue;  // sees nothing here
    float* to;
    float divisor = 1;
    if (own_units == 1 && tile.part != TilePart::kBeginning) {
      to = a.out + (static_cast<int64_t>(own.row) * a.shape.heads + head) * kDim;
      divisor = sum[r];
    } else {
      float* part = PartOf(a, tile.first_row + pair / group, own_unit, head);
      if (warp_column == 0 && Lane() % 4 == 0) {
        part[0] = max[r];
        part[1] = sum[r];
      }
      to = part + 2;
    }
#pragma unroll
    for (int n = 0; n < Config::kOwnTiles; ++n) {
      const int d = (warp_column * Config::kOwnTiles + n) * 8 + column;
      to[d] = o[n][2 * r] / divisor;
      to[d + 1] = o[n][2 * r + 1] / divisor;
    }
  }
}

// Merges the units of one row (x) and head (y), counted from the first that are
// computed at once.
OCTOGATE_KERNEL void MergeUnitsKernel(TensorAttentionArguments a) {
  const int head_dim = a.shape.head_dim;
  const int index = a.first_row + BlockX();
  const StepRow row = a.rows.rows[index];
  const int units = UnitsOf(row, a.shape.sliding_window);
  if (units == 1) return;
  const int head = a.first_kv_head * (a.shape.heads / a.shape.kv_heads) + BlockY();
  const float* parts = PartOf(a, index, 0, head);
  const int64_t stride = a.part_heads * PartFloats(head_dim);
  float* out = a.out + (static_cast<int64_t>(row.row) * a.shape.heads + head) * head_dim;
  for (int d = ThreadIndex(); d < head_dim; d += BlockThreads()) {
    float max = parts[0];
    float sum = parts[1];
    float total = parts[2 + d];
    for (int u = 1; u < units; ++u) {
      const float* part = parts + u * stride;
      const float now = Maximum(max, part[0]);
      const float before = Exp2(max - now);
      const float added = Exp2(part[0] - now);
      max = now;
      sum = std::fma(part[1], added, sum * before);
      total = std::fma(part[2 + d], added, total * before);
    }
    out[d] = total / sum;
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_TENSOR_ATTENTION_CUH_
