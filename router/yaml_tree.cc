#include "router/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <exception>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::router {
namespace {

Position ToPosition(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {mark.line + 1, mark.column + 1};
}

// Leaves yaml-cpp's parser from inside a callback.
struct Refused {
  ManifestError error;
};

class TreeBuilder final : public YAML::EventHandler {
 public:
  YamlNode TakeRoot() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add({.kind = YamlNode::Kind::kNull, .position = ToPosition(mark)}, "", anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refused{{ToPosition(mark), "aliases (*name) are not supported; write the value out"}};
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Add({.kind = YamlNode::Kind::kScalar,
         .position = ToPosition(mark),
         .value = value,
         .quoted = tag == "!"},
        tag, anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open({.kind = YamlNode::Kind::kSequence, .position = ToPosition(mark)}, tag, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open({.kind = YamlNode::Kind::kMap, .position = ToPosition(mark)}, tag, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  YamlNode* Add(YamlNode node, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) {
      throw Refused{{node.position, "anchors (&name) are not supported; write the value out"}};
    }
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Refused{{node.position,
                     absl::StrCat("the tag ", Quoted(tag), " is not supported",
                                  tag == "!file" ? " here; octoctl apply -f puts files in" : "")}};
    }
    if (++count_ > kMaxYamlNodes) {
      throw Refused{
          {node.position, absl::StrCat("more than ", kMaxYamlNodes, " values; split the graph")}};
    }
    if (open_.empty()) {
      root_ = std::move(node);
      return &root_;
    }
    // Only the innermost open node gets children, so that pointers to the outer ones stay valid.
    open_.back()->children.push_back(std::move(node));
    return &open_.back()->children.back();
  }

  void Open(YamlNode node, const std::string& tag, YAML::anchor_t anchor) {
    if (open_.size() >= kMaxYamlDepth) {
      throw Refused{{node.position, absl::StrCat("nested more than ", kMaxYamlDepth, " deep")}};
    }
    open_.push_back(Add(std::move(node), tag, anchor));
  }

  YamlNode root_;
  std::vector<YamlNode*> open_;
  int count_ = 0;
};

Position PositionOf(std::string_view text, size_t offset) {
  Position position;
  for (const char c : text.substr(0, offset)) {
    if (c == '\n') {
      ++position.line;
      position.column = 1;
    } else {
      ++position.column;
    }
  }
  return position;
}

// YAML allows no control characters but these; yaml-cpp would take NULs as UTF-16.
size_t FindControlCharacter(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte < 0x20 && byte != '\n' && byte != '\t' && byte != '\r') || byte == 0x7F) return i;
  }
  return std::string_view::npos;
}

}  // namespace

bool IsPlainNull(std::string_view value) {
  return value.empty() || value == "~" || value == "null" || value == "Null" || value == "NULL";
}

bool IsPlainBool(std::string_view value) {
  return value == "true" || value == "True" || value == "TRUE" || value == "false" ||
         value == "False" || value == "FALSE";
}

bool IsPlainNumber(std::string_view value) {
  const std::string_view digits =
      !value.empty() && (value[0] == '-' || value[0] == '+') ? value.substr(1) : value;
  if (digits == ".inf" || digits == ".Inf" || digits == ".INF" || digits == ".nan" ||
      digits == ".NaN" || digits == ".NAN") {
    return true;
  }
  if (digits.size() > 2 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'o')) {
    return digits.find_first_not_of("0123456789abcdefABCDEF", 2) == std::string_view::npos;
  }
  if (digits.find_first_of("0123456789") == std::string_view::npos ||
      digits.find_first_not_of("0123456789.eE+-") != std::string_view::npos) {
    return false;
  }
  double number = 0;
  return absl::SimpleAtod(ToAbsl(digits), &number) && !absl::ascii_isspace(digits.back());
}

std::string Describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
    case YamlNode::Kind::kScalar:
      break;
  }
  const std::string quoted = Quoted(node.value, 40);
  if (node.quoted) return absl::StrCat("the text ", quoted);
  if (IsPlainNull(node.value)) return "nothing";
  if (IsPlainBool(node.value)) return absl::StrCat("the boolean ", node.value);
  if (IsPlainNumber(node.value)) {
    return absl::StrCat("the number ", node.value.size() > 40 ? quoted : node.value);
  }
  return absl::StrCat("the text ", quoted);
}

std::optional<YamlNode> ParseYamlTree(std::string_view text, ManifestError* error) {
  if (const size_t bad = FindInvalidUtf8(text); bad != std::string_view::npos) {
    *error = {PositionOf(text, bad), "not valid UTF-8; save the file as UTF-8"};
    return std::nullopt;
  }
  if (const size_t bad = FindControlCharacter(text); bad != std::string_view::npos) {
    *error = {PositionOf(text, bad), "control character; in double quotes write it as \\xNN"};
    return std::nullopt;
  }
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder;
    if (!parser.HandleNextDocument(builder)) {
      *error = {{}, "the manifest is empty"};
      return std::nullopt;
    }
    YamlNode root = builder.TakeRoot();
    TreeBuilder rest;
    if (parser.HandleNextDocument(rest)) {
      *error = {rest.TakeRoot().position, "a second document; a manifest has one"};
      return std::nullopt;
    }
    return root;
  } catch (const Refused& refused) {
    *error = refused.error;
  } catch (const YAML::Exception& e) {
    *error = {ToPosition(e.mark), absl::StrCat("not valid YAML: ", e.msg,
                                               "; check indentation, quotes and brackets here and "
                                               "on the line before")};
  } catch (const std::exception& e) {
    *error = {{}, absl::StrCat("not valid YAML: ", e.what())};
  }
  return std::nullopt;
}

}  // namespace octogate::router
