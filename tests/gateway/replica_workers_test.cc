// A model on two workers with a real (tiny) model: calls go where their prompt's beginning is,
// until that is too loaded; and what workers say of themselves harms nobody.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gateway/remote_model_client.h"
#include "gateway/replica_set.h"
#include "tests/gateway/stub_worker.h"
#include "workers/engine/model_runner.h"
#include "workers/server/model_service.h"
#include "workers/server/prompt_blocks.h"
#include "workers/server/worker_server.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

struct Outcome {
  std::vector<std::string> attempts;
  v1::Usage usage;
  absl::Status status;
  std::shared_ptr<ModelCall> call;
  absl::Notification done;
};

class ReplicaWorkersTest : public testing::Test {
 protected:
  void MakeWorkers(int workers) {
    for (int i = 0; i < workers; ++i) {
      workers::LoadOptions options;
      options.device.threads = 1;
      options.engine.page_size = 16;
      options.engine.max_sequences = 4;
      auto loaded =
          workers::LoadModel(std::string(OCTOGATE_FIXTURES) + "/checkpoints/llama3", options);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      auto server = workers::WorkerServer::Start(
          "127.0.0.1:0", std::make_unique<workers::ModelService>("tiny", *std::move(loaded)));
      ASSERT_TRUE(server.ok()) << server.status();
      workers_.push_back(*std::move(server));
      addresses_.push_back(absl::StrCat("127.0.0.1:", workers_.back()->port()));
    }
  }

  void MakeStubs(int workers) {
    for (int i = 0; i < workers; ++i) {
      stubs_.push_back(std::make_unique<StubWorker>());
      addresses_.push_back(stubs_.back()->address());
    }
  }

  void NeverAnswer() {
    StubScript script;
    script.first_us = absl::ToInt64Microseconds(absl::Minutes(10));
    for (const auto& stub : stubs_) stub->SetDefaults(script);
  }

  // As a gateway does that has just started.
  std::shared_ptr<ReplicaSet> Connect() {
    std::vector<std::unique_ptr<ModelClient>> clients;
    for (const std::string& address : addresses_) {
      clients.push_back(NewRemoteModelClient(address, loops_.get()));
    }
    // Asks at every tick.
    return ReplicaSet::Create("tiny", std::move(clients), {.probe_interval = absl::ZeroDuration()});
  }

  // Ticks until what is known of the replicas for a prompt is as wanted.
  template <typename Condition>
  static void TickUntil(ReplicaSet& set, const v1::WorkerPrompt& prompt, Condition wanted) {
    const absl::Time deadline = absl::Now() + absl::Seconds(100);
    while (!wanted(set.Explain(prompt, ""))) {
      ASSERT_LT(absl::Now(), deadline) << set.Explain(prompt, "")[0].reason;
      set.Tick();
      absl::SleepFor(absl::Milliseconds(2));
    }
  }

  // All have said what they hold, and are known to have nothing to do.
  static void Settle(ReplicaSet& set) {
    TickUntil(set, Prompt(""), [](const std::vector<ReplicaExplanation>& replicas) {
      return std::all_of(replicas.begin(), replicas.end(), [](const ReplicaExplanation& replica) {
        return replica.load == 0 && replica.reason.rfind("holds ", 0) == 0 &&
               replica.reason.find(" and 0 bytes to read") != std::string::npos;
      });
    });
  }

  static std::string RandomWords(size_t bytes) {
    static std::mt19937 random{std::random_device()()};
    std::string text;
    while (text.size() < bytes) absl::StrAppend(&text, "word", random() % 1000, " ");
    text.resize(bytes);
    return text;
  }

  static v1::WorkerPrompt Prompt(const std::string& query) {
    v1::WorkerPrompt prompt;
    prompt.mutable_template_()->set_template_("{query}");
    prompt.mutable_template_()->set_query(query);
    return prompt;
  }

  static std::shared_ptr<Outcome> Start(ReplicaSet& set, const std::string& query) {
    auto request = std::make_shared<v1::WorkerGenerateRequest>();
    *request->mutable_prompt() = Prompt(query);
    request->set_max_tokens(2);
    auto outcome = std::make_shared<Outcome>();
    outcome->call = set.Generate(
        request, absl::Now() + absl::Seconds(120),
        [outcome](const std::string& address) { outcome->attempts.push_back(address); },
        [outcome](v1::WorkerGenerateResponse& message) {
          if (message.has_end()) outcome->usage = message.end().usage();
          return Flow::kContinue;
        },
        [outcome](const absl::Status& status) {
          outcome->status = status;
          outcome->done.Notify();
        });
    return outcome;
  }

  static std::shared_ptr<Outcome> Generate(ReplicaSet& set, const std::string& query) {
    auto outcome = Start(set, query);
    outcome->done.WaitForNotification();
    EXPECT_TRUE(outcome->status.ok()) << outcome->status;
    return outcome;
  }

