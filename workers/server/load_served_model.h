// From a Hugging Face folder to a model that serves.

#ifndef OCTOGATE_WORKERS_SERVER_LOAD_SERVED_MODEL_H_
#define OCTOGATE_WORKERS_SERVER_LOAD_SERVED_MODEL_H_

#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "workers/engine/model_runner.h"
#include "workers/server/served_model.h"

namespace octogate::workers {

// Loads a language model or, where config.json says so, a sentence encoder, and warms it until
// `deadline` at most. Of the engine's options an encoder heeds max_waiting, max_rows_per_step,
// ageing_steps, weight_format, max_context and memory_limit_bytes. Errors as LoadModel and
// LoadEncoder.
absl::StatusOr<std::unique_ptr<ServedModel>> LoadServedModel(std::string name,
                                                             const std::filesystem::path& directory,
                                                             const LoadOptions& options,
                                                             absl::Time deadline);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_LOAD_SERVED_MODEL_H_
