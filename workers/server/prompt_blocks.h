// Names the beginnings of prompts by their text, the same in every process: what a worker tells in
// a PrefixSummary, and what whoever has no tokenizer asks of one.
//
// A prompt is read as one text: its messages one behind the other, each with its role, framed by
// bytes that UTF-8 has not, so that messages cut differently never look equal, while a conversation
// that goes on, or a text with another end, shares its beginning. This text is cut into blocks of
// equal size, and each block is named by a hash of itself and all before it.
#ifndef OCTOGATE_WORKERS_SERVER_PROMPT_BLOCKS_H_
#define OCTOGATE_WORKERS_SERVER_PROMPT_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "octogate/v1/worker.pb.h"

namespace octogate::workers {

struct PromptBlocks {
  static constexpr size_t kBlockBytes = 256;
  // Of one prompt: those behind them are not named.
  static constexpr size_t kMaxBlocks = 4096;
  // Of all prompts in a summary.
  static constexpr size_t kMaxSummaryBlocks = 16'384;

  // The upper 32 bits of each full block's hash, from the beginning.
  std::vector<uint32_t> hashes;
  // Of the whole text, frames included.
  int64_t bytes = 0;
};

// Prompts that differ in `cache_salt` have no hash in common. The prompt's suffix tokens do not
// count. Not cryptographic: equal hashes can be made on purpose, and let nobody do more than have a
// call go to a replica that has to read its prompt anew.
PromptBlocks HashPrompt(const v1::WorkerPrompt& prompt, std::string_view cache_salt);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_PROMPT_BLOCKS_H_
