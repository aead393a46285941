// The drafters that a model speculates with, by name.
#ifndef OCTOGATE_WORKERS_SPECULATION_DRAFTER_FACTORY_H_
#define OCTOGATE_WORKERS_SPECULATION_DRAFTER_FACTORY_H_

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/near_matches.h"
#include "workers/engine/model_runner.h"
#include "workers/speculation/draft_keeper.h"
#include "workers/speculation/drafter.h"
#include "workers/speculation/recycling_table.h"

namespace octogate::workers {

// Opens what `octoctl drafts build --near-matches` has made beside the store at a path.
using NearMatchesOpener = std::function<absl::StatusOr<std::unique_ptr<retrieval::NearMatches>>(
    const std::string& path, const retrieval::DraftStore& store)>;

struct Datastore {
  std::filesystem::path path;
  std::string tenant;  // whose requests alone it drafts for; empty: all
};

// What people ask for; octogate.v1.Speculation says the same in a graph.
struct SpeculationOptions {
  // By name, each at most once. None: "recycling" and "suffix", with "retrieval" where there are
  // datastores, "model" where there is a draft model and "hidden" where there is a draft head.
  std::vector<std::string> drafters;
  int max_draft_nodes = 64;  // of one sequence in one pass; 1 to kMaxDraftNodes
  bool share_between_tenants = false;
  std::vector<Datastore> datastores;  // of "retrieval"; with share_between_tenants none of a tenant
  // Whether "retrieval" drafts from near matches, too; every datastore has some then.
  bool near_matches = false;
  // Null in a program without FAISS: near matches are UNIMPLEMENTED.
  NearMatchesOpener open_near_matches;
  std::filesystem::path draft_model;  // of "model"
  // Of the CPU, for "model" alone: it drafts on while a pass verifies, on these instead of what the
  // engine computes with; 0 to kMaxDraftThreads.
  static constexpr int kMaxDraftThreads = 1024;
  int draft_threads = 0;
  std::filesystem::path draft_head;  // of "hidden" (draft_head.h)
  // Of "recycling": candidates of a token, which its table keeps; 1 to kMaxRecyclingRow. A table
  // takes 4 bytes for each of them and token of the vocabulary.
  int recycling_candidates = RecyclingTableOptions().row_size;
  // Pairs of tokens for which its table keeps candidates, too, those that changed last; 0 to
  // kMaxRecyclingPairs. Each takes 16 bytes, and 4 for each candidate.
  int recycling_pairs = RecyclingTableOptions().context_rows;
  // The shape of its trees, one of RecyclingTreeNames().
  std::string recycling_tree = "best-first";
  // What "retrieval" proposes is dropped where "model" expects less of it than this, from 0 on,
  // which drops nothing, and below 1 (PruneByDraft).
  float prune_retrieved_below = 0;
  // That what each of "recycling", "suffix" and "lookahead" has learned may take. Beyond it, and
  // beyond kMostScopes (scope_states.h), tenants are forgotten, those first that have asked nothing
  // for longest. The weights and the cache of "model" are no part of it.
  uint64_t memory_bytes = uint64_t{512} << 20;
  // A folder for what "recycling", "suffix" and "lookahead" learn; empty: it is forgotten.
  std::filesystem::path state;
  // Where replicas of the model tell each other the same; may be null.
  std::shared_ptr<DraftPlace> shared;
};

// INVALID_ARGUMENT where the options are out of range or contradict each other.
absl::Status ValidateSpeculation(const SpeculationOptions& options);

// Names that MakeDrafters knows, in order.
std::vector<std::string_view> DrafterNames();

// "best-first": the most probable paths of the candidates at hand. "fixed": the tree of 80 nodes
// that Token Recycling was measured with. "planned": a tree by ranks, learned from how often each
// rank was right at each depth. The first is the best by far where little is known.
std::vector<std::string_view> RecyclingTreeNames();

// INVALID_ARGUMENT for options that are not valid or a name that is not known; errors of
// DraftStore::Open, the opener of near matches, RetrievalDrafter::Create, Checkpoint::Open,
// Tokenizer::Load, ModelDrafter::Create and DraftHead::Open. UNIMPLEMENTED for "hidden", once its
// head has been found to fit the model.
absl::StatusOr<std::vector<std::unique_ptr<Drafter>>> MakeDrafters(
    const SpeculationOptions& options, const DraftedModel& model);

// The same as LoadModel takes it.
SpeculationSetup SetUpSpeculation(SpeculationOptions options);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_DRAFTER_FACTORY_H_
