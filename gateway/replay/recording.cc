#include "gateway/replay/recording.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

using nlohmann::json;

constexpr int64_t kCharsPerToken = 4;
constexpr size_t kLinesPerClockCheck = 1024;

std::string TypeName(const json& value) {
  return value.is_null() ? "null" : std::string("a value of type ") + value.type_name();
}

// One line's object, read key by key; keeps the first thing that is wrong.
class LineReader {
 public:
  explicit LineReader(const json& object) : object_(object) {}

  std::string Text(const char* key) {
    const json* value = Find(key);
    if (value == nullptr) {
      Wrong(absl::StrCat("the key \"", key, "\" is missing"));
      return "";
    }
    if (!value->is_string()) {
      Wrong(absl::StrCat("\"", key, "\" must be text, found ", TypeName(*value)));
      return "";
    }
    return value->get<std::string>();
  }

  std::optional<int64_t> Whole(const char* key, int64_t min, int64_t max) {
    const json* value = Find(key);
    if (value == nullptr) return std::nullopt;
    const bool fits = value->is_number_unsigned()
                          ? value->get<uint64_t>() <= static_cast<uint64_t>(max)
                          : value->is_number_integer();
    if (!fits || value->get<int64_t>() < min || value->get<int64_t>() > max) {
      Wrong(absl::StrCat("\"", key, "\" must be a whole number from ", min, " to ", max));
      return min;
    }
    return value->get<int64_t>();
  }

  double Real(const char* key, double max, double otherwise) {
    const json* value = Find(key);
    if (value == nullptr) return otherwise;
    const double number = value->is_number() ? value->get<double>() : std::nan("");
    if (!(number >= 0 && number <= max)) {
      Wrong(absl::StrCat("\"", key, "\" must be a number from 0 to ", max));
      return otherwise;
    }
    return number;
  }

  void Wrong(std::string what) {
    if (wrong_.empty()) wrong_ = std::move(what);
  }

  // What is wrong; empty: nothing.
  std::string Finish() {
    if (wrong_.empty() && known_ != object_.size()) {
      for (const auto& [key, value] : object_.items()) {
        if (std::find(keys_.begin(), keys_.end(), key) != keys_.end()) continue;
        Wrong(absl::StrCat("unknown key ", Quoted(key),
                           "; known are query, answer, output_tokens, output_chars, input_tokens, "
                           "confidence and latency_ms"));
        break;
      }
    }
    return wrong_;
  }

 private:
  const json* Find(const char* key) {
    keys_.push_back(key);
    const auto found = object_.find(key);
    if (found == object_.end()) return nullptr;
    ++known_;
    return &*found;
  }

  const json& object_;
  std::vector<std::string> keys_;
  size_t known_ = 0;
  std::string wrong_;
};

// What is wrong with the line; empty: nothing.
std::string ParseLine(const std::string& line, const RecordingLimits& limits, std::string* query,
                      RecordedAnswer* answer) {
  if (const size_t bad = FindInvalidUtf8(line); bad != std::string_view::npos) {
    return absl::StrCat("byte ", bad + 1, " of the line is not part of valid UTF-8");
  }
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) {
    return line.find_last_of('}') == std::string::npos
               ? "no complete JSON object; is the file cut off?"
               : "not valid JSON";
  }
  if (!object.is_object()) return "a line must be a JSON object, found " + TypeName(object);
  LineReader reader(object);
  *query = NormalizeQuery(reader.Text("query"));
  answer->text = reader.Text("answer");
  const std::optional<int64_t> tokens = reader.Whole("output_tokens", 1, limits.max_tokens);
  const std::optional<int64_t> chars =
      reader.Whole("output_chars", 0, limits.max_tokens * kCharsPerToken);
  if (tokens.has_value() == chars.has_value()) {
    reader.Wrong(absl::StrCat("exactly one of \"output_tokens\" and \"output_chars\" is required; ",
                              tokens.has_value() ? "both are there" : "neither is there"));
  }
  answer->output_tokens = tokens.value_or(
      std::max<int64_t>(1, (chars.value_or(0) + kCharsPerToken - 1) / kCharsPerToken));
  const auto estimate = static_cast<int64_t>((query->size() + kCharsPerToken - 1) / kCharsPerToken);
  answer->input_tokens = reader.Whole("input_tokens", 0, limits.max_tokens).value_or(estimate);
  answer->confidence = reader.Real("confidence", 1, 1);
  answer->latency = absl::Milliseconds(reader.Real("latency_ms", limits.max_latency_ms, 0));
  std::string wrong = reader.Finish();
  if (wrong.empty() && query->empty()) wrong = "\"query\" is empty";
  return wrong;
}

