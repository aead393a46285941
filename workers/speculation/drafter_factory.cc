#include "workers/speculation/drafter_factory.h"

#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "workers/speculation/lookahead.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/suffix.h"

namespace octogate::workers {
namespace {

using Maker = absl::StatusOr<std::unique_ptr<Drafter>> (*)(const SpeculationOptions& options,
                                                           const DraftedModel& model);

absl::StatusOr<std::unique_ptr<Drafter>> MakeLookahead(const SpeculationOptions& /*options*/,
                                                       const DraftedModel& /*model*/) {
  return std::make_unique<LookaheadDrafter>(LookaheadOptions{});
}

absl::StatusOr<std::unique_ptr<Drafter>> MakeRecycling(const SpeculationOptions& /*options*/,
                                                       const DraftedModel& model) {
  RecyclingOptions recycling;
  recycling.table.vocab_size = model.vocab_size;
  return std::make_unique<RecyclingDrafter>(recycling);
}

absl::StatusOr<std::unique_ptr<Drafter>> MakeSuffix(const SpeculationOptions& /*options*/,
                                                    const DraftedModel& /*model*/) {
  return std::make_unique<SuffixDrafter>(SuffixOptions{});
}

// A drafter is known where it has a line here.
const std::map<std::string_view, Maker>& Makers() {
  static const auto* const makers = new std::map<std::string_view, Maker>{
      {"lookahead", &MakeLookahead},
      {"recycling", &MakeRecycling},
      {"suffix", &MakeSuffix},
  };
  return *makers;
}

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
  if (options.max_draft_nodes < 1 || options.max_draft_nodes > kMaxDraftNodes) {
    return absl::InvalidArgumentError(absl::StrCat("drafted tokens of a sequence are 1 to ",
                                                   kMaxDraftNodes, " in a pass; these are ",
                                                   options.max_draft_nodes));
  }
  return absl::OkStatus();
}

std::vector<std::string_view> DrafterNames() {
  std::vector<std::string_view> names;
  for (const auto& [name, maker] : Makers()) names.push_back(name);
  return names;
}

absl::StatusOr<std::vector<std::unique_ptr<Drafter>>> MakeDrafters(
    const SpeculationOptions& options, const DraftedModel& model) {
  if (absl::Status status = ValidateSpeculation(options); !status.ok()) return status;
  std::vector<std::unique_ptr<Drafter>> drafters;
  for (const std::string& name : NamesOf(options)) {
    const auto maker = Makers().find(name);
    if (maker == Makers().end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "there is no drafter \"", name, "\"; there are: ",
          absl::StrJoin(DrafterNames(), ", ",
                        [](std::string* out, std::string_view s) { out->append(s); })));
    }
    absl::StatusOr<std::unique_ptr<Drafter>> drafter = maker->second(options, model);
    if (!drafter.ok()) return drafter.status();
    drafters.push_back(*std::move(drafter));
  }
  return drafters;
}

}  // namespace octogate::workers
