#include "gateway/cache/shared_answers.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/strings.h"
#include "router/node_bounds.h"

namespace octogate::gateway {
namespace {

// Of what an answer is found by, and of what it is written as.
constexpr char kFormat[] = "1";
// Of another gateway's clock.
constexpr absl::Duration kMaxClockSkew = absl::Minutes(1);
constexpr int kMaxTopLogprobs = 20;

// The server sees nothing of queries but in what stands under their names.
std::string NameOf(const std::string& common) { return "answers/" + Sha256Hex(common); }

// Only models and recordings write answers that are kept.
bool WritesAnswers(const v1::Graph& graph, const std::string& name) {
  const v1::Node* const node = router::FindNode(graph, name);
  return node != nullptr && (node->has_model() || node->has_replay());
}

bool IsSound(const v1::Graph& graph, const KeptAnswer& answer) {
  const v1::Tokens& tokens = answer.tokens;
  if (!WritesAnswers(graph, answer.first_node) || !WritesAnswers(graph, tokens.node())) {
    return false;
  }
  if (!tokens.logprobs().empty() && tokens.logprobs_size() != tokens.ids_size()) return false;
  for (const v1::TokenLogprob& token : tokens.logprobs()) {
    if (token.top_size() > kMaxTopLogprobs) return false;
  }
  return answer.finish_reason == v1::FINISH_REASON_STOP &&
         answer.bytes() <= AnswerCache::kMaxEntryBytes;
}

// "GIVEN_AT MARKS COMMON_BYTES NODE_BYTES ", what the answer is found by, the first node, and the
// tokens as protobuf.
std::string Write(const AnswerKey& key, const std::string& common, const KeptAnswer& answer) {
  std::string value =
      absl::StrCat(absl::ToUnixMillis(answer.given_at), " ", key.marks, " ", common.size(), " ",
                   answer.first_node.size(), " ", common, answer.first_node);
  answer.tokens.AppendToString(&value);
  return value;
}

// Takes a word and the space behind it.
std::optional<std::string_view> NextWord(std::string_view& text) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const std::string_view word = text.substr(0, space);
  text.remove_prefix(space + 1);
  return word;
}

template <typename Number>
bool NextNumber(std::string_view& text, Number* number) {
  const std::optional<std::string_view> word = NextWord(text);
  return word.has_value() && absl::SimpleAtoi(ToAbsl(*word), number);
}

// Takes a part of so many bytes.
std::optional<std::string_view> NextPart(std::string_view& text, uint64_t bytes) {
  if (bytes > text.size()) return std::nullopt;
  const std::string_view part = text.substr(0, bytes);
  text.remove_prefix(bytes);
  return part;
}

struct Written {
  absl::Time given_at;
  std::string_view marks;
  std::string_view common;
  std::string_view first_node;
  std::string_view tokens;
};

std::optional<Written> Split(std::string_view value) {
  int64_t given_at = 0;
  uint64_t common_bytes = 0;
  uint64_t node_bytes = 0;
  if (!NextNumber(value, &given_at)) return std::nullopt;
  const std::optional<std::string_view> marks = NextWord(value);
  if (!marks || !NextNumber(value, &common_bytes) || !NextNumber(value, &node_bytes)) {
    return std::nullopt;
  }
  const std::optional<std::string_view> common = NextPart(value, common_bytes);
  if (!common) return std::nullopt;
  const std::optional<std::string_view> first_node = NextPart(value, node_bytes);
  if (!first_node) return std::nullopt;
  return Written{.given_at = absl::FromUnixMillis(given_at),
                 .marks = *marks,
                 .common = *common,
                 .first_node = *first_node,
                 .tokens = value};
}

}  // namespace

SharedAnswers::SharedAnswers(const SharedAnswersOptions& options, const v1::Graph* graph,
                             int64_t version, std::string_view manifest)
    : options_(options),
      values_(*options.values),
      graph_(*graph),
      identity_(absl::StrCat(kFormat, " ", version, " ", Sha256Hex(manifest), " ")),
      kept_for_(absl::Milliseconds(graph->spec().cache().answers().expires_after_ms())),
      flushes_("answers", options.values, options.believed_for, options.clock) {}

void SharedAnswers::Get(const AnswerKey& key, std::function<void(Found found)> done) {
  const absl::Time asked = options_.clock();
  std::string common = identity_ + key.Common();
  std::vector<std::string> names = flushes_.Names(key.tenant);
  names.insert(names.begin(), NameOf(common));
  values_.Get(std::move(names),
              [this, tenant = key.tenant, query = key.query, common = std::move(common), asked,
               done = std::move(done)](SharedValues::Values values) {
                done(OnValues(tenant, query, common, asked, values));
              });
}

SharedAnswers::Found SharedAnswers::OnValues(const std::string& tenant, const std::string& query,
                                             const std::string& common, absl::Time asked,
                                             const SharedValues::Values& values) {
  Found found;
  found.marks = flushes_.Take(tenant, asked, values[1], values[2]);
  absl::Status status = values[0].status();
  if (status.ok()) {
    auto answer = Read(found.marks, query, common, *values[0]);
    status = answer.status();
    if (status.ok()) found.answer = *std::move(answer);
    if (absl::IsDataLoss(status)) values_.CountRefused();
  }
  absl::MutexLock lock(&mutex_);
  ++counts_.lookups;
  if (found.answer != nullptr) {
    ++counts_.hits;
  } else if (found.marks.empty() || !absl::IsNotFound(status)) {
    ++counts_.failures;
  }
  return found;
}

absl::StatusOr<std::shared_ptr<const KeptAnswer>> SharedAnswers::Read(
    const std::string& marks, const std::string& query, const std::string& common,
    std::string_view value) const {
  const absl::Status hostile = absl::DataLossError("it is no answer to this query");
  const std::optional<Written> written =
      value.size() <= kMaxBytes ? Split(value) : std::optional<Written>();
  if (!written || written->common != common) return hostile;
  const absl::Duration age = options_.clock() - written->given_at;
  if (age < -kMaxClockSkew) return hostile;
  if (age >= kept_for_) return absl::NotFoundError("it is too old");
  if (marks.empty() || written->marks != marks) return absl::NotFoundError("it was flushed");
  auto answer = std::make_shared<KeptAnswer>();
  if (!answer->tokens.ParseFromArray(written->tokens.data(),
                                     static_cast<int>(written->tokens.size()))) {
    return hostile;
  }
  answer->tokens.DiscardUnknownFields();
  answer->query = query;
  answer->first_node = std::string(written->first_node);
  answer->given_at = written->given_at;
  if (!IsSound(graph_, *answer)) return hostile;
  return answer;
}

void SharedAnswers::Put(const AnswerKey& key, const KeptAnswer& answer) {
  if (key.marks.empty() || !IsSound(graph_, answer)) return;
  const std::string common = identity_ + key.Common();
  std::string value = Write(key, common, answer);
  if (value.size() > kMaxBytes) return;
  values_.Put(NameOf(common), std::move(value), kept_for_);
  absl::MutexLock lock(&mutex_);
  ++counts_.writes;
}

CacheCounts SharedAnswers::Counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

}  // namespace octogate::gateway
