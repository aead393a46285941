#include "gateway/judging/tally.h"

#include <algorithm>
#include <cstddef>

namespace octogate::gateway {
namespace {

struct Candidate {
  int first;  // ballot
  int votes = 0;
  double weight = 0;
};

}  // namespace

Tally Count(const std::vector<Ballot>& ballots, int total, const SettledBy& enough) {
  Tally tally;
  // Few ballots: a list in order is fast, and ties fall to the earliest answer by themselves.
  std::vector<Candidate> candidates;
  double all = 0;
  int settled_by = -1;
  for (size_t i = 0; i < ballots.size() && settled_by < 0; ++i) {
    ++tally.counted;
    all += ballots[i].weight;
    if (ballots[i].answer.empty()) continue;
    auto candidate = std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& c) {
      return ballots[c.first].answer == ballots[i].answer;
    });
    if (candidate == candidates.end()) {
      candidate = candidates.insert(candidates.end(), {.first = static_cast<int>(i)});
    }
    candidate->weight += ballots[i].weight;
    ++candidate->votes;
    if ((enough.votes > 0 && candidate->votes >= enough.votes) ||
        (enough.weight > 0 && candidate->weight >= enough.weight)) {
      settled_by = static_cast<int>(candidate - candidates.begin());
    }
  }
  tally.settled = settled_by >= 0 || tally.counted >= total;
  if (candidates.empty()) return tally;
  const bool by_weight = all > 0;
  const auto weight = [&](const Candidate& c) { return by_weight ? c.weight : c.votes; };
  const Candidate& winner =
      settled_by >= 0
          ? candidates[settled_by]
          : *std::max_element(candidates.begin(), candidates.end(),
                              [&](const auto& a, const auto& b) { return weight(a) < weight(b); });
  tally.winner = winner.first;
  tally.share = std::clamp(weight(winner) / (by_weight ? all : tally.counted), 0.0, 1.0);
  return tally;
}

}  // namespace octogate::gateway
