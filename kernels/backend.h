// The seam between the engine and the hardware: memory, weights, a paged KV
// cache and the tensor operations of a transformer.
//
// Numerics. Every backend keeps this promise, and the tests check it with
// memcmp: row i of any result is computed with the same operations in the same
// order whatever the number of rows, their neighbours, the number of threads
// and the way a prompt was cut into chunks. Hence batched = single, chunked
// prefill = whole, and a pass that verifies a draft = a pass that decodes.
// The CPU backends go further: they share one order of reduction
// (kernels/reduction_order.h), so that all of them give the same bits.
//
// Pointers. `float*` parameters point into memory that this backend allocated
// (host memory for CPU backends). `std::span` parameters are host memory and
// may be reused by the caller as soon as the call returns. Matrices are
// row-major and dense.
//
// Order. Operations take effect in the order of the calls; Synchronize() waits
// for all of them, also inside a step (BeginStep). CPU backends have finished when a call returns.
//
// Threads. A backend is driven by one thread at a time; it may own worker
// threads. Weights are immutable after they are loaded and may be shared by
// backends of the same kind.
//
// Errors. Shapes are the caller's duty (checked by assert); memory that cannot
// be had is reported by a null return. Nothing throws.

#ifndef OCTOGATE_KERNELS_BACKEND_H_
#define OCTOGATE_KERNELS_BACKEND_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "kernels/draw.h"
#include "kernels/dtype.h"
#include "kernels/logit_edit.h"
#include "kernels/weight_format.h"

namespace octogate::kernels {

// How far a weight's values are from those it was made of; zero where it is as
// stored.
struct QuantizationError {
  double relative_rms = 0;  // root of (sum of squared errors / sum of squares)
  double max_absolute = 0;
};

// A matrix of weights in the backend's own form. y = x * W^T, W is [rows, cols].
class Weight {
 public:
  virtual ~Weight() = default;
  int rows = 0;  // output features
  int cols = 0;  // input features
  WeightFormat format = WeightFormat::kStored;
  size_t bytes = 0;  // that a product reads, padding included
  QuantizationError error;
};

// A dense row-major tensor in host memory, as a checkpoint file holds it.
// `data` need not be aligned; it must outlive a Weight that LoadTable makes of it.
struct HostMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // kF32, kF16 or kBF16
  int rows = 0;
  int cols = 0;
};

// Memory for floats, owned. Contents start undefined.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual float* data() = 0;
  virtual size_t size() const = 0;  // in floats
};

// Memory of the host for bytes, owned. Contents start undefined.
class HostBlock {
 public:
  virtual ~HostBlock() = default;
  virtual std::span<std::byte> bytes() = 0;
};

// Keys and values of all layers in pages of `page_size` positions. A page id
// addresses the same page in every layer.
struct KvCacheShape {
  int layers = 0;
  int pages = 0;
  int page_size = 0;  // positions in a page
  int kv_heads = 0;
  int head_dim = 0;
  DType dtype = DType::kF32;
};

class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual const KvCacheShape& shape() const = 0;
  // Of one page in all layers, in the backend's own form.
  virtual size_t page_bytes() const = 0;
};

// The rows of a tree of drafts that one of them sees: bit b of word w stands for
// row 64 w + b of its sequence in the step.
inline constexpr int kMaxTreeRows = 128;
struct AncestorMask {
  uint64_t words[2] = {0, 0};
};

// Where the rows of one step belong. Rows of one sequence are adjacent.
//
// A chain (`ancestors` empty): rows are in order of position; row i stands at
// position first_position + i and attends to the positions before it in its
// sequence and to itself.
//
// A tree (Miao et al. 2023, "SpecInfer", arXiv:2305.09781): row i attends to the
// positions before first_position and to the rows whose bits are set in
// ancestors[i], of which the last must be row i itself. Keys and values of row i
// lie in slot first_position + i, as those of a chain do, but it stands at
// first_position + (number of bits set) - 1, and its n-th ancestor at
// first_position + n. Its attention is, bit for bit, that of the last row of a
// chain of its ancestors, sliding windows included.
//
// Bidirectional, as the encoders of sentences are (Devlin et al. 2019, "BERT",
// arXiv:1810.04805): rows stand as those of a chain do, but each attends to the
// positions before first_position and to all rows of its sequence in the step,
// as the last of them does. Such sequences have no ancestors, and the attention
// no sliding window.
struct SequenceRows {
  int first_row = 0;               // index of its first row in the step
  int row_count = 0;               // rows of this sequence in the step
  int first_position = 0;          // slot of its first row
  std::span<const int32_t> pages;  // pages[p / page_size] holds slot p
  // Empty or row_count masks; at most kMaxTreeRows.
  std::span<const AncestorMask> ancestors = {};
  bool bidirectional = false;
};

