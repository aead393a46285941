// Requests that are let in by their deadline: the bound itself, the bound against what the
// scheduler does, and engines whose steps cost what the test says.
#include "workers/engine/admission.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/scripted_store.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/engine_loop.h"
#include "workers/engine/scheduler.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

constexpr double kForever = std::numeric_limits<double>::infinity();

// Every row takes so long, whatever is beside it.
StepCost SecondsPerRow(double seconds) {
  StepCost cost;
  cost.rows.Add(1, seconds);
  cost.rows.Add(2, 2 * seconds);
  return cost;
}

Sequence Prompt(uint64_t arrival, std::vector<int32_t> tokens) {
  Sequence sequence;
  sequence.arrival = arrival;
  sequence.tokens = std::move(tokens);
  return sequence;
}

std::vector<int32_t> Ids(int count, int32_t first) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) ids[static_cast<size_t>(i)] = first + i;
  return ids;
}

TEST(AdmissionTest, LetsEverythingInWhereNothingIsMeasured) {
  const StepCost cost;
  EXPECT_FALSE(Admission(&cost, 8, 4).known());
}

TEST(AdmissionTest, SaysWhetherThePromptOrWhatIsBeforeItTakesTooLong) {
  const StepCost cost = SecondsPerRow(1);
  const Admission admission(&cost, 8, 1);
  const Sequence first = Prompt(0, Ids(11, 1));
  const Sequence second = Prompt(1, Ids(6, 30));
  const PendingPrompt before[] = {{.sequence = &first}};
  const auto check = [&](double left, double pace = 1) {
    return admission.Check({.sequence = &second, .left = left}, before, pace);
  };
  EXPECT_TRUE(check(kForever).ok());
  EXPECT_TRUE(check(16).ok());  // the last row of the first may share a step
  const absl::Status queue = check(15.5);
  EXPECT_EQ(queue.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RetryAfter(queue), absl::Milliseconds(500));
  EXPECT_THAT(std::string(queue.message()), HasSubstr("15500 ms are left"));
  EXPECT_THAT(std::string(queue.message()), HasSubstr("16000 ms"));
  const absl::Status alone = check(5.5);
  EXPECT_EQ(alone.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(RetryAfter(alone), absl::ZeroDuration());
  EXPECT_TRUE(check(5.5, 0.1).ok());
  EXPECT_EQ(check(16, 2).code(), absl::StatusCode::kResourceExhausted);
}

TEST(AdmissionTest, CountsOnlyWhatIsServedFirst) {
  const StepCost cost = SecondsPerRow(1);
  const Admission admission(&cost, 8, 1);
  const auto of_others = [&](const auto& change) {
    Sequence other = Prompt(0, Ids(11, 1));
    Sequence prompt = Prompt(1, Ids(6, 30));
    PendingPrompt pending{.sequence = &other};
    change(other, pending);
    const auto time = admission.TimeToFirstToken({.sequence = &prompt}, {&pending, 1}, 1);
    return time.in_queue - time.alone;
  };
  EXPECT_EQ(of_others([](Sequence&, PendingPrompt&) {}), 10);
  EXPECT_EQ(of_others([](Sequence& other, PendingPrompt&) { other.priority = 1; }), 10);
  EXPECT_EQ(of_others([](Sequence& other, PendingPrompt&) { other.priority = -1; }), 0);
  EXPECT_EQ(of_others([](Sequence& other, PendingPrompt&) { other.tenant = "b"; }), 0);
  EXPECT_EQ(of_others([](Sequence& other, PendingPrompt&) { other.arrival = 2; }), 0);
  EXPECT_EQ(of_others([](Sequence& other, PendingPrompt&) { other.most_computed = 8; }), 2);
  EXPECT_EQ(of_others([](Sequence& other, PendingPrompt&) { other.most_computed = 10; }), 0);
  EXPECT_EQ(of_others([](Sequence&, PendingPrompt& pending) { pending.first = 8; }), 2);
  EXPECT_EQ(of_others([](Sequence&, PendingPrompt& pending) { pending.left = 3; }), 3);
  EXPECT_EQ(of_others([](Sequence& other, PendingPrompt&) {
              other.arriving = std::make_unique<ArrivingPages>();
            }),
            0);
}

TEST(AdmissionTest, DoesNotCountAPageThatOthersMayBeFilling) {
  const StepCost cost = SecondsPerRow(1);
  const Admission admission(&cost, 8, 4);
  const Sequence first = Prompt(0, Ids(11, 1));
  const Sequence second = Prompt(1, Ids(6, 30));
  const PendingPrompt before[] = {{.sequence = &first}};
  const auto time = admission.TimeToFirstToken({.sequence = &second}, before, 1);
  EXPECT_EQ(time.in_queue - time.alone, 7);
  EXPECT_EQ(time.alone, 3);
  const auto last = admission.TimeToFirstToken({.sequence = &second, .first = 4}, before, 1);
  EXPECT_EQ(last.alone, 1);
}

TEST(AdmissionTest, CountsWhatManyBeginWithOnce) {
  const StepCost cost = SecondsPerRow(1);
  Admission admission(&cost, 8, 4);
  const Sequence first = Prompt(0, Ids(11, 1));
  const CachedPrefix cached{.pages = 1};
  const PromptWork first_work = admission.Enter(first, cached);
  EXPECT_EQ(first_work.first, 4);
  EXPECT_EQ(first_work.pages.size(), 1u);
  EXPECT_EQ(admission.Enter(first, cached).first, 8);
  Sequence other = Prompt(1, Ids(11, 1));
  other.prefix_context = "other";
  EXPECT_EQ(admission.Enter(other, {}).first, 0);
  // An embedding computes what the prefix cache has, too.
  Sequence embedded = Prompt(2, Ids(11, 1));
  embedded.use_cached_prefix = false;
  EXPECT_EQ(admission.Enter(embedded, cached).first, 0);
  admission.Leave(first_work);
  EXPECT_EQ(admission.Enter(first, cached).first, 4);
  Admission unshared(&cost, 8, 0);
  EXPECT_EQ(unshared.Enter(first, {}).first, 0);
  EXPECT_EQ(unshared.Enter(first, {}).first, 0);
}

// Runs the scheduler on a machine whose steps take what the cost says.
class Machine {
 public:
  explicit Machine(std::mt19937& random)
      : random_(random),
        max_rows_(Pick(4, 40)),
        page_size_(Pick(1, 5)),
        share_(Pick(0, 1) > 0),
        cost_(RandomCost()),
        scheduler_({.max_sequences = Pick(1, std::min(max_rows_, 6)),
                    .max_rows = max_rows_,
                    .page_size = page_size_,
                    .share_prefixes = share_,
                    .ageing_steps = Pick(1, 30)},
                   Pick(12, 60)),
        admission_(&cost_, max_rows_, share_ ? page_size_ : 0) {}

  void Arrive() {
    auto request = std::make_unique<Request>();
    const int length = Pick(1, static_cast<int>(scheduler_.max_positions()) / 2);
    const int same = Pick(0, length);
    for (int i = 0; i < length; ++i) request->tokens.push_back(i < same ? 1 : Pick(1, 9));
    request->arrival = arrivals_++;
    request->priority = Pick(0, 5) == 0 ? 1 : 0;
    request->tenant = Pick(0, 5) == 0 ? "b" : "a";
    request->use_cached_prefix = Pick(0, 5) > 0;
    request->end = length + Pick(0, 6);
    // Not both: see the header's last exception.
    if (!share_ && Pick(0, 2) == 0)
      request->deadline = now_ + Pick(1, 100) * cost_.rows.At(max_rows_) / 10;
    if (share_ && request->use_cached_prefix && Pick(0, 8) == 0) {
      request->arriving = std::make_unique<ArrivingPages>();
      request->held = true;
    }
    CachedPrefix cached;
    scheduler_.FollowCachedPages(*request, cached);
    request->work = admission_.Enter(*request, cached);
    std::vector<PendingPrompt> others;
    for (const auto& other : requests_) {
      admission_.TakeOffCached(*other, scheduler_, other->work);
      others.push_back(PendingOf(*other));
    }
    const PendingPrompt pending = PendingOf(*request);
    request->arrived = now_;
    request->least = admission_.TimeToFirstToken(pending, others, 1);
    request->refused = !admission_.Check(pending, others, 1).ok();
    scheduler_.Add(request.get());
    requests_.push_back(std::move(request));
  }

  void Step() {
    for (size_t i = requests_.size(); i-- > 0;) {
      Request& request = *requests_[i];
      if (now_ >= request.deadline) Leave(i);
    }
    for (const auto& request : requests_) {
      if (!request->held || Pick(0, 3) > 0) continue;
      request->held = false;
      request->arriving = nullptr;
    }
    const std::vector<ScheduledRows> step = scheduler_.Schedule();
    StepShape shape{.rows = 0, .sequences = 0, .attended = 0};
    for (const ScheduledRows& rows : step) {
      shape.rows += rows.row_count;
      shape.sequences += static_cast<int>(rows.completes());
      shape.attended += AttendedBy(rows.first_position, rows.row_count);
    }
    if (!step.empty()) now_ += cost_.Seconds(shape);
    for (const ScheduledRows& rows : step) {
      const bool completes = rows.completes();
      scheduler_.Computed(rows);
      if (completes) Grow(*static_cast<Request*>(rows.sequence));
    }
    for (size_t i = requests_.size(); i-- > 0;) {
      if (requests_[i]->length() > requests_[i]->end) Leave(i);
    }
  }

  int answered() const { return answered_; }
  int refused() const { return refused_; }
  // How much of the time to first tokens the bounds foresaw, in the mean.
  double foreseen() const { return foreseen_ / std::max(answered_, 1); }

 private:
  struct Request : Sequence {
    int end = 0;
    double arrived = 0;
    double deadline = kForever;
    PromptWork work;
    Admission::LeastTime least;
    bool refused = false;
    bool answered = false;
  };

  int Pick(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }

  StepCost RandomCost() {
    StepCost cost;
    double seconds = 0;
    for (int rows = 1; rows < 2 * max_rows_; rows += Pick(1, 8)) {
      seconds += Pick(0, 3) == 0 ? 0 : Pick(1, 100) * 1e-3;
      cost.rows.Add(rows, seconds + 1e-3);
    }
    cost.context.Add(0, 0);
    cost.context.Add(1, Pick(0, 3) * 1e-4);
    cost.sequences.Add(1, 0);
    cost.sequences.Add(2, Pick(0, 1) * 1e-3);
    return cost;
  }

  PendingPrompt PendingOf(const Request& request) const {
    return {.sequence = &request, .first = request.work.first, .left = request.deadline - now_};
  }

  void Grow(Request& request) {
    request.tokens.push_back(Pick(1, 9));
    if (std::exchange(request.answered, true)) return;
    const double taken = now_ - request.arrived;
    ++answered_;
    foreseen_ += request.least.in_queue / taken;
    EXPECT_GE(taken * (1 + 1e-9), request.least.in_queue) << "of " << request.arrival;
    if (request.refused) {
      ++refused_;
      EXPECT_GE(now_, request.deadline) << "of " << request.arrival;
    }
  }

  void Leave(size_t i) {
    if (requests_[i]->refused && !requests_[i]->answered) ++refused_;
    scheduler_.Remove(requests_[i].get());
    admission_.Leave(requests_[i]->work);
    requests_.erase(requests_.begin() + static_cast<ptrdiff_t>(i));
  }

  std::mt19937& random_;
  const int max_rows_;
  const int page_size_;
  const bool share_;
  const StepCost cost_;
  Scheduler scheduler_;
  Admission admission_;
  std::vector<std::unique_ptr<Request>> requests_;
  uint64_t arrivals_ = 0;
  double now_ = 0;
  int answered_ = 0;
  int refused_ = 0;
  double foreseen_ = 0;
};

TEST(AdmissionTest, RefusesNothingThatTheSchedulerWouldHaveMet) {
  const uint32_t seed = FreshSeed();
  int answered = 0;
  int refused = 0;
  double foreseen = 0;
  constexpr int kRuns = 40;
  for (uint32_t run = 0; run < kRuns; ++run) {
    SCOPED_TRACE("OCTOGATE_TEST_SEED=" + std::to_string(seed) + ", run " + std::to_string(run));
    std::mt19937 random(seed + run);
    Machine machine(random);
    const int busy = std::uniform_int_distribution<int>(1, 12)(random);
    for (int step = 0; step < 300; ++step) {
      while (std::uniform_int_distribution<int>(0, busy)(random) == 0) machine.Arrive();
      machine.Step();
      if (HasFailure()) return;
    }
    answered += machine.answered();
    refused += machine.refused();
    foreseen += machine.foreseen();
  }
  EXPECT_GT(answered, 100 * kRuns / 10);
  EXPECT_GT(refused, 0);
  // The bound is of use: it foresees some of the time.
  EXPECT_GT(foreseen / kRuns, 0.1);
  RecordProperty("foreseen", std::to_string(foreseen / kRuns));
}

// An engine whose steps cost what the test says they were measured to.
class PricedEngine {
 public:
  PricedEngine(StepCost cost, const EngineOptions& options,
               std::unique_ptr<PageStore> store = nullptr) {
    EngineLoop::Parts parts;
    parts.checkpoint = OpenCheckpoint(FixturePath("llama"));
    parts.backend = kernels::MakeCpuBackend({.threads = 1});
    auto transformer =
        Transformer::Load(parts.checkpoint, parts.backend.get(), TransformerLimitsOf(options));
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    parts.transformer = *std::move(transformer);
    auto cache = parts.transformer->CreateKvCache(64, options.page_size, kernels::DType::kF32);
    EXPECT_TRUE(cache.ok()) << cache.status();
    parts.cache = *std::move(cache);
    parts.step_cost = std::move(cost);
    parts.page_store = std::move(store);
    loop_ = std::make_unique<EngineLoop>(std::move(parts), options, EngineStats{.context = 128});
  }

  // Lets nothing that is submitted begin until Continue.
  void Hold() {
    auto held = std::make_shared<absl::Notification>();
    absl::Notification begun;
    hold_ = std::make_shared<absl::Notification>();
    const auto hold = hold_;
    EXPECT_TRUE(Submit(RequestFor({1}, 1), ActiveRequest::Kind::kGenerate,
                       [&begun, hold](const GenerateEvent&) {
                         begun.Notify();
                         hold->WaitForNotification();
                       })
                    .ok());
    begun.WaitForNotification();
  }
  void Continue() { hold_->Notify(); }

  // The name of an outcome is its place.
  void Ask(GenerateRequest request, ActiveRequest::Kind kind = ActiveRequest::Kind::kGenerate) {
    const size_t place = last_events_.size();
    last_events_.emplace_back();
    EXPECT_TRUE(Submit(std::move(request), kind, [this, place](const GenerateEvent& event) {
                  if (event.finish == FinishReason::kNone) return;
                  absl::MutexLock lock(&mutex_);
                  last_events_[place] = event;
                  ++ended_;
                }).ok());
  }
  std::vector<GenerateEvent> WaitForAll() {
    absl::MutexLock lock(&mutex_);
    const auto all = [this] { return ended_ == last_events_.size(); };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&all), kLong));
    return last_events_;
  }

  absl::Status Submit(GenerateRequest request, ActiveRequest::Kind kind,
                      std::function<void(const GenerateEvent&)> callback) {
    return loop_
        ->Submit(std::move(request), kind,
                 [callback = std::move(callback)](const GenerateEvent& event,
                                                  std::span<const float>) { callback(event); })
        .status();
  }
  const EngineLoop& loop() const { return *loop_; }

 private:
  absl::Mutex mutex_;
  std::vector<GenerateEvent> last_events_;
  size_t ended_ = 0;
  std::shared_ptr<absl::Notification> hold_;
  std::unique_ptr<EngineLoop> loop_;  // last: it uses everything above
};

