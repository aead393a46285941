// What followed the end of a sequence in a draft store.
#ifndef OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_LOOKUP_H_
#define OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_LOOKUP_H_

#include <cstdint>
#include <span>
#include <vector>

#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/near_matches.h"

namespace octogate::retrieval {

// Where to look.
struct DraftSource {
  const DraftStore* store = nullptr;
  NearMatches* near = nullptr;  // of the store; null: only what is equal is found
};

// Every field is at least 1; `min_span` is not above `max_span`.
struct DraftLookupOptions {
  int max_span = 16;   // tokens of the sequence's end that are looked for, at most and
  int min_span = 2;    // at least; 1 gains nothing where rows have a price
  int max_hits = 200;  // places whose continuations are counted
  int max_depth = 10;  // tokens of a continuation
  int max_nodes = 64;
  // Where fewer tokens than that match, continuations of near matches are counted with the others:
  int near_below = 6;
  int max_near = 16;  // so many of each source that has them
};

// Continuations as a prefix tree, parents before children, the most frequent first.
struct DraftContinuations {
  struct Node {
    int32_t token = 0;
    int32_t parent = -1;  // index; -1: follows the sequence
    int32_t depth = 1;    // of continuations from 1
    int32_t count = 0;    // of the counted places that go on like this
  };

  int span = 0;             // tokens that matched; 0: fewer than min_span do, and nothing was found
  uint64_t hits = 0;        // places in all segments that they stand at
  int32_t counted = 0;      // of these and of near matches
  int32_t near = 0;         // near matches among them; a place that is both counts twice
  std::vector<Node> nodes;  // no two siblings have the same token
};

// Looks for the longest end of `sequence` that stands in a document of one of `sources`, of
// max_span tokens at most, then counts what follows it in all of them, within the documents. Where
// it stands at more than max_hits places, as many of them are counted, evenly spread over the
// sorted continuations, so that counts keep their proportions. Where it is short, or nothing was
// found, near matches are counted as well. Of the prefixes of continuations, the max_nodes with the
// largest counts are returned; of equals the shorter, then the one with the smaller tokens. Tokens
// are in the vocabularies of all stores. The same sources and sequence give the same result
// everywhere.
//
// Takes log2(max_span) * log2(tokens) steps per segment, (max_hits + max_near) * max_depth words
// and a search of near matches. `result` is overwritten; its memory is used again. Thread safety:
// as of DraftStore; with near matches none.
void LookUpContinuations(std::span<const DraftSource> sources, std::span<const int32_t> sequence,
                         const DraftLookupOptions& options, DraftContinuations& result);

inline void LookUpContinuations(const DraftStore& store, std::span<const int32_t> sequence,
                                const DraftLookupOptions& options, DraftContinuations& result) {
  const DraftSource sources[] = {{.store = &store}};
  LookUpContinuations(sources, sequence, options, result);
}

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_LOOKUP_H_
