#include "workers/engine/engine.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/test_models.h"
#include "tests/workers/model/test_folder.h"
#include "workers/engine/generate.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(100);

GenerateRequest Request(std::vector<int32_t> prompt, int max_tokens) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  return request;
}

// Collects the events of one request.
class Collector {
 public:
  Engine::EventCallback callback() {
    return [this](const GenerateEvent& event) {
      absl::MutexLock lock(&mutex_);
      events_.push_back(event);
    };
  }

  // All events, once the last has come.
  std::vector<GenerateEvent> Wait() {
    absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(this, &Collector::Ended), kLong));
    return events_;
  }
  void WaitForFirst() {
    absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(this, &Collector::Begun), kLong));
  }

 private:
  bool Begun() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !events_.empty(); }
  bool Ended() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !events_.empty() && events_.back().finish != FinishReason::kNone;
  }

  absl::Mutex mutex_;
  std::vector<GenerateEvent> events_ ABSL_GUARDED_BY(mutex_);
};

class EngineTest : public ::testing::Test {
 protected:
  std::unique_ptr<Engine> Make(const EngineOptions& options = {}) {
    return MakeEngine(FixturePath("llama"), options);
  }
};

TEST_F(EngineTest, StreamsTokensAndEndsWithTheSums) {
  const auto engine = Make();
  Collector collector;
  GenerateRequest request = Request({1, 20, 30}, 5);
  request.score_first_tokens = {4, 5};
  request.sampling.logprobs = 2;
  ASSERT_TRUE(engine->Submit(request, collector.callback()).ok());
  const std::vector<GenerateEvent> events = collector.Wait();
  std::vector<int32_t> ids;
  for (size_t i = 0; i < events.size(); ++i) {
    ids.insert(ids.end(), events[i].ids.begin(), events[i].ids.end());
    EXPECT_EQ(events[i].logprobs.size(), events[i].ids.size());
    EXPECT_EQ(events[i].first_scores.logits.size(), i == 0 ? 2u : 0u);
    EXPECT_EQ(events[i].finish == FinishReason::kNone, i + 1 < events.size());
  }
  EXPECT_EQ(ids.size(), 5u);
  // Greedy: the chosen token is the most probable one.
  EXPECT_EQ(events[0].logprobs[0].top[0].id, ids[0]);
  EXPECT_EQ(events[0].logprobs[0].top[0].logprob, events[0].logprobs[0].logprob);
  const GenerateEvent& last = events.back();
  EXPECT_EQ(last.finish, FinishReason::kLength);
  EXPECT_TRUE(last.status.ok());
  EXPECT_EQ(last.usage.prompt_tokens, 3);
  EXPECT_EQ(last.usage.generated_tokens, 5);
  EXPECT_GE(last.timings.queue, absl::ZeroDuration());
  EXPECT_GT(last.timings.prefill, absl::ZeroDuration());
  EXPECT_GT(last.timings.decode, absl::ZeroDuration());
}

TEST_F(EngineTest, RefusesMalformedRequestsSayingWhy) {
  const auto engine = Make({.max_context = 32});
  const auto refuse = [&](const GenerateRequest& request, absl::StatusCode code,
                          const std::string& words) {
    const auto result = engine->Submit(request, [](const GenerateEvent&) { ADD_FAILURE(); });
    EXPECT_EQ(result.status().code(), code);
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(words));
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  refuse(Request({}, 1), invalid, "prompt is empty");
  refuse(Request({-1}, 1), invalid, "prompt[0] is -1");
  refuse(Request({1, 1 << 30}, 1), invalid, "prompt[1]");
  refuse(Request({1}, 0), invalid, "max_tokens");
  refuse(Request(std::vector<int32_t>(32, 1), 1), absl::StatusCode::kOutOfRange,
         "has 32 tokens; the context of 32 tokens leaves room for prompts of at most 31");
  refuse(Request(std::vector<int32_t>(1 << 20, 1), 1), absl::StatusCode::kOutOfRange,
         "has 1048576 tokens");
  GenerateRequest request = Request({1}, 4);
  request.deadline = absl::Now() - absl::Seconds(1);
  refuse(request, absl::StatusCode::kDeadlineExceeded, "deadline");
  request = Request({1}, 4);
  request.stop = {""};
  refuse(request, invalid, "stop[0]");
  request = Request({1}, 4);
  request.sampling.top_p = 2;
  refuse(request, invalid, "top_p");
  request = Request({1}, 2);
  request.generated_prefix = {5, 6};
  refuse(request, invalid, "generated_prefix");
  request = Request({1}, 4);
  request.generated_prefix = {5, 6};
  request.stop_token_ids = {6};
  refuse(request, invalid, "stop token 6");
  EXPECT_EQ(engine->stats().requests_refused, 11u);
  EXPECT_EQ(engine->stats().requests_accepted, 0u);
}