// Where row i of a sequence stands.
inline int PositionOf(const SequenceRows& sequence, int i) {
  if (sequence.ancestors.empty()) return sequence.first_position + i;
  const AncestorMask& mask = sequence.ancestors[static_cast<size_t>(i)];
  return sequence.first_position + std::popcount(mask.words[0]) + std::popcount(mask.words[1]) - 1;
}

// The last position that row i of a sequence sees.
inline int LastSeen(const SequenceRows& sequence, int i) {
  return PositionOf(sequence, sequence.bidirectional ? sequence.row_count - 1 : i);
}

inline constexpr int kMaxHeadDim = 1024;

struct AttentionShape {
  int heads = 0;
  int kv_heads = 0;        // divides heads
  int head_dim = 0;        // at most kMaxHeadDim
  float scale = 0;         // multiplies q·k
  int sliding_window = 0;  // 0: none; otherwise position p sees (p - window, p]
  bool operator==(const AttentionShape&) const = default;
};

// Rotary embedding of the first 2 * inverse_frequencies.size() values of each
// head, Hugging Face's "rotate half" pairing (i, i + rotary_dim / 2).
struct RopeShape {
  int heads = 0;
  int head_dim = 0;
  std::span<const float> inverse_frequencies;
  float attention_factor = 1;  // multiplies cos and sin
};

class Backend {
 public:
  virtual ~Backend() = default;

  // For logs and `octoctl get workers`, e.g. "cpu-avx512 (2 threads)".
  virtual std::string Describe() const = 0;

  // Memory that can still be had, where the backend has its own, without what it
  // will need itself to run steps; nothing where its memory is the host's.
  virtual std::optional<uint64_t> FreeBytes() const { return std::nullopt; }

  // The calling thread drives the backend from now on until it ends. Where the
  // backend's own threads stay on CPUs, it stays on the one that they leave for it.
  virtual void BindThread() {}

  // Null where memory cannot be had.
  virtual std::unique_ptr<Buffer> Allocate(size_t floats) = 0;
  // The weights are quantised as kernels/quantize.h says. Products with them
  // follow kernels/quantized_dot.h on the CPU and kernels/cuda/matmul_layout.h on
  // CUDA devices. Null also where a matrix that is to be quantised is wider than
  // kMaxQuantizedColumns.
  virtual std::unique_ptr<Weight> LoadWeight(const HostMatrix& matrix, WeightFormat format) = 0;
  // A matrix for Embed alone: CPU backends read the host's bytes in place.
  virtual std::unique_ptr<Weight> LoadTable(const HostMatrix& matrix) {
    return LoadWeight(matrix, WeightFormat::kStored);
  }
  // Weight::bytes, at most, of what LoadWeight makes of such a matrix.
  virtual size_t WeightBytes(DType stored, int rows, int cols, WeightFormat format) const = 0;
  // And LoadTable, the host's bytes included that are read in place.
  virtual size_t TableBytes(DType stored, int rows, int cols) const {
    return WeightBytes(stored, rows, cols, WeightFormat::kStored);
  }
  virtual std::unique_ptr<KvCache> CreateKvCache(const KvCacheShape& shape) = 0;
  // How keys and values are best kept where nobody asks for a type.
  virtual DType DefaultKvDType() const { return DType::kF32; }
  // Why attention over such a cache is slower than this backend's best, and what would
  // not be, for logs; empty where it is not.
  virtual std::string SlowAttention(const AttentionShape& /*shape*/, DType /*dtype*/) const {
    return {};
  }

  // Between host and backend memory; both wait until the copy is done.
  virtual void Upload(std::span<const float> from, float* to) = 0;
  virtual void Download(const float* from, std::span<float> to) = 0;
  virtual void Synchronize() = 0;

  // One pass of a model stands between BeginStep and EndStep, which do not nest.
  // In between, a backend may put operations off until EndStep, or until one that
  // hands results to the host, and start them all at once; what they give is the
  // same. A device is told less from step to step where steps repeat their
  // operations with the same buffers and numbers of rows; what may differ freely
  // is what the spans hold.
  virtual void BeginStep() {}
  virtual void EndStep() {}
  // How many times a step has to be run before it takes the time that it takes from
  // then on.
  virtual int WarmSteps() const { return 0; }

  // out[r] = table[ids[r]], dequantised; out is [ids.size(), table.cols].
  virtual void Embed(const Weight& table, std::span<const int32_t> ids, float* out) = 0;

  // out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * weight; x, out are
  // [rows, columns] and may be the same memory.
  virtual void RmsNorm(const float* x, const float* weight, int rows, int columns, float epsilon,
                       float* out) = 0;
  // The same in place for each of the heads of x [rows, stride]; head h of row r starts at
  // x + r * stride + h * head_dim. Such a head gets the bits of a row of head_dim columns.
  virtual void RmsNormHeads(const float* weight, int rows, int heads, int head_dim, int stride,
                            float epsilon, float* x) = 0;