EngineOptions Options() { return {.max_sequences = 4, .max_rows_per_step = 16, .page_size = 4}; }

GenerateRequest Within(std::vector<int32_t> prompt, absl::Duration time) {
  GenerateRequest request = RequestFor(std::move(prompt), 2);
  request.deadline = absl::Now() + time;
  return request;
}

TEST(EngineAdmissionTest, AnIdleEngineRefusesWhatNoPaceMakesPossible) {
  PricedEngine engine(SecondsPerRow(1000), Options());
  engine.Ask(Within(Ids(12, 20), absl::Minutes(10)));  // 900 s at the best pace
  engine.WaitForAll();
  engine.Ask(Within(Ids(5, 20), absl::Minutes(10)));
  engine.WaitForAll();
  engine.Ask(RequestFor(Ids(12, 20), 2));
  const std::vector<GenerateEvent> ends = engine.WaitForAll();
  EXPECT_EQ(ends[0].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ends[0].finish, FinishReason::kDeadline);
  EXPECT_EQ(ends[0].usage.prompt_tokens, 12);
  EXPECT_EQ(ends[0].usage.generated_tokens, 0);
  EXPECT_TRUE(ends[1].status.ok()) << ends[1].status;
  EXPECT_TRUE(ends[2].status.ok()) << ends[2].status;
  const EngineStats stats = engine.loop().stats();
  EXPECT_EQ(stats.requests_unmeetable, 1u);
  EXPECT_EQ(stats.prompt_tokens, 5u + 8u);  // the last begins as the one before
}

