// The decoders of tokenizer.json: vocabulary spellings in, text out, as they arrive.
//
// Sequence, ByteLevel, ByteFallback, Fuse, Strip, Replace (String and Regex), Metaspace, WordPiece,
// BPEDecoder. Others (CTC) are UNIMPLEMENTED.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_DECODER_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_DECODER_H_

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/model/tokenizer_json.h"
#include "workers/model/tokenizer_regex.h"

namespace octogate::workers {

namespace decoder {
struct ByteLevel {};
struct ByteFallback {};
struct Fuse {};
struct Strip {
  char32_t content;
  size_t start;
  size_t stop;
};
struct Replace {
  TextPattern pattern;
  std::string content;
};
struct Metaspace {
  char32_t replacement;
  bool strip_first;
};
struct WordPiece {
  std::string prefix;
  bool cleanup;
};
struct WordEnd {
  std::string suffix;
};
// A file without a decoder: tokens are joined by blanks.
struct Join {};
using Step = std::variant<ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, WordPiece,
                          WordEnd, Join>;
}  // namespace decoder

// Immutable after Parse.
class TokenDecoder {
 public:
  // The decoder of a file that names none.
  TokenDecoder() : steps_{decoder::Join{}} {}
  static absl::StatusOr<TokenDecoder> Parse(const JsonNode& node);

  const std::vector<decoder::Step>& steps() const { return steps_; }

  // What `token`, not added, contributes to a text; see Tokenizer::TokenBytes. In
  // tokenizer_token_bytes.cc.
  absl::StatusOr<std::string> BytesOf(std::string_view token) const;

 private:
  absl::Status ParseStep(const JsonNode& node);
  std::vector<decoder::Step> steps_;
};

// One sequence on its way through a decoder. The steps of the reference library see the whole list
// of tokens; here each keeps what it cannot decide yet, so that a text and a stream are decoded by
// the same code.
class DecodeRun {
 public:
  // `decoder` must outlive the run.
  explicit DecodeRun(const TokenDecoder* decoder);
  ~DecodeRun();

  // Appends the text that is certain after `token`, well-formed UTF-8, has arrived.
  void Push(std::string_view token, std::string* text);
  // Appends the rest and starts over.
  void Finish(std::string* text);

 private:
  class Stage;
  void Reset();

  const TokenDecoder* decoder_;
  std::vector<std::unique_ptr<Stage>> stages_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_DECODER_H_
