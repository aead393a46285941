#include "gateway/cache/shared_decisions.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status.h"
#include "gateway/cache/decision_cache.h"
#include "router/node_bounds.h"
#include "router/router.h"

namespace octogate::gateway {
namespace {

// Of what a decision is found by, and of what it is written as.
constexpr char kFormat[] = "1";

// "MARKS KEY_BYTES ", the key, and the decision as protobuf.
std::string Head(const std::string& marks, const std::string& key) {
  return absl::StrCat(marks, " ", key.size(), " ", key);
}

}  // namespace

SharedDecisions::SharedDecisions(SharedValues* values, Clock clock, const v1::Graph* graph,
                                 int64_t version, std::string_view manifest)
    : values_(*values),
      clock_(clock),
      graph_(*graph),
      version_(version),
      identity_(absl::StrCat(kFormat, " ", version, " ", Sha256Hex(manifest), " ")),
      flushes_("decisions", values, absl::ZeroDuration(), clock) {}

std::string SharedDecisions::NameOf(const Query& query) const {
  return "decisions/" + Sha256Hex(identity_ + query.key);
}

void SharedDecisions::Get(Query query, std::function<void(Found found)> done) {
  std::vector<std::string> names = flushes_.Names(query.tenant);
  names.insert(names.begin(), NameOf(query));
  values_.Get(std::move(names),
              [this, query = std::move(query), asked = clock_(), done = std::move(done)](
                  SharedValues::Values values) { done(OnValues(query, asked, values)); });
}

SharedDecisions::Found SharedDecisions::OnValues(const Query& query, absl::Time asked,
                                                 const SharedValues::Values& values) {
  Found found;
  found.marks = flushes_.Take(query.tenant, asked, values[1], values[2]);
  absl::Status status = values[0].status();
  if (status.ok()) {
    absl::StatusOr<v1::Decision> decision = Read(query, found.marks, *values[0]);
    status = decision.status();
    if (status.ok()) found.decision = *std::move(decision);
    if (absl::IsDataLoss(status)) values_.CountRefused();
  }
  absl::MutexLock lock(&mutex_);
  ++counts_.lookups;
  if (found.decision.has_value()) {
    ++counts_.hits;
  } else if (found.marks.empty() || !absl::IsNotFound(status)) {
    ++counts_.failures;
  }
  return found;
}

absl::StatusOr<v1::Decision> SharedDecisions::Read(const Query& query, const std::string& marks,
                                                   std::string_view value) const {
  const absl::Status hostile = absl::DataLossError("it is no decision of this query");
  const size_t end_of_marks = value.find(' ');
  if (value.size() > kMaxBytes || end_of_marks == std::string_view::npos) return hostile;
  const std::string_view written_marks = value.substr(0, end_of_marks);
  const std::string head = Head(std::string(written_marks), query.key);
  if (value.substr(0, head.size()) != head) return hostile;
  if (marks.empty() || written_marks != marks) return absl::NotFoundError("it was flushed");
  value.remove_prefix(head.size());
  v1::Decision decision;
  if (!decision.ParseFromArray(value.data(), static_cast<int>(value.size()))) return hostile;
  decision.DiscardUnknownFields();
  if (!IsSound(query, decision)) return hostile;
  return DecisionCache::AsKept(std::move(decision));
}

bool SharedDecisions::IsSound(const Query& query, const v1::Decision& decision) const {
  const v1::Node* const router = router::FindNode(graph_, query.router);
  if (router == nullptr || !router->has_router()) return false;
  const v1::RouterNode& choices = router->router();
  const auto is_choice = [&](const std::string& name) {
    return name == choices.fallback() ||
           std::find(choices.members().begin(), choices.members().end(), name) !=
               choices.members().end();
  };
  return decision.router() == query.router && decision.graph_version() == version_ &&
         is_choice(decision.node()) && router::IsRepeatable(decision);
}

void SharedDecisions::Put(const Query& query, const std::string& marks,
                          const v1::Decision& decision) {
  if (marks.empty() || !IsSound(query, decision)) return;
  std::string value = Head(marks, query.key);
  DecisionCache::AsKept(decision).AppendToString(&value);
  if (value.size() > kMaxBytes) return;
  values_.Put(NameOf(query), std::move(value), kKeptFor);
  absl::MutexLock lock(&mutex_);
  ++counts_.writes;
}

CacheCounts SharedDecisions::Counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

}  // namespace octogate::gateway
