// Counts votes.
#ifndef OCTOGATE_GATEWAY_JUDGING_TALLY_H_
#define OCTOGATE_GATEWAY_JUDGING_TALLY_H_

#include <string>
#include <vector>

namespace octogate::gateway {

struct Ballot {
  std::string answer;  // In its normal form; empty: no answer, which counts for none.
  double weight = 1;   // Not negative.
};

struct Tally {
  int winner = -1;       // The first ballot with the winning answer; -1: no ballot has an answer.
  int counted = 0;       // Ballots that were looked at.
  double share = 0;      // Of the winning answer in the weight of all ballots counted, in [0, 1].
  bool settled = false;  // No further ballot will be looked at.
};

// What settles a vote before its last ballot; 0: nothing of that kind.
struct SettledBy {
  int votes = 0;      // So many ballots with the same answer.
  double weight = 0;  // Ballots of that weight together with the same answer.
};

// Counts the ballots in their order. The first ballot with whose answer `enough` is reached settles
// the vote: that answer wins, and what comes behind is not looked at. Otherwise the answer of the
// greatest weight wins; the earliest one among equal ones. `total` ballots settle it in any case.
// Ballots whose weight is 0 all together count as if each had 1.
Tally Count(const std::vector<Ballot>& ballots, int total, const SettledBy& enough);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_JUDGING_TALLY_H_
