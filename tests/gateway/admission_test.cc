#include "gateway/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "common/status.h"

namespace octogate::gateway {
namespace {

class AdmissionTest : public testing::Test {
 protected:
  AdmissionOptions Options() {
    return {.max_concurrent = 2,
            .max_waiting = 2,
            .max_wait = absl::Seconds(1),
            .max_per_tenant = 4,
            .clock = [this] { return now_; }};
  }
  // What became of a query: decided now or later.
  struct Outcome {
    std::optional<absl::Status> status;
  };
  std::shared_ptr<Outcome> Admit(const std::string& tenant = "a",
                                 absl::Time deadline = absl::InfiniteFuture()) {
    auto outcome = std::make_shared<Outcome>();
    outcome->status = admission_.Admit(
        tenant, deadline, [outcome](const absl::Status& status) { outcome->status = status; });
    return outcome;
  }

  absl::Time now_ = absl::UnixEpoch();
  Metrics metrics_;
  Admission admission_{Options(), &metrics_};
};

TEST_F(AdmissionTest, RunsThenQueuesThenRefuses) {
  EXPECT_TRUE(Admit()->status->ok());
  EXPECT_TRUE(Admit()->status->ok());
  const auto third = Admit("b");
  const auto fourth = Admit("c");
  EXPECT_FALSE(third->status.has_value());
  EXPECT_FALSE(fourth->status.has_value());
  const auto fifth = Admit("d");
  EXPECT_TRUE(absl::IsResourceExhausted(*fifth->status));
  EXPECT_GT(RetryAfter(*fifth->status), absl::ZeroDuration());
  admission_.Release("a", absl::Milliseconds(1));
  EXPECT_TRUE(third->status->ok());  // in order of arrival
  EXPECT_FALSE(fourth->status.has_value());
}

TEST_F(AdmissionTest, CapsEachTenantOnItsOwn) {
  for (int i = 0; i < 4; ++i) Admit("a");
  const auto fifth = Admit("a");
  EXPECT_TRUE(absl::IsResourceExhausted(*fifth->status));
  EXPECT_THAT(std::string(fifth->status->message()), testing::HasSubstr("tenant \"a\""));
  for (int i = 0; i < 2; ++i) admission_.Release("a", absl::Milliseconds(1));
  EXPECT_EQ(admission_.waiting(), 0);
  EXPECT_FALSE(Admit("a")->status.has_value());  // waits: two have gone
}

TEST_F(AdmissionTest, RefusesAtOnceWhatWouldWaitPastItsDeadline) {
  Admit();
  Admit();
  const auto hasty = Admit("b", now_ + absl::Milliseconds(1));
  EXPECT_TRUE(absl::IsResourceExhausted(*hasty->status));
  const auto patient = Admit("b", now_ + absl::Seconds(1));
  EXPECT_FALSE(patient->status.has_value());
}

TEST_F(AdmissionTest, LearnsHowLongQueriesTake) {
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(Admit()->status->ok());
    admission_.Release("a", absl::Seconds(10));
  }
  Admit();
  Admit();
  const auto refused = Admit("b");
  ASSERT_TRUE(refused->status.has_value());
  EXPECT_GT(RetryAfter(*refused->status), absl::Seconds(1));
}

TEST_F(AdmissionTest, SpreadsTheRetriesOfManyRefused) {
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(Admit()->status->ok());
    admission_.Release("a", absl::Milliseconds(10));
  }
  for (const char* tenant : {"a", "a", "b", "b"}) Admit(tenant);
  const auto hint = [&] { return RetryAfter(*Admit("c")->status); };
  const absl::Duration first = hint();
  absl::Duration last = first;
  for (int i = 0; i < 5000; ++i) {
    const absl::Duration next = hint();
    // Two queries of 10 ms at a time: one ends every 5 ms.
    EXPECT_GE(next - last, i < 10 ? absl::Milliseconds(5) : absl::ZeroDuration());
    EXPECT_LT(next, absl::Seconds(3));
    last = next;
  }
  EXPECT_GT(last, absl::Seconds(1));
  now_ += absl::Seconds(10);  // Those have come and gone.
  EXPECT_EQ(hint(), first);
}

TEST_F(AdmissionTest, TickRefusesWhatHasWaitedTooLong) {
  Admit();
  Admit();
  const auto third = Admit("b");
  now_ += absl::Milliseconds(999);
  admission_.Tick();
  EXPECT_FALSE(third->status.has_value());
  now_ += absl::Milliseconds(1);
  admission_.Tick();
  EXPECT_TRUE(absl::IsResourceExhausted(*third->status));
  EXPECT_EQ(admission_.waiting(), 0);
}

// Whatever comes and goes, the limits hold and nobody is forgotten.
TEST_F(AdmissionTest, KeepsItsPromisesUnderRandomLoad) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  struct Entry {
    std::string tenant;
    std::shared_ptr<Outcome> outcome;
  };
  std::vector<Entry> open;
  for (int step = 0; step < 20'000; ++step) {
    now_ += absl::Microseconds(random() % 200'000);
    const std::string tenant(1, static_cast<char>('a' + random() % 3));
    if (random() % 2 == 0) {
      open.push_back({tenant, Admit(tenant, now_ + absl::Milliseconds(random() % 3000))});
    } else if (random() % 4 == 0) {
      admission_.Tick();
    }
    for (size_t i = 0; i < open.size(); ++i) {
      const auto& status = open[i].outcome->status;
      if (status.has_value() && (!status->ok() || random() % 4 == 0)) {
        const Entry entry = open[i];
        open.erase(open.begin() + static_cast<int>(i--));
        if (entry.outcome->status->ok()) admission_.Release(entry.tenant, absl::Milliseconds(5));
      }
    }
    int running = 0;
    int waiting = 0;
    for (const Entry& entry : open) {
      if (!entry.outcome->status.has_value()) ++waiting;
      if (entry.outcome->status.has_value() && entry.outcome->status->ok()) ++running;
    }
    ASSERT_EQ(admission_.running(), running);
    ASSERT_EQ(admission_.waiting(), waiting);
    ASSERT_LE(running, 2);
    ASSERT_LE(waiting, 2);
  }
}

}  // namespace
}  // namespace octogate::gateway
