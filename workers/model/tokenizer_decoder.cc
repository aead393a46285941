#include "workers/model/tokenizer_decoder.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "workers/model/tokenizer_normalizer.h"
#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxSteps = 64;
constexpr int64_t kMaxStrip = 1 << 20;

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

// A step of one run. A token arrives as one or more fragments, the last of which has `ends`: what
// Fuse and ByteLevel make of a sequence is a single token that only ends with the sequence.
class DecodeRun::Stage {
 public:
  virtual ~Stage() = default;
  virtual void Feed(std::string_view fragment, bool ends) = 0;
  // No further token.
  virtual void Finish() { next_->Finish(); }

  void set_next(Stage* next) { next_ = next; }

  class Sink;
  class WholeTokens;
  class ByteLevel;
  class ByteFallback;
  class Fuse;
  class Strip;
  class ReplaceLiteral;
  class ReplaceRegex;
  class Metaspace;
  class WordPiece;
  class WordEnd;
  class Join;
  struct Make;

 protected:
  void Emit(std::string_view fragment, bool ends) { next_->Feed(fragment, ends); }

  Stage* next_ = nullptr;
};

// Where the text ends up.
class DecodeRun::Stage::Sink : public Stage {
 public:
  void Feed(std::string_view fragment, bool) override { text->append(fragment); }
  void Finish() override {}

  std::string* text = nullptr;
};

// Puts fragments together again.
class DecodeRun::Stage::WholeTokens : public Stage {
 public:
  void Feed(std::string_view fragment, bool ends) final {
    if (!ends) {
      token_.append(fragment);
    } else if (token_.empty()) {
      Token(fragment);
    } else {
      token_.append(fragment);
      Token(token_);
      token_.clear();
    }
  }

 protected:
  virtual void Token(std::string_view token) = 0;

 private:
  std::string token_;
};

class DecodeRun::Stage::ByteLevel : public WholeTokens {
 public:
  void Finish() override {
    Flush(/*final=*/true);
    next_->Finish();
  }

 protected:
  void Token(std::string_view token) override {
    if (ByteLevelToBytes(token, &bytes_)) {
      pending_.append(bytes_);
    } else {
      pending_.append(token);
    }
    Flush(/*final=*/false);
  }

 private:
  void Flush(bool final) {
    text_.clear();
    pending_.erase(0, AppendUtf8Lossy(pending_, final, &text_));
    Emit(text_, final);
  }

  std::string bytes_;
  std::string pending_;
  std::string text_;
};

class DecodeRun::Stage::ByteFallback : public WholeTokens {
 public:
  void Finish() override {
    EndRun();
    next_->Finish();
  }

 protected:
  void Token(std::string_view token) override {
    if (const std::optional<char> byte = ParseByte(token)) {
      run_.push_back(*byte);
      return;
    }
    EndRun();
    Emit(token, true);
  }

 private:
  static int HexDigit(char c) {
    if (c >= '0' && c <= '9') {
      return c - '0';
    }
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
  }

  // <0xHH>
  static std::optional<char> ParseByte(std::string_view token) {
    if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') {
      return std::nullopt;
    }
    const int low = HexDigit(token[4]);
    // The reference library's parser takes a sign for the first digit.
    const int high = token[3] == '+' ? 0 : HexDigit(token[3]);
    if (high < 0 || low < 0) {
      return std::nullopt;
    }
    return static_cast<char>(high << 4 | low);
  }

  // A run of bytes is text if all of it is, and otherwise one U+FFFD for every byte.
  void EndRun() {
    if (run_.empty()) {
      return;
    }
    if (IsValidUtf8(run_)) {
      Emit(run_, true);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) {
        Emit(kReplacementCharacter, true);
      }
    }
    run_.clear();
  }

  std::string run_;
};

class DecodeRun::Stage::Fuse : public Stage {
 public:
  void Feed(std::string_view fragment, bool) override { Emit(fragment, false); }
  void Finish() override {
    Emit("", true);
    next_->Finish();
  }
};

