// The course of a query as people see it.
#include "gateway/octoctl/trace_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

namespace octogate::octoctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Drawn(const v1::GenerateResponse& event) {
  std::ostringstream out;
  const Style style;
  TraceView(style, out).Add(event);
  return out.str();
}

v1::GenerateResponse Left() {
  v1::GenerateResponse event;
  v1::NodeLeft& left = *event.mutable_node_left();
  left.set_duration_us(2'000'000);
  left.mutable_usage()->set_prompt_tokens(10);
  left.mutable_usage()->set_completion_tokens(70);
  return event;
}

TEST(TraceViewTest, SaysWhatDraftsDid) {
  v1::GenerateResponse event = Left();
  v1::SpeculationUsage& usage = *event.mutable_node_left()->mutable_speculation();
  usage.set_steps(28);
  usage.set_drafted_tokens(120);
  usage.set_accepted_tokens(42);
  usage.set_draft_us(1200);
  usage.set_verify_us(1'500'000);
  usage.set_plain_us(40'000);
  for (const char* name : {"recycling", "suf\x1b[2Jfix"}) {
    v1::DrafterUsage& drafter = *usage.add_drafters();
    drafter.set_drafter(name);
    drafter.set_drafted_tokens(70);
    drafter.set_accepted_tokens(20);
  }
  for (int depth = 0; depth < 30; ++depth) {
    v1::DepthUsage& of_depth = *usage.add_depths();
    of_depth.set_drafted_tokens(30 - depth);
    of_depth.set_accepted_tokens(depth == 0 ? 22 : 0);
  }
  const std::string drawn = Drawn(event);
  EXPECT_THAT(drawn, HasSubstr("2.50 tokens a step: 42 of 120 drafted right in 28 steps"));
  EXPECT_THAT(drawn, HasSubstr("recycling 20/70"));
  EXPECT_THAT(drawn, HasSubstr("by depth 22/30 0/29"));
  EXPECT_THAT(drawn, HasSubstr(" …\n"));
  EXPECT_THAT(drawn, Not(HasSubstr("\x1b[2J"))) << "a worker's words do not steer a terminal";
}

TEST(TraceViewTest, SaysWhatDraftingTookWhereNothingWasVerified) {
  v1::GenerateResponse event = Left();
  v1::SpeculationUsage& usage = *event.mutable_node_left()->mutable_speculation();
  usage.set_steps(28);
  usage.set_draft_us(1200);
  usage.set_plain_us(40'000);
  usage.add_drafters()->set_drafter("recycling");
  EXPECT_THAT(Drawn(event), HasSubstr("no drafts verified in 28 steps; drafting 1.2"));
  EXPECT_THAT(Drawn(event), Not(HasSubstr("recycling"))) << "which did nothing";
  usage.set_draft_us(0);
  EXPECT_THAT(Drawn(event), Not(HasSubstr("steps")));
}

TEST(TraceViewTest, SaysWhatDraftsDidForTheWholeAnswer) {
  v1::GenerateResponse event;
  v1::SpeculationUsage& usage = *event.mutable_finished()->mutable_speculation();
  usage.set_steps(28);
  EXPECT_THAT(Drawn(event), Not(HasSubstr("tokens a step")));
  usage.set_drafted_tokens(120);
  usage.set_accepted_tokens(42);
  EXPECT_THAT(Drawn(event), HasSubstr(", 2.50 tokens a step\n"));
}

TEST(TraceViewTest, SaysNothingOfDraftsWithoutAny) {
  EXPECT_THAT(Drawn(Left()), Not(HasSubstr("tokens a step")));
}

}  // namespace
}  // namespace octogate::octoctl
