#include "kernels/cpu/attention.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "kernels/reduction_order.h"

namespace octogate::kernels {
namespace {

constexpr int kUnitQueries = 64;
constexpr int kBatchSequences = 256;
constexpr size_t kMaxScratch = size_t{4} << 20;  // floats

// Queries of one sequence and one kv head, (row, head of the group) in order.
struct Unit {
  const SequenceRows* sequence;
  int kv_head;
  int first_query;
  int queries;
};

// Where the result of one query goes.
struct Sink {
  float* out;
  float* max;
  float* sum;
};

class Operation {
 public:
  Operation(const KernelTable& kernels, const AttentionShape& shape, const HostKvCache& cache,
            int layer, const float* q, int q_stride, float* out)
      : kernels_(kernels),
        shape_(shape),
        cache_(cache),
        layer_(layer),
        q_(q),
        q_stride_(q_stride),
        out_(out),
        group_(shape.heads / shape.kv_heads) {}

  int group() const { return group_; }

  int Position(const Unit& unit, int query) const {
    return unit.sequence->first_position + (unit.first_query + query) / group_;
  }
  int FirstBlock(const Unit& unit) const {
    return FirstSeen(Position(unit, 0), shape_.sliding_window) / kAttentionBlock;
  }
  int LastBlock(const Unit& unit) const {
    return Position(unit, unit.queries - 1) / kAttentionBlock;
  }
  // The part of a block that a query sees, counted in the block.
  bool Sees(const Unit& unit, int query, int block, int* begin, int* end) const {
    const int position = Position(unit, query);
    const int start = block * kAttentionBlock;
    *begin = std::max(FirstSeen(position, shape_.sliding_window) - start, 0);
    *end = std::min(position + 1 - start, kAttentionBlock);
    return *begin < *end;
  }
  float* Output(const Unit& unit, int query) const {
    const auto [row, head] = RowAndHead(unit, query);
    return out_ +
           (row * static_cast<size_t>(shape_.heads) + head) * static_cast<size_t>(shape_.head_dim);
  }
  void Merge(const Sink& block, const Sink& total) const {
    kernels_.merge(shape_.head_dim, *block.max, *block.sum, block.out, total.max, total.sum,
                   total.out);
  }
  void Divide(const Sink& total) const { kernels_.divide(shape_.head_dim, *total.sum, total.out); }

  // Attends to one block, in tiles of the queries that see it. sink(query)
  // says where a result goes; done(query) is called when it is there.
  template <typename SinkOf, typename Done>
  void AttendBlock(const Unit& unit, int block, const SinkOf& sink, const Done& done) const {
    std::array<const uint8_t*, kAttentionBlock> keys;
    std::array<const uint8_t*, kAttentionBlock> values;
    LocateBlock(unit, block, &keys, &values);
    AttentionTile tile;
    tile.head_dim = shape_.head_dim;
    tile.scale = shape_.scale;
    tile.dtype = cache_.shape().dtype;
    tile.keys = keys.data();
    tile.values = values.data();
    std::array<int, kTileQueries> members;
    for (int query = 0; query < unit.queries;) {
      tile.queries = 0;
      for (; query < unit.queries && tile.queries < kTileQueries; ++query) {
        const int t = tile.queries;
        if (!Sees(unit, query, block, &tile.begin[t], &tile.end[t])) continue;
        const auto [row, head] = RowAndHead(unit, query);
        tile.q[t] =
            q_ + row * static_cast<size_t>(q_stride_) + head * static_cast<size_t>(shape_.head_dim);
        tile.out[t] = sink(query, t).out;
        members[static_cast<size_t>(t)] = query;
        ++tile.queries;
      }
      if (tile.queries == 0) continue;
      kernels_.attend_block(&tile);
      for (int t = 0; t < tile.queries; ++t) {
        const int member = members[static_cast<size_t>(t)];
        const Sink to = sink(member, t);
        *to.max = tile.max[t];
        *to.sum = tile.sum[t];
        done(member, to);
      }
    }
  }