TEST(EngineAdmissionTest, ABusyEngineCountsWhatIsBeforeARequest) {
  PricedEngine engine(SecondsPerRow(100), Options());
  engine.Hold();
  engine.Ask(RequestFor(Ids(8, 20), 2));               // 4 rows before the others, 400 s
  engine.Ask(Within(Ids(8, 40), absl::Minutes(10)));   // 5 rows, 500 s more
  engine.Ask(Within(Ids(13, 60), absl::Minutes(10)));  // 1000 s alone
  GenerateRequest other = Within(Ids(8, 80), absl::Minutes(10));
  other.terms.tenant = "other";
  engine.Ask(other);
  other.terms = {.priority = 1};
  engine.Ask(other);
  engine.Continue();
  const std::vector<GenerateEvent> ends = engine.WaitForAll();
  EXPECT_TRUE(ends[0].status.ok()) << ends[0].status;
  EXPECT_EQ(ends[1].status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ends[1].finish, FinishReason::kError);
  EXPECT_GE(RetryAfter(ends[1].status), absl::Seconds(300));
  EXPECT_LE(RetryAfter(ends[1].status), absl::Seconds(300) + kLong);
  EXPECT_EQ(ends[2].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(ends[3].status.ok()) << ends[3].status;
  EXPECT_TRUE(ends[4].status.ok()) << ends[4].status;
}

TEST(EngineAdmissionTest, WhatIsInThePrefixCacheOrOnItsWayThereTakesNoTime) {
  for (const bool share : {true, false}) {
    EngineOptions options = Options();
    options.share_prefixes = share;
    PricedEngine engine(SecondsPerRow(80), options);
    engine.Ask(RequestFor(Ids(10, 20), 2));
    engine.WaitForAll();
    engine.Hold();
    engine.Ask(RequestFor(Ids(10, 40), 2));
    GenerateRequest again = Within(Ids(10, 20), absl::Minutes(10));  // 800 s, or 80
    again.terms.tenant = "other";
    engine.Ask(again);
    // Behind 9 rows of the first; 5 rows, or the one behind the page that both begin with.
    GenerateRequest herd = Within(Ids(5, 40), absl::Minutes(10));
    engine.Ask(herd);
    engine.Continue();
    const std::vector<GenerateEvent> ends = engine.WaitForAll();
    EXPECT_EQ(ends[2].status.code(),
              share ? absl::StatusCode::kOk : absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(ends[3].status.code(),
              share ? absl::StatusCode::kOk : absl::StatusCode::kResourceExhausted)
        << ends[3].status;
  }
}

// A prompt whose pages may come takes no time of its own; what is before it takes it all the same.
TEST(EngineAdmissionTest, OnlyWhatPagesMightMeetAsksAStore) {
  for (const bool answers : {true, false}) {
    Script script;
    script.room = answers ? 1000 : 0;
    script.done = true;  // it has none
    PricedEngine engine(SecondsPerRow(100), Options(), std::make_unique<ScriptedStore>(&script));
    engine.Hold();
    engine.Ask(RequestFor(Ids(13, 20), 2), ActiveRequest::Kind::kEmbed);  // asks no store, 900 s
    engine.Ask(Within(Ids(13, 40), absl::Minutes(10)));
    GenerateRequest other = Within(Ids(13, 60), absl::Minutes(10));  // 1000 s alone
    other.terms.tenant = "other";
    engine.Ask(other);
    engine.Continue();
    const std::vector<GenerateEvent> ends = engine.WaitForAll();
    EXPECT_TRUE(ends[0].status.ok()) << ends[0].status;
    EXPECT_EQ(ends[1].status.code(), absl::StatusCode::kResourceExhausted) << ends[1].status;
    EXPECT_EQ(ends[2].status.code(),
              answers ? absl::StatusCode::kOk : absl::StatusCode::kDeadlineExceeded)
        << ends[2].status;
    EXPECT_EQ(script.fetches, 1);
  }
}

TEST(EngineAdmissionTest, WithoutAMeasuredCostEveryDeadlineIsLetIn) {
  PricedEngine engine({}, Options());
  engine.Hold();
  engine.Ask(RequestFor(Ids(100, 20), 2));
  engine.Ask(Within(Ids(100, 21), absl::Minutes(10)));
  engine.Continue();
  for (const GenerateEvent& end : engine.WaitForAll()) EXPECT_TRUE(end.status.ok()) << end.status;
  EXPECT_EQ(engine.loop().stats().requests_unmeetable, 0u);
}

TEST(EngineAdmissionTest, AFullQueueHintsAtWhatItsPromptsTake) {
  EngineOptions options = Options();
  options.max_waiting = 2;
  PricedEngine engine(SecondsPerRow(1), options);
  engine.Hold();
  engine.Ask(RequestFor(Ids(10, 20), 2));
  engine.Ask(RequestFor(Ids(4, 40), 2));
  const absl::Status full = engine.Submit(RequestFor(Ids(4, 40), 2), ActiveRequest::Kind::kGenerate,
                                          [](const GenerateEvent&) {});
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RetryAfter(full), absl::Seconds(7));  // 14 rows, two places
  engine.Continue();
  engine.WaitForAll();
}

}  // namespace
}  // namespace octogate::workers
