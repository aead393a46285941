#include "workers/model/json_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace octogate::workers {
namespace {

// The deepest nesting of brackets outside strings; an upper bound for text that
// is not JSON.
size_t BracketDepth(std::string_view text) {
  size_t depth = 0;
  size_t deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::filesystem::path& path, size_t max_bytes) {
  // Without O_NONBLOCK, opening a FIFO in the folder would wait for its writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    return absl::ErrnoToStatus(error, absl::StrCat("cannot open ", path.string()));
  }
  const absl::Cleanup close_fd = [fd] { ::close(fd); };
  struct stat info;
  if (::fstat(fd, &info) != 0) {
    const int error = errno;
    return absl::ErrnoToStatus(error, absl::StrCat("cannot stat ", path.string()));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path.string(), " is not a regular file"));
  }
  if (static_cast<uint64_t>(info.st_size) > max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        path.string(), " has ", info.st_size, " bytes; at most ", max_bytes, " are accepted"));
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = ::read(fd, text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      return absl::InternalError(
          absl::StrCat("reading ", path.string(), ": ", std::strerror(error)));
    }
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  text.resize(have);
  return text;
}

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view source_name) {
  if (const size_t depth = BracketDepth(text); depth > kMaxJsonDepth) {
    return absl::ResourceExhaustedError(absl::StrCat(std::string(source_name), ": nested ", depth,
                                                     " deep; at most ", kMaxJsonDepth,
                                                     " levels are accepted"));
  }
  try {
    return nlohmann::json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::exception& error) {
    // The library's text already says line and column.
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(source_name), ": not valid JSON: ", error.what()));
  }
}

std::string QuotedForError(std::string_view name) {
  constexpr size_t kMaxChars = 120;
  const std::string shown =
      absl::Utf8SafeCHexEscape(absl::string_view(name.data(), std::min(name.size(), kMaxChars)));
  return absl::StrCat("\"", shown, name.size() > kMaxChars ? "...\"" : "\"");
}

}  // namespace octogate::workers
