#include "workers/model/tokenizer_json.h"

#include <exception>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxValues = size_t{4} << 20;
constexpr size_t kMaxQuotedBytes = 80;

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

// Depth and number of values, before the parser allocates anything.
absl::Status CheckBounds(std::string_view text, std::string_view source) {
  int depth = 0;
  size_t values = 1;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      ++values;
      if (++depth > kMaxDepth) {
        return absl::InvalidArgumentError(absl::StrCat(
            Absl(source), ": byte ", i, ": nested deeper than ", kMaxDepth, " levels"));
      }
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',') {
      ++values;
    }
    if (values > kMaxValues) {
      return absl::InvalidArgumentError(
          absl::StrCat(Absl(source), ": more than ", kMaxValues, " values"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseTokenizerJson(std::string_view text, std::string_view source) {
  OCTOGATE_RETURN_IF_ERROR(CheckBounds(text, source));
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    return absl::InvalidArgumentError(absl::StrCat(
        Absl(source), ": byte ", error.byte, ": not valid JSON: ", Absl(Quoted(error.what()))));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(Absl(source), ": cannot be read as JSON: ", Absl(Quoted(error.what()))));
  }
}

std::string Quoted(std::string_view text) {
  const bool cut = text.size() > kMaxQuotedBytes;
  if (cut) {
    text = text.substr(0, LastCharacterStart(text.substr(0, kMaxQuotedBytes + 1)));
  }
  return absl::StrCat("\"", absl::Utf8SafeCEscape(Absl(text)), cut ? "\"..." : "\"");
}

absl::Status JsonNode::Error(std::string_view message) const {
  return absl::InvalidArgumentError(
      absl::StrCat(Absl(source_), ": ", path_, path_.empty() ? "" : ": ", Absl(message)));
}

absl::Status JsonNode::Unimplemented(std::string_view message) const {
  return absl::UnimplementedError(
      absl::StrCat(Absl(source_), ": ", path_, path_.empty() ? "" : ": ", Absl(message)));
}

absl::StatusOr<std::optional<JsonNode>> JsonNode::Find(std::string_view key) const {
  if (!value_->is_object()) {
    return Error(absl::StrCat("expected an object, found ", value_->type_name()));
  }
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) {
    return std::nullopt;
  }
  return JsonNode(*found, source_, absl::StrCat(path_, path_.empty() ? "" : ".", Absl(key)));
}

absl::StatusOr<JsonNode> JsonNode::Get(std::string_view key) const {
  OCTOGATE_ASSIGN_OR_RETURN(std::optional<JsonNode> found, Find(key));
  if (!found.has_value()) {
    return Error(absl::StrCat("lacks \"", Absl(key), "\""));
  }
  return *std::move(found);
}

JsonNode JsonNode::At(size_t index) const {
  return {(*value_)[index], source_, absl::StrCat(path_, "[", index, "]")};
}

absl::Status JsonNode::CheckArray(size_t max_size) const {
  if (!value_->is_array()) {
    return Error(absl::StrCat("expected an array, found ", value_->type_name()));
  }
  if (value_->size() > max_size) {
    return Error(
        absl::StrCat("has ", value_->size(), " elements; at most ", max_size, " are supported"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> JsonNode::String() const {
  if (!value_->is_string()) {
    return Error(absl::StrCat("expected a string, found ", value_->type_name()));
  }
  return value_->get_ref<const std::string&>();
}

absl::StatusOr<int64_t> JsonNode::Integer(int64_t min, int64_t max) const {
  if (!value_->is_number_integer()) {
    return Error(absl::StrCat("expected an integer, found ", value_->type_name()));
  }
  // Unsigned values above the range of int64_t are out of any range asked for here.
  const bool too_big =
      value_->is_number_unsigned() && value_->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  const int64_t value = too_big ? INT64_MAX : value_->get<int64_t>();
  if (too_big || value < min || value > max) {
    return Error(
        absl::StrCat("expected an integer from ", min, " to ", max, ", found ", value_->dump()));
  }
  return value;
}

absl::StatusOr<char32_t> JsonNode::Character() const {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string text, String());
  if (text.empty() || Utf8Length(text[0]) != text.size()) {
    return Error(absl::StrCat("expected one character, found ", Quoted(text)));
  }
  const char* p = text.data();
  return NextCodePoint(p);
}

absl::StatusOr<bool> JsonNode::Bool() const {
  if (!value_->is_boolean()) {
    return Error(absl::StrCat("expected true or false, found ", value_->type_name()));
  }
  return value_->get<bool>();
}

absl::StatusOr<std::string> JsonNode::GetString(std::string_view key) const {
  OCTOGATE_ASSIGN_OR_RETURN(const JsonNode node, Get(key));
  return node.String();
}

absl::StatusOr<std::string> JsonNode::GetString(std::string_view key,
                                                std::string_view fallback) const {
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> node, Find(key));
  return node.has_value() ? node->String() : std::string(fallback);
}

absl::StatusOr<bool> JsonNode::GetBool(std::string_view key) const {
  OCTOGATE_ASSIGN_OR_RETURN(const JsonNode node, Get(key));
  return node.Bool();
}

absl::StatusOr<bool> JsonNode::GetBool(std::string_view key, bool fallback) const {
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> node, Find(key));
  return node.has_value() ? node->Bool() : fallback;
}

absl::StatusOr<int64_t> JsonNode::GetInteger(std::string_view key, int64_t min, int64_t max) const {
  OCTOGATE_ASSIGN_OR_RETURN(const JsonNode node, Get(key));
  return node.Integer(min, max);
}

}  // namespace octogate::workers
