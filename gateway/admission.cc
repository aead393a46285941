#include "gateway/admission.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace octogate::gateway {
namespace {

constexpr absl::Duration kMinRetryAfter = absl::Milliseconds(20);
// Retries come at this share of the rate at which queries end, as long as they are spread over no
// more than kMaxSpread.
constexpr double kRetryShare = 0.1;
constexpr absl::Duration kMaxSpread = absl::Seconds(2);
// Weight of a new value in the moving average.
constexpr double kNewWeight = 0.05;

}  // namespace

Admission::Admission(const AdmissionOptions& options, Metrics* metrics)
    : options_(options), metrics_(metrics) {}

std::optional<absl::Status> Admission::Admit(const std::string& tenant, absl::Time deadline,
                                             Callback later) {
  const absl::Time now = options_.clock();
  absl::MutexLock lock(&mutex_);
  int& of_tenant = per_tenant_[tenant];
  const absl::Duration wait = ExpectedWait();
  absl::Status refusal;
  if (of_tenant >= options_.max_per_tenant) {
    refusal = Refuse("tenant",
                     absl::StrCat("tenant \"", tenant, "\" has ", of_tenant, " ", options_.many,
                                  " under way, as many as one tenant may"),
                     std::max(mean_run_, kMinRetryAfter));
  } else if (running_ < options_.max_concurrent && waiting_.empty()) {
    ++running_;
    ++of_tenant;
    return absl::OkStatus();
  } else if (static_cast<int>(waiting_.size()) >= options_.max_waiting) {
    refusal = Refuse("queue",
                     absl::StrCat(running_, " ", options_.many, " run and ", waiting_.size(),
                                  " wait, as many as may"),
                     SpreadRetry(now, wait));
  } else if (wait > options_.max_wait || now + wait >= deadline) {
    refusal = Refuse("deadline",
                     absl::StrCat("the ", options_.one, " would wait ", absl::FormatDuration(wait),
                                  ", longer than its deadline or the limit of ",
                                  absl::FormatDuration(options_.max_wait), " allows"),
                     SpreadRetry(now, wait));
  } else {
    ++of_tenant;
    waiting_.push_back({tenant, std::min(deadline, now + options_.max_wait), std::move(later)});
    return std::nullopt;
  }
  if (of_tenant == 0) per_tenant_.erase(tenant);
  return refusal;
}

void Admission::Release(const std::string& tenant, absl::Duration ran) {
  const absl::Time now = options_.clock();
  Callback next;
  std::vector<Callback> late;
  {
    absl::MutexLock lock(&mutex_);
    mean_run_ += kNewWeight * (ran - mean_run_);
    ForgetTenant(tenant);
    --running_;
    while (!waiting_.empty() && running_ < options_.max_concurrent) {
      Waiter waiter = std::move(waiting_.front());
      waiting_.pop_front();
      if (waiter.give_up_at <= now) {
        ForgetTenant(waiter.tenant);
        late.push_back(std::move(waiter.callback));
        continue;
      }
      ++running_;
      next = std::move(waiter.callback);
      break;
    }
  }
  for (const Callback& callback : late) {
    callback(Refuse("deadline",
                    absl::StrCat("the ", options_.one, " has waited too long for its turn"),
                    kMinRetryAfter));
  }
  if (next != nullptr) next(absl::OkStatus());
}

void Admission::Tick() {
  const absl::Time now = options_.clock();
  std::vector<Callback> late;
  {
    absl::MutexLock lock(&mutex_);
    for (auto waiter = waiting_.begin(); waiter != waiting_.end();) {
      if (waiter->give_up_at <= now) {
        ForgetTenant(waiter->tenant);
        late.push_back(std::move(waiter->callback));
        waiter = waiting_.erase(waiter);
      } else {
        ++waiter;
      }
    }
  }
  for (const Callback& callback : late) {
    callback(Refuse("deadline",
                    absl::StrCat("the ", options_.one, " has waited too long for its turn"),
                    kMinRetryAfter));
  }
}

int Admission::running() const {
  absl::MutexLock lock(&mutex_);
  return running_;
}

int Admission::waiting() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(waiting_.size());
}

void Admission::ForgetTenant(const std::string& tenant) {
  const auto found = per_tenant_.find(tenant);
  if (--found->second == 0) per_tenant_.erase(found);
}

absl::Duration Admission::ExpectedWait() const {
  const double turns = static_cast<double>(waiting_.size() + 1) / options_.max_concurrent;
  return std::max(mean_run_ * turns, kMinRetryAfter);
}

absl::Duration Admission::SpreadRetry(absl::Time now, absl::Duration wait) {
  const absl::Duration between_ends = mean_run_ / options_.max_concurrent;
  const absl::Time earliest = now + wait;
  last_retry_ =
      std::clamp(last_retry_ + between_ends / kRetryShare, earliest, earliest + kMaxSpread);
  return last_retry_ - now;
}

absl::Status Admission::Refuse(const char* reason, const std::string& message,
                               absl::Duration retry_after) {
  if (metrics_ != nullptr) metrics_->OnQueryRefused(reason);
  return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                            message, "; try again in ", absl::FormatDuration(retry_after))),
                        retry_after);
}

}  // namespace octogate::gateway
