#include "workers/speculation/speculation_account.h"

#include <algorithm>

namespace octogate::workers {
namespace {

// What is kept of earlier requests when one is settled.
constexpr double kKept = 0.97;

bool Loses(double plain, double gain) { return gain < -SpeculationAccount::kBearableLoss * plain; }

}  // namespace

bool SpeculationAccount::Losing() const { return Loses(plain_, gain_ + kPatience * step_); }

bool SpeculationAccount::Admits(RequestAccount& account) {
  if (!Losing()) return true;
  if (trying_ || owed_ > 0) return false;
  trying_ = true;
  account.tries = true;
  return true;
}

void SpeculationAccount::Begin(RequestAccount& account) {
  account = {};
  account.asleep = !Admits(account);
}

bool SpeculationAccount::Step(double plain, double gain, int sequences, RequestAccount& account) {
  owed_ -= plain;
  account.plain += plain;
  account.gain += gain;
  ++account.steps;
  const bool enough = account.steps >= kEvidence;
  const bool falls_asleep = enough ? Loses(account.plain, account.gain)
                                   : account.gain < -kMostLost * (account.plain / account.steps);
  if (falls_asleep) {
    Settle(account);
    account.asleep = true;
    account.sequences = sequences;
  } else if (enough && account.tries) {
    Settle(account);  // others need not wait until it ends
  }
  return falls_asleep;
}

bool SpeculationAccount::Wakes(double plain, int sequences, RequestAccount& account) {
  owed_ -= plain;
  account.owed -= plain;
  // One that began asleep learns only now how many there are.
  account.sequences = std::max(account.sequences, sequences);
  const bool load_fell = 4 * sequences <= account.sequences;
  if (!load_fell && (account.owed > 0 || !Admits(account))) return false;
  account.asleep = false;
  return true;
}

void SpeculationAccount::End(RequestAccount& account) {
  if (account.steps > 0) Settle(account);
  if (account.tries) trying_ = false;
}

void SpeculationAccount::Settle(RequestAccount& account) {
  const double gain = account.gain - account.learning;
  plain_ = kKept * plain_ + account.plain;
  gain_ = kKept * gain_ + gain;
  const bool lost = Loses(account.plain, gain);
  const double owed = lost ? -gain / kBearableLoss : 0;
  step_ = account.plain / account.steps;
  if (lost && Losing()) {
    owed_ = std::max(owed_, 0.0) + owed * (1 << lost_tries_);
    owed_ = std::min(owed_, kLongestWait * step_);
    lost_tries_ = std::min(lost_tries_ + 1, kMostDoublings);
  } else {
    owed_ = 0;
    lost_tries_ = 0;
  }
  if (account.tries) trying_ = false;
  account = {};
  account.owed = std::min(owed, kLongestSleep * step_);
}

}  // namespace octogate::workers
