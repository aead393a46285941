#include "retrieval/drafts/draft_lookup.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "retrieval/drafts/draft_store_format.h"

namespace octogate::retrieval {
namespace {

using Pattern = std::span<const int32_t>;

// Ranks of suffixes that begin with a pattern.
struct Range {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// Of the suffix's beginning against `pattern`: negative where it is less, 0 where it is equal.
int Compare(const DraftSegment& segment, uint64_t rank, Pattern pattern) {
  const uint64_t place = segment.Suffix(rank);
  for (size_t i = 0; i < pattern.size(); ++i) {
    const uint32_t word = place + i < segment.tokens() ? segment.Word(place + i) : kSeparator;
    const auto token = static_cast<uint32_t>(pattern[i]);
    if (word != token) return word < token ? -1 : 1;
  }
  return 0;
}

// The first rank from `begin` on whose suffix is not less than `pattern`; not less and not equal
// where `after`.
uint64_t FirstRank(const DraftSegment& segment, uint64_t begin, Pattern pattern, bool after) {
  const auto before = [&](uint64_t rank) {
    const int order = Compare(segment, rank, pattern);
    return after ? order <= 0 : order < 0;
  };
  uint64_t end = segment.suffixes();
  if (after) {
    // Most patterns stand at few places.
    for (uint64_t step = 1; step < end - begin; step *= 2) {
      if (!before(begin + step)) {
        end = begin + step;
        break;
      }
      begin += step;
    }
  }
  while (begin < end) {
    const uint64_t middle = begin + (end - begin) / 2;
    if (before(middle)) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

// Of every segment. False where none has the pattern.
bool FindRanges(std::span<const DraftSegment* const> segments, Pattern pattern,
                std::vector<Range>& ranges) {
  ranges.clear();
  bool found = false;
  for (const DraftSegment* segment : segments) {
    const uint64_t begin = FirstRank(*segment, 0, pattern, false);
    const bool has = begin < segment->suffixes() && Compare(*segment, begin, pattern) == 0;
    found |= has;
    ranges.push_back({begin, begin + (has ? 1 : 0)});
  }
  return found;
}

// Continuations of `depth` words each, -1 from their document's end on, in ascending order.
class Continuations {
 public:
  Continuations(int depth, int vocab_size)
      : depth_(static_cast<size_t>(depth)), vocab_size_(static_cast<uint32_t>(vocab_size)) {}

  void Add(const DraftSegment& segment, uint64_t place) {
    bool ended = false;
    for (size_t i = 0; i < depth_; ++i) {
      const uint32_t word =
          !ended && place + i < segment.tokens() ? segment.Word(place + i) : kSeparator;
      ended |= word >= vocab_size_;
      tokens_.push_back(ended ? -1 : static_cast<int32_t>(word));
    }
    rows_.push_back(static_cast<uint32_t>(rows_.size()));
  }

  void Sort() {
    const auto less = [this](uint32_t a, uint32_t b) {
      const int32_t* from = &tokens_[a * depth_];
      return std::lexicographical_compare(from, from + depth_, &tokens_[b * depth_],
                                          &tokens_[b * depth_] + depth_);
    };
    // As they mostly are within one segment.
    const auto others = std::is_sorted_until(rows_.begin(), rows_.end(), less);
    std::sort(others, rows_.end(), less);
    std::inplace_merge(rows_.begin(), others, rows_.end(), less);
  }

  int32_t At(int32_t row, int32_t depth) const {
    return tokens_[rows_[static_cast<size_t>(row)] * depth_ + static_cast<size_t>(depth)];
  }
  int32_t size() const { return static_cast<int32_t>(rows_.size()); }

 private:
  const size_t depth_;
  const uint32_t vocab_size_;
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> rows_;
};

// Rows [begin, end) of the continuations begin with the node's path.
struct Candidate {
  int32_t begin;
  int32_t end;
  int32_t depth;
  int32_t parent;
  int32_t count() const { return end - begin; }

  bool operator<(const Candidate& other) const {  // comes later
    if (count() != other.count()) return count() < other.count();
    if (depth != other.depth) return depth > other.depth;
    return begin > other.begin;
  }
};

void TakeMostFrequent(const Continuations& continuations, const DraftLookupOptions& options,
                      std::vector<DraftContinuations::Node>& nodes) {
  std::priority_queue<Candidate> candidates;
  const auto add_children = [&](const Candidate& of, int32_t index) {
    if (of.depth >= options.max_depth) return;
    for (int32_t begin = of.begin; begin < of.end;) {
      const int32_t token = continuations.At(begin, of.depth);
      int32_t end = begin + 1;
      while (end < of.end && continuations.At(end, of.depth) == token) ++end;
      if (token >= 0) candidates.push({begin, end, of.depth + 1, index});
      begin = end;
    }
  };
  add_children({0, continuations.size(), 0, -1}, -1);
  while (!candidates.empty() && static_cast<int>(nodes.size()) < options.max_nodes) {
    const Candidate next = candidates.top();
    candidates.pop();
    nodes.push_back({.token = continuations.At(next.begin, next.depth - 1),
                     .parent = next.parent,
                     .depth = next.depth,
                     .count = next.count()});
    add_children(next, static_cast<int32_t>(nodes.size()) - 1);
  }
}

// Of all sources that have some, each of them in its store.
void AddNearMatches(std::span<const DraftSource> sources, std::span<const int32_t> sequence,
                    int max_near, Continuations& continuations) {
  std::vector<DraftPlace> places;
  for (const DraftSource& source : sources) {
    if (source.near == nullptr) continue;
    source.near->Find(sequence, max_near, places);
    const std::span<const DraftSegment> segments = source.store->segments();
    for (const DraftPlace& place : places) continuations.Add(segments[place.segment], place.word);
  }
}

}  // namespace

void LookUpContinuations(std::span<const DraftSource> sources, std::span<const int32_t> sequence,
                         const DraftLookupOptions& options, DraftContinuations& result) {
  result.span = 0;
  result.hits = 0;
  result.counted = 0;
  result.near = 0;
  result.nodes.clear();

  std::vector<const DraftSegment*> segments;
  int vocab_size = std::numeric_limits<int>::max();
  for (const DraftSource& source : sources) {
    for (const DraftSegment& segment : source.store->segments()) segments.push_back(&segment);
    vocab_size = std::min(vocab_size, source.store->vocab_size());
  }
  // What is no token stands nowhere.
  Pattern end = sequence.last(std::min(sequence.size(), static_cast<size_t>(options.max_span)));
  for (size_t i = end.size(); i > 0; --i) {
    if (end[i - 1] >= 0 && end[i - 1] < vocab_size) continue;
    end = end.subspan(i);
    break;
  }

  // A sequence whose end of n tokens is found has its end of n - 1 tokens found, too.
  std::vector<Range> ranges(segments.size());
  std::vector<Range> tried;
  int low = options.min_span;  // none below is worth a look
  int high = static_cast<int>(end.size());
  while (low <= high) {
    // Most ends that are found are short.
    const int span = low + (high - low) / 4;
    if (FindRanges(segments, end.last(static_cast<size_t>(span)), tried)) {
      result.span = span;
      std::swap(ranges, tried);
      low = span + 1;
    } else {
      high = span - 1;
    }
  }

  const Pattern pattern = end.last(static_cast<size_t>(result.span));
  for (size_t s = 0; s < segments.size(); ++s) {
    Range& range = ranges[s];
    if (range.end > range.begin) range.end = FirstRank(*segments[s], range.begin, pattern, true);
    result.hits += range.end - range.begin;
  }

  const uint64_t counted = std::min(result.hits, static_cast<uint64_t>(options.max_hits));
  Continuations continuations(options.max_depth, vocab_size);
  uint64_t before = 0;  // hits of the segments before
  size_t s = 0;
  for (uint64_t i = 0; i < counted; ++i) {
    const uint64_t hit = i * result.hits / counted;
    while (hit - before >= ranges[s].end - ranges[s].begin) {
      before += ranges[s].end - ranges[s].begin;
      ++s;
    }
    continuations.Add(*segments[s], segments[s]->Suffix(ranges[s].begin + hit - before) +
                                        static_cast<uint64_t>(result.span));
  }
  if (result.span < options.near_below) {
    AddNearMatches(sources, sequence, options.max_near, continuations);
  }
  continuations.Sort();
  result.counted = continuations.size();
  result.near = result.counted - static_cast<int32_t>(counted);
  TakeMostFrequent(continuations, options, result.nodes);
}

}  // namespace octogate::retrieval
