#include "workers/server/speculation_to_proto.h"

#include "absl/time/time.h"

namespace octogate::workers {

v1::SpeculationUsage ToProto(const SpeculationUsage& usage) {
  v1::SpeculationUsage message;
  message.set_steps(usage.steps);
  message.set_drafted_tokens(usage.tokens.drafted);
  message.set_accepted_tokens(usage.tokens.accepted);
  for (const DrafterUsage& drafter : usage.drafters) {
    v1::DrafterUsage& to = *message.add_drafters();
    to.set_drafter(drafter.drafter);
    to.set_drafted_tokens(drafter.tokens.drafted);
    to.set_accepted_tokens(drafter.tokens.accepted);
  }
  for (const DraftCounts& depth : usage.depths) {
    v1::DepthUsage& to = *message.add_depths();
    to.set_drafted_tokens(depth.drafted);
    to.set_accepted_tokens(depth.accepted);
  }
  message.set_draft_us(absl::ToInt64Microseconds(usage.draft));
  message.set_verify_us(absl::ToInt64Microseconds(usage.verify));
  message.set_plain_us(absl::ToInt64Microseconds(usage.plain));
  return message;
}

}  // namespace octogate::workers
