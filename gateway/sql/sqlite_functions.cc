#include "gateway/sql/sqlite_functions.h"

#include <sqlite3.h>
#include <string.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

bool IsContinuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

// Linear: memmem is the two-way algorithm.
size_t Find(std::string_view text, std::string_view part, size_t from) {
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found == nullptr ? std::string_view::npos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

// Valid until the value is converted again.
std::string_view TextOf(sqlite3_value* value) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
  if (text == nullptr) return {};
  return {text, static_cast<size_t>(sqlite3_value_bytes(value))};
}

bool IsNull(sqlite3_value* value) { return sqlite3_value_type(value) == SQLITE_NULL; }

// instr(X, Y): the first place of Y in X, counted from 1 in characters, or in bytes for two blobs.
void Instr(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (IsNull(arguments[0]) || IsNull(arguments[1])) return;
  const bool blobs = sqlite3_value_type(arguments[0]) == SQLITE_BLOB &&
                     sqlite3_value_type(arguments[1]) == SQLITE_BLOB;
  std::string_view text;
  std::string_view part;
  if (blobs) {
    const auto* text_bytes = static_cast<const char*>(sqlite3_value_blob(arguments[0]));
    const auto* part_bytes = static_cast<const char*>(sqlite3_value_blob(arguments[1]));
    if (text_bytes != nullptr) {
      text = {text_bytes, static_cast<size_t>(sqlite3_value_bytes(arguments[0]))};
    }
    if (part_bytes != nullptr) {
      part = {part_bytes, static_cast<size_t>(sqlite3_value_bytes(arguments[1]))};
    }
  } else {
    text = TextOf(arguments[0]);
    part = TextOf(arguments[1]);
  }
  if (part.empty()) return sqlite3_result_int(context, 1);
  size_t found = std::string_view::npos;
  if (!blobs && IsContinuation(part[0])) {
    // Texts match at the start of a character, and the first byte always counts as one.
    if (text.substr(0, part.size()) == part) found = 0;
  } else if (!text.empty()) {
    found = Find(text, part, 0);
  }
  if (found == std::string_view::npos) return sqlite3_result_int(context, 0);
  int64_t place = 1;
  for (size_t i = 1; i <= found; ++i) place += blobs || !IsContinuation(text[i]);
  sqlite3_result_int64(context, place);
}

// replace(X, Y, Z): X with Z for every Y, from the left.
void Replace(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (IsNull(arguments[0]) || IsNull(arguments[1])) return;
  const std::string_view text = TextOf(arguments[0]);  // first: it makes texts of blobs
  const std::string_view pattern = TextOf(arguments[1]);
  if (pattern.empty() || pattern[0] == '\0') return sqlite3_result_value(context, arguments[0]);
  if (IsNull(arguments[2])) return;
  const std::string_view replacement = TextOf(arguments[2]);

  // SQLite's own builder of strings, so that the limits of the connection hold.
  sqlite3* database = sqlite3_context_db_handle(context);
  sqlite3_str* result = sqlite3_str_new(database);
  size_t from = 0;
  while (from < text.size() && sqlite3_str_errcode(result) == SQLITE_OK) {
    size_t found = Find(text, pattern, from);
    if (found == std::string_view::npos) found = text.size();
    sqlite3_str_append(result, text.data() + from, static_cast<int>(found - from));
    if (found == text.size()) break;
    sqlite3_str_append(result, replacement.data(), static_cast<int>(replacement.size()));
    from = found + pattern.size();
  }
  const int error = sqlite3_str_errcode(result);
  const int length = sqlite3_str_length(result);
  char* finished = sqlite3_str_finish(result);
  if (error == SQLITE_TOOBIG) {
    sqlite3_result_error_toobig(context);
  } else if (error != SQLITE_OK) {
    sqlite3_result_error_nomem(context);
  } else if (finished == nullptr) {
    sqlite3_result_text(context, "", 0, SQLITE_STATIC);
  } else {
    sqlite3_result_text(context, finished, length, sqlite3_free);
    return;
  }
  sqlite3_free(finished);
}

// The most places of a text times bytes of a pattern: less than a tenth of a second.
constexpr uint64_t kMaxComparisons = uint64_t{1} << 26;

