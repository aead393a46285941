#include "retrieval/coded_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "retrieval/dot_product.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace octogate::retrieval {
namespace {

constexpr size_t kWordBits = 64;
constexpr size_t kBlock = 8;  // Rows whose codes lie together.
constexpr size_t kPlanes = 4;
constexpr float kLevels = (1 << kPlanes) - 1;

bool Nearer(const RowHit& a, const RowHit& b) {
  return a.score != b.score ? a.score > b.score : a.row < b.row;
}

#if defined(__x86_64__)
__attribute__((target("popcnt"))) void PopcntSumSharedBits(const uint64_t* codes, size_t blocks,
                                                           size_t words, const uint64_t* planes,
                                                           uint32_t* sums) {
  for (size_t block = 0; block < blocks; ++block) {
    std::fill_n(sums, kBlock, 0);
    for (size_t word = 0; word < words; ++word, codes += kBlock) {
      for (size_t p = 0; p < kPlanes; ++p) {
        const uint64_t plane = planes[p * words + word];
        for (size_t lane = 0; lane < kBlock; ++lane) {
          sums[lane] += static_cast<uint32_t>(__builtin_popcountll(codes[lane] & plane)) << p;
        }
      }
    }
    sums += kBlock;
  }
}

__attribute__((target("avx512f,avx512vpopcntdq"))) void Avx512SumSharedBits(
    const uint64_t* codes, size_t blocks, size_t words, const uint64_t* planes, uint32_t* sums) {
  for (size_t block = 0; block < blocks; ++block) {
    __m512i sum[kPlanes] = {};
    for (size_t word = 0; word < words; ++word, codes += kBlock) {
      const __m512i code = _mm512_loadu_si512(codes);
      for (size_t p = 0; p < kPlanes; ++p) {
        const __m512i plane = _mm512_set1_epi64(static_cast<int64_t>(planes[p * words + word]));
        sum[p] = _mm512_add_epi64(sum[p], _mm512_popcnt_epi64(_mm512_and_si512(code, plane)));
      }
    }
    // In the language's own operators: GCC 12 warns of the headers' shifts.
    const __m512i all = sum[0] + (sum[1] << 1) + (sum[2] << 2) + (sum[3] << 3);
    for (size_t lane = 0; lane < kBlock; ++lane) sums[lane] = static_cast<uint32_t>(all[lane]);
    sums += kBlock;
  }
}
#endif

using SumFunction = void (*)(const uint64_t*, size_t, size_t, const uint64_t*, uint32_t*);

SumFunction FindSumSharedBits() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vpopcntdq")) return Avx512SumSharedBits;
  if (__builtin_cpu_supports("popcnt")) return PopcntSumSharedBits;
#endif
  return PlainSumSharedBits;
}

// The `count` rows of the largest estimates among those offered one after the other; of equal ones
// the earlier.
class Largest {
 public:
  explicit Largest(size_t count) : count_(count) { kept_.reserve(2 * count); }
  // What is not above this is not kept.
  float bound() const { return bound_; }
  void Offer(uint32_t row, float estimate) {
    kept_.push_back({row, estimate});
    if (kept_.size() == 2 * count_) Shrink();
  }
  std::vector<uint32_t> Take() && {
    if (kept_.size() > count_) Shrink();
    std::vector<uint32_t> rows;
    rows.reserve(kept_.size());
    for (const RowHit& hit : kept_) rows.push_back(hit.row);
    return rows;
  }

 private:
  void Shrink() {
    const auto last = kept_.begin() + static_cast<ptrdiff_t>(count_) - 1;
    std::nth_element(kept_.begin(), last, kept_.end(), Nearer);
    bound_ = last->score;
    kept_.resize(count_);
  }

  const size_t count_;
  float bound_ = -std::numeric_limits<float>::infinity();
  std::vector<RowHit> kept_;
};

}  // namespace

void PlainSumSharedBits(const uint64_t* codes, size_t blocks, size_t words, const uint64_t* planes,
                        uint32_t* sums) {
  for (size_t block = 0; block < blocks; ++block) {
    for (size_t lane = 0; lane < kBlock; ++lane) {
      uint32_t sum = 0;
      for (size_t p = 0; p < kPlanes; ++p) {
        for (size_t word = 0; word < words; ++word) {
          const uint64_t shared =
              codes[(block * words + word) * kBlock + lane] & planes[p * words + word];
          sum += static_cast<uint32_t>(__builtin_popcountll(shared)) << p;
        }
      }
      sums[block * kBlock + lane] = sum;
    }
  }
}

void SumSharedBits(const uint64_t* codes, size_t blocks, size_t words, const uint64_t* planes,
                   uint32_t* sums) {
  static const SumFunction sum = FindSumSharedBits();
  sum(codes, blocks, words, planes, sums);
}

CodedRows::CodedRows(size_t dimension, std::vector<float> rows)
    : dimension_(dimension),
      size_(rows.size() / dimension),
      words_((dimension + kWordBits - 1) / kWordBits),
      rows_(std::move(rows)) {
  if (size_ > kExactUpTo) Encode();
}

