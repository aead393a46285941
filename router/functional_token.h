#ifndef OCTOGATE_ROUTER_FUNCTIONAL_TOKEN_H_
#define OCTOGATE_ROUTER_FUNCTIONAL_TOKEN_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "octogate/v1/graph.pb.h"

// What a language model writes to choose a node: `<token>argument<end>`.

namespace octogate::router {

// The spelling that a checkpoint was trained on.
class FunctionalTokenSyntax {
 public:
  // INVALID_ARGUMENT unless all tokens, the end token included, are different, not empty, and none
  // is part of another: so that what is read does not depend on how the text arrives.
  static absl::StatusOr<FunctionalTokenSyntax> Create(std::vector<std::string> tokens,
                                                      std::string end_token,
                                                      v1::ArgumentStyle style);

  // The token that stands at the beginning of `text`, or empty.
  std::string_view TokenAt(std::string_view text) const;
  const std::string& end_token() const { return end_token_; }
  v1::ArgumentStyle style() const { return style_; }
  // Whether `text` is the beginning of a token, but none yet.
  bool MayBecomeToken(std::string_view text) const;

 private:
  FunctionalTokenSyntax() = default;

  absl::flat_hash_set<std::string> tokens_;  // The end token included.
  std::vector<std::string> sorted_;          // The same.
  std::vector<size_t> lengths_;              // Of tokens, each once.
  bool starts_[256] = {};                    // First bytes of tokens.
  std::string end_token_;
  v1::ArgumentStyle style_ = v1::ARGUMENT_STYLE_RAW;
};

enum class FunctionalTokenState {
  kComplete,      // A token, its argument and the end token.
  kTruncated,     // The text ends, or is over-long, before the end token; the argument is as far as
                  // it goes.
  kUnknownToken,  // The text begins with something like a token that is none, e.g. <nexa_99>.
  kNoToken,       // Text without token.
  kMalformed,     // CALL style without ('…'), or a second token within the argument.
};

struct FunctionalToken {
  FunctionalTokenState state = FunctionalTokenState::kNoToken;
  std::string token;     // The token, or the unknown one; empty for kNoToken.
  std::string argument;  // Without surrounding white space; for kMalformed as it was written.
  std::string leading;   // Text before the token, other than white space.
};

// Reads generated text, special tokens included, as it comes in pieces of any size. What it returns
// depends on the whole text alone:
//   - The first token counts, wherever it stands. What is before it is `leading`.
//   - RAW: the argument is everything up to the end token, without surrounding white space.
//   - CALL: between token and end token stand, apart from white space, `('…')` or `("…")`. The
//     argument reaches to the last quote, so that quotes and parentheses in it need not be escaped;
//     \\, \', \", \n and \t are unescaped, other backslashes stay.
//   - What follows the end token is not read.
//   - Texts over max_bytes are cut there.
class FunctionalTokenParser {
 public:
  static constexpr size_t kDefaultMaxBytes = size_t{64} << 10;

  // `syntax` outlives the parser.
  explicit FunctionalTokenParser(const FunctionalTokenSyntax* syntax,
                                 size_t max_bytes = kDefaultMaxBytes)
      : syntax_(*syntax), max_bytes_(max_bytes) {}

  void Feed(std::string_view piece);

  // Nothing that may still come changes the result: generation can stop.
  bool done() const { return done_; }

  // The result if the text ends here.
  FunctionalToken Finish() const;

 private:
  static constexpr size_t kNowhere = std::string::npos;

  void Scan();

  const FunctionalTokenSyntax& syntax_;
  const size_t max_bytes_;
  std::string text_;
  size_t scanned_ = 0;          // No token starts before, other than those found.
  size_t token_ = kNowhere;     // Where the first token starts,
  size_t argument_ = kNowhere;  // where it ends,
  size_t close_ = kNowhere;     // and where the next one starts.
  bool done_ = false;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_FUNCTIONAL_TOKEN_H_
