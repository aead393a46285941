#include "workers/server/load_served_model.h"

#include <utility>

#include "common/status_macros.h"
#include "workers/encoder/encoder_runner.h"
#include "workers/model/encoder_config.h"
#include "workers/server/encoder_service.h"
#include "workers/server/model_service.h"

namespace octogate::workers {

absl::StatusOr<std::unique_ptr<ServedModel>> LoadServedModel(std::string name,
                                                             const std::filesystem::path& directory,
                                                             const LoadOptions& options,
                                                             absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(const bool is_encoder, IsEncoderFolder(directory));
  if (!is_encoder) {
    OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model, LoadModel(directory, options));
    OCTOGATE_RETURN_IF_ERROR(model->WarmUp(deadline));
    return std::make_unique<ModelService>(std::move(name), std::move(model));
  }
  const EngineOptions& engine = options.engine;
  const EncoderLoadOptions encoder{.encoder = {.max_calls = engine.max_waiting,
                                               .max_rows_per_pass = engine.max_rows_per_step,
                                               .ageing_passes = engine.ageing_steps,
                                               .weight_format = engine.weight_format,
                                               .max_tokens = engine.max_context,
                                               .memory_limit_bytes = engine.memory_limit_bytes},
                                   .device = options.device};
  OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<LoadedEncoder> model, LoadEncoder(directory, encoder));
  OCTOGATE_RETURN_IF_ERROR(model->WarmUp(deadline));
  return std::make_unique<EncoderService>(std::move(name), std::move(model));
}

}  // namespace octogate::workers
