#ifndef OCTOGATE_ROUTER_YAML_TREE_H_
#define OCTOGATE_ROUTER_YAML_TREE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace octogate::router {

// A place in a text; both count from 1, columns in bytes.
struct Position {
  int line = 1;
  int column = 1;
};

// One thing that is wrong with a text.
struct ManifestError {
  Position position;
  std::string message;
};

// A YAML value that knows where it stands.
struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  Position position;
  std::string value;    // Of a scalar.
  bool quoted = false;  // Of a scalar: in quotes or a block, hence always text.
  // Elements of a sequence; of a map each key followed by its value.
  std::vector<YamlNode> children;
};

// What `node` is, for messages: "a list", "the number 12", "the text 'abc'".
std::string Describe(const YamlNode& node);

// Whether a plain scalar is null, a boolean or a number in YAML's core schema.
bool IsPlainNull(std::string_view value);
bool IsPlainBool(std::string_view value);
bool IsPlainNumber(std::string_view value);

// Parses one document into a tree of at most kMaxYamlNodes nodes, kMaxYamlDepth deep. Refused, with
// one error: what is not valid UTF-8, control characters, anchors, aliases, tags, a second
// document, an empty one. Never throws.
inline constexpr int kMaxYamlNodes = 400'000;
inline constexpr int kMaxYamlDepth = 32;
std::optional<YamlNode> ParseYamlTree(std::string_view text, ManifestError* error);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_YAML_TREE_H_