// Removes up to `start` and `stop` of a character from the two ends of every token.
class DecodeRun::Stage::Strip : public Stage {
 public:
  explicit Strip(const decoder::Strip& step) : start_(step.start), stop_(step.stop) {
    AppendUtf8(step.content, &content_);
  }

  void Feed(std::string_view fragment, bool ends) override {
    while (in_start_ && removed_ < start_ && StartsWithContent(fragment)) {
      fragment.remove_prefix(content_.size());
      ++removed_;
    }
    in_start_ = in_start_ && fragment.empty();
    std::string text;
    if (stop_ == 0) {
      text = fragment;
    } else {
      while (!fragment.empty()) {
        const size_t length = Utf8Length(fragment[0]);
        if (StartsWithContent(fragment)) {
          // Only the last `stop_` of a run can still be removed.
          if (held_ == stop_) {
            text.append(content_);
          } else {
            ++held_;
          }
        } else {
          Release(&text);
          text.append(fragment.substr(0, length));
        }
        fragment.remove_prefix(length);
      }
    }
    if (ends) {
      in_start_ = true;
      removed_ = 0;
      held_ = 0;
    }
    Emit(text, ends);
  }

 private:
  bool StartsWithContent(std::string_view text) const {
    return text.substr(0, content_.size()) == content_;
  }

  void Release(std::string* text) {
    for (; held_ > 0; --held_) {
      text->append(content_);
    }
  }

  std::string content_;
  size_t start_;
  size_t stop_;
  bool in_start_ = true;
  size_t removed_ = 0;
  size_t held_ = 0;
};

class DecodeRun::Stage::ReplaceLiteral : public Stage {
 public:
  explicit ReplaceLiteral(const decoder::Replace& step)
      : literal_(step.pattern.literal()), content_(step.content) {}

  void Feed(std::string_view fragment, bool ends) override {
    pending_.append(fragment);
    std::string text;
    size_t done = 0;
    for (size_t at = pending_.find(literal_); at != std::string::npos;
         at = pending_.find(literal_, done)) {
      text.append(pending_, done, at - done);
      text.append(content_);
      done = at + literal_.size();
    }
    const size_t keep = ends ? 0 : PossibleStart(std::string_view(pending_).substr(done));
    text.append(pending_, done, pending_.size() - keep - done);
    pending_.erase(0, pending_.size() - keep);
    Emit(text, ends);
  }

 private:
  // Length of the longest end of `text` that may be the start of the literal.
  size_t PossibleStart(std::string_view text) const {
    for (size_t length = std::min(text.size(), literal_.size() - 1); length > 0; --length) {
      if (text.substr(text.size() - length) == std::string_view(literal_).substr(0, length)) {
        return length;
      }
    }
    return 0;
  }

  const std::string& literal_;
  const std::string& content_;
  std::string pending_;
};

class DecodeRun::Stage::ReplaceRegex : public WholeTokens {
 public:
  explicit ReplaceRegex(const decoder::Replace& step) : step_(step) {}

 protected:
  void Token(std::string_view token) override {
    std::vector<TextRange> matches;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    if (!step_.pattern.FindAll(token, deadline, &matches).ok()) {
      matches.clear();  // Out of time: the token stays as it is.
    }
    std::string text;
    size_t done = 0;
    for (const TextRange& match : matches) {
      text.append(token.substr(done, match.begin - done));
      text.append(step_.content);
      done = match.end;
    }
    text.append(token.substr(done));
    Emit(text, true);
  }

 private:
  const decoder::Replace& step_;
};

class DecodeRun::Stage::Metaspace : public Stage {
 public:
  explicit Metaspace(const decoder::Metaspace& step) : strip_(step.strip_first) {
    AppendUtf8(step.replacement, &replacement_);
  }