  // out[r] = weight * x[r] (+ bias) (+ out[r] where accumulate); x is
  // [rows, weight.cols], out is [rows, weight.rows] with `out_stride` floats
  // from one row to the next (>= weight.rows). bias may be null.
  virtual void MatMul(const Weight& weight, const float* bias, const float* x, int rows,
                      bool accumulate, float* out, int out_stride) = 0;

  // out[r] = (x[r] - mean(x[r])) / sqrt(variance(x[r]) + epsilon) * weight
  // (+ bias), with the variance of all columns (Ba et al. 2016,
  // arXiv:1607.06450); x, out are [rows, columns] and may be the same memory.
  // bias may be null.
  virtual void LayerNorm(const float* x, const float* weight, const float* bias, int rows,
                         int columns, float epsilon, float* out) = 0;

  // Rotates x [rows, stride] in place; head h of row r starts at
  // x + r * stride + h * head_dim and stands at positions[r].
  virtual void Rope(const RopeShape& shape, std::span<const int32_t> positions, int stride,
                    float* x) = 0;

  // Stores keys and values [rows, stride], kv_heads * head_dim values a row,
  // in slot first_position + i for row i of a sequence.
  virtual void WriteKv(KvCache& cache, int layer, std::span<const SequenceRows> sequences,
                       const float* keys, const float* values, int stride) = 0;

  // Moves keys and values of all layers from slot first_position + rows[i] to
  // first_position + i, for ascending i: compacts the accepted path of a tree.
  // `rows` are ascending and not negative.
  virtual void MoveKv(KvCache& cache, std::span<const int32_t> pages, int first_position,
                      std::span<const int32_t> rows) = 0;

  // What a page holds in all layers, as bytes that mean something only to caches
  // of the same shape and kind of backend. `to` and `from` have page_bytes().
  //
  // Later operations find and leave the page as if the copy had been done when it
  // was called, and copies take effect in the order of their calls. But a device
  // may go on copying beside them: the cache and the host's memory have to stay,
  // and what was downloaded cannot be read, until FinishPageCopies returns.
  // Synchronize does not wait for copies.
  virtual void DownloadPage(const KvCache& cache, int32_t page, std::span<std::byte> to) = 0;
  virtual void UploadPage(std::span<const std::byte> from, KvCache& cache, int32_t page) = 0;
  virtual void FinishPageCopies() {}
  // Memory that pages are copied to and from fastest, and beside other operations;
  // copies to any other may wait. Null where it cannot be had.
  virtual std::unique_ptr<HostBlock> AllocateHostBlock(size_t bytes) = 0;

  // out[r] = softmax(scale * q[r] K^T) V over the positions that row r sees,
  // heads side by side; q is [rows, q_stride], out is [rows, heads * head_dim].
  // Keys and values of the step's own rows have been written before.
  virtual void Attention(const AttentionShape& shape, const KvCache& cache, int layer,
                         std::span<const SequenceRows> sequences, const float* q, int q_stride,
                         float* out) = 0;

  // out[r, c] = silu(gate_up[r, c]) * gate_up[r, columns + c]; gate_up is
  // [rows, 2 * columns], out is [rows, columns].
  virtual void SiluMul(const float* gate_up, int rows, int columns, float* out) = 0;
  // The same with the exact (erf) GELU, and with its tanh approximation.
  virtual void GeluMul(const float* gate_up, int rows, int columns, bool tanh_approximation,
                       float* out) = 0;

  // out[i] = x[rows[i]]; x is [*, columns].
  virtual void GatherRows(const float* x, std::span<const int32_t> rows, int columns,
                          float* out) = 0;

  // logits[row, id] = Edited(logits[row, id], edit) for each edit, in float and in
  // that order; logits are [*, columns]. No two edits name the same logit.
  virtual void EditLogits(std::span<const LogitEdit> edits, int columns, float* logits) = 0;

  // Of each row of logits [rows, columns]: the k largest values and where they
  // are, largest first, equal ones in order of index (a NaN is less than
  // anything), into values and ids [rows, k]; and log(sum(exp(row))), which is
  // NaN if a value is, but the largest value where that is infinite. k is in
  // [0, columns]. The results are there when the call returns.
  virtual void TopK(const float* logits, int rows, int columns, int k, std::span<int32_t> ids,
                    std::span<float> values, std::span<float> log_sum_exp) = 0;

  // Draws an index from a row of logits [*, columns] for each of `draws`, as kernels/draw.h
  // defines it, into ids, and its logit into values. -1, and no logit that means anything, from
  // a row with a NaN or +infinity and from one without a number above -infinity. The results
  // are there when the call returns.
  virtual void Draw(const float* logits, int columns, std::span<const LogitDraw> draws,
                    std::span<int32_t> ids, std::span<float> values) = 0;
};

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_BACKEND_H_
