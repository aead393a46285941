#include "workers/model/tokenizer_pretokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/model/tokenizer_normalizer.h"
#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

using pretokenizer::Behavior;
using pretokenizer::PrependScheme;
using Deadline = std::chrono::steady_clock::time_point;

constexpr size_t kMaxSteps = 64;

// A stretch of a text and whether a split took it for a delimiter.
struct Stretch {
  TextRange range;
  bool is_delimiter;
};

// The stretches of a text of `size` bytes, given the delimiters in it.
std::vector<Stretch> CoverText(const std::vector<TextRange>& delimiters, size_t size, bool invert) {
  std::vector<Stretch> stretches;
  stretches.reserve(2 * delimiters.size() + 1);
  size_t done = 0;
  for (const TextRange& delimiter : delimiters) {
    if (done < delimiter.begin) {
      stretches.push_back({{done, delimiter.begin}, invert});
    }
    stretches.push_back({delimiter, !invert});
    done = delimiter.end;
  }
  if (done < size) {
    stretches.push_back({{done, size}, invert});
  }
  return stretches;
}

std::vector<TextRange> ApplyBehavior(const std::vector<Stretch>& stretches, Behavior behavior) {
  std::vector<TextRange> kept;
  kept.reserve(stretches.size());
  bool previous = false;  // Whether the stretch looked at before was a delimiter.
  switch (behavior) {
    case Behavior::kIsolated:
      for (const Stretch& stretch : stretches) {
        kept.push_back(stretch.range);
      }
      break;
    case Behavior::kRemoved:
      for (const Stretch& stretch : stretches) {
        if (!stretch.is_delimiter) {
          kept.push_back(stretch.range);
        }
      }
      break;
    case Behavior::kContiguous:
      for (const Stretch& stretch : stretches) {
        if (stretch.is_delimiter == previous && !kept.empty()) {
          kept.back().end = stretch.range.end;
        } else {
          kept.push_back(stretch.range);
        }
        previous = stretch.is_delimiter;
      }
      break;
    case Behavior::kMergedWithPrevious:
      for (const Stretch& stretch : stretches) {
        if (stretch.is_delimiter && !previous && !kept.empty()) {
          kept.back().end = stretch.range.end;
        } else {
          kept.push_back(stretch.range);
        }
        previous = stretch.is_delimiter;
      }
      break;
    case Behavior::kMergedWithNext:
      for (auto stretch = stretches.rbegin(); stretch != stretches.rend(); ++stretch) {
        if (stretch->is_delimiter && !previous && !kept.empty()) {
          kept.back().begin = stretch->range.begin;
        } else {
          kept.push_back(stretch->range);
        }
        previous = stretch->is_delimiter;
      }
      std::reverse(kept.begin(), kept.end());
      break;
  }
  return kept;
}

template <typename IsDelimiter>
std::vector<TextRange> FindCharacters(std::string_view text, IsDelimiter is_delimiter) {
  std::vector<TextRange> found;
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const char* const start = p;
    if (is_delimiter(NextCodePoint(p))) {
      found.push_back(
          {static_cast<size_t>(start - text.data()), static_cast<size_t>(p - text.data())});
    }
  }
  return found;
}

// One application of a step to one piece.
struct Apply {
  Piece piece;
  Deadline deadline;
  std::deque<std::string>* storage;
  std::vector<Piece>* out;

  void Emit(std::string_view text, TextRange range, bool at_start) const {
    out->push_back(
        {text.substr(range.begin, range.end - range.begin), at_start && range.begin == 0});
  }

  void EmitAll(std::string_view text, const std::vector<TextRange>& ranges) const {
    for (const TextRange& range : ranges) {
      Emit(text, range, piece.at_start);
    }
  }

  std::string_view Store(std::string text) const { return storage->emplace_back(std::move(text)); }

  static void Scan(Scanner scanner, std::string_view text, bool at_start,
                   std::vector<Piece>* pieces) {
    const char* const end = text.data() + text.size();
    for (const char* p = text.data(); p < end;) {
      const char* const next = scanner(p, end);
      pieces->push_back({{p, static_cast<size_t>(next - p)}, at_start && p == text.data()});
      p = next;
    }
  }

  absl::Status operator()(const pretokenizer::ByteLevel& step) const {
    std::string_view text = piece.text;
    if (step.add_prefix_space && text[0] != ' ') {
      text = Store(absl::StrCat(" ", absl::string_view(text.data(), text.size())));
    }
    const size_t first = out->size();
    if (step.use_regex) {
      Scan(FindScanner(kGpt2Pattern), text, piece.at_start, out);
    } else {
      out->push_back({text, piece.at_start});
    }
    for (size_t i = first; step.spell && i < out->size(); ++i) {
      (*out)[i].text = Store(BytesToByteLevel((*out)[i].text));
    }
    return absl::OkStatus();
  }

