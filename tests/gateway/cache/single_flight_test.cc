// Of equal queries one runs; nobody waits for one that has gone.
#include "gateway/cache/single_flight.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "absl/time/clock.h"

namespace octogate::gateway {
namespace {

using Flights = SingleFlight<int>;

class SingleFlightTest : public testing::Test {
 protected:
  // What came of a follower.
  struct Follower {
    uint64_t ticket = 0;
    int answered = 0;
    int alone = 0;
    int result = 0;
    Flights::Lead lead;
  };

  Flights::Lead Lead(const std::string& key = "k") {
    Flights::Joined joined = flights_->Join(key, [](auto, auto) { FAIL(); });
    EXPECT_TRUE(bool{joined.lead});
    return std::move(joined.lead);
  }
  std::unique_ptr<Follower> Follow(const std::string& key = "k") {
    auto follower = std::make_unique<Follower>();
    Flights::Joined joined =
        flights_->Join(key, [raw = follower.get()](int result, Flights::Lead lead) {
          raw->result = result;
          raw->answered += result != 0;
          raw->alone += result == 0 && !lead;
          raw->lead = std::move(lead);
        });
    EXPECT_FALSE(joined.lead);
    follower->ticket = joined.ticket;
    return follower;
  }

  const std::shared_ptr<Flights> flights_ = std::make_shared<Flights>();
};

TEST_F(SingleFlightTest, FollowersGetTheLeadersAnswer) {
  Flights::Lead lead = Lead();
  Flights::Lead other = Lead("other");
  const auto a = Follow();
  const auto b = Follow();
  EXPECT_EQ(a->answered, 0);
  lead.Finish(75);
  EXPECT_EQ(a->answered, 1);
  EXPECT_EQ(a->result, 75);
  EXPECT_EQ(b->answered, 1);
  // The flight is over: the next one leads.
  Lead().Release();
}

TEST_F(SingleFlightTest, WhereALeaderFailsTheNextOneLeads) {
  auto lead = std::make_unique<Flights::Lead>(Lead());
  const auto a = Follow();
  const auto b = Follow();
  lead = nullptr;
  EXPECT_TRUE(bool{a->lead});
  EXPECT_FALSE(bool{b->lead});
  EXPECT_EQ(b->answered + b->alone, 0);
  a->lead.Finish(1);
  EXPECT_EQ(b->answered, 1);
}

TEST_F(SingleFlightTest, WhatCannotBeSharedIsRunByEveryone) {
  Flights::Lead lead = Lead();
  const auto a = Follow();
  const auto b = Follow();
  lead.Release();
  EXPECT_EQ(a->alone, 1);
  EXPECT_EQ(b->alone, 1);
}

TEST_F(SingleFlightTest, WhoLeavesIsNotCalled) {
  Flights::Lead lead = Lead();
  const auto a = Follow();
  const auto b = Follow();
  EXPECT_TRUE(flights_->Leave("k", a->ticket));
  EXPECT_FALSE(flights_->Leave("k", a->ticket));
  EXPECT_FALSE(flights_->Leave("other", b->ticket));
  lead.Abandon();
  EXPECT_TRUE(bool{b->lead});
  EXPECT_FALSE(bool{a->lead});
  EXPECT_EQ(a->answered + a->alone, 0);
}

TEST_F(SingleFlightTest, WhoMayNotWaitForTheLeaderRunsByItself) {
  const absl::Time now = absl::Now();
  const auto ignore = [](int, Flights::Lead) {};
  Flights::Joined joined = flights_->Join("k", ignore, now + absl::Seconds(2));
  ASSERT_TRUE(bool{joined.lead});
  const Flights::Joined hasty = flights_->Join("k", ignore, now + absl::Seconds(1));
  EXPECT_FALSE(hasty.lead);
  EXPECT_EQ(hasty.ticket, 0u);
  EXPECT_NE(flights_->Join("k", ignore, now + absl::Seconds(2)).ticket, 0u);
  joined.lead.Release();
}

TEST_F(SingleFlightTest, FollowersAreBounded) {
  Flights::Lead lead = Lead();
  std::vector<std::unique_ptr<Follower>> followers;
  for (size_t i = 0; i < Flights::kMaxFollowers; ++i) {
    followers.push_back(Follow());
    ASSERT_NE(followers.back()->ticket, 0u);
  }
  EXPECT_EQ(Follow()->ticket, 0u);
  lead.Finish(1);
  for (const auto& follower : followers) EXPECT_EQ(follower->answered, 1);
}

// Whatever leaders and followers do, everyone who does not leave comes to an end.
TEST_F(SingleFlightTest, NobodyHangs) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  constexpr int kThreads = 4;
  constexpr int kQueries = 500;
  std::atomic<int> ended{0};
  std::atomic<int> left{0};
  // Of a leader: its answer, or that it cannot be shared, or that it has failed.
  const std::function<void(Flights::Lead, unsigned)> lead_one = [&](Flights::Lead lead,
                                                                    unsigned what) {
    ++ended;
    if (what % 3 == 0) {
      lead.Finish(1);
    } else if (what % 3 == 1) {
      lead.Release();
    }
  };
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(seed + t);
      for (int i = 0; i < kQueries; ++i) {
        const std::string key(1, static_cast<char>('a' + random() % 3));
        const unsigned what = random();
        Flights::Joined joined = flights_->Join(key, [&, what](int, Flights::Lead lead) {
          if (lead) {
            lead_one(std::move(lead), what);
          } else {
            ++ended;
          }
        });
        if (joined.lead) {
          std::this_thread::yield();
          lead_one(std::move(joined.lead), what);
        } else if (joined.ticket == 0) {
          ++ended;
        } else if (random() % 4 == 0) {
          left += flights_->Leave(key, joined.ticket);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ended + left, kThreads * kQueries);
}

}  // namespace
}  // namespace octogate::gateway
