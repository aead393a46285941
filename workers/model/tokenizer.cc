#include "workers/model/tokenizer.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <fstream>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/model/tokenizer_added_tokens.h"
#include "workers/model/tokenizer_bpe.h"
#include "workers/model/tokenizer_decoder.h"
#include "workers/model/tokenizer_json.h"
#include "workers/model/tokenizer_normalizer.h"
#include "workers/model/tokenizer_postprocessor.h"
#include "workers/model/tokenizer_pretokenizer.h"
#include "workers/model/tokenizer_unicode.h"
#include "workers/model/tokenizer_vocabulary.h"
#include "workers/model/tokenizer_wordpiece.h"

namespace octogate::workers {
namespace {

// Regular expressions that are not finished by then give up.
constexpr std::chrono::seconds kEncodeTime(5);

// Words between two looks at the clock.
constexpr int kWordsBetweenChecks = 64;

using Model = std::variant<BpeModel, WordPieceModel>;

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  }
  std::string content;
  char buffer[1 << 16];
  while (file.read(buffer, sizeof(buffer)), file.gcount() > 0) {
    content.append(buffer, static_cast<size_t>(file.gcount()));
    if (content.size() > Tokenizer::kMaxFileBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": larger than ", Tokenizer::kMaxFileBytes, " bytes"));
    }
  }
  return content;
}

}  // namespace

struct Tokenizer::Parts {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::optional<Model> model;
  AddedTokens added;
  PostProcessor post_processor;
  TokenDecoder decoder;
  int32_t vocab_size = 0;
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;

  const Vocabulary& vocabulary() const {
    return std::visit([](const auto& m) -> const Vocabulary& { return m.vocabulary(); }, *model);
  }
  std::optional<int32_t> unknown_id() const {
    return std::visit([](const auto& m) { return std::optional<int32_t>(m.unknown_id()); }, *model);
  }
  void EncodeWithModel(std::string_view piece, std::vector<int32_t>* ids) const {
    std::visit([&](const auto& m) { m.Encode(piece, ids); }, *model);
  }

  absl::Status Parse(const JsonNode& root);
  absl::Status ParseModel(const JsonNode& root);
  absl::Status ParseConfig(const JsonNode& root);
  std::optional<int32_t> Id(std::string_view token) const;
  // Empty if there is no such token.
  std::string_view Spelling(int32_t id) const;
  absl::Status EncodeText(std::string_view text, bool at_start, const EncodeOptions& options,
                          std::chrono::steady_clock::time_point deadline,
                          std::vector<int32_t>* ids) const;
  void EncodePlain(std::string_view piece, std::vector<int32_t>* ids) const;
};

absl::Status Tokenizer::Parts::Parse(const JsonNode& root) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string version, root.GetString("version", "1.0"));
  if (version != "1.0") {
    return root.Error(absl::StrCat("version: expected \"1.0\", found ", Quoted(version)));
  }
  for (const std::string_view key : {"truncation", "padding"}) {
    OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> node, root.Find(key));
    if (node.has_value() && !node->is_object()) {
      return node->Error("expected an object");
    }
  }
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> normalizer_node, root.Find("normalizer"));
  if (normalizer_node.has_value()) {
    OCTOGATE_ASSIGN_OR_RETURN(normalizer, Normalizer::Parse(*normalizer_node));
  }
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> pre_node, root.Find("pre_tokenizer"));
  if (pre_node.has_value()) {
    OCTOGATE_ASSIGN_OR_RETURN(pre_tokenizer, PreTokenizer::Parse(*pre_node));
  }
  OCTOGATE_RETURN_IF_ERROR(ParseModel(root));
  vocab_size = vocabulary().size();
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> added_node, root.Find("added_tokens"));
  if (added_node.has_value()) {
    OCTOGATE_ASSIGN_OR_RETURN(added, AddedTokens::Parse(*added_node, vocabulary(), normalizer));
    for (const AddedToken& token : added.tokens()) {
      vocab_size = std::max(vocab_size, token.id + 1);
    }
  }
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> post_node, root.Find("post_processor"));
  if (post_node.has_value()) {
    OCTOGATE_ASSIGN_OR_RETURN(post_processor, PostProcessor::Parse(*post_node, vocab_size));
  }
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> decoder_node, root.Find("decoder"));
  if (decoder_node.has_value()) {
    OCTOGATE_ASSIGN_OR_RETURN(decoder, TokenDecoder::Parse(*decoder_node));
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::Parts::ParseModel(const JsonNode& root) {
  OCTOGATE_ASSIGN_OR_RETURN(const JsonNode node, root.Get("model"));
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> merges, node.Find("merges"));
  // Old files leave the type out.
  OCTOGATE_ASSIGN_OR_RETURN(const std::string type,
                            node.GetString("type", merges.has_value() ? "BPE" : "unnamed"));
  if (type == "BPE") {
    OCTOGATE_ASSIGN_OR_RETURN(model, BpeModel::Parse(node, pre_tokenizer.byte_level()));
  } else if (type == "WordPiece") {
    if (pre_tokenizer.byte_level()) {
      return node.Unimplemented("WordPiece after the pre-tokenizer ByteLevel is not supported");
    }
    OCTOGATE_ASSIGN_OR_RETURN(model, WordPieceModel::Parse(node));
  } else {
    return node.Unimplemented(
        absl::StrCat("the model type ", Quoted(type), " is not supported; BPE and WordPiece are"));
  }
  return absl::OkStatus();
}

