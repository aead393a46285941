// What statements give, told without the gateway: by SQLite alone, with no authorizer and no limits
// but those on rows and time, for comparing with what the gateway answered.
#ifndef OCTOGATE_TESTS_BENCH_SQL_ROWS_H_
#define OCTOGATE_TESTS_BENCH_SQL_ROWS_H_

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

struct sqlite3;

namespace octogate::bench {

// Values as the gateway's JSON has them: null, numbers, texts, {"blob_bytes": n}.
using SqlRows = std::vector<std::vector<nlohmann::json>>;

// Tables and their columns, as the database spells them.
using SqlSchema = std::map<std::string, std::vector<std::string>>;

// One connection. Text in double quotes is a name, as for the gateway. Not thread-safe.
class ReferenceDatabase {
 public:
  static absl::StatusOr<std::unique_ptr<ReferenceDatabase>> Open(const std::filesystem::path& file);
  ~ReferenceDatabase();

  // INVALID_ARGUMENT with SQLite's message for what it does not run; RESOURCE_EXHAUSTED for more
  // than 100,000 rows or ten seconds.
  absl::StatusOr<SqlRows> Run(std::string_view statement) const;
  absl::StatusOr<SqlSchema> Schema() const;

 private:
  explicit ReferenceDatabase(sqlite3* database) : database_(database) {}
  sqlite3* const database_;
};

// Runs statements of a script on a file, which is made where it is not there.
absl::Status ExecuteSql(const std::filesystem::path& file, const std::string& script);

// The rows of a `sql` node's answer in JSON. INVALID_ARGUMENT for anything else;
// RESOURCE_EXHAUSTED where rows were left out.
absl::StatusOr<SqlRows> ParseRows(std::string_view json);

// Whether both have equal rows equally often; `ordered`: in the same order, too. Columns count by
// place, not by name. Numbers are equal by value, whole or not, to nine digits; text is equal byte
// by byte, and never equal to a number.
bool SameRows(const SqlRows& left, const SqlRows& right, bool ordered);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SQL_ROWS_H_
