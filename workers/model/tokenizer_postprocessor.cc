#include "workers/model/tokenizer_postprocessor.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxPieces = 64;

class Parser {
 public:
  explicit Parser(int32_t vocab_size) : vocab_size_(vocab_size) {}

  absl::Status Parse(const JsonNode& node) {
    OCTOGATE_ASSIGN_OR_RETURN(const std::string type, node.GetString("type"));
    if (type == "Sequence") {
      OCTOGATE_ASSIGN_OR_RETURN(const JsonNode list, node.Get("processors"));
      OCTOGATE_RETURN_IF_ERROR(list.CheckArray(kMaxPieces));
      for (size_t i = 0; i < list.value().size(); ++i) {
        OCTOGATE_RETURN_IF_ERROR(Parse(list.At(i)));
      }
      return absl::OkStatus();
    }
    if (type == "TemplateProcessing") {
      return ParseTemplate(node);
    }
    if (type == "BertProcessing" || type == "RobertaProcessing") {
      OCTOGATE_ASSIGN_OR_RETURN(const int32_t first, ParseTokenPair(node, "cls"));
      OCTOGATE_ASSIGN_OR_RETURN(const int32_t last, ParseTokenPair(node, "sep"));
      return Wrap(node, {first}, {last});
    }
    if (type == "ByteLevel") {
      return absl::OkStatus();
    }
    return node.Unimplemented(
        absl::StrCat("the post-processor ", Quoted(type), " is not supported"));
  }

  PostProcessor Result() && { return std::move(result_); }

 private:
  // "single": [{"SpecialToken": {"id": "<s>", …}}, {"Sequence": {"id": "A", …}}, …]; the ids behind
  // "<s>" are in "special_tokens".
  absl::Status ParseTemplate(const JsonNode& node) {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode single, node.Get("single"));
    OCTOGATE_RETURN_IF_ERROR(single.CheckArray(kMaxPieces));
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode specials, node.Get("special_tokens"));
    std::vector<int32_t> before;
    std::vector<int32_t> after;
    bool text_seen = false;
    for (size_t i = 0; i < single.value().size(); ++i) {
      const JsonNode piece = single.At(i);
      OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> sequence, piece.Find("Sequence"));
      if (sequence.has_value()) {
        OCTOGATE_ASSIGN_OR_RETURN(const std::string id, sequence->GetString("id"));
        if (id != "A" || text_seen) {
          return piece.Error("a template for one text must hold the sequence \"A\" once");
        }
        text_seen = true;
        continue;
      }
      OCTOGATE_ASSIGN_OR_RETURN(const JsonNode special, piece.Get("SpecialToken"));
      OCTOGATE_ASSIGN_OR_RETURN(const std::string name, special.GetString("id"));
      OCTOGATE_ASSIGN_OR_RETURN(const JsonNode definition, specials.Get(name));
      OCTOGATE_ASSIGN_OR_RETURN(const JsonNode ids, definition.Get("ids"));
      OCTOGATE_RETURN_IF_ERROR(ids.CheckArray(kMaxPieces));
      for (size_t k = 0; k < ids.value().size(); ++k) {
        OCTOGATE_ASSIGN_OR_RETURN(const int32_t id, ParseId(ids.At(k)));
        (text_seen ? after : before).push_back(id);
      }
    }
    if (!text_seen) {
      return single.Error("a template for one text must hold the sequence \"A\" once");
    }
    return Wrap(node, before, after);
  }

  absl::StatusOr<int32_t> ParseTokenPair(const JsonNode& node, std::string_view key) {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode pair, node.Get(key));
    OCTOGATE_RETURN_IF_ERROR(pair.CheckArray(2));
    if (pair.value().size() != 2) {
      return pair.Error("expected [token, id]");
    }
    return ParseId(pair.At(1));
  }

  absl::StatusOr<int32_t> ParseId(const JsonNode& node) {
    OCTOGATE_ASSIGN_OR_RETURN(const int64_t id, node.Integer(0, vocab_size_ - 1));
    return static_cast<int32_t>(id);
  }

  // Puts another layer around what earlier processors made.
  absl::Status Wrap(const JsonNode& node, const std::vector<int32_t>& before,
                    const std::vector<int32_t>& after) {
    result_.before.insert(result_.before.begin(), before.begin(), before.end());
    result_.after.insert(result_.after.end(), after.begin(), after.end());
    if (result_.before.size() + result_.after.size() > kMaxPieces) {
      return node.Error(absl::StrCat("adds more than ", kMaxPieces, " tokens"));
    }
    return absl::OkStatus();
  }

  int32_t vocab_size_;
  PostProcessor result_;
};

}  // namespace

absl::StatusOr<PostProcessor> PostProcessor::Parse(const JsonNode& node, int32_t vocab_size) {
  Parser parser(vocab_size);
  OCTOGATE_RETURN_IF_ERROR(parser.Parse(node));
  return std::move(parser).Result();
}

}  // namespace octogate::workers
