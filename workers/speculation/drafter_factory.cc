#include "workers/speculation/drafter_factory.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"
#include "retrieval/drafts/draft_store.h"
#include "workers/engine/device.h"
#include "workers/model/checkpoint.h"
#include "workers/model/tokenizer_fingerprint.h"
#include "workers/speculation/draft_folder.h"
#include "workers/speculation/draft_head.h"
#include "workers/speculation/kept_drafter.h"
#include "workers/speculation/lookahead.h"
#include "workers/speculation/model_drafter.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/retrieval_drafter.h"
#include "workers/speculation/suffix.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxDatastores = 16;
// Of a draft model beside a pass.
constexpr int kAheadPasses = 8;

using DrafterOr = absl::StatusOr<std::unique_ptr<Drafter>>;
using Keeper = std::shared_ptr<DraftKeeper>;  // null where nothing is kept

std::unique_ptr<Drafter> Keep(std::unique_ptr<LearningDrafter> drafter, const Keeper& keeper) {
  if (keeper == nullptr) return drafter;
  return KeepDrafter(std::move(drafter), keeper);
}

struct TreeShape {
  std::string_view name;
  RecyclingOptions::Shape shape;
};
constexpr TreeShape kTreeShapes[] = {{"best-first", RecyclingOptions::Shape::kBestFirst},
                                     {"fixed", RecyclingOptions::Shape::kFixed},
                                     {"planned", RecyclingOptions::Shape::kPlanned}};

const TreeShape* FindShape(std::string_view name) {
  const auto* const found =
      std::find_if(std::begin(kTreeShapes), std::end(kTreeShapes),
                   [&](const TreeShape& known) { return known.name == name; });
  return found == std::end(kTreeShapes) ? nullptr : found;
}

std::string Join(const std::vector<std::string_view>& names) {
  return absl::StrJoin(names, ", ", [](std::string* out, std::string_view s) { out->append(s); });
}

DrafterOr MakeHidden(const SpeculationOptions& options, const DraftedModel& model, const Keeper&) {
  if (options.draft_head.empty()) {
    return absl::InvalidArgumentError(
        "the drafter \"hidden\" needs a draft head: the folder of one that was trained for the "
        "model");
  }
  OCTOGATE_RETURN_IF_ERROR(
      DraftHead::Open(options.draft_head, model.checkpoint->config()).status());
  return absl::UnimplementedError(
      absl::StrCat("the draft head in ", options.draft_head.string(),
                   " fits the model, but drafting from hidden states is not part of this release; "
                   "leave it out, or draft with a small model (\"model\")"));
}

DrafterOr MakeLookahead(const SpeculationOptions& options, const DraftedModel& model,
                        const Keeper& keeper) {
  return Keep(
      std::make_unique<LookaheadDrafter>(LookaheadOptions{
          .vocab_size = model.checkpoint->config().vocab_size, .max_bytes = options.memory_bytes}),
      keeper);
}

DrafterOr MakeModel(const SpeculationOptions& options, const DraftedModel& model, const Keeper&) {
  if (options.draft_model.empty()) {
    return absl::InvalidArgumentError(
        "the drafter \"model\" needs a draft model: the folder of a small checkpoint with the same "
        "tokenizer");
  }
  OCTOGATE_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(options.draft_model));
  OCTOGATE_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                            Tokenizer::Load(options.draft_model.string()));
  auto shared_checkpoint = std::make_shared<const Checkpoint>(std::move(checkpoint));
  ModelDrafterOptions drafting{.draft_tokenizer = TokenizerFingerprint(*tokenizer),
                               .target_tokenizer = TokenizerFingerprint(*model.tokenizer),
                               .vocab_size = model.tokenizer->vocab_size()};
  absl::StatusOr<std::unique_ptr<ModelDrafter>> drafter;
  if (options.draft_threads > 0) {
    OCTOGATE_ASSIGN_OR_RETURN(ChosenBackend own, ChooseBackend({.threads = options.draft_threads,
                                                                .activations = model.activations}));
    drafting.ahead_passes = kAheadPasses;
    drafter = ModelDrafter::Create(std::move(shared_checkpoint), std::move(own.backend), drafting);
  } else {
    drafter = ModelDrafter::Create(std::move(shared_checkpoint), model.backend, drafting);
  }
  if (!drafter.ok()) return Annotate(drafter.status(), options.draft_model.string());
  return *std::move(drafter);
}

DrafterOr MakeRecycling(const SpeculationOptions& options, const DraftedModel& model,
                        const Keeper& keeper) {
  return Keep(std::make_unique<RecyclingDrafter>(
                  RecyclingOptions{.table = {.vocab_size = model.checkpoint->config().vocab_size,
                                             .row_size = options.recycling_candidates,
                                             .context_rows = options.recycling_pairs},
                                   .shape = FindShape(options.recycling_tree)->shape,
                                   .max_bytes = options.memory_bytes}),
              keeper);
}

