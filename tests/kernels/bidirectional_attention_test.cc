// Rows that attend to all rows of their sequence: each is, bit for bit, what it
// would be as the last row of a chain of the same keys and values, whatever
// stands beside its sequence, on every path and with any number of threads.

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::RandomData;
using testing::SameBits;

struct Subject {
  std::string name;
  Isa isa;
  int threads;  // 0: the reference
};

struct Sequence {
  int past = 0;
  int rows = 0;
  std::vector<int32_t> pages;
  std::vector<float> keys, values;  // past included
  std::vector<float> q;             // of the rows
};

class BidirectionalAttentionTest : public ::testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    const Subject& subject = GetParam();
    if (!IsSupported(subject.isa)) GTEST_SKIP() << "this CPU has no " << Name(subject.isa);
    backend_ = subject.threads == 0
                   ? MakeReferenceBackend()
                   : MakeCpuBackend({.threads = subject.threads, .isa = subject.isa});
    ASSERT_NE(backend_, nullptr);
  }

  size_t KvFloats(int rows) const { return static_cast<size_t>(rows * kv_width()); }
  int kv_width() const { return cache_shape_.kv_heads * cache_shape_.head_dim; }
  int q_width() const { return shape_.heads * shape_.head_dim; }

  void RandomShape() {
    constexpr int kPageSizes[] = {1, 7, 16, 64};
    constexpr int kHeadDims[] = {8, 20, 32, 96};
    constexpr DType kTypes[] = {DType::kF32, DType::kF32, DType::kBF16, DType::kI8};
    cache_shape_ = {.layers = 1,
                    .pages = 0,
                    .page_size = kPageSizes[random_.Int(0, 3)],
                    .kv_heads = random_.Int(1, 3),
                    .head_dim = kHeadDims[random_.Int(0, 3)],
                    .dtype = kTypes[random_.Int(0, 3)]};
    shape_ = {.heads = cache_shape_.kv_heads * random_.Int(1, 3),
              .kv_heads = cache_shape_.kv_heads,
              .head_dim = cache_shape_.head_dim,
              .scale = 0.2f};
  }

  Sequence RandomSequence() {
    // Also around the borders of attention's blocks; most encoders have no past.
    constexpr int kLengths[] = {1, 2, 64, 255, 256, 257, 513};
    Sequence sequence;
    sequence.rows = random_.Int(0, 1) == 0 ? kLengths[random_.Int(0, 6)] : random_.Int(1, 90);
    sequence.past = random_.Int(0, 3) == 0 ? random_.Int(1, 300) : 0;
    const int length = sequence.past + sequence.rows;
    for (int p = 0; p * cache_shape_.page_size < length; ++p) {
      sequence.pages.push_back(cache_shape_.pages++);
    }
    sequence.keys = random_.Floats(KvFloats(length));
    sequence.values = random_.Floats(KvFloats(length));
    sequence.q =
        random_.Floats(static_cast<size_t>(sequence.rows) * static_cast<size_t>(q_width()));
    return sequence;
  }

  std::unique_ptr<KvCache> Fill(const std::vector<Sequence>& sequences) {
    std::unique_ptr<KvCache> cache = backend_->CreateKvCache(cache_shape_);
    for (const Sequence& s : sequences) {
      const SequenceRows rows{0, s.past + s.rows, 0, s.pages};
      backend_->WriteKv(*cache, 0, {&rows, 1}, s.keys.data(), s.values.data(), kv_width());
    }
    return cache;
  }

  std::vector<float> Attend(const KvCache& cache, const std::vector<SequenceRows>& step,
                            const std::vector<float>& q) {
    std::vector<float> out(q.size());
    backend_->Attention(shape_, cache, 0, step, q.data(), q_width(), out.data());
    return out;
  }

  std::unique_ptr<Backend> backend_;
  RandomData random_;
  KvCacheShape cache_shape_;
  AttentionShape shape_;
};

INSTANTIATE_TEST_SUITE_P(Backend, BidirectionalAttentionTest,
                         ::testing::Values(Subject{"reference", Isa::kPlain, 0},
                                           Subject{"plain", Isa::kPlain, 1},
                                           Subject{"avx2", Isa::kAvx2, 2},
                                           Subject{"avx512", Isa::kAvx512, 1},
                                           Subject{"avx512_threads", Isa::kAvx512, 3}),
                         [](const auto& info) { return info.param.name; });

