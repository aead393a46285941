#include "router/softmax_regression.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace octogate::router {
namespace {

constexpr size_t kMaxWeights = size_t{1} << 26;
// Floats in a vector register of AVX2.
constexpr size_t kLanes = 8;

// Lanes are independent and no operation is fused, so that every build of these two loops gives the
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

// g = x * gradient; squares += g^2; weights -= rate * g / sqrt(squares).
inline __attribute__((always_inline)) void UpdateRowLoop(const float* __restrict gradient, float x,
                                                         float rate, float* __restrict weights,
                                                         float* __restrict squares, size_t stride) {
  constexpr float kTiny = 1e-12F;
  for (size_t c = 0; c < stride; ++c) {
    const float g = x * gradient[c];
    squares[c] += g * g;
    weights[c] -= rate * g / std::sqrt(squares[c] + kTiny);
  }
}

using UpdateRowFunction = void (*)(const float*, float, float, float*, float*, size_t);

void AddRows(const SparseRows::Entry* begin, const SparseRows::Entry* end, const float* weights,
             size_t stride, float* logits) {
  AddRowsLoop(begin, end, weights, stride, logits);
}
void UpdateRow(const float* gradient, float x, float rate, float* weights, float* squares,
               size_t stride) {
  UpdateRowLoop(gradient, x, rate, weights, squares, stride);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void AddRowsAvx2(const SparseRows::Entry* begin,
                                                 const SparseRows::Entry* end, const float* weights,
                                                 size_t stride, float* logits) {
  AddRowsLoop(begin, end, weights, stride, logits);
}
__attribute__((target("avx2"))) void UpdateRowAvx2(const float* gradient, float x, float rate,
                                                   float* weights, float* squares, size_t stride) {
  UpdateRowLoop(gradient, x, rate, weights, squares, stride);
}
#endif

UpdateRowFunction FindUpdateRow() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return UpdateRowAvx2;
#endif
  return UpdateRow;
}

// SplitMix64 (Steele, Lea and Flood 2014): small, and the same everywhere, which the standard
// library's distributions are not.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

void Shuffle(Random* random, std::vector<uint32_t>* order) {
  for (size_t i = order->size(); i > 1; --i) {
    std::swap((*order)[i - 1], (*order)[random->Next() % i]);
  }
}

// Turns logits into probabilities minus the wanted ones, which are `smoothing` for all wrong
// classes together; returns the probability of the label.
float ToGradient(size_t classes, int label, float smoothing, float* logits) {
  const float max = *std::max_element(logits, logits + classes);
  float sum = 0;
  for (size_t c = 0; c < classes; ++c) {
    logits[c] = std::exp(logits[c] - max);
    sum += logits[c];
  }
  const float wrong = classes < 2 ? 0 : smoothing / static_cast<float>(classes - 1);
  const float probability = logits[label] / sum;
  for (size_t c = 0; c < classes; ++c) logits[c] = logits[c] / sum - wrong;
  logits[label] = probability - (1 - smoothing);
  return probability;
}

}  // namespace

AddRowsFunction FindAddRows() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return AddRowsAvx2;
#endif
  return AddRows;
}

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
  const AddRowsFunction add_rows = FindAddRows();
  const UpdateRowFunction update_row = FindUpdateRow();
  const auto rate = static_cast<float>(training.learning_rate);
  const auto smoothing = static_cast<float>(training.smoothing);

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
      add_rows(begin, end, model.weights.data(), model.stride, gradient.data());
      // What is known is passed over: it would change next to nothing.
      constexpr float kKnown = 0.995F;
      if (ToGradient(classes, labels[example], smoothing, gradient.data()) > kKnown) continue;
      std::fill(gradient.begin() + static_cast<ptrdiff_t>(classes), gradient.end(), 0.0F);
      for (const auto* entry = begin; entry != end; ++entry) {
        const size_t row = entry->feature * model.stride;
        update_row(gradient.data(), entry->value, rate, &model.weights[row], &squares[row],
                   model.stride);
      }
      update_row(gradient.data(), 1, rate, model.bias.data(), bias_squares.data(), model.stride);
    }
  }
  return model;
}

}  // namespace octogate::router
