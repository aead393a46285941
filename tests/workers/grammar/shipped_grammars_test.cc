// The grammars that come with the product describe what SQLite and a JSON library read.
//
// Gold queries of Spider and BIRD are read from OCTOGATE_TEST_DATA; without it that test is
// skipped.
#include <sqlite3.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/workers/engine/fresh_seed.h"
#include "workers/grammar/compiled_grammar.h"
#include "workers/grammar/parse_states.h"
#include "workers/grammar/rule_network.h"
#include "workers/grammar/sql_grammar.h"

namespace octogate::workers {
namespace {

constexpr size_t kStateBytes = size_t{64} << 20;

RuleNetwork NetworkOf(const absl::StatusOr<Grammar>& grammar) {
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  auto network = BuildRuleNetwork(*grammar);
  EXPECT_TRUE(network.ok()) << network.status();
  EXPECT_TRUE(network->unreachable.empty()) << network->unreachable[0];
  return *std::move(network);
}

// How much of `text` the grammar allows; all of it and complete: one more than its size.
size_t Read(ParseStates& states, std::string_view text) {
  states.BeginWork(UINT64_MAX, {});
  StateId state = states.start();
  for (size_t i = 0; i < text.size(); ++i) {
    state = states.Next(state, static_cast<uint8_t>(text[i]));
    EXPECT_NE(state, ParseStates::kFailed) << states.status();
    if (state == ParseStates::kDead || state == ParseStates::kFailed) return i;
  }
  return text.size() + (states.Complete(state) ? 1 : 0);
}
bool Accepts(ParseStates& states, std::string_view text) {
  return Read(states, text) == text.size() + 1;
}

// Some bytes that the grammar allows one after another, then the shortest end. Blanks and the
// insides of long words are left soon, so that the text has structure.
std::string RandomText(ParseStates& states, std::mt19937& random, int steps) {
  states.BeginWork(UINT64_MAX, {});
  StateId state = states.start();
  std::string text;
  for (; steps > 0; --steps) {
    std::vector<std::pair<uint8_t, StateId>> ways;
    for (int byte = 0; byte < 256; ++byte) {
      const StateId next = states.Next(state, static_cast<uint8_t>(byte));
      if (next == ParseStates::kDead || next == ParseStates::kFailed) continue;
      const bool same = next == state;
      if (same && random() % 4 != 0) continue;
      ways.emplace_back(static_cast<uint8_t>(byte), next);
    }
    if (ways.empty()) break;
    const auto& [byte, next] = ways[random() % ways.size()];
    text.push_back(static_cast<char>(byte));
    state = next;
  }
  return text + states.ShortestCompletion(state).value();
}

TEST(JsonGrammar, GeneratesWhatALibraryReads) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const RuleNetwork network = NetworkOf(JsonGrammar());
  ParseStates states(&network, kStateBytes);
  int accepted = 0;
  int refused = 0;
  // Whether the library reads a text; unknown where a number is out of its range.
  const auto reads = [](const std::string& text) -> std::optional<bool> {
    try {
      [[maybe_unused]] const auto value = nlohmann::json::parse(text);
      return true;
    } catch (const nlohmann::json::out_of_range&) {
      return std::nullopt;
    } catch (const nlohmann::json::exception&) {
      return false;
    }
  };
  const std::string letters = "{}[]\",:\\0123456789-+.eEtrufalsn \n/bDd8Cc\x01\x7f\xc3\xa9\xed\xa0";
  for (int round = 0; round < 2000; ++round) {
    std::string text = RandomText(states, random, static_cast<int>(random() % 60));
    ASSERT_TRUE(reads(text).value_or(true)) << text;
    ASSERT_TRUE(Accepts(states, text)) << text;
    // What is nearly JSON is read by both or by neither.
    for (int change = 0; change < 10; ++change) {
      std::string other = text;
      const size_t at = random() % (other.size() + 1);
      const char letter = letters[random() % letters.size()];
      if (at < other.size() && random() % 2 == 0) {
        if (random() % 2 == 0) {
          other.erase(at, 1);
        } else {
          other[at] = letter;
        }
      } else {
        other.insert(at, 1, letter);
      }
      const std::optional<bool> expected = reads(other);
      if (!expected.has_value()) continue;
      ASSERT_EQ(Accepts(states, other), *expected) << other;
      (*expected ? accepted : refused) += 1;
    }
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
}

// What SQLite says of the form of a statement; empty where it is well-formed.
std::string SyntaxError(sqlite3* database, const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  const int code =
      sqlite3_prepare_v2(database, sql.c_str(), static_cast<int>(sql.size()), &statement, nullptr);
  std::string message = code == SQLITE_OK ? "" : sqlite3_errmsg(database);
  sqlite3_finalize(statement);
  for (const char* sign : {"syntax error", "incomplete input", "unrecognized token"}) {
    if (message.find(sign) != std::string::npos) return message;
  }
  return "";
}

TEST(SqliteGrammar, GeneratesStatementsThatSqliteParses) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(":memory:", &database), SQLITE_OK);
  ASSERT_EQ(
      sqlite3_exec(
          database,
          "CREATE TABLE singer (id INTEGER, \"first name\" TEXT, \"order\" INTEGER, user, key);"
          "CREATE TABLE \"group\" (id INTEGER, title TEXT)",
          nullptr, nullptr, nullptr),
      SQLITE_OK);
  int failures = 0;
  int prepared = 0;
  for (const bool double_quoted : {false, true}) {
    const RuleNetwork network =
        NetworkOf(SqlGrammar({.tables = {"singer", "group"},
                              .columns = {"id", "first name", "order", "title", "user", "key"},
                              .names = {"total"},
                              .double_quoted_strings = double_quoted}));
    ParseStates states(&network, kStateBytes);
    for (int round = 0; round < 3000; ++round) {
      const std::string sql = RandomText(states, random, static_cast<int>(random() % 250));
      ASSERT_TRUE(Accepts(states, sql)) << sql;
      const std::string error = SyntaxError(database, sql);
      EXPECT_EQ(error, "") << sql;
      if (!error.empty() && ++failures > 10) break;
      ++prepared;
    }
  }
  sqlite3_close(database);
  EXPECT_GT(prepared, 1000);
}

