// A sentence encoder ready to serve: everything that its folder holds, and an Encoder that runs it.
#ifndef OCTOGATE_WORKERS_ENCODER_ENCODER_RUNNER_H_
#define OCTOGATE_WORKERS_ENCODER_ENCODER_RUNNER_H_

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "workers/encoder/encoder.h"
#include "workers/engine/device.h"
#include "workers/model/encoder_checkpoint.h"
#include "workers/model/tokenizer.h"

namespace octogate::workers {

struct EncoderLoadOptions {
  EncoderOptions encoder;
  DeviceOptions device;
};

// What becomes of a text that is longer than the encoder takes.
enum class LongText {
  kRefuse,  // OUT_OF_RANGE
  kCut,     // its beginning counts, as in sentence-transformers
};

// Thread safety: const once loaded, and the encoder is thread-safe.
struct LoadedEncoder {
  std::shared_ptr<const EncoderCheckpoint> checkpoint;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<Encoder> encoder;
  std::string no_gpu;  // ChosenBackend::no_gpu

  // The ids of a text with the special tokens that the tokenizer puts around it, which a text
  // that is cut keeps too. Special tokens are not recognised in the text itself.
  absl::StatusOr<std::vector<int32_t>> EncodeText(std::string_view text, LongText long_text) const;

  // Runs one short text, so that weights are in memory and threads are awake.
  absl::Status WarmUp(absl::Time deadline);
};

// Opens, checks and loads. Errors name the folder; see EncoderCheckpoint::Open, Tokenizer::Load and
// Encoder::Create.
absl::StatusOr<std::unique_ptr<LoadedEncoder>> LoadEncoder(const std::filesystem::path& directory,
                                                           const EncoderLoadOptions& options);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENCODER_ENCODER_RUNNER_H_
