// Answers limited to a grammar, from the protocol to the sampler and back, with a real (tiny) model
// that knows neither JSON nor SQL: what conforms, conforms by the grammar alone.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/server/worker_server_fixture.h"
#include "workers/grammar/compiled_grammar.h"
#include "workers/server/worker_grammar.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

v1::WorkerGrammar Json() {
  v1::WorkerGrammar grammar;
  grammar.mutable_json();
  return grammar;
}

v1::WorkerGrammar Rules(const std::string& text) {
  v1::WorkerGrammar grammar;
  grammar.set_ebnf(text);
  return grammar;
}

constexpr char kSchema[] = R"({
  "type": "object",
  "properties": {
    "city": {"type": "string", "maxLength": 6},
    "kind": {"enum": ["day", "week"]},
    "days": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 3}
  },
  "required": ["city", "kind"],
  "additionalProperties": false
})";

// By hand what kSchema says.
bool Conforms(const nlohmann::json& value) {
  if (!value.is_object() || !value.contains("city") || !value.contains("kind")) return false;
  for (const auto& [name, member] : value.items()) {
    if (name == "city") {
      if (!member.is_string()) return false;
    } else if (name == "kind") {
      if (member != "day" && member != "week") return false;
    } else if (name == "days") {
      if (!member.is_array() || member.size() > 3) return false;
      for (const auto& day : member) {
        // Integers beyond 64 bits are read as floating point.
        if (!day.is_number() || day.get<double>() < 0) return false;
      }
    } else {
      return false;
    }
  }
  return true;
}

// Nothing where a number is beyond the library's range.
std::optional<nlohmann::json> Parse(const std::string& text, bool* malformed) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::out_of_range&) {
    return std::nullopt;
  } catch (const nlohmann::json::exception&) {
    *malformed = true;
    return std::nullopt;
  }
}

// Where much is compiled on a busy machine.
constexpr absl::Duration kLong = absl::Seconds(200);

class WorkerServerGrammarTest : public WorkerServerTest {
 protected:
  v1::WorkerGenerateRequest Request(const v1::WorkerGrammar& grammar, int max_tokens,
                                    double temperature = 0) {
    v1::WorkerGenerateRequest request = WorkerServerTest::Request("The router", max_tokens);
    *request.mutable_grammar() = grammar;
    request.mutable_sampling()->set_temperature(temperature);
    request.mutable_sampling()->set_seed(seed_++);
    return request;
  }

  // The grammar for the model's vocabulary, made apart from the worker's.
  std::shared_ptr<const CompiledGrammar> Compile(const v1::WorkerGrammar& grammar) {
    const auto parsed = ParseWorkerGrammar(grammar);
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    auto trie = TokenTrie::Create(
        {.bytes = *Model().tokenizer->TokenBytes(), .end_ids = Model().config().eos_token_ids});
    EXPECT_TRUE(trie.ok()) << trie.status();
    auto compiled =
        CompiledGrammar::Compile(*parsed, std::make_shared<const TokenTrie>(*std::move(trie)));
    EXPECT_TRUE(compiled.ok()) << compiled.status();
    return *compiled;
  }

  // Ends that the model comes upon by chance: to it all tokens are much alike, and one that ends
  // the answer is rare.
  std::vector<std::string> ManyStopTokens() const {
    std::vector<std::string> tokens;
    for (int32_t id = 0; id < Model().tokenizer->vocab_size() && tokens.size() < 60; ++id) {
      const auto token = Model().tokenizer->Token(id);
      if (token.ok() && static_cast<uint8_t>(token->back()) >= 0x80) tokens.push_back(*token);
    }
    return tokens;
  }

