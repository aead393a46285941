#include "gateway/cache/answer_flights.h"

#include <algorithm>

namespace octogate::gateway {

AnswerFlights::Lead& AnswerFlights::Lead::operator=(Lead&& other) noexcept {
  if (this == &other) return *this;
  Abandon();
  flights_ = std::move(other.flights_);
  other.flights_ = nullptr;
  key_ = std::move(other.key_);
  return *this;
}

void AnswerFlights::Lead::Finish(const std::shared_ptr<const KeptAnswer>& answer,
                                 double similarity) {
  const std::shared_ptr<AnswerFlights> flights = std::exchange(flights_, nullptr);
  if (flights == nullptr) return;
  for (const Follower& follower : flights->End(key_)) {
    follower.outcome(answer, similarity, Lead());
  }
}

void AnswerFlights::Lead::Release() { Finish(nullptr); }

void AnswerFlights::Lead::Abandon() {
  const std::shared_ptr<AnswerFlights> flights = std::exchange(flights_, nullptr);
  if (flights == nullptr) return;
  Outcome next;
  {
    absl::MutexLock lock(&flights->mutex_);
    const auto flight = flights->flights_.find(key_);
    if (flight->second.empty()) {
      flights->flights_.erase(flight);
      return;
    }
    next = std::move(flight->second.front().outcome);
    flight->second.pop_front();
  }
  Lead lead;
  lead.flights_ = flights;
  lead.key_ = key_;
  next(nullptr, 0, std::move(lead));
}

AnswerFlights::Joined AnswerFlights::Join(const std::string& key, Outcome outcome) {
  Joined joined;
  absl::MutexLock lock(&mutex_);
  const auto [flight, is_first] = flights_.try_emplace(key);
  if (is_first) {
    joined.lead.flights_ = shared_from_this();
    joined.lead.key_ = key;
  } else if (flight->second.size() < kMaxFollowers) {
    joined.ticket = next_ticket_++;
    flight->second.push_back({joined.ticket, std::move(outcome)});
  }
  return joined;
}

bool AnswerFlights::Leave(const std::string& key, uint64_t ticket) {
  Outcome left;  // goes without the lock
  absl::MutexLock lock(&mutex_);
  const auto flight = flights_.find(key);
  if (flight == flights_.end()) return false;
  const auto follower =
      std::find_if(flight->second.begin(), flight->second.end(),
                   [&](const Follower& candidate) { return candidate.ticket == ticket; });
  if (follower == flight->second.end()) return false;
  left = std::move(follower->outcome);
  flight->second.erase(follower);
  return true;
}

std::list<AnswerFlights::Follower> AnswerFlights::End(const std::string& key) {
  absl::MutexLock lock(&mutex_);
  const auto flight = flights_.find(key);
  std::list<Follower> followers = std::move(flight->second);
  flights_.erase(flight);
  return followers;
}

}  // namespace octogate::gateway