TEST_F(EngineTest, AnswerEndsWithTheContext) {
  const auto engine = Make({.max_context = 20});
  const auto answer = Generate(*engine, Request(std::vector<int32_t>(15, 9), 100));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->finish, FinishReason::kLength);
  EXPECT_EQ(answer->ids.size(), 5u);
}

TEST_F(EngineTest, ContextIsWhatTheKvCacheHolds) {
  const auto engine = Make({.page_size = 4, .kv_tokens = 20});
  EXPECT_EQ(engine->context(), 20);
  const auto answer = Generate(*engine, Request(std::vector<int32_t>(15, 9), 100));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->ids.size(), 5u);
}

TEST_F(EngineTest, FullQueueIsRefusedWithAHintWhenToTryAgain) {
  const auto engine = Make({.max_sequences = 1, .max_waiting = 2});
  // The callback of the first request holds the engine's thread until the queue is full.
  absl::Notification release;
  Collector first;
  const auto record = first.callback();
  ASSERT_TRUE(engine
                  ->Submit(Request({1}, 3),
                           [&](const GenerateEvent& event) {
                             record(event);
                             release.WaitForNotification();
                           })
                  .ok());
  first.WaitForFirst();
  Collector second;
  Collector third;
  EXPECT_TRUE(engine->Submit(Request({1}, 1), second.callback()).ok());
  EXPECT_TRUE(engine->Submit(Request({1}, 1), third.callback()).ok());
  const auto refused = engine->Submit(Request({1}, 1), [](const GenerateEvent&) { FAIL(); });
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GT(RetryAfter(refused.status()), absl::ZeroDuration());
  EXPECT_EQ(engine->stats().waiting, 2);
  EXPECT_EQ(engine->stats().waiting_tokens, 2);
  release.Notify();
  first.Wait();
  second.Wait();
  third.Wait();
  EXPECT_EQ(RetryAfter(absl::OkStatus()), absl::ZeroDuration());
}

TEST_F(EngineTest, CancelledSequenceFreesItsPages) {
  const auto engine = Make();
  Collector collector;
  absl::Mutex mutex;
  std::shared_ptr<Generation> generation;
  const auto record = collector.callback();
  {
    absl::MutexLock lock(&mutex);
    auto submitted = engine->Submit(Request({1}, 100), [&](const GenerateEvent& event) {
      record(event);
      // The first event already cancels, so that at most the next one is the last.
      absl::MutexLock lock(&mutex);
      generation->Cancel();
    });
    ASSERT_TRUE(submitted.ok());
    generation = *submitted;
  }
  const std::vector<GenerateEvent> events = collector.Wait();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].finish, FinishReason::kCancelled);
  EXPECT_EQ(events[1].status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(events[1].usage.generated_tokens, 1);
  EXPECT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(engine->stats().pages_used, 0);
  EXPECT_EQ(engine->stats().waiting_tokens, 0);
}

