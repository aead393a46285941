#include "workers/speculation/acceptance.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace octogate::workers {
namespace {

constexpr int kBisections = 60;  // of an interval no longer than the number of drafts

double Sum(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

double At(std::span<const double> distribution, int32_t token) {
  return distribution[static_cast<size_t>(token)];
}

bool AnyPositive(std::span<const double> weights) {
  return std::any_of(weights.begin(), weights.end(), [](double weight) { return weight > 0; });
}

Accepted Draft(std::span<const int32_t> drafts, int index) {
  return {.draft = index, .token = drafts[static_cast<size_t>(index)]};
}

// `token`, which is the target's own choice, as the draft that it may be.
Accepted Chosen(int32_t token, std::span<const int32_t> drafts) {
  const auto found = std::find(drafts.begin(), drafts.end(), token);
  if (found == drafts.end()) return {.draft = -1, .token = token};
  return {.draft = static_cast<int>(found - drafts.begin()), .token = token};
}

// Of k-SEQ: how probable it is that one draft alone is accepted.
double AcceptedShare(std::span<const double> p, std::span<const double> q, double divisor) {
  double share = 0;
  for (size_t i = 0; i < p.size(); ++i) share += std::min(q[i], p[i] / divisor);
  return std::min(share, 1.0);
}

// 1 - (1 - share)^count.
double AtLeastOne(double share, int count) { return -std::expm1(count * std::log1p(-share)); }

}  // namespace

int UniformChance::Pick(std::span<const double> weights) {
  const double bound = uniform_() * Sum(weights);
  double sum = 0;
  int last = 0;  // that has a weight
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] > 0)) continue;
    sum += weights[i];
    last = static_cast<int>(i);
    if (sum > bound) break;
  }
  return last;
}

Accepted AcceptGreedy(std::span<const double> p, std::span<const int32_t> drafts) {
  const auto best = std::max_element(p.begin(), p.end());
  return Chosen(static_cast<int32_t>(best - p.begin()), drafts);
}

Accepted AcceptTargetOnly(std::span<const double> p, std::span<const int32_t> drafts,
                          Chance& chance) {
  return Chosen(chance.Pick(p), drafts);
}

std::vector<int32_t> DrawWithoutReplacement(std::span<const double> q, int count, Chance& chance) {
  std::vector<double> rest(q.begin(), q.end());
  std::vector<int32_t> drafts;
  while (static_cast<int>(drafts.size()) < count && AnyPositive(rest)) {
    const int token = chance.Pick(rest);
    rest[static_cast<size_t>(token)] = 0;
    drafts.push_back(token);
  }
  return drafts;
}

Accepted AcceptWithoutReplacement(std::span<const double> p, std::span<const double> q,
                                  std::span<const int32_t> drafts, Chance& chance) {
  std::vector<double> target(p.begin(), p.end());
  std::vector<double> proposal(q.begin(), q.end());
  std::vector<double> residual(p.size());
  for (size_t i = 0; i < drafts.size(); ++i) {
    const int32_t token = drafts[i];
    const double drawn = At(proposal, token);
    if (!(drawn > 0)) continue;
    if (chance.Happens(std::min(1.0, At(target, token) / drawn))) {
      return Draft(drafts, static_cast<int>(i));
    }
    for (size_t v = 0; v < residual.size(); ++v) {
      residual[v] = std::max(target[v] - proposal[v], 0.0);
    }
    const double left = Sum(residual);
    // Equal up to rounding: nothing but the draft is left to take.
    if (!(left > 0)) return Draft(drafts, static_cast<int>(i));
    for (size_t v = 0; v < residual.size(); ++v) target[v] = residual[v] / left;
    proposal[static_cast<size_t>(token)] = 0;
    const double rest = Sum(proposal);
    if (!(rest > 0)) break;
    for (double& probability : proposal) probability /= rest;
  }
  return Chosen(chance.Pick(target), drafts);
}

