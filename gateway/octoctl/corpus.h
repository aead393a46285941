// Texts of files and folders, document by document.

#ifndef OCTOGATE_GATEWAY_OCTOCTL_CORPUS_H_
#define OCTOGATE_GATEWAY_OCTOCTL_CORPUS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace octogate::octoctl {

// Takes what is read. The first error ends the reading.
class CorpusReceiver {
 public:
  virtual ~CorpusReceiver() = default;

  // What is about to be read.
  virtual void File(const std::string& path) { static_cast<void>(path); }
  // A file of a folder that is no text.
  virtual void Skipped(const std::string& path) { static_cast<void>(path); }
  // The document's text goes on. A long one comes in pieces of kMaxPieceBytes at most, cut where a
  // line begins, if possible.
  virtual absl::Status Text(std::string_view piece) = 0;
  // A document of token ids.
  virtual absl::Status Tokens(std::span<const int32_t> ids) = 0;
  // The document of Text ends.
  virtual absl::Status EndDocument() = 0;

  static constexpr size_t kMaxPieceBytes = size_t{1} << 20;
};

struct CorpusOptions {
  // A folder stands for all files in it and below, in order of their paths, but for those that are
  // hidden or no text. "-" is standard input.
  std::vector<std::string> paths;
  // Of a JSON Lines file (named *.jsonl or *.ndjson), whose lines are objects: a string is a
  // document, an array of strings several, an array of integers token ids.
  std::vector<std::string> fields = {"text"};
};

// NOT_FOUND, PERMISSION_DENIED and the like for what cannot be read, INVALID_ARGUMENT with file and
// line for what is not as above, and for a JSON Lines file without any of the fields.
absl::Status ReadCorpus(const CorpusOptions& options, CorpusReceiver& receiver);

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_CORPUS_H_