TEST_F(EngineTest, DeadlineEndsWhatRunsAndWhatWaits) {
  const auto engine = Make({.max_sequences = 1});
  const absl::Time deadline = absl::Now() + absl::Milliseconds(200);
  Collector running;
  Collector waiting;
  const auto record = running.callback();
  GenerateRequest request = Request({1}, 400);
  request.deadline = deadline;
  // The first event holds the engine's thread until the deadline has passed.
  ASSERT_TRUE(engine
                  ->Submit(request,
                           [&](const GenerateEvent& event) {
                             record(event);
                             absl::SleepFor(deadline - absl::Now());
                           })
                  .ok());
  ASSERT_TRUE(engine->Submit(request, waiting.callback()).ok());
  for (Collector* collector : {&running, &waiting}) {
    const std::vector<GenerateEvent> events = collector->Wait();
    EXPECT_EQ(events.back().finish, FinishReason::kDeadline);
    EXPECT_EQ(events.back().status.code(), absl::StatusCode::kDeadlineExceeded);
  }
  EXPECT_THAT(std::string(waiting.Wait().back().status.message()), HasSubstr("waiting"));
}

TEST_F(EngineTest, DrainRefusesWhatIsNewAndFinishesWhatRuns) {
  const auto engine = Make();
  Collector collector;
  ASSERT_TRUE(engine->Submit(Request({1}, 20), collector.callback()).ok());
  EXPECT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(collector.Wait().back().finish, FinishReason::kLength);
  EXPECT_EQ(engine->Submit(Request({1}, 1), [](const GenerateEvent&) {}).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(EngineTest, DestructionEndsEveryRequestExactlyOnce) {
  std::vector<Collector> collectors(10);
  {
    const auto engine = Make({.max_sequences = 2});
    for (Collector& collector : collectors) {
      ASSERT_TRUE(engine->Submit(Request({1}, 400), collector.callback()).ok());
    }
  }
  for (Collector& collector : collectors) {
    const std::vector<GenerateEvent> events = collector.Wait();
    EXPECT_EQ(std::count_if(
                  events.begin(), events.end(),
                  [](const GenerateEvent& event) { return event.finish != FinishReason::kNone; }),
              1);
  }
}

TEST_F(EngineTest, StopTokenEndsTheAnswer) {
  const auto engine = Make();
  const auto whole = Generate(*engine, Request({1, 7, 9}, 20));
  ASSERT_TRUE(whole.ok());
  GenerateRequest request = Request({1, 7, 9}, 20);
  request.stop_token_ids = {whole->ids[10]};
  const auto stopped = Generate(*engine, request);
  ASSERT_TRUE(stopped.ok());
  const auto end = std::find(whole->ids.begin(), whole->ids.end(), whole->ids[10]) + 1;
  EXPECT_EQ(stopped->ids, std::vector<int32_t>(whole->ids.begin(), end));
  EXPECT_EQ(stopped->finish, FinishReason::kStop);
  EXPECT_EQ(stopped->text, engine->tokenizer()->Decode(
                               absl::MakeConstSpan(stopped->ids).first(stopped->ids.size() - 1),
                               /*skip_special_tokens=*/true));
}

// A random model's answer is mostly not UTF-8; the text is nevertheless, and it is the same as that
// of all ids at once.
TEST_F(EngineTest, TextIsThatOfAllIdsAndEveryPieceIsUtf8) {
  const auto engine = Make();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Collector collector;
    GenerateRequest request = Request({1, 7, 9}, 60);
    request.sampling.temperature = 2;
    request.sampling.seed = seed;
    ASSERT_TRUE(engine->Submit(request, collector.callback()).ok());
    std::string text;
    std::vector<int32_t> ids;
    for (const GenerateEvent& event : collector.Wait()) {
      EXPECT_NO_THROW(nlohmann::json(event.text).dump()) << "a piece is not UTF-8";
      text += event.text;
      ids.insert(ids.end(), event.ids.begin(), event.ids.end());
    }
    EXPECT_EQ(text, engine->tokenizer()->Decode(ids, /*skip_special_tokens=*/true));
  }
}

TEST_F(EngineTest, StopStringsCutTheTextWhereverTokensEnd) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto engine = Make();
  GenerateRequest request = Request({1, 7, 9}, 80);
  request.sampling.temperature = 1;
  int across_tokens = 0;
  for (uint64_t trial = 0; trial < 40; ++trial) {
    request.stop.clear();
    request.sampling.seed = trial;
    const auto whole = Generate(*engine, request);
    ASSERT_TRUE(whole.ok());
    // A stop string from the middle of the text, at character borders.
    const auto is_border = [&](size_t i) {
      return i == whole->text.size() || (whole->text[i] & 0xC0) != 0x80;
    };
    if (whole->text.size() < 20) continue;
    size_t begin = random() % (whole->text.size() - 8);
    size_t end = begin + 2 + random() % 6;
    while (!is_border(begin)) --begin;
    while (!is_border(end)) ++end;
    request.stop = {whole->text.substr(begin, end - begin)};
    const auto stopped = Generate(*engine, request);
    ASSERT_TRUE(stopped.ok());
    EXPECT_EQ(stopped->finish, FinishReason::kStopString);
    EXPECT_EQ(stopped->text, whole->text.substr(0, whole->text.find(request.stop[0])));
    EXPECT_TRUE(std::equal(stopped->ids.begin(), stopped->ids.end(), whole->ids.begin()));
    across_tokens += stopped->ids.size() < whole->ids.size() ? 1 : 0;
  }
  EXPECT_GT(across_tokens, 0);
}