// bos_token and eos_token are strings, objects with "content", or null.
absl::Status Tokenizer::Parts::ParseConfig(const JsonNode& root) {
  for (const auto& [key, id] : {std::pair{"bos_token", &bos}, std::pair{"eos_token", &eos}}) {
    OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> node, root.Find(key));
    if (!node.has_value()) {
      continue;
    }
    OCTOGATE_ASSIGN_OR_RETURN(const std::string content,
                              node->is_object() ? node->GetString("content") : node->String());
    *id = Id(content);
  }
  return absl::OkStatus();
}

std::optional<int32_t> Tokenizer::Parts::Id(std::string_view token) const {
  for (const AddedToken& added_token : added.tokens()) {
    if (added_token.content == token) {
      return added_token.id;
    }
  }
  return vocabulary().Id(token);
}

std::string_view Tokenizer::Parts::Spelling(int32_t id) const {
  if (const AddedToken* token = added.Find(id)) {
    return token->content;
  }
  return vocabulary().Has(id) ? vocabulary().Token(id) : std::string_view();
}

// Without parse_special: should the model itself spell a special token, take the text character by
// character, and leave out a character that is a special token even so.
void Tokenizer::Parts::EncodePlain(std::string_view piece, std::vector<int32_t>* ids) const {
  const auto is_special = [this](int32_t id) {
    const AddedToken* token = added.Find(id);
    return token != nullptr && token->special && id != unknown_id();
  };
  const size_t first = ids->size();
  EncodeWithModel(piece, ids);
  if (std::none_of(ids->begin() + static_cast<ptrdiff_t>(first), ids->end(), is_special)) {
    return;
  }
  ids->resize(first);
  for (size_t at = 0; at < piece.size();) {
    const size_t length = Utf8Length(piece[at]);
    const size_t before = ids->size();
    EncodeWithModel(piece.substr(at, length), ids);
    ids->erase(
        std::remove_if(ids->begin() + static_cast<ptrdiff_t>(before), ids->end(), is_special),
        ids->end());
    at += length;
  }
}

