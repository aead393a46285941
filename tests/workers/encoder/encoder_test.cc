// Many callers at once: what they get, what is refused, and how calls end early.
#include "workers/encoder/encoder.h"

#include <gmock/gmock.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "common/status.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/workers/encoder/test_encoders.h"
#include "tests/workers/engine/fresh_seed.h"
#include "workers/encoder/encoder_runner.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Encoder> MakeEncoder(const EncoderOptions& options = {}) {
  auto encoder =
      Encoder::Create(OpenEncoder("bert"), kernels::MakeCpuBackend({.threads = 1}), options);
  EXPECT_TRUE(encoder.ok()) << encoder.status();
  return encoder.ok() ? *std::move(encoder) : nullptr;
}

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

TEST(EncoderTest, VectorsAreTheRecordedOnes) {
  for (const std::string name : {"bert", "bert_cls"}) {
    auto encoder = Encoder::Create(OpenEncoder(name), kernels::MakeCpuBackend({.threads = 1}), {});
    ASSERT_TRUE(encoder.ok()) << encoder.status();
    const nlohmann::json expected = ReadExpected(name);
    for (const nlohmann::json& text : expected["texts"]) {
      auto ids = text["ids"].get<std::vector<int32_t>>();
      if (static_cast<int>(ids.size()) > (*encoder)->max_tokens()) continue;
      const auto vectors = (*encoder)->Embed({ids}, Soon());
      ASSERT_TRUE(vectors.ok()) << vectors.status();
      for (size_t c = 0; c < vectors->front().size(); ++c) {
        EXPECT_NEAR(vectors->front()[c], text["pooled"][c].get<float>(), 5e-4);
      }
    }
  }
}

