// Naming tokenizers by what their ids stand for.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_FINGERPRINT_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_FINGERPRINT_H_

#include "common/hash128.h"
#include "workers/model/tokenizer.h"

namespace octogate::workers {

// Equal fingerprints promise equal vocabularies: the same spelling for every id, and the same
// special tokens. So token ids mean the same, and may be exchanged; how a text is split into them
// may differ.
Hash128 TokenizerFingerprint(const Tokenizer& tokenizer);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_FINGERPRINT_H_
