#include "gateway/manifest_files.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "common/utf8.h"

namespace octogate::gateway {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTag = "!file";

struct FileTag {
  size_t offset = 0;  // of the tag
  int line = 0;       // from 1, like the column
  int column = 0;
  std::string path;
};

class TagFinder final : public YAML::EventHandler {
 public:
  std::vector<FileTag> tags;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    if (tag == kTag) {
      tags.push_back({static_cast<size_t>(mark.pos), mark.line + 1, mark.column + 1, value});
    }
  }
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

std::vector<FileTag> FindTags(std::string_view yaml) {
  TagFinder finder;
  try {
    std::istringstream in{std::string(yaml)};
    YAML::Parser parser(in);
    parser.HandleNextDocument(finder);
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): found by the real parser
  }
  return std::move(finder.tags);
}

// Where the tag's path ends in the text, which must be written on the tag's line as it is read.
std::optional<size_t> EndOfPath(std::string_view yaml, const FileTag& tag) {
  std::string_view rest = yaml.substr(std::min(tag.offset, yaml.size()));
  if (rest.substr(0, kTag.size()) != kTag) return std::nullopt;
  size_t at = rest.find_first_not_of(" \t", kTag.size());
  if (at == std::string_view::npos) return std::nullopt;
  const char quote = rest[at];
  const bool quoted = quote == '"' || quote == '\'';
  if (quoted) ++at;
  if (rest.substr(at, tag.path.size()) != tag.path) return std::nullopt;
  at += tag.path.size();
  if (quoted && (at >= rest.size() || rest[at++] != quote)) return std::nullopt;
  return tag.offset + at;
}

absl::StatusOr<std::string> ReadFile(const std::string& folder, const std::string& name,
                                     size_t max_bytes) {
  std::error_code error;
  const fs::path root = fs::canonical(folder.empty() ? "." : folder, error);
  const fs::path path = fs::canonical(root / name, error);
  if (error || !fs::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat("cannot read the file ", Quoted(name)));
  }
  const fs::path relative = path.lexically_relative(root);
  if (relative.empty() || *relative.begin() == "..") {
    return absl::InvalidArgumentError(
        absl::StrCat("the file ", Quoted(name), " is outside of the manifest's folder; copy it"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text;
  char block[1 << 14];
  while (file.read(block, sizeof(block)) || file.gcount() > 0) {
    text.append(block, static_cast<size_t>(file.gcount()));
    if (text.size() > max_bytes) {
      return absl::InvalidArgumentError(absl::StrCat("with the file ", Quoted(name),
                                                     " the manifest has more than ", max_bytes,
                                                     " bytes, which is more than a gateway takes"));
    }
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (!IsValidUtf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat("the file ", Quoted(name), " is not UTF-8"));
  }
  return text;
}

// A double-quoted YAML string on one line.
std::string QuotedScalar(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        quoted += "\\\"";
        break;
      case '\\':
        quoted += "\\\\";
        break;
      case '\n':
        quoted += "\\n";
        break;
      case '\r':
        quoted += "\\r";
        break;
      case '\t':
        quoted += "\\t";
        break;
      default:
        quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace

absl::StatusOr<std::string> InlineFiles(std::string_view yaml, std::string_view source,
                                        const std::string& folder, size_t max_bytes) {
  std::string result;
  size_t done = 0;
  for (const FileTag& tag : FindTags(yaml)) {
    const std::string place = absl::StrCat(ToAbsl(source), ":", tag.line, ":", tag.column, ": ");
    const std::optional<size_t> end = EndOfPath(yaml, tag);
    if (!end.has_value() || tag.path.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(place, "write the path behind !file on the same line, without escapes"));
    }
    const absl::StatusOr<std::string> text = ReadFile(folder, tag.path, max_bytes);
    if (!text.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(place, text.status().message()));
    }
    absl::StrAppend(&result, ToAbsl(yaml.substr(done, tag.offset - done)), QuotedScalar(*text));
    done = *end;
    if (result.size() + (yaml.size() - done) > max_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(place, "with the file ", Quoted(tag.path),
                                                     " the manifest has more than ", max_bytes,
                                                     " bytes, which is more than a gateway takes"));
    }
  }
  absl::StrAppend(&result, ToAbsl(yaml.substr(done)));
  return result;
}

}  // namespace octogate::gateway
