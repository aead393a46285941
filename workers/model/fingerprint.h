// Naming models by what they compute.
#ifndef OCTOGATE_WORKERS_MODEL_FINGERPRINT_H_
#define OCTOGATE_WORKERS_MODEL_FINGERPRINT_H_

#include <cstdint>
#include <string>

#include "workers/model/safetensors.h"

namespace octogate::workers {

// What tells two models apart wherever computed state is shared between
// processes and machines: equal fingerprints promise equal weights and
// architecture.
struct ModelFingerprint {
  uint64_t high = 0;
  uint64_t low = 0;

  std::string ToHex() const;  // 32 digits, lower case
  bool operator==(const ModelFingerprint&) const = default;
};

// A 128-bit hash (MurmurHash3 x64 128) over `config`, which spells what affects results, and over
// every tensor's name, dtype, shape and all bytes; the same on every machine, however the tensors
// are spread over files. Reads every weight, in one pass that leaves the files in the page cache.
ModelFingerprint ComputeFingerprint(std::string config, const SafetensorsCheckpoint& tensors);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_FINGERPRINT_H_