  void Feed(std::string_view fragment, bool ends) override {
    const bool strip = first_ && strip_;
    Emit(absl::StrReplaceAll(Absl(fragment), {{replacement_, strip ? "" : " "}}), ends);
    first_ = first_ && !ends;
  }

 private:
  std::string replacement_;
  bool strip_;
  bool first_ = true;
};

class DecodeRun::Stage::WordPiece : public WholeTokens {
 public:
  explicit WordPiece(const decoder::WordPiece& step) : step_(step) {}

 protected:
  void Token(std::string_view token) override {
    std::string text(token);
    if (!first_) {
      if (token.substr(0, step_.prefix.size()) == step_.prefix) {
        text.erase(0, step_.prefix.size());
      } else {
        text = absl::StrCat(" ", text);
      }
    }
    first_ = false;
    if (step_.cleanup) {
      // One after the other, as each may make place for the next.
      constexpr std::pair<const char*, const char*> kCleanups[] = {
          {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
          {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
          {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
      };
      for (const auto& [from, to] : kCleanups) {
        text = absl::StrReplaceAll(text, {{from, to}});
      }
    }
    Emit(text, true);
  }

 private:
  const decoder::WordPiece& step_;
  bool first_ = true;
};

// The suffix that marks the end of a word becomes a blank, except in the last token.
class DecodeRun::Stage::WordEnd : public WholeTokens {
 public:
  explicit WordEnd(const decoder::WordEnd& step) : step_(step) {}

  void Finish() override {
    if (held_.has_value()) {
      EmitHeld("");
    }
    next_->Finish();
  }

 protected:
  void Token(std::string_view token) override {
    if (held_.has_value()) {
      EmitHeld(" ");
    }
    held_ = std::string(token);
  }

 private:
  void EmitHeld(const char* instead) {
    Emit(absl::StrReplaceAll(*held_, {{step_.suffix, instead}}), true);
    held_.reset();
  }

  const decoder::WordEnd& step_;
  std::optional<std::string> held_;
};

class DecodeRun::Stage::Join : public Stage {
 public:
  void Feed(std::string_view fragment, bool ends) override {
    if (token_starts_ && !first_) {
      Emit(" ", false);
    }
    first_ = false;
    token_starts_ = ends;
    Emit(fragment, ends);
  }

 private:
  bool first_ = true;
  bool token_starts_ = true;
};

// The stage for a step.
struct DecodeRun::Stage::Make {
  using Owned = std::unique_ptr<Stage>;
  Owned operator()(const decoder::ByteLevel&) const { return std::make_unique<ByteLevel>(); }
  Owned operator()(const decoder::ByteFallback&) const { return std::make_unique<ByteFallback>(); }
  Owned operator()(const decoder::Fuse&) const { return std::make_unique<Fuse>(); }
  Owned operator()(const decoder::Strip& step) const { return std::make_unique<Strip>(step); }
  Owned operator()(const decoder::Replace& step) const {
    if (step.pattern.literal().empty()) {
      return std::make_unique<ReplaceRegex>(step);
    }
    return std::make_unique<ReplaceLiteral>(step);
  }
  Owned operator()(const decoder::Metaspace& step) const {
    return std::make_unique<Metaspace>(step);
  }
  Owned operator()(const decoder::WordPiece& step) const {
    return std::make_unique<WordPiece>(step);
  }
  Owned operator()(const decoder::WordEnd& step) const { return std::make_unique<WordEnd>(step); }
  Owned operator()(const decoder::Join&) const { return std::make_unique<Join>(); }
};

absl::StatusOr<TokenDecoder> TokenDecoder::Parse(const JsonNode& node) {
  TokenDecoder result;
  result.steps_.clear();
  OCTOGATE_RETURN_IF_ERROR(result.ParseStep(node));
  return result;
}

absl::Status TokenDecoder::ParseStep(const JsonNode& node) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string type, node.GetString("type"));
  if (steps_.size() >= kMaxSteps) {
    return node.Error(absl::StrCat("more than ", kMaxSteps, " steps"));
  }
  if (type == "Sequence") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode list, node.Get("decoders"));
    OCTOGATE_RETURN_IF_ERROR(list.CheckArray(kMaxSteps));
    for (size_t i = 0; i < list.value().size(); ++i) {
      OCTOGATE_RETURN_IF_ERROR(ParseStep(list.At(i)));
    }
  } else if (type == "ByteLevel") {
    steps_.emplace_back(decoder::ByteLevel{});
  } else if (type == "ByteFallback") {
    steps_.emplace_back(decoder::ByteFallback{});
  } else if (type == "Fuse") {
    steps_.emplace_back(decoder::Fuse{});
  } else if (type == "Strip") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode content_node, node.Get("content"));
    OCTOGATE_ASSIGN_OR_RETURN(const char32_t content, content_node.Character());
    OCTOGATE_ASSIGN_OR_RETURN(const int64_t start, node.GetInteger("start", 0, kMaxStrip));
    OCTOGATE_ASSIGN_OR_RETURN(const int64_t stop, node.GetInteger("stop", 0, kMaxStrip));
    steps_.emplace_back(
        decoder::Strip{content, static_cast<size_t>(start), static_cast<size_t>(stop)});
  } else if (type == "Replace") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Get("pattern"));
    OCTOGATE_ASSIGN_OR_RETURN(TextPattern pattern, ParsePattern(pattern_node));
    OCTOGATE_ASSIGN_OR_RETURN(std::string content, node.GetString("content"));
    steps_.emplace_back(decoder::Replace{std::move(pattern), std::move(content)});
  } else if (type == "Metaspace") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode replacement_node, node.Get("replacement"));
    OCTOGATE_ASSIGN_OR_RETURN(const char32_t replacement, replacement_node.Character());
    OCTOGATE_ASSIGN_OR_RETURN(const std::string scheme, node.GetString("prepend_scheme", "always"));
    OCTOGATE_ASSIGN_OR_RETURN(const bool prefix, node.GetBool("add_prefix_space", true));
    steps_.emplace_back(decoder::Metaspace{replacement, prefix && scheme != "never"});
  } else if (type == "WordPiece") {
    OCTOGATE_ASSIGN_OR_RETURN(std::string prefix, node.GetString("prefix"));
    OCTOGATE_ASSIGN_OR_RETURN(const bool cleanup, node.GetBool("cleanup"));
    steps_.emplace_back(decoder::WordPiece{std::move(prefix), cleanup});
  } else if (type == "BPEDecoder") {
    OCTOGATE_ASSIGN_OR_RETURN(std::string suffix, node.GetString("suffix"));
    if (suffix.empty()) {
      return node.Error("the suffix is empty");
    }
    steps_.emplace_back(decoder::WordEnd{std::move(suffix)});
  } else {
    return node.Unimplemented(absl::StrCat("the decoder ", Quoted(type), " is not supported"));
  }
  return absl::OkStatus();
}

DecodeRun::DecodeRun(const TokenDecoder* decoder) : decoder_(decoder) { Reset(); }

DecodeRun::~DecodeRun() = default;

void DecodeRun::Reset() {
  stages_.clear();
  for (const decoder::Step& step : decoder_->steps()) {
    stages_.push_back(std::visit(Stage::Make{}, step));
  }
  stages_.push_back(std::make_unique<Stage::Sink>());
  for (size_t i = 0; i + 1 < stages_.size(); ++i) {
    stages_[i]->set_next(stages_[i + 1].get());
  }
}

void DecodeRun::Push(std::string_view token, std::string* text) {
  static_cast<Stage::Sink&>(*stages_.back()).text = text;
  stages_.front()->Feed(token, true);
}

void DecodeRun::Finish(std::string* text) {
  static_cast<Stage::Sink&>(*stages_.back()).text = text;
  stages_.front()->Finish();
  Reset();
}

}  // namespace octogate::workers