  absl::Status operator()(const pretokenizer::Split& step) const {
    if (step.pattern.scanner() != nullptr && step.behavior == Behavior::kIsolated) {
      Scan(step.pattern.scanner(), piece.text, piece.at_start, out);
      return absl::OkStatus();
    }
    std::vector<TextRange> matches;
    OCTOGATE_RETURN_IF_ERROR(step.pattern.FindAll(piece.text, deadline, &matches));
    EmitAll(piece.text,
            ApplyBehavior(CoverText(matches, piece.text.size(), step.invert), step.behavior));
    return absl::OkStatus();
  }

  absl::Status operator()(const pretokenizer::Metaspace& step) const {
    std::string text;
    text.reserve(piece.text.size() * 3 / 2);
    const bool has_prefix =
        piece.text[0] == ' ' || piece.text.substr(0, step.replacement.size()) == step.replacement;
    if (!has_prefix && (step.prepend_scheme == PrependScheme::kAlways ||
                        (step.prepend_scheme == PrependScheme::kFirst && piece.at_start))) {
      text = step.replacement;
    }
    for (const char c : piece.text) {
      if (c == ' ') {
        text.append(step.replacement);
      } else {
        text.push_back(c);
      }
    }
    const std::string_view stored = Store(std::move(text));
    if (!step.split) {
      out->push_back({stored, piece.at_start});
      return absl::OkStatus();
    }
    std::vector<TextRange> matches;
    for (size_t at = stored.find(step.replacement); at != std::string_view::npos;
         at = stored.find(step.replacement, at + step.replacement.size())) {
      matches.push_back({at, at + step.replacement.size()});
    }
    EmitAll(stored,
            ApplyBehavior(CoverText(matches, stored.size(), false), Behavior::kMergedWithNext));
    return absl::OkStatus();
  }

  absl::Status operator()(const pretokenizer::CharacterSplit& step) const {
    EmitAll(piece.text, ApplyBehavior(CoverText(FindCharacters(piece.text, step.is_delimiter),
                                                piece.text.size(), false),
                                      step.behavior));
    return absl::OkStatus();
  }

  absl::Status operator()(const pretokenizer::Delimiter& step) const {
    const auto is_delimiter = [&step](char32_t code) { return code == step.delimiter; };
    EmitAll(piece.text, ApplyBehavior(CoverText(FindCharacters(piece.text, is_delimiter),
                                                piece.text.size(), false),
                                      Behavior::kRemoved));
    return absl::OkStatus();
  }

  absl::Status operator()(const pretokenizer::Words&) const {
    enum class Kind { kSpace, kWord, kOther };
    Kind run = Kind::kSpace;
    size_t run_begin = 0;
    const char* const begin = piece.text.data();
    const char* const end = begin + piece.text.size();
    for (const char* p = begin; p < end;) {
      const auto at = static_cast<size_t>(p - begin);
      const char32_t code = NextCodePoint(p);
      const Kind kind = IsWordCharacter(code) ? Kind::kWord
                        : IsWhitespace(code)  ? Kind::kSpace
                                              : Kind::kOther;
      if (kind != run) {
        if (run != Kind::kSpace) {
          Emit(piece.text, {run_begin, at}, piece.at_start);
        }
        run = kind;
        run_begin = at;
      }
    }
    if (run != Kind::kSpace) {
      Emit(piece.text, {run_begin, piece.text.size()}, piece.at_start);
    }
    return absl::OkStatus();
  }
};

absl::StatusOr<Behavior> ParseBehavior(const JsonNode& node) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string name, node.String());
  if (name == "Removed") {
    return Behavior::kRemoved;
  }
  if (name == "Isolated") {
    return Behavior::kIsolated;
  }
  if (name == "MergedWithPrevious") {
    return Behavior::kMergedWithPrevious;
  }
  if (name == "MergedWithNext") {
    return Behavior::kMergedWithNext;
  }
  if (name == "Contiguous") {
    return Behavior::kContiguous;
  }
  return node.Error(absl::StrCat("expected Removed, Isolated, MergedWithPrevious, MergedWithNext ",
                                 "or Contiguous, found ", Quoted(name)));
}

// prepend_scheme, or the older add_prefix_space.
absl::StatusOr<PrependScheme> ParsePrependScheme(const JsonNode& node) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string name, node.GetString("prepend_scheme", "always"));
  OCTOGATE_ASSIGN_OR_RETURN(const bool add_prefix_space, node.GetBool("add_prefix_space", true));
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> declared, node.Find("prepend_scheme"));
  if (!add_prefix_space) {
    if (declared.has_value() && name != "never") {
      return node.Error("add_prefix_space is false, but prepend_scheme is not \"never\"");
    }
    return PrependScheme::kNever;
  }
  if (name == "always") {
    return PrependScheme::kAlways;
  }
  if (name == "first") {
    return PrependScheme::kFirst;
  }
  if (name == "never") {
    return PrependScheme::kNever;
  }
  return declared->Error(absl::StrCat("expected always, first or never, found ", Quoted(name)));
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(const JsonNode& node) {
  PreTokenizer result;
  OCTOGATE_RETURN_IF_ERROR(result.ParseStep(node));
  if (!result.steps_.empty()) {
    if (auto* last = std::get_if<pretokenizer::ByteLevel>(&result.steps_.back())) {
      last->spell = false;
    }
  }
  return result;
}

