#include "router/softmax_regression.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "router/exponential.h"
#include "router/random_order.h"

namespace octogate::router {
namespace {

constexpr size_t kMaxWeights = size_t{1} << 26;
// Floats in a vector register of AVX2.
constexpr size_t kLanes = 8;

// Lanes are independent and no operation is fused, so that every build of these loops gives the
// same bits.

// One block of columns at a time, whose sums stay in registers.
template <size_t kColumns>
inline __attribute__((always_inline)) void AddBlock(const SparseRows::Entry* begin,
                                                    const SparseRows::Entry* end,
                                                    const float* __restrict weights, size_t stride,
                                                    float* __restrict logits) {
  // Rows are all over the table: they are asked for this many entries ahead.
  constexpr ptrdiff_t kAhead = 12;
  float sums[kColumns];
  for (size_t c = 0; c < kColumns; ++c) sums[c] = logits[c];
  for (const auto* entry = begin; entry != end; ++entry) {
    if (end - entry > kAhead) __builtin_prefetch(weights + entry[kAhead].feature * stride);
    const float* __restrict row = weights + entry->feature * stride;
    const float x = entry->value;
    for (size_t c = 0; c < kColumns; ++c) sums[c] += x * row[c];
  }
  for (size_t c = 0; c < kColumns; ++c) logits[c] = sums[c];
}

inline __attribute__((always_inline)) void AddRowsLoop(const SparseRows::Entry* begin,
                                                       const SparseRows::Entry* end,
                                                       const float* weights, size_t stride,
                                                       float* logits) {
  size_t c = 0;
  for (; c + 4 * kLanes <= stride; c += 4 * kLanes) {
    AddBlock<4 * kLanes>(begin, end, weights + c, stride, logits + c);
  }
  for (; c + 2 * kLanes <= stride; c += 2 * kLanes) {
    AddBlock<2 * kLanes>(begin, end, weights + c, stride, logits + c);
  }
  for (; c < stride; c += kLanes) AddBlock<kLanes>(begin, end, weights + c, stride, logits + c);
}

// What is added to a sum of squares before its root is taken.
constexpr float kTiny = 1e-12F;

inline __attribute__((always_inline)) void ExponentialsLoop(float max, size_t stride,
                                                            float* __restrict logits) {
  for (size_t c = 0; c < stride; ++c) logits[c] = Exponential(logits[c] - max);
}

void AddRows(const SparseRows::Entry* begin, const SparseRows::Entry* end, const float* weights,
             size_t stride, float* logits) {
  AddRowsLoop(begin, end, weights, stride, logits);
}
// g = x[f] * gradient; squares[f] += g^2; weights[f] -= rate * g / sqrt(squares[f]).
void UpdateRows(const SparseRows::Entry* begin, const SparseRows::Entry* end, const float* gradient,
                float rate, size_t stride, float* weights, float* squares) {
  for (const auto* entry = begin; entry != end; ++entry) {
    float* row = weights + entry->feature * stride;
    float* row_squares = squares + entry->feature * stride;
    for (size_t c = 0; c < stride; ++c) {
      const float g = entry->value * gradient[c];
      row_squares[c] += g * g;
      row[c] -= rate * g / std::sqrt(row_squares[c] + kTiny);
    }
  }
}
void Exponentials(float max, size_t stride, float* logits) {
  ExponentialsLoop(max, stride, logits);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void AddRowsAvx2(const SparseRows::Entry* begin,
                                                 const SparseRows::Entry* end, const float* weights,
                                                 size_t stride, float* logits) {
  AddRowsLoop(begin, end, weights, stride, logits);
}
// By hand: compilers take the square roots of the plain loop one by one.
__attribute__((target("avx2"))) void UpdateRowsAvx2(const SparseRows::Entry* begin,
                                                    const SparseRows::Entry* end,
                                                    const float* gradient, float rate,
                                                    size_t stride, float* weights, float* squares) {
  const __m256 tiny = _mm256_set1_ps(kTiny);
  const __m256 rates = _mm256_set1_ps(rate);
  for (const auto* entry = begin; entry != end; ++entry) {
    const __m256 x = _mm256_set1_ps(entry->value);
    float* row = weights + entry->feature * stride;
    float* row_squares = squares + entry->feature * stride;
    for (size_t c = 0; c < stride; c += kLanes) {
      const __m256 g = _mm256_mul_ps(x, _mm256_loadu_ps(gradient + c));
      const __m256 square = _mm256_add_ps(_mm256_loadu_ps(row_squares + c), _mm256_mul_ps(g, g));
      _mm256_storeu_ps(row_squares + c, square);
      const __m256 step =
          _mm256_div_ps(_mm256_mul_ps(rates, g), _mm256_sqrt_ps(_mm256_add_ps(square, tiny)));
      _mm256_storeu_ps(row + c, _mm256_sub_ps(_mm256_loadu_ps(row + c), step));
    }
  }
}
__attribute__((target("avx2"))) void ExponentialsAvx2(float max, size_t stride, float* logits) {
  ExponentialsLoop(max, stride, logits);
}
#endif

// The fastest ones of this machine; all give the same bits.
struct Loops {
  AddRowsFunction add_rows = AddRows;
  void (*update_rows)(const SparseRows::Entry*, const SparseRows::Entry*, const float*, float,
                      size_t, float*, float*) = UpdateRows;
  void (*exponentials)(float, size_t, float*) = Exponentials;
};

Loops FindLoops() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return {AddRowsAvx2, UpdateRowsAvx2, ExponentialsAvx2};
#endif
  return {};
}

}  // namespace

AddRowsFunction FindAddRows() { return FindLoops().add_rows; }

absl::StatusOr<LinearModel> TrainSoftmax(const SparseRows& examples, const std::vector<int>& labels,
                                         const std::vector<uint32_t>& selected, size_t features,
                                         size_t classes, const SoftmaxTraining& training,
                                         absl::Time deadline) {
  LinearModel model;
  model.features = features;
  model.classes = classes;
  model.stride = (classes + kLanes - 1) / kLanes * kLanes;
  if (features > kMaxWeights / model.stride) {
    return absl::ResourceExhaustedError(absl::StrCat(
        features, " features times ", classes, " nodes are more than the ", kMaxWeights,
        " weights that a lexical head may have; lower hashBits or use fewer examples"));
  }
  model.weights.assign(features * model.stride, 0);
  model.bias.assign(model.stride, 0);
  std::vector<float> squares(features * model.stride, 0);
  std::vector<float> bias_squares(model.stride, 0);
  std::vector<float> gradient(model.stride);
  const Loops loops = FindLoops();
  const auto rate = static_cast<float>(training.learning_rate);
  const auto smoothing = static_cast<float>(training.smoothing);
  const float wrong = classes < 2 ? 0 : smoothing / static_cast<float>(classes - 1);

  std::vector<uint32_t> order = selected;
  Random random(training.seed);
  for (int epoch = 0; epoch < training.epochs; ++epoch) {
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("trained ", epoch, " of ", training.epochs, " epochs before the deadline"));
    }
    Shuffle(&random, &order);
    for (const uint32_t example : order) {
      gradient = model.bias;
      const auto* begin = examples.entries.data() + examples.begin[example];
      const auto* end = examples.entries.data() + examples.begin[example + 1];
      loops.add_rows(begin, end, model.weights.data(), model.stride, gradient.data());
      if (training.add_offsets != nullptr) training.add_offsets(example, gradient.data());
      // Probabilities minus the wanted ones.
      const auto label = static_cast<size_t>(labels[example]);
      const float max = *std::max_element(gradient.data(), gradient.data() + classes);
      loops.exponentials(max, model.stride, gradient.data());
      float sum = 0;
      for (size_t c = 0; c < classes; ++c) sum += gradient[c];
      // What is known is passed over: it would change next to nothing.
      constexpr float kKnown = 0.995F;
      if (gradient[label] > kKnown * sum) continue;
      for (size_t c = 0; c < classes; ++c) gradient[c] = gradient[c] / sum - wrong;
      gradient[label] += wrong - (1 - smoothing);
      for (size_t c = 0; c < training.fixed.size(); ++c) {
        if (training.fixed[c]) gradient[c] = 0;
      }
      std::fill(gradient.begin() + static_cast<ptrdiff_t>(classes), gradient.end(), 0.0F);
      loops.update_rows(begin, end, gradient.data(), rate, model.stride, model.weights.data(),
                        squares.data());
      constexpr SparseRows::Entry kBias = {0, 1};
      loops.update_rows(&kBias, &kBias + 1, gradient.data(), rate, model.stride, model.bias.data(),
                        bias_squares.data());
    }
  }
  return model;
}

}  // namespace octogate::router