TEST(SqlGrammar, NamesOnlyWhatItIsGiven) {
  for (const SqlDialect dialect : {SqlDialect::kSqlite, SqlDialect::kPostgresql}) {
    const RuleNetwork network = NetworkOf(SqlGrammar({.dialect = dialect,
                                                      .tables = {"singer", "Group Of"},
                                                      .columns = {"name", "age", "order"},
                                                      .names = {"oldest"}}));
    ParseStates states(&network, kStateBytes);
    for (const char* sql :
         {"SELECT name FROM singer", "select NAME, Age from Singer where age>3 and name = 'it''s'",
          "SELECT T1.name FROM \"Group Of\" AS T1 JOIN singer s ON T1.age = s.age ORDER BY 1 DESC "
          "LIMIT 3;",
          "SELECT \"order\" FROM singer", "SELECT max(age) AS oldest FROM singer ORDER BY oldest",
          "WITH a AS (SELECT age FROM singer) SELECT count(*) FROM a",
          "SELECT CASE WHEN age > 3 THEN 'x' ELSE NULL END FROM singer GROUP BY name HAVING "
          "count(*) > 1",
          "SELECT name FROM singer UNION ALL SELECT name FROM singer WHERE age IN (1, 2)",
          "SELECT rank() OVER (PARTITION BY name ORDER BY age) FROM singer",
          "SELECT name FROM singer WHERE age = (SELECT max(age) FROM singer) AND NOT EXISTS "
          "(SELECT 1)"}) {
      EXPECT_TRUE(Accepts(states, sql)) << sql << " up to " << Read(states, sql);
    }
    for (const char* sql :
         {"SELECT password FROM singer", "SELECT name FROM users", "SELECT order FROM singer",
          "SELECT name FROM singer WHERE secret = 1", "SELECT users.name FROM singer",
          "SELECT max(age) AS eldest FROM singer ORDER BY eldest", "DROP TABLE singer",
          "SELECT name FROM singer; DELETE FROM singer", "SELECT name singer FROM",
          "SELECT name AS from FROM singer", "PRAGMA table_info(singer)",
          "SELECT load_extension('x')", "SELECT name FROM singer -- and"}) {
      EXPECT_FALSE(Accepts(states, sql)) << sql;
    }
  }
}

TEST(SqlGrammar, InitialsOfATablesWordsAreAliases) {
  for (const SqlDialect dialect : {SqlDialect::kSqlite, SqlDialect::kPostgresql}) {
    const RuleNetwork network = NetworkOf(SqlGrammar({
        .dialect = dialect,
        .tables = {"PlaylistTrack", "order_items", "Group By Day", "internal_notes", "singer",
                   "a_b_c_d_e"},
        .columns = {"name"},
    }));
    ParseStates states(&network, kStateBytes);
    for (const char* sql :
         {"SELECT pt.name FROM \"PlaylistTrack\" pt", "SELECT oi.name FROM order_items AS oi",
          "SELECT OI.name FROM order_items OI", "SELECT gbd.name FROM \"Group By Day\" gbd"}) {
      EXPECT_TRUE(Accepts(states, sql)) << sql << " up to " << Read(states, sql);
    }
    for (const char* sql :
         {"SELECT tp.name FROM \"PlaylistTrack\" tp", "SELECT si.name FROM singer si",
          "SELECT in.name FROM internal_notes AS in", "SELECT abcde.name FROM a_b_c_d_e abcde",
          "SELECT password FROM \"PlaylistTrack\" pt"}) {
      EXPECT_FALSE(Accepts(states, sql)) << sql;
    }
  }
}

