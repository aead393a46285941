#include <algorithm>
#include <cassert>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/draw.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_exact.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/page_copies.h"
#include "kernels/cuda/rope.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/step_rows.h"
#include "kernels/cuda/tensor_attention.h"
#include "kernels/cuda/top_k.h"
#include "kernels/cuda/weight_copies.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::cuda {
namespace {

// Enough for 512 rows of the largest matrices of today's models, and for 16 with
// a vocabulary of a quarter of a million (matmul.h).
constexpr size_t kWorkspaceBytes = size_t{128} << 20;
constexpr size_t kStagingBytes = size_t{8} << 20;
constexpr size_t kResultBytes = size_t{1} << 20;
// A dozen pages of today's models that are on their way to the host.
constexpr size_t kPageRingBytes = size_t{32} << 20;
// What the runtime takes of the device's memory while steps run, as an estimate: the
// code of kernels, loaded when each runs first (tens of MiB in all), and 64 graphs of
// some hundred kernels (a MiB or so each).
constexpr size_t kRuntimeBytes = size_t{256} << 20;
// Thread blocks that keep a multiprocessor busy.
constexpr int kBlocksPerMultiprocessor = 8;

class DeviceBuffer final : public Buffer {
 public:
  DeviceBuffer(DeviceMemory memory, size_t floats) : memory_(std::move(memory)), size_(floats) {}
  float* data() override { return static_cast<float*>(memory_.get()); }
  size_t size() const override { return size_; }

 private:
  DeviceMemory memory_;
  size_t size_;
};

class PinnedBlock final : public HostBlock {
 public:
  PinnedBlock(PinnedMemory memory, size_t size) : memory_(std::move(memory)), size_(size) {}
  std::span<std::byte> bytes() override { return {static_cast<std::byte*>(memory_.get()), size_}; }

 private:
  PinnedMemory memory_;
  size_t size_;
};

class DeviceKvCache final : public KvCache {
 public:
  DeviceKvCache(DeviceMemory memory, const KvCacheShape& shape)
      : memory_(std::move(memory)), shape_(shape) {}
  const KvCacheShape& shape() const override { return shape_; }
  size_t page_bytes() const override {
    return 2 * static_cast<size_t>(shape_.layers) * static_cast<size_t>(shape_.kv_heads) *
           static_cast<size_t>(view().run_bytes);
  }
  // A page is one block of memory.
  void* page(int32_t index) const {
    return static_cast<std::byte*>(memory_.get()) + static_cast<size_t>(index) * page_bytes();
  }
  KvView view() const { return ViewKv(shape_, memory_.get()); }

