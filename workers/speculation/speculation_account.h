// Whether speculation earns what it costs, drafting and learning included.
//
// What a step verifies is the planner's choice. But whoever drafts has to learn from every token,
// which takes some microseconds each, also where nothing is ever verified: much beside a step of a
// small model, or beside one of a large batch. So each request has an account in seconds, and one
// that loses more than half a percent stops to draft and to learn: it sleeps. It is woken after
// some steps, or when the load is down to a quarter. While requests lose on the whole, they sleep
// longer each time, and only one of several begins awake.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_SPECULATION_SPECULATION_ACCOUNT_H_
#define OCTOGATE_WORKERS_SPECULATION_SPECULATION_ACCOUNT_H_

namespace octogate::workers {

// Of one request.
struct RequestAccount {
  // Since it was woken last:
  double plain = 0;  // seconds that its steps would have taken without drafts, its share of each
  double gain = 0;   // seconds that drafts saved, less those that they cost
  int steps = 0;

  bool asleep = false;
  int left = 0;       // steps until it is woken
  int sequences = 0;  // the most that decoded since it fell asleep
};

class SpeculationAccount {
 public:
  static constexpr int kEvidence = 48;  // steps before a request may fall asleep
  static constexpr int kFirstSleep = 128;
  static constexpr int kLongestSleep = 4096;
  static constexpr int kLongestWait = 32;  // requests that begin asleep between two that do not

  void Begin(RequestAccount& account);
  // One step of a request that is awake, beside which `sequences` decode, itself included. True: it
  // falls asleep.
  bool Step(double plain, double gain, int sequences, RequestAccount& account);
  // Before each step of a request that sleeps. True: it wakes up.
  bool Wakes(int sequences, RequestAccount& account);
  void End(RequestAccount& account);

 private:
  // Counts what a request has come to.
  void Settle(RequestAccount& account);

  // Of requests, older ones with less weight.
  double plain_ = 0;
  double gain_ = 0;
  int wait_ = 0;  // requests that begin asleep, and of these
  int left_ = 0;
  int sleep_ = kFirstSleep;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_SPECULATION_ACCOUNT_H_
