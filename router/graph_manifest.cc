#include "router/graph_manifest.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/strings.h"
#include "router/manifest_decoder.h"
#include "router/yaml_tree.h"

namespace octogate::router {
namespace {

constexpr std::string_view kApiVersion = "octogate/v1";
constexpr std::string_view kKind = "Graph";

std::string Line(std::string_view source, const ManifestError& error) {
  return absl::StrCat(ToAbsl(source), ":", error.position.line, ":", error.position.column, ": ",
                      error.message);
}

void SortByPlace(std::vector<ManifestError>* errors) {
  std::stable_sort(errors->begin(), errors->end(),
                   [](const ManifestError& a, const ManifestError& b) {
                     return std::tie(a.position.line, a.position.column) <
                            std::tie(b.position.line, b.position.column);
                   });
}

absl::Status ToStatus(std::string_view source, std::vector<ManifestError> errors) {
  SortByPlace(&errors);
  std::vector<std::string> lines;
  for (const ManifestError& error : errors) {
    if (lines.size() == kMaxManifestErrors) {
      lines.push_back(
          absl::StrCat(ToAbsl(source), ": ", errors.size() - kMaxManifestErrors, " more errors"));
      break;
    }
    lines.push_back(Line(source, error));
  }
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

// `key` of the manifest itself must have the value `expected`.
void CheckHeader(const YamlNode& root, std::string_view key, std::string_view expected,
                 std::vector<ManifestError>* errors) {
  for (size_t i = 0; i + 1 < root.children.size(); i += 2) {
    if (root.children[i].value != key) continue;
    const YamlNode& value = root.children[i + 1];
    if (value.kind == YamlNode::Kind::kScalar && value.value == expected) return;
    errors->push_back(
        {value.position, absl::StrCat("'", ToAbsl(key), "' must be '", ToAbsl(expected),
                                      "', found ", Describe(value))});
    return;
  }
  errors->push_back({root.position,
                     absl::StrCat("a manifest needs '", ToAbsl(key), ": ", ToAbsl(expected), "'")});
}

}  // namespace

absl::StatusOr<GraphManifest> ParseGraphManifest(std::string_view yaml, std::string_view source,
                                                 const std::vector<GraphCheck>& checks) {
  if (yaml.size() > kMaxManifestBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(ToAbsl(source), ": the manifest has ",
                                                     yaml.size(), " bytes; at most ",
                                                     kMaxManifestBytes, " are allowed"));
  }
  ManifestError syntax_error;
  const std::optional<YamlNode> root = ParseYamlTree(yaml, &syntax_error);
  if (!root.has_value()) return ToStatus(source, {syntax_error});
  if (root->kind != YamlNode::Kind::kMap) {
    return ToStatus(source, {{root->position,
                              absl::StrCat("a manifest is a map with the keys apiVersion, kind, "
                                           "metadata and spec; found ",
                                           Describe(*root))}});
  }

  GraphManifest manifest;
  PositionMap positions;
  std::vector<ManifestError> errors;
  CheckHeader(*root, "apiVersion", kApiVersion, &errors);
  CheckHeader(*root, "kind", kKind, &errors);
  DecodeMessage(*root, "", {"apiVersion", "kind"}, &manifest.graph, &positions, &errors);
  ApplyDefaults(&manifest.graph);

  std::vector<GraphProblem> problems = ValidateGraph(manifest.graph);
  for (const GraphCheck& check : checks) {
    for (GraphProblem& problem : check(manifest.graph)) problems.push_back(std::move(problem));
  }
  std::vector<ManifestError> warnings;
  for (GraphProblem& problem : problems) {
    (problem.warning ? warnings : errors)
        .push_back({positions.Find(problem.path), std::move(problem.message)});
  }
  if (!errors.empty()) return ToStatus(source, std::move(errors));
  SortByPlace(&warnings);
  if (warnings.size() > kMaxManifestErrors) warnings.resize(kMaxManifestErrors);
  for (const ManifestError& warning : warnings) {
    manifest.warnings.push_back(Line(source, warning));
  }
  return manifest;
}

}  // namespace octogate::router
