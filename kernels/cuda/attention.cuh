// Kernels of attention.h.

#ifndef OCTOGATE_KERNELS_CUDA_ATTENTION_CUH_
#define OCTOGATE_KERNELS_CUDA_ATTENTION_CUH_

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/backend.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/step_rows.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::cuda {

inline constexpr int kAttentionThreads = 128;
// Heads of a group that one thread block computes.
inline constexpr int kAttentionHeads = 4;

struct AttentionArguments {
  AttentionShape shape;
  KvView cache;
  int layer = 0;
  StepRows rows;
  const float* q = nullptr;
  int q_stride = 0;
  // Parts of [row][head][block], each max, sum and head_dim values; null where
  // one thread block computes all blocks of positions.
  float* parts = nullptr;
  int blocks = 0;
  float* out = nullptr;  // where parts is null
  bool operator==(const AttentionArguments&) const = default;
};

OCTOGATE_HOST_DEVICE inline int PartFloats(int head_dim) { return head_dim + 2; }

// The thread block's shared memory, for `head_dim` values a head.
struct AttentionShared {
  int64_t* keys;  // [kAttentionBlock]: bytes to the key of each position
  // [kAttentionBlock] of kI8, otherwise not there: scales of keys and values.
  float* key_scales;
  float* value_scales;
  float* q;        // [kAttentionHeads][head_dim]
  float* weights;  // [kAttentionHeads][kAttentionBlock]: scores, then exp
  float* total;    // [kAttentionHeads][head_dim]: of the blocks so far
  float* max;      // [kAttentionHeads] of this block, then of all before it
  float* sum;      // the same
};

inline size_t AttentionSharedBytes(DType dtype, int head_dim) {
  return sizeof(int64_t) * kAttentionBlock +
         (dtype == DType::kI8 ? 2 * sizeof(float) * kAttentionBlock : 0) +
         sizeof(float) * kAttentionHeads *
             (2 * static_cast<size_t>(head_dim) + kAttentionBlock + 4);
}

template <typename T>
OCTOGATE_DEVICE AttentionShared CarveShared(int head_dim) {
  AttentionShared shared;
  shared.keys = SharedMemory<int64_t>();
  shared.key_scales = reinterpret_cast<float*>(shared.keys + kAttentionBlock);
  shared.value_scales = shared.key_scales + kAttentionBlock;
  shared.q = std::is_same_v<T, I8> ? shared.value_scales + kAttentionBlock : shared.key_scales;
  shared.weights = shared.q + kAttentionHeads * head_dim;
  shared.total = shared.weights + kAttentionHeads * kAttentionBlock;
  shared.max = shared.total + kAttentionHeads * head_dim;
  shared.sum = shared.max + 2 * kAttentionHeads;
  return shared;
}

// weights = scale * q · k for the positions [begin, end) of a block: half a warp
// takes a position.
template <typename T>
OCTOGATE_DEVICE void ScoreBlock(const AttentionShared& shared, const uint8_t* data, int head_dim,
                                float scale, int begin, int end) {
  const int halves = BlockThreads() / kLanes;
  // All half warps take the same number of turns: shuffles need whole warps.
  for (int turn = begin; turn < end; turn += halves) {
    const int j = turn + HalfWarp();
    const bool inside = j < end;
    const T* key = reinterpret_cast<const T*>(data + shared.keys[inside ? j : begin]);
    float lanes[kAttentionHeads] = {};
    for (int d = 0; d < head_dim; d += kLanes) {
      const bool in_head = d + SumLane() < head_dim;
      const float k = in_head ? ToFloat(key[d + SumLane()]) : 0.0f;
      for (int h = 0; h < kAttentionHeads; ++h) {
        const float q = in_head ? shared.q[h * head_dim + d + SumLane()] : 0.0f;
        lanes[h] = std::fma(q, k, lanes[h]);
      }
    }
    for (int h = 0; h < kAttentionHeads; ++h) {
      float dot = SumOfLanes(lanes[h]);
      if constexpr (std::is_same_v<T, I8>) dot *= shared.key_scales[inside ? j : begin];
      if (inside && SumLane() == 0) shared.weights[h * kAttentionBlock + j] = dot * scale;
    }
  }
}

// Turns the scores into exponentials, those of kI8 times the scales of the values;
// max and sum of the block. A warp takes a head.
template <typename T>
OCTOGATE_DEVICE void SoftmaxBlock(const AttentionShared& shared, int begin, int end) {
  for (int h = Warp(); h < kAttentionHeads; h += BlockThreads() / kWarpThreads) {
    float* weights = shared.weights + h * kAttentionBlock;
    float max = -INFINITY;
    for (int j = begin + Lane(); j < end; j += kWarpThreads) max = Maximum(weights[j], max);
    for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
      max = Maximum(ShuffleXor(max, mask), max);
    }
    for (int j = begin + Lane(); j < end; j += kWarpThreads) weights[j] = Exp(weights[j] - max);
    WarpBarrier();
    float lane = 0;
    for (int j = SumLane(); j < kAttentionBlock; j += kLanes) {
      lane += j >= begin && j < end ? weights[j] : 0.0f;
    }
    const float sum = SumOfLanes(lane);
    if constexpr (std::is_same_v<T, I8>) {
      WarpBarrier();
      for (int j = begin + Lane(); j < end; j += kWarpThreads) {
        weights[j] *= shared.value_scales[j];
      }
    }
    if (Lane() == 0) {
      shared.max[h] = max;
      shared.sum[h] = sum;
    }
  }
}