void CodedRows::Encode() {
  std::vector<double> sums(dimension_, 0);
  for (size_t row = 0; row < size_; ++row) {
    for (size_t k = 0; k < dimension_; ++k) sums[k] += double{rows_[row * dimension_ + k]};
  }
  for (const double sum : sums) {
    mean_.push_back(static_cast<float>(sum / static_cast<double>(size_)));
    mean_squares_ += double{mean_.back()} * double{mean_.back()};
  }
  codes_.assign((size_ + kBlock - 1) / kBlock * kBlock * words_, 0);
  for (size_t row = 0; row < size_; ++row) {
    uint64_t* const code = &codes_[row / kBlock * kBlock * words_ + row % kBlock];
    double squares = 0;
    double absolute = 0;
    double along = 0;
    float ones = 0;
    for (size_t k = 0; k < dimension_; ++k) {
      const double distance = double{rows_[row * dimension_ + k]} - double{mean_[k]};
      squares += distance * distance;
      absolute += std::abs(distance);
      along += distance * double{mean_[k]};
      if (!(distance > 0)) continue;
      code[k / kWordBits * kBlock] |= uint64_t{1} << k % kWordBits;
      ones += 1;
    }
    factors_.push_back(absolute > 0 ? static_cast<float>(squares / absolute) : 0);
    along_.push_back(static_cast<float>(along));
    ones_.push_back(ones);
  }
}

std::vector<uint32_t> CodedRows::Estimated(std::span<const float> query, size_t count) const {
  // The query without its part along the mean, of which each row's product is known.
  double along = 0;
  for (size_t k = 0; k < dimension_; ++k) along += double{query[k]} * double{mean_[k]};
  const auto share = static_cast<float>(mean_squares_ > 0 ? along / mean_squares_ : 0);
  std::vector<float> rest(dimension_);
  for (size_t k = 0; k < dimension_; ++k) rest[k] = query[k] - share * mean_[k];
  const auto [least, most] = std::minmax_element(rest.begin(), rest.end());
  const float low = *least;
  const float step = (*most - low) / kLevels;
  // In levels, whose bits are the planes.
  std::vector<uint64_t> planes(kPlanes * words_, 0);
  uint32_t levels = 0;
  for (size_t k = 0; k < dimension_; ++k) {
    const float level = step > 0 ? (rest[k] - low) / step : 0;
    const auto nearest = static_cast<uint32_t>(std::clamp(level + 0.5F, 0.0F, kLevels));
    levels += nearest;
    for (size_t p = 0; p < kPlanes; ++p) {
      planes[p * words_ + k / kWordBits] |= static_cast<uint64_t>(nearest >> p & 1)
                                            << k % kWordBits;
    }
  }
  // Of a code with values of 1 and -1, the sum of values is 2 * (values at ones) - all values.
  const float all = low * static_cast<float>(dimension_) + step * static_cast<float>(levels);

  constexpr size_t kBlocksAtOnce = 32;
  std::array<uint32_t, kBlocksAtOnce * kBlock> sums{};
  std::array<float, kBlocksAtOnce * kBlock> products{};
  Largest largest(count);
  const size_t blocks = (size_ + kBlock - 1) / kBlock;
  for (size_t block = 0; block < blocks; block += kBlocksAtOnce) {
    const size_t some = std::min(kBlocksAtOnce, blocks - block);
    SumSharedBits(&codes_[block * kBlock * words_], some, words_, planes.data(), sums.data());
    const size_t first = block * kBlock;
    const size_t rows = std::min(some * kBlock, size_ - first);
    const float* const factors = &factors_[first];
    const float* const along_mean = &along_[first];
    const float* const ones = &ones_[first];
    for (size_t i = 0; i < rows; ++i) {
      const float at_ones =
          low * ones[i] + step * static_cast<float>(static_cast<int32_t>(sums[i]));
      products[i] = factors[i] * (2 * at_ones - all) + share * along_mean[i];
    }
    for (size_t i = 0; i < rows; ++i) {
      if (products[i] > largest.bound()) {
        largest.Offer(static_cast<uint32_t>(first + i), products[i]);
      }
    }
  }
  return std::move(largest).Take();
}

std::vector<RowHit> CodedRows::Search(std::span<const float> query, size_t k,
                                      size_t compared) const {
  static const DotProductFunction dot = FindDotProduct();
  k = std::min(k, size_);
  if (k == 0) return {};
  std::vector<uint32_t> rows;
  if (codes_.empty() || std::max(compared, k) >= size_) {
    rows.resize(size_);
    std::iota(rows.begin(), rows.end(), 0);
  } else {
    rows = Estimated(query, std::max(compared, k));
  }
  std::vector<RowHit> hits;
  hits.reserve(rows.size());
  // Rows are all over the memory: the next ones are asked for ahead.
  constexpr size_t kAhead = 2;
  constexpr size_t kLine = 16;  // Values.
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i + kAhead < rows.size()) {
      const float* const next = &rows_[rows[i + kAhead] * dimension_];
      for (size_t n = 0; n < dimension_; n += kLine) __builtin_prefetch(next + n);
    }
    hits.push_back({rows[i], dot(query.data(), &rows_[rows[i] * dimension_], dimension_)});
  }
  const auto end = hits.begin() + static_cast<ptrdiff_t>(k);
  if (end != hits.end()) std::nth_element(hits.begin(), end - 1, hits.end(), Nearer);
  hits.resize(k);
  std::sort(hits.begin(), hits.end(), Nearer);
  return hits;
}

size_t CodedRows::bytes() const {
  return (rows_.capacity() + mean_.capacity()) * sizeof(float) +
         codes_.capacity() * sizeof(uint64_t) +
         (factors_.capacity() + along_.capacity() + ones_.capacity()) * sizeof(float);
}

}  // namespace octogate::retrieval
