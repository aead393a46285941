// Every operation of the CUDA backend against the reference: the same bits,
// hence also the same for a row alone and in any company, for a prompt in any
// chunks, and for a tree's row and the plain decode of its path. Products with
// packed weights are within derived bounds of the reference's, and have the same
// bits as each other.
//
// Runs on the emulation everywhere; built without OCTOGATE_CUDA_EMULATED it runs
// on the GPU, and is skipped where none answers.

#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/matmul_pack.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/cuda/product_bounds.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using cuda::InputRounding;
using cuda::PackedFormat;
using testing::RandomData;
using testing::SameBits;
using testing::StoredMatrix;
using Floats = std::vector<float>;

constexpr float kPoison = -12345.678f;

// Floats in a backend's memory.
class DeviceFloats {
 public:
  DeviceFloats(Backend& backend, const Floats& values)
      : backend_(backend), buffer_(backend.Allocate(values.size())) {
    backend_.Upload(values, buffer_->data());
  }
  float* data() { return buffer_->data(); }
  Floats Get() {
    Floats values(buffer_->size());
    backend_.Download(buffer_->data(), values);
    return values;
  }

 private:
  Backend& backend_;
  std::unique_ptr<Buffer> buffer_;
};

class CudaBackendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string problem;
    backend_ = cuda::MakeBackend({}, &problem);
#ifdef OCTOGATE_CUDA_EMULATED
    ASSERT_NE(backend_, nullptr) << problem;
#else
    if (backend_ == nullptr) GTEST_SKIP() << problem;
#endif
  }

  // What `operation` gives on both backends.
  ::testing::AssertionResult Same(const std::function<Floats(Backend&)>& operation) {
    return SameBits(operation(*reference_), operation(*backend_));
  }

  Floats Random(int64_t count, float scale = 1) {
    return random_.Floats(static_cast<size_t>(count), scale);
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Backend> reference_ = MakeReferenceBackend();
  RandomData random_;
};

// One product: weight, inputs, and what is added to it.
struct Product {
  Product(RandomData& random, DType dtype, int outputs, int cols, int rows)
      : matrix(random.Floats(static_cast<size_t>(outputs * cols), 0.1f), dtype, outputs, cols),
        outputs(outputs),
        cols(cols),
        rows(rows),
        stride(outputs + random.Int(0, 5)),
        biased(random.Int(0, 1) == 1),
        accumulate(random.Int(0, 1) == 1),
        x(random.Floats(static_cast<size_t>(rows * cols))),
        bias(random.Floats(static_cast<size_t>(outputs))),
        initial(random.Floats(static_cast<size_t>(rows * stride))) {}

  // Of `count` rows from `first` on.
  Floats Run(Backend& backend, const Weight& weight, int first, int count) const {
    DeviceFloats in(backend, Floats(x.begin() + first * cols, x.begin() + (first + count) * cols));
    DeviceFloats added(backend, bias);
    DeviceFloats out(backend, Floats(initial.begin() + first * stride,
                                     initial.begin() + (first + count) * stride));
    backend.MatMul(weight, biased ? added.data() : nullptr, in.data(), count, accumulate,
                   out.data(), stride);
    return out.Get();
  }
  Floats Run(Backend& backend, const Weight& weight) const { return Run(backend, weight, 0, rows); }

  StoredMatrix matrix;
  int outputs, cols, rows, stride;
  bool biased, accumulate;
  Floats x, bias, initial;
};

struct Kind {
  WeightFormat format;
  DType stored;
};
constexpr Kind kPackedKinds[] = {
    {WeightFormat::kStored, DType::kBF16},    {WeightFormat::kStored, DType::kF16},
    {WeightFormat::kBf16, DType::kF32},       {WeightFormat::kBf16, DType::kBF16},
    {WeightFormat::kInt8, DType::kBF16},      {WeightFormat::kInt8Group, DType::kF16},
    {WeightFormat::kInt4Group, DType::kBF16}, {WeightFormat::kFp8, DType::kF32},
};
std::string NameOf(const Kind& kind) {
  return std::string(Name(kind.format)) + " of " + Name(kind.stored);
}

