#include "workers/speculation/drafter_factory.h"

#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace octogate::workers {
namespace {

TEST(DrafterFactoryTest, OptionsAreCheckedAndUnknownNamesAreRefused) {
  EXPECT_TRUE(ValidateSpeculation({}).ok());
  EXPECT_TRUE(ValidateSpeculation({.drafters = {"a", "b"}, .max_draft_nodes = 127}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpeculation({.drafters = {"a", "b", "a"}})));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpeculation({.max_draft_nodes = 0})));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpeculation({.max_draft_nodes = 128})));
  SpeculationOptions many;
  for (int i = 0; i <= kMaxDrafters; ++i) many.drafters.push_back(std::to_string(i));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpeculation(many)));
  const auto unknown =
      MakeDrafters({.drafters = {"oracle"}}, {.vocab_size = 10, .fingerprint = ""});
  EXPECT_TRUE(absl::IsInvalidArgument(unknown.status()));
  EXPECT_NE(unknown.status().message().find("oracle"), std::string::npos);
}

TEST(DrafterFactoryTest, EveryNameThatIsKnownMakesTheDrafterOfThatName) {
  for (const std::string_view name : DrafterNames()) {
    SpeculationOptions options;
    options.drafters = {std::string(name)};
    const auto drafters = MakeDrafters(options, {.vocab_size = 100, .fingerprint = "f"});
    if (!drafters.ok()) {
      // One that needs a file says so.
      EXPECT_TRUE(absl::IsInvalidArgument(drafters.status())) << drafters.status();
      continue;
    }
    ASSERT_EQ(drafters->size(), 1u);
    EXPECT_EQ((*drafters)[0]->name(), name);
  }
}

}  // namespace
}  // namespace octogate::workers