TEST_P(BidirectionalAttentionTest, EveryRowIsTheLastRowOfAChain) {
  for (int trial = 0; trial < 10; ++trial) {
    RandomShape();
    std::vector<Sequence> sequences(static_cast<size_t>(random_.Int(1, 3)));
    std::vector<SequenceRows> step;
    std::vector<float> q;
    int rows = 0;
    for (Sequence& s : sequences) s = RandomSequence();
    for (const Sequence& s : sequences) {
      step.push_back({rows, s.rows, s.past, s.pages, {}, /*bidirectional=*/true});
      q.insert(q.end(), s.q.begin(), s.q.end());
      rows += s.rows;
    }
    const auto cache = Fill(sequences);
    const std::vector<float> out = Attend(*cache, step, q);

    // Each row alone, as a chain of one row behind all the others.
    std::vector<SequenceRows> chains;
    int row = 0;
    for (const Sequence& s : sequences) {
      for (int i = 0; i < s.rows; ++i) {
        chains.push_back({row++, 1, s.past + s.rows - 1, s.pages});
      }
    }
    ASSERT_TRUE(SameBits(Attend(*cache, chains, q), out));
  }
}

TEST_P(BidirectionalAttentionTest, ChainsBesideItStayChains) {
  RandomShape();
  std::vector<Sequence> sequences{RandomSequence(), RandomSequence()};
  const auto cache = Fill(sequences);
  std::vector<float> q = sequences[0].q;
  q.insert(q.end(), sequences[1].q.begin(), sequences[1].q.end());
  const SequenceRows bidirectional{
      0, sequences[0].rows, sequences[0].past, sequences[0].pages, {}, true};
  SequenceRows chain{sequences[0].rows, sequences[1].rows, sequences[1].past, sequences[1].pages};
  const std::vector<float> both = Attend(*cache, {bidirectional, chain}, q);
  std::vector<float> alone = Attend(*cache, {bidirectional}, sequences[0].q);
  chain.first_row = 0;
  const std::vector<float> chain_alone = Attend(*cache, {chain}, sequences[1].q);
  alone.insert(alone.end(), chain_alone.begin(), chain_alone.end());
  EXPECT_TRUE(SameBits(alone, both));
}

// The definition, in double precision.
TEST_P(BidirectionalAttentionTest, IsTheSoftmaxOverAllRows) {
  RandomShape();
  cache_shape_.dtype = DType::kF32;
  const std::vector<Sequence> sequences{RandomSequence()};
  const Sequence& s = sequences[0];
  const auto cache = Fill(sequences);
  const std::vector<float> out = Attend(*cache, {{0, s.rows, s.past, s.pages, {}, true}}, s.q);
  const int length = s.past + s.rows;
  const int dim = shape_.head_dim;
  for (int check = 0; check < 20; ++check) {
    const int row = random_.Int(0, s.rows - 1);
    const int head = random_.Int(0, shape_.heads - 1);
    const int kv_head = head / (shape_.heads / shape_.kv_heads);
    const auto at = [&](int position, int d) {
      return static_cast<size_t>(position * kv_width() + kv_head * dim + d);
    };
    std::vector<double> expected(static_cast<size_t>(dim));
    double sum = 0;
    for (int j = 0; j < length; ++j) {
      double score = 0;
      for (int d = 0; d < dim; ++d) {
        score += double{s.q[static_cast<size_t>(row * q_width() + head * dim + d)]} *
                 double{s.keys[at(j, d)]};
      }
      const double p = std::exp(score * shape_.scale);
      sum += p;
      for (int d = 0; d < dim; ++d) {
        expected[static_cast<size_t>(d)] += p * double{s.values[at(j, d)]};
      }
    }
    for (int d = 0; d < dim; ++d) {
      EXPECT_NEAR(out[static_cast<size_t>(row * q_width() + head * dim + d)],
                  expected[static_cast<size_t>(d)] / sum, 1e-4)
          << "seed " << testing::Seed();
    }
  }
}

// All paths share one order of reduction.
TEST_P(BidirectionalAttentionTest, GivesTheReferencesBits) {
  std::unique_ptr<Backend> reference = MakeReferenceBackend();
  for (int trial = 0; trial < 6; ++trial) {
    RandomShape();
    const std::vector<Sequence> sequences{RandomSequence()};
    const Sequence& s = sequences[0];
    const SequenceRows step{0, s.rows, s.past, s.pages, {}, true};
    const auto cache = Fill(sequences);
    const std::vector<float> out = Attend(*cache, {step}, s.q);
    backend_.swap(reference);
    const auto reference_cache = Fill(sequences);
    const std::vector<float> expected = Attend(*reference_cache, {step}, s.q);
    backend_.swap(reference);
    ASSERT_TRUE(SameBits(expected, out));
  }
}

}  // namespace
}  // namespace octogate::kernels