TEST_F(CudaBackendTest, ProductsWithF32AreTheReferences) {
  for (const int cols : {1, 15, 16, 17, 60, 172}) {
    for (const int rows : {1, 2, 8, 9, 16, 100}) {
      const Product product(random_, DType::kF32, random_.Int(1, 40), cols, rows);
      ASSERT_TRUE(Same([&](Backend& backend) {
        return product.Run(backend,
                           *backend.LoadWeight(product.matrix.matrix(), WeightFormat::kStored));
      })) << rows
          << " rows of " << cols << " columns, " << product.outputs << " outputs";
    }
  }
}

TEST_F(CudaBackendTest, ProductsWithPackedWeightsAreCloseToTheReferences) {
  for (const InputRounding rounding : {InputRounding::kSplit, InputRounding::kRounded}) {
    std::string problem;
    const auto backend = cuda::MakeBackend({.input_rounding = rounding}, &problem);
    ASSERT_NE(backend, nullptr) << problem;
    for (const Kind& kind : kPackedKinds) {
      for (const int cols : {1, 60, 172}) {
        const Product product(random_, kind.stored, random_.Int(1, 140), cols, random_.Int(1, 20));
        const auto expected_weight = reference_->LoadWeight(product.matrix.matrix(), kind.format);
        const auto weight = backend->LoadWeight(product.matrix.matrix(), kind.format);
        ASSERT_NE(weight, nullptr);
        EXPECT_EQ(weight->format, kind.format);
        EXPECT_EQ(weight->error.relative_rms, expected_weight->error.relative_rms);
        EXPECT_EQ(weight->error.max_absolute, expected_weight->error.max_absolute);
        EXPECT_GE(weight->bytes, expected_weight->bytes);

        std::vector<int32_t> all(static_cast<size_t>(product.outputs));
        std::iota(all.begin(), all.end(), 0);
        Floats values(all.size() * static_cast<size_t>(cols));
        reference_->Embed(*expected_weight, all, values.data());
        const Floats expected = product.Run(*reference_, *expected_weight);
        const Floats actual = product.Run(*backend, *weight);
        const PackedFormat format = *cuda::PackedFormatOf(kind.format, kind.stored);
        for (int r = 0; r < product.rows; ++r) {
          for (int n = 0; n < product.stride; ++n) {
            const auto at = static_cast<size_t>(r * product.stride + n);
            if (n >= product.outputs) {
              ASSERT_EQ(actual[at], product.initial[at]) << "between the rows";
              continue;
            }
            const float* w = values.data() + n * cols;
            const float* x = product.x.data() + r * cols;
            const auto bound = cuda::testing::ExactProduct(format, w, x, cols, rounding);
            const double dots =
                bound.error + cuda::testing::ReferenceError(kind.format, w, x, cols);
            // Both round what they add to their sums, each at most twice.
            double magnitude = std::fabs(bound.value) + dots;
            if (product.biased) magnitude += std::fabs(product.bias[static_cast<size_t>(n)]);
            if (product.accumulate) magnitude += std::fabs(product.initial[at]);
            ASSERT_NEAR(actual[at], expected[at], dots + 2 * 2.1 * cuda::testing::kUnit * magnitude)
                << NameOf(kind) << " " << product.outputs << " x " << cols << ", row " << r
                << ", output " << n << " (seed " << testing::Seed() << ")";
          }
        }
      }
    }
  }
}

// More rows than one product takes, in chunks of every kind.
TEST_F(CudaBackendTest, ProductsWithPackedWeightsHaveTheSameBitsInAnyCompany) {
  constexpr int kRows = 530;
  for (const Kind& kind : kPackedKinds) {
    const Product product(random_, kind.stored, random_.Int(1, 20), random_.Int(1, 130), kRows);
    const auto weight = backend_->LoadWeight(product.matrix.matrix(), kind.format);
    ASSERT_NE(weight, nullptr);
    const Floats together = product.Run(*backend_, *weight);
    const auto expect_same = [&](int first, int count) {
      const Floats expected(together.begin() + first * product.stride,
                            together.begin() + (first + count) * product.stride);
      ASSERT_TRUE(SameBits(expected, product.Run(*backend_, *weight, first, count)))
          << NameOf(kind) << ", " << count << " rows from " << first;
    };
    for (const int r : {0, random_.Int(1, 510), 511, 512, kRows - 1}) expect_same(r, 1);
    for (int first = 0; first < kRows;) {
      const int count = std::min(random_.Int(1, 150), kRows - first);
      expect_same(first, count);
      first += count;
    }
  }
}

