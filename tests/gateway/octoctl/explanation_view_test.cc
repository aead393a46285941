// Reasons as people see them: for what won, and with nothing that could steer a terminal.
#include "gateway/octoctl/explanation_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

namespace octogate::octoctl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

v1::ExplainedDecision Explained(double log_ratio) {
  v1::ExplainedDecision explained;
  explained.mutable_decision()->set_node("files");
  v1::HeadExplanation& head = *explained.add_heads();
  head.set_head("lexical");
  head.set_node("files");
  head.set_against("none");
  head.set_log_ratio(log_ratio);
  head.set_confidence(0.25);
  head.set_threshold(0.5);
  v1::FeatureContribution& feature = *head.add_features();
  feature.set_text("folder");
  feature.set_kind(v1::FEATURE_KIND_WORD);
  feature.set_contribution(log_ratio);
  head.set_further_features(3);
  v1::NearestExample& example = *head.add_examples();
  example.set_text("list the files");
  example.set_node("files");
  example.set_distance(0.125);
  return explained;
}

std::string Drawn(const v1::ExplainedDecision& explained) {
  std::ostringstream out;
  PrintExplanation(explained, Style(), out);
  return out.str();
}

TEST(ExplanationViewTest, WhatWonIsNamedFirstAndWhatSpokeForItIsPositive) {
  EXPECT_THAT(Drawn(Explained(2)),
              AllOf(HasSubstr("why lexical finds files 7.39 times as probable as none"),
                    HasSubstr("+2.00  'folder'"), HasSubstr("… and 3 that matter less"),
                    HasSubstr("at 0.125  files  list the files")));
  EXPECT_THAT(
      Drawn(Explained(-2)),
      AllOf(HasSubstr("why lexical finds none 7.39 times as probable as files"),
            HasSubstr("confidence 0.250 in files, needed 0.500"), HasSubstr("+2.00  'folder'")));
}

TEST(ExplanationViewTest, SaysWhereAnotherNodeWasRecorded) {
  v1::ExplainedDecision explained = Explained(2);
  EXPECT_THAT(Drawn(explained), Not(HasSubstr("decides for")));
  explained.set_recorded_node("files");
  EXPECT_THAT(Drawn(explained), Not(HasSubstr("decides for")));
  explained.set_recorded_node("sums");
  EXPECT_THAT(Drawn(explained), HasSubstr("decides for files now"));
}

TEST(ExplanationViewTest, StrangersCannotSteerTheTerminal) {
  v1::ExplainedDecision explained = Explained(2);
  explained.mutable_heads(0)->mutable_features(0)->set_text("\x1b[2J\n");
  explained.mutable_heads(0)->mutable_examples(0)->set_text("\x1b]0;x\x07\r\n");
  EXPECT_THAT(Drawn(explained),
              AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("\x07")), Not(HasSubstr("\r"))));
}

TEST(ExplanationViewTest, AHeadThatCouldNotScoreHasNoReasons) {
  v1::ExplainedDecision explained = Explained(2);
  explained.mutable_heads(0)->clear_node();
  EXPECT_THAT(Drawn(explained), IsEmpty());
}

}  // namespace
}  // namespace octogate::octoctl
