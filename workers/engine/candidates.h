// What a sampler chooses from: tokens with their scaled logits, and the cuts that leave fewer of
// them.
#ifndef OCTOGATE_WORKERS_ENGINE_CANDIDATES_H_
#define OCTOGATE_WORKERS_ENGINE_CANDIDATES_H_

#include <cstddef>
#include <limits>
#include <vector>

#include "workers/engine/sampler.h"

namespace octogate::workers {

using Candidate = SamplerScratch::Candidate;

// The logit of a token that may not be chosen.
inline constexpr float kForbidden = -std::numeric_limits<float>::infinity();

// Strict order of rank: higher logit first, then lower id.
inline bool RanksBefore(const Candidate& a, const Candidate& b) {
  if (a.logit != b.logit) return a.logit > b.logit;
  return a.id < b.id;
}

// Keeps the `k` best, in order of rank.
void KeepTopK(size_t k, std::vector<Candidate>& candidates);

// Keeps, in order of rank, the fewest best whose weights exp(logit) reach `top_p` of all.
void KeepTopP(double top_p, std::vector<Candidate>& candidates);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_CANDIDATES_H_
