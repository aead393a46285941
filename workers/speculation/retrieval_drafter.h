// The drafter `retrieval`: what followed the same tokens in a corpus (REST, arXiv:2311.08252). How
// another drafter may judge it is PruneByDraft's affair (draft_tree.h).
#ifndef OCTOGATE_WORKERS_SPECULATION_RETRIEVAL_DRAFTER_H_
#define OCTOGATE_WORKERS_SPECULATION_RETRIEVAL_DRAFTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/hash128.h"
#include "retrieval/drafts/draft_lookup.h"
#include "retrieval/drafts/draft_store.h"
#include "workers/speculation/drafter.h"

namespace octogate::workers {

struct RetrievalCorpus {
  std::shared_ptr<const retrieval::DraftStore> store;
  std::string tenant;  // the one whose sequences may see it; empty: all
  std::shared_ptr<retrieval::NearMatches> near = nullptr;  // of the store, of no other drafter
};

struct RetrievalDrafterOptions {
  Hash128 tokenizer;  // the model's (tokenizer_fingerprint.h)
  int vocab_size = 0;
  retrieval::DraftLookupOptions lookup;
  // Places at which something else follows that the stores have not, where one token matched;
  // where several did, that divided by their number. 0 or more.
  float unseen_places = 4;
};

// Proposes the prefix tree of what followed the longest end of the sequence in the stores that its
// tenant may see, and where that is short what followed near matches, as far as there are any. A
// node's probability is its share of its parent's places, the unseen ones included: what followed
// at one place is no sure thing, and the less so, the less of the sequence stood there (the escape
// of PPM; Cleary and Witten 1984, "Data Compression Using Adaptive Coding and Partial String
// Matching"). Learns nothing.
class RetrievalDrafter : public Drafter {
 public:
  // FAILED_PRECONDITION for a store of another tokenizer, INVALID_ARGUMENT for options that
  // LookUpContinuations does not take, and for unseen places that are no number from 0 on.
  static absl::StatusOr<std::unique_ptr<RetrievalDrafter>> Create(
      std::vector<RetrievalCorpus> corpora, const RetrievalDrafterOptions& options);

  std::string_view name() const override { return "retrieval"; }
  bool is_retrieved() const override { return true; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) override;
  uint64_t bytes() const override;  // of the files, which are mapped, and of near matches

 private:
  RetrievalDrafter(std::vector<RetrievalCorpus> corpora, const RetrievalDrafterOptions& options)
      : corpora_(std::move(corpora)), options_(options) {}

  const std::vector<RetrievalCorpus> corpora_;
  const RetrievalDrafterOptions options_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_RETRIEVAL_DRAFTER_H_