DrafterOr MakeRetrieval(const SpeculationOptions& options, const DraftedModel& model,
                        const Keeper&) {
  if (options.datastores.empty()) {
    return absl::InvalidArgumentError(
        "the drafter \"retrieval\" needs a datastore, which octoctl drafts build makes");
  }
  if (options.near_matches && options.open_near_matches == nullptr) {
    return absl::UnimplementedError(
        "there are no near matches in this program: it was built without FAISS");
  }
  std::vector<RetrievalCorpus> corpora;
  for (const auto& [path, tenant] : options.datastores) {
    OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<const retrieval::DraftStore> store,
                              retrieval::DraftStore::Open(path.string()));
    std::shared_ptr<retrieval::NearMatches> near;
    if (options.near_matches) {
      OCTOGATE_ASSIGN_OR_RETURN(near, options.open_near_matches(path.string(), *store));
    }
    corpora.push_back({.store = std::move(store), .tenant = tenant, .near = std::move(near)});
  }
  return RetrievalDrafter::Create(std::move(corpora),
                                  {.tokenizer = TokenizerFingerprint(*model.tokenizer),
                                   .vocab_size = model.tokenizer->vocab_size()});
}

DrafterOr MakeSuffix(const SpeculationOptions& options, const DraftedModel& model,
                     const Keeper& keeper) {
  return Keep(
      std::make_unique<SuffixDrafter>(SuffixOptions{
          .vocab_size = model.checkpoint->config().vocab_size, .max_bytes = options.memory_bytes}),
      keeper);
}

absl::StatusOr<Keeper> MakeKeeper(const SpeculationOptions& options, const DraftedModel& model) {
  DraftKeeperOptions keeper;
  if (!options.state.empty()) {
    OCTOGATE_ASSIGN_OR_RETURN(keeper.places.emplace_back(), OpenDraftFolder(options.state));
  }
  if (options.shared != nullptr) keeper.places.push_back(options.shared);
  if (keeper.places.empty()) return nullptr;
  const Hash128 tokenizer = TokenizerFingerprint(*model.tokenizer);
  keeper.model = absl::StrCat(model.checkpoint->ComputeFingerprint().ToHex(), "-",
                              absl::Hex(tokenizer.high, absl::kZeroPad16),
                              absl::Hex(tokenizer.low, absl::kZeroPad16));
  return std::make_shared<DraftKeeper>(std::move(keeper));
}

struct Maker {
  std::string_view name;
  DrafterOr (*make)(const SpeculationOptions&, const DraftedModel&, const Keeper&);
};
constexpr Maker kMakers[] = {{"hidden", MakeHidden},       {"lookahead", MakeLookahead},
                             {"model", MakeModel},         {"recycling", MakeRecycling},
                             {"retrieval", MakeRetrieval}, {"suffix", MakeSuffix}};

std::vector<std::string> NamesOf(const SpeculationOptions& options) {
  if (!options.drafters.empty()) return options.drafters;
  std::vector<std::string> names = {"recycling", "suffix"};
  if (!options.datastores.empty()) names.push_back("retrieval");
  if (!options.draft_model.empty()) names.push_back("model");
  if (!options.draft_head.empty()) names.push_back("hidden");
  return names;
}

}  // namespace