TEST_F(CudaBackendTest, InputsAreSplitUnlessTheyAreToBeRounded) {
  const float input = 1 + 0x1p-9f + 0x1p-13f;  // BF16 has steps of 2^-7 here
  const StoredMatrix one({1.0f}, DType::kBF16, 1, 1);
  const auto product = [&](Backend& backend) {
    DeviceFloats in(backend, {input});
    DeviceFloats out(backend, {kPoison});
    backend.MatMul(*backend.LoadWeight(one.matrix(), WeightFormat::kStored), nullptr, in.data(), 1,
                   false, out.data(), 1);
    return out.Get()[0];
  };
  EXPECT_EQ(product(*backend_), input);
  std::string problem;
  const auto rounded = cuda::MakeBackend({.input_rounding = InputRounding::kRounded}, &problem);
  ASSERT_NE(rounded, nullptr) << problem;
  EXPECT_EQ(product(*rounded), 1.0f);
}

TEST_F(CudaBackendTest, RowWiseOperations) {
  for (const int columns : {1, 15, 33, 172, 1024, 30000}) {
    for (const int rows : {1, 3, columns > 1000 ? 2 : 40}) {
      const int64_t size = int64_t{rows} * columns;
      Floats x = Random(2 * size, 3);
      const Floats weight = Random(columns);
      const Floats bias = Random(columns);
      std::vector<int32_t> picks(static_cast<size_t>(rows));
      for (int32_t& pick : picks) pick = random_.Int(0, 2 * rows - 1);
      using Operation =
          std::function<void(Backend&, float* x, float* weight, float* bias, float* out)>;
      const auto same = [&](const Operation& operation) {
        return Same([&](Backend& backend) {
          DeviceFloats in(backend, x);
          DeviceFloats scale(backend, weight);
          DeviceFloats added(backend, bias);
          DeviceFloats out(backend, Floats(static_cast<size_t>(size), kPoison));
          operation(backend, in.data(), scale.data(), added.data(), out.data());
          Floats result = out.Get();
          const Floats changed = in.Get();
          result.insert(result.end(), changed.begin(), changed.end());
          return result;
        });
      };
      SCOPED_TRACE("columns " + std::to_string(columns) + " rows " + std::to_string(rows));
      ASSERT_TRUE(same([&](Backend& backend, float* in, float* scale, float*, float* out) {
        backend.RmsNorm(in, scale, rows, columns, 1e-5f, out);
      }));
      ASSERT_TRUE(same([&](Backend& backend, float* in, float* scale, float*, float* out) {
        backend.RmsNorm(in, scale, rows, columns, 1e-5f, in);
        backend.GatherRows(in, picks, columns, out);
      }));
      ASSERT_TRUE(same([&](Backend& backend, float* in, float* scale, float* added, float* out) {
        backend.LayerNorm(in, scale, added, rows, columns, 1e-5f, out);
        backend.LayerNorm(in, scale, nullptr, rows, columns, 1e-5f, in);
      }));
      x[0] = std::numeric_limits<float>::quiet_NaN();
      x[static_cast<size_t>(size)] = std::numeric_limits<float>::infinity();
      ASSERT_TRUE(same([&](Backend& backend, float* in, float*, float*, float* out) {
        backend.SiluMul(in, rows, columns, out);
      }));
      for (const bool tanh : {false, true}) {
        ASSERT_TRUE(same([&](Backend& backend, float* in, float*, float*, float* out) {
          backend.GeluMul(in, rows, columns, tanh, out);
        }));
      }
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        const StoredMatrix table(x, dtype, 2 * rows, columns);
        for (const WeightFormat format : kWeightFormats) {
          ASSERT_TRUE(same([&](Backend& backend, float*, float*, float*, float* out) {
            backend.Embed(*backend.LoadWeight(table.matrix(), format), picks, out);
          })) << Name(format)
              << " of " << Name(dtype);
        }
      }
    }
  }
}

