#include "workers/speculation/speculation_account.h"

#include <algorithm>
#include <bit>
#include <tuple>

namespace octogate::workers {
namespace {

// What is kept of earlier requests when one is settled.
constexpr double kKept = 0.97;

bool Loses(double plain, double gain) { return gain < -SpeculationAccount::kBearableLoss * plain; }

}  // namespace

size_t SpeculationAccount::LoadOf(int sequences) {
  const int bits = std::bit_width(static_cast<unsigned>(std::max(sequences, 1)));
  return std::min(static_cast<size_t>(bits) / 2, std::tuple_size_v<decltype(loads_)> - 1);
}

bool SpeculationAccount::LoadAccount::Losing() const {
  return Loses(plain, gain + kPatience * step);
}

bool SpeculationAccount::Admits(LoadAccount& load, RequestAccount& account) {
  if (!load.Losing()) return true;
  if (load.trying || load.owed > 0) return false;
  load.trying = true;
  account.tries = true;
  return true;
}

bool SpeculationAccount::Wakes(double plain, int sequences, RequestAccount& account) {
  const size_t load = LoadOf(sequences);
  loads_[load].owed -= plain;
  account.owed -= plain;
  const bool load_fell = load < account.load;
  if ((!load_fell && account.owed > 0) || !Admits(loads_[load], account)) return false;
  account.asleep = false;
  account.load = load;
  return true;
}

bool SpeculationAccount::Step(double plain, double gain, int sequences, RequestAccount& account) {
  const size_t load = LoadOf(sequences);
  loads_[load].owed -= plain;
  account.plain += plain;
  account.gain += gain;
  ++account.steps;
  const bool enough = account.steps >= kEvidence;
  const bool falls_asleep = enough ? Loses(account.plain, account.gain)
                                   : account.gain < -kMostLost * (account.plain / account.steps);
  if (falls_asleep) {
    Settle(account);
    account.load = load;
  } else if (enough && account.tries) {
    Settle(account);  // others need not wait until it ends
    account.asleep = false;
    account.load = load;
  }
  return falls_asleep;
}

void SpeculationAccount::End(RequestAccount& account) {
  if (account.steps > 0) Settle(account);
  if (account.tries) loads_[account.load].trying = false;
}

void SpeculationAccount::Settle(RequestAccount& account) {
  LoadAccount& load = loads_[account.load];
  const double gain = account.gain - account.learning;
  load.plain = kKept * load.plain + account.plain;
  load.gain = kKept * load.gain + gain;
  load.step = account.plain / account.steps;
  const bool lost = Loses(account.plain, gain);
  const double owed = lost ? -gain / kBearableLoss : 0;
  if (lost && load.Losing()) {
    load.owed = std::max(load.owed, 0.0) + owed * (1 << load.lost_tries);
    load.owed = std::min(load.owed, kLongestWait * load.step);
    load.lost_tries = std::min(load.lost_tries + 1, kMostDoublings);
  } else {
    load.owed = 0;
    load.lost_tries = 0;
  }
  if (account.tries) load.trying = false;
  account = {};
  account.owed = std::min(owed, kLongestSleep * load.step);
}

}  // namespace octogate::workers
