#include "gateway/cache/shared_answers.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "router/node_bounds.h"

namespace octogate::gateway {
namespace {

// Of another gateway's clock.
constexpr absl::Duration kMaxClockSkew = absl::Minutes(1);
constexpr int kMaxTopLogprobs = 20;

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

// "GIVEN_AT NODE_BYTES ", the first node, and the tokens as protobuf.
std::string Write(const KeptAnswer& answer) {
  std::string content = absl::StrCat(absl::ToUnixMillis(answer.given_at), " ",
                                     answer.first_node.size(), " ", answer.first_node);
  answer.tokens.AppendToString(&content);
  return content;
}

// Takes a number and the space behind it.
template <typename Number>
bool NextNumber(std::string_view& text, Number* number) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos) return false;
  if (!absl::SimpleAtoi(ToAbsl(text.substr(0, space)), number)) return false;
  text.remove_prefix(space + 1);
  return true;
}

}  // namespace

SharedAnswers::SharedAnswers(const SharedAnswersOptions& options, const v1::Graph* graph,
                             int64_t version, std::string_view manifest)
    : clock_(options.clock),
      believed_for_(options.believed_for),
      graph_(*graph),
      kept_for_(absl::Milliseconds(graph->spec().cache().answers().expires_after_ms())),
      values_("answers", kMaxBytes, options.values, version, manifest) {}

std::string SharedAnswers::Marks(const std::string& tenant) const {
  absl::MutexLock lock(&mutex_);
  const auto known = known_.find(tenant);
  return known == known_.end() ? std::string() : known->second.marks;
}

bool SharedAnswers::Believes(const AnswerKey& key) const {
  const absl::Time now = clock_();
  absl::MutexLock lock(&mutex_);
  const auto known = known_.find(key.tenant);
  if (known == known_.end() || known->second.marks != key.marks) return false;
  // A clock that was set back makes nothing believed for longer.
  return now >= known->second.asked && now < known->second.asked + believed_for_;
}

void SharedAnswers::Know(const std::string& tenant, absl::Time asked, const std::string& marks) {
  absl::MutexLock lock(&mutex_);
  if (!known_.contains(tenant) && known_.size() >= kMaxTenants) known_.clear();
  Known& known = known_[tenant];
  // What was asked later knows better.
  if (asked < known.asked) return;
  known.asked = asked;
  if (!marks.empty()) known.marks = marks;
}

void SharedAnswers::Get(const AnswerKey& key, std::function<void(Found found)> done) {
  values_.Get<KeptAnswer>(
      key.tenant, key.Common(),
      [this, query = key.query](std::string_view content) { return Parse(query, content); },
      [this, tenant = key.tenant, asked = clock_(), done = std::move(done)](Found found) {
        Know(tenant, asked, found.marks);
        done(std::move(found));
      });
}

absl::StatusOr<KeptAnswer> SharedAnswers::Parse(const std::string& query,
                                                std::string_view content) const {
  const absl::Status hostile = absl::DataLossError("it is no answer to this query");
  int64_t given_at = 0;
  uint64_t node_bytes = 0;
  if (!NextNumber(content, &given_at) || !NextNumber(content, &node_bytes) ||
      node_bytes > content.size()) {
    return hostile;
  }
  KeptAnswer answer{.query = query,
                    .first_node = std::string(content.substr(0, node_bytes)),
                    .tokens = {},
                    .given_at = absl::FromUnixMillis(given_at)};
  const absl::Duration age = clock_() - answer.given_at;
  if (age < -kMaxClockSkew) return hostile;
  if (age >= kept_for_) return absl::NotFoundError("it is too old");
  content.remove_prefix(node_bytes);
  if (!answer.tokens.ParseFromArray(content.data(), static_cast<int>(content.size()))) {
    return hostile;
  }
  answer.tokens.DiscardUnknownFields();
  if (!IsSound(graph_, answer)) return hostile;
  return answer;
}

void SharedAnswers::Put(const AnswerKey& key, const KeptAnswer& answer) {
  if (!IsSound(graph_, answer)) return;
  values_.Put(key.Common(), key.marks, Write(answer), kept_for_);
}

}  // namespace octogate::gateway
