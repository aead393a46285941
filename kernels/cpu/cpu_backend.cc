#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cassert>
#include <new>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "kernels/bf16_dot.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/draw.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/matmul_amx.h"
#include "kernels/cpu/matmul_avx512bf16.h"
#include "kernels/cpu/matmul_float8.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/panel_weight.h"
#include "kernels/cpu/quantized_matmul.h"
#include "kernels/cpu/quantized_table.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/top_k.h"
#include "kernels/host_kv_cache.h"
#include "kernels/host_memory.h"
#include "kernels/quantize.h"
#include "kernels/rotary.h"

namespace octogate::kernels {
namespace {

// Below this many bytes or operations a loop is not worth sharing.
constexpr size_t kMinTask = size_t{1} << 15;

// Bytes of a weight that make a task, in a multiple of the panels that a kernel
// takes at once.
constexpr size_t kTaskBytes = size_t{1} << 17;
constexpr size_t kTaskPanels = 4;

// Sines and cosines that Rope keeps from one call to the next: all layers of a
// step ask for the same positions.
constexpr size_t kRotaryFloats = size_t{1} << 16;

// Bytes of activations that are packed at a time: some rows of kMaxPackedColumns.
constexpr size_t kPackedInputs = size_t{1} << 24;
// Wider weights are multiplied with activations as they are.
constexpr int kMaxPackedColumns = kMaxBf16Columns;
// From so many rows on packing them pays where nothing is rounded.
constexpr int kManyRows = 25;

#if defined(__x86_64__)
// Those of AVX-512 but for products of FP8.
const KernelTable& Avx512VbmiKernels() {
  static const KernelTable table = [] {
    KernelTable with_vbmi = Avx512Kernels();
    with_vbmi.name = "avx512vbmi";
    with_vbmi.matmul = MatMulAvx512Vbmi;
    return with_vbmi;
  }();
  return table;
}

// And for products of BF16 pairs.
const KernelTable& Avx512Bf16Kernels() {
  static const KernelTable table = [] {
    KernelTable with_bf16 = Avx512VbmiKernels();
    with_bf16.name = "avx512bf16";
    with_bf16.bf16_pairs = Avx512Bf16Pairs();
    return with_bf16;
  }();
  return table;
}

// And for the other products of BF16.
const KernelTable& AmxKernels() {
  static const KernelTable table = [] {
    KernelTable with_amx = Avx512Bf16Kernels();
    with_amx.name = "amx";
    with_amx.bf16 = amx::Products();
    return with_amx;
  }();
  return table;
}
#endif

const KernelTable& KernelsFor(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return Avx2Kernels();
    case Isa::kAvx512:
    case Isa::kAvx512Vnni:
      return Avx512Kernels();
    case Isa::kAvx512Vbmi:
      return Avx512VbmiKernels();
    case Isa::kAvx512Bf16:
      return Avx512Bf16Kernels();
    case Isa::kAmx:
      return AmxKernels();
#endif
    default:
      return PlainKernels();
  }
}

const QuantizedKernelTable& QuantizedKernelsFor(Isa isa, int rows, int cols) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return Avx2QuantizedKernels();
    case Isa::kAvx512:
      return Avx512QuantizedKernels();
    case Isa::kAmx:
      // Where a tile of rows has room.
      if (rows >= kAmxIntegerRows &&
          cols <= QuantizedInputs::kCapacity / kQuantizedInputRows - kQuantizationGroup) {
        return AmxQuantizedKernels();
      }
      return Avx512VnniQuantizedKernels();
    case Isa::kAvx512Vnni:
    case Isa::kAvx512Vbmi:
    case Isa::kAvx512Bf16:
      return Avx512VnniQuantizedKernels();
#endif
    default:
      return PlainQuantizedKernels();
  }
}