// Calls use(h, d, o) for the sums o of weights * values of the block.
template <typename T, typename Use>
OCTOGATE_DEVICE void WeighValues(const AttentionShared& shared, const uint8_t* values, int head_dim,
                                 int begin, int end, const Use& use) {
  for (int d = ThreadIndex(); d < head_dim; d += BlockThreads()) {
    float o[kAttentionHeads] = {};
#pragma unroll 4
    for (int j = begin; j < end; ++j) {
      const float value = ToFloat(reinterpret_cast<const T*>(values + shared.keys[j])[d]);
      for (int h = 0; h < kAttentionHeads; ++h) {
        o[h] = std::fma(shared.weights[h * kAttentionBlock + j], value, o[h]);
      }
    }
    for (int h = 0; h < kAttentionHeads; ++h) use(h, d, o[h]);
  }
}

// One thread block: x is a row, y some heads of a group, and z a block of
// positions where parts are kept.
template <typename T>
OCTOGATE_KERNEL void AttentionKernel(AttentionArguments a) {
  const int head_dim = a.shape.head_dim;
  const int group = a.shape.heads / a.shape.kv_heads;
  const int chunks = (group + kAttentionHeads - 1) / kAttentionHeads;
  const int kv_head = BlockY() / chunks;
  const int first_head = kv_head * group + BlockY() % chunks * kAttentionHeads;
  const int left = (kv_head + 1) * group - first_head;
  const int heads = left < kAttentionHeads ? left : kAttentionHeads;
  const StepRow row = a.rows.rows[BlockX()];
  const uint8_t* data = static_cast<const uint8_t*>(a.cache.data);
  const uint8_t* values = data + a.cache.run_bytes;

  const int first_seen = FirstSeen(row.position, a.shape.sliding_window);
  const int first_block = first_seen / kAttentionBlock;
  int block = first_block;
  int last_block = row.position / kAttentionBlock;
  if (a.parts != nullptr) {
    block = first_block + BlockZ();
    if (block > last_block) return;
    last_block = block;
  }

  const AttentionShared shared = CarveShared<T>(head_dim);
  for (int i = ThreadIndex(); i < kAttentionHeads * head_dim; i += BlockThreads()) {
    const int h = i / head_dim;
    const int64_t from = static_cast<int64_t>(row.row) * a.q_stride +
                         static_cast<int64_t>(first_head + h) * head_dim + i % head_dim;
    shared.q[i] = h < heads ? a.q[from] : 0.0f;
  }
  for (; block <= last_block; ++block) {
    const int start = block * kAttentionBlock;
    const int begin = first_seen > start ? first_seen - start : 0;
    const int end =
        row.position + 1 - start < kAttentionBlock ? row.position + 1 - start : kAttentionBlock;
    for (int j = begin + ThreadIndex(); j < end; j += BlockThreads()) {
      const int slot = SlotOf(row, a.rows.paths, start + j);
      const int page = a.rows.pages[row.first_page + slot / a.cache.page_size];
      const int in_page = slot % a.cache.page_size;
      const int64_t run = RunOffset(a.cache, page, a.layer, kv_head);
      shared.keys[j] = run + SlotOffset(a.cache, in_page);
      if constexpr (std::is_same_v<T, I8>) {
        const uint8_t* scale = data + run + ScaleOffset(a.cache, in_page);
        shared.key_scales[j] = *reinterpret_cast<const float*>(scale);
        shared.value_scales[j] = *reinterpret_cast<const float*>(scale + a.cache.run_bytes);
      }
    }
    Barrier();
    ScoreBlock<T>(shared, data, head_dim, a.shape.scale, begin, end);
    Barrier();
    SoftmaxBlock<T>(shared, begin, end);
    Barrier();
    if (a.parts != nullptr) {
      const int64_t row_heads = static_cast<int64_t>(BlockX()) * a.shape.heads + first_head;
      const auto part = [&](int h) {
        return a.parts + ((row_heads + h) * a.blocks + BlockZ()) * PartFloats(head_dim);
      };
      WeighValues<T>(shared, values, head_dim, begin, end, [&](int h, int d, float o) {
        if (h < heads) part(h)[2 + d] = o;
      });
      if (ThreadIndex() < heads) {
        part(ThreadIndex())[0] = shared.max[ThreadIndex()];
        part(ThreadIndex())[1] = shared.sum[ThreadIndex()];
      }
      return;
    }
    float* total_max = shared.max + kAttentionHeads;
    float* total_sum = shared.sum + kAttentionHeads;
    WeighValues<T>(shared, values, head_dim, begin, end, [&](int h, int d, float o) {
      float& total = shared.total[h * head_dim + d];
      if (block == first_block) {
        total = o;
      } else {
        const MergeFactors merge = Merge(total_max[h], shared.max[h]);
        total = std::fma(o, merge.b, total * merge.a);
      }
    });
    Barrier();
    if (ThreadIndex() < kAttentionHeads) {
      const int h = ThreadIndex();
      if (block == first_block) {
        total_max[h] = shared.max[h];
        total_sum[h] = shared.sum[h];
      } else {
        const MergeFactors merge = Merge(total_max[h], shared.max[h]);
        total_max[h] = merge.max;
        total_sum[h] = std::fma(shared.sum[h], merge.b, total_sum[h] * merge.a);
      }
    }
  }
  Barrier();
  float* out = a.out + (static_cast<int64_t>(row.row) * a.shape.heads + first_head) * head_dim;
  for (int i = ThreadIndex(); i < heads * head_dim; i += BlockThreads()) {
    out[i] = shared.total[i] / shared.sum[kAttentionHeads + i / head_dim];
  }
}