TEST_F(CudaBackendTest, Rope) {
  for (const int half : {1, 8, 40, 100}) {
    const int head_dim = 2 * half + 2 * random_.Int(0, 3);
    const int heads = random_.Int(1, 50);
    const int stride = heads * head_dim + random_.Int(0, 7);
    Floats frequencies(static_cast<size_t>(half));
    for (int i = 0; i < half; ++i) {
      frequencies[static_cast<size_t>(i)] =
          1.0f / std::pow(10000.0f, static_cast<float>(i) / static_cast<float>(half));
    }
    for (const int rows : {1, 3, 20}) {
      std::vector<int32_t> positions(static_cast<size_t>(rows));
      for (int32_t& position : positions) position = random_.Int(0, 131072);
      const Floats x = Random(int64_t{rows} * stride);
      ASSERT_TRUE(Same([&](Backend& backend) {
        DeviceFloats rotated(backend, x);
        backend.Rope({heads, head_dim, frequencies, 1.25f}, positions, stride, rotated.data());
        return rotated.Get();
      })) << "half "
          << half << " heads " << heads << " rows " << rows;
    }
  }
}

// A random tree: parents come before children, and some rows have none.
std::vector<AncestorMask> RandomTree(RandomData& random, int rows) {
  std::vector<AncestorMask> masks(static_cast<size_t>(rows));
  for (int r = 0; r < rows; ++r) {
    const int parent = random.Int(std::max(-1, r - 6), r - 1);
    if (parent >= 0) masks[static_cast<size_t>(r)] = masks[static_cast<size_t>(parent)];
    masks[static_cast<size_t>(r)].words[r / 64] |= uint64_t{1} << (r % 64);
  }
  return masks;
}

// Chains and trees behind pasts of all lengths, their pages in random order;
// then an accepted path is compacted and decoding goes on behind it.
TEST_F(CudaBackendTest, Attention) {
  std::string problem;
  backend_ = cuda::MakeBackend({.exact_attention = true}, &problem);
  ASSERT_NE(backend_, nullptr) << problem;
  constexpr DType kKvTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kI8};
  for (int trial = 0; trial < 15; ++trial) {
    constexpr int kPageSizes[] = {1, 7, 16, 64};
    constexpr int kHeadDims[] = {8, 20, 64, 130};
    KvCacheShape cache_shape{.layers = 2,
                             .pages = 0,
                             .page_size = kPageSizes[random_.Int(0, 3)],
                             .kv_heads = random_.Int(1, 2),
                             .head_dim = kHeadDims[random_.Int(0, 3)],
                             .dtype = kKvTypes[trial % 5]};
    const AttentionShape shape{.heads = cache_shape.kv_heads * random_.Int(1, 6),
                               .kv_heads = cache_shape.kv_heads,
                               .head_dim = cache_shape.head_dim,
                               .scale = 0.2f,
                               .sliding_window = random_.Int(0, 1) * random_.Int(1, 400)};
    const int kv_width = cache_shape.kv_heads * cache_shape.head_dim;
    const int q_stride = shape.heads * shape.head_dim + random_.Int(0, 4);
    struct Sequence {
      int past;
      int rows;
      std::vector<AncestorMask> masks;
      bool bidirectional;
      std::vector<int32_t> pages;
      Floats past_keys, past_values;
    };
    std::vector<Sequence> sequences(static_cast<size_t>(random_.Int(1, 3)));
    int step_rows = 0;
    for (Sequence& s : sequences) {
      constexpr int kPasts[] = {0, 1, 255, 256, 257, 512};
      s.past = random_.Int(0, 1) == 0 ? kPasts[random_.Int(0, 5)] : random_.Int(0, 600);
      s.rows = random_.Int(0, 1) == 0 ? 1 : random_.Int(1, 12);
      if (random_.Int(0, 1) == 0) s.masks = RandomTree(random_, s.rows);
      s.bidirectional = s.masks.empty() && shape.sliding_window == 0 && random_.Int(0, 1) == 0;
      s.past_keys = Random(s.past * kv_width);
      s.past_values = Random(s.past * kv_width);
      const int pages = (s.past + s.rows) / cache_shape.page_size + 1;
      for (int p = 0; p < pages; ++p) s.pages.push_back(cache_shape.pages++);
      step_rows += s.rows;
    }
    std::vector<int32_t> order(static_cast<size_t>(cache_shape.pages));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[static_cast<size_t>(random_.Int(0, static_cast<int>(i) - 1))]);
    }
    for (Sequence& s : sequences) {
      for (int32_t& page : s.pages) page = order[static_cast<size_t>(page)];
    }
    Floats keys = Random(step_rows * kv_width);
    Floats values = Random(step_rows * kv_width);
    if (SizeOf(cache_shape.dtype) == 1) {  // what has no scale, or none that is a number
      constexpr float kSpecial[] = {NAN, INFINITY, -1e30f, 500.0f, 0x1p-120f};
      values[static_cast<size_t>(random_.Int(0, step_rows * kv_width - 1))] =
          kSpecial[random_.Int(0, 4)];
      std::fill_n(keys.begin(), cache_shape.head_dim, 0.0f);
    }
    const Floats q = Random(step_rows * q_stride, 2);
    // The path of the last row of the first sequence, if that is a tree.
    std::vector<int32_t> path;
    for (int r = 0; !sequences[0].masks.empty() && r < sequences[0].rows; ++r) {
      if ((sequences[0].masks.back().words[r / 64] >> (r % 64) & 1) != 0) path.push_back(r);
    }

    ASSERT_TRUE(Same([&](Backend& backend) {
      const auto cache = backend.CreateKvCache(cache_shape);
      std::vector<SequenceRows> step;
      int first_row = 0;
      for (const Sequence& s : sequences) {
        if (s.past > 0) {
          DeviceFloats past_keys(backend, s.past_keys);
          DeviceFloats past_values(backend, s.past_values);
          const SequenceRows past{0, s.past, 0, s.pages};
          backend.WriteKv(*cache, 0, {&past, 1}, past_values.data(), past_keys.data(), kv_width);
          backend.WriteKv(*cache, 1, {&past, 1}, past_keys.data(), past_values.data(), kv_width);
        }
        step.push_back({first_row, s.rows, s.past, s.pages, s.masks, s.bidirectional});
        first_row += s.rows;
      }
      DeviceFloats new_keys(backend, keys);
      DeviceFloats new_values(backend, values);
      DeviceFloats queries(backend, q);
      DeviceFloats out(
          backend, Floats(static_cast<size_t>(step_rows * shape.heads * shape.head_dim), kPoison));
      Floats result;
      for (int layer = 0; layer < 2; ++layer) {
        backend.WriteKv(*cache, layer, step, new_keys.data(), new_values.data(), kv_width);
        backend.Attention(shape, *cache, layer, step, queries.data(), q_stride, out.data());
        const Floats layer_out = out.Get();
        result.insert(result.end(), layer_out.begin(), layer_out.end());
      }
      if (!path.empty()) {
        const Sequence& s = sequences[0];
        backend.MoveKv(*cache, s.pages, s.past, path);
        const SequenceRows next{0, 1, s.past + static_cast<int>(path.size()) - 1, s.pages};
        for (int layer = 0; layer < 2; ++layer) {
          backend.Attention(shape, *cache, layer, {&next, 1}, queries.data(), q_stride, out.data());
          const Floats layer_out = out.Get();
          result.insert(result.end(), layer_out.begin(), layer_out.end());
        }
      }
      return result;
    })) << "trial "
        << trial << " head_dim " << shape.head_dim << " heads " << shape.heads << " window "
        << shape.sliding_window << " page " << cache_shape.page_size;
  }
}

