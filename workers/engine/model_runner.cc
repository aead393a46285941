#include "workers/engine/model_runner.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/engine/generate.h"

namespace octogate::workers {
namespace {

absl::Status CheckVocabulary(const LoadedModel& model) {
  // A checkpoint may have rows to spare; a tokenizer with more ids would name rows there are not.
  if (model.tokenizer->vocab_size() <= model.config().vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(model.checkpoint->directory().string(), ": tokenizer.json has ids up to ",
                   model.tokenizer->vocab_size() - 1, ", but the embedding has only ",
                   model.config().vocab_size, " rows"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const std::filesystem::path& directory,
                                                       const LoadOptions& options) {
  absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(directory);
  if (!checkpoint.ok()) return checkpoint.status();
  auto model = std::make_unique<LoadedModel>();
  model->checkpoint = std::make_shared<const Checkpoint>(*std::move(checkpoint));

  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(directory.string());
  if (!tokenizer.ok()) return tokenizer.status();
  model->tokenizer = *std::move(tokenizer);
  if (absl::Status status = CheckVocabulary(*model); !status.ok()) return status;

  absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Load(directory);
  if (chat_template.ok()) {
    model->chat_template = *std::move(chat_template);
  } else if (!absl::IsFailedPrecondition(chat_template.status())) {
    return chat_template.status();  // there is one, and it is broken
  }

  absl::StatusOr<ChosenBackend> chosen = ChooseBackend(options.device);
  if (!chosen.ok()) return chosen.status();
  model->no_gpu = std::move(chosen->no_gpu);
  EngineOptions engine_options = options.engine;
  std::vector<std::unique_ptr<Drafter>> drafters;
  if (options.speculation) {
    absl::StatusOr<std::vector<std::unique_ptr<Drafter>>> made =
        options.speculation->make_drafters({.checkpoint = model->checkpoint.get(),
                                            .tokenizer = model->tokenizer.get(),
                                            .backend = chosen->backend.get(),
                                            .activations = options.device.activations});
    if (!made.ok()) return made.status();
    drafters = *std::move(made);
    engine_options.max_draft_nodes = options.speculation->max_draft_nodes;
    engine_options.share_drafts = options.speculation->share_drafts;
    engine_options.prune_retrieved_below = options.speculation->prune_retrieved_below;
    model->shared_drafts = options.speculation->shared_drafts;
  }
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Create(model->checkpoint, model->tokenizer, std::move(chosen->backend),
                     engine_options, std::move(drafters));
  if (!engine.ok()) return engine.status();
  model->engine = *std::move(engine);
  return model;
}

absl::StatusOr<std::vector<int32_t>> LoadedModel::EncodeChat(
    const ChatJson& messages, const ChatRenderOptions& options) const {
  if (!chat_template) {
    return absl::FailedPreconditionError(
        absl::StrCat(checkpoint->directory().string(), " has no chat template; give plain text"));
  }
  absl::StatusOr<std::string> text = chat_template->Render(messages, options);
  if (!text.ok()) return text.status();
  // The template writes the special tokens itself.
  return tokenizer->Encode(*text, {.add_special_tokens = false, .parse_special = true});
}

absl::StatusOr<std::vector<int32_t>> LoadedModel::EncodeText(std::string_view text) const {
  return tokenizer->Encode(text, {.add_special_tokens = true, .parse_special = false});
}

absl::Status LoadedModel::WarmUp(absl::Time deadline) {
  // Two tokens, so that the paths of prompts and of single rows have both run.
  GenerateRequest request;
  request.prompt = {0};
  request.max_tokens = engine->context() > 2 ? 2 : 1;
  request.ignore_eos = true;
  request.deadline = deadline;
  return Generate(*engine, std::move(request)).status();
}

}  // namespace octogate::workers