  // What a worker says that holds a whole prompt.
  static v1::WorkerInfoResponse Holding(const std::string& query) {
    v1::WorkerInfoResponse info;
    std::vector<uint32_t> blocks = workers::HashPrompt(Prompt(query), "").hashes;
    std::sort(blocks.begin(), blocks.end());
    info.mutable_prefixes()->set_block_bytes(workers::PromptBlocks::kBlockBytes);
    info.mutable_prefixes()->mutable_blocks()->Add(blocks.begin(), blocks.end());
    return info;
  }

  void TearDown() override {
    for (auto& worker : workers_) worker->Shutdown(absl::ZeroDuration());
  }

  std::unique_ptr<EventLoops> loops_ = EventLoops::Create(2);
  std::vector<std::unique_ptr<workers::WorkerServer>> workers_;
  std::vector<std::unique_ptr<StubWorker>> stubs_;
  std::vector<std::string> addresses_;
};

TEST_F(ReplicaWorkersTest, AConversationGoesWhereItsBeginningIs) {
  MakeWorkers(2);
  const auto set = Connect();
  for (int i = 0; i < 6; ++i) {
    Settle(*set);
    const std::string first = RandomWords(400);
    const auto before = Generate(*set, first);
    EXPECT_EQ(before->usage.cached_tokens(), 0);
    Settle(*set);
    const std::string second = first + RandomWords(200);
    const auto after = Generate(*set, second);
    EXPECT_EQ(after->attempts, before->attempts);
    EXPECT_GT(after->usage.cached_tokens(), before->usage.prompt_tokens() / 2);
  }
  int64_t for_prefix = 0;
  for (const ReplicaChoiceCounts& counts : set->choice_counts()) {
    for_prefix += counts[static_cast<size_t>(ReplicaChoiceReason::kPrefix)];
  }
  EXPECT_EQ(for_prefix, 6);
}

TEST_F(ReplicaWorkersTest, AnotherGatewayKnowsItBySummaries) {
  MakeWorkers(2);
  const auto set = Connect();
  Settle(*set);
  const std::string first = RandomWords(500);
  const auto before = Generate(*set, first);
  const auto other = Connect();
  const std::string second = first + RandomWords(100);
  TickUntil(*other, Prompt(second), [&](const std::vector<ReplicaExplanation>& replicas) {
    const size_t holder = replicas[0].address == before->attempts[0] ? 0 : 1;
    return replicas[holder].prefix_bytes >= 256 && replicas[1 - holder].prefix_bytes == 0;
  });
  Settle(*other);
  const std::vector<ReplicaExplanation> explained = other->Explain(Prompt(second), "");
  for (const ReplicaExplanation& replica : explained) {
    const bool holds = replica.address == before->attempts[0];
    EXPECT_EQ(replica.chosen, holds);
    EXPECT_DOUBLE_EQ(replica.probability, holds ? 1 : 0);
    EXPECT_EQ(replica.prompt_bytes, 602);  // the frames of the query included
    EXPECT_THAT(replica.reason, HasSubstr(absl::StrCat("holds ", replica.prefix_bytes)));
  }
  // Under another salt nothing is held.
  for (const ReplicaExplanation& replica : other->Explain(Prompt(second), "salt")) {
    EXPECT_EQ(replica.prefix_bytes, 0);
  }
  const auto after = Generate(*other, second);
  EXPECT_EQ(after->attempts, before->attempts);
  EXPECT_GT(after->usage.cached_tokens(), 0);
}

// All calls have the prompt that one worker holds, and none of them ends.
TEST_F(ReplicaWorkersTest, AnOverloadedHolderIsLeftAlone) {
  MakeStubs(3);
  NeverAnswer();
  const std::string query = RandomWords(2000);
  stubs_[0]->SetInfo(Holding(query));
  for (size_t i = 1; i < 3; ++i) stubs_[i]->SetInfo(Holding(""));
  const auto set = Connect();
  Settle(*set);
  std::vector<std::shared_ptr<Outcome>> outcomes;
  std::map<std::string, int> calls;
  for (int i = 0; i < 30; ++i) {
    outcomes.push_back(Start(*set, query));
    ++calls[outcomes.back()->attempts.at(0)];
    if (i == 1) {
      EXPECT_EQ(calls[addresses_[0]], 2) << "as long as there is room";
    }
  }
  for (const std::string& address : addresses_) {
    EXPECT_GE(calls[address], 3);
    EXPECT_LE(calls[address], 16);
  }
  for (const auto& outcome : outcomes) outcome->call->Cancel();
  for (const auto& outcome : outcomes) outcome->done.WaitForNotification();
}