absl::Status PreTokenizer::ParseStep(const JsonNode& node) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string type, node.GetString("type"));
  if (steps_.size() >= kMaxSteps) {
    return node.Error(absl::StrCat("more than ", kMaxSteps, " steps"));
  }
  if (type == "Sequence") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode list, node.Get("pretokenizers"));
    OCTOGATE_RETURN_IF_ERROR(list.CheckArray(kMaxSteps));
    for (size_t i = 0; i < list.value().size(); ++i) {
      OCTOGATE_RETURN_IF_ERROR(ParseStep(list.At(i)));
    }
  } else if (type == "ByteLevel") {
    OCTOGATE_ASSIGN_OR_RETURN(const bool add_prefix_space, node.GetBool("add_prefix_space"));
    OCTOGATE_ASSIGN_OR_RETURN(const bool use_regex, node.GetBool("use_regex", true));
    steps_.emplace_back(pretokenizer::ByteLevel{add_prefix_space, use_regex});
  } else if (type == "Split") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Get("pattern"));
    OCTOGATE_ASSIGN_OR_RETURN(TextPattern pattern, ParsePattern(pattern_node));
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode behavior_node, node.Get("behavior"));
    OCTOGATE_ASSIGN_OR_RETURN(const Behavior behavior, ParseBehavior(behavior_node));
    OCTOGATE_ASSIGN_OR_RETURN(const bool invert, node.GetBool("invert"));
    steps_.emplace_back(pretokenizer::Split{std::move(pattern), behavior, invert});
  } else if (type == "Metaspace") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode replacement_node, node.Get("replacement"));
    OCTOGATE_ASSIGN_OR_RETURN(const char32_t replacement, replacement_node.Character());
    OCTOGATE_ASSIGN_OR_RETURN(const PrependScheme scheme, ParsePrependScheme(node));
    OCTOGATE_ASSIGN_OR_RETURN(const bool split, node.GetBool("split", true));
    pretokenizer::Metaspace step{{}, scheme, split};
    AppendUtf8(replacement, &step.replacement);
    steps_.emplace_back(std::move(step));
  } else if (type == "Digits") {
    OCTOGATE_ASSIGN_OR_RETURN(const bool individual, node.GetBool("individual_digits"));
    steps_.emplace_back(pretokenizer::CharacterSplit{
        &IsNumeric, individual ? Behavior::kIsolated : Behavior::kContiguous});
  } else if (type == "Punctuation") {
    OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> behavior_node, node.Find("behavior"));
    Behavior behavior = Behavior::kIsolated;
    if (behavior_node.has_value()) {
      OCTOGATE_ASSIGN_OR_RETURN(behavior, ParseBehavior(*behavior_node));
    }
    steps_.emplace_back(pretokenizer::CharacterSplit{&IsPunctuation, behavior});
  } else if (type == "Whitespace") {
    steps_.emplace_back(pretokenizer::Words{});
  } else if (type == "WhitespaceSplit") {
    steps_.emplace_back(pretokenizer::CharacterSplit{&IsWhitespace, Behavior::kRemoved});
  } else if (type == "BertPreTokenizer") {
    steps_.emplace_back(pretokenizer::CharacterSplit{&IsWhitespace, Behavior::kRemoved});
    steps_.emplace_back(pretokenizer::CharacterSplit{&IsPunctuation, Behavior::kIsolated});
  } else if (type == "CharDelimiterSplit") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode delimiter_node, node.Get("delimiter"));
    OCTOGATE_ASSIGN_OR_RETURN(const char32_t delimiter, delimiter_node.Character());
    steps_.emplace_back(pretokenizer::Delimiter{delimiter});
  } else {
    return node.Unimplemented(
        absl::StrCat("the pre-tokenizer ", Quoted(type), " is not supported"));
  }
  return absl::OkStatus();
}

bool PreTokenizer::byte_level() const {
  return !steps_.empty() && std::holds_alternative<pretokenizer::ByteLevel>(steps_.back());
}

absl::Status PreTokenizer::Run(const Piece& piece, Deadline deadline,
                               std::deque<std::string>* storage, std::vector<Piece>* pieces) const {
  if (piece.text.empty()) {
    return absl::OkStatus();
  }
  std::vector<Piece> current = {piece};
  std::vector<Piece> next;
  for (const pretokenizer::Step& step : steps_) {
    const auto* bytes = std::get_if<pretokenizer::ByteLevel>(&step);
    if (bytes != nullptr && !bytes->add_prefix_space && !bytes->use_regex && !bytes->spell) {
      continue;  // Changes nothing here: the model reads bytes.
    }
    next.clear();
    for (const Piece& part : current) {
      OCTOGATE_RETURN_IF_ERROR(std::visit(Apply{part, deadline, storage, &next}, step));
    }
    std::swap(current, next);
  }
  pieces->insert(pieces->end(), current.begin(), current.end());
  return absl::OkStatus();
}

}  // namespace octogate::workers