std::vector<int32_t> DrawIndependent(std::span<const double> q, int count, Chance& chance) {
  std::vector<int32_t> drafts;
  for (int i = 0; i < count; ++i) drafts.push_back(chance.Pick(q));
  return drafts;
}

double KSeqDivisor(std::span<const double> p, std::span<const double> q, int count) {
  // A divisor keeps p where 1 - (1 - share)^count <= divisor * share.
  double low = 1;
  double high = std::max(count, 1);
  for (int i = 0; i < kBisections; ++i) {
    const double middle = low + (high - low) / 2;
    const double share = AcceptedShare(p, q, middle);
    (AtLeastOne(share, count) <= middle * share ? high : low) = middle;
  }
  return high;
}

Accepted AcceptKSeq(std::span<const double> p, std::span<const double> q,
                    std::span<const int32_t> drafts, Chance& chance) {
  const int count = static_cast<int>(drafts.size());
  const double divisor = KSeqDivisor(p, q, count);
  for (int i = 0; i < count; ++i) {
    const int32_t token = drafts[static_cast<size_t>(i)];
    const double proposed = divisor * At(q, token);
    if (proposed > 0 && chance.Happens(std::min(1.0, At(p, token) / proposed))) {
      return Draft(drafts, i);
    }
  }
  const double share = AcceptedShare(p, q, divisor);
  const double times = share > 0 ? AtLeastOne(share, count) / share : 0;
  std::vector<double> residual(p.size());
  for (size_t v = 0; v < residual.size(); ++v) {
    residual[v] = std::max(p[v] - std::min(q[v], p[v] / divisor) * times, 0.0);
  }
  // Equal up to rounding: every draft would have been accepted.
  if (!AnyPositive(residual)) return AcceptTargetOnly(p, drafts, chance);
  return Chosen(chance.Pick(residual), drafts);
}

std::vector<int32_t> DrawGreedyMultiDraft(std::span<const double> q, int count, Chance& chance) {
  if (count <= 0) return {};
  std::vector<int32_t> order(q.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t certain = std::min(static_cast<size_t>(count) - 1, q.size());
  std::partial_sort(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(certain), order.end(),
      [q](int32_t a, int32_t b) { return At(q, a) != At(q, b) ? At(q, a) > At(q, b) : a < b; });
  std::vector<double> rest(q.begin(), q.end());
  std::vector<int32_t> drafts;
  for (size_t i = 0; i < certain && At(q, order[i]) > 0; ++i) {
    drafts.push_back(order[i]);
    rest[static_cast<size_t>(order[i])] = 0;
  }
  if (AnyPositive(rest)) drafts.push_back(chance.Pick(rest));
  return drafts;
}

Accepted AcceptGreedyMultiDraft(std::span<const double> p, std::span<const double> q,
                                std::span<const int32_t> drafts, Chance& chance) {
  if (drafts.empty()) return AcceptTargetOnly(p, drafts, chance);
  // The last draft was drawn from what the others leave of q. Where q is positive for no more
  // tokens than there are drafts, that is certain, too, and the rule is AcceptTargetOnly's.
  std::vector<double> proposal(q.begin(), q.end());
  for (int32_t token : drafts.first(drafts.size() - 1)) proposal[static_cast<size_t>(token)] = 0;
  const double rest = Sum(proposal);
  if (!(rest > 0)) return AcceptTargetOnly(p, drafts, chance);
  for (double& probability : proposal) probability /= rest;
  const int last = static_cast<int>(drafts.size()) - 1;
  const double drawn = At(proposal, drafts.back());
  if (drawn > 0 && chance.Happens(std::min(1.0, At(p, drafts.back()) / drawn))) {
    return Draft(drafts, last);
  }
  for (size_t v = 0; v < proposal.size(); ++v) proposal[v] = std::max(p[v] - proposal[v], 0.0);
  if (!AnyPositive(proposal)) return Draft(drafts, last);
  return Chosen(chance.Pick(proposal), drafts);
}

}  // namespace octogate::workers