// The middle one of what workers have measured, where any has.
TEST_F(ReplicaWorkersTest, CallsCostWhatStepsWereMeasuredToCost) {
  MakeStubs(3);
  const auto costs = [&](const std::vector<double>& row_seconds) {
    for (size_t i = 0; i < stubs_.size(); ++i) {
      v1::WorkerInfoResponse info = Holding("");
      info.set_running(4);
      if (i < row_seconds.size()) {
        // A row of a prompt takes 1 ms, one more sequence of up to 8 what is given.
        for (const auto& [rows, seconds] : std::map<int, double>{
                 {1, 0.01}, {8, 0.01 + 7 * row_seconds[i]}, {32, 1}, {64, 1.032}}) {
          v1::WorkerStepCost& cost = *info.add_step_costs();
          cost.set_rows(rows);
          cost.set_seconds(seconds);
        }
        info.add_step_sequence_costs()->set_count(8);
      }
      stubs_[i]->SetInfo(info);
    }
    const auto set = Connect();
    const auto all_loaded = [](const std::vector<ReplicaExplanation>& replicas) {
      return std::all_of(replicas.begin(), replicas.end(), [](const ReplicaExplanation& replica) {
        return replica.load > 3.9 && replica.reason.rfind("holds ", 0) == 0;
      });
    };
    TickUntil(*set, Prompt(""), all_loaded);
    return set->Explain(Prompt(""), "")[0].reason;
  };
  // Four calls, and two bytes of the prompt itself.
  EXPECT_THAT(costs({}), HasSubstr("has 4 calls and 0 bytes to read: costs 4098 bytes"));
  EXPECT_THAT(costs({0.0005}), HasSubstr("costs 2050 bytes"));
  EXPECT_THAT(costs({0.002, 0.0005, 1}), HasSubstr("costs 8194 bytes"));
}

TEST_F(ReplicaWorkersTest, AHolderThatRefusesIsFollowedByAnother) {
  MakeStubs(2);
  const std::string query = RandomWords(8000);
  stubs_[0]->SetInfo(Holding(query));
  stubs_[1]->SetInfo(Holding(""));
  StubScript full;
  full.fail_after = 0;
  full.code = static_cast<int>(absl::StatusCode::kResourceExhausted);
  stubs_[0]->SetDefaults(full);
  const auto set = Connect();
  Settle(*set);
  EXPECT_THAT(Generate(*set, query)->attempts, testing::ElementsAre(addresses_[0], addresses_[1]));
}

TEST_F(ReplicaWorkersTest, HostileSummariesAreRefusedAndHarmless) {
  MakeStubs(2);
  NeverAnswer();
  const std::string query = RandomWords(4000);
  std::vector<v1::WorkerInfoResponse> hostile;
  for (const int bytes : {0, -256, 1}) {
    hostile.push_back(Holding(query));
    hostile.back().mutable_prefixes()->set_block_bytes(bytes);
  }
  hostile.push_back(Holding(query));
  std::reverse(hostile.back().mutable_prefixes()->mutable_blocks()->begin(),
               hostile.back().mutable_prefixes()->mutable_blocks()->end());
  hostile.push_back(Holding(query));
  hostile.back().mutable_prefixes()->clear_blocks();
  for (uint32_t i = 0; i < 100'000; ++i) hostile.back().mutable_prefixes()->add_blocks(i);
  for (const v1::WorkerInfoResponse& info : hostile) {
    stubs_[0]->SetInfo(info);
    stubs_[1]->SetInfo(Holding(""));
    const auto set = Connect();
    TickUntil(*set, Prompt(query), [](const std::vector<ReplicaExplanation>& replicas) {
      return replicas[0].reason.find("(a summary of prefixes ") != std::string::npos &&
             replicas[1].reason.rfind("holds ", 0) == 0 && replicas[0].load == 0 &&
             replicas[1].load == 0;
    });
    EXPECT_FALSE(set->has_failed()) << set->LastError();
    EXPECT_EQ(set->Explain(Prompt(query), "")[0].prefix_bytes, 0);
    std::vector<std::shared_ptr<Outcome>> outcomes;
    std::map<std::string, int> calls;
    for (int i = 0; i < 8; ++i) {
      outcomes.push_back(Start(*set, query));
      ++calls[outcomes.back()->attempts.at(0)];
    }
    EXPECT_GE(calls[addresses_[0]], 2);
    EXPECT_GE(calls[addresses_[1]], 2);
    for (const auto& outcome : outcomes) outcome->call->Cancel();
    for (const auto& outcome : outcomes) outcome->done.WaitForNotification();
  }
}

// Loads that cannot be are not believed, and prefixes still count.
TEST_F(ReplicaWorkersTest, LoadsThatCannotBeAreHarmless) {
  MakeStubs(3);
  const std::string query = RandomWords(4000);
  v1::WorkerInfoResponse liar = Holding("");
  liar.set_running(std::numeric_limits<int32_t>::max());
  liar.set_waiting(std::numeric_limits<int32_t>::max());
  liar.set_waiting_tokens(std::numeric_limits<int64_t>::min());
  liar.set_max_sequences(std::numeric_limits<int32_t>::max());
  stubs_[0]->SetInfo(liar);
  stubs_[1]->SetInfo(Holding(query));
  stubs_[2]->SetInfo(Holding(""));
  const auto set = Connect();
  TickUntil(*set, Prompt(query), [](const std::vector<ReplicaExplanation>& replicas) {
    return std::all_of(replicas.begin(), replicas.end(), [](const ReplicaExplanation& replica) {
      return replica.reason.rfind("holds ", 0) == 0;
    });
  });
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(Generate(*set, query)->attempts, testing::ElementsAre(addresses_[1]));
  }
}

}  // namespace
}  // namespace octogate::gateway
