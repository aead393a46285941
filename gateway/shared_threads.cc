#include "gateway/shared_threads.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"

namespace octogate::gateway {
namespace {

constexpr absl::Duration kMinRetryAfter = absl::Milliseconds(20);
// Weight of a new value in the moving average.
constexpr double kNewWeight = 0.05;

absl::Status Refusal(const std::string& message, absl::Duration retry_after) {
  return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                            message, "; try again in ", absl::FormatDuration(retry_after))),
                        retry_after);
}

}  // namespace

SharedThreads::SharedThreads(int threads, size_t max_waiting, std::string many)
    : max_waiting_(max_waiting), many_(std::move(many)) {
  threads_.reserve(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

SharedThreads::~SharedThreads() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

absl::Status SharedThreads::Submit(const std::string& tenant, std::function<void()> work) {
  absl::MutexLock lock(&mutex_);
  if (stopping_) return absl::UnavailableError("the gateway is shutting down");
  const auto found = work_.find(tenant);
  const size_t own = found == work_.end() ? 0 : found->second.size();
  if (waiting_ >= max_waiting_) {
    return Refusal(absl::StrCat(waiting_, " ", many_, " wait, as many as may"),
                   ExpectedWait(waiting_));
  }
  if (own >= max_waiting_ - waiting_) {
    return Refusal(absl::StrCat("tenant \"", tenant, "\" has ", own, " ", many_,
                                " waiting, as many as one tenant may while ",
                                max_waiting_ - waiting_, " places are left"),
                   ExpectedWait(own));
  }
  if (own == 0) turns_.push_back(tenant);
  work_[tenant].push_back(std::move(work));
  ++waiting_;
  return absl::OkStatus();
}

void SharedThreads::Run() {
  while (true) {
    std::function<void()> work;
    {
      absl::MutexLock lock(&mutex_);
      const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stopping_ || waiting_ > 0;
      };
      mutex_.Await(absl::Condition(&ready));
      if (waiting_ == 0) return;
      std::string tenant = std::move(turns_.front());
      turns_.pop_front();
      const auto own = work_.find(tenant);
      work = std::move(own->second.front());
      own->second.pop_front();
      --waiting_;
      if (own->second.empty()) {
        work_.erase(own);
      } else {
        turns_.push_back(std::move(tenant));
      }
    }
    const absl::Time start = absl::Now();
    work();
    work = nullptr;  // what it holds may take time to go, and is not the lock's business
    const absl::Duration ran = absl::Now() - start;
    absl::MutexLock lock(&mutex_);
    mean_run_ += kNewWeight * (ran - mean_run_);
  }
}

absl::Duration SharedThreads::ExpectedWait(size_t ahead) const {
  const double turns = static_cast<double>(ahead) / static_cast<double>(threads_.size());
  return std::max(mean_run_ * turns, kMinRetryAfter);
}

}  // namespace octogate::gateway
