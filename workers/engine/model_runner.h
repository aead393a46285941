// A model ready to serve: everything that a checkpoint folder holds, and an engine that runs it.
#ifndef OCTOGATE_WORKERS_ENGINE_MODEL_RUNNER_H_
#define OCTOGATE_WORKERS_ENGINE_MODEL_RUNNER_H_

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "workers/engine/device.h"
#include "workers/engine/engine.h"
#include "workers/model/chat_template.h"
#include "workers/model/checkpoint.h"
#include "workers/model/tokenizer.h"
#include "workers/speculation/drafter.h"
#include "workers/speculation/shared_drafts_stats.h"

namespace octogate::workers {

// What drafters are made for. All of it outlives them.
struct DraftedModel {
  const Checkpoint* checkpoint = nullptr;
  const Tokenizer* tokenizer = nullptr;
  kernels::Backend* backend = nullptr;  // the engine's, driven by its thread
  kernels::Activations activations = kernels::Activations::kF32;  // LoadOptions::device
};

struct SpeculationSetup {
  int max_draft_nodes = 0;          // EngineOptions::max_draft_nodes
  bool share_drafts = false;        // EngineOptions::share_drafts
  float prune_retrieved_below = 0;  // EngineOptions::prune_retrieved_below
  std::function<absl::StatusOr<std::vector<std::unique_ptr<Drafter>>>(const DraftedModel& model)>
      make_drafters;
  // Where replicas tell each other what drafters learn; may be null. Called by any thread.
  std::function<std::optional<SharedDraftsStats>()> shared_drafts;
};

struct LoadOptions {
  EngineOptions engine;
  DeviceOptions device;
  // Without, every token is a pass of the model.
  std::optional<SpeculationSetup> speculation;
};

// Thread safety: const once loaded, and the engine is thread-safe.
struct LoadedModel {
  std::shared_ptr<const Checkpoint> checkpoint;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;  // where the folder has one
  std::unique_ptr<Engine> engine;
  std::string no_gpu;                                               // ChosenBackend::no_gpu
  std::function<std::optional<SharedDraftsStats>()> shared_drafts;  // SpeculationSetup's

  const ModelConfig& config() const { return checkpoint->config(); }

  // The prompt of a conversation (an array of {role, content}) as the chat template writes it.
  // Special tokens are recognised in what the template writes; the template's own text usually
  // holds them, contents of messages can too. FAILED_PRECONDITION without a template.
  absl::StatusOr<std::vector<int32_t>> EncodeChat(const ChatJson& messages,
                                                  const ChatRenderOptions& options = {}) const;
  // Plain text, with the special tokens that the tokenizer puts around it.
  absl::StatusOr<std::vector<int32_t>> EncodeText(std::string_view text) const;

  // Runs one short prompt, so that weights are in memory and threads are awake. The model is ready
  // to serve when this has returned OK.
  absl::Status WarmUp(absl::Time deadline);
};

// Opens, checks and loads. Errors name the folder; see Checkpoint::Open, Tokenizer::Load,
// ChatTemplate::Load, make_drafters and Engine::Create.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const std::filesystem::path& directory,
                                                       const LoadOptions& options);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_MODEL_RUNNER_H_