TEST(SqlGrammar, WithoutTablesOnlyConstantsAreLeft) {
  const absl::StatusOr<Grammar> grammar = SqlGrammar({});
  ASSERT_TRUE(grammar.ok());
  const auto network = BuildRuleNetwork(*grammar);
  ASSERT_TRUE(network.ok());
  ParseStates states(&*network, kStateBytes);
  EXPECT_TRUE(Accepts(states, "SELECT 1 + 2"));
  EXPECT_FALSE(Accepts(states, "SELECT 1 FROM singer"));
  EXPECT_EQ(SqlGrammar({.tables = {""}}).status().code(), absl::StatusCode::kInvalidArgument);
}

struct GoldQuery {
  std::string database;
  std::string sql;
};

std::filesystem::path TestData() {
  const char* folder = std::getenv("OCTOGATE_TEST_DATA");
  return folder == nullptr ? std::filesystem::path() : std::filesystem::path(folder) / "text2sql";
}

nlohmann::json ReadJson(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
}

// Names that a query gives itself: the words before and after each AS.
std::vector<std::string> OwnNames(const std::string& sql) {
  std::vector<std::string> words;
  bool in_word = false;
  for (const char c : sql) {
    const bool is_part = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
    if (is_part && !in_word) words.emplace_back();
    if (is_part) words.back() += c;
    in_word = is_part;
  }
  std::vector<std::string> names;
  for (size_t i = 1; i + 1 < words.size(); ++i) {
    if (!absl::EqualsIgnoreCase(words[i], "as")) continue;
    for (const std::string& name : {words[i - 1], words[i + 1]}) {
      if (!absl::ascii_isdigit(static_cast<unsigned char>(name[0]))) names.push_back(name);
    }
  }
  return names;
}

