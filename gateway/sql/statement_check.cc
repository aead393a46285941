#include "gateway/sql/statement_check.h"

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "gateway/sql/sql_database.h"

namespace octogate::gateway {

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

}  // namespace octogate::gateway
