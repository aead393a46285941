#include "retrieval/schema/schema.h"

#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "common/utf8.h"

namespace octogate::schema {
namespace {

template <typename Items>
int Find(const Items& items, std::string_view name) {
  int folded = -1;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].name == name) return static_cast<int>(i);
    if (folded < 0 && absl::EqualsIgnoreCase(items[i].name, ToAbsl(name))) {
      folded = static_cast<int>(i);
    }
  }
  return folded;
}

void TakeIfEmpty(const std::string& from, std::string* into) {
  if (into->empty()) *into = from;
}

void Merge(const Column& from, Column* into) {
  TakeIfEmpty(from.alias, &into->alias);
  TakeIfEmpty(from.description, &into->description);
  TakeIfEmpty(from.value_description, &into->value_description);
  TakeIfEmpty(from.type, &into->type);
  into->sensitive = into->sensitive || from.sensitive;
  if (into->values.empty()) {
    into->values = from.values;
    into->values_truncated = from.values_truncated;
  }
}

}  // namespace

int FindTable(const Schema& schema, std::string_view name) { return Find(schema.tables, name); }
int FindColumn(const Table& table, std::string_view name) { return Find(table.columns, name); }

void Warn(std::string warning, Schema* schema) {
  if (schema->warnings.size() < kMaxWarnings) schema->warnings.push_back(std::move(warning));
}

void MergeDescriptions(const Schema& from, Schema* into) {
  absl::flat_hash_map<std::string, const Table*> tables;
  for (const Table& table : from.tables) tables.emplace(absl::AsciiStrToLower(table.name), &table);
  for (Table& table : into->tables) {
    const auto found = tables.find(absl::AsciiStrToLower(table.name));
    if (found == tables.end()) continue;
    TakeIfEmpty(found->second->description, &table.description);
    if (table.rows < 0) table.rows = found->second->rows;
    absl::flat_hash_map<std::string, const Column*> columns;
    for (const Column& column : found->second->columns) {
      columns.emplace(absl::AsciiStrToLower(column.name), &column);
    }
    for (Column& column : table.columns) {
      const auto other = columns.find(absl::AsciiStrToLower(column.name));
      if (other != columns.end()) Merge(*other->second, &column);
    }
  }
}

absl::StatusOr<std::string> ReadBoundedFile(const std::string& path, size_t max_bytes) {
  // A pipe would be waited for.
  std::error_code error;
  const std::filesystem::file_status found = std::filesystem::status(path, error);
  if (std::filesystem::exists(found) && !std::filesystem::is_regular_file(found)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is not a regular file"));
  }
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be opened for reading"));
  const std::streamoff size = file.tellg();
  if (size < 0) return absl::InvalidArgumentError(absl::StrCat(path, ": is not a regular file"));
  if (static_cast<uint64_t>(size) > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": has ", size, " bytes; at most ", max_bytes, " are read"));
  }
  std::string content(static_cast<size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(content.data(), size)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  }
  return content;
}

absl::Status CheckName(std::string_view name, std::string_view where) {
  std::string problem;
  if (name.empty()) {
    problem = "is empty";
  } else if (name.size() > kMaxNameBytes) {
    problem = absl::StrCat("has ", name.size(), " bytes; at most ", kMaxNameBytes, " are allowed");
  } else if (!IsValidUtf8(name)) {
    problem = "is not valid UTF-8";
  } else {
    for (const char c : name) {
      if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) problem = "has control characters";
    }
  }
  if (problem.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(where), ": the name ", Quoted(name), " ", problem));
}

std::string CleanDescription(std::string_view text) {
  const absl::string_view stripped = absl::StripAsciiWhitespace(ToAbsl(text));
  std::string clean = SanitizeUtf8(ToStd(stripped), kMaxDescriptionBytes);
  for (char& c : clean) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = ' ';
  }
  return clean;
}

}  // namespace octogate::schema