  // Answers at high temperature: each that ended is right; each that was cut is the beginning of
  // one that is.
  void ExpectAllConform(const v1::WorkerGrammar& grammar, int rounds, int max_tokens,
                        const std::function<std::string(const std::string&)>& wrong) {
    SCOPED_TRACE(DescribeSeed(seed_));
    const auto compiled = Compile(grammar);
    const std::vector<std::string> stop_tokens = ManyStopTokens();
    std::vector<int32_t> stop_ids;
    for (const std::string& token : stop_tokens) {
      stop_ids.push_back(*Model().tokenizer->TokenId(token));
    }
    int ended = 0;
    int cut = 0;
    for (int round = 0; round < rounds; ++round) {
      const int length = round % 3 == 0 ? 10 : max_tokens;
      v1::WorkerGenerateRequest request = Request(grammar, length, 1 + 0.5 * (round % 3));
      request.mutable_stop_tokens()->Assign(stop_tokens.begin(), stop_tokens.end());
      const Answer answer = Generate(request);
      ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
      GrammarMatcher matcher(compiled);
      for (const int32_t id : answer.ids) {
        if (std::find(stop_ids.begin(), stop_ids.end(), id) != stop_ids.end()) {
          EXPECT_TRUE(matcher.IsComplete());
          EXPECT_EQ(id, answer.ids.back());
          break;
        }
        const absl::Status accepted = matcher.AcceptToken(id);
        ASSERT_TRUE(accepted.ok()) << accepted << " in " << answer.text;
      }
      if (answer.end.finish_reason() == v1::FINISH_REASON_STOP) {
        ++ended;
        EXPECT_TRUE(matcher.IsComplete());
        EXPECT_EQ(wrong(answer.text), "") << answer.text;
        continue;
      }
      ++cut;
      const auto rest = matcher.ShortestCompletion();
      ASSERT_TRUE(rest.ok()) << rest.status();
      std::string whole = answer.text;
      // A cut within a character leaves its bytes out of the text.
      if (const size_t broken = whole.rfind("\xEF\xBF\xBD");
          broken != std::string::npos && broken + 3 == whole.size()) {
        continue;
      }
      whole += *rest;
      EXPECT_EQ(wrong(whole), "") << whole;
    }
    EXPECT_GT(ended, 0);
    EXPECT_GT(cut, 0);
  }

  const GrammarCache& Grammars() const {
    return static_cast<const ModelService&>(server_->model()).grammars();
  }

  // Calls that were cancelled may still wait for a grammar, of which the engine knows nothing.
  void ExpectNothingLeft() {
    EXPECT_TRUE(Grammars().AwaitNoWaiters(absl::Now() + kLong));
    ExpectIdle();
  }

  uint64_t seed_ = FreshSeed();
};

TEST_F(WorkerServerGrammarTest, JsonParses) {
  ExpectAllConform(Json(), 60, 200, [](const std::string& text) {
    bool malformed = false;
    Parse(text, &malformed);
    return malformed ? "is not JSON" : "";
  });
}

TEST_F(WorkerServerGrammarTest, JsonConformsToItsSchema) {
  v1::WorkerGrammar grammar;
  grammar.set_json_schema(kSchema);
  ExpectAllConform(grammar, 60, 300, [](const std::string& text) {
    bool malformed = false;
    const auto value = Parse(text, &malformed);
    if (malformed) return "is not JSON";
    return !value.has_value() || Conforms(*value) ? "" : "does not conform";
  });
}

TEST_F(WorkerServerGrammarTest, SqliteReadsTheSql) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(":memory:", &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database,
                         "CREATE TABLE singer (id INTEGER, \"first name\" TEXT);"
                         "CREATE TABLE concert (id INTEGER, singer INTEGER)",
                         nullptr, nullptr, nullptr),
            SQLITE_OK);
  v1::WorkerGrammar grammar;
  for (const char* table : {"singer", "concert"}) grammar.mutable_sql()->add_tables(table);
  for (const char* column : {"id", "first name", "singer"}) {
    grammar.mutable_sql()->add_columns(column);
  }
  int prepared = 0;
  ExpectAllConform(grammar, 60, 200, [&](const std::string& text) -> std::string {
    sqlite3_stmt* statement = nullptr;
    const int code = sqlite3_prepare_v2(database, text.c_str(), static_cast<int>(text.size()),
                                        &statement, nullptr);
    const std::string message = code == SQLITE_OK ? "" : sqlite3_errmsg(database);
    sqlite3_finalize(statement);
    ++prepared;
    // A context-free grammar knows what exists, not what is in scope.
    for (const char* sign : {"syntax error", "incomplete input", "unrecognized token"}) {
      if (message.find(sign) != std::string::npos) return message;
    }
    return "";
  });
  sqlite3_close(database);
  EXPECT_GT(prepared, 0);
}

