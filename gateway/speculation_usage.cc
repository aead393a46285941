#include "gateway/speculation_usage.h"

#include <map>
#include <string>
#include <utility>

namespace octogate::gateway {
namespace {

template <typename Counts>
void AddCounts(const Counts& counts, Counts* sum) {
  sum->set_drafted_tokens(sum->drafted_tokens() + counts.drafted_tokens());
  sum->set_accepted_tokens(sum->accepted_tokens() + counts.accepted_tokens());
}

}  // namespace

void AddSpeculation(const std::optional<v1::SpeculationUsage>& usage,
                    std::optional<v1::SpeculationUsage>* sum) {
  if (!usage) return;
  if (!*sum) {
    *sum = usage;
    return;
  }
  v1::SpeculationUsage& to = **sum;
  to.set_steps(to.steps() + usage->steps());
  AddCounts(*usage, &to);
  std::map<std::string, v1::DrafterUsage> drafters;
  for (const auto& of_one : {to.drafters(), usage->drafters()}) {
    for (const v1::DrafterUsage& drafter : of_one) {
      v1::DrafterUsage& of_name = drafters[drafter.drafter()];
      of_name.set_drafter(drafter.drafter());
      AddCounts(drafter, &of_name);
    }
  }
  to.clear_drafters();
  for (auto& [name, drafter] : drafters) *to.add_drafters() = std::move(drafter);
  for (int d = 0; d < usage->depths_size(); ++d) {
    AddCounts(usage->depths(d), d < to.depths_size() ? to.mutable_depths(d) : to.add_depths());
  }
  to.set_draft_us(to.draft_us() + usage->draft_us());
  to.set_verify_us(to.verify_us() + usage->verify_us());
  to.set_plain_us(to.plain_us() + usage->plain_us());
}

}  // namespace octogate::gateway
