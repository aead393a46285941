// The drafters that a model speculates with, by name.
#ifndef OCTOGATE_WORKERS_SPECULATION_DRAFTER_FACTORY_H_
#define OCTOGATE_WORKERS_SPECULATION_DRAFTER_FACTORY_H_

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

namespace octogate::workers {

// Opens what `octoctl drafts build --near-matches` has made beside the store at a path.
using NearMatchesOpener = std::function<absl::StatusOr<std::unique_ptr<retrieval::NearMatches>>(
    const std::string& path, const retrieval::DraftStore& store)>;

// What people ask for; octogate.v1.Speculation says the same in a graph.
struct SpeculationOptions {
  // By name, each at most once. None: "recycling" and "suffix", with "retrieval" where there are
  // datastores and "model" where there is a draft model.
  std::vector<std::string> drafters;
  int max_draft_nodes = 64;  // of one sequence in one pass; 1 to kMaxDraftNodes
  bool share_between_tenants = false;
  std::vector<std::filesystem::path> datastores;  // of "retrieval"
  // Whether "retrieval" drafts from near matches, too; every datastore has some then.
  bool near_matches = false;
  // Null in a program without FAISS: near matches are UNIMPLEMENTED.
  NearMatchesOpener open_near_matches;
  std::filesystem::path draft_model;  // of "model"
  // A folder for what "recycling" and "suffix" learn; empty: it is forgotten.
  std::filesystem::path state;
  // Where replicas of the model tell each other the same; may be null.
  std::shared_ptr<DraftPlace> shared;
};

// INVALID_ARGUMENT where the options are out of range or contradict each other.
absl::Status ValidateSpeculation(const SpeculationOptions& options);

// Names that MakeDrafters knows, in order.
std::vector<std::string_view> DrafterNames();

// INVALID_ARGUMENT for options that are not valid or a name that is not known; errors of
// DraftStore::Open, the opener of near matches, RetrievalDrafter::Create, Checkpoint::Open,
// Tokenizer::Load and ModelDrafter::Create.
absl::StatusOr<std::vector<std::unique_ptr<Drafter>>> MakeDrafters(
    const SpeculationOptions& options, const DraftedModel& model);

// The same as LoadModel takes it.
SpeculationSetup SetUpSpeculation(SpeculationOptions options);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_DRAFTER_FACTORY_H_