// Whether pattern and text are too long to be compared; says so.
bool IsTooLong(sqlite3_context* context, std::string_view pattern, std::string_view text) {
  const int longest =
      sqlite3_limit(sqlite3_context_db_handle(context), SQLITE_LIMIT_LIKE_PATTERN_LENGTH, -1);
  if (pattern.size() > static_cast<size_t>(longest)) {
    sqlite3_result_error(context, "LIKE or GLOB pattern too complex", -1);
    return true;
  }
  if (uint64_t{pattern.size()} * text.size() <= kMaxComparisons) return false;
  sqlite3_result_error(context, "LIKE or GLOB: the text is too long for this pattern", -1);
  return true;
}

// like(Y, X) and like(Y, X, Z): X LIKE Y ESCAPE Z.
void Like(sqlite3_context* context, int count, sqlite3_value** arguments) {
  const std::string_view text = TextOf(arguments[1]);
  const std::string_view pattern = TextOf(arguments[0]);
  if (IsTooLong(context, pattern, text)) return;
  unsigned int escape = 0;
  if (count == 3) {
    if (IsNull(arguments[2])) return;
    const std::string_view given = TextOf(arguments[2]);
    if (given.size() != 1 || given == "%" || given == "_" ||
        static_cast<unsigned char>(given[0]) >= 0x80) {
      return sqlite3_result_error(
          context, "ESCAPE expression must be a single ASCII character other than % and _", -1);
    }
    escape = static_cast<unsigned char>(given[0]);
  }
  if (IsNull(arguments[0]) || IsNull(arguments[1])) return;
  sqlite3_result_int(context, sqlite3_strlike(pattern.data(), text.data(), escape) == 0);
}

// glob(Y, X): X GLOB Y.
void Glob(sqlite3_context* context, int, sqlite3_value** arguments) {
  const std::string_view text = TextOf(arguments[1]);
  const std::string_view pattern = TextOf(arguments[0]);
  if (IsTooLong(context, pattern, text)) return;
  if (IsNull(arguments[0]) || IsNull(arguments[1])) return;
  sqlite3_result_int(context, sqlite3_strglob(pattern.data(), text.data()) == 0);
}

enum Ends : intptr_t { kLeft = 1, kRight = 2 };

// trim(X, Y): X without the characters of Y at its ends.
void Trim(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (IsNull(arguments[0]) || IsNull(arguments[1])) return;
  const auto ends = reinterpret_cast<intptr_t>(sqlite3_user_data(context));
  std::string_view text = TextOf(arguments[0]);
  std::string_view characters = TextOf(arguments[1]);
  characters = characters.substr(0, characters.find('\0'));
  if (FindInvalidUtf8(characters) != std::string_view::npos) {
    return sqlite3_result_error(context, "trim(): the characters to remove are not valid UTF-8",
                                -1);
  }
  // The number of bytes of the longest character is 4, and no character is part of another.
  std::array<std::unordered_set<std::string_view>, 5> sets;
  for (size_t i = 0; i < characters.size();) {
    size_t length = 1;
    while (i + length < characters.size() && IsContinuation(characters[i + length])) ++length;
    sets[length].insert(characters.substr(i, length));
    i += length;
  }
  const auto cut = [&](bool left) {
    for (size_t length = 1; length < sets.size() && length <= text.size(); ++length) {
      if (sets[length].empty()) continue;
      if (sets[length].count(left ? text.substr(0, length) : text.substr(text.size() - length)) ==
          0) {
        continue;
      }
      left ? text.remove_prefix(length) : text.remove_suffix(length);
      return true;
    }
    return false;
  };
  while ((ends & kLeft) != 0 && cut(true)) {
  }
  while ((ends & kRight) != 0 && cut(false)) {
  }
  sqlite3_result_text(context, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
}

}  // namespace

absl::Status ReplaceQuadraticFunctions(sqlite3* database) {
  struct Function {
    const char* name;
    int arguments;
    intptr_t data;
    void (*run)(sqlite3_context*, int, sqlite3_value**);
  };
  constexpr Function kReplacements[] = {
      {"instr", 2, 0, &Instr},    {"replace", 3, 0, &Replace}, {"trim", 2, kLeft | kRight, &Trim},
      {"ltrim", 2, kLeft, &Trim}, {"rtrim", 2, kRight, &Trim}, {"like", 2, 0, &Like},
      {"like", 3, 0, &Like},      {"glob", 2, 0, &Glob},
  };
  for (const Function& f : kReplacements) {
    const int code = sqlite3_create_function_v2(
        database, f.name, f.arguments, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
        reinterpret_cast<void*>(f.data), f.run, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) {
      return absl::InternalError(
          absl::StrCat("SQLite does not take a function ", f.name, ": ", sqlite3_errstr(code)));
    }
  }
  return absl::OkStatus();
}

}  // namespace octogate::gateway
