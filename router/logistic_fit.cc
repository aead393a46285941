#include "router/logistic_fit.h"

#include <algorithm>
#include <cmath>

namespace octogate::router {
namespace {

constexpr int kMaxSteps = 30;
constexpr int kMaxHalvings = 12;
constexpr double kEnough = 1e-9;

double RowLogit(const LogisticRows& rows, size_t i, const std::vector<double>& weights) {
  double logit = rows.offsets[i];
  const float* const row = rows.features.data() + i * rows.dimension;
  for (size_t d = 0; d < rows.dimension; ++d) logit += weights[d] * row[d];
  return logit;
}

// Solves a * x = b for a symmetric positive definite matrix, by Cholesky's method.
std::vector<double> Solve(std::vector<double> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t j = 0; j < n; ++j) {
    for (size_t k = 0; k < j; ++k) a[j * n + j] -= a[j * n + k] * a[j * n + k];
    a[j * n + j] = std::sqrt(std::max(a[j * n + j], 1e-12));
    for (size_t i = j + 1; i < n; ++i) {
      for (size_t k = 0; k < j; ++k) a[i * n + j] -= a[i * n + k] * a[j * n + k];
      a[i * n + j] /= a[j * n + j];
    }
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
  return b;
}

class Newton {
 public:
  Newton(const LogisticRows& rows, const LogisticPenalty& penalty, std::vector<bool> fixed)
      : rows_(rows), penalty_(penalty), fixed_(std::move(fixed)) {}

  std::vector<double> Run() {
    std::vector<double> weights(rows_.dimension);
    for (size_t d = 0; d < weights.size(); ++d) weights[d] = fixed_[d] ? 0 : Towards(d);
    double loss = Loss(weights);
    for (int step = 0; step < kMaxSteps; ++step) {
      const std::vector<double> direction = Direction(weights);
      double size = 1;
      double best = loss;
      std::vector<double> next;
      for (int halving = 0; halving < kMaxHalvings; ++halving, size /= 2) {
        next = weights;
        for (size_t d = 0; d < next.size(); ++d) next[d] += size * direction[d];
        best = Loss(next);
        if (best <= loss) break;
      }
      if (!(best < loss - kEnough * (1 + loss))) break;
      loss = best;
      weights = std::move(next);
    }
    return weights;
  }

 private:
  double Towards(size_t d) const { return penalty_.towards.empty() ? 0 : penalty_.towards[d]; }

  double Loss(const std::vector<double>& weights) const {
    double loss = 0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      const double logit = RowLogit(rows_, i, weights);
      const double wrong = rows_.labels[i] != 0 ? -logit : logit;
      loss += wrong > 0 ? wrong + std::log1p(std::exp(-wrong)) : std::log1p(std::exp(wrong));
    }
    for (size_t d = 0; d < weights.size(); ++d) {
      const double away = weights[d] - Towards(d);
      loss += penalty_.strength * away * away / 2;
    }
    return loss;
  }

  std::vector<double> Direction(const std::vector<double>& weights) const {
    const size_t n = rows_.dimension;
    std::vector<double> hessian(n * n);
    std::vector<double> gradient(n);
    for (size_t d = 0; d < n; ++d) {
      hessian[d * n + d] = std::max(penalty_.strength, 1e-9);
      gradient[d] = -penalty_.strength * (weights[d] - Towards(d));
    }
    for (size_t i = 0; i < rows_.size(); ++i) {
      const double p = Sigmoid(RowLogit(rows_, i, weights));
      const double residual = (rows_.labels[i] != 0 ? 1 : 0) - p;
      const double curvature = p * (1 - p);
      const float* const row = rows_.features.data() + i * n;
      for (size_t d = 0; d < n; ++d) {
        gradient[d] += residual * row[d];
        for (size_t e = 0; e <= d; ++e) hessian[d * n + e] += curvature * row[d] * row[e];
      }
    }
    for (size_t d = 0; d < n; ++d) {
      if (!fixed_[d]) continue;
      gradient[d] = 0;
      for (size_t e = 0; e < d; ++e) hessian[d * n + e] = 0;
      for (size_t e = d + 1; e < n; ++e) hessian[e * n + d] = 0;
    }
    return Solve(std::move(hessian), std::move(gradient));
  }

  const LogisticRows& rows_;
  const LogisticPenalty& penalty_;
  const std::vector<bool> fixed_;  // At 0.
};

}  // namespace

double Logit(double probability) {
  const double p = std::min(0.999, std::max(0.001, probability));
  return std::log(p / (1 - p));
}

double Sigmoid(double logit) { return 1 / (1 + std::exp(-logit)); }

void LogisticRows::Add(const float* row, float offset, bool label) {
  features.insert(features.end(), row, row + dimension);
  offsets.push_back(offset);
  labels.push_back(label ? 1 : 0);
}

std::vector<double> FitLogistic(const LogisticRows& rows, const LogisticPenalty& penalty) {
  std::vector<bool> fixed(rows.dimension);
  for (;;) {
    std::vector<double> weights = Newton(rows, penalty, fixed).Run();
    bool changed = false;
    for (size_t d = 0; d < weights.size() && !penalty.signed_weights.empty(); ++d) {
      if (weights[d] >= 0 || penalty.signed_weights[d]) continue;
      fixed[d] = true;
      changed = true;
    }
    if (!changed) return weights;
  }
}

void OffsetStep::Add(double logit, bool label) {
  const double p = Sigmoid(logit);
  gradient_ += (label ? 1 : 0) - p;
  curvature_ += p * (1 - p);
}

double OffsetStep::value() const { return curvature_ > 0 ? gradient_ / curvature_ : 0; }

}  // namespace octogate::router
