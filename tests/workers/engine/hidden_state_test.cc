// The hidden state that comes with an answer's first token: it is what the logits are made of, it
// is what embeddings are means of, and it does not depend on what runs beside it.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/test_models.h"
#include "workers/model/dtype.h"

namespace octogate::workers {
namespace {

constexpr absl::Duration kLong = absl::Seconds(100);

struct Reading {
  std::vector<float> hidden;
  TokenScores scores;
  int events_with_hidden = 0;
  bool done = false;
};

// Answers of several requests that run together.
class Readings {
 public:
  explicit Readings(size_t count) : readings_(count) {}

  Engine::EventCallback callback(size_t i) {
    return [this, i](const GenerateEvent& event) {
      absl::MutexLock lock(&mutex_);
      EXPECT_TRUE(event.status.ok()) << event.status;
      Reading& reading = readings_[i];
      if (!event.hidden_state.empty()) {
        reading.hidden = event.hidden_state;
        ++reading.events_with_hidden;
      }
      if (!event.first_scores.logits.empty()) reading.scores = event.first_scores;
      reading.done = event.finish != FinishReason::kNone;
    };
  }
  std::vector<Reading> Wait() {
    absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(this, &Readings::AllDone), kLong));
    return readings_;
  }

 private:
  bool AllDone() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::all_of(readings_.begin(), readings_.end(),
                       [](const Reading& reading) { return reading.done; });
  }
  absl::Mutex mutex_;
  std::vector<Reading> readings_ ABSL_GUARDED_BY(mutex_);
};

GenerateRequest Request(std::vector<int32_t> prompt, std::vector<int32_t> scored,
                        int max_tokens = 1) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  request.score_first_tokens = std::move(scored);
  request.hidden_state = true;
  return request;
}

std::vector<Reading> Read(Engine& engine, const std::vector<GenerateRequest>& requests) {
  Readings readings(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto submitted = engine.Submit(requests[i], readings.callback(i));
    EXPECT_TRUE(submitted.ok()) << submitted.status();
  }
  return readings.Wait();
}