// Reads up to the end of a line, which is not kept. False: there is none left. A line longer than
// `max_bytes` is given back with one byte more.
bool ReadLine(std::istream& in, size_t max_bytes, std::string* line) {
  line->clear();
  std::streambuf& buffer = *in.rdbuf();
  int c = buffer.sbumpc();
  if (c == std::streambuf::traits_type::eof()) return false;
  for (; c != std::streambuf::traits_type::eof() && c != '\n'; c = buffer.sbumpc()) {
    line->push_back(static_cast<char>(c));
    if (line->size() > max_bytes) return true;
  }
  if (!line->empty() && line->back() == '\r') line->pop_back();
  return true;
}

}  // namespace

std::string NormalizeQuery(std::string_view query) {
  std::string normal;
  normal.reserve(query.size());
  for (const char c : query) {
    if (!absl::ascii_isspace(static_cast<unsigned char>(c))) {
      normal.push_back(c);
    } else if (!normal.empty() && normal.back() != ' ') {
      normal.push_back(' ');
    }
  }
  if (!normal.empty() && normal.back() == ' ') normal.pop_back();
  return normal;
}

absl::StatusOr<std::shared_ptr<const Recording>> Recording::Read(const std::filesystem::path& file,
                                                                 std::string_view name,
                                                                 absl::Time deadline,
                                                                 const RecordingLimits& limits) {
  const auto at = [&](size_t line, absl::string_view what) {
    return absl::StrCat(ToAbsl(name), ":", line, ": ", what);
  };
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) {
    return absl::NotFoundError(absl::StrCat("there is no file ", Quoted(name)));
  }
  const uintmax_t bytes = std::filesystem::file_size(file, error);
  if (error || bytes > limits.max_file_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the recording ", Quoted(name), " has ", bytes,
                                                     " bytes; at most ", limits.max_file_bytes,
                                                     " are allowed"));
  }
  std::ifstream in(file, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot read the recording ", Quoted(name)));
  auto recording = std::make_shared<Recording>();
  recording->name_ = std::string(name);
  absl::flat_hash_map<std::string, size_t> lines;
  size_t number = 0;
  size_t total = 0;
  for (std::string line; ReadLine(in, limits.max_line_bytes, &line);) {
    ++number;
    if (number % kLinesPerClockCheck == 0 && absl::Now() >= deadline) {
      return absl::DeadlineExceededError(at(number, "the time is over while it is being read"));
    }
    // The file may grow while it is read.
    total += line.size() + 1;
    if (line.size() > limits.max_line_bytes || total > limits.max_file_bytes + 1) {
      return absl::ResourceExhaustedError(
          at(number, absl::StrCat("the line is longer than the ", limits.max_line_bytes,
                                  " bytes allowed, or the file than ", limits.max_file_bytes)));
    }
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    std::string query;
    RecordedAnswer answer;
    if (const std::string wrong = ParseLine(line, limits, &query, &answer); !wrong.empty()) {
      return absl::InvalidArgumentError(at(number, wrong));
    }
    const auto [first, is_new] = lines.try_emplace(query, number);
    if (!is_new) {
      return absl::InvalidArgumentError(
          at(number, absl::StrCat("the query ", Quoted(query), " has an answer on line ",
                                  first->second, " already")));
    }
    if (lines.size() > limits.max_answers) {
      return absl::ResourceExhaustedError(
          at(number, absl::StrCat("more than ", limits.max_answers, " answers")));
    }
    recording->answers_.emplace(std::move(query), std::move(answer));
  }
  if (recording->answers_.empty()) {
    return absl::InvalidArgumentError(at(number + 1, "there is no answer in the file"));
  }
  return recording;
}

const RecordedAnswer* Recording::Find(std::string_view query) const {
  const auto found = answers_.find(NormalizeQuery(query));
  return found == answers_.end() ? nullptr : &found->second;
}

}  // namespace octogate::gateway
