// Which pages of keys and values in a store may be used: those that were written since the last
// flush.
//
// Every flush leaves a mark, in one value that the engines of a format share: one mark for all
// pages, and one for each cache_salt that was flushed alone since. Marks are part of the names of
// pages (PageCodec), so that pages of other marks are neither found nor written over: a flush costs
// one write, however many pages there are, and a page that is written by somebody who has not heard
// of it stands where nobody looks, until it expires.
//
// Marks only grow. Whoever reads the value takes the larger ones of it and its own, and writes
// these back where the value is behind or gone, so that nothing is undone where the store is
// emptied, set back, or lies. The value has an HMAC with the secret of those who share (without
// one, whoever can write to the store is trusted) over its name and itself; it tells no salt but by
// a keyed digest.
#ifndef OCTOGATE_WORKERS_CACHE_FLUSH_MARKS_H_
#define OCTOGATE_WORKERS_CACHE_FLUSH_MARKS_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/engine/page_flush.h"

namespace octogate::workers {

struct FlushMark {
  uint64_t number = 0;
  std::string id;  // PageFlush::id
  auto operator<=>(const FlushMark&) const = default;
};

struct FlushMarks {
  // Salts that were flushed alone; beyond these only all can be.
  static constexpr size_t kMaxSalts = 1024;

  FlushMark all;
  std::map<std::string, FlushMark> salts;  // by SaltDigest, since `all`
  bool operator==(const FlushMarks&) const = default;
};

// What stands for a salt: 32 hexadecimal digits.
std::string SaltDigest(std::string_view salt, std::string_view secret);

// The larger ones; everything is flushed where that is too many.
FlushMarks MergeMarks(const FlushMarks& a, const FlushMarks& b);

// Adds a flush, unless its mark is the last one there. RESOURCE_EXHAUSTED for one more salt than
// there may be.
absl::Status AddMark(const PageFlush& flush, std::string_view secret, FlushMarks& marks);

// What pages of a context are named by, beside the context and the tokens.
std::string EpochOf(const FlushMarks& marks, std::string_view context, std::string_view secret);

// The contexts that were flushed between two reads; everything where there was none before. Empty
// where nothing was.
ContextFilter FlushedBetween(const std::optional<FlushMarks>& before, const FlushMarks& now,
                             std::string_view secret);

// As they are stored under a name.
std::string SealMarks(const FlushMarks& marks, std::string_view name, std::string_view secret);
// DATA_LOSS for anything else than what SealMarks has made under this name with this secret.
absl::StatusOr<FlushMarks> OpenMarks(std::string_view sealed, std::string_view name,
                                     std::string_view secret);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_CACHE_FLUSH_MARKS_H_