// One row with a long context is split over thread blocks, many rows are not:
// the row's bits are the same.
TEST_F(CudaBackendTest, SplittingTheContextDoesNotShow) {
  constexpr int kLength = 1100;
  const KvCacheShape cache_shape{1, kLength / 16 + 1, 16, 1, 16, DType::kBF16};
  const AttentionShape shape{2, 1, 16, 0.3f, 0};
  std::vector<int32_t> pages(static_cast<size_t>(cache_shape.pages));
  std::iota(pages.rbegin(), pages.rend(), 0);
  const auto cache = backend_->CreateKvCache(cache_shape);
  DeviceFloats keys(*backend_, Random(kLength * 16));
  DeviceFloats values(*backend_, Random(kLength * 16));
  const SequenceRows all{0, kLength, 0, pages};
  backend_->WriteKv(*cache, 0, {&all, 1}, keys.data(), values.data(), 16);
  // More rows than the emulated GPU wants thread blocks, of 32; a real one is
  // shown enough of them to count.
  constexpr int kRows = 40;
  const SequenceRows many{0, kRows, kLength - kRows, pages};
  const Floats q = Random(kRows * 32);
  DeviceFloats queries(*backend_, q);
  DeviceFloats out(*backend_, Floats(q.size(), kPoison));
  backend_->Attention(shape, *cache, 0, {&many, 1}, queries.data(), 32, out.data());
  const Floats together = out.Get();
  for (int r = 0; r < kRows; r += 7) {
    const SequenceRows one{0, 1, kLength - kRows + r, pages};
    DeviceFloats alone(*backend_, Floats(32, kPoison));
    backend_->Attention(shape, *cache, 0, {&one, 1}, queries.data() + r * 32, 32, alone.data());
    ASSERT_TRUE(
        SameBits(Floats(together.begin() + r * 32, together.begin() + (r + 1) * 32), alone.Get()));
  }
}

