// The replaced functions against SQLite's own, on texts that have what matters to them.
#include "gateway/sql/sqlite_functions.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace octogate::gateway {
namespace {

class Connection {
 public:
  explicit Connection(bool replaced) {
    EXPECT_EQ(sqlite3_open(":memory:", &database_), SQLITE_OK);
    sqlite3_limit(database_, SQLITE_LIMIT_LENGTH, 2000);
    if (replaced) {
      EXPECT_TRUE(ReplaceQuadraticFunctions(database_).ok());
    }
  }
  ~Connection() { sqlite3_close(database_); }

  // The value with its type, or the error.
  std::string Value(const std::string& expression) {
    sqlite3_stmt* statement = nullptr;
    const std::string sql = absl::StrCat(
        "SELECT typeof(x) || ' ' || coalesce(hex(x), '') FROM (SELECT ", expression, " AS x)");
    if (sqlite3_prepare_v2(database_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
      return sqlite3_errmsg(database_);
    }
    std::string value;
    if (sqlite3_step(statement) == SQLITE_ROW) {
      value = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
    } else {
      value = sqlite3_errmsg(database_);
    }
    sqlite3_finalize(statement);
    return value;
  }

 private:
  sqlite3* database_ = nullptr;
};

TEST(SqliteFunctionsTest, AgreeWithSqlitesOwn) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  Connection own(false);
  Connection replaced(true);
  const std::vector<std::string> pieces = {"a", "b", "ab", "é", "ü", "€", "😀", " ", "%"};
  const std::vector<std::string> others = {"NULL",
                                           "''",
                                           "0",
                                           "12",
                                           "1.5",
                                           "x''",
                                           "x'6162'",
                                           "x'80'",
                                           "CAST(x'8061' AS TEXT)",
                                           "CAST(x'00' AS TEXT)",
                                           "CAST(x'610061' AS TEXT)",
                                           "CAST(x'c3' AS TEXT)"};
  const auto value = [&]() -> std::string {
    if (below(4) == 0) return others[below(others.size())];
    std::string text = "'";
    for (size_t n = below(8); n > 0; --n) text += pieces[below(pieces.size())];
    return text + "'";
  };
  int found = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string expression;
    switch (below(5)) {
      case 0:
        expression = absl::StrCat("instr(", value(), ", ", value(), ")");
        break;
      case 1:
        expression = absl::StrCat("replace(", value(), ", ", value(), ", ", value(), ")");
        break;
      default:
        expression = absl::StrCat(std::vector<std::string>{"trim", "ltrim", "rtrim"}[below(3)], "(",
                                  value(), ", ", value(), ")");
    }
    const std::string got = replaced.Value(expression);
    if (got.find("not valid UTF-8") != std::string::npos) continue;  // as documented
    ASSERT_EQ(got, own.Value(expression)) << expression;
    ++found;
  }
  EXPECT_GT(found, 10'000);
}

TEST(SqliteFunctionsTest, LikeAndGlobMatchAsSqlitesOwn) {
  Connection own(false);
  Connection replaced(true);
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::vector<std::string> pieces = {"a", "B", "b", "%", "_", "*", "?",  "[",
                                           "]", "^", "-", "!", "é", "É", "''", "x"};
  const auto text = [&] {
    if (random() % 16 == 0) return std::string(random() % 2 == 0 ? "NULL" : "12.5");
    std::string result = "'";
    for (size_t n = random() % 7; n > 0; --n) result += pieces[random() % pieces.size()];
    return result + "'";
  };
  for (int i = 0; i < 20'000; ++i) {
    std::string expression = absl::StrCat(text(), random() % 2 == 0 ? " LIKE " : " GLOB ", text());
    if (random() % 3 == 0) {
      const std::string escapes[] = {"'!'", "'x'", "NULL", "'ab'", "''"};
      expression = absl::StrCat(text(), " LIKE ", text(), " ESCAPE ", escapes[random() % 5]);
    }
    const std::string wanted = own.Value(expression);
    const std::string got = replaced.Value(expression);
    if (wanted.find("ESCAPE") != std::string::npos) {
      EXPECT_NE(got.find("ESCAPE"), std::string::npos) << expression;
    } else {
      ASSERT_EQ(got, wanted) << expression;
    }
  }
  EXPECT_NE(replaced.Value("'a' LIKE '%' ESCAPE '%'").find("other than %"), std::string::npos);
}

TEST(SqliteFunctionsTest, KeepTheLimitOnLengths) {
  Connection own(false);
  Connection replaced(true);
  const std::string expression = "replace(printf('%.*c', 1000, 'x'), 'x', 'yyy')";
  EXPECT_EQ(replaced.Value(expression), own.Value(expression));
  EXPECT_NE(replaced.Value(expression).find("too big"), std::string::npos);
}

}  // namespace
}  // namespace octogate::gateway