TEST_F(EngineTest, AnAnswerGoesOnAfterAPrefixAsIfItHadNotBeenInterrupted) {
  const auto engine = Make();
  GenerateRequest request = Request({1, 7, 9}, 40);
  request.sampling.temperature = 1;
  request.sampling.repetition_penalty = 1.3f;
  request.sampling.frequency_penalty = 0.2f;
  request.sampling.seed = 11;
  Collector collector;
  ASSERT_TRUE(engine->Submit(request, collector.callback()).ok());
  const std::vector<GenerateEvent> events = collector.Wait();
  std::vector<int32_t> ids;
  std::string text;
  for (const GenerateEvent& event : events) {
    ids.insert(ids.end(), event.ids.begin(), event.ids.end());
    text += event.text;
  }
  std::string delivered;
  for (size_t cut = 1; cut + 1 < ids.size(); ++cut) {
    delivered += events[cut - 1].text;
    if (cut % 7 != 0) continue;
    const auto border = ids.begin() + static_cast<ptrdiff_t>(cut);
    request.generated_prefix.assign(ids.begin(), border);
    const auto rest = Generate(*engine, request);
    ASSERT_TRUE(rest.ok()) << rest.status();
    EXPECT_EQ(rest->ids, std::vector<int32_t>(border, ids.end()));
    EXPECT_EQ(delivered + rest->text, text);
  }
}