// Reports how many of the queries the grammar reads as it is by default, with the aliases of each
// query given, and with strings in double quotes too. Returns the last share.
double ReportShare(const char* set, const std::vector<GoldQuery>& queries,
                   const nlohmann::json& schemas, SqlDialect dialect) {
  std::map<std::string, SqlGrammarOptions> options;
  for (const nlohmann::json& schema : schemas) {
    SqlGrammarOptions& own = options[schema["db_id"].get<std::string>()];
    own.dialect = dialect;
    own.tables = schema["table_names_original"].get<std::vector<std::string>>();
    for (const nlohmann::json& column : schema["column_names_original"]) {
      if (column[0].get<int>() >= 0) own.columns.push_back(column[1].get<std::string>());
    }
    if (dialect ==
        SqlDialect::kPostgresql) {  // created without quotation marks, as far as possible
      for (std::vector<std::string>* names : {&own.tables, &own.columns}) {
        for (size_t i = names->size(); i-- > 0;) {
          std::string name = (*names)[i];
          std::transform(name.begin(), name.end(), name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
          names->push_back(name);
        }
      }
    }
  }
  struct Parser {
    RuleNetwork network;
    std::unique_ptr<ParseStates> states;
  };
  std::map<std::string, Parser> parsers;  // by what they depend on
  int counts[3] = {};
  int shown = 0;
  for (const GoldQuery& query : queries) {
    for (int mode = 0; mode < 3; ++mode) {
      SqlGrammarOptions own = options[query.database];
      if (mode > 0) own.names = OwnNames(query.sql);
      own.double_quoted_strings = mode == 2 && dialect == SqlDialect::kSqlite;
      std::string key = query.database + (own.double_quoted_strings ? " \"" : "");
      for (const std::string& name : own.names) key += " " + name;
      Parser& parser = parsers[key];
      if (parser.states == nullptr) {
        const auto grammar = SqlGrammar(own);
        EXPECT_TRUE(grammar.ok()) << grammar.status();
        auto network = BuildRuleNetwork(*grammar);
        EXPECT_TRUE(network.ok()) << network.status();
        parser.network = *std::move(network);
        parser.states = std::make_unique<ParseStates>(&parser.network, kStateBytes);
      }
      const size_t read = Read(*parser.states, query.sql);
      if (read == query.sql.size() + 1) {
        for (; mode < 3; ++mode) ++counts[mode];
      } else if (mode == 2 && ++shown <= 40 && std::getenv("OCTOGATE_SHOW_REFUSED") != nullptr) {
        std::cout << query.sql.substr(0, read) << " <<HERE>> "
                  << (read < query.sql.size() ? query.sql.substr(read) : "") << "\n";
      }
    }
  }
  std::cout << set << ": " << queries.size() << " gold queries; accepted " << counts[0]
            << " as is, " << counts[1] << " with their aliases given, " << counts[2]
            << " with strings in double quotes too\n";
  return static_cast<double>(counts[2]) / static_cast<double>(queries.size());
}

// Byte by byte, each after a mask, with as little memory as a worker gives a grammar and with
// nothing computed before it is needed.
TEST(SqlGrammar, GoldQueriesReachNoLimit) {
  const std::filesystem::path data = TestData();
  if (data.empty()) GTEST_SKIP() << "OCTOGATE_TEST_DATA names no folder with text2sql/";
  TokenVocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary.bytes.emplace_back(1, static_cast<char>(byte));
  auto trie = TokenTrie::Create(std::move(vocabulary));
  ASSERT_TRUE(trie.ok()) << trie.status();
  const auto shared_trie = std::make_shared<const TokenTrie>(*std::move(trie));
  const CompileOptions limits = {.max_state_bytes = size_t{8} << 20,
                                 .max_mask_bytes = size_t{16} << 20};
  const nlohmann::json schemas = ReadJson(data / "bird-schemas/dev_tables.json");
  std::map<std::string, std::shared_ptr<const CompiledGrammar>> grammars;
  for (const nlohmann::json& schema : schemas) {
    SqlGrammarOptions options;
    options.tables = schema["table_names_original"].get<std::vector<std::string>>();
    for (const nlohmann::json& column : schema["column_names_original"]) {
      if (column[0].get<int>() >= 0) options.columns.push_back(column[1].get<std::string>());
    }
    const auto grammar = SqlGrammar(options);
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    auto compiled = CompiledGrammar::Compile(*grammar, shared_trie, limits);
    ASSERT_TRUE(compiled.ok()) << compiled.status();
    grammars[schema["db_id"].get<std::string>()] = *std::move(compiled);
  }
  int whole = 0;
  int queries = 0;
  for (const nlohmann::json& entry : ReadJson(data / "bird-mini-dev/mini_dev_sqlite.json")) {
    const auto grammar = grammars.find(entry["db_id"].get<std::string>());
    ASSERT_NE(grammar, grammars.end());
    GrammarMatcher matcher(grammar->second);
    std::vector<uint64_t> mask(matcher.mask_words());
    absl::Status status;
    for (const char c : entry["SQL"].get<std::string>()) {
      status = matcher.FillMask(mask);
      ASSERT_TRUE(status.ok()) << status << " in " << entry["SQL"];
      const auto byte = static_cast<uint8_t>(c);
      status = matcher.AcceptByte(byte);
      ASSERT_EQ(status.ok(), (mask[byte / 64] >> (byte % 64) & 1) != 0) << status;
      if (!status.ok()) break;  // not of the grammar
    }
    ++queries;
    if (status.ok()) ++whole;
  }
  EXPECT_GT(whole, queries * 8 / 10);
}

TEST(SqlGrammar, ReadsGoldQueries) {
  const std::filesystem::path data = TestData();
  if (data.empty()) GTEST_SKIP() << "OCTOGATE_TEST_DATA names no folder with text2sql/";
  std::vector<GoldQuery> spider;
  for (const nlohmann::json& entry : ReadJson(data / "spider/dev.json")) {
    spider.push_back({entry["db_id"], entry["query"]});
  }
  ASSERT_FALSE(spider.empty());
  EXPECT_GT(
      ReportShare("Spider dev", spider, ReadJson(data / "spider/tables.json"), SqlDialect::kSqlite),
      0.9);
  const nlohmann::json schemas = ReadJson(data / "bird-schemas/dev_tables.json");
  for (const auto& [file, dialect] :
       {std::pair("mini_dev_sqlite.json", SqlDialect::kSqlite),
        std::pair("mini_dev_postgresql.json", SqlDialect::kPostgresql)}) {
    std::vector<GoldQuery> bird;
    for (const nlohmann::json& entry : ReadJson(data / "bird-mini-dev" / file)) {
      bird.push_back({entry["db_id"], entry["SQL"]});
    }
    ASSERT_FALSE(bird.empty());
    EXPECT_GT(ReportShare(file, bird, schemas, dialect), 0.8);
  }
}

}  // namespace
}  // namespace octogate::workers