 private:
  DeviceMemory memory_;
  KvCacheShape shape_;
};

const DeviceWeight& AsDevice(const Weight& weight) {
  return static_cast<const DeviceWeight&>(weight);
}
KvView ViewOf(const KvCache& cache) { return static_cast<const DeviceKvCache&>(cache).view(); }

// a * b, or 0 where that is too large to be allocated.
size_t Product(size_t a, size_t b) { return b != 0 && a > SIZE_MAX / 2 / b ? 0 : a * b; }

// The k largest of a row on the host, for k that the device does not rank.
void RankOnHost(std::span<const float> row, int k, int32_t* ids, float* values) {
  std::vector<int32_t> order(row.size());
  for (size_t i = 0; i < row.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto before = [&](int32_t a, int32_t b) {
    return RankOf(row[static_cast<size_t>(a)], a) > RankOf(row[static_cast<size_t>(b)], b);
  };
  std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
  for (int i = 0; i < k; ++i) {
    ids[i] = order[static_cast<size_t>(i)];
    values[i] = row[static_cast<size_t>(ids[i])];
  }
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(const Options& options, const DeviceInfo& info, Stream stream, Stream copies)
      : device_(options.device),
        input_rounding_(options.input_rounding),
        exact_attention_(options.exact_attention),
        info_(info),
        stream_(stream),
        copies_(copies),
        page_copies_(PageCopies::Make(stream, copies, kPageRingBytes)),
        staging_(Staging::Make(stream, kStagingBytes)),
        step_staging_(StepStaging::Make(stream, kStagingBytes)),
        graphs_(options.step_graphs) {
    workspace_memory_ = AllocateDevice(kWorkspaceBytes);
    results_memory_ = AllocateDevice(kResultBytes);
    host_results_ = AllocatePinned(kResultBytes);
    workspace_ = {workspace_memory_.get(), kWorkspaceBytes};
  }
  ~CudaBackend() override {
    UseDevice(device_);
    cuda::Synchronize(stream_);
    cuda::Synchronize(copies_);
    page_copies_ = nullptr;
    CloseStream(stream_);
    CloseStream(copies_);
  }

  bool HasMemory() const {
    return page_copies_ != nullptr && staging_ != nullptr && step_staging_ != nullptr &&
           workspace_memory_ != nullptr && results_memory_ != nullptr && host_results_ != nullptr;
  }

  std::string Describe() const override {
    return "cuda (" + info_.name + ", compute capability " + std::to_string(info_.compute_major) +
           "." + std::to_string(info_.compute_minor) +
           (input_rounding_ == InputRounding::kRounded ? ", rounded inputs" : "") +
           (exact_attention_ ? ", exact attention" : "") + ")";
  }

  std::optional<uint64_t> FreeBytes() const override {
    UseDevice(device_);
    const size_t free = FreeDeviceBytes();
    return free - std::min(free, kRuntimeBytes);
  }

  std::unique_ptr<Buffer> Allocate(size_t floats) override {
    UseDevice(device_);
    DeviceMemory memory = Take(Product(floats, sizeof(float)), floats == 0);
    if (memory == nullptr) return nullptr;
    return std::unique_ptr<Buffer>(new (std::nothrow) DeviceBuffer(std::move(memory), floats));
  }

  std::unique_ptr<Weight> LoadWeight(const HostMatrix& matrix, WeightFormat format) override {
    UseDevice(device_);
    StartStep();
    if (weight_copies_ == nullptr) weight_copies_ = WeightCopies::Make(stream_.handle);
    if (weight_copies_ == nullptr) return nullptr;
    return DeviceWeight::Load(*weight_copies_, matrix, format, kWorkspaceBytes);
  }

  size_t WeightBytes(DType stored, int rows, int cols, WeightFormat format) const override {
    return DeviceWeight::BytesOf(stored, rows, cols, format);
  }

  DType DefaultKvDType() const override { return DType::kBF16; }

  std::string SlowAttention(const AttentionShape& shape, DType dtype) const override {
    if (exact_attention_) return "attention runs on CUDA cores: the CPU's order is asked for";
    if (TensorAttentionFits(shape, dtype)) return {};
    return "attention runs on CUDA cores: there are " + std::to_string(shape.heads) + " heads of " +
           std::to_string(shape.head_dim) + " values, and " + std::to_string(shape.kv_heads) +
           " of keys and values in " + Name(dtype) + "; tensor cores take " + kTensorAttention;
  }

  std::unique_ptr<KvCache> CreateKvCache(const KvCacheShape& shape) override {
    UseDevice(device_);
    if (shape.head_dim <= 0 || shape.head_dim > kMaxHeadDim) return nullptr;
    size_t bytes = 2 * static_cast<size_t>(ViewKv(shape, nullptr).run_bytes);
    for (const int factor : {shape.layers, shape.pages, shape.kv_heads}) {
      bytes = Product(bytes, static_cast<size_t>(factor));
    }
    DeviceMemory memory = Take(bytes, false);
    if (memory == nullptr) return nullptr;
    return std::unique_ptr<KvCache>(new (std::nothrow) DeviceKvCache(std::move(memory), shape));
  }

  void Upload(std::span<const float> from, float* to) override {
    UseDevice(device_);
    StartStep();
    CopyToDevice(stream_, from.data(), from.size_bytes(), to);
    cuda::Synchronize(stream_);
  }
  void Download(const float* from, std::span<float> to) override {
    UseDevice(device_);
    StartStep();
    CopyToHost(stream_, from, to.size_bytes(), to.data());
    cuda::Synchronize(stream_);
  }
  void Synchronize() override {
    UseDevice(device_);
    StartStep();
    cuda::Synchronize(stream_);
  }

  void BeginStep() override {
    assert(stream_.log == nullptr);
    UseDevice(device_);
    step_staging_->Begin();
    log_.Clear();
    stream_.log = &log_;
  }
  void EndStep() override {
    UseDevice(device_);
    StartStep();
    stream_.log = nullptr;
  }

  // Without graphs the first step of a shape loads its kernels.
  int WarmSteps() const override { return graphs_.capacity() > 0 ? StepGraphs::kGraphRun : 1; }

  const StepCounters& step_counters() const { return graphs_.counters(); }

  void Embed(const Weight& table, std::span<const int32_t> ids, float* out) override {
    UseDevice(device_);
    const DeviceWeight& weight = AsDevice(table);
    const int32_t* device_ids = nullptr;
    Place(Table{StepStaging::Kind::kIds, ids, &device_ids});
    const auto count = static_cast<int>(ids.size());
    if (weight.packed()) {
      LaunchEmbedPacked(stream_, weight.packed_weight(), device_ids, count, out);
    } else {
      LaunchGatherRows(stream_, weight.floats(), device_ids, count, weight.cols, out);
    }
  }

  void RmsNorm(const float* x, const float* weight, int rows, int columns, float epsilon,
               float* out) override {
    UseDevice(device_);
    LaunchRmsNorm(stream_, x, weight, rows, columns, epsilon, out);
  }

  void RmsNormHeads(const float* weight, int rows, int heads, int head_dim, int stride,
                    float epsilon, float* x) override {
    UseDevice(device_);
    LaunchRmsNormHeads(stream_, weight, rows, heads, head_dim, stride, epsilon, x);
  }

  void LayerNorm(const float* x, const float* weight, const float* bias, int rows, int columns,
                 float epsilon, float* out) override {
    UseDevice(device_);
    LaunchLayerNorm(stream_, x, weight, bias, rows, columns, epsilon, out);
  }

  void MatMul(const Weight& weight, const float* bias, const float* x, int rows, bool accumulate,
              float* out, int out_stride) override {
    assert(out_stride >= weight.rows);
    UseDevice(device_);
    const DeviceWeight& device_weight = AsDevice(weight);
    if (!device_weight.packed()) {
      LaunchExactMatMul(stream_, {.weight = device_weight.floats(),
                                  .outputs = weight.rows,
                                  .cols = weight.cols,
                                  .bias = bias,
                                  .x = x,
                                  .rows = rows,
                                  .accumulate = accumulate,
                                  .out = out,
                                  .out_stride = out_stride});
      return;
    }
    const PackedWeight& packed = device_weight.packed_weight();
    const int at_once = device_weight.rows_at_once();
    for (int first = 0; first < rows; first += at_once) {
      const int count = std::min(at_once, rows - first);
      const MatMulOperation operation{
          .bias = bias,
          .x = x + static_cast<size_t>(first) * static_cast<size_t>(weight.cols),
          .rows = count,
          .accumulate = accumulate,
          .out = out + static_cast<size_t>(first) * static_cast<size_t>(out_stride),
          .out_stride = out_stride,
          .rounding = input_rounding_};
      LaunchMatMul(stream_, packed, operation, PlanMatMul(packed.shape, count), workspace_.data);
    }
  }

  void Rope(const RopeShape& shape, std::span<const int32_t> positions, int stride,
            float* x) override {
    assert(2 * static_cast<int>(shape.inverse_frequencies.size()) <= shape.head_dim);
    UseDevice(device_);
    const float* frequencies = nullptr;
    const int32_t* device_positions = nullptr;
    Place(Table{StepStaging::Kind::kFrequencies, shape.inverse_frequencies, &frequencies},
          Table{StepStaging::Kind::kPositions, positions, &device_positions});
    LaunchRope(stream_, {.heads = shape.heads,
                         .head_dim = shape.head_dim,
                         .frequencies = static_cast<int>(shape.inverse_frequencies.size()),
                         .inverse_frequencies = frequencies,
                         .attention_factor = shape.attention_factor,
                         .positions = device_positions,
                         .rows = static_cast<int>(positions.size()),
                         .stride = stride,
                         .x = x});
  }

  void WriteKv(KvCache& cache, int layer, std::span<const SequenceRows> sequences,
               const float* keys, const float* values, int stride) override {
    UseDevice(device_);
    LaunchWriteKv(stream_, ViewOf(cache), layer, Stage(sequences), keys, values, stride);
  }

  void MoveKv(KvCache& cache, std::span<const int32_t> pages, int first_position,
              std::span<const int32_t> rows) override {
    UseDevice(device_);
    const int32_t* device_pages = nullptr;
    const int32_t* device_rows = nullptr;
    Place(Table{StepStaging::Kind::kPages, pages, &device_pages},
          Table{StepStaging::Kind::kGathered, rows, &device_rows});
    LaunchMoveKv(stream_, ViewOf(cache), device_pages, first_position, device_rows,
                 static_cast<int>(rows.size()));
  }

  void DownloadPage(const KvCache& cache, int32_t page, std::span<std::byte> to) override {
    UseDevice(device_);
    StartStep();
    page_copies_->Download(static_cast<const DeviceKvCache&>(cache).page(page), to);
  }
  void UploadPage(std::span<const std::byte> from, KvCache& cache, int32_t page) override {
    UseDevice(device_);
    StartStep();
    page_copies_->Upload(from, static_cast<DeviceKvCache&>(cache).page(page));
  }
  void FinishPageCopies() override {
    UseDevice(device_);
    page_copies_->Finish();
  }
  std::unique_ptr<HostBlock> AllocateHostBlock(size_t bytes) override {
    UseDevice(device_);
    PinnedMemory memory = AllocatePinned(bytes);
    if (memory == nullptr) return nullptr;
    return std::unique_ptr<HostBlock>(new (std::nothrow) PinnedBlock(std::move(memory), bytes));
  }

  void Attention(const AttentionShape& shape, const KvCache& cache, int layer,
                 std::span<const SequenceRows> sequences, const float* q, int q_stride,
                 float* out) override {
    assert(shape.head_dim <= kMaxHeadDim && shape.heads % shape.kv_heads == 0);
    UseDevice(device_);
    if (!exact_attention_ && TensorAttentionFits(shape, cache.shape().dtype)) {
      return AttendOnTensorCores(shape, ViewOf(cache), layer, sequences, q, q_stride, out);
    }
    const StepRows rows = Stage(sequences);
    LaunchAttention(stream_, shape, ViewOf(cache), layer, rows, tables_.last_position(), q,
                    q_stride, kBlocksPerMultiprocessor * info_.multiprocessors, workspace_, out);
  }

  void SiluMul(const float* gate_up, int rows, int columns, float* out) override {
    UseDevice(device_);
    LaunchSiluMul(stream_, gate_up, rows, columns, out);
  }

  void GeluMul(const float* gate_up, int rows, int columns, bool tanh_approximation,
               float* out) override {
    UseDevice(device_);
    LaunchGeluMul(stream_, gate_up, rows, columns, tanh_approximation, out);
  }

  void GatherRows(const float* x, std::span<const int32_t> rows, int columns, float* out) override {
    UseDevice(device_);
    const int32_t* device_rows = nullptr;
    Place(Table{StepStaging::Kind::kGathered, rows, &device_rows});
    LaunchGatherRows(stream_, x, device_rows, static_cast<int>(rows.size()), columns, out);
  }

  void EditLogits(std::span<const LogitEdit> edits, int columns, float* logits) override {
    UseDevice(device_);
    if (edits.empty()) return;
    const LogitEdit* device_edits = nullptr;
    Place(Table{StepStaging::Kind::kEdits, edits, &device_edits});
    LaunchEditLogits(stream_, device_edits, static_cast<int>(edits.size()), columns, logits);
  }

  void TopK(const float* logits, int rows, int columns, int k, std::span<int32_t> ids,
            std::span<float> values, std::span<float> log_sum_exp) override {
    assert(k >= 0 && k <= columns);
    UseDevice(device_);
    StartStep();
    const Stream now = stream_.handle;  // inside a step too
    const int device_k = k <= kMaxDeviceTopK ? k : 0;
    const auto ranked = static_cast<size_t>(device_k);
    // Of a row: ids, values, maximum and sum.
    const size_t row_bytes = 8 * ranked + 2 * sizeof(float);
    const auto at_once = static_cast<int>(std::min(
        kResultBytes / row_bytes, kWorkspaceBytes / TopKWorkspaceBytes(columns, device_k)));
    assert(at_once > 0);
    for (int first = 0; first < rows; first += at_once) {
      const auto count = static_cast<size_t>(std::min(at_once, rows - first));
      auto* device_ids = static_cast<int32_t*>(results_memory_.get());
      auto* device_values = reinterpret_cast<float*>(device_ids + count * ranked);
      float* device_max = device_values + count * ranked;
      LaunchTopK(now, logits + static_cast<size_t>(first) * static_cast<size_t>(columns),
                 static_cast<int>(count), columns, device_k, workspace_, device_ids, device_values,
                 device_max, device_max + count);
      CopyToHost(now, results_memory_.get(), count * row_bytes, host_results_.get());
      cuda::Synchronize(now);
      const auto* host_ids = static_cast<const int32_t*>(host_results_.get());
      const auto* host_values = reinterpret_cast<const float*>(host_ids + count * ranked);
      const float* host_max = host_values + count * ranked;
      const size_t at = static_cast<size_t>(first) * ranked;
      std::copy_n(host_ids, count * ranked, ids.begin() + static_cast<std::ptrdiff_t>(at));
      std::copy_n(host_values, count * ranked, values.begin() + static_cast<std::ptrdiff_t>(at));
      for (size_t r = 0; r < count; ++r) {
        log_sum_exp[static_cast<size_t>(first) + r] = LogSumExp(host_max[r], host_max[count + r]);
      }
    }
    if (k == device_k) return;
    std::vector<float> row(static_cast<size_t>(columns));
    for (int r = 0; r < rows; ++r) {
      Download(logits + static_cast<size_t>(r) * row.size(), row);
      const size_t at = static_cast<size_t>(r) * static_cast<size_t>(k);
      RankOnHost(row, k, ids.data() + at, values.data() + at);
    }
  }

  void Draw(const float* logits, int columns, std::span<const LogitDraw> draws,
            std::span<int32_t> ids, std::span<float> values) override {
    assert(ids.size() >= draws.size() && values.size() >= draws.size());
    UseDevice(device_);
    StartStep();
    const Stream now = stream_.handle;  // inside a step too
    constexpr size_t kDrawBytes = sizeof(int32_t) + sizeof(float);
    const size_t at_once =
        std::min(kResultBytes / kDrawBytes, kWorkspaceBytes / DrawWorkspaceBytes(columns));
    assert(at_once > 0);
    for (size_t first = 0; first < draws.size(); first += at_once) {
      const auto part = draws.subspan(first, std::min(at_once, draws.size() - first));
      const size_t count = part.size();
      staging_->Begin(1, part.size_bytes());
      const LogitDraw* device_draws = staging_->Put(part);
      auto* device_ids = static_cast<int32_t*>(results_memory_.get());
      LaunchDraw(now, logits, columns, device_draws, static_cast<int>(count), workspace_,
                 device_ids, reinterpret_cast<float*>(device_ids + count));
      CopyToHost(now, results_memory_.get(), count * kDrawBytes, host_results_.get());
      cuda::Synchronize(now);
      const auto* host_ids = static_cast<const int32_t*>(host_results_.get());
      const auto* host_values = reinterpret_cast<const float*>(host_ids + count);
      std::copy_n(host_ids, count, ids.begin() + static_cast<std::ptrdiff_t>(first));
      std::copy_n(host_values, count, values.begin() + static_cast<std::ptrdiff_t>(first));
    }
  }

 private:
  static DeviceMemory Take(size_t bytes, bool empty) {
    if (bytes == 0 && !empty) return nullptr;
    return AllocateDevice(bytes);
  }

  // Data that a kernel reads, and where its address on the device goes.
  template <typename T>
  struct Table {
    StepStaging::Kind kind;
    std::span<const T> data;
    const T** device;
  };

  // Takes all tables of one kernel to the device: inside a step with all others of
  // the step, otherwise at once.
  template <typename... T>
  void Place(const Table<T>&... tables) {
    if (stream_.log != nullptr) {
      const auto put = [&] {
        return ((*tables.device = step_staging_->Put(tables.kind, tables.data),
                 *tables.device != nullptr) &&
                ...);
      };
      if (put()) return;
      // The step goes on in a second part.
      StartStep();
      step_staging_->Begin();
      if (put()) return;
    }
    // Outside of a step, or larger than all its memory: then what was put off
    // has been started, and what comes is started in its turn.
    staging_->Begin(sizeof...(tables), (tables.data.size_bytes() + ...));
    ((*tables.device = staging_->Put(tables.data)), ...);
  }

  StepRows Stage(std::span<const SequenceRows> sequences) {
    tables_.Fill(sequences);
    StepRows rows;
    Place(Table{StepStaging::Kind::kRows, tables_.rows(), &rows.rows},
          Table{StepStaging::Kind::kPages, tables_.pages(), &rows.pages},
          Table{StepStaging::Kind::kPaths, tables_.paths(), &rows.paths});
    rows.count = static_cast<int>(tables_.rows().size());
    return rows;
  }

  void AttendOnTensorCores(const AttentionShape& shape, const KvView& cache, int layer,
                           std::span<const SequenceRows> sequences, const float* q, int q_stride,
                           float* out) {
    tables_.Fill(sequences);
    tiles_.Fill(tables_.rows(), shape, kWorkspaceBytes);
    TensorAttention operation{shape, cache, layer};
    operation.rounding = input_rounding_;
    operation.q = q;
    operation.q_stride = q_stride;
    operation.out = out;
    StepRows& rows = operation.rows;
    Place(Table{StepStaging::Kind::kRows, tables_.rows(), &rows.rows},
          Table{StepStaging::Kind::kPages, tables_.pages(), &rows.pages},
          Table{StepStaging::Kind::kPaths, tables_.paths(), &rows.paths},
          Table{StepStaging::Kind::kTiles, tiles_.tiles(), &operation.tiles},
          Table{StepStaging::Kind::kParts, tiles_.first_parts(), &operation.first_parts});
    rows.count = static_cast<int>(tables_.rows().size());
    LaunchTensorAttention(stream_, operation, tiles_, workspace_);
  }

  // Starts what was put off in this step.
  void StartStep() {
    if (stream_.log == nullptr) return;
    step_staging_->Send();
    graphs_.Run(log_, stream_.handle);
    log_.Clear();
  }

  const int device_;
  const InputRounding input_rounding_;
  const bool exact_attention_;
  const DeviceInfo info_;
  Stream stream_;  // with a log inside a step
  Stream copies_;
  std::unique_ptr<PageCopies> page_copies_;
  std::unique_ptr<WeightCopies> weight_copies_;  // null before the first weight
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<StepStaging> step_staging_;
  LaunchLog log_;
  StepGraphs graphs_;
  DeviceMemory workspace_memory_;
  DeviceMemory results_memory_;
  PinnedMemory host_results_;
  Workspace workspace_;
  StepTables tables_;
  AttentionTiles tiles_;
};

}  // namespace

const StepCounters& StepCountersOf(const Backend& backend) {
  return static_cast<const CudaBackend&>(backend).step_counters();
}

std::unique_ptr<Backend> MakeBackend(const Options& options, std::string* problem) {
  const int device = options.device;
  const std::vector<DeviceInfo> devices = ListDevices(problem);
  if (devices.empty()) return nullptr;
  if (device < 0 || static_cast<size_t>(device) >= devices.size()) {
    *problem = "there is no device " + std::to_string(device) + "; this machine has " +
               std::to_string(devices.size()) + ", counted from 0";
    return nullptr;
  }
  const DeviceInfo& info = devices[static_cast<size_t>(device)];
  if (info.compute_major < 8) {
    *problem = info.name + " has compute capability " + std::to_string(info.compute_major) + "." +
               std::to_string(info.compute_minor) + "; 8.0 or newer is needed";
    return nullptr;
  }
  Stream stream{};
  Stream copies{};
  if (!OpenStream(device, &stream, problem)) return nullptr;
  if (!OpenStream(device, &copies, problem)) {
    CloseStream(stream);
    return nullptr;
  }
  auto backend =
      std::unique_ptr<CudaBackend>(new (std::nothrow) CudaBackend(options, info, stream, copies));
  if (backend != nullptr && backend->HasMemory()) return backend;
  *problem =
      "device " + std::to_string(device) + " (" + info.name + ") has not the " +
      std::to_string((kWorkspaceBytes + 2 * kStagingBytes + kResultBytes + kPageRingBytes) >> 20) +
      " MiB that the backend begins with";
  return nullptr;
}

}  // namespace octogate::kernels::cuda
