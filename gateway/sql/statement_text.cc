#include "gateway/sql/statement_text.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

constexpr std::string_view kLanguages[] = {"", "sql", "sqlite", "postgres", "postgresql", "mysql"};

std::string_view Strip(std::string_view text) {
  return ToStd(absl::StripAsciiWhitespace(ToAbsl(text)));
}

// A line that opens or closes a fenced block, as CommonMark has them.
struct Fence {
  char mark = 0;
  size_t length = 0;          // of the marks; 0: this line is no fence
  std::string_view language;  // what follows them
};

Fence FenceIn(std::string_view line) {
  const std::string_view text = Strip(line);
  if (text.empty() || (text[0] != '`' && text[0] != '~')) return {};
  const size_t length = std::min(text.find_first_not_of(text[0]), text.size());
  if (length < 3) return {};
  const std::string_view rest = Strip(text.substr(length));
  // Marks that end on the same line are inline code.
  if (rest.find(text[0]) != std::string_view::npos) return {};
  return {text[0], length, rest};
}

bool IsSql(std::string_view language) {
  return std::any_of(std::begin(kLanguages), std::end(kLanguages), [&](std::string_view known) {
    return absl::EqualsIgnoreCase(ToAbsl(known), ToAbsl(language));
  });
}

}  // namespace

std::string_view StatementIn(std::string_view answer) {
  const std::string_view whole = Strip(answer);
  std::string_view block;
  size_t blocks = 0;
  Fence open;
  size_t start = 0;
  for (size_t at = 0; at < whole.size();) {
    const size_t end = std::min(whole.find('\n', at), whole.size());
    const Fence fence = FenceIn(whole.substr(at, end - at));
    const size_t next = std::min(end + 1, whole.size());
    if (open.length == 0) {
      if (fence.length > 0) {
        if (!IsSql(fence.language)) return whole;
        open = fence;
        start = next;
      }
    } else if (fence.mark == open.mark && fence.length >= open.length && fence.language.empty()) {
      block = whole.substr(start, at - start);
      ++blocks;
      open = {};
    }
    at = next;
  }
  if (open.length > 0) {
    block = whole.substr(start);
    ++blocks;
  }
  if (blocks > 1) return whole;
  if (blocks == 1) return Strip(block);
  for (const std::string_view label : {"sql:", "sqlquery:"}) {
    if (absl::StartsWithIgnoreCase(ToAbsl(whole), ToAbsl(label))) {
      return Strip(whole.substr(label.size()));
    }
  }
  return whole;
}

}  // namespace octogate::gateway
