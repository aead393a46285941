// Attention of a few queries over one block of positions, and the merging of
// blocks, as kernels/reduction_order.h specifies them. Included once per
// instruction set; no include guard.

namespace octogate::kernels::OCTOGATE_ISA {

inline constexpr int kTileKeys = 4;

// How far ahead of their use keys and values are asked for. They stand in runs of a page each, too
// short for the processor to see where they go on.
inline int PositionsAhead(size_t position_bytes) {
  constexpr size_t kBytes = 4096;
  return kBytes > position_bytes ? static_cast<int>(kBytes / position_bytes) : 1;
}
inline void Prefetch(const uint8_t* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, 2);
}

// scores[i][j] = scale * dot(q[i], keys[j]) for four keys; without the scale
// where keys have scales of their own.
template <DType T, int X>
inline void ScoreTile(const AttentionTile& tile, int first, const uint8_t* const* keys,
                      float* const* scores, int j) {
  F32x16 sums[kLanes];
  for (int i = 0; i < kLanes; ++i) sums[i] = Zero();
  const int whole = tile.head_dim / kLanes * kLanes;
  for (int d = 0; d < whole; d += kLanes) {
    F32x16 q[X];
    for (int i = 0; i < X; ++i) q[i] = Load(tile.q[first + i] + d);
    for (int w = 0; w < kTileKeys; ++w) {
      const F32x16 key = Widen<T>(keys[w] + static_cast<size_t>(d) * SizeOf(T));
      for (int i = 0; i < X; ++i) {
        sums[i * kTileKeys + w] = Fma(q[i], key, sums[i * kTileKeys + w]);
      }
    }
  }
  if (const int left = tile.head_dim - whole; left > 0) {
    for (int w = 0; w < kTileKeys; ++w) {
      const F32x16 key = WidenPartial<T>(keys[w] + static_cast<size_t>(whole) * SizeOf(T), left);
      for (int i = 0; i < X; ++i) {
        sums[i * kTileKeys + w] =
            Fma(LoadPartial(tile.q[first + i] + whole, left), key, sums[i * kTileKeys + w]);
      }
    }
  }
  float dots[kLanes];
  F32x16 results = SumLanes16(sums);
  if constexpr (T != DType::kI8) results = results * Broadcast(tile.scale);
  Store(results, dots);
  for (int i = 0; i < X; ++i) {
    for (int w = 0; w < kTileKeys; ++w) scores[i][j + w] = dots[i * kTileKeys + w];
  }
}

// Adds p[j] * values[j] for j in [begin, end) to the outputs of X queries.
template <DType T, int X>
inline void AddValues(const AttentionTile& tile, float* const* out, const float* const* p,
                      int begin, int end) {
  constexpr int kVectors = X == 1 ? 8 : 4;  // of the head at a time
  const size_t position_bytes = static_cast<size_t>(tile.head_dim) * SizeOf(T);
  const int ahead = PositionsAhead(position_bytes);
  int d = 0;
  for (; d + kVectors * kLanes <= tile.head_dim; d += kVectors * kLanes) {
    F32x16 sums[X][kVectors];
    for (int i = 0; i < X; ++i) {
      for (int v = 0; v < kVectors; ++v) sums[i][v] = Load(out[i] + d + v * kLanes);
    }
    for (int j = begin; j < end; ++j) {
      const uint8_t* from = tile.values[j] + static_cast<size_t>(d) * SizeOf(T);
      if (d == 0 && j + ahead < end) Prefetch(tile.values[j + ahead], position_bytes);
      F32x16 weights[X];
      for (int i = 0; i < X; ++i) weights[i] = Broadcast(p[i][j]);
      for (int v = 0; v < kVectors; ++v) {
        const F32x16 value = Widen<T>(from + static_cast<size_t>(v * kLanes) * SizeOf(T));
        for (int i = 0; i < X; ++i) sums[i][v] = Fma(weights[i], value, sums[i][v]);
      }
    }
    for (int i = 0; i < X; ++i) {
      for (int v = 0; v < kVectors; ++v) Store(sums[i][v], out[i] + d + v * kLanes);
    }
  }
  for (; d < tile.head_dim; d += kLanes) {
    const int left = tile.head_dim - d < kLanes ? tile.head_dim - d : kLanes;
    F32x16 sums[X];
    for (int i = 0; i < X; ++i) sums[i] = LoadPartial(out[i] + d, left);
    for (int j = begin; j < end; ++j) {
      const F32x16 value =
          WidenPartial<T>(tile.values[j] + static_cast<size_t>(d) * SizeOf(T), left);
      for (int i = 0; i < X; ++i) sums[i] = Fma(Broadcast(p[i][j]), value, sums[i]);
    }
    for (int i = 0; i < X; ++i) StorePartial(sums[i], out[i] + d, left);
  }
}

// x[j] = x[j] * by[j] * factor for what covers [begin, end) in whole vectors.
inline void ScaleBy(const float* by, float factor, int begin, int end, float* x) {
  for (int j = begin / kLanes * kLanes; j < end; j += kLanes) {
    Store(Load(x + j) * Load(by + j) * Broadcast(factor), x + j);
  }
}