absl::Status ValidateSpeculation(const SpeculationOptions& options) {
  if (options.drafters.size() > static_cast<size_t>(kMaxDrafters)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a model has at most ", kMaxDrafters, " drafters; these are ", options.drafters.size()));
  }
  std::set<std::string_view> names;
  for (const std::string& name : options.drafters) {
    if (!names.insert(name).second) {
      return absl::InvalidArgumentError(absl::StrCat("the drafter ", name, " is named twice"));
    }
  }
  const auto has = [&](const char* name) {
    return options.drafters.empty() || names.contains(name);
  };
  const auto useless = [](const char* what, const char* drafter) {
    return absl::InvalidArgumentError(absl::StrCat(what, " without the drafter \"", drafter,
                                                   "\"; name it, too, or leave both out"));
  };
  if (!options.datastores.empty() && !has("retrieval")) return useless("datastores", "retrieval");
  const bool has_own = std::any_of(options.datastores.begin(), options.datastores.end(),
                                   [](const Datastore& store) { return !store.tenant.empty(); });
  if (has_own && options.share_between_tenants) {
    return absl::InvalidArgumentError(
        "tenants that share drafts have no datastore of their own; share none, or give it to all");
  }
  if (options.near_matches && options.datastores.empty()) {
    return absl::InvalidArgumentError("near matches are those of a datastore; name one, too");
  }
  if (!options.draft_model.empty() && !has("model")) return useless("a draft model", "model");
  if (options.draft_threads > 0 && options.draft_model.empty()) {
    return absl::InvalidArgumentError(
        "threads of drafts are those of a draft model; name one, too");
  }
  if (options.draft_threads < 0 || options.draft_threads > SpeculationOptions::kMaxDraftThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("a draft model has 0 to ", SpeculationOptions::kMaxDraftThreads,
                     " threads of its own; these are ", options.draft_threads));
  }
  if (!options.draft_head.empty() && !has("hidden")) return useless("a draft head", "hidden");
  const SpeculationOptions defaults;
  if (options.recycling_candidates != defaults.recycling_candidates && !has("recycling")) {
    return useless("a number of candidates of recycling", "recycling");
  }
  if (options.recycling_pairs != defaults.recycling_pairs && !has("recycling")) {
    return useless("a number of pairs of recycling", "recycling");
  }
  if (options.recycling_tree != defaults.recycling_tree && !has("recycling")) {
    return useless("a tree of recycling", "recycling");
  }
  if (options.recycling_candidates < 1 || options.recycling_candidates > kMaxRecyclingRow) {
    return absl::InvalidArgumentError(absl::StrCat("recycling keeps 1 to ", kMaxRecyclingRow,
                                                   " candidates of a token; these are ",
                                                   options.recycling_candidates));
  }
  if (options.recycling_pairs < 0 || options.recycling_pairs > kMaxRecyclingPairs) {
    return absl::InvalidArgumentError(
        absl::StrCat("recycling keeps candidates of 0 to ", kMaxRecyclingPairs,
                     " pairs of tokens; these are ", options.recycling_pairs));
  }
  if (FindShape(options.recycling_tree) == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("there is no tree of recycling \"",
                                                   options.recycling_tree,
                                                   "\"; there are: ", Join(RecyclingTreeNames())));
  }
  if (!(options.prune_retrieved_below >= 0 && options.prune_retrieved_below < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("what retrieved drafts are pruned below is a probability from 0 on and below "
                     "1; this is ",
                     options.prune_retrieved_below));
  }
  if (options.prune_retrieved_below > 0 &&
      (options.datastores.empty() || options.draft_model.empty())) {
    return absl::InvalidArgumentError(
        "retrieved drafts are pruned by a draft model; name datastores and a draft model, too");
  }
  if (!options.state.empty() && !has("recycling") && !has("suffix") && !has("lookahead")) {
    return useless("a state", "recycling");
  }
  if (options.datastores.size() > kMaxDatastores) {
    return absl::InvalidArgumentError(absl::StrCat("a model has at most ", kMaxDatastores,
                                                   " datastores; these are ",
                                                   options.datastores.size()));
  }
  if (options.max_draft_nodes < 1 || options.max_draft_nodes > kMaxDraftNodes) {
    return absl::InvalidArgumentError(absl::StrCat("drafted tokens of a sequence are 1 to ",
                                                   kMaxDraftNodes, " in a pass; these are ",
                                                   options.max_draft_nodes));
  }
  return absl::OkStatus();
}

std::vector<std::string_view> DrafterNames() {
  std::vector<std::string_view> names;
  for (const Maker& maker : kMakers) names.push_back(maker.name);
  return names;
}

std::vector<std::string_view> RecyclingTreeNames() {
  std::vector<std::string_view> names;
  for (const TreeShape& shape : kTreeShapes) names.push_back(shape.name);
  return names;
}

absl::StatusOr<std::vector<std::unique_ptr<Drafter>>> MakeDrafters(
    const SpeculationOptions& options, const DraftedModel& model) {
  if (absl::Status status = ValidateSpeculation(options); !status.ok()) return status;
  OCTOGATE_ASSIGN_OR_RETURN(const Keeper keeper, MakeKeeper(options, model));
  std::vector<std::unique_ptr<Drafter>> drafters;
  for (const std::string& name : NamesOf(options)) {
    const auto* const maker = std::find_if(std::begin(kMakers), std::end(kMakers),
                                           [&](const Maker& known) { return known.name == name; });
    if (maker == std::end(kMakers)) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no drafter \"", name, "\"; there are: ", Join(DrafterNames())));
    }
    OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<Drafter> drafter,
                              maker->make(options, model, keeper));
    drafters.push_back(std::move(drafter));
  }
  return drafters;
}

SpeculationSetup SetUpSpeculation(SpeculationOptions options) {
  SpeculationSetup setup{.max_draft_nodes = options.max_draft_nodes,
                         .share_drafts = options.share_between_tenants,
                         .prune_retrieved_below = options.prune_retrieved_below,
                         .make_drafters = nullptr,
                         .shared_drafts = nullptr};
  if (options.shared != nullptr) {
    setup.shared_drafts = [place = options.shared] { return place->shared_stats(); };
  }
  setup.make_drafters = [options = std::move(options)](const DraftedModel& model) {
    return MakeDrafters(options, model);
  };
  return setup;
}

}  // namespace octogate::workers
