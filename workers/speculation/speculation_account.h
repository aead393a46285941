// Whether speculation earns what it costs, drafting and learning included.
//
// What a step verifies is the planner's choice. But whoever drafts has to learn from every token,
// which takes some microseconds each, also where nothing is ever verified: much beside a step of a
// small model, or beside one of a large batch. So each request has an account in seconds, and one
// that loses more than half a percent stops to draft and to learn: it sleeps. It is woken when
// half a percent of what it has decoded since then is as much as it had lost, or when the load has
// fallen. While requests lose on the whole, and more than the few steps that it takes to learn what
// is of use, all sleep but one at a time that tries; and before the next one does, what was lost
// has to be half a percent of what all have decoded, or less where several tries were lost in
// succession. So a loss is never much more than that in the long run, and what is cheap to try is
// tried often.
//
// What pays with few sequences does not with many, and each batch comes down to few before it ends.
// So all of that is kept for each load by itself, of which there is one for about every fourfold
// number of sequences: a lower one that is not known yet is tried by all, and one that is known to
// lose by one at a time.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_SPECULATION_SPECULATION_ACCOUNT_H_
#define OCTOGATE_WORKERS_SPECULATION_SPECULATION_ACCOUNT_H_

#include <array>
#include <cstddef>

namespace octogate::workers {

// Of one request, which begins asleep.
struct RequestAccount {
  // Since it was woken last:
  double plain = 0;  // seconds that its steps would have taken without drafts, its share of each
  double gain = 0;   // seconds that drafts saved, less those that they cost
  int steps = 0;
  // Seconds that it took to learn what there was of the sequence: gone, whatever drafts gain now,
  // so that they count when others are woken, and not against this one's drafts.
  double learning = 0;
  bool tries = false;  // the one that does while requests lose on the whole

  bool asleep = true;
  double owed = 0;  // seconds as of `plain` until it may be woken
  size_t load = 0;  // at which it was woken or fell asleep last
};

class SpeculationAccount {
 public:
  static constexpr double kBearableLoss = 0.005;  // of the time without drafts
  static constexpr int kEvidence = 48;            // steps before a request may fall asleep,
  static constexpr int kMostLost = 4;             // unless it has lost as many
  static constexpr int kPatience = 2;             // steps that all may lose before most sleep
  static constexpr int kMostDoublings = 2;        // of what is owed, by lost tries in succession
  // Steps of a request, as long as which it and all of them sleep at most.
  static constexpr int kLongestSleep = 4096;
  static constexpr int kLongestWait = 32768;

  // Before each step of a request that sleeps, of which its share is `plain`, and in which
  // `sequences` decode, itself included. True: it wakes up, and `learning` is to be set.
  bool Wakes(double plain, int sequences, RequestAccount& account);
  // One step of a request that is awake. True: it falls asleep.
  bool Step(double plain, double gain, int sequences, RequestAccount& account);
  void End(RequestAccount& account);

 private:
  // Of the requests that were woken at one load, older ones with less weight.
  struct LoadAccount {
    double plain = 0;
    double gain = 0;
    double step = 0;  // seconds of one's share, lately
    // While they lose:
    double owed = 0;  // seconds that requests decode until the next try
    int lost_tries = 0;
    bool trying = false;

    bool Losing() const;
  };

  static size_t LoadOf(int sequences);
  // Counts what a request has come to.
  void Settle(RequestAccount& account);
  // Whether a request may be awake now; if it tries, nobody else does until it is settled.
  static bool Admits(LoadAccount& load, RequestAccount& account);

  std::array<LoadAccount, 5> loads_;  // the last: of 128 sequences and more
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_SPECULATION_ACCOUNT_H_