TEST(EncoderTest, ConcurrentCallsGetWhatTheyWouldGetAlone) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto encoder = MakeEncoder({.max_rows_per_pass = 128});
  ASSERT_NE(encoder, nullptr);
  std::vector<std::vector<std::vector<int32_t>>> calls(8);
  std::vector<std::vector<std::vector<float>>> expected;
  for (auto& texts : calls) {
    const int count = 1 + static_cast<int>(random() % 20);
    for (int t = 0; t < count; ++t) {
      texts.push_back(
          RandomText(random, 1 + static_cast<int>(random() % 128), encoder->config().vocab_size));
    }
    auto& vectors = expected.emplace_back();
    for (const auto& text : texts) {
      const auto vector = encoder->Embed({text}, Soon());
      ASSERT_TRUE(vector.ok()) << vector.status();
      vectors.push_back(vector->front());
    }
  }
  std::vector<std::thread> threads;
  for (size_t i = 0; i < calls.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto vectors =
          encoder->Embed(calls[i], Soon(), nullptr,
                         {.priority = static_cast<int>(i % 2), .tenant = i < 4 ? "a" : "b"});
      ASSERT_TRUE(vectors.ok()) << vectors.status();
      EXPECT_TRUE(*vectors == expected[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(encoder->stats().calls, 0);
  // Texts share passes.
  EXPECT_LT(encoder->stats().passes, encoder->stats().texts);
}

TEST(EncoderTest, RefusesWhatItCannotEncode) {
  const auto encoder = MakeEncoder();
  ASSERT_NE(encoder, nullptr);
  const auto code = [&](std::vector<std::vector<int32_t>> texts) {
    return encoder->Embed(std::move(texts), Soon()).status().code();
  };
  EXPECT_EQ(code({}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{1}, {-1}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{encoder->config().vocab_size}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({std::vector<int32_t>(129, 1)}), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code({std::vector<int32_t>(128, 1)}), absl::StatusCode::kOk);
  EXPECT_EQ(encoder->Embed({{1}}, absl::Now() - absl::Seconds(1)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(encoder->Embed({{1}}, Soon(), nullptr, {.priority = 101}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(EncoderTest, RefusesWhatDoesNotFitIntoMemory) {
  const auto encoder = Encoder::Create(OpenEncoder("bert"), kernels::MakeCpuBackend({.threads = 1}),
                                       {.memory_limit_bytes = 1000});
  EXPECT_EQ(encoder.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(encoder.status().message(), HasSubstr("activations"));
}

// A call that takes some seconds.
std::vector<std::vector<int32_t>> ManyTexts() {
  return std::vector<std::vector<int32_t>>(Encoder::kMaxTexts, std::vector<int32_t>(128, 7));
}

void AwaitCalls(const Encoder& encoder, int calls) {
  while (encoder.stats().calls < calls) absl::SleepFor(absl::Milliseconds(1));
}

TEST(EncoderTest, EndsCancelledAndOverdueCallsBetweenPasses) {
  const auto encoder = MakeEncoder();
  ASSERT_NE(encoder, nullptr);
  const auto cancellation = std::make_shared<Cancellation>();
  std::thread cancelled([&] {
    EXPECT_EQ(encoder->Embed(ManyTexts(), Soon(), cancellation).status().code(),
              absl::StatusCode::kCancelled);
  });
  AwaitCalls(*encoder, 1);
  cancellation->Cancel();
  cancelled.join();
  EXPECT_EQ(encoder->Embed(ManyTexts(), absl::Now() + absl::Milliseconds(20)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  // The encoder goes on, and nothing is left behind.
  EXPECT_TRUE(encoder->Embed({{1, 2}}, Soon()).ok());
  EXPECT_EQ(encoder->stats().calls, 0);
}

TEST(EncoderTest, AShortCallDoesNotWaitForTheWholeOfALongOne) {
  const auto encoder = MakeEncoder({.max_rows_per_pass = 128});
  ASSERT_NE(encoder, nullptr);
  const auto cancellation = std::make_shared<Cancellation>();
  std::thread long_call(
      [&] { encoder->Embed(ManyTexts(), Soon(), cancellation, {.tenant = "a"}).IgnoreError(); });
  AwaitCalls(*encoder, 1);
  ASSERT_TRUE(encoder->Embed({{1, 2}}, Soon(), nullptr, {.tenant = "b"}).ok());
  EXPECT_LT(encoder->stats().texts, uint64_t{Encoder::kMaxTexts});
  cancellation->Cancel();
  long_call.join();
}

TEST(EncoderTest, RefusesOneCallTooManyWithAHint) {
  const auto encoder = MakeEncoder({.max_calls = 1});
  ASSERT_NE(encoder, nullptr);
  const auto cancellation = std::make_shared<Cancellation>();
  std::thread long_call([&] { encoder->Embed(ManyTexts(), Soon(), cancellation).IgnoreError(); });
  AwaitCalls(*encoder, 1);
  const absl::Status status = encoder->Embed({{1}}, Soon()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GT(RetryAfter(status), absl::ZeroDuration());
  cancellation->Cancel();
  long_call.join();
}

TEST(EncoderTest, DrainsAndIsDestroyedWithCallsUnderWay) {
  auto encoder = MakeEncoder();
  ASSERT_NE(encoder, nullptr);
  std::thread under_way([&encoder] {
    EXPECT_EQ(encoder->Embed(ManyTexts(), Soon()).status().code(), absl::StatusCode::kCancelled);
  });
  AwaitCalls(*encoder, 1);
  EXPECT_EQ(encoder->Drain(absl::Now()).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(encoder->Embed({{1}}, Soon()).status().code(), absl::StatusCode::kUnavailable);
  encoder->Shutdown();
  under_way.join();
}

class LoadedEncoderTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Fixtures, LoadedEncoderTest, ::testing::Values("bert", "bert_cls"),
                         [](const auto& info) { return info.param; });

TEST_P(LoadedEncoderTest, ReadsTextsAsTheTokenizersLibraryDoes) {
  const auto loaded = LoadEncoder(EncoderPath(GetParam()), {.device = {.threads = 1}});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_TRUE((*loaded)->WarmUp(Soon()).ok());
  const nlohmann::json expected = ReadExpected(GetParam());
  for (const nlohmann::json& encoding : expected["encodings"]) {
    const std::string text = encoding["text"];
    EXPECT_EQ(*(*loaded)->tokenizer->Encode(text, {.add_special_tokens = false}),
              encoding["ids"].get<std::vector<int32_t>>())
        << text;
    const auto ids = encoding["ids_with_special"].get<std::vector<int32_t>>();
    EXPECT_EQ(*(*loaded)->tokenizer->Encode(text), ids) << text;
    EXPECT_EQ((*loaded)->tokenizer->Decode(ids, /*skip_special_tokens=*/true), encoding["decoded"]);
  }
}

TEST_P(LoadedEncoderTest, CutsLongTextsWhereAskedTo) {
  const auto loaded = LoadEncoder(EncoderPath(GetParam()), {.encoder = {.max_tokens = 10}});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const std::string text = "the quick brown fox jumps over the lazy dog and the router";
  EXPECT_EQ((*loaded)->EncodeText(text, LongText::kRefuse).status().code(),
            absl::StatusCode::kOutOfRange);
  const auto whole = (*loaded)->tokenizer->Encode(text);
  const auto cut = (*loaded)->EncodeText(text, LongText::kCut);
  ASSERT_TRUE(whole.ok() && cut.ok());
  ASSERT_GT(whole->size(), 11u);
  std::vector<int32_t> expected(whole->begin(), whole->begin() + 9);
  expected.push_back(whole->back());  // [SEP]
  EXPECT_EQ(*cut, expected);
  EXPECT_TRUE((*loaded)->encoder->Embed({*cut}, Soon()).ok());
}

}  // namespace
}  // namespace octogate::workers