// Steps of a growing sequence and its neighbours, put off and run as graphs: what
// the reference gives, which does everything at once.
TEST_F(CudaBackendTest, StepsAreTheirOperations) {
  constexpr int kHeadDim = 16;
  constexpr int kHeads = 2;
  constexpr int kWidth = kHeads * kHeadDim;
  constexpr int kPages = 64;
  constexpr int kSteps = 24;
  const KvCacheShape cache_shape{1, kPages, 8, 1, kHeadDim, DType::kF32};
  const AttentionShape shape{kHeads, 1, kHeadDim, 0.3f, 0};
  const StoredMatrix table(Random(50 * kWidth), DType::kF32, 50, kWidth);
  const StoredMatrix projection(Random(kWidth * kWidth, 0.2f), DType::kF32, kWidth, kWidth);
  const Floats frequencies = {1.0f, 0.1f, 0.01f};
  // Pages of sequence s are 16 s, 16 s + 1, ...; ids of every row of every step.
  const int sequences = random_.Int(1, 3);
  std::vector<std::vector<int32_t>> pages(static_cast<size_t>(sequences));
  std::vector<int32_t> firsts(static_cast<size_t>(sequences));
  for (int s = 0; s < sequences; ++s) {
    pages[static_cast<size_t>(s)].resize(16);
    std::iota(pages[static_cast<size_t>(s)].begin(), pages[static_cast<size_t>(s)].end(), 16 * s);
    firsts[static_cast<size_t>(s)] = random_.Int(0, 60);
  }
  std::vector<int32_t> all_ids(static_cast<size_t>(kSteps * 3));
  for (int32_t& id : all_ids) id = random_.Int(0, 49);
  const int read_inside = random_.Int(0, kSteps - 1);  // a result is asked for within this step
  ASSERT_TRUE(Same([&](Backend& backend) {
    const auto embedding = backend.LoadWeight(table.matrix(), WeightFormat::kStored);
    const auto weight = backend.LoadWeight(projection.matrix(), WeightFormat::kStored);
    const auto cache = backend.CreateKvCache(cache_shape);
    DeviceFloats zeros(backend, Floats(128 * kHeadDim, 0.5f));
    for (const auto& own : pages) {  // the past
      const SequenceRows past{0, 100, 0, own};
      backend.WriteKv(*cache, 0, {&past, 1}, zeros.data(), zeros.data(), kHeadDim);
    }
    DeviceFloats x(backend, Floats(3 * kWidth, kPoison));
    DeviceFloats attended(backend, Floats(3 * kWidth, kPoison));
    DeviceFloats out(backend, Floats(3 * kWidth, kPoison));
    Floats result;
    for (int step = 0; step < kSteps; ++step) {
      // What the backend may keep nothing of goes when the step has been described.
      std::vector<int32_t> ids(all_ids.begin() + step * 3, all_ids.begin() + step * 3 + sequences);
      std::vector<int32_t> positions;
      std::vector<SequenceRows> rows;
      for (int s = 0; s < sequences; ++s) {
        positions.push_back(firsts[static_cast<size_t>(s)] + step);
        rows.push_back({s, 1, positions.back(), pages[static_cast<size_t>(s)]});
      }
      backend.BeginStep();
      backend.Embed(*embedding, ids, x.data());
      backend.Rope({kHeads, kHeadDim, frequencies, 1}, positions, kWidth, x.data());
      backend.WriteKv(*cache, 0, rows, x.data(), x.data() + kHeadDim, kWidth);
      if (step == read_inside) {
        const Floats early = x.Get();
        result.insert(result.end(), early.begin(), early.begin() + sequences * kWidth);
      }
      backend.Attention(shape, *cache, 0, rows, x.data(), kWidth, attended.data());
      backend.MatMul(*weight, nullptr, attended.data(), sequences, false, out.data(), kWidth);
      std::fill(ids.begin(), ids.end(), -1);
      std::fill(positions.begin(), positions.end(), -1);
      backend.EndStep();
      const Floats step_out = out.Get();
      result.insert(result.end(), step_out.begin(), step_out.begin() + sequences * kWidth);
    }
    return result;
  })) << "sequences "
      << sequences << " (seed " << testing::Seed() << ")";
  const cuda::StepCounters& counters = cuda::StepCountersOf(*backend_);
  EXPECT_GE(counters.replayed, static_cast<uint64_t>(kSteps / 2));
  EXPECT_GE(counters.captured, 1u);
}

