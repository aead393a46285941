#include "workers/encoder/encoder_runner.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace octogate::workers {

absl::StatusOr<std::unique_ptr<LoadedEncoder>> LoadEncoder(const std::filesystem::path& directory,
                                                           const EncoderLoadOptions& options) {
  auto loaded = std::make_unique<LoadedEncoder>();
  OCTOGATE_ASSIGN_OR_RETURN(EncoderCheckpoint checkpoint, EncoderCheckpoint::Open(directory));
  loaded->checkpoint = std::make_shared<const EncoderCheckpoint>(std::move(checkpoint));
  OCTOGATE_ASSIGN_OR_RETURN(loaded->tokenizer, Tokenizer::Load(directory.string()));
  // A checkpoint may have rows to spare; a tokenizer with more ids would name rows there are not.
  if (loaded->tokenizer->vocab_size() > loaded->checkpoint->config().vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        directory.string(), ": tokenizer.json has ids up to ", loaded->tokenizer->vocab_size() - 1,
        ", but the embedding has only ", loaded->checkpoint->config().vocab_size, " rows"));
  }
  OCTOGATE_ASSIGN_OR_RETURN(ChosenBackend chosen, ChooseBackend(options.device));
  loaded->no_gpu = std::move(chosen.no_gpu);
  OCTOGATE_ASSIGN_OR_RETURN(
      loaded->encoder,
      Encoder::Create(loaded->checkpoint, std::move(chosen.backend), options.encoder));
  return loaded;
}

absl::StatusOr<std::vector<int32_t>> LoadedEncoder::EncodeText(std::string_view text,
                                                               LongText long_text) const {
  OCTOGATE_ASSIGN_OR_RETURN(
      std::vector<int32_t> ids,
      tokenizer->Encode(text, {.add_special_tokens = true, .parse_special = false}));
  if (ids.empty()) return absl::InvalidArgumentError("a text has no token");
  const auto limit = static_cast<size_t>(encoder->max_tokens());
  if (ids.size() <= limit) return ids;
  if (long_text == LongText::kRefuse) {
    return absl::OutOfRangeError(
        absl::StrCat("a text has ", ids.size(), " tokens; the encoder takes at most ", limit));
  }
  // What is put around a text is there for the empty one, too; the end of it stays.
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<int32_t> around,
                            tokenizer->Encode("", {.add_special_tokens = true}));
  size_t after = 0;
  while (after < around.size() && after < limit &&
         ids[ids.size() - 1 - after] == around[around.size() - 1 - after]) {
    ++after;
  }
  ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(limit - after),
            ids.end() - static_cast<std::ptrdiff_t>(after));
  return ids;
}

absl::Status LoadedEncoder::WarmUp(absl::Time deadline) {
  return encoder->Embed({std::vector<int32_t>(8 <= encoder->max_tokens() ? 8 : 1)}, deadline)
      .status();
}

}  // namespace octogate::workers
