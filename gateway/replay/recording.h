// A file of recorded answers, which replay nodes serve in place of a model.
#ifndef OCTOGATE_GATEWAY_REPLAY_RECORDING_H_
#define OCTOGATE_GATEWAY_REPLAY_RECORDING_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace octogate::gateway {

struct RecordedAnswer {
  std::string text;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;  // At least 1.
  double confidence = 1;      // In [0, 1].
  absl::Duration latency;     // From the query to the end of the answer.
};

struct RecordingLimits {
  size_t max_file_bytes = size_t{512} << 20;
  size_t max_line_bytes = size_t{4} << 20;
  size_t max_answers = 1'000'000;
  int64_t max_tokens = 1'000'000;  // Of one answer or its input.
  double max_latency_ms = 3'600'000;
};

// The query as recordings know it: white space (ASCII) at both ends removed, and each run of it
// within replaced by one space. Letters keep their case.
std::string NormalizeQuery(std::string_view query);

// Immutable once read: thread-safe.
class Recording {
 public:
  // Reads JSON lines: one object per line, empty lines skipped, with the keys
  //   "query"          text, required, unlike those of other lines when normalized
  //   "answer"         text, required
  //   "output_tokens"  whole number from 1, or else
  //   "output_chars"   whole number from 0: four of them count as one token, at least one in all;
  //                    exactly one of both
  //   "input_tokens"   whole number from 0; default: a quarter of the query's bytes, rounded up
  //   "confidence"     0 to 1; default 1
  //   "latency_ms"     0 or more; default 0
  // and no others. The first thing that is wrong, be it a line that is no JSON or not UTF-8, a
  // value of another type or out of range, a second line with the same query, or a limit, is
  // INVALID_ARGUMENT (RESOURCE_EXHAUSTED for limits) as "NAME:LINE: ...". A file that cannot be
  // read is NOT_FOUND. DEADLINE_EXCEEDED where reading takes longer.
  static absl::StatusOr<std::shared_ptr<const Recording>> Read(const std::filesystem::path& file,
                                                               std::string_view name,
                                                               absl::Time deadline,
                                                               const RecordingLimits& limits = {});

  // The answer to a query, compared after NormalizeQuery; null for an unknown one.
  const RecordedAnswer* Find(std::string_view query) const;

  size_t size() const { return answers_.size(); }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  absl::flat_hash_map<std::string, RecordedAnswer> answers_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLAY_RECORDING_H_
