#include "gateway/octoctl/input.h"

#include <google/protobuf/util/json_util.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <utility>

#include "gateway/manifest_files.h"

namespace octogate::octoctl {
namespace {

// Calls `take` with each line that is not empty, until it says false with a message.
bool ForEachLine(const std::string& text,
                 const std::function<bool(const std::string& line, std::string& error)>& take,
                 std::string& error) {
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (take(line, error)) continue;
    error = "line " + std::to_string(number) + ": " + error;
    return false;
  }
  return true;
}

bool ParseJson(const std::string& line, v1::LabelledQuery& query, std::string& error) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  if (!google::protobuf::util::JsonStringToMessage(line, &query, options).ok()) {
    error = "not a JSON object with texts as its fields";
    return false;
  }
  if (!query.query().empty()) return true;
  error = "the object has no \"query\"";
  return false;
}

}  // namespace

bool ReadInput(const std::string& file, size_t max_bytes, std::string& text) {
  std::ifstream stream;
  if (file != "-") {
    stream.open(file, std::ios::binary);
    if (!stream || std::filesystem::is_directory(file)) {
      std::cerr << "octoctl: cannot read '" << file << "'\n";
      return false;
    }
  }
  std::istream& in = file == "-" ? std::cin : stream;
  char block[1 << 16];
  while (in.read(block, sizeof(block)) || in.gcount() > 0) {
    text.append(block, static_cast<size_t>(in.gcount()));
    if (text.size() > max_bytes) {
      std::cerr << "octoctl: '" << file << "' has more than " << (max_bytes >> 10)
                << " KiB, which is more than the gateway takes\n";
      return false;
    }
  }
  return true;
}

std::string SourceName(const std::string& file) { return file == "-" ? "stdin" : file; }

bool ReadManifest(const std::string& file, std::string& text) {
  constexpr size_t kMaxManifestBytes = 4 << 20;
  std::string raw;
  if (!ReadInput(file, kMaxManifestBytes, raw)) return false;
  absl::StatusOr<std::string> whole = gateway::InlineFiles(
      raw, SourceName(file), std::filesystem::path(file).parent_path().string(), kMaxManifestBytes);
  if (!whole.ok()) {
    std::cerr << "octoctl: " << whole.status().message() << "\n";
    return false;
  }
  text = *std::move(whole);
  return true;
}

bool ParseQueries(const std::string& text, std::vector<std::string>& queries, std::string& error) {
  return ForEachLine(
      text,
      [&](const std::string& line, std::string& problem) {
        if (line.front() != '{') {
          queries.push_back(line);
          return true;
        }
        v1::LabelledQuery query;
        if (!ParseJson(line, query, problem)) return false;
        queries.push_back(std::move(*query.mutable_query()));
        return true;
      },
      error);
}

bool ParseLabelledQueries(const std::string& text, std::vector<v1::LabelledQuery>& queries,
                          std::string& error) {
  return ForEachLine(
      text,
      [&](const std::string& line, std::string& problem) {
        v1::LabelledQuery& query = queries.emplace_back();
        if (line.front() == '{') {
          if (!ParseJson(line, query, problem)) return false;
          if (!query.node().empty()) return true;
          problem = "the object has no \"node\"";
          return false;
        }
        const size_t tab = line.find('\t');
        if (tab == std::string::npos || tab == 0 || tab + 1 == line.size()) {
          problem = "not NODE, a tabulator and a query";
          return false;
        }
        query.set_node(line.substr(0, tab));
        query.set_query(line.substr(tab + 1));
        return true;
      },
      error);
}

bool ParseReplayQueries(const std::string& text, std::vector<v1::ReplayQuery>& queries,
                        std::string& error) {
  return ForEachLine(
      text,
      [&](const std::string& line, std::string& problem) {
        v1::ReplayQuery& query = queries.emplace_back();
        if (line.front() != '{') {
          query.set_query(line);
          return true;
        }
        v1::LabelledQuery parsed;
        if (!ParseJson(line, parsed, problem)) return false;
        query.set_query(parsed.query());
        query.set_node(parsed.node());
        return true;
      },
      error);
}

}  // namespace octogate::octoctl
