// A database's schema as a reader found it: plain data, made into a Catalog by catalog.h.
//
// Whatever a reader reads is hostile. Each keeps the bounds below and checks that texts are valid
// UTF-8; its errors are INVALID_ARGUMENT with the file and the line, offset or path inside of it,
// NOT_FOUND for a file that is not there, and RESOURCE_EXHAUSTED past a bound. What can be left
// out without changing the meaning of the rest (a key to a table that is not there, a description
// of an unknown column) is left out and said in `warnings`.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_SCHEMA_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_SCHEMA_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace octogate::schema {

// Bounds of what is read. Longer names, more tables or columns are errors; longer descriptions are
// cut; longer values are not kept.
inline constexpr size_t kMaxFileBytes = size_t{512} << 20;
// Parsed JSON takes some sixteen times its text.
inline constexpr size_t kMaxJsonBytes = size_t{64} << 20;
inline constexpr size_t kMaxTables = 200'000;
inline constexpr size_t kMaxColumns = 4'000'000;
inline constexpr size_t kMaxColumnsPerTable = 8192;
inline constexpr size_t kMaxKeyColumns = 64;  // of one foreign key; longer ones are left out
inline constexpr size_t kMaxNameBytes = 512;
inline constexpr size_t kMaxDescriptionBytes = 4096;
inline constexpr size_t kMaxValueBytes = 256;
inline constexpr size_t kMaxWarnings = 100;

struct Column {
  std::string name;   // as SQL spells it, without quotes
  std::string type;   // as declared; may be empty
  std::string alias;  // a name for people; may be empty
  std::string description;
  std::string value_description;    // what its values mean
  std::vector<std::string> values;  // distinct, as stored, in the reader's order
  bool values_truncated = false;    // there are more, or may be
  bool primary_key = false;
  bool sensitive = false;  // its values are never kept

  bool operator==(const Column&) const = default;
};

// `columns` of the table it stands in refer to `references` of `table`; an empty `references` is
// that table's primary key.
struct ForeignKey {
  std::vector<std::string> columns;
  std::string table;
  std::vector<std::string> references;

  bool operator==(const ForeignKey&) const = default;
};

struct Table {
  std::string name;
  std::string description;
  std::vector<Column> columns;
  std::vector<ForeignKey> foreign_keys;
  int64_t rows = -1;  // -1: not known

  bool operator==(const Table&) const = default;
};

struct Schema {
  std::string name;
  std::vector<Table> tables;
  std::vector<std::string> warnings;  // at most kMaxWarnings
};

// The position of the name, exactly as spelt or else in any case; -1 where there is none.
int FindTable(const Schema& schema, std::string_view name);
int FindColumn(const Table& table, std::string_view name);

// Adds a warning unless there are kMaxWarnings.
void Warn(std::string warning, Schema* schema);

// Takes aliases, descriptions, values, row counts and tags of `from` into the tables and columns of
// `into` that have the same names (in any case) and lack them. Keys and columns of `into` stay.
void MergeDescriptions(const Schema& from, Schema* into);

// The whole file; NOT_FOUND, RESOURCE_EXHAUSTED past `max_bytes`, with its path.
absl::StatusOr<std::string> ReadBoundedFile(const std::string& path,
                                            size_t max_bytes = kMaxFileBytes);

// INVALID_ARGUMENT with the place unless the name is 1 to kMaxNameBytes of valid UTF-8 without
// control characters.
absl::Status CheckName(std::string_view name, std::string_view where);

// Valid UTF-8 of at most kMaxDescriptionBytes, without spaces at its ends; other bytes become "?".
std::string CleanDescription(std::string_view text);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_SCHEMA_H_
