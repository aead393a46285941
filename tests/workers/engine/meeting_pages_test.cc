// A sequence computes from its beginning while pages of a store come from the end: what is then in
// the cache is, byte for byte, what an engine has that computes everything.
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/engine.h"

namespace octogate::workers {
namespace {

constexpr int kPageSize = 4;

// Of one prompt, by their indices.
using Pages = std::map<int, std::string>;

struct Store {
  Pages there;
  double seconds_per_page = 0;  // that it promises
  uint32_t seed = 0;
  absl::Mutex mutex;
  Pages offered ABSL_GUARDED_BY(mutex);
  int backward ABSL_GUARDED_BY(mutex) = 0;
};

// Gives some of its pages with every Take, in the order in which they are asked for.
class ScriptedFetch final : public PageFetch {
 public:
  ScriptedFetch(const Store& store, const PageChain& chain, PageOrder order,
                std::function<void()> wake)
      : store_(store),
        pages_(chain.count),
        order_(order),
        wake_(std::move(wake)),
        random_(store.seed) {
    for (int i = chain.first; i < chain.first + chain.count && store_.there.contains(i); ++i) {
      left_.push_back(i);
    }
  }

  int pages() const override { return pages_; }
  bool Take(int first_needed, std::vector<SharedPage>& pages) override {
    for (auto count = 1 + random_() % 3; count > 0 && !left_.empty(); --count) {
      const bool backward = order_ == PageOrder::kBackward;
      const int index = backward ? left_.back() : left_.front();
      left_.erase(backward ? left_.end() - 1 : left_.begin());
      if (index < first_needed) continue;
      pages.push_back({.index = index, .value = store_.there.at(index)});
    }
    wake_();
    return left_.empty();
  }

 private:
  const Store& store_;
  const int pages_;
  const PageOrder order_;
  const std::function<void()> wake_;
  std::mt19937 random_;
  std::vector<int> left_;
};

class ScriptedStore final : public PageStore {
 public:
  ScriptedStore(std::shared_ptr<Store> store, const PageFormat& format)
      : store_(std::move(store)), page_bytes_(format.page_bytes) {}

  std::unique_ptr<PageFetch> Fetch(const PageChain& chain, PageOrder order,
                                   std::function<void()> wake) override {
    absl::MutexLock lock(&store_->mutex);
    store_->backward += order == PageOrder::kBackward ? 1 : 0;
    return std::make_unique<ScriptedFetch>(*store_, chain, order, std::move(wake));
  }
  double FetchSeconds(int pages) const override { return pages * store_->seconds_per_page; }
  double MissSeconds() const override { return 0; }
  void Write(const PageChain& chain, const ReadPages& read) override {
    std::vector<int> indices;
    std::vector<std::string> values(static_cast<size_t>(chain.count),
                                    std::string(page_bytes_, '\0'));
    std::vector<std::span<std::byte>> to;
    for (int i = 0; i < chain.count; ++i) {
      indices.push_back(chain.first + i);
      to.push_back(std::as_writable_bytes(std::span(values[static_cast<size_t>(i)])));
    }
    read(indices, to);
    absl::MutexLock lock(&store_->mutex);
    for (int i = 0; i < chain.count; ++i) {
      store_->offered[chain.first + i] = std::move(values[static_cast<size_t>(i)]);
    }
  }
  absl::StatusOr<int> CountStored(const PageChain&, absl::Time) override { return 0; }
  absl::Status Flush(const PageFlush&, absl::Time) override { return absl::OkStatus(); }
  ContextFilter TakeFlushed() override { return nullptr; }
  PageStoreStats stats() const override { return {}; }

 private:
  const std::shared_ptr<Store> store_;
  const size_t page_bytes_;
};

EngineOptions OptionsOf(const std::shared_ptr<Store>& store) {
  EngineOptions options{.max_sequences = 2, .max_rows_per_step = 32, .page_size = kPageSize};
  options.step_cost_time = absl::Milliseconds(100);
  options.make_page_store = [store](const PageFormat& format) {
    return std::make_unique<ScriptedStore>(store, format);
  };
  return options;
}

TEST(MeetingPagesTest, WhatIsComputedAndWhatComesAreWhatIsComputed) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto alone = std::make_shared<Store>();
  const auto computes = MakeEngine(FixturePath("llama"), OptionsOf(alone));
  ASSERT_NE(computes, nullptr);
  GenerateRequest request;
  request.prompt = RandomIds(random, 161, computes->config().vocab_size);
  request.max_tokens = 4;
  request.ignore_eos = true;
  request.sampling.logprobs = 2;
  const std::vector<Outcome> expected = RunAll(*computes, {request}, false);
  ASSERT_TRUE(computes->Drain(absl::Now() + kLong).ok());
  Pages pages;
  {
    absl::MutexLock lock(&alone->mutex);
    pages = alone->offered;
  }
  ASSERT_GE(pages.size(), 40u);

  int met = 0;
  bool all = true;
  // Which of these is near what computing takes depends on the machine.
  for (double seconds = 2e-6; seconds < 1e-1; seconds *= 2) {
    SCOPED_TRACE(seconds);
    const auto store = std::make_shared<Store>();
    store->there = pages;
    // The store has all of the chain, then a part of it.
    if (!std::exchange(all, !all)) {
      store->there.erase(store->there.find(static_cast<int>(random() % 40)), store->there.end());
    }
    store->seconds_per_page = seconds;
    store->seed = static_cast<uint32_t>(random());
    const auto engine = MakeEngine(FixturePath("llama"), OptionsOf(store));
    const std::vector<Outcome> outcome = RunAll(*engine, {request}, false);
    ExpectSameAnswers(outcome, expected);
    ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
    absl::MutexLock lock(&store->mutex);
    ASSERT_EQ(store->offered.size(), pages.size());
    for (const auto& [index, bytes] : pages) {
      ASSERT_EQ(store->offered[index].size(), bytes.size());
      EXPECT_EQ(std::memcmp(store->offered[index].data(), bytes.data(), bytes.size()), 0)
          << "page " << index;
    }
    const int shared = outcome[0].shared_tokens;
    if (store->backward > 0 && shared > 0 && shared < 160) ++met;
  }
  EXPECT_GT(met, 0);
}

}  // namespace
}  // namespace octogate::workers
