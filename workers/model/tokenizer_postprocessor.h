// The post-processors of tokenizer.json, for one text: what the model expects around it.
//
// Sequence, TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel (which concerns
// offsets only). Others are UNIMPLEMENTED.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_POSTPROCESSOR_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_POSTPROCESSOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/model/tokenizer_json.h"

namespace octogate::workers {

struct PostProcessor {
  std::vector<int32_t> before;
  std::vector<int32_t> after;

  // Ids must be below `vocab_size`.
  static absl::StatusOr<PostProcessor> Parse(const JsonNode& node, int32_t vocab_size);
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_POSTPROCESSOR_H_
