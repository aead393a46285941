#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "gateway/tools/tool.h"
#include "tests/gateway/tools/reference.h"

// The tools against Python's fractions, decimal, datetime and zoneinfo.

namespace octogate::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kCases = 5000;

void Compare(const std::string& name, const std::string& script) {
  const uint64_t seed = TestSeed();
  const auto cases = ReferenceCases(script, seed, kCases);
  if (cases.empty()) {
    GTEST_SKIP() << "NOT COMPARED: needs python3 and OCTOGATE_TOOLS_REFERENCE, the folder of "
                 << script << " (ctest sets it)";
  }
  ASSERT_EQ(cases.size(), kCases);
  const auto tool = MakeTool(name, {});
  ASSERT_TRUE(tool.ok()) << tool.status();
  ToolContext context;
  context.now = [] { return absl::FromUnixSeconds(1'800'000'000); };  // As in the scripts.
  for (const ReferenceCase& c : cases) {
    SCOPED_TRACE("OCTOGATE_TEST_SEED=" + std::to_string(seed) + " " + c.request);
    const auto answer = (*tool)->Run(c.request, context);
    if (c.check == "code") {
      EXPECT_EQ(absl::StatusCodeToString(answer.status().code()), c.expected) << answer.status();
      continue;
    }
    ASSERT_TRUE(answer.ok()) << answer.status() << "\nexpected: " << c.expected;
    if (c.check == "equal") {
      EXPECT_EQ(*answer, c.expected);
    } else if (c.check == "prefix") {
      EXPECT_THAT(*answer, StartsWith(c.expected));
    } else if (c.check == "contains") {
      EXPECT_THAT(*answer, HasSubstr(c.expected));
    } else {
      FAIL() << "unknown check " << c.check;
    }
  }
}

TEST(CalculatorDifferentialTest, AgreesWithPython) {
  Compare("calculator", "calculator_reference.py");
}

TEST(ClockDifferentialTest, AgreesWithPython) { Compare("clock", "clock_reference.py"); }

}  // namespace
}  // namespace octogate::gateway
