#include "gateway/sql/postgresql_connection.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "common/utf8.h"

namespace octogate::gateway {
namespace {

constexpr absl::Duration kCancellationPoll = absl::Milliseconds(20);
constexpr size_t kMaxMessageBytes = 500;
constexpr size_t kRowsPerFetch = 200;

// pg_type.h's, which never change.
constexpr Oid kBytea = 17;
constexpr Oid kInt8 = 20;
constexpr Oid kInt2 = 21;
constexpr Oid kInt4 = 23;
constexpr Oid kFloat4 = 700;
constexpr Oid kFloat8 = 701;
constexpr Oid kNumeric = 1700;

constexpr std::string_view kTrimmed = " \t\r\n\f\v;";

SqlValue ValueOf(Oid type, std::string_view text) {
  switch (type) {
    case kInt2:
    case kInt4:
    case kInt8: {
      int64_t value = 0;
      if (absl::SimpleAtoi(ToAbsl(text), &value)) return value;
      break;
    }
    case kNumeric: {
      const auto digits =
          std::count_if(text.begin(), text.end(), [](char c) { return absl::ascii_isdigit(c); });
      if (digits == 0 || digits > 15) break;
      [[fallthrough]];
    }
    case kFloat4:
    case kFloat8: {
      double value = 0;
      if (absl::SimpleAtod(ToAbsl(text), &value)) return value;
      break;
    }
    case kBytea: {
      uint64_t bytes = 0;
      if (absl::SimpleAtoi(ToAbsl(text), &bytes)) return SqlBlob{bytes};
      break;
    }
  }
  return SanitizeUtf8(text, text.size());
}

// The byte offset of the character that PostgreSQL counts from 1.
size_t ByteOffset(std::string_view text, size_t character) {
  size_t offset = 0;
  for (; offset < text.size(); ++offset) {
    if ((static_cast<unsigned char>(text[offset]) & 0xc0) != 0x80 && character-- == 1) break;
  }
  return offset;
}

absl::StatusCode CodeOf(std::string_view state) {
  if (state == "42501" || state == "25006") return absl::StatusCode::kPermissionDenied;
  if (state == "57014") return absl::StatusCode::kDeadlineExceeded;
  if (state == "3D000") return absl::StatusCode::kNotFound;
  if (state == "XX001" || state == "XX002") return absl::StatusCode::kDataLoss;
  if (state == "08P01") return absl::StatusCode::kInvalidArgument;  // a parameter without a value
  const std::string_view group = state.substr(0, 2);
  if (group == "53" || group == "54") return absl::StatusCode::kResourceExhausted;
  if (group == "28") return absl::StatusCode::kFailedPrecondition;
  if (group == "08" || group == "57" || group == "40" || group == "55" || group == "58") {
    return absl::StatusCode::kUnavailable;
  }
  if (group == "XX") return absl::StatusCode::kInternal;
  return absl::StatusCode::kInvalidArgument;
}

// The statement's columns c1, c2, … as text, after a first column that says whether the row is too
// long; then the others are NULL.
std::string BoundedQuery(std::string_view statement, const std::vector<Oid>& types,
                         size_t max_bytes) {
  std::string names;
  std::string lengths = "0";
  std::string columns;
  for (size_t i = 0; i < types.size(); ++i) {
    const std::string name = absl::StrCat("c", i + 1);
    absl::StrAppend(&names, i == 0 ? "" : ", ", name);
    const std::string value = types[i] == kBytea
                                  ? absl::StrCat("pg_catalog.octet_length(q.", name, ")")
                                  : absl::StrCat("q.", name, "::pg_catalog.text");
    if (types[i] != kBytea) {
      absl::StrAppend(&lengths, " + coalesce(pg_catalog.octet_length(", value,
                      "), 0)::pg_catalog.int8");
    }
    absl::StrAppend(&columns, ", CASE WHEN f.x THEN NULL ELSE ", value, " END");
  }
  // An empty list of names is an error; a query without columns has rows all the same.
  if (!names.empty()) names = absl::StrCat("(", names, ")");
  return absl::StrCat("SELECT f.x", columns, " FROM (", ToAbsl(statement), "\n) AS q", names,
                      " CROSS JOIN LATERAL (SELECT (", lengths, ") > ", max_bytes,
                      " AS x OFFSET 0) AS f");
}

}  // namespace

absl::StatusOr<std::unique_ptr<PostgresqlConnection>> PostgresqlConnection::Open(
    const PostgresqlParameters& parameters, const SqlCallOptions& call) {
  auto connection = std::unique_ptr<PostgresqlConnection>(new PostgresqlConnection(parameters));
  OCTOGATE_RETURN_IF_ERROR(connection->Connect(parameters, call));
  OCTOGATE_RETURN_IF_ERROR(connection->CheckRole(call));
  return connection;
}

absl::Status PostgresqlConnection::Connect(const PostgresqlParameters& parameters,
                                           const SqlCallOptions& call) {
  std::vector<const char*> keywords;
  std::vector<const char*> values;
  for (const auto& [keyword, value] : parameters.values) {
    keywords.push_back(keyword.c_str());
    values.push_back(value.c_str());
  }
  keywords.push_back(nullptr);
  values.push_back(nullptr);
  connection_.reset(PQconnectStartParams(keywords.data(), values.data(), 0));
  if (connection_ == nullptr) return absl::ResourceExhaustedError("no memory for a connection");
  PostgresPollingStatusType state = PGRES_POLLING_WRITING;
  while (PQstatus(connection_.get()) != CONNECTION_BAD && state != PGRES_POLLING_OK &&
         state != PGRES_POLLING_FAILED) {
    OCTOGATE_RETURN_IF_ERROR(Wait(state == PGRES_POLLING_WRITING, call));
    state = PQconnectPoll(connection_.get());
  }
  if (PQstatus(connection_.get()) == CONNECTION_OK) {
    PQsetnonblocking(connection_.get(), 1);
    // Notices go to nobody.
    PQsetNoticeReceiver(
        connection_.get(), [](void*, const PGresult*) {}, nullptr);
    return absl::OkStatus();
  }
  const std::string message = Scrub(PQerrorMessage(connection_.get()));
  const bool no_database =
      absl::StrContains(message, "does not exist") && absl::StrContains(message, "database");
  return no_database ? absl::NotFoundError(message)
                     : WithRetryAfter(absl::UnavailableError(absl::StrCat(
                                          "the PostgreSQL server cannot be reached: ", message)),
                                      absl::Seconds(1));
}

absl::Status PostgresqlConnection::CheckRole(const SqlCallOptions& call) {
  OCTOGATE_ASSIGN_OR_RETURN(
      const Result found,
      Query("SELECT session_user, pg_catalog.string_agg(rolname::pg_catalog.text, ', ') FROM "
            "pg_catalog.pg_roles WHERE (rolsuper OR rolname IN ('pg_read_server_files', "
            "'pg_write_server_files', 'pg_execute_server_program')) AND "
            "pg_catalog.pg_has_role(session_user, oid, 'MEMBER')",
            call));
  if (PQntuples(found.get()) != 1 || PQnfields(found.get()) != 2)
    return absl::InternalError("PostgreSQL does not tell its roles");
  if (PQgetisnull(found.get(), 0, 1) != 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the PostgreSQL role ", PQgetvalue(found.get(), 0, 0), " is or can become ",
      PQgetvalue(found.get(), 0, 1),
      ", with which a SELECT reads files and runs programs: create a role for this gateway (CREATE "
      "ROLE … LOGIN) and GRANT it SELECT on what it may read"));
}

