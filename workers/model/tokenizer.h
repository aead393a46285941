// Text to token ids and back, from a Hugging Face `tokenizer.json` as it is.
//
// The pipeline and its results are those of the `tokenizers` library (0.23):
//
//   text -> added tokens cut out -> normalizer -> pre-tokenizer -> model -> post-processor
//   ids  -> vocabulary spellings -> decoder -> text
//
// Every step of the file is either implemented exactly or refused when the file is loaded; none
// is ignored in silence. `truncation` and `padding` are checked for form but not applied: a prompt
// that is too long is for the caller to refuse, never to be cut.
//
// Supported: the models BPE (byte-level, and SentencePiece style with byte fallback) and WordPiece;
// see the headers tokenizer_*.h for normalizers, pre-tokenizers, post-processors and decoders. The
// models Unigram and WordLevel answer UNIMPLEMENTED.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace octogate::workers {

struct EncodeOptions {
  // Run the post-processor, which adds what the model was trained to see around a text (BOS …).
  bool add_special_tokens = true;
  // Special tokens spelled out in the text become their ids. False takes them as plain text: use
  // it for text from outside, so that a user cannot write the end of their own turn. Added tokens
  // that are not special are always recognised.
  bool parse_special = true;
};

// Immutable once loaded: every method may be called from any number of threads at once.
class Tokenizer {
 public:
  // Largest tokenizer.json accepted, in bytes. Loading one takes at most about four times its size
  // and 200 bytes for each of its JSON values, of which there may be 4 Mi.
  static constexpr size_t kMaxFileBytes = size_t{64} << 20;
  // Longest text that Encode accepts, in bytes, and longest that a normalizer may make of it.
  // Encoding takes at most about 48 bytes of memory for each byte of the normalized text.
  static constexpr size_t kMaxTextBytes = size_t{4} << 20;
  static constexpr size_t kMaxNormalizedBytes = 4 * kMaxTextBytes;
  // Ids in a file must be below this.
  static constexpr int32_t kMaxVocabSize = 1 << 22;

  // Reads `directory`/tokenizer.json, and the names of the BOS and EOS tokens from
  // tokenizer_config.json where there is one. NOT_FOUND without tokenizer.json;
  // INVALID_ARGUMENT or UNIMPLEMENTED, naming the file and the JSON path, for what it says.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& directory);

  // The same from memory; `source_name` stands for the file in error messages.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view tokenizer_json,
                                                             std::string_view source_name);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // `text` should be UTF-8; each maximal ill-formed part is read as one U+FFFD (as Python's
  // errors="replace" does). Text longer than kMaxTextBytes, or for which a regular expression of
  // the file needs more than its share of time or stack, is RESOURCE_EXHAUSTED; text that the
  // vocabulary cannot spell and for which the file names no unknown token loses that part, as in
  // the reference library.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                              const EncodeOptions& options = {}) const;

  // The text of `ids`, with clean_up_tokenization_spaces off. Ids outside the vocabulary are left
  // out; bytes that are not UTF-8 become U+FFFD. The result is always valid UTF-8.
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const;

  // The id of a vocabulary spelling, such as "<s>" or "Ġthe".
  std::optional<int32_t> TokenId(std::string_view token) const;
  // The vocabulary spelling of `id`; NOT_FOUND if there is none.
  absl::StatusOr<std::string> Token(int32_t id) const;
  // The bytes that each token adds to a text, by id; they need not be whole characters. Empty for
  // special tokens and unused ids. What a decoder takes from the very beginning of a text (a blank)
  // is not taken here. UNIMPLEMENTED where the decoder leaves no such bytes, as WordPiece's does.
  absl::StatusOr<std::vector<std::string>> TokenBytes() const;
  // Whether `id` is an added token marked special. False for ids outside the vocabulary.
  bool IsSpecial(int32_t id) const;
  // One more than the largest id; there may be unused ids below it.
  int vocab_size() const;

  // What tokenizer_config.json calls bos_token and eos_token, where it names a known token.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;

 private:
  friend class StreamDecoder;
  struct Parts;
  explicit Tokenizer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// Decodes one sequence as its ids arrive. The texts that Push and Flush return, joined, are exactly
// Decode of all ids, and each of them is valid UTF-8: a character spread over several tokens is
// returned with the last of them. Where the decoder's verdict on a token depends on what follows
// (a run of byte-fallback tokens, for one), its text waits until that is known.
//
// Not thread-safe: one per sequence. Memory is bounded by the text that waits.
class StreamDecoder {
 public:
  // `tokenizer` must outlive the decoder.
  StreamDecoder(const Tokenizer* tokenizer, bool skip_special_tokens);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  // The text that is certain now and was not before; may be empty.
  std::string Push(int32_t id);
  // The text that still waited. The sequence has ended: the decoder then starts a new one.
  std::string Flush();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_H_
