#include "workers/speculation/drafter_factory.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"
#include "retrieval/drafts/draft_store.h"
#include "workers/model/checkpoint.h"
#include "workers/model/tokenizer_fingerprint.h"
#include "workers/speculation/draft_folder.h"
#include "workers/speculation/kept_drafter.h"
#include "workers/speculation/lookahead.h"
#include "workers/speculation/model_drafter.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/retrieval_drafter.h"
#include "workers/speculation/suffix.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxDatastores = 16;

using DrafterOr = absl::StatusOr<std::unique_ptr<Drafter>>;
using Keeper = std::shared_ptr<DraftKeeper>;  // null where nothing is kept

std::unique_ptr<Drafter> Keep(std::unique_ptr<LearningDrafter> drafter, const Keeper& keeper) {
  if (keeper == nullptr) return drafter;
  return KeepDrafter(std::move(drafter), keeper);
}

DrafterOr MakeLookahead(const SpeculationOptions&, const DraftedModel&, const Keeper&) {
  return std::make_unique<LookaheadDrafter>(LookaheadOptions{});
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
  absl::StatusOr<std::unique_ptr<ModelDrafter>> drafter =
      ModelDrafter::Create(std::make_shared<const Checkpoint>(std::move(checkpoint)), model.backend,
                           {.draft_tokenizer = TokenizerFingerprint(*tokenizer),
                            .target_tokenizer = TokenizerFingerprint(*model.tokenizer),
                            .vocab_size = model.tokenizer->vocab_size()});
  if (!drafter.ok()) return Annotate(drafter.status(), options.draft_model.string());
  return *std::move(drafter);
}

DrafterOr MakeRecycling(const SpeculationOptions&, const DraftedModel& model,
                        const Keeper& keeper) {
  return Keep(std::make_unique<RecyclingDrafter>(
                  RecyclingOptions{.table = {.vocab_size = model.checkpoint->config().vocab_size}}),
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
  for (const std::filesystem::path& path : options.datastores) {
    OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<const retrieval::DraftStore> store,
                              retrieval::DraftStore::Open(path.string()));
    std::shared_ptr<retrieval::NearMatches> near;
    if (options.near_matches) {
      OCTOGATE_ASSIGN_OR_RETURN(near, options.open_near_matches(path.string(), *store));
    }
    corpora.push_back({.store = std::move(store), .scope = "", .near = std::move(near)});
  }
  return RetrievalDrafter::Create(std::move(corpora),
                                  {.tokenizer = TokenizerFingerprint(*model.tokenizer),
                                   .vocab_size = model.tokenizer->vocab_size()});
}

DrafterOr MakeSuffix(const SpeculationOptions&, const DraftedModel& model, const Keeper& keeper) {
  return Keep(std::make_unique<SuffixDrafter>(
                  SuffixOptions{.vocab_size = model.checkpoint->config().vocab_size}),
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
constexpr Maker kMakers[] = {{"lookahead", MakeLookahead},
                             {"model", MakeModel},
                             {"recycling", MakeRecycling},
                             {"retrieval", MakeRetrieval},
                             {"suffix", MakeSuffix}};

std::vector<std::string> NamesOf(const SpeculationOptions& options) {
  if (!options.drafters.empty()) return options.drafters;
  std::vector<std::string> names = {"recycling", "suffix"};
  if (!options.datastores.empty()) names.push_back("retrieval");
  if (!options.draft_model.empty()) names.push_back("model");
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
  if (options.near_matches && options.datastores.empty()) {
    return absl::InvalidArgumentError("near matches are those of a datastore; name one, too");
  }
  if (!options.draft_model.empty() && !has("model")) return useless("a draft model", "model");
  if (!options.state.empty() && !has("recycling") && !has("suffix")) {
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

absl::StatusOr<std::vector<std::unique_ptr<Drafter>>> MakeDrafters(
    const SpeculationOptions& options, const DraftedModel& model) {
  if (absl::Status status = ValidateSpeculation(options); !status.ok()) return status;
  OCTOGATE_ASSIGN_OR_RETURN(const Keeper keeper, MakeKeeper(options, model));
  std::vector<std::unique_ptr<Drafter>> drafters;
  for (const std::string& name : NamesOf(options)) {
    const auto* const maker = std::find_if(std::begin(kMakers), std::end(kMakers),
                                           [&](const Maker& known) { return known.name == name; });
    if (maker == std::end(kMakers)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "there is no drafter \"", name, "\"; there are: ",
          absl::StrJoin(DrafterNames(), ", ",
                        [](std::string* out, std::string_view s) { out->append(s); })));
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