// Merges the parts of one row (x) and head (y).
OCTOGATE_KERNEL void MergePartsKernel(AttentionArguments a) {
  const int head_dim = a.shape.head_dim;
  const StepRow row = a.rows.rows[BlockX()];
  const int first_block = FirstSeen(row.position, a.shape.sliding_window) / kAttentionBlock;
  const int blocks = row.position / kAttentionBlock - first_block + 1;
  const int64_t row_head = static_cast<int64_t>(BlockX()) * a.shape.heads + BlockY();
  const float* parts = a.parts + row_head * a.blocks * PartFloats(head_dim);
  float* out = a.out + (static_cast<int64_t>(row.row) * a.shape.heads + BlockY()) * head_dim;
  for (int d = ThreadIndex(); d < head_dim; d += BlockThreads()) {
    float max = parts[0];
    float sum = parts[1];
    float total = parts[2 + d];
    for (int b = 1; b < blocks; ++b) {
      const float* part = parts + static_cast<int64_t>(b) * PartFloats(head_dim);
      const MergeFactors merge = Merge(max, part[0]);
      max = merge.max;
      sum = std::fma(part[1], merge.b, sum * merge.a);
      total = std::fma(part[2 + d], merge.b, total * merge.a);
    }
    out[d] = total / sum;
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_ATTENTION_CUH_