size_t Offset(int row, int stride) {
  return static_cast<size_t>(row) * static_cast<size_t>(stride);
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(Isa isa, int threads, int first_cpu, Activations activations)
      : isa_(isa),
        kernels_(KernelsFor(isa)),
        pool_(threads, first_cpu),
        matmul_scratch_(AllocateHost<float>(static_cast<size_t>(pool_.threads()) * kMatMulScratch)),
        activations_(activations),
        packed_inputs_(AllocateHost<uint8_t>(kPackedInputs)),
        rotary_(AllocateHost<float>(kRotaryFloats)),
        rotary_frequencies_(AllocateHost<float>(kRotaryFloats)),
        rotary_positions_(AllocateHost<int32_t>(kRotaryFloats)) {}

  bool HasMemory() const {
    return matmul_scratch_ != nullptr && quantized_inputs_.HasMemory() &&
           packed_inputs_ != nullptr && rotary_ != nullptr && rotary_frequencies_ != nullptr &&
           rotary_positions_ != nullptr;
  }

  std::string Describe() const override {
    const int threads = pool_.threads();
    std::string text = std::string("cpu-") + Name(isa_) + " (" + std::to_string(threads) +
                       (threads == 1 ? " thread" : " threads");
    if (activations_ != Activations::kF32) {
      text += std::string(", ") + Name(activations_) + " activations";
    }
    return text + ")";
  }

  void BindThread() override { pool_.BindCaller(); }

  std::unique_ptr<Buffer> Allocate(size_t floats) override { return MakeHostBuffer(floats); }

  std::unique_ptr<Weight> LoadWeight(const HostMatrix& matrix, WeightFormat format) override {
    if (HasIntegerCodes(format)) return PackedWeight::Make(matrix, format, pool_);
    return PanelWeight::Make(matrix, format, pool_);
  }

  std::unique_ptr<Weight> LoadTable(const HostMatrix& matrix) override {
    return std::unique_ptr<Weight>(new (std::nothrow) HostWeight(matrix));
  }

  size_t WeightBytes(DType stored, int rows, int cols, WeightFormat format) const override {
    return LoadedWeightBytes(stored, rows, cols, format);
  }
  size_t TableBytes(DType stored, int rows, int cols) const override {
    return static_cast<size_t>(rows) * static_cast<size_t>(cols) * SizeOf(stored);
  }

  std::unique_ptr<KvCache> CreateKvCache(const KvCacheShape& shape) override {
    return HostKvCache::Make(shape);
  }

  void Upload(std::span<const float> from, float* to) override {
    std::copy(from.begin(), from.end(), to);
  }
  void Download(const float* from, std::span<float> to) override {
    std::copy_n(from, to.size(), to.begin());
  }
  void Synchronize() override {}

  void Embed(const Weight& table, std::span<const int32_t> ids, float* out) override {
    const auto* in_place = dynamic_cast<const HostWeight*>(&table);
    ForRows(static_cast<int>(ids.size()), static_cast<size_t>(table.cols), [&](int r) {
      const int32_t id = ids[static_cast<size_t>(r)];
      assert(id >= 0 && id < table.rows);
      float* to = out + Offset(r, table.cols);
      if (in_place != nullptr) {
        kernels_.widen(in_place->row(id), in_place->dtype(), table.cols, to);
      } else if (HasIntegerCodes(table.format)) {
        static_cast<const PackedWeight&>(table).Dequantize(id, to);
      } else {
        static_cast<const PanelWeight&>(table).Dequantize(id, to);
      }
    });
  }

  void RmsNorm(const float* x, const float* weight, int rows, int columns, float epsilon,
               float* out) override {
    ForRows(rows, static_cast<size_t>(columns), [&](int r) {
      kernels_.rms_norm(x + Offset(r, columns), weight, columns, epsilon, out + Offset(r, columns));
    });
  }

  void RmsNormHeads(const float* weight, int rows, int heads, int head_dim, int stride,
                    float epsilon, float* x) override {
    ForRows(rows, Offset(heads, head_dim), [&](int r) {
      for (int h = 0; h < heads; ++h) {
        float* head = x + Offset(r, stride) + Offset(h, head_dim);
        kernels_.rms_norm(head, weight, head_dim, epsilon, head);
      }
    });
  }

  void LayerNorm(const float* x, const float* weight, const float* bias, int rows, int columns,
                 float epsilon, float* out) override {
    ForRows(rows, static_cast<size_t>(columns), [&](int r) {
      kernels_.layer_norm(x + Offset(r, columns), weight, bias, columns, epsilon,
                          out + Offset(r, columns));
    });
  }

  void MatMul(const Weight& weight, const float* bias, const float* x, int rows, bool accumulate,
              float* out, int out_stride) override {
    assert(out_stride >= weight.rows && dynamic_cast<const HostWeight*>(&weight) == nullptr);
    if (rows == 0 || weight.rows == 0) return;
    if (HasIntegerCodes(weight.format)) {
      return CpuQuantizedMatMul(QuantizedKernelsFor(isa_, rows, weight.cols), pool_,
                                quantized_inputs_, static_cast<const PackedWeight&>(weight), bias,
                                x, rows, accumulate, out, out_stride);
    }
    const auto& w = static_cast<const PanelWeight&>(weight);
    const MatMulArgs args{.panels = w.data(),
                          .panel_bytes = w.panel_bytes(),
                          .dtype = w.dtype(),
                          .row_scales = w.row_scales(),
                          .outputs = w.rows,
                          .cols = w.cols,
                          .blocks = w.blocks(),
                          .bias = bias,
                          .x = x,
                          .rows = rows,
                          .accumulate = accumulate,
                          .out = out,
                          .out_stride = out_stride};
    if (const PackedProducts* products = Packed(w, rows); products != nullptr) {
      return MatMulPacked(*products, w, x, args);
    }
    ForPanels(w, rows, [&](int begin, int end, int thread) {
      kernels_.matmul(args, begin, end, Scratch(thread));
    });
  }

  void Rope(const RopeShape& shape, std::span<const int32_t> positions, int stride,
            float* x) override {
    const int frequencies = static_cast<int>(shape.inverse_frequencies.size());
    assert(frequencies > 0 && 2 * frequencies <= shape.head_dim);
    assert(shape.head_dim <= kMaxHeadDim);
    const size_t row_floats = 2 * static_cast<size_t>(frequencies);
    const size_t rows_at_once = kRotaryFloats / row_floats;
    for (size_t first = 0; first < positions.size(); first += rows_at_once) {
      const std::span<const int32_t> part =
          positions.subspan(first, std::min(rows_at_once, positions.size() - first));
      FillRotary(shape, part);
      ForRows(static_cast<int>(part.size()), Offset(shape.heads, shape.head_dim), [&](int r) {
        const float* cosine = rotary_.get() + static_cast<size_t>(r) * row_floats;
        float* row = x + (first + static_cast<size_t>(r)) * static_cast<size_t>(stride);
        for (int h = 0; h < shape.heads; ++h) {
          RotateHead(cosine, cosine + frequencies, frequencies, row + Offset(h, shape.head_dim));
        }
      });
    }
  }

  void WriteKv(KvCache& cache, int layer, std::span<const SequenceRows> sequences,
               const float* keys, const float* values, int stride) override {
    for (const SequenceRows& sequence : sequences) {
      WriteHostKv(static_cast<HostKvCache&>(cache), layer, sequence, keys, values, stride);
    }
  }

  void MoveKv(KvCache& cache, std::span<const int32_t> pages, int first_position,
              std::span<const int32_t> rows) override {
    MoveHostKv(static_cast<HostKvCache&>(cache), pages, first_position, rows);
  }

  void DownloadPage(const KvCache& cache, int32_t page, std::span<std::byte> to) override {
    DownloadHostPage(static_cast<const HostKvCache&>(cache), page, to);
  }
  void UploadPage(std::span<const std::byte> from, KvCache& cache, int32_t page) override {
    UploadHostPage(from, static_cast<HostKvCache&>(cache), page);
  }
  std::unique_ptr<HostBlock> AllocateHostBlock(size_t bytes) override {
    return MakeHostBlock(bytes);
  }

  void Attention(const AttentionShape& shape, const KvCache& cache, int layer,
                 std::span<const SequenceRows> sequences, const float* q, int q_stride,
                 float* out) override {
    CpuAttention(kernels_, pool_, shape, static_cast<const HostKvCache&>(cache), layer, sequences,
                 q, q_stride, attention_scratch_, out);
  }

  void SiluMul(const float* gate_up, int rows, int columns, float* out) override {
    GateMul(kernels_.silu_mul, gate_up, rows, columns, out);
  }

  void GeluMul(const float* gate_up, int rows, int columns, bool tanh_approximation,
               float* out) override {
    GateMul(tanh_approximation ? kernels_.gelu_tanh_mul : kernels_.gelu_erf_mul, gate_up, rows,
            columns, out);
  }

  void GatherRows(const float* x, std::span<const int32_t> rows, int columns, float* out) override {
    for (const int32_t row : rows) out = std::copy_n(x + Offset(row, columns), columns, out);
  }

  void EditLogits(std::span<const LogitEdit> edits, int columns, float* logits) override {
    EditHostLogits(edits, columns, logits);
  }

  void TopK(const float* logits, int rows, int columns, int k, std::span<int32_t> ids,
            std::span<float> values, std::span<float> log_sum_exp) override {
    CpuTopK(kernels_, pool_, logits, rows, columns, k, ids, values, log_sum_exp);
  }

  void Draw(const float* logits, int columns, std::span<const LogitDraw> draws,
            std::span<int32_t> ids, std::span<float> values) override {
    CpuDraw(kernels_, pool_, logits, columns, draws, draw_sums_, ids, values);
  }

 private:
  // f(row) for all rows, in tasks of at least kMinTask floats.
  template <typename F>
  void ForRows(int rows, size_t row_floats, const F& f) {
    const int chunk = std::max(1, static_cast<int>(kMinTask / std::max<size_t>(1, row_floats)));
    pool_.Run((rows + chunk - 1) / chunk, [&](int task, int /*thread*/) {
      const int end = std::min(rows, (task + 1) * chunk);
      for (int r = task * chunk; r < end; ++r) f(r);
    });
  }

  void GateMul(void (*kernel)(const float*, const float*, int, float*), const float* gate_up,
               int rows, int columns, float* out) {
    ForRows(rows, static_cast<size_t>(columns), [&](int r) {
      const float* gate = gate_up + 2 * Offset(r, columns);
      kernel(gate, gate + columns, columns, out + Offset(r, columns));
    });
  }

  float* Scratch(int thread) {
    return matmul_scratch_.get() + static_cast<size_t>(thread) * kMatMulScratch;
  }

  // The products that take rows of x packed; null where `matmul` takes them as they are.
  const PackedProducts* Packed(const PanelWeight& w, int rows) const {
    if (w.cols > kMaxPackedColumns) return nullptr;
    const bool pairs = activations_ == Activations::kBF16Pairs;
    switch (w.dtype()) {
      case DType::kF32:
        return rows >= kManyRows ? &kernels_.many_rows : nullptr;
      case DType::kBF16:
        return pairs ? &kernels_.bf16_pairs
                     : (activations_ == Activations::kBF16 ? &kernels_.bf16 : nullptr);
      case DType::kF8E4M3:
        return pairs ? &kernels_.bf16_pairs : nullptr;
      default:
        return nullptr;
    }
  }

  void MatMulPacked(const PackedProducts& products, const PanelWeight& w, const float* x,
                    const MatMulArgs& all) {
    const size_t together_bytes =
        static_cast<size_t>(products.rows_together) * products.row_bytes(std::max(1, w.cols));
    const int rows_at_once =
        static_cast<int>(kPackedInputs / together_bytes) * products.rows_together;
    assert(rows_at_once > 0);
    MatMulArgs args = all;
    args.x = packed_inputs_.get();
    for (int first = 0; first < all.rows; first += rows_at_once) {
      const int count = std::min(rows_at_once, all.rows - first);
      ForRows(count, static_cast<size_t>(w.cols), [&](int r) {
        products.pack_inputs(x + Offset(first + r, w.cols), w.cols, r, packed_inputs_.get());
      });
      args.rows = count;
      args.out = all.out + Offset(first, all.out_stride);
      ForPanels(w, count, [&](int begin, int end, int thread) {
        products.matmul(args, begin, end, Scratch(thread));
      });
    }
  }

  // f(begin, end, thread) over all panels, in tasks with enough bytes to stream,
  // where the product is worth sharing.
  template <typename F>
  void ForPanels(const PanelWeight& weight, int rows, const F& f) {
    const size_t wanted =
        std::max<size_t>(1, kTaskBytes / std::max<size_t>(1, weight.panel_bytes()));
    size_t chunk = (wanted + kTaskPanels - 1) / kTaskPanels * kTaskPanels;
    const size_t work = static_cast<size_t>(rows) * weight.panel_bytes();
    if (work * static_cast<size_t>(weight.panels()) < kMinTask) chunk = SIZE_MAX;
    const int at_once =
        static_cast<int>(std::min(chunk, static_cast<size_t>(std::max(1, weight.panels()))));
    pool_.Run((weight.panels() + at_once - 1) / at_once, [&](int task, int thread) {
      f(task * at_once, std::min((task + 1) * at_once, weight.panels()), thread);
    });
  }

  // Makes rotary_ hold [cosines | sines] of each position, unless it does.
  void FillRotary(const RopeShape& shape, std::span<const int32_t> positions) {
    const size_t frequencies = shape.inverse_frequencies.size();
    if (positions.size() == rotary_rows_ && frequencies == rotary_count_ &&
        shape.attention_factor == rotary_factor_ &&
        std::equal(positions.begin(), positions.end(), rotary_positions_.get()) &&
        std::equal(shape.inverse_frequencies.begin(), shape.inverse_frequencies.end(),
                   rotary_frequencies_.get())) {
      return;
    }
    rotary_rows_ = positions.size();
    rotary_count_ = frequencies;
    rotary_factor_ = shape.attention_factor;
    std::copy(positions.begin(), positions.end(), rotary_positions_.get());
    std::copy(shape.inverse_frequencies.begin(), shape.inverse_frequencies.end(),
              rotary_frequencies_.get());
    ForRows(static_cast<int>(positions.size()), 16 * frequencies, [&](int r) {
      float* cosine = rotary_.get() + static_cast<size_t>(r) * 2 * frequencies;
      float* sine = cosine + frequencies;
      for (size_t i = 0; i < frequencies; ++i) {
        const float angle =
            static_cast<float>(positions[static_cast<size_t>(r)]) * shape.inverse_frequencies[i];
        const SineCosine value = SinCos(angle);
        cosine[i] = value.cosine * shape.attention_factor;
        sine[i] = value.sine * shape.attention_factor;
      }
    });
  }

  const Isa isa_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  HostArray<float> matmul_scratch_;  // kMatMulScratch for each thread
  Activations activations_;
  HostArray<uint8_t> packed_inputs_;  // kPackedInputs bytes
  QuantizedInputs quantized_inputs_;
  AttentionScratch attention_scratch_;

  HostArray<float> rotary_;
  HostArray<float> rotary_frequencies_;  // what rotary_ was made from
  HostArray<int32_t> rotary_positions_;
  std::vector<float> draw_sums_;
  size_t rotary_rows_ = 0;
  size_t rotary_count_ = 0;
  float rotary_factor_ = 0;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(const CpuBackendOptions& options) {
  const Isa isa = options.isa == Isa::kAuto ? BestIsa() : options.isa;
  if (!IsSupported(isa)) return nullptr;
  int threads = options.threads;
  if (threads <= 0) threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  auto backend = std::unique_ptr<CpuBackend>(new (std::nothrow) CpuBackend(
      isa, threads, options.pin_threads ? options.first_cpu : ThreadPool::kAnyCpu,
      options.activations));
  if (backend == nullptr || !backend->HasMemory()) return nullptr;
  return backend;
}

}  // namespace octogate::kernels