// Text between added tokens that are not normalized.
absl::Status Tokenizer::Parts::EncodeText(std::string_view text, bool at_start,
                                          const EncodeOptions& options,
                                          std::chrono::steady_clock::time_point deadline,
                                          std::vector<int32_t>* ids) const {
  std::string normalized;
  if (!normalizer.empty()) {
    normalized = text;
    OCTOGATE_RETURN_IF_ERROR(normalizer.Run(&normalized, kMaxNormalizedBytes, deadline));
    text = normalized;
  }
  std::deque<std::string> storage;
  std::vector<Piece> pieces;
  for (const TextSegment& segment : added.Cut(text, true, options.parse_special)) {
    if (segment.id >= 0) {
      ids->push_back(segment.id);
      continue;
    }
    const Piece whole{text.substr(segment.range.begin, segment.range.end - segment.range.begin),
                      at_start && segment.range.begin == 0};
    storage.clear();
    pieces.clear();
    OCTOGATE_RETURN_IF_ERROR(pre_tokenizer.Run(whole, deadline, &storage, &pieces));
    int words = 0;
    for (const Piece& piece : pieces) {
      if (++words % kWordsBetweenChecks == 0 && std::chrono::steady_clock::now() > deadline) {
        return absl::ResourceExhaustedError("the text takes too long to encode");
      }
      if (options.parse_special) {
        EncodeWithModel(piece.text, ids);
      } else {
        EncodePlain(piece.text, ids);
      }
    }
  }
  return absl::OkStatus();
}

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/tokenizer.json");
  OCTOGATE_ASSIGN_OR_RETURN(const std::string json, ReadFile(path));
  OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, FromJson(json, path));
  const std::string config_path = absl::StrCat(directory, "/tokenizer_config.json");
  const absl::StatusOr<std::string> config = ReadFile(config_path);
  if (absl::IsNotFound(config.status())) {
    return tokenizer;
  }
  OCTOGATE_RETURN_IF_ERROR(config.status());
  OCTOGATE_ASSIGN_OR_RETURN(const nlohmann::json document,
                            ParseTokenizerJson(*config, config_path));
  OCTOGATE_RETURN_IF_ERROR(tokenizer->parts_->ParseConfig(JsonNode(document, config_path)));
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json,
                                                               std::string_view source_name) {
  if (tokenizer_json.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(Absl(source_name), ": larger than ", kMaxFileBytes, " bytes"));
  }
  try {
    OCTOGATE_ASSIGN_OR_RETURN(const nlohmann::json document,
                              ParseTokenizerJson(tokenizer_json, source_name));
    auto parts = std::make_unique<Parts>();
    OCTOGATE_RETURN_IF_ERROR(parts->Parse(JsonNode(document, source_name)));
    return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(parts)));
  } catch (const std::exception& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat(Absl(source_name), ": cannot be loaded: ", error.what()));
  }
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                                       const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the text has ", text.size(), " bytes; the limit is ", kMaxTextBytes));
  }
  std::string repaired;
  if (!IsValidUtf8(text)) {
    AppendUtf8Lossy(text, /*final=*/true, &repaired);
    text = repaired;
  }
  const auto deadline = std::chrono::steady_clock::now() + kEncodeTime;
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  if (options.add_special_tokens) {
    ids = parts_->post_processor.before;
  }
  for (const TextSegment& segment : parts_->added.Cut(text, false, options.parse_special)) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    OCTOGATE_RETURN_IF_ERROR(parts_->EncodeText(
        text.substr(segment.range.begin, segment.range.end - segment.range.begin),
        segment.range.begin == 0, options, deadline, &ids));
  }
  if (options.add_special_tokens) {
    ids.insert(ids.end(), parts_->post_processor.after.begin(), parts_->post_processor.after.end());
  }
  return ids;
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const {
  std::string text;
  DecodeRun run(&parts_->decoder);
  for (const int32_t id : ids) {
    const std::string_view token = parts_->Spelling(id);
    if (!token.empty() && !(skip_special_tokens && IsSpecial(id))) {
      run.Push(token, &text);
    }
  }
  run.Finish(&text);
  return text;
}

std::optional<int32_t> Tokenizer::TokenId(std::string_view token) const {
  return parts_->Id(token);
}

absl::StatusOr<std::string> Tokenizer::Token(int32_t id) const {
  const std::string_view token = parts_->Spelling(id);
  if (token.empty() && !parts_->vocabulary().Has(id)) {
    return absl::NotFoundError(absl::StrCat("no token has the id ", id));
  }
  return std::string(token);
}

absl::StatusOr<std::vector<std::string>> Tokenizer::TokenBytes() const {
  std::vector<std::string> tokens(static_cast<size_t>(vocab_size()));
  for (int32_t id = 0; id < vocab_size(); ++id) {
    const std::string_view token = parts_->Spelling(id);
    if (token.empty() || IsSpecial(id)) continue;
    OCTOGATE_ASSIGN_OR_RETURN(tokens[static_cast<size_t>(id)], parts_->decoder.BytesOf(token));
  }
  return tokens;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  const AddedToken* token = parts_->added.Find(id);
  return token != nullptr && token->special;
}

int Tokenizer::vocab_size() const { return parts_->vocab_size; }

std::optional<int32_t> Tokenizer::bos_id() const { return parts_->bos; }

std::optional<int32_t> Tokenizer::eos_id() const { return parts_->eos; }

struct StreamDecoder::State {
  const Tokenizer* tokenizer;
  bool skip_special_tokens;
  DecodeRun run;
};

StreamDecoder::StreamDecoder(const Tokenizer* tokenizer, bool skip_special_tokens)
    : state_(new State{tokenizer, skip_special_tokens, DecodeRun(&tokenizer->parts_->decoder)}) {}

StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::Push(int32_t id) {
  std::string text;
  const std::string_view token = state_->tokenizer->parts_->Spelling(id);
  if (!token.empty() && !(state_->skip_special_tokens && state_->tokenizer->IsSpecial(id))) {
    state_->run.Push(token, &text);
  }
  return text;
}

std::string StreamDecoder::Flush() {
  std::string text;
  state_->run.Finish(&text);
  return text;
}

}  // namespace octogate::workers