TEST_F(EngineTest, ScoresAreThoseOfTheFirstToken) {
  const auto engine = Make();
  const std::vector<int32_t> prompt = {1, 50, 60, 70};
  const auto scores = engine->NextTokenLogits(prompt, {3, 9, 27}, absl::Now() + kLong);
  ASSERT_TRUE(scores.ok()) << scores.status();
  ASSERT_EQ(scores->logits.size(), 3u);
  Collector collector;
  GenerateRequest request = Request(prompt, 1);
  request.sampling.logprobs = 100;
  request.score_first_tokens = {3, 9, 27};
  ASSERT_TRUE(engine->Submit(request, collector.callback()).ok());
  const GenerateEvent event = collector.Wait()[0];
  EXPECT_EQ(event.first_scores.logits, scores->logits);
  EXPECT_EQ(event.first_scores.log_sum_exp, scores->log_sum_exp);
  for (const TokenLogprob& top : event.logprobs[0].top) {
    if (top.id == 9) {
      EXPECT_EQ(top.logprob, scores->logits[1] - scores->log_sum_exp);
    }
  }
  EXPECT_EQ(engine->NextTokenLogits({}, {1}, absl::Now() + kLong).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->NextTokenLogits({1}, {-3}, absl::Now() + kLong).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->NextTokenLogits({1}, {1}, absl::InfinitePast()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(EngineTest, EmbeddingDoesNotDependOnChunks) {
  std::mt19937 random(5);
  const auto whole = Make({.max_sequences = 1, .max_rows_per_step = 256});
  const auto chunked = Make({.max_sequences = 2, .max_rows_per_step = 7});
  const auto ids = RandomIds(random, 100, whole->config().vocab_size);
  const auto a = whole->Embed(ids, absl::Now() + kLong);
  const auto b = chunked->Embed(ids, absl::Now() + kLong);
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_EQ(a->size(), static_cast<size_t>(whole->config().hidden_size));
  EXPECT_EQ(*a, *b);
  EXPECT_TRUE(std::any_of(a->begin(), a->end(), [](float value) { return value != 0; }));
}

// A Llama of one layer with one head.
void WriteModelWithHeadDim(const TestFolder& folder, int head_dim) {
  constexpr int kWidth = 2;
  constexpr int kVocab = 3;
  folder.Write("config.json", nlohmann::json{{"model_type", "llama"},
                                             {"architectures", {"LlamaForCausalLM"}},
                                             {"hidden_size", kWidth},
                                             {"intermediate_size", kWidth},
                                             {"num_hidden_layers", 1},
                                             {"num_attention_heads", 1},
                                             {"head_dim", head_dim},
                                             {"vocab_size", kVocab},
                                             {"max_position_embeddings", 8}}
                                  .dump());
  std::vector<TestTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    tensors.push_back(
        {name, DType::kF32, std::move(shape), std::string(static_cast<size_t>(count) * 4, '\0')});
  };
  add("model.embed_tokens.weight", {kVocab, kWidth});
  add("lm_head.weight", {kVocab, kWidth});
  add("model.norm.weight", {kWidth});
  const std::string layer = "model.layers.0.";
  for (const char* name : {"input_layernorm", "post_attention_layernorm"}) {
    add(layer + name + ".weight", {kWidth});
  }
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
    add(layer + "self_attn." + name + ".weight", {head_dim, kWidth});
  }
  add(layer + "self_attn.o_proj.weight", {kWidth, head_dim});
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    add(layer + "mlp." + name + ".weight", {kWidth, kWidth});
  }
  folder.Write("model.safetensors", BuildSafetensors(tensors));
}

