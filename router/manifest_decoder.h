#ifndef OCTOGATE_ROUTER_MANIFEST_DECODER_H_
#define OCTOGATE_ROUTER_MANIFEST_DECODER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "google/protobuf/message.h"
#include "router/yaml_tree.h"

namespace octogate::router {

// Where the values of a message stand in the manifest, by path ("spec.nodes[3].model.max_tokens").
class PositionMap {
 public:
  void Set(std::string path, Position position) { positions_[std::move(path)] = position; }
  // The place of the path or, where it was not written, of the nearest enclosing value.
  Position Find(std::string_view path) const;

 private:
  absl::flat_hash_map<std::string, Position> positions_;
};

// Fills `message` from a map whose keys are the message's fields in lowerCamelCase, by reflection.
// Everything that is wrong is appended to `errors`; what is right is set nevertheless. `path` is
// that of `message`; keys in `foreign_keys` are left to the caller.
void DecodeMessage(const YamlNode& node, std::string_view path,
                   const std::vector<std::string>& foreign_keys, google::protobuf::Message* message,
                   PositionMap* positions, std::vector<ManifestError>* errors);

// "; did you mean 'x'?" for the most similar of `known`, or "; known …: a, b" where none is.
std::string Suggest(std::string_view word, std::vector<std::string> known, std::string_view what);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_MANIFEST_DECODER_H_