TEST_F(WorkerServerGrammarTest, AnswersAreTheSameAloneAndTogether) {
  SCOPED_TRACE(DescribeSeed(seed_));
  v1::WorkerGrammar schema;
  schema.set_json_schema(kSchema);
  std::vector<v1::WorkerGenerateRequest> requests;
  for (const v1::WorkerGrammar& grammar :
       {Json(), schema, Rules("answer ::= [a-z ]{5,30} \".\"")}) {
    for (int i = 0; i < 2; ++i) requests.push_back(Request(grammar, 25, 1));
  }
  requests.push_back(WorkerServerTest::Request("without", 25));
  std::vector<Answer> alone;
  for (const auto& request : requests) alone.push_back(Generate(request));
  std::vector<Answer> together(requests.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] { together[i] = Generate(requests[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(together[i].status.ok()) << together[i].status.error_message();
    EXPECT_EQ(together[i].ids, alone[i].ids) << i;
    EXPECT_EQ(together[i].logprob_sum, alone[i].logprob_sum) << i;
  }
}

TEST_F(WorkerServerGrammarTest, ProbabilitiesAreThoseOfTheModel) {
  // Where the grammar leaves one way, the answer is certain, and yet not probable.
  v1::WorkerGenerateRequest request = Request(Rules("answer ::= \"zzzz\""), 20);
  request.set_top_logprobs(3);
  const auto context = Context();
  auto reader = stub_->Generate(context.get(), request);
  v1::WorkerGenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  ASSERT_GT(message.logprobs_size(), 0);
  EXPECT_LT(message.logprobs(0).logprob(), -0.1);
  // The most probable tokens of the model, whether the grammar allows them or not.
  v1::WorkerGenerateRequest free = request;
  free.clear_grammar();
  const auto free_context = Context();
  auto free_reader = stub_->Generate(free_context.get(), free);
  v1::WorkerGenerateResponse free_message;
  ASSERT_TRUE(free_reader->Read(&free_message));
  ASSERT_GT(free_message.logprobs_size(), 0);
  ASSERT_EQ(message.logprobs(0).top_size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(message.logprobs(0).top(i).id(), free_message.logprobs(0).top(i).id());
    EXPECT_EQ(message.logprobs(0).top(i).logprob(), free_message.logprobs(0).top(i).logprob());
  }
  context->TryCancel();
  free_context->TryCancel();
  reader->Finish();
  free_reader->Finish();
}

TEST_F(WorkerServerGrammarTest, StopTextsAndStopTokensEndAnswers) {
  v1::WorkerGenerateRequest request = Request(Rules("answer ::= \"abc\" \"def\"{20}"), 60);
  request.add_stop("cd");
  const Answer stopped = Generate(request);
  ASSERT_TRUE(stopped.status.ok()) << stopped.status.error_message();
  EXPECT_EQ(stopped.text, "ab");
  EXPECT_EQ(stopped.end.stop_text(), "cd");

  // A stop token ends the answer where it is complete, and nowhere else.
  request = Request(Rules("answer ::= [a-z]{4}"), 60, 1);
  for (const char* token : {"<|end_header_id|>", "a", "e"}) request.add_stop_tokens(token);
  for (int i = 0; i < 20; ++i) {
    request.mutable_sampling()->set_seed(seed_++);
    const Answer answer = Generate(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.text.size(), 4u) << answer.text;
    for (size_t at = 0; at + 1 < answer.ids.size(); ++at) {
      for (const char* letter : {"a", "e"}) {
        EXPECT_NE(answer.ids[at], *Model().tokenizer->TokenId(letter)) << at << " " << answer.text;
      }
    }
  }
}

TEST_F(WorkerServerGrammarTest, WhatIsWrongWithAGrammarIsSaid) {
  const auto error_of = [this](const v1::WorkerGenerateRequest& request) {
    return Generate(request).status;
  };
  grpc::Status status = error_of(Request(Rules("answer ::= \"a\"\n  | )"), 5));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("grammar:2:5:"));
  status = error_of(Request(Rules("answer ::= answer \"a\""), 5));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("no text matches"));
  v1::WorkerGrammar schema;
  schema.set_json_schema(R"({"type": "array", "items": {"type": "number", "multipleOf": 3}})");
  status = error_of(Request(schema, 5));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("multipleOf"));
  status = error_of(Request({}, 5));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  v1::WorkerGenerateRequest request = Request(Json(), 5);
  request.add_first_token_choices("<|eot_id|>");
  status = error_of(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("first_token_choices"));
  // The next request is not concerned.
  EXPECT_TRUE(Generate(Request(Json(), 5)).status.ok());
}

// So many rules at once that one mask takes more than it may.
std::string TooManyWays() {
  std::string text = "answer ::= r0";
  for (int i = 1; i < 3000; ++i) text += " | r" + std::to_string(i);
  for (int i = 0; i < 3000; ++i) {
    text += "\nr" + std::to_string(i) + " ::= [ -~]* [" +
            std::string(1, static_cast<char>('a' + i % 26)) + "-z] [ -~]{" +
            std::to_string(20 + i % 7) + "}";
  }
  return text;
}

