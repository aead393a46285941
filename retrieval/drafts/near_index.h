// Near matches in a draft store by the embedding of contexts (context_embedding.h) and FAISS's
// graph (HNSW: Malkov and Yashunin 2016, arXiv:1603.09320).
//
// They stand in a file beside the store, which belongs to one state of it: after the store was
// written the file is made anew. Nothing in it is trusted: it is refused unless every link leads to
// a context, and places and vectors are taken from the store. One that lies finds what is less
// alike and nothing worse.
#ifndef OCTOGATE_RETRIEVAL_DRAFTS_NEAR_INDEX_H_
#define OCTOGATE_RETRIEVAL_DRAFTS_NEAR_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "retrieval/drafts/context_embedding.h"
#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/near_matches.h"

namespace octogate::retrieval {

struct NearIndexOptions {
  ContextEmbedding embedding;
  // Of a larger store every second, third, … place is a context. Each takes about 400 bytes of
  // memory, of a writer and of whoever has it open; in [1, 2^24].
  uint64_t max_contexts = uint64_t{1} << 16;
};

// The file beside the store at `store_path`.
std::string NearIndexPath(std::string_view store_path);

// Writes it for the store that is there now, in the place of one that may be there. Readers see the
// old one or the new one, whole. It takes about 0.2 ms a context, in the calling thread; equal
// calls write equal files. Errors of DraftStore::Open; INVALID_ARGUMENT for options out of range or
// a store in which nothing follows a token; errors of the file system.
absl::Status WriteNearIndex(const std::string& store_path, const NearIndexOptions& options = {});

// Thread safety: none.
class NearIndex : public NearMatches {
 public:
  struct Info {
    ContextEmbedding embedding;
    uint64_t contexts = 0;
    uint32_t stride = 0;  // of so many places one is a context
    uint64_t file_bytes = 0;
  };

  // Of `store`, which was opened from `store_path`. NOT_FOUND where there is none,
  // FAILED_PRECONDITION for one of another state of the store, INVALID_ARGUMENT for one that is no
  // such file of this version or contradicts itself, DATA_LOSS for one that is damaged.
  static absl::StatusOr<std::unique_ptr<NearIndex>> Open(const std::string& store_path,
                                                         const DraftStore& store);
  // The same from memory; `source_name` stands for the file in error messages.
  static absl::StatusOr<std::unique_ptr<NearIndex>> FromBytes(std::span<const std::byte> bytes,
                                                              std::string_view source_name,
                                                              const DraftStore& store);

  ~NearIndex() override;
  NearIndex(const NearIndex&) = delete;
  NearIndex& operator=(const NearIndex&) = delete;

  void Find(std::span<const int32_t> sequence, int count, std::vector<DraftPlace>& places) override;
  int window() const override;
  uint64_t bytes() const override;
  const Info& info() const;
  // Of contexts below info().contexts.
  DraftPlace PlaceOf(uint64_t context) const;

 private:
  struct State;
  explicit NearIndex(std::unique_ptr<State> state);

  const std::unique_ptr<State> state_;
};

// NearIndex::Open as SpeculationOptions takes it.
absl::StatusOr<std::unique_ptr<NearMatches>> OpenNearMatches(const std::string& store_path,
                                                             const DraftStore& store);

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DRAFTS_NEAR_INDEX_H_