absl::Status PostgresqlConnection::Run(std::string_view statement, const SqlCallOptions& call,
                                       SqlResult* result) {
  absl::Status status = RunInTransaction(statement, call, result);
  if (!reusable_) return status;
  // The statement's own time is over: these few milliseconds are not counted.
  SqlCallOptions rest;
  rest.deadline = absl::Now() + absl::Seconds(2);
  if (!Query("ROLLBACK", rest).ok() || !Query("DISCARD ALL", rest).ok()) reusable_ = false;
  return status;
}

absl::Status PostgresqlConnection::RunInTransaction(std::string_view statement,
                                                    const SqlCallOptions& call, SqlResult* result) {
  const absl::Duration left = call.deadline - absl::Now();
  if (left <= absl::ZeroDuration()) return absl::DeadlineExceededError("no time is left");
  const int64_t milliseconds =
      std::clamp<int64_t>(absl::ToInt64Milliseconds(left), 1, int64_t{24} * 3600 * 1000);
  OCTOGATE_RETURN_IF_ERROR(Query("BEGIN TRANSACTION READ ONLY", call).status());
  OCTOGATE_RETURN_IF_ERROR(
      Query(absl::StrCat("SET LOCAL statement_timeout = ", milliseconds), call).status());
  if (PQserverVersion(connection_.get()) >= 140000) {
    OCTOGATE_RETURN_IF_ERROR(
        Query("SET LOCAL client_connection_check_interval = '1s'", call).status());
  }
  // The names and types of the columns, and what is wrong with the statement as it was written.
  constexpr std::string_view kDeclare = "DECLARE octogate_given NO SCROLL CURSOR FOR ";
  const std::string given = absl::StrCat(ToAbsl(kDeclare), ToAbsl(statement));
  OCTOGATE_RETURN_IF_ERROR(Query(given, call, kDeclare).status());
  if (PQsendDescribePortal(connection_.get(), "octogate_given") == 0) {
    return Stop(absl::UnavailableError(Scrub(PQerrorMessage(connection_.get()))));
  }
  OCTOGATE_ASSIGN_OR_RETURN(const Result described, Query("", call));
  SqlResult columns;
  std::vector<Oid> types;
  for (int i = 0; i < PQnfields(described.get()); ++i) {
    const char* name = PQfname(described.get(), i);
    columns.columns.push_back(SanitizeUtf8(name, std::strlen(name)));
    types.push_back(PQftype(described.get(), i));
  }
  OCTOGATE_RETURN_IF_ERROR(BytesOfNames(columns, call.max_bytes).status());
  OCTOGATE_RETURN_IF_ERROR(Query("CLOSE octogate_given", call).status());
  const size_t last = statement.find_last_not_of(kTrimmed);
  const std::string bounded =
      absl::StrCat("DECLARE octogate_rows NO SCROLL CURSOR FOR ",
                   BoundedQuery(statement.substr(0, last == std::string_view::npos ? 0 : last + 1),
                                types, call.max_bytes));
  // Without a prefix: positions in this text mean nothing to the caller.
  const absl::Status status = Query(bounded, call).status();
  if (absl::IsInvalidArgument(status)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the statement cannot be part of a larger one (leave out what follows its semicolon): ",
        status.message()));
  }
  OCTOGATE_RETURN_IF_ERROR(status);
  if (result == nullptr) return absl::OkStatus();
  *result = std::move(columns);
  return ReadRows(call, types, result);
}

