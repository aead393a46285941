// Sampler::SampleRanked: sampling from the largest logits of a row.
//
// Sample works on all logits: it divides them by the temperature (`scaled`, in
// float), keeps candidates and draws from those. The same code runs here on fewer
// candidates, and that is exact where the candidates that are left after the cuts
// are the same, in the same order. Logits that are not among the largest (the
// tail) are at most the last of these, and rounding keeps that order:
//
//   top_k   the cut is certain where the last token kept is scaled above the last
//           of the largest: then nothing in the tail ties with it.
//   top_p   compares sums of the best weights with top_p times the sum of all.
//           The latter is known between two bounds; the cut is certain where both
//           give the same answer for every sum up to it.
//   min_p   alone is certain where the last of the largest falls below it: what
//           falls below it adds nothing to any sum.
//
// Bounds on the tail's sum S of exp((x - best) / T), over `count` logits: with
// a = 1 / T, u = exp(x - best) <= m, and M the sum of all u, which log_sum_exp
// tells,
//   a >= 1:  count (M / count)^a <= S <= M m^(a - 1)
//   a <= 1:  M m^(a - 1) <= S <= count (M / count)^a
// (one side by u^a = u u^(a-1), the other by the inequality of power means).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "workers/engine/candidates.h"
#include "workers/engine/sampler.h"

namespace octogate::workers {
namespace {

struct Bounds {
  double low = 0;
  double high = 0;
};

// Relative error of exp(log_sum_exp) at most. kernels/reduction_order.h sums in float, up to a
// million logits with fewer than 600 additions in a row (3.6e-5); its exponentials are off by
// 1.5e-7 and by what their arguments are rounded, 6.2e-6; the last term is the rounding of the
// logarithm.
double LogSumExpError(float log_sum_exp) { return 1e-4 + std::fabs(double{log_sum_exp}) * 0x1p-22; }

// Of what Sample sums up as the weight of all tokens.
Bounds TotalWeight(const RankedLogits& ranked, std::span<const Candidate> scaled,
                   double temperature) {
  double head = 0;   // of the largest, at the temperature
  double plain = 0;  // the same at temperature 1
  const double best = ranked.logits[0];
  for (size_t i = 0; i < scaled.size(); ++i) {
    head += std::exp(double{scaled[i].logit});
    plain += std::exp(double{ranked.logits[i]} - best);
  }
  const double count = ranked.vocab_size - static_cast<double>(ranked.ids.size());
  Bounds tail;
  if (count > 0) {
    const double error = LogSumExpError(ranked.log_sum_exp);
    const double all = std::exp(double{ranked.log_sum_exp} - best);
    const double low = std::max(0.0, all * (1 - error) - plain);
    const double high = std::max(0.0, all * (1 + error) - plain);
    const double power = 1 / temperature;
    const double last = std::exp(double{ranked.logits.back()} - best);
    const auto by_mean = [&](double sum) { return count * std::pow(sum / count, power); };
    const auto by_last = [&](double sum) { return sum * std::pow(last, power - 1); };
    tail.low = power >= 1 ? by_mean(low) : last > 0 ? by_last(low) : 0;
    tail.high = power >= 1 ? by_last(high) : by_mean(high);
    // Scaling rounds twice, which moves a weight by less than 2^-12 of it.
    tail.low *= 1 - 0x1p-12;
    tail.high *= 1 + 0x1p-12;
    // Whatever log_sum_exp says, none is larger than the last of the largest.
    tail.high = std::min(tail.high, count * std::exp(double{scaled.back().logit}) * (1 + 1e-9));
    tail.low = std::min(tail.low, tail.high);
  }
  // The order of the sum of all.
  const double rounding = ranked.vocab_size * 0x1p-52;
  return {(head + tail.low) * (1 - rounding), (head + tail.high) * (1 + rounding)};
}

}  // namespace

bool Sampler::NeedsRow() const {
  if (biases_repeat_) return true;  // their sum depends on the order
  return length_ == 0 && !parameters_.allowed_first_tokens.empty();
}

bool Sampler::Draws() const {
  return parameters_.temperature > 0 && KeepsAll() && !NeedsRow() &&
         std::isfinite(1 / parameters_.temperature);
}

int Sampler::RankedCount() const {
  // Room for tokens that tie with the last one kept; and what most nuclei fit in.
  constexpr int kTies = 8;
  constexpr int kNucleus = 64;
  if (NeedsRow()) return 0;
  if (parameters_.temperature == 0) return 1;
  if (parameters_.top_k > RankedLogits::kMaxCount - kTies) return 0;
  if (parameters_.top_k > 0) return parameters_.top_k + kTies;
  return parameters_.top_p < 1 || parameters_.min_p > 0 ? kNucleus : 0;
}

std::optional<int32_t> Sampler::SampleRanked(const RankedLogits& ranked,
                                             SamplerScratch& scratch) const {
  const size_t count = ranked.ids.size();
  // A NaN or an infinity among the logits is one in their sum.
  if (count == 0 || !std::isfinite(ranked.log_sum_exp) || !std::isfinite(ranked.logits[0])) {
    return std::nullopt;
  }
  const int32_t best = ranked.ids[0];
  if (parameters_.temperature == 0) return best;

  std::vector<Candidate>& candidates = scratch.candidates;
  candidates.clear();
  for (size_t i = 0; i < count; ++i) {
    candidates.push_back(
        {(ranked.logits[i] - ranked.logits[0]) / parameters_.temperature, ranked.ids[i]});
  }
  const float last = candidates.back().logit;
  // Whether no token of the tail can be a candidate.
  bool whole = count == static_cast<size_t>(ranked.vocab_size) || last == kForbidden;
  Bounds total;
  if (parameters_.top_k == 0 && parameters_.top_p < 1 && !whole) {
    total = TotalWeight(ranked, candidates, parameters_.temperature);
  }
  // Logits that differ may be equal once they are scaled.
  std::sort(candidates.begin(), candidates.end(), RanksBefore);
  while (candidates.back().logit == kForbidden) candidates.pop_back();

  if (parameters_.top_k > 0) {
    const auto kept = static_cast<size_t>(parameters_.top_k);
    if (kept < candidates.size()) {
      if (!whole && !(candidates[kept - 1].logit > last)) return std::nullopt;
      candidates.resize(kept);
    } else if (!whole) {
      return std::nullopt;
    }
    if (parameters_.top_p < 1) KeepTopP(parameters_.top_p, candidates);
    return Draw(scratch, best);
  }
  if (!whole && parameters_.top_p < 1) {
    double sum = 0;
    size_t kept = 0;
    while (sum < parameters_.top_p * total.high) {
      // What ties with the last of the largest may rank behind a token of the tail.
      if (kept == candidates.size() || !(candidates[kept].logit > last)) return std::nullopt;
      if (!(sum < parameters_.top_p * total.low)) return std::nullopt;
      sum += std::exp(double{candidates[kept].logit});
      ++kept;
    }
    candidates.resize(kept);
    return Draw(scratch, best);
  }
  whole = whole || std::exp(double{last}) < parameters_.min_p;
  if (!whole) return std::nullopt;
  // The order in which Sample goes through all tokens.
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  if (parameters_.top_p < 1) KeepTopP(parameters_.top_p, candidates);
  return Draw(scratch, best);
}

}  // namespace octogate::workers