TEST_F(EngineTest, RefusesHeadsThatTheKernelsCannotCompute) {
  const auto create = [](int head_dim) {
    const TestFolder folder;
    WriteModelWithHeadDim(folder, head_dim);
    return Engine::Create(OpenCheckpoint(folder.path()), nullptr, kernels::MakeCpuBackend(),
                          {.kv_tokens = 8})
        .status();
  };
  EXPECT_TRUE(create(kernels::kMaxHeadDim).ok()) << create(kernels::kMaxHeadDim);
  const absl::Status status = create(kernels::kMaxHeadDim + 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the head dimension is 1026"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("at most 1024"));
}

TEST_F(EngineTest, RefusesAModelThatDoesNotFitWithTheNumbers) {
  const auto create = [](const EngineOptions& options) {
    return Engine::Create(OpenCheckpoint(FixturePath("llama")), nullptr, kernels::MakeCpuBackend(),
                          options)
        .status();
  };
  const uint64_t weights = OpenCheckpoint(FixturePath("llama"))->weight_bytes();
  absl::Status status = create({.memory_limit_bytes = weights / 2});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no KV cache would fit"));
  status = create({.kv_tokens = 1 << 30, .memory_limit_bytes = weights + (8 << 20)});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("would fit"));
  EXPECT_EQ(create({.max_sequences = 0}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({.max_sequences = 8, .max_rows_per_step = 4}).code(),
            absl::StatusCode::kInvalidArgument);
}

// Stored weights with NaN in the embedding of one token: requests that use it fail, others do not.
TEST_F(EngineTest, BrokenSequenceDoesNotHurtItsNeighbours) {
  TestFolder folder;
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    std::filesystem::copy_file(FixturePath("llama") / name, folder.path() / name);
  }
  std::ifstream file(FixturePath("llama") / "model.safetensors", std::ios::binary);
  std::stringstream contents;
  contents << file.rdbuf();
  std::string bytes = contents.str();
  const auto header = ParseSafetensorsHeader(std::as_bytes(std::span(bytes)), bytes.size(), "test");
  ASSERT_TRUE(header.ok()) << header.status();
  constexpr int32_t kBroken = 77;
  for (const SafetensorsHeader::Entry& entry : header->entries) {
    if (entry.name != "model.embed_tokens.weight") continue;
    ASSERT_EQ(entry.dtype, DType::kF32);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const size_t row_bytes = static_cast<size_t>(entry.shape[1]) * sizeof(float);
    std::memcpy(&bytes[header->data_offset + entry.begin + kBroken * row_bytes], &nan, sizeof nan);
  }
  folder.Write("model.safetensors", bytes);

  const auto intact = Make();
  const auto broken = MakeEngine(folder.path(), {});
  ASSERT_NE(broken, nullptr);
  std::vector<Collector> collectors(8);
  for (size_t i = 0; i < collectors.size(); ++i) {
    const int32_t second = i % 2 == 1 ? kBroken : static_cast<int32_t>(40 + i);
    ASSERT_TRUE(broken->Submit(Request({1, second, 5}, 30), collectors[i].callback()).ok());
  }
  for (size_t i = 0; i < collectors.size(); ++i) {
    const std::vector<GenerateEvent> events = collectors[i].Wait();
    if (i % 2 == 1) {
      EXPECT_EQ(events.back().finish, FinishReason::kError);
      EXPECT_EQ(events.back().status.code(), absl::StatusCode::kDataLoss);
      continue;
    }
    std::vector<int32_t> ids;
    for (const GenerateEvent& event : events) {
      ids.insert(ids.end(), event.ids.begin(), event.ids.end());
    }
    const auto expected = Generate(*intact, Request({1, static_cast<int32_t>(40 + i), 5}, 30));
    ASSERT_TRUE(expected.ok());
    if (std::find(ids.begin(), ids.end(), kBroken) == ids.end()) {
      EXPECT_EQ(ids, expected->ids);
    }
  }
  // The last event comes before the step that gives the pages back has ended.
  const absl::Time give_up = absl::Now() + absl::Seconds(30);
  while (broken->stats().pages_used != 0 && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(broken->stats().pages_used, 0);
}

// Pages of replicas with other numbers of threads have the same bits, and are shared; those of
// other activations have not.
TEST(EnginePageFormatTest, DoesNotDependOnThreads) {
  const auto format = [](const kernels::CpuBackendOptions& cpu) {
    std::string description;
    EngineOptions options;
    options.make_page_store = [&](const PageFormat& made_for) {
      description = made_for.description;
      return std::unique_ptr<PageStore>();
    };
    const auto engine =
        Engine::Create(OpenCheckpoint(FixturePath("llama")), OpenTokenizer(FixturePath("llama")),
                       kernels::MakeCpuBackend(cpu), options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return description;
  };
  for (const auto activations : {kernels::Activations::kF32, kernels::Activations::kBF16Pairs}) {
    const std::string one = format({.threads = 1, .activations = activations});
    EXPECT_FALSE(one.empty());
    EXPECT_EQ(one, format({.threads = 2, .activations = activations}));
    EXPECT_EQ(one, format({.threads = 3, .activations = activations}));
  }
  EXPECT_NE(format({.activations = kernels::Activations::kF32}),
            format({.activations = kernels::Activations::kBF16Pairs}));
}

}  // namespace
}  // namespace octogate::workers