absl::Status PostgresqlConnection::ReadRows(const SqlCallOptions& call,
                                            const std::vector<Oid>& types, SqlResult* result) {
  OCTOGATE_ASSIGN_OR_RETURN(size_t bytes, BytesOfNames(*result, call.max_bytes));
  // A batch holds at most one byte limit beyond what is still wanted, per row of it; rows are
  // fetched one by one once they are long.
  size_t batch = 1;
  while (true) {
    const size_t wanted = std::min(batch, call.max_rows - result->rows.size() + 1);
    OCTOGATE_ASSIGN_OR_RETURN(
        const Result rows,
        Query(absl::StrCat("FETCH FORWARD ", wanted, " FROM octogate_rows"), call));
    const int count = PQntuples(rows.get());
    if (PQnfields(rows.get()) != static_cast<int>(types.size()) + 1 || count < 0 ||
        static_cast<size_t>(count) > wanted) {
      return Stop(absl::InternalError("PostgreSQL answers another query than was asked"));
    }
    size_t longest = 1;
    for (int r = 0; r < count; ++r) {
      if (result->rows.size() >= call.max_rows) {
        result->truncation = SqlTruncation::kRows;
        return absl::OkStatus();
      }
      size_t size = 0;
      std::vector<SqlValue> row;
      const bool too_long = std::strcmp(PQgetvalue(rows.get(), r, 0), "t") == 0;
      for (size_t i = 0; i < types.size() && !too_long; ++i) {
        const int column = static_cast<int>(i) + 1;
        SqlValue& value = row.emplace_back();
        if (PQgetisnull(rows.get(), r, column) == 0) {
          value = ValueOf(
              types[i], std::string_view(PQgetvalue(rows.get(), r, column),
                                         static_cast<size_t>(PQgetlength(rows.get(), r, column))));
        }
        const auto* text = std::get_if<std::string>(&value);
        size += text == nullptr ? 8 : text->size();
      }
      if (too_long || size > call.max_bytes - bytes) {
        result->truncation = SqlTruncation::kBytes;
        return absl::OkStatus();
      }
      longest = std::max(longest, size);
      bytes += size;
      result->rows.push_back(std::move(row));
    }
    if (static_cast<size_t>(count) < wanted) return absl::OkStatus();
    const size_t fit = std::max<size_t>(1, (call.max_bytes - bytes) / longest);
    batch = std::min({batch * 4, fit, kRowsPerFetch});
  }
}

