#include "tests/bench/slow_copies.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace octogate::bench {
namespace {

using kernels::AttentionShape;
using kernels::Backend;
using kernels::Buffer;
using kernels::DType;
using kernels::HostBlock;
using kernels::HostMatrix;
using kernels::KvCache;
using kernels::KvCacheShape;
using kernels::LogitDraw;
using kernels::LogitEdit;
using kernels::RopeShape;
using kernels::SequenceRows;
using kernels::Weight;
using kernels::WeightFormat;

class SlowCopies final : public Backend {
 public:
  SlowCopies(std::unique_ptr<Backend> backend, double bytes_per_second)
      : backend_(std::move(backend)), bytes_per_second_(bytes_per_second) {}

  void DownloadPage(const KvCache& cache, int32_t page, std::span<std::byte> to) override {
    const Clock::time_point begin = Clock::now();
    backend_->DownloadPage(cache, page, to);
    WaitForLink(begin, to.size());
  }
  void UploadPage(std::span<const std::byte> from, KvCache& cache, int32_t page) override {
    const Clock::time_point begin = Clock::now();
    backend_->UploadPage(from, cache, page);
    WaitForLink(begin, from.size());
  }

  std::string Describe() const override { return backend_->Describe(); }
  std::unique_ptr<Buffer> Allocate(size_t floats) override { return backend_->Allocate(floats); }
  std::unique_ptr<Weight> LoadWeight(const HostMatrix& matrix, WeightFormat format) override {
    return backend_->LoadWeight(matrix, format);
  }
  std::unique_ptr<Weight> LoadTable(const HostMatrix& matrix) override {
    return backend_->LoadTable(matrix);
  }
  void BindThread() override { backend_->BindThread(); }
  size_t WeightBytes(DType stored, int rows, int cols, WeightFormat format) const override {
    return backend_->WeightBytes(stored, rows, cols, format);
  }
  size_t TableBytes(DType stored, int rows, int cols) const override {
    return backend_->TableBytes(stored, rows, cols);
  }
  std::unique_ptr<KvCache> CreateKvCache(const KvCacheShape& shape) override {
    return backend_->CreateKvCache(shape);
  }
  void Upload(std::span<const float> from, float* to) override { backend_->Upload(from, to); }
  void Download(const float* from, std::span<float> to) override { backend_->Download(from, to); }
  void Synchronize() override { backend_->Synchronize(); }
  void Embed(const Weight& table, std::span<const int32_t> ids, float* out) override {
    backend_->Embed(table, ids, out);
  }
  void RmsNorm(const float* x, const float* weight, int rows, int columns, float epsilon,
               float* out) override {
    backend_->RmsNorm(x, weight, rows, columns, epsilon, out);
  }
  void MatMul(const Weight& weight, const float* bias, const float* x, int rows, bool accumulate,
              float* out, int out_stride) override {
    backend_->MatMul(weight, bias, x, rows, accumulate, out, out_stride);
  }
  void RmsNormHeads(const float* weight, int rows, int heads, int head_dim, int stride,
                    float epsilon, float* x) override {
    backend_->RmsNormHeads(weight, rows, heads, head_dim, stride, epsilon, x);
  }
  void LayerNorm(const float* x, const float* weight, const float* bias, int rows, int columns,
                 float epsilon, float* out) override {
    backend_->LayerNorm(x, weight, bias, rows, columns, epsilon, out);
  }
  void Rope(const RopeShape& shape, std::span<const int32_t> positions, int stride,
            float* x) override {
    backend_->Rope(shape, positions, stride, x);
  }
  void WriteKv(KvCache& cache, int layer, std::span<const SequenceRows> sequences,
               const float* keys, const float* values, int stride) override {
    backend_->WriteKv(cache, layer, sequences, keys, values, stride);
  }
  void MoveKv(KvCache& cache, std::span<const int32_t> pages, int first_position,
              std::span<const int32_t> rows) override {
    backend_->MoveKv(cache, pages, first_position, rows);
  }
  std::unique_ptr<HostBlock> AllocateHostBlock(size_t bytes) override {
    return backend_->AllocateHostBlock(bytes);
  }
  void Attention(const AttentionShape& shape, const KvCache& cache, int layer,
                 std::span<const SequenceRows> sequences, const float* q, int q_stride,
                 float* out) override {
    backend_->Attention(shape, cache, layer, sequences, q, q_stride, out);
  }
  void SiluMul(const float* gate_up, int rows, int columns, float* out) override {
    backend_->SiluMul(gate_up, rows, columns, out);
  }
  void GeluMul(const float* gate_up, int rows, int columns, bool tanh_approximation,
               float* out) override {
    backend_->GeluMul(gate_up, rows, columns, tanh_approximation, out);
  }
  void GatherRows(const float* x, std::span<const int32_t> rows, int columns, float* out) override {
    backend_->GatherRows(x, rows, columns, out);
  }
  void EditLogits(std::span<const LogitEdit> edits, int columns, float* logits) override {
    backend_->EditLogits(edits, columns, logits);
  }
  void TopK(const float* logits, int rows, int columns, int k, std::span<int32_t> ids,
            std::span<float> values, std::span<float> log_sum_exp) override {
    backend_->TopK(logits, rows, columns, k, ids, values, log_sum_exp);
  }
  void Draw(const float* logits, int columns, std::span<const LogitDraw> draws,
            std::span<int32_t> ids, std::span<float> values) override {
    backend_->Draw(logits, columns, draws, ids, values);
  }

 private:
  using Clock = std::chrono::steady_clock;

  void WaitForLink(Clock::time_point begin, size_t bytes) const {
    const std::chrono::duration<double> time(static_cast<double>(bytes) / bytes_per_second_);
    while (Clock::now() - begin < time) {
    }
  }

  const std::unique_ptr<Backend> backend_;
  const double bytes_per_second_;
};

}  // namespace

std::unique_ptr<kernels::Backend> MakeSlowCopies(std::unique_ptr<kernels::Backend> backend,
                                                 double bytes_per_second) {
  return std::make_unique<SlowCopies>(std::move(backend), bytes_per_second);
}

}  // namespace octogate::bench
