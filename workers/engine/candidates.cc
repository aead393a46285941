#include "workers/engine/candidates.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace octogate::workers {

void KeepTopK(size_t k, std::vector<Candidate>& candidates) {
  if (k < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + static_cast<ptrdiff_t>(k),
                     candidates.end(), RanksBefore);
    candidates.resize(k);
  }
  std::sort(candidates.begin(), candidates.end(), RanksBefore);
}

// A heap makes the cost follow what is kept rather than the vocabulary.
void KeepTopP(double top_p, std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& c : candidates) total += std::exp(double{c.logit});
  const auto ranks_after = [](const Candidate& a, const Candidate& b) { return RanksBefore(b, a); };
  std::make_heap(candidates.begin(), candidates.end(), ranks_after);
  double sum = 0;
  auto end = candidates.end();
  while (end != candidates.begin() && sum < top_p * total) {
    std::pop_heap(candidates.begin(), end, ranks_after);
    --end;
    sum += std::exp(double{end->logit});
  }
  std::reverse(end, candidates.end());
  candidates.erase(candidates.begin(), end);
}

}  // namespace octogate::workers
