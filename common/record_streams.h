// Recent records of several processes, in streams that each keep the newest.
#ifndef OCTOGATE_COMMON_RECORD_STREAMS_H_
#define OCTOGATE_COMMON_RECORD_STREAMS_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace octogate {

// Records are hostile until proven: whoever reads one checks it.
//
// Thread safety: all methods may be called from any thread. They block until `deadline` at most.
// Codes beside those named: UNAVAILABLE or DEADLINE_EXCEEDED where the server says nothing in time.
class RecordStreams {
 public:
  struct Limits {
    // Of one stream; the oldest go.
    size_t max_records = 1000;
    size_t max_bytes = size_t{16} << 20;
    // After the last record of the stream.
    absl::Duration kept_for = absl::Hours(24);
    // The one that was appended to least recently is forgotten first, and goes after its time.
    size_t max_streams = 1000;
  };
  struct Record {
    std::string stream;  // not empty, without braces
    std::string id;      // not empty, of this record alone
    std::string value;
  };

  virtual ~RecordStreams() = default;

  // For each whether it was appended.
  virtual std::vector<absl::Status> Append(std::span<const Record> records,
                                           absl::Time deadline) = 0;

  // The record, whichever stream it is in. NOT_FOUND where there is none (any more), DATA_LOSS for
  // one that is not what was written.
  virtual absl::StatusOr<Record> Find(std::string_view id, absl::Time deadline) = 0;

  // The newest first, at most `limit`, and no more once their values have `max_bytes` together.
  // What is damaged is left out.
  virtual absl::StatusOr<std::vector<Record>> Newest(size_t limit, size_t max_bytes,
                                                     absl::Time deadline) = 0;
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_RECORD_STREAMS_H_
