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
  int first_seen;  // of the positions that some query sees
  int last_seen;

  int first_block() const { return first_seen / kAttentionBlock; }
  int last_block() const { return last_seen / kAttentionBlock; }
};

// The addresses of keys and values by position in a block.
struct Located {
  std::array<const uint8_t*, kAttentionBlock> keys;
  std::array<const uint8_t*, kAttentionBlock> values;
  // Only where the cache has scales. Whole vectors of them are read.
  std::array<float, kAttentionBlock> key_scales;
  std::array<float, kAttentionBlock> value_scales;
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

  int LastSeenBy(const Unit& unit, int query) const {
    return LastSeen(*unit.sequence, (unit.first_query + query) / group_);
  }
  Unit MakeUnit(const SequenceRows& sequence, int kv_head, int first_query, int queries) const {
    Unit unit{&sequence, kv_head, first_query, queries, 0, 0};
    int lowest = LastSeenBy(unit, 0);
    int highest = LastSeenBy(unit, queries - 1);
    if (!sequence.ancestors.empty()) {
      for (int query = 0; query < queries; query += group_) {
        lowest = std::min(lowest, LastSeenBy(unit, query));
        highest = std::max(highest, LastSeenBy(unit, query));
      }
    }
    unit.first_seen = FirstSeen(lowest, shape_.sliding_window);
    unit.last_seen = highest;
    return unit;
  }
  // The part of a block that a query sees, counted in the block.
  bool Sees(const Unit& unit, int query, int block, int* begin, int* end) const {
    const int last = LastSeenBy(unit, query);
    const int start = block * kAttentionBlock;
    *begin = std::max(FirstSeen(last, shape_.sliding_window) - start, 0);
    *end = std::min(last + 1 - start, kAttentionBlock);
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
    const SequenceRows& sequence = *unit.sequence;
    const int start = block * kAttentionBlock;
    const int end = start + kAttentionBlock;
    Located located;
    if (cache_.scaled()) {
      located.key_scales.fill(0);
      located.value_scales.fill(0);
    }
    if (sequence.ancestors.empty()) {
      LocateSlots(unit, start, std::min(end, unit.last_seen + 1), &located);
      return AttendQueries(unit, block, 0, unit.queries, located, sink, done);
    }
    // What lies before the tree, and then for each of its rows its own path.
    LocateSlots(unit, start, std::min(end, sequence.first_position), &located);
    if (end <= sequence.first_position) {
      return AttendQueries(unit, block, 0, unit.queries, located, sink, done);
    }
    for (int query = 0; query < unit.queries;) {
      const int row = (unit.first_query + query) / group_;
      const int next = std::min(unit.queries, (row + 1) * group_ - unit.first_query);
      LocatePath(unit, row, start, &located);
      AttendQueries(unit, block, query, next, located, sink, done);
      query = next;
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
    for (int block = unit.first_block(); block <= unit.last_block(); ++block) {
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

  // Queries [query, last) of a unit, all of which find the positions that they
  // see where `located` says.
  template <typename SinkOf, typename Done>
  void AttendQueries(const Unit& unit, int block, int query, int last, const Located& located,
                     const SinkOf& sink, const Done& done) const {
    AttentionTile tile;
    tile.head_dim = shape_.head_dim;
    tile.scale = shape_.scale;
    tile.dtype = cache_.shape().dtype;
    tile.keys = located.keys.data();
    tile.values = located.values.data();
    tile.key_scales = located.key_scales.data();
    tile.value_scales = located.value_scales.data();
    std::array<int, kTileQueries> members;
    while (query < last) {
      tile.queries = 0;
      for (; query < last && tile.queries < kTileQueries; ++query) {
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

  // Positions [start, end) of a block that begins at `start`, as far as they are
  // seen, in the slots of the same number.
  void LocateSlots(const Unit& unit, int start, int end, Located* located) const {
    const int page_size = cache_.shape().page_size;
    if (cache_.scaled()) {
      // The scales of each page stand in a line of memory of their own. Those of this block are
      // asked for at once, unless the block before did it. (Not a function: GCC takes one that
      // only prefetches for one that does nothing.)
      const int asked = std::min(start + 2 * kAttentionBlock, unit.last_seen + 1);
      for (int slot = start; slot < asked; slot += page_size) {
        const PageRun run = FindPage(unit, slot / page_size);
        __builtin_prefetch(cache_.scales(run.keys));
        __builtin_prefetch(cache_.scales(run.values));
      }
    }
    for (int slot = std::max(start, unit.first_seen); slot < end;) {
      const int page_first = slot / page_size * page_size;
      const int page_end = std::min(end, page_first + page_size);
      const PageRun run = FindPage(unit, slot / page_size);
      for (; slot < page_end; ++slot) Locate(run, slot - page_first, slot - start, located);
    }
  }

  // The positions of a block on the path to a row of a tree.
  void LocatePath(const Unit& unit, int row, int start, Located* located) const {
    const SequenceRows& sequence = *unit.sequence;
    const int page_size = cache_.shape().page_size;
    ForAncestors(sequence.ancestors[static_cast<size_t>(row)], [&](int n, int ancestor) {
      const int index = sequence.first_position + n - start;
      if (index < 0 || index >= kAttentionBlock) return;
      const int slot = sequence.first_position + ancestor;
      Locate(FindPage(unit, slot / page_size), slot % page_size, index, located);
    });
  }

  // Keys and values of the unit's head in one page.
  struct PageRun {
    const uint8_t* keys;
    const uint8_t* values;
  };
  PageRun FindPage(const Unit& unit, int index) const {
    const int page = unit.sequence->pages[static_cast<size_t>(index)];
    assert(page >= 0 && page < cache_.shape().pages);
    return {cache_.keys(page, layer_, unit.kv_head), cache_.values(page, layer_, unit.kv_head)};
  }
  // Slot `in_page` of a page is position `index` of the block.
  void Locate(const PageRun& run, int in_page, int index, Located* located) const {
    const auto to = static_cast<size_t>(index);
    const size_t offset = static_cast<size_t>(in_page) * cache_.position_bytes();
    located->keys[to] = run.keys + offset;
    located->values[to] = run.values + offset;
    if (!cache_.scaled()) return;
    located->key_scales[to] = cache_.Scale(run.keys, in_page);
    located->value_scales[to] = cache_.Scale(run.values, in_page);
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
  UnitList(const Operation& operation, std::span<const SequenceRows> sequences, int kv_heads)
      : operation_(operation), sequences_(sequences) {
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
    return operation_.MakeUnit(
        sequence, local / chunks, first_query,
        std::min(kUnitQueries, sequence.row_count * operation_.group() - first_query));
  }

 private:
  int Chunks(const SequenceRows& sequence) const {
    return (sequence.row_count * operation_.group() + kUnitQueries - 1) / kUnitQueries;
  }

  const Operation& operation_;
  std::span<const SequenceRows> sequences_;
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
    blocks = std::max(blocks, unit.last_block() - unit.first_block() + 1);
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
    const int block = unit.first_block() + b;
    if (block > unit.last_block()) return;
    operation.AttendBlock(
        unit, block, [&](int query, int /*tile_index*/) { return slot(u, b, query); },
        [](int, const Sink&) {});
  });
  pool.Run(units.size(), [&](int u, int /*thread*/) {
    const Unit unit = units[u];
    const int first_block = unit.first_block();
    for (int query = 0; query < unit.queries; ++query) {
      Sink total{nullptr, nullptr, nullptr};
      for (int block = first_block; block <= unit.last_block(); ++block) {
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
  assert(std::all_of(sequences.begin(), sequences.end(), [](const SequenceRows& sequence) {
    return sequence.ancestors.empty() ||
           (sequence.ancestors.size() == static_cast<size_t>(sequence.row_count) &&
            sequence.row_count <= kMaxTreeRows);
  }));
  assert(std::all_of(sequences.begin(), sequences.end(), [&](const SequenceRows& sequence) {
    return !sequence.bidirectional || (sequence.ancestors.empty() && shape.sliding_window == 0);
  }));
  assert(shape.head_dim == cache.shape().head_dim && shape.kv_heads == cache.shape().kv_heads);
  const Operation operation(kernels, shape, cache, layer, q, q_stride, out);
  while (!sequences.empty()) {
    const size_t count = std::min(sequences.size(), size_t{kBatchSequences});
    const UnitList units(operation, sequences.first(count), shape.kv_heads);
    if (!AttendSplit(operation, pool, units, shape.head_dim, scratch)) {
      pool.Run(units.size(), [&](int u, int /*thread*/) { operation.AttendUnit(units[u]); });
    }
    sequences = sequences.subspan(count);
  }
}

}  // namespace octogate::kernels
