// Which courses of queries are kept, and what becomes of those who wait for them.
#include "gateway/cache/answer_recorder.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

namespace octogate::gateway {
namespace {

enum class Waiting { kStill, kAnswered, kAlone, kLeads };

class AnswerRecorderTest : public testing::Test {
 protected:
  AnswerRecorderTest() {
    v1::GraphSpec spec;
    spec.mutable_cache()->mutable_answers()->set_max_entries(10);
    spec.mutable_cache()->mutable_answers()->set_expires_after_ms(3'600'000);
    graph_->caches = std::make_shared<QueryCaches>(spec);
    model_.set_name("talk");
    model_.mutable_model()->set_model("m");
  }

  // Runs a course with somebody who waits, and returns whether its answer was kept.
  bool Keeps(const std::function<void(AnswerRecorder&)>& course) {
    graph_->caches->answers.Flush("");
    waiting_ = Waiting::kStill;
    AnswerFlights& flights = *graph_->caches->answer_flights;
    AnswerFlights::Joined leader = flights.Join("k", nullptr);
    flights.Join("k", [this](const AnswerCache::Alike& found, const AnswerFlights::Lead& lead) {
      waiting_ = found.answer != nullptr ? Waiting::kAnswered
                 : lead                  ? Waiting::kLeads
                                         : Waiting::kAlone;
    });
    {
      AnswerRecorder recorder(graph_, key_, drained_, {}, graph_->caches->answers.epoch(),
                              std::move(leader.lead));
      course(recorder);
    }
    return graph_->caches->answers.Peek(key_) != nullptr;
  }
  static void Say(AnswerRecorder& recorder, const std::string& text) {
    v1::GenerateResponse event;
    event.mutable_tokens()->set_text(text);
    event.mutable_tokens()->add_ids(static_cast<int>(text.size()));
    recorder.OnEvent(event);
  }
  static void End(AnswerRecorder& recorder, const absl::Status& status = absl::OkStatus()) {
    v1::GenerateResponse finished;
    finished.mutable_finished()->set_node("talk");
    finished.mutable_finished()->set_finish_reason(v1::FINISH_REASON_STOP);
    recorder.OnDone(status, finished);
  }
  void Run(AnswerRecorder& recorder) {
    recorder.OnNode(model_, request_);
    Say(recorder, "a");
    Say(recorder, "bc");
    recorder.OnNodeLeft(absl::OkStatus(), v1::FINISH_REASON_STOP);
  }

  const std::shared_ptr<GraphState> graph_ = std::make_shared<GraphState>();
  const AnswerKey key_{.tenant = "t", .rest = "t", .query = "q"};
  const std::shared_ptr<const DrainList::Names> drained_ =
      std::make_shared<const DrainList::Names>(DrainList::Names{"old"});
  v1::Node model_;
  v1::GenerateRequest request_;
  Waiting waiting_ = Waiting::kStill;
};

TEST_F(AnswerRecorderTest, AWholeAnswerIsKeptAndGivenToWhoWaits) {
  EXPECT_TRUE(Keeps([&](AnswerRecorder& recorder) {
    recorder.OnRoute({"old"});
    recorder.OnDecision(v1::Decision());
    Run(recorder);
    End(recorder);
  }));
  EXPECT_EQ(waiting_, Waiting::kAnswered);
  const auto answer = graph_->caches->answers.Peek(key_);
  EXPECT_EQ(answer->tokens.text(), "abc");
  EXPECT_EQ(answer->tokens.ids_size(), 2);
  EXPECT_EQ(answer->tokens.node(), "talk");
  EXPECT_EQ(answer->first_node, "talk");
  EXPECT_EQ(answer->query, "q");
}

TEST_F(AnswerRecorderTest, WhereItsClientIsBehindOthersRunAndItIsKept) {
  EXPECT_TRUE(Keeps([&](AnswerRecorder& recorder) {
    recorder.OnNode(model_, request_);
    Say(recorder, "a");
    recorder.Release();
    EXPECT_EQ(waiting_, Waiting::kAlone);
    recorder.OnNodeLeft(absl::OkStatus(), v1::FINISH_REASON_STOP);
    End(recorder);
  }));
}

TEST_F(AnswerRecorderTest, WhatWasUnderWayAtAFlushIsNotKept) {
  EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) {
    Run(recorder);
    graph_->caches->answers.Flush("");
    End(recorder);
  }));
  EXPECT_EQ(waiting_, Waiting::kAnswered);  // it had come before the flush
}

TEST_F(AnswerRecorderTest, WhatWasRoutedWithOtherNodesDrainedIsNotKept) {
  EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) {
    recorder.OnRoute({"new", "old"});
    Run(recorder);
    End(recorder);
  }));
  EXPECT_EQ(waiting_, Waiting::kAlone);
}

TEST_F(AnswerRecorderTest, WhatAnotherKindOfNodeSaysIsNotKept) {
  v1::Node tool, retriever, sql, choice, vote, verify;
  tool.mutable_tool();
  retriever.mutable_retriever();
  sql.mutable_sql();
  choice.mutable_choice();
  vote.mutable_vote();
  verify.mutable_verify();
  for (const v1::Node* node : {&tool, &retriever, &sql, &choice, &vote, &verify}) {
    EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) {
      Run(recorder);
      recorder.OnNode(*node, request_);
      // Who waits does not wait for the end of it.
      EXPECT_EQ(waiting_, Waiting::kAlone);
      End(recorder);
    }));
  }
  v1::Node names;
  names.mutable_model()->mutable_grammar()->mutable_sql();
  EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) {
    recorder.OnNode(names, request_);
    End(recorder);
  }));
}

TEST_F(AnswerRecorderTest, WhatFailedOnTheWayIsNotKept) {
  EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) {
    recorder.OnNode(model_, request_);
    recorder.OnNodeLeft(absl::UnavailableError("no worker"), v1::FINISH_REASON_STOP);
    Run(recorder);  // An edge has led on.
    End(recorder);
  }));
  EXPECT_EQ(waiting_, Waiting::kAlone);
  v1::Decision decision;
  decision.add_heads()->set_error("UNAVAILABLE");
  EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) {
    recorder.OnDecision(decision);
    Run(recorder);
    End(recorder);
  }));
}

TEST_F(AnswerRecorderTest, WhereTheQueryFailsOrIsGoneAnotherLeads) {
  EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) {
    Run(recorder);
    End(recorder, absl::CancelledError("gone"));
  }));
  EXPECT_EQ(waiting_, Waiting::kLeads);
  EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) { Run(recorder); }));
  EXPECT_EQ(waiting_, Waiting::kLeads);
}

TEST_F(AnswerRecorderTest, WhatIsCutOrTooLongIsNotKept) {
  EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) {
    recorder.OnNode(model_, request_);
    recorder.OnNodeLeft(absl::OkStatus(), v1::FINISH_REASON_LENGTH);
    End(recorder);
  }));
  EXPECT_FALSE(Keeps([&](AnswerRecorder& recorder) {
    recorder.OnNode(model_, request_);
    for (int i = 0; i < 11; ++i) Say(recorder, std::string(100'000, 'x'));
    recorder.OnNodeLeft(absl::OkStatus(), v1::FINISH_REASON_STOP);
    End(recorder);
  }));
  EXPECT_EQ(waiting_, Waiting::kAlone);
}

}  // namespace
}  // namespace octogate::gateway