float ValueAt(const WeightView& weight, int64_t row, int64_t col) {
  const std::byte* at =
      weight.data + static_cast<size_t>(row * weight.cols + col) * DTypeSize(weight.dtype);
  if (weight.dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  EXPECT_EQ(weight.dtype, DType::kBF16);
  uint16_t half;
  std::memcpy(&half, at, sizeof(half));
  const uint32_t bits = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Checkpoint folders: with and without a tied head, and trained ones.
std::vector<std::filesystem::path> Folders() {
  std::vector<std::filesystem::path> folders = {FixturePath("llama"), FixturePath("qwen3")};
  folders.push_back(std::filesystem::path(OCTOGATE_FIXTURES) / "../../deploy/models/octogate-mini");
  if (const char* data = std::getenv("OCTOGATE_TEST_DATA")) {
    folders.push_back(std::filesystem::path(data) / "stories260K" / "hf");
  } else {
    std::cerr << "OCTOGATE_TEST_DATA does not name the evaluation data: no stories260K\n";
  }
  return folders;
}

TEST(HiddenStateTest, ItsProductsWithTheRowsAreTheLogits) {
  std::mt19937 random(FreshSeed());
  for (const std::filesystem::path& folder : Folders()) {
    SCOPED_TRACE(folder);
    const auto checkpoint = OpenCheckpoint(folder);
    const auto engine = MakeEngine(folder, {});
    ASSERT_NE(engine, nullptr);
    const int vocabulary = engine->config().vocab_size;
    const std::vector<int32_t> scored = RandomIds(random, 24, vocabulary);
    const std::vector<Reading> readings =
        Read(*engine, {Request(RandomIds(random, 11, vocabulary), scored)});
    const Reading& reading = readings[0];
    ASSERT_EQ(reading.hidden.size(), static_cast<size_t>(engine->config().hidden_size));
    const WeightView& rows = checkpoint->weights().lm_head;
    for (size_t i = 0; i < scored.size(); ++i) {
      double logit = 0;
      double size = 0;
      for (size_t c = 0; c < reading.hidden.size(); ++c) {
        const double product =
            double{reading.hidden[c]} * double{ValueAt(rows, scored[i], static_cast<int64_t>(c))};
        logit += product;
        size += std::abs(product);
      }
      // The engine sums in single precision, or takes a hidden state of 16 bits.
      EXPECT_NEAR(reading.scores.logits[i], logit, 1e-3 * size + 1e-5) << "token " << scored[i];
    }
  }
}

// An embedding is the mean over all positions, which computes hidden states in another way.
TEST(HiddenStateTest, EmbeddingsAreItsMeans) {
  std::mt19937 random(FreshSeed());
  for (const std::filesystem::path& folder : Folders()) {
    SCOPED_TRACE(folder);
    const auto engine = MakeEngine(folder, {});
    ASSERT_NE(engine, nullptr);
    std::vector<int32_t> ids = RandomIds(random, 9, engine->config().vocab_size);
    std::vector<GenerateRequest> requests;
    for (size_t length = 1; length <= ids.size(); ++length) {
      requests.push_back(Request({ids.begin(), ids.begin() + static_cast<ptrdiff_t>(length)}, {}));
    }
    const std::vector<Reading> readings = Read(*engine, requests);
    const auto embedding = engine->Embed(ids, absl::Now() + kLong);
    ASSERT_TRUE(embedding.ok()) << embedding.status();
    for (size_t c = 0; c < embedding->size(); ++c) {
      double sum = 0;
      for (const Reading& reading : readings) sum += double{reading.hidden.at(c)};
      // Bit for bit: the sum is one of doubles in both.
      EXPECT_EQ((*embedding)[c], static_cast<float>(sum / static_cast<double>(ids.size())));
    }
  }
}

TEST(HiddenStateTest, IsTheSameWhateverRunsBesideItAndWhereverThePrefixComesFrom) {
  std::mt19937 random(FreshSeed());
  const std::filesystem::path folder = FixturePath("llama");
  const auto alone = MakeEngine(folder, {.share_prefixes = false});
  const auto together =
      MakeEngine(folder, {.max_sequences = 5, .max_rows_per_step = 7, .page_size = 4}, 2);
  ASSERT_NE(alone, nullptr);
  ASSERT_NE(together, nullptr);
  const int vocabulary = alone->config().vocab_size;
  const std::vector<int32_t> prefix = RandomIds(random, 16, vocabulary);
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 12; ++i) {
    std::vector<int32_t> prompt = prefix;
    const std::vector<int32_t> own =
        RandomIds(random, 1 + static_cast<int>(random() % 9), vocabulary);
    prompt.insert(prompt.end(), own.begin(), own.end());
    // Some are answered at length, and some score tokens.
    requests.push_back(Request(prompt,
                               i % 3 == 0 ? std::vector<int32_t>{1, 2} : std::vector<int32_t>(),
                               i % 2 == 0 ? 1 : 5));
  }
  const std::vector<Reading> first = Read(*together, requests);
  const std::vector<Reading> cached = Read(*together, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(i);
    const std::vector<Reading> expected = Read(*alone, {requests[i]});
    EXPECT_EQ(first[i].events_with_hidden, 1) << "with the first token, not with others";
    EXPECT_EQ(first[i].hidden, expected[0].hidden);
    EXPECT_EQ(cached[i].hidden, expected[0].hidden);
  }
  EXPECT_GT(together->stats().prefix_hit_tokens, 0u);
}

TEST(HiddenStateTest, ComesOnlyWhereItIsAskedFor) {
  const auto engine = MakeEngine(FixturePath("llama"), {});
  ASSERT_NE(engine, nullptr);
  GenerateRequest request = Request({1, 2, 3}, {4});
  request.hidden_state = false;
  const std::vector<Reading> readings = Read(*engine, {request});
  EXPECT_EQ(readings[0].events_with_hidden, 0);
  EXPECT_EQ(readings[0].scores.logits.size(), 1u);
}

}  // namespace
}  // namespace octogate::workers