  // The whole of a unit, block after block.
  void AttendUnit(const Unit& unit) const {
    std::array<float, kUnitQueries> max;
    std::array<float, kUnitQueries> sum;
    std::array<bool, kUnitQueries> started{};
    alignas(64) std::array<std::array<float, kMaxHeadDim>, kTileQueries> block_out;
    std::array<float, kTileQueries> block_max;
    std::array<float, kTileQueries> block_sum;
    const auto total = [&](int query) {
      const auto i = static_cast<size_t>(query);
      return Sink{Output(unit, query), &max[i], &sum[i]};
    };
    const auto sink = [&](int query, int t) {
      if (!started[static_cast<size_t>(query)]) return total(query);
      const auto i = static_cast<size_t>(t);
      return Sink{block_out[i].data(), &block_max[i], &block_sum[i]};
    };
    const auto done = [&](int query, const Sink& result) {
      bool& merging = started[static_cast<size_t>(query)];
      if (merging) Merge(result, total(query));
      merging = true;
    };
    for (int block = FirstBlock(unit); block <= LastBlock(unit); ++block) {
      AttendBlock(unit, block, sink, done);
    }
    for (int query = 0; query < unit.queries; ++query) Divide(total(query));
  }

 private:
  struct RowHead {
    size_t row;
    size_t head;
  };
  RowHead RowAndHead(const Unit& unit, int query) const {
    const int index = unit.first_query + query;
    return {static_cast<size_t>(unit.sequence->first_row + index / group_),
            static_cast<size_t>(unit.kv_head * group_ + index % group_)};
  }

  // Addresses of the keys and values of a block that some query of the unit
  // sees.
  void LocateBlock(const Unit& unit, int block, std::array<const uint8_t*, kAttentionBlock>* keys,
                   std::array<const uint8_t*, kAttentionBlock>* values) const {
    const int start = block * kAttentionBlock;
    const int begin = std::max(FirstSeen(Position(unit, 0), shape_.sliding_window), start);
    const int end = std::min(Position(unit, unit.queries - 1) + 1, start + kAttentionBlock);
    const int page_size = cache_.shape().page_size;
    for (int position = begin; position < end;) {
      const int page = unit.sequence->pages[static_cast<size_t>(position / page_size)];
      assert(page >= 0 && page < cache_.shape().pages);
      const int page_end = std::min(end, (position / page_size + 1) * page_size);
      size_t offset = static_cast<size_t>(position % page_size) * cache_.position_bytes();
      const uint8_t* page_keys = cache_.keys(page, layer_, unit.kv_head);
      const uint8_t* page_values = cache_.values(page, layer_, unit.kv_head);
      for (; position < page_end; ++position, offset += cache_.position_bytes()) {
        (*keys)[static_cast<size_t>(position - start)] = page_keys + offset;
        (*values)[static_cast<size_t>(position - start)] = page_values + offset;
      }
    }
  }

  const KernelTable& kernels_;
  const AttentionShape& shape_;
  const HostKvCache& cache_;
  int layer_;
  const float* q_;
  int q_stride_;
  float* out_;
  int group_;
};

// The units of up to kBatchSequences sequences, numbered.
class UnitList {
 public:
  UnitList(std::span<const SequenceRows> sequences, int kv_heads, int group)
      : sequences_(sequences), kv_heads_(kv_heads), group_(group) {
    int total = 0;
    for (size_t s = 0; s < sequences.size(); ++s) {
      first_[s] = total;
      total += kv_heads * Chunks(sequences[s]);
    }
    first_[sequences.size()] = total;
  }

  int size() const { return first_[sequences_.size()]; }

  Unit operator[](int index) const {
    const auto end = first_.begin() + static_cast<std::ptrdiff_t>(sequences_.size()) + 1;
    const auto s =
        static_cast<size_t>(std::upper_bound(first_.begin(), end, index) - first_.begin() - 1);
    const SequenceRows& sequence = sequences_[s];
    const int chunks = Chunks(sequence);
    const int local = index - first_[s];
    const int first_query = local % chunks * kUnitQueries;
    return {&sequence, local / chunks, first_query,
            std::min(kUnitQueries, sequence.row_count * group_ - first_query)};
  }

