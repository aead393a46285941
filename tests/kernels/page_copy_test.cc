// Pages that leave a cache as bytes and come back, into other places, hold what they held:
// attention over them has the same bits, and no other page is touched.
//
// Built with OCTOGATE_CUDA_EMULATED or OCTOGATE_CUDA_DEVICE it is the CUDA backend that is tested,
// and is skipped where none answers.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::RandomData;
using testing::SameBits;
using Floats = std::vector<float>;

struct Subject {
  std::string name;
  std::function<std::unique_ptr<Backend>()> make;
  std::vector<DType> types;  // of caches
};

std::vector<Subject> Subjects() {
  const std::vector<DType> all = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3,
                                  DType::kI8};
#if defined(OCTOGATE_CUDA_EMULATED) || defined(OCTOGATE_CUDA_DEVICE)
  const auto make = [] {
    std::string problem;
    return cuda::MakeBackend({}, &problem);
  };
  return {{"cuda", make, all}};
#else
  return {{"reference", MakeReferenceBackend, all},
          {"cpu", [] { return MakeCpuBackend({.threads = 2}); }, all}};
#endif
}

class PageCopyTest : public ::testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    backend_ = GetParam().make();
#ifdef OCTOGATE_CUDA_DEVICE
    if (backend_ == nullptr) GTEST_SKIP() << "no GPU answers";
#endif
    ASSERT_NE(backend_, nullptr);
  }

  std::unique_ptr<Buffer> Upload(const Floats& values) {
    auto buffer = backend_->Allocate(values.size());
    backend_->Upload(values, buffer->data());
    return buffer;
  }

  // A row of attention, in each layer, over the first `length` slots of `pages`.
  Floats Attend(const KvCache& cache, std::span<const int32_t> pages, int length,
                const AttentionShape& shape, float* q) {
    Floats all;
    const int width = shape.heads * shape.head_dim;
    const auto out = backend_->Allocate(static_cast<size_t>(width));
    for (int layer = 0; layer < cache.shape().layers; ++layer) {
      const SequenceRows row{
          .first_row = 0, .row_count = 1, .first_position = length - 1, .pages = pages};
      backend_->Attention(shape, cache, layer, {&row, 1}, q, width, out->data());
      Floats values(static_cast<size_t>(width));
      backend_->Download(out->data(), values);
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }

  RandomData random_;
  std::unique_ptr<Backend> backend_;
};

TEST_P(PageCopyTest, PagesComeBackAsTheyWereAndTouchNoOther) {
  SCOPED_TRACE("repeat with OCTOGATE_TEST_SEED=" + std::to_string(testing::Seed()));
  for (int trial = 0; trial < 40; ++trial) {
    const auto types = GetParam().types;
    const int kv_heads = random_.Int(1, 3);
    const AttentionShape shape{.heads = kv_heads * random_.Int(1, 2),
                               .kv_heads = kv_heads,
                               .head_dim = 2 * random_.Int(1, 20),
                               .scale = 0.3f};
    const KvCacheShape cache_shape{
        .layers = random_.Int(1, 3),
        .pages = random_.Int(2, 9),
        .page_size = random_.Int(1, 6),
        .kv_heads = kv_heads,
        .head_dim = shape.head_dim,
        .dtype = types[static_cast<size_t>(random_.Int(0, static_cast<int>(types.size()) - 1))]};
    const auto cache = backend_->CreateKvCache(cache_shape);
    ASSERT_NE(cache, nullptr);

    // Two sequences that share all pages between them, full to the last slot.
    std::vector<int32_t> pages(static_cast<size_t>(cache_shape.pages));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(static_cast<uint32_t>(trial)));
    const auto cut = static_cast<size_t>(random_.Int(1, cache_shape.pages - 1));
    const std::vector<int32_t> moved(pages.begin(), pages.begin() + static_cast<ptrdiff_t>(cut));
    const std::vector<int32_t> other(pages.begin() + static_cast<ptrdiff_t>(cut), pages.end());
    const int width = kv_heads * shape.head_dim;
    const auto length = [&](const std::vector<int32_t>& of) {
      return static_cast<int>(of.size()) * cache_shape.page_size;
    };
    for (const auto* of : {&moved, &other}) {
      for (int layer = 0; layer < cache_shape.layers; ++layer) {
        const auto keys = Upload(random_.Floats(static_cast<size_t>(length(*of) * width)));
        const auto values = Upload(random_.Floats(static_cast<size_t>(length(*of) * width)));
        const SequenceRows rows{
            .first_row = 0, .row_count = length(*of), .first_position = 0, .pages = *of};
        backend_->WriteKv(*cache, layer, {&rows, 1}, keys->data(), values->data(), width);
      }
    }
    const auto q = Upload(
        random_.Floats(static_cast<size_t>(shape.heads) * static_cast<size_t>(shape.head_dim)));
    const Floats expected = Attend(*cache, moved, length(moved), shape, q->data());
    const Floats others = Attend(*cache, other, length(other), shape, q->data());

    std::vector<std::vector<std::byte>> saved;
    for (const int32_t page : moved) {
      saved.emplace_back(cache->page_bytes());
      backend_->DownloadPage(*cache, page, saved.back());
    }
    // What is written to a page that is on its way does not reach the host.
    if (trial % 2 == 0) {
      const auto junk = Upload(random_.Floats(static_cast<size_t>(length(moved) * width)));
      const SequenceRows rows{
          .first_row = 0, .row_count = length(moved), .first_position = 0, .pages = moved};
      for (int layer = 0; layer < cache_shape.layers; ++layer) {
        backend_->WriteKv(*cache, layer, {&rows, 1}, junk->data(), junk->data(), width);
      }
    }
    // In another order, into the same pages: what was there is overwritten.
    std::vector<int32_t> back(moved.rbegin(), moved.rend());
    for (size_t i = 0; i < back.size(); ++i) backend_->UploadPage(saved[i], *cache, back[i]);
    EXPECT_TRUE(SameBits(Attend(*cache, back, length(back), shape, q->data()), expected));
    EXPECT_TRUE(SameBits(Attend(*cache, other, length(other), shape, q->data()), others));

    // And into another cache.
    const auto second = backend_->CreateKvCache(cache_shape);
    for (size_t i = 0; i < back.size(); ++i) backend_->UploadPage(saved[i], *second, moved[i]);
    EXPECT_TRUE(SameBits(Attend(*second, moved, length(moved), shape, q->data()), expected));
    backend_->FinishPageCopies();
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, PageCopyTest, ::testing::ValuesIn(Subjects()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace octogate::kernels