TEST_F(CudaBackendTest, EditedLogits) {
  for (int trial = 0; trial < 20; ++trial) {
    const int columns = random_.Int(1, 900);
    const int rows = random_.Int(1, 4);
    const Floats logits = Random(int64_t{rows} * columns, 3);
    std::vector<LogitEdit> edits;
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t id = random_.Int(0, 9); id < columns; id += random_.Int(1, 9)) {
        LogitEdit edit{.row = row, .id = id};
        if (random_.Int(0, 1) == 1) edit.add = random_.Int(0, 5) == 0 ? -INFINITY : 0.7f;
        if (random_.Int(0, 1) == 1) edit.penalty = 1.3f;
        if (random_.Int(0, 1) == 1) edit.subtract = 0.1f * static_cast<float>(random_.Int(-9, 9));
        edits.push_back(edit);
      }
    }
    ASSERT_TRUE(Same([&](Backend& backend) {
      DeviceFloats device(backend, logits);
      backend.EditLogits(edits, columns, device.data());
      return device.Get();
    })) << edits.size()
        << " edits";
  }
  const float logit = -0.0f;
  EXPECT_TRUE(SameBits(Floats{Edited(logit, {})}, Floats{logit}));
}

TEST_F(CudaBackendTest, TopK) {
  for (int trial = 0; trial < 24; ++trial) {
    constexpr int kColumns[] = {1, 17, 256, 700, 4096, 9000};
    const int columns = kColumns[random_.Int(0, 5)];
    const int rows = random_.Int(1, 3) * (trial % 8 == 0 ? 4 : 1);
    // Rarely more than the device ranks by itself.
    const int k = trial % 6 == 0 ? std::min(columns, 300) : random_.Int(0, std::min(columns, 12));
    Floats logits = Random(int64_t{rows} * columns, 3);
    if (trial % 2 == 0) {
      constexpr float kSpecial[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f, 9.0f};
      for (float& value : logits) {
        if (random_.Int(0, 3) == 0) value = kSpecial[random_.Int(trial % 4 == 0 ? 0 : 3, 6)];
      }
    }
    ASSERT_TRUE(Same([&](Backend& backend) {
      DeviceFloats in(backend, logits);
      const auto size = static_cast<size_t>(rows * k);
      std::vector<int32_t> ids(size, -7);
      Floats values(size, kPoison);
      Floats log_sum_exp(static_cast<size_t>(rows), kPoison);
      backend.TopK(in.data(), rows, columns, k, ids, values, log_sum_exp);
      Floats result(ids.begin(), ids.end());
      result.insert(result.end(), values.begin(), values.end());
      result.insert(result.end(), log_sum_exp.begin(), log_sum_exp.end());
      return result;
    })) << "columns "
        << columns << " rows " << rows << " k " << k;
  }
}

TEST_F(CudaBackendTest, WhatCannotBeHadIsSaid) {
  std::string problem;
  EXPECT_EQ(cuda::MakeBackend({.device = 1000}, &problem), nullptr);
  EXPECT_NE(problem.find("there is no device 1000"), std::string::npos) << problem;
  const HostMatrix wide{nullptr, DType::kBF16, 1, kMaxQuantizedColumns + 1};
  EXPECT_EQ(backend_->LoadWeight(wide, WeightFormat::kInt8), nullptr);
  EXPECT_EQ(backend_->Allocate(std::numeric_limits<size_t>::max()), nullptr);
  constexpr int kMany = std::numeric_limits<int>::max();
  EXPECT_EQ(backend_->CreateKvCache({kMany, kMany, kMany, kMany, kMany, DType::kF32}), nullptr);
  EXPECT_EQ(backend_->CreateKvCache({kMany, kMany, kMany, kMany, kMaxHeadDim, DType::kI8}),
            nullptr);
}

}  // namespace
}  // namespace octogate::kernels