 private:
  int Chunks(const SequenceRows& sequence) const {
    return (sequence.row_count * group_ + kUnitQueries - 1) / kUnitQueries;
  }

  std::span<const SequenceRows> sequences_;
  int kv_heads_;
  int group_;
  std::array<int, kBatchSequences + 1> first_;
};

// Few units with a long context: every block of every unit is a task of its
// own, and the partial results are merged afterwards, in the same order as
// AttendUnit merges them. False where that does not pay or memory is short.
bool AttendSplit(const Operation& operation, ThreadPool& pool, const UnitList& units, int head_dim,
                 AttentionScratch& scratch) {
  if (pool.threads() == 1 || units.size() >= 4 * pool.threads()) return false;
  int blocks = 0;
  int queries = 0;
  for (int u = 0; u < units.size(); ++u) {
    const Unit unit = units[u];
    blocks = std::max(blocks, operation.LastBlock(unit) - operation.FirstBlock(unit) + 1);
    queries = std::max(queries, unit.queries);
  }
  if (blocks < 2) return false;
  const size_t query_floats = static_cast<size_t>(head_dim) + 2;
  const size_t slot_floats = static_cast<size_t>(queries) * query_floats;
  const size_t needed =
      static_cast<size_t>(units.size()) * static_cast<size_t>(blocks) * slot_floats;
  if (needed > kMaxScratch) return false;
  if (needed > scratch.size) {
    scratch.size = 0;
    scratch.floats = AllocateHost<float>(needed);
    if (scratch.floats == nullptr) return false;
    scratch.size = needed;
  }
  const auto slot = [&](int u, int b, int query) {
    float* at = scratch.floats.get() + static_cast<size_t>(u * blocks + b) * slot_floats +
                static_cast<size_t>(query) * query_floats;
    return Sink{at + 2, at, at + 1};
  };
  pool.Run(units.size() * blocks, [&](int task, int /*thread*/) {
    const int u = task / blocks;
    const int b = task % blocks;
    const Unit unit = units[u];
    const int block = operation.FirstBlock(unit) + b;
    if (block > operation.LastBlock(unit)) return;
    operation.AttendBlock(
        unit, block, [&](int query, int /*tile_index*/) { return slot(u, b, query); },
        [](int, const Sink&) {});
  });
  pool.Run(units.size(), [&](int u, int /*thread*/) {
    const Unit unit = units[u];
    const int first_block = operation.FirstBlock(unit);
    for (int query = 0; query < unit.queries; ++query) {
      Sink total{nullptr, nullptr, nullptr};
      for (int block = first_block; block <= operation.LastBlock(unit); ++block) {
        int begin;
        int end;
        if (!operation.Sees(unit, query, block, &begin, &end)) continue;
        const Sink part = slot(u, block - first_block, query);
        if (total.out == nullptr) {
          total = part;
          total.out = operation.Output(unit, query);
          std::copy_n(part.out, head_dim, total.out);
        } else {
          operation.Merge(part, total);
        }
      }
      operation.Divide(total);
    }
  });
  return true;
}

}  // namespace

void CpuAttention(const KernelTable& kernels, ThreadPool& pool, const AttentionShape& shape,
                  const HostKvCache& cache, int layer, std::span<const SequenceRows> sequences,
                  const float* q, int q_stride, AttentionScratch& scratch, float* out) {
  assert(shape.head_dim <= kMaxHeadDim && shape.heads % shape.kv_heads == 0);
  assert(shape.head_dim == cache.shape().head_dim && shape.kv_heads == cache.shape().kv_heads);
  const Operation operation(kernels, shape, cache, layer, q, q_stride, out);
  while (!sequences.empty()) {
    const size_t count = std::min(sequences.size(), size_t{kBatchSequences});
    const UnitList units(sequences.first(count), shape.kv_heads, operation.group());
    if (!AttendSplit(operation, pool, units, shape.head_dim, scratch)) {
      pool.Run(units.size(), [&](int u, int /*thread*/) { operation.AttendUnit(units[u]); });
    }
    sequences = sequences.subspan(count);
  }
}

}  // namespace octogate::kernels
