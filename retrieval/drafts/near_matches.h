// Places of a draft store whose contexts are like the end of a sequence, not equal to it.
//
// An interface, so that who drafts needs nothing of what finds them: near_index.h does, with FAISS.
#ifndef OCTOGATE_RETRIEVAL_DRAFTS_NEAR_MATCHES_H_
#define OCTOGATE_RETRIEVAL_DRAFTS_NEAR_MATCHES_H_

#include <cstdint>
#include <span>
#include <vector>

namespace octogate::retrieval {

// Where a continuation begins.
struct DraftPlace {
  uint32_t segment = 0;  // of the store
  uint32_t word = 0;     // of the segment

  bool operator==(const DraftPlace&) const = default;
};

// Of one store, while it is open. Thread safety: none.
class NearMatches {
 public:
  virtual ~NearMatches() = default;

  // Overwrites `places` with at most `count` of them, the most alike first. The same calls find the
  // same.
  virtual void Find(std::span<const int32_t> sequence, int count,
                    std::vector<DraftPlace>& places) = 0;
  // Tokens of a sequence's end that it looks at, at most.
  virtual int window() const = 0;
  virtual uint64_t bytes() const = 0;  // in memory
};

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DRAFTS_NEAR_MATCHES_H_