absl::StatusOr<PostgresqlConnection::Result> PostgresqlConnection::Query(const std::string& sql,
                                                                         const SqlCallOptions& call,
                                                                         std::string_view prefix) {
  PGconn* connection = connection_.get();
  // The extended protocol: one statement.
  if (!sql.empty() &&
      PQsendQueryParams(connection, sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0) == 0) {
    return Stop(absl::UnavailableError(Scrub(PQerrorMessage(connection))));
  }
  Result last;
  while (true) {
    int unsent = 1;
    while ((unsent = PQflush(connection)) == 1 || PQisBusy(connection) != 0) {
      OCTOGATE_RETURN_IF_ERROR(Wait(unsent == 1, call));
      if (PQconsumeInput(connection) == 0) {
        return Stop(absl::UnavailableError(absl::StrCat("the connection to PostgreSQL was lost: ",
                                                        Scrub(PQerrorMessage(connection)))));
      }
    }
    Result next(PQgetResult(connection));
    if (next == nullptr) break;
    last = std::move(next);
    const ExecStatusType status = PQresultStatus(last.get());
    if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
      return Stop(absl::PermissionDeniedError("the statement may not use COPY"));
    }
  }
  const ExecStatusType status = PQresultStatus(last.get());
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
    return ErrorOf(last.get(), sql, prefix);
  }
  return last;
}

absl::Status PostgresqlConnection::Wait(bool writing, const SqlCallOptions& call) {
  while (true) {
    if (call.cancellation != nullptr && call.cancellation->IsCancelled()) {
      return Stop(absl::CancelledError("the call was cancelled"));
    }
    const absl::Duration left = call.deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return Stop(absl::DeadlineExceededError("the statement did not end in time"));
    }
    pollfd socket = {PQsocket(connection_.get()),
                     static_cast<short>(writing ? POLLIN | POLLOUT : POLLIN), 0};
    const absl::Duration wait = call.cancellation == nullptr ? std::min(left, absl::Seconds(1))
                                                             : std::min(left, kCancellationPoll);
    const int ready = poll(&socket, 1, static_cast<int>(absl::ToInt64Milliseconds(wait)) + 1);
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) {
      return Stop(absl::UnavailableError(absl::StrCat("poll: ", std::strerror(errno))));
    }
  }
}

absl::Status PostgresqlConnection::Stop(absl::Status why) {
  // The connection is closed, which the server notices (client_connection_check_interval) or else
  // ends by statement_timeout. PQcancel would block without a limit.
  reusable_ = false;
  return why;
}

absl::Status PostgresqlConnection::ErrorOf(const PGresult* result, std::string_view sql,
                                           std::string_view prefix) {
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  if (state == nullptr) {
    reusable_ = false;
    return absl::UnavailableError(Scrub(PQresultErrorMessage(result)));
  }
  const absl::StatusCode code = CodeOf(state);
  const char* text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  std::string message = Scrub(text == nullptr ? state : text);
  if (const char* hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT)) {
    absl::StrAppend(&message, ". ", Scrub(hint));
  }
  const char* position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
  size_t character = 0;
  if (!prefix.empty() && position != nullptr && absl::SimpleAtoi(position, &character)) {
    const size_t offset = ByteOffset(sql, character);
    if (offset >= prefix.size()) {
      absl::StrAppend(&message, " (at offset ", offset - prefix.size(), ")");
    }
  }
  if (code == absl::StatusCode::kUnavailable) {
    if (PQstatus(connection_.get()) != CONNECTION_OK) reusable_ = false;
    return WithRetryAfter(absl::UnavailableError(message), absl::Seconds(1));
  }
  return absl::Status(code, message);
}

std::string PostgresqlConnection::Scrub(const char* message) const {
  std::string text = message == nullptr ? "" : message;
  if (!password_.empty()) text = absl::StrReplaceAll(text, {{password_, "***"}});
  text = SanitizeUtf8(text, std::min(text.size(), kMaxMessageBytes));
  std::replace(text.begin(), text.end(), '\n', ' ');
  return std::string(absl::StripTrailingAsciiWhitespace(text));
}

}  // namespace octogate::gateway
