#include "workers/speculation/speculation_account.h"

#include <algorithm>

namespace octogate::workers {
namespace {

constexpr double kBearableLoss = 0.005;
// What is kept of earlier requests when one is settled.
constexpr double kKept = 0.9;

bool Loses(double plain, double gain) { return gain < -kBearableLoss * plain; }

}  // namespace

void SpeculationAccount::Begin(RequestAccount& account) {
  account = {};
  if (left_ == 0) {
    left_ = wait_;
    return;
  }
  --left_;
  account.asleep = true;
  account.left = sleep_;
}

bool SpeculationAccount::Step(double plain, double gain, int sequences, RequestAccount& account) {
  account.plain += plain;
  account.gain += gain;
  if (++account.steps < kEvidence || !Loses(account.plain, account.gain)) return false;
  Settle(account);
  account.asleep = true;
  account.left = sleep_;
  account.sequences = sequences;
  return true;
}

bool SpeculationAccount::Wakes(int sequences, RequestAccount& account) {
  // One that began asleep learns only now how many there are.
  account.sequences = std::max(account.sequences, sequences);
  if (--account.left > 0 && 4 * sequences > account.sequences) return false;
  account.asleep = false;
  return true;
}

void SpeculationAccount::End(RequestAccount& account) {
  if (!account.asleep && account.steps > 0) Settle(account);
}

void SpeculationAccount::Settle(RequestAccount& account) {
  plain_ = kKept * plain_ + account.plain;
  gain_ = kKept * gain_ + account.gain;
  const bool loses = Loses(plain_, gain_);
  wait_ = loses ? std::min(2 * wait_ + 1, kLongestWait) : 0;
  left_ = wait_;
  sleep_ = loses ? std::min(2 * sleep_, kLongestSleep) : kFirstSleep;
  account.plain = 0;
  account.gain = 0;
  account.steps = 0;
}

}  // namespace octogate::workers
