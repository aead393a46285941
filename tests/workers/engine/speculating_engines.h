// Engines over small models that speculate with drafters of tests.
#ifndef OCTOGATE_TESTS_WORKERS_ENGINE_SPECULATING_ENGINES_H_
#define OCTOGATE_TESTS_WORKERS_ENGINE_SPECULATING_ENGINES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/random_requests.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_drafters.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/engine.h"

namespace octogate::workers {

using Drafters = std::vector<std::unique_ptr<Drafter>>;

inline std::unique_ptr<Engine> MakeSpeculator(const std::string& fixture,
                                              const EngineOptions& options, Drafters drafters,
                                              int threads = 1) {
  const auto folder = FixturePath(fixture);
  auto engine =
      Engine::Create(OpenCheckpoint(folder), OpenTokenizer(folder),
                     kernels::MakeCpuBackend({.threads = threads}), options, std::move(drafters));
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

// Requests with their answers.
inline std::shared_ptr<const KnownSequences> Known(const std::vector<GenerateRequest>& requests,
                                                   const std::vector<Outcome>& outcomes) {
  auto known = std::make_shared<KnownSequences>();
  for (size_t i = 0; i < requests.size(); ++i) {
    known->push_back(requests[i].prompt);
    known->back().insert(known->back().end(), outcomes[i].ids.begin(), outcomes[i].ids.end());
  }
  return known;
}

// Beside an engine that decodes plainly.
class SpeculatingEngineTest : public ::testing::Test, protected RandomChoices {
 protected:
  void SetUp() override {
    plain_ = MakeEngine(FixturePath("llama"), {.max_sequences = 1});
    ASSERT_NE(plain_, nullptr);
  }

  const ModelConfig& config() const { return plain_->config(); }
  std::unique_ptr<Drafter> Make(Drafting drafting,
                                std::shared_ptr<const KnownSequences> known = nullptr,
                                std::shared_ptr<TestDrafter::Record> record = nullptr,
                                const std::string& name = "test") {
    if (known == nullptr) known = std::make_shared<KnownSequences>();
    return std::make_unique<TestDrafter>(name, drafting, config().vocab_size, random_(),
                                         std::move(known), std::move(record));
  }
  std::unique_ptr<Engine> Speculate(std::unique_ptr<Drafter> drafter, EngineOptions options = {}) {
    options.max_draft_nodes = 20;
    options.verify_all_drafts = true;
    Drafters drafters;
    drafters.push_back(std::move(drafter));
    return MakeSpeculator("llama", options, std::move(drafters));
  }
  std::vector<GenerateRequest> GreedyRequests(int count, int max_tokens) {
    std::vector<GenerateRequest> requests(static_cast<size_t>(count));
    for (GenerateRequest& request : requests) {
      request.prompt = RandomIds(random_, 1 + Below(20), config().vocab_size);
      request.max_tokens = max_tokens;
      request.ignore_eos = true;
    }
    return requests;
  }

  std::unique_ptr<Engine> plain_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_ENGINE_SPECULATING_ENGINES_H_
