#include "gateway/sql/sql_database.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

// What holds of statements for every database: at U+0000 databases would stop reading.
absl::Status CheckStatementText(std::string_view statement) {
  if (statement.find_first_not_of(" \t\r\n\f\v;") == std::string_view::npos) {
    return absl::InvalidArgumentError("there is no statement");
  }
  if (statement.size() > kMaxSqlStatementBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the statement has ", statement.size(),
                                                   " bytes: it may have ", kMaxSqlStatementBytes));
  }
  const size_t invalid = FindInvalidUtf8(statement);
  if (invalid != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("the statement is not valid UTF-8 (at offset ", invalid, ")"));
  }
  const size_t zero = statement.find('\0');
  if (zero != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("the statement has the character U+0000 (at offset ", zero, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SqlDatabase::Check(std::string_view statement, const SqlCallOptions& options) {
  return RunInTime(statement, options, nullptr);
}

absl::StatusOr<SqlResult> SqlDatabase::Execute(std::string_view statement,
                                               const SqlCallOptions& options) {
  SqlResult result;
  OCTOGATE_RETURN_IF_ERROR(RunInTime(statement, options, &result));
  return result;
}

absl::Status SqlDatabase::RunInTime(std::string_view statement, const SqlCallOptions& options,
                                    SqlResult* result) {
  OCTOGATE_RETURN_IF_ERROR(CheckStatementText(statement));
  SqlCallOptions call = options;
  call.deadline = std::min(call.deadline, absl::Now() + max_time_);
  return Run(statement, call, result);
}

absl::StatusOr<size_t> BytesOfNames(const SqlResult& result, size_t max_bytes) {
  size_t bytes = 0;
  for (const std::string& name : result.columns) bytes += name.size();
  if (bytes <= max_bytes) return bytes;
  return absl::ResourceExhaustedError(
      absl::StrCat("the names of the columns alone take more than ", max_bytes, " bytes"));
}

}  // namespace octogate::gateway