TEST_F(WorkerServerGrammarTest, HostileGrammarsHurtThemselvesOnly) {
  SCOPED_TRACE(DescribeSeed(seed_));
  const v1::WorkerGenerateRequest normal = Request(Json(), 40, 1);
  const Answer alone = Generate(normal, kLong);
  ASSERT_TRUE(alone.status.ok()) << alone.status.error_message();
  const std::vector<std::string> hostile = {
      TooManyWays(), "answer ::= answer answer | answer answer answer | [a-z ] | \"\"",
      "answer ::= ((([a-z]{1000}){1000}){1000}){1000}", "answer ::= [ -~]* \"a\" [ -~]{5000}"};
  std::vector<Answer> hostile_answers(hostile.size());
  std::vector<Answer> answers(3);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < hostile.size(); ++i) {
    threads.emplace_back(
        [&, i] { hostile_answers[i] = Generate(Request(Rules(hostile[i]), 200, 1), kLong); });
  }
  for (Answer& answer : answers) threads.emplace_back([&] { answer = Generate(normal, kLong); });
  for (std::thread& thread : threads) thread.join();
  for (const Answer& answer : answers) {
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.ids, alone.ids);
  }
  int exhausted = 0;
  for (size_t i = 0; i < hostile.size(); ++i) {
    const grpc::Status& status = hostile_answers[i].status;
    if (status.ok()) continue;
    ++exhausted;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  }
  EXPECT_GE(exhausted, 2);
  ExpectNothingLeft();
}

TEST_F(WorkerServerGrammarTest, AGrammarIsCompiledOnceForAll) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back(
        [&, request = Request(Json(), 5)] { EXPECT_TRUE(Generate(request).status.ok()); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Grammars().stats().compiled, 1u);
  EXPECT_EQ(Grammars().stats().found, 5u);
}

TEST_F(WorkerServerGrammarTest, SessionsKeepToGrammarsToo) {
  const v1::WorkerGenerateRequest request = Request(Json(), 20, 1);
  const Answer expected = Generate(request);
  const auto context = Context();
  auto stream = stub_->Session(context.get());
  v1::WorkerSessionRequest message;
  v1::WorkerSessionCommand& command = *message.add_commands();
  command.set_call_id(1);
  *command.mutable_start()->mutable_request() = request;
  v1::WorkerSessionCommand& bad = *message.add_commands();
  bad.set_call_id(2);
  *bad.mutable_start()->mutable_request() = Request(Rules("answer ::= ("), 20);
  ASSERT_TRUE(stream->Write(message));
  std::vector<int32_t> ids;
  int ends = 0;
  v1::WorkerSessionResponse response;
  while (ends < 2 && stream->Read(&response)) {
    for (const v1::WorkerSessionEvent& event : response.events()) {
      ids.insert(ids.end(), event.message().ids().begin(), event.message().ids().end());
      if (!event.has_end()) continue;
      ++ends;
      EXPECT_EQ(event.end().code(), event.call_id() == 1 ? 0 : grpc::StatusCode::INVALID_ARGUMENT)
          << event.end().message();
    }
  }
  EXPECT_EQ(ids, expected.ids);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(WorkerServerGrammarTest, CallsThatWaitForAGrammarCanBeCancelled) {
  for (int round = 0; round < 5; ++round) {
    const auto context = Context(kLong);
    v1::WorkerGenerateRequest request =
        Request(Rules(TooManyWays() + "\n# " + std::to_string(round)), kContext - 20);
    auto reader = stub_->Generate(context.get(), request);
    context->TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  ExpectNothingLeft();
  EXPECT_TRUE(Generate(Request(Json(), 5), kLong).status.ok());
}

TEST_F(WorkerServerGrammarTest, DrainingWaitsForWhatWaitsForItsGrammar) {
  absl::Notification done;
  absl::Status ended = absl::UnknownError("no end");
  const auto started = server_->model().Generate(
      Request(Rules("answer ::= \"ab\"{1,9}"), 3), absl::Now() + kLong,
      [](const v1::WorkerGenerateResponse&) {},
      [&](const absl::Status& status) {
        ended = status;
        done.Notify();
      });
  ASSERT_TRUE(started.ok()) << started.status();
  const absl::Status drained = server_->model().Drain(absl::Now() + kLong);
  EXPECT_TRUE(drained.ok()) << drained;
  ASSERT_TRUE(done.WaitForNotificationWithTimeout(kLong));
  EXPECT_TRUE(ended.ok()) << "it was under way: " << ended;
  // Both a grammar that is there and one that would have to be compiled.
  for (const char* text : {"answer ::= \"ab\"{1,9}", "answer ::= \"new\""}) {
    EXPECT_EQ(Generate(Request(Rules(text), 3), kLong).status.error_code(),
              grpc::StatusCode::UNAVAILABLE);
  }
}

}  // namespace
}  // namespace octogate::workers
