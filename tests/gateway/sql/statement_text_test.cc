#include "gateway/sql/statement_text.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace octogate::gateway {
namespace {

TEST(StatementTextTest, TakesTheStatementOut) {
  for (const std::string answer : {
           "SELECT a\nFROM t;",
           "  SELECT a\nFROM t;\n\n",
           "```sql\nSELECT a\nFROM t;\n```",
           "```SQL\nSELECT a\nFROM t;\n```\n",
           "```\nSELECT a\nFROM t;\n```",
           "~~~sqlite\r\nSELECT a\nFROM t;\n~~~",
           "Here is the query:\n\n```sql\nSELECT a\nFROM t;\n```\n\nIt reads `a` from ```t```.",
           "  ```sql\n  SELECT a\nFROM t;\n  ```",
           "````sql\nSELECT a\nFROM t;\n````",
           "```sql\nSELECT a\nFROM t;",  // cut
           "SQL: SELECT a\nFROM t;",
           "sql:\nSELECT a\nFROM t;",
           "SQLQuery: SELECT a\nFROM t;",
       }) {
    EXPECT_EQ(StatementIn(answer), "SELECT a\nFROM t;") << answer;
  }
}

TEST(StatementTextTest, LeavesWhatIsAmbiguous) {
  for (const std::string answer : {
           "```sql\nSELECT 1\n```\nor\n```sql\nSELECT 2\n```",
           "```python\nprint(1)\n```",
           "I would run SELECT 1.",
           "The SQL: SELECT 1",
           "SELECT '```' AS fence",
           "SELECT '\n``' AS x",
           "",
       }) {
    EXPECT_EQ(StatementIn(answer), answer);
  }
}

// A view into the answer, whatever it is.
TEST(StatementTextTest, RandomAnswers) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const std::vector<std::string> pieces = {"```",      "~~~",  "sql", "\n", " ",
                                           "SELECT 1", "SQL:", "`",   "é"};
  for (int i = 0; i < 5000; ++i) {
    std::string answer;
    for (size_t n = random() % 12; n > 0; --n) answer += pieces[random() % pieces.size()];
    const std::string_view statement = StatementIn(answer);
    EXPECT_TRUE(statement.empty() ||
                (statement.data() >= answer.data() &&
                 statement.data() + statement.size() <= answer.data() + answer.size()));
  }
}

}  // namespace
}  // namespace octogate::gateway
