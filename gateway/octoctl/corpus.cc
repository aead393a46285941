#include "gateway/octoctl/corpus.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::octoctl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kBlockBytes = 1 << 16;
constexpr size_t kMaxLineBytes = size_t{64} << 20;  // of a JSON Lines file

bool IsBlank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// Where to cut `text`, which goes on: behind a line's end that a letter follows, so that runs of
// blanks stay whole, else before a blank, else between characters.
size_t CutAt(std::string_view text) {
  for (size_t i = text.size() - 1; i > text.size() / 2; --i) {
    if (text[i - 1] == '\n' && !IsBlank(text[i])) return i;
  }
  for (size_t i = text.size() - 1; i > text.size() / 2; --i) {
    if (IsBlank(text[i]) && !IsBlank(text[i - 1])) return i;
  }
  for (size_t i = text.size() - 1; i > text.size() - 4; --i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) return i;
  }
  return text.size() - 1;
}

// Hands all of `text` on but for a rest that may go on, unless this is its `end`.
absl::Status Flush(std::string& text, bool end, CorpusReceiver& receiver) {
  std::string_view rest = text;
  while (rest.size() >= CorpusReceiver::kMaxPieceBytes) {
    const size_t cut = CutAt(rest.substr(0, CorpusReceiver::kMaxPieceBytes));
    OCTOGATE_RETURN_IF_ERROR(receiver.Text(rest.substr(0, cut)));
    rest.remove_prefix(cut);
  }
  if (end && !rest.empty()) {
    OCTOGATE_RETURN_IF_ERROR(receiver.Text(rest));
    rest = {};
  }
  text.erase(0, text.size() - rest.size());
  return end ? receiver.EndDocument() : absl::OkStatus();
}

absl::Status ReadText(std::istream& in, std::string text, CorpusReceiver& receiver) {
  char block[kBlockBytes];
  while (in.read(block, sizeof(block)) || in.gcount() > 0) {
    text.append(block, static_cast<size_t>(in.gcount()));
    OCTOGATE_RETURN_IF_ERROR(Flush(text, false, receiver));
  }
  if (in.bad()) return absl::DataLossError("it cannot be read to its end");
  return Flush(text, true, receiver);
}

absl::Status TakeTokens(const json& array, CorpusReceiver& receiver) {
  std::vector<int32_t> ids;
  ids.reserve(array.size());
  for (const json& id : array) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError("an array holds token ids or texts, nothing else");
    }
    ids.push_back(id.get<int32_t>());
  }
  return receiver.Tokens(ids);
}

absl::Status TakeField(const json& value, CorpusReceiver& receiver) {
  if (value.is_string()) {
    std::string text = value.get<std::string>();
    return Flush(text, true, receiver);
  }
  if (!value.is_array()) return absl::InvalidArgumentError("is no string and no array");
  if (value.empty() || !value.front().is_string()) return TakeTokens(value, receiver);
  for (const json& text : value) {
    if (!text.is_string()) return absl::InvalidArgumentError("holds strings and something else");
    OCTOGATE_RETURN_IF_ERROR(TakeField(text, receiver));
  }
  return absl::OkStatus();
}

absl::Status ReadJsonLines(std::istream& in, const std::string& path,
                           const std::vector<std::string>& fields, CorpusReceiver& receiver) {
  std::string line;
  size_t number = 0;
  bool any = false;
  const auto refuse = [&](std::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(path, 300), " line ", number, ": ", ToAbsl(what)));
  };
  bool more = true;
  while (more) {
    line.clear();
    ++number;
    int c = 0;
    while ((more = (c = in.get()) != std::char_traits<char>::eof()) && c != '\n') {
      if (line.size() == kMaxLineBytes) return refuse("it has more than 64 MiB");
      line.push_back(static_cast<char>(c));
    }
    if (std::all_of(line.begin(), line.end(), IsBlank)) continue;
    const json object = json::parse(line, nullptr, false);
    if (!object.is_object()) return refuse("it is no JSON object");
    for (const std::string& field : fields) {
      const auto value = object.find(field);
      if (value == object.end() || value->is_null()) continue;
      any = true;
      const absl::Status taken = TakeField(*value, receiver);
      if (!taken.ok()) return Annotate(taken, ToStd(refuse(Quoted(field)).message()));
    }
  }
  if (any) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Quoted(path, 300), ": no line has the field ", absl::StrJoin(fields, " or "),
                   "; say with --field which fields hold texts or token ids"));
}

absl::Status ReadFile(const std::string& path, bool of_folder,
                      const std::vector<std::string>& fields, CorpusReceiver& receiver) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    return absl::ErrnoToStatus(errno == 0 ? EIO : errno,
                               absl::StrCat("cannot read ", Quoted(path, 300)));
  }
  const std::string extension = fs::path(path).extension().string();
  if (extension == ".jsonl" || extension == ".ndjson") {
    receiver.File(path);
    return ReadJsonLines(in, path, fields, receiver);
  }
  std::string begin(kBlockBytes, '\0');
  in.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  begin.resize(static_cast<size_t>(in.gcount()));
  if (begin.find('\0') != std::string::npos) {
    if (!of_folder) {
      return absl::InvalidArgumentError(absl::StrCat(
          Quoted(path, 300), " is no text; give UTF-8 texts, JSON Lines or folders of them"));
    }
    receiver.Skipped(path);
    return absl::OkStatus();
  }
  receiver.File(path);
  return ReadText(in, std::move(begin), receiver);
}

absl::Status FilesBelow(const std::string& folder, std::vector<std::string>& files) {
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const bool hidden = it->path().filename().string().front() == '.';
    std::error_code of_file;
    if (it->is_directory(of_file)) {
      if (hidden) it.disable_recursion_pending();
    } else if (!hidden && it->is_regular_file(of_file)) {
      files.push_back(it->path().string());
    }
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot read ", Quoted(folder, 300)));
  }
  std::sort(files.begin(), files.end());
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadCorpus(const CorpusOptions& options, CorpusReceiver& receiver) {
  for (const std::string& path : options.paths) {
    std::error_code ignored;
    if (path == "-") {
      receiver.File("standard input");
      OCTOGATE_RETURN_IF_ERROR(ReadText(std::cin, "", receiver));
    } else if (fs::is_directory(path, ignored)) {
      std::vector<std::string> files;
      OCTOGATE_RETURN_IF_ERROR(FilesBelow(path, files));
      for (const std::string& file : files) {
        OCTOGATE_RETURN_IF_ERROR(ReadFile(file, true, options.fields, receiver));
      }
    } else {
      OCTOGATE_RETURN_IF_ERROR(ReadFile(path, false, options.fields, receiver));
    }
  }
  return absl::OkStatus();
}

}  // namespace octogate::octoctl
