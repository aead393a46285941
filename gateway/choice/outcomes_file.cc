#include "gateway/choice/outcomes_file.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/judging/answer_form.h"

namespace octogate::gateway {
namespace {

using nlohmann::json;

constexpr size_t kLinesPerClockCheck = 256;
constexpr size_t kMaxNameBytes = 63;

// What is wrong with one outcome; empty: nothing.
std::string ParseOutcome(const json& value, v1::AnswerForm same, const OutcomesLimits& limits,
                         router::MemberOutcome* outcome) {
  outcome->known = true;
  if (value.is_boolean()) {
    outcome->correct = value.get<bool>();
    return "";
  }
  if (!value.is_object()) return "must be true, false or an object with \"correct\"";
  bool has_correct = false;
  for (const auto& [key, entry] : value.items()) {
    if (key == "correct") {
      if (!entry.is_boolean()) return "\"correct\" must be true or false";
      outcome->correct = entry.get<bool>();
      has_correct = true;
    } else if (key == "answer") {
      if (!entry.is_string()) return "\"answer\" must be text";
      outcome->has_answer = true;
      outcome->answer = NormalizeAnswer(entry.get_ref<const std::string&>(), same);
    } else if (key == "output_tokens") {
      const double number = entry.is_number_integer() ? entry.get<double>() : -1;
      if (!(number >= 0 && number <= static_cast<double>(limits.max_tokens))) {
        return absl::StrCat("\"output_tokens\" must be a whole number from 0 to ",
                            limits.max_tokens);
      }
      outcome->output_tokens = static_cast<int64_t>(number);
    } else if (key == "latency_ms") {
      const double number = entry.is_number() ? entry.get<double>() : -1;
      if (!(number >= 0 && number <= limits.max_latency_ms)) {
        return absl::StrCat("\"latency_ms\" must be a number from 0 to ", limits.max_latency_ms);
      }
      outcome->latency_ms = number;
    } else {
      return absl::StrCat("unknown key ", Quoted(key),
                          "; known are correct, answer, output_tokens and latency_ms");
    }
  }
  return has_correct ? "" : "the key \"correct\" is missing";
}

using MemberIndex = absl::flat_hash_map<std::string, size_t>;

// What is wrong with the line; empty: nothing.
std::string ParseLine(const std::string& line, const MemberIndex& members, v1::AnswerForm same,
                      const OutcomesLimits& limits, router::QueryOutcomes* query) {
  if (const size_t bad = FindInvalidUtf8(line); bad != std::string_view::npos) {
    return absl::StrCat("byte ", bad + 1, " of the line is not part of valid UTF-8");
  }
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded() || !object.is_object()) {
    return "a line must be one JSON object; is the file cut off?";
  }
  query->members.resize(members.size());
  bool has_outcomes = false;
  for (const auto& [key, value] : object.items()) {
    if (key == "query" || key == "domain") {
      if (!value.is_string()) return absl::StrCat("\"", key, "\" must be text");
      (key == "query" ? query->query : query->domain) = value.get<std::string>();
    } else if (key == "outcomes") {
      if (!value.is_object()) return "\"outcomes\" must be an object with names of nodes as keys";
      has_outcomes = true;
      for (const auto& [name, entry] : value.items()) {
        router::MemberOutcome outcome;
        if (const std::string wrong = ParseOutcome(entry, same, limits, &outcome); !wrong.empty()) {
          return absl::StrCat("the outcome of ", Quoted(name), ": ", wrong);
        }
        const auto member = members.find(name);
        if (member != members.end()) query->members[member->second] = std::move(outcome);
      }
    } else {
      return absl::StrCat("unknown key ", Quoted(key), "; known are query, domain and outcomes");
    }
  }
  if (query->query.empty()) return "the key \"query\" is missing, or empty";
  if (query->query.size() > limits.max_query_bytes) {
    return absl::StrCat("the query has ", query->query.size(), " bytes; at most ",
                        limits.max_query_bytes, " are allowed");
  }
  if (query->domain.size() > kMaxNameBytes) return "\"domain\" is longer than 63 bytes";
  return has_outcomes ? "" : "the key \"outcomes\" is missing";
}

}  // namespace

absl::StatusOr<router::OutcomeSet> ReadOutcomes(const std::filesystem::path& file,
                                                std::string_view name,
                                                const std::vector<std::string>& members,
                                                v1::AnswerForm same, absl::Time deadline,
                                                const OutcomesLimits& limits) {
  const auto at = [&](size_t line, absl::string_view what) {
    return absl::StrCat(ToAbsl(name), ":", line, ": ", what);
  };
  std::error_code error;
  const uintmax_t bytes = std::filesystem::file_size(file, error);
  std::ifstream in(file, std::ios::binary);
  if (error || !in) return absl::NotFoundError(absl::StrCat("cannot read ", Quoted(name)));
  if (bytes > limits.max_file_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        Quoted(name), " has ", bytes, " bytes; at most ", limits.max_file_bytes, " are allowed"));
  }
  // The file may grow while it is read: no more of it is read than it had.
  std::string content(static_cast<size_t>(bytes), '\0');
  in.read(content.data(), static_cast<std::streamsize>(bytes));
  content.resize(static_cast<size_t>(in.gcount()));

  router::OutcomeSet outcomes;
  outcomes.members = members;
  MemberIndex index;
  for (const std::string& member : members) index.emplace(member, index.size());
  absl::flat_hash_map<std::string, size_t> lines;
  size_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    ++number;
    if (end - begin > limits.max_line_bytes) {
      return absl::ResourceExhaustedError(at(
          number,
          absl::StrCat("the line is longer than the ", limits.max_line_bytes, " bytes allowed")));
    }
    const std::string line = content.substr(begin, end - begin);
    begin = end + 1;
    if (number % kLinesPerClockCheck == 0 && absl::Now() >= deadline) {
      return absl::DeadlineExceededError(at(number, "the time is over while it is being read"));
    }
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    router::QueryOutcomes query;
    if (const std::string wrong = ParseLine(line, index, same, limits, &query); !wrong.empty()) {
      return absl::InvalidArgumentError(at(number, wrong));
    }
    const auto [first, is_new] = lines.try_emplace(query.query, number);
    if (!is_new) {
      return absl::InvalidArgumentError(
          at(number, absl::StrCat("the query is that of line ", first->second)));
    }
    if (lines.size() > limits.max_queries) {
      return absl::ResourceExhaustedError(
          at(number, absl::StrCat("more than ", limits.max_queries, " queries")));
    }
    const bool used = std::any_of(query.members.begin(), query.members.end(),
                                  [](const auto& outcome) { return outcome.known; });
    if (used) outcomes.queries.push_back(std::move(query));
  }
  if (outcomes.queries.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(name), " has no outcome of any member: ", absl::StrJoin(members, ", "),
                     "; the keys of \"outcomes\" are names of nodes"));
  }
  return outcomes;
}

}  // namespace octogate::gateway
