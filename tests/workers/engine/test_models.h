// Engines over the checkpoints in tests/fixtures, for tests.
#ifndef OCTOGATE_TESTS_WORKERS_ENGINE_TEST_MODELS_H_
#define OCTOGATE_TESTS_WORKERS_ENGINE_TEST_MODELS_H_

#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "workers/engine/engine.h"
#include "workers/model/checkpoint.h"
#include "workers/model/tokenizer.h"

namespace octogate::workers {

inline std::filesystem::path FixturePath(const std::string& name) {
  return std::filesystem::path(OCTOGATE_FIXTURES) / "checkpoints" / name;
}

inline std::shared_ptr<const Checkpoint> OpenCheckpoint(const std::filesystem::path& folder) {
  absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  if (!checkpoint.ok()) return nullptr;
  return std::make_shared<const Checkpoint>(*std::move(checkpoint));
}

inline std::shared_ptr<const Tokenizer> OpenTokenizer(const std::filesystem::path& folder) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(folder.string());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  if (!tokenizer.ok()) return nullptr;
  return *std::move(tokenizer);
}

inline std::unique_ptr<Engine> MakeEngine(const std::filesystem::path& folder,
                                          const EngineOptions& options, int threads = 1) {
  auto engine = Engine::Create(OpenCheckpoint(folder), OpenTokenizer(folder),
                               kernels::MakeCpuBackend({.threads = threads}), options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

inline std::vector<int32_t> RandomIds(std::mt19937& random, int count, int vocab_size) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab_size));
  }
  return ids;
}

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_ENGINE_TEST_MODELS_H_