// Turns the scores of the seen positions into weights in place.
inline void Softmax(int begin, int end, float* scores, float* max, float* sum) {
  const F32x16 nothing = Broadcast(-__builtin_inff());
  const int first = begin / kLanes * kLanes;
  const int last = (end + kLanes - 1) / kLanes * kLanes;
  for (int j = first; j < begin; ++j) scores[j] = -__builtin_inff();
  for (int j = end; j < last; ++j) scores[j] = -__builtin_inff();
  F32x16 maxima = nothing;
  for (int j = first; j < last; j += kLanes) maxima = Maximum(Load(scores + j), maxima);
  *max = MaximumLane(maxima);
  const F32x16 shift = Broadcast(*max);
  F32x16 sums = Zero();
  for (int j = first; j < last; j += kLanes) {
    const F32x16 p = Exp(Load(scores + j) - shift);
    Store(p, scores + j);
    sums = sums + p;
  }
  *sum = SumLanes(sums);
}

template <DType T, int X>
void AttendQueries(AttentionTile* tile) {
  alignas(64) float buffer[X][kAttentionBlock + kTileKeys];
  float* scores[X];
  int all_begin = tile->begin[0];  // what some query sees
  int all_end = tile->end[0];
  int common_begin = all_begin;  // what every query sees
  int common_end = all_end;
  for (int i = 0; i < X; ++i) {
    scores[i] = buffer[i];
    const int begin = tile->begin[i];
    const int end = tile->end[i];
    all_begin = begin < all_begin ? begin : all_begin;
    all_end = end > all_end ? end : all_end;
    common_begin = begin > common_begin ? begin : common_begin;
    common_end = end < common_end ? end : common_end;
  }
  const size_t position_bytes = static_cast<size_t>(tile->head_dim) * SizeOf(T);
  const int ahead = PositionsAhead(position_bytes);
  for (int j = all_begin; j < all_end; j += kTileKeys) {
    const uint8_t* keys[kTileKeys];
    // The values follow the keys.
    for (int at = j + ahead; at < j + ahead + kTileKeys; ++at) {
      if (at < all_end) {
        Prefetch(tile->keys[at], position_bytes);
      } else if (at - all_end < all_end - all_begin) {
        Prefetch(tile->values[at - all_end + all_begin], position_bytes);
      }
    }
    for (int w = 0; w < kTileKeys; ++w) {
      keys[w] = tile->keys[j + w < all_end ? j + w : all_end - 1];
    }
    ScoreTile<T, X>(*tile, 0, keys, scores, j);
  }
  for (int i = 0; i < X; ++i) {
    const int begin = tile->begin[i];
    const int end = tile->end[i];
    if constexpr (T == DType::kI8) ScaleBy(tile->key_scales, tile->scale, begin, end, scores[i]);
    Softmax(begin, end, scores[i], &tile->max[i], &tile->sum[i]);
    if constexpr (T == DType::kI8) ScaleBy(tile->value_scales, 1.0f, begin, end, scores[i]);
    for (int d = 0; d < tile->head_dim; d += kLanes) {
      const int left = tile->head_dim - d < kLanes ? tile->head_dim - d : kLanes;
      StorePartial(Zero(), tile->out[i] + d, left);
    }
  }
  if (common_begin >= common_end) common_begin = common_end = all_end;
  for (int i = 0; i < X; ++i) {
    const int end = tile->end[i] < common_begin ? tile->end[i] : common_begin;
    AddValues<T, 1>(*tile, tile->out + i, scores + i, tile->begin[i], end);
  }
  AddValues<T, X>(*tile, tile->out, scores, common_begin, common_end);
  for (int i = 0; i < X; ++i) {
    const int begin = tile->begin[i] > common_end ? tile->begin[i] : common_end;
    AddValues<T, 1>(*tile, tile->out + i, scores + i, begin, tile->end[i]);
  }
}

template <DType T>
void AttendBlockAs(AttentionTile* tile) {
  switch (tile->queries) {
    case 1:
      return AttendQueries<T, 1>(tile);
    case 2:
      return AttendQueries<T, 2>(tile);
    case 3:
      return AttendQueries<T, 3>(tile);
    default:
      return AttendQueries<T, kTileQueries>(tile);
  }
}

inline void AttendBlock(AttentionTile* tile) {
  switch (tile->dtype) {
    case DType::kF32:
      return AttendBlockAs<DType::kF32>(tile);
    case DType::kF16:
      return AttendBlockAs<DType::kF16>(tile);
    case DType::kBF16:
      return AttendBlockAs<DType::kBF16>(tile);
    case DType::kF8E4M3:
      return AttendBlockAs<DType::kF8E4M3>(tile);
    case DType::kI8:
      return AttendBlockAs<DType::kI8>(tile);
  }
}

inline void MergeBlock(int head_dim, float block_max, float block_sum, const float* block_out,
                       float* max, float* sum, float* out) {
  const F32x16 merged = Maximum(Broadcast(*max), Broadcast(block_max));
  const F32x16 a = Exp(Broadcast(*max) - merged);
  const F32x16 b = Exp(Broadcast(block_max) - merged);
  StorePartial(merged, max, 1);
  StorePartial(Fma(Broadcast(block_sum), b, Broadcast(*sum) * a), sum, 1);
  for (int d = 0; d < head_dim; d += kLanes) {
    const int left = head_dim - d < kLanes ? head_dim - d : kLanes;
    const F32x16 total = LoadPartial(out + d, left);
    StorePartial(Fma(LoadPartial(block_out + d, left), b, total * a), out + d, left);
  }
}

inline void Divide(int count, float divisor, float* out) {
  for (int d = 0; d < count; d += kLanes) {
    const int left = count - d < kLanes ? count - d : kLanes;
    StorePartial(LoadPartial(out + d, left) / Broadcast(divisor), out + d, left);
  }
}

}  // namespace octogate::kernels::OCTOGATE_ISA
