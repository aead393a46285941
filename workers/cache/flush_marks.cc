#include "workers/cache/flush_marks.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/digest.h"
#include "common/strings.h"
#include "workers/engine/prefix_context.h"

namespace octogate::workers {
namespace {

constexpr char kVersion[] = "1";
constexpr size_t kTagBytes = 64;
constexpr size_t kSaltBytes = 32;
constexpr size_t kMaxBytes = size_t{256} << 10;
constexpr uint64_t kMaxNumber = uint64_t{1} << 62;

std::string Tag(std::string_view name, std::string_view body, std::string_view secret) {
  const std::string covered = absl::StrCat(ToAbsl(name), "\n", ToAbsl(body));
  return absl::BytesToHexString(HmacSha256(secret, covered));
}

bool IsWord(absl::string_view text) {
  return !text.empty() && text.size() <= PageFlush::kMaxIdBytes &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); });
}

std::optional<FlushMark> ParseMark(absl::string_view number, absl::string_view id) {
  FlushMark mark{.number = 0, .id = std::string(id)};
  if (!absl::SimpleAtoi(number, &mark.number) || mark.number > kMaxNumber || !IsWord(id)) {
    return std::nullopt;
  }
  return mark;
}

std::optional<FlushMarks> ParseBody(absl::string_view body) {
  const std::vector<absl::string_view> lines = absl::StrSplit(body, '\n');
  FlushMarks marks;
  if (lines.size() > FlushMarks::kMaxSalts + 1) return std::nullopt;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::vector<absl::string_view> words = absl::StrSplit(lines[i], ' ');
    if (words.size() != 3) return std::nullopt;
    std::optional<FlushMark> mark = ParseMark(words[1], words[2]);
    if (!mark) return std::nullopt;
    if (i == 0) {
      if (words[0] != kVersion) return std::nullopt;
      marks.all = *std::move(mark);
    } else if (words[0].size() != kSaltBytes ||
               !marks.salts.try_emplace(std::string(words[0]), *std::move(mark)).second) {
      return std::nullopt;
    }
  }
  return marks;
}

}  // namespace

std::string SaltDigest(std::string_view salt, std::string_view secret) {
  return absl::BytesToHexString(HmacSha256(secret, absl::StrCat("salt ", ToAbsl(salt))))
      .substr(0, kSaltBytes);
}

FlushMarks MergeMarks(const FlushMarks& a, const FlushMarks& b) {
  if (a.all != b.all) return a.all < b.all ? b : a;
  FlushMarks merged = a;
  for (const auto& [salt, mark] : b.salts) {
    FlushMark& kept = merged.salts[salt];
    kept = std::max(kept, mark);
  }
  if (merged.salts.size() <= FlushMarks::kMaxSalts) return merged;
  return {.all = {.number = merged.all.number + 1, .id = "merged"}, .salts = {}};
}

absl::Status AddMark(const PageFlush& flush, std::string_view secret, FlushMarks& marks) {
  if (!flush.cache_salt) {
    if (marks.all.id == flush.id) return absl::OkStatus();
    marks = {.all = {.number = marks.all.number + 1, .id = flush.id}, .salts = {}};
    return absl::OkStatus();
  }
  const std::string salt = SaltDigest(*flush.cache_salt, secret);
  const auto found = marks.salts.find(salt);
  if (found == marks.salts.end() && marks.salts.size() >= FlushMarks::kMaxSalts) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the pages of ", FlushMarks::kMaxSalts,
                     " tenants have been flushed alone; flush those of all of them"));
  }
  FlushMark& mark = found == marks.salts.end() ? marks.salts[salt] : found->second;
  if (mark.id != flush.id) mark = {.number = mark.number + 1, .id = flush.id};
  return absl::OkStatus();
}

std::string EpochOf(const FlushMarks& marks, std::string_view context, std::string_view secret) {
  std::string epoch = absl::StrCat(marks.all.number, " ", marks.all.id);
  if (marks.salts.empty()) return epoch;
  const auto salt = marks.salts.find(SaltDigest(SaltOf(context), secret));
  if (salt == marks.salts.end()) return epoch;
  return absl::StrCat(epoch, " ", salt->second.number, " ", salt->second.id);
}

ContextFilter FlushedBetween(const std::optional<FlushMarks>& before, const FlushMarks& now,
                             std::string_view secret) {
  if (before && *before == now) return nullptr;
  if (!before || before->all != now.all) return [](std::string_view) { return true; };
  std::set<std::string> flushed;
  for (const auto& [salt, mark] : now.salts) {
    const auto known = before->salts.find(salt);
    if (known == before->salts.end() || known->second != mark) flushed.insert(salt);
  }
  return [flushed = std::move(flushed), secret = std::string(secret)](std::string_view context) {
    return flushed.contains(SaltDigest(SaltOf(context), secret));
  };
}

std::string SealMarks(const FlushMarks& marks, std::string_view name, std::string_view secret) {
  std::string body = absl::StrCat(kVersion, " ", marks.all.number, " ", marks.all.id);
  for (const auto& [salt, mark] : marks.salts) {
    absl::StrAppend(&body, "\n", salt, " ", mark.number, " ", mark.id);
  }
  return Tag(name, body, secret) + body;
}

absl::StatusOr<FlushMarks> OpenMarks(std::string_view sealed, std::string_view name,
                                     std::string_view secret) {
  if (sealed.size() > kTagBytes && sealed.size() <= kMaxBytes) {
    const std::string_view body = sealed.substr(kTagBytes);
    if (sealed.substr(0, kTagBytes) == Tag(name, body, secret)) {
      if (std::optional<FlushMarks> marks = ParseBody(ToAbsl(body))) return *std::move(marks);
    }
  }
  return absl::DataLossError("what stands there are no marks of flushes");
}

}  // namespace octogate::workers
