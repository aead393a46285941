#include "gateway/trace_store.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/utf8.h"

namespace octogate::gateway {
namespace {

bool Entered(const v1::Trace& trace, std::string_view node) {
  return std::any_of(trace.events().begin(), trace.events().end(), [&](const v1::TraceEvent& e) {
    return e.event().has_node_entered() && e.event().node_entered().node() == node;
  });
}

// Names of tenants are any text, and the server need not see them.
std::string StreamOf(const std::string& tenant) { return Sha256Hex(tenant); }

// Microseconds since 1970; of a hostile trace any number.
double EndOf(const v1::Trace& trace) {
  return 1000.0 * static_cast<double>(trace.started_at_ms()) +
         static_cast<double>(trace.duration_us());
}

constexpr absl::Duration kMaxWriteTime = absl::Seconds(1);
constexpr size_t kMaxBatch = 64;

}  // namespace

std::string NewTraceId() {
  thread_local absl::BitGen random;
  return absl::StrCat(absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16),
                      absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
}

TraceStore::TraceStore(const TraceStoreOptions& options)
    : options_(options), tokens_(options.traces_per_second), refilled_(options.clock()) {
  if (options_.shared != nullptr) sharing_ = std::thread([this] { Share(); });
}

TraceStore::~TraceStore() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (sharing_.joinable()) sharing_.join();
}

bool TraceStore::Sample() {
  const absl::Time now = options_.clock();
  absl::MutexLock lock(&mutex_);
  const double elapsed = std::max(0.0, absl::ToDoubleSeconds(now - refilled_));
  refilled_ = now;
  // A burst of one second's worth.
  tokens_ = std::min(tokens_ + elapsed * options_.traces_per_second, options_.traces_per_second);
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

void TraceStore::Add(v1::Trace trace) {
  const auto shared = std::make_shared<const v1::Trace>(std::move(trace));
  const size_t bytes = shared->SpaceUsedLong();
  std::vector<Entry> dropped;  // freed without the lock
  absl::MutexLock lock(&mutex_);
  if (options_.shared != nullptr) {
    if (queue_.size() >= kMaxQueued || queued_bytes_ + bytes > kMaxQueuedBytes) {
      ++stats_.dropped;
    } else {
      queued_bytes_ += bytes;
      queue_.push_back({shared, bytes});
    }
  }
  if (bytes > options_.max_bytes || options_.max_traces == 0) return;
  while (!entries_.empty() &&
         (entries_.size() >= options_.max_traces || bytes_ + bytes > options_.max_bytes)) {
    bytes_ -= entries_.front().bytes;
    by_id_.erase(entries_.front().trace->trace_id());
    dropped.push_back(std::move(entries_.front()));
    entries_.pop_front();
  }
  by_id_[shared->trace_id()] = shared;
  entries_.push_back({shared, bytes});
  bytes_ += bytes;
}

std::shared_ptr<const v1::Trace> TraceStore::TraceOf(const RecordStreams::Record& record) const {
  auto trace = std::make_shared<v1::Trace>();
  if (record.value.size() <= kMaxSharedBytes && trace->ParseFromString(record.value) &&
      trace->trace_id() == record.id && StreamOf(trace->tenant()) == record.stream) {
    return trace;
  }
  absl::MutexLock lock(&mutex_);
  ++stats_.damaged;
  return nullptr;
}

void TraceStore::Share() {
  for (;;) {
    Traces batch;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &TraceStore::HasQueued));
      if (stopping_) return;
      while (!queue_.empty() && batch.size() < kMaxBatch) {
        batch.push_back(std::move(queue_.front().trace));
        queued_bytes_ -= queue_.front().bytes;
        queue_.pop_front();
      }
    }
    std::vector<RecordStreams::Record> records;
    for (const auto& trace : batch) {
      std::string value = trace->SerializeAsString();
      if (value.size() > kMaxSharedBytes) continue;
      records.push_back({StreamOf(trace->tenant()), trace->trace_id(), std::move(value)});
    }
    const std::vector<absl::Status> results =
        options_.shared->Append(records, absl::Now() + kMaxWriteTime);
    const auto written = static_cast<uint64_t>(
        std::count_if(results.begin(), results.end(), [](const auto& s) { return s.ok(); }));
    absl::MutexLock lock(&mutex_);
    stats_.written += written;
    stats_.dropped += batch.size() - written;
  }
}

absl::StatusOr<std::shared_ptr<const v1::Trace>> TraceStore::Get(const std::string& trace_id,
                                                                 absl::Time deadline) const {
  const bool ask = options_.shared != nullptr && deadline > absl::Now();
  size_t kept = 0;
  Traces last;
  {
    absl::MutexLock lock(&mutex_);
    kept = entries_.size();
    if (trace_id == "last") {
      if (!entries_.empty()) last.push_back(entries_.back().trace);
    } else if (const auto found = by_id_.find(trace_id); found != by_id_.end()) {
      return found->second;
    }
  }
  if (trace_id == "last") {
    if (ask) last = Together(std::move(last), 1, deadline);
    if (!last.empty()) return last.front();
    return absl::NotFoundError("there is no trace yet");
  }
  if (ask) {
    const absl::StatusOr<RecordStreams::Record> record =
        options_.shared->Find(trace_id, std::min(deadline, absl::Now() + kMaxReadTime));
    if (record.ok()) {
      if (auto trace = TraceOf(*record); trace != nullptr && record->id == trace_id) return trace;
    } else if (absl::IsDataLoss(record.status())) {
      absl::MutexLock lock(&mutex_);
      ++stats_.damaged;
    } else if (!absl::IsNotFound(record.status())) {
      return absl::UnavailableError(
          absl::StrCat("this gateway has no trace \"", SanitizeUtf8(trace_id, 64),
                       "\", and those of others cannot be read now: ", record.status().message()));
    }
  }
  return absl::NotFoundError(absl::StrCat("there is no trace \"", SanitizeUtf8(trace_id, 64),
                                          "\": the last ", kept, " are kept"));
}

TraceStore::Traces TraceStore::Together(Traces own, size_t limit, absl::Time deadline) const {
  const auto records = options_.shared->Newest(std::min(limit, kMaxListed), kMaxListedBytes,
                                               std::min(deadline, absl::Now() + kMaxReadTime));
  if (!records.ok()) return own;
  absl::flat_hash_set<std::string> known;
  for (const auto& trace : own) known.insert(trace->trace_id());
  for (const RecordStreams::Record& record : *records) {
    if (known.contains(record.id)) continue;
    auto trace = TraceOf(record);
    if (trace != nullptr && known.insert(record.id).second) own.push_back(std::move(trace));
  }
  std::stable_sort(own.begin(), own.end(), [](const auto& a, const auto& b) {
    return std::pair(EndOf(*a), std::string_view(a->trace_id())) >
           std::pair(EndOf(*b), std::string_view(b->trace_id()));
  });
  if (own.size() > limit) own.resize(limit);
  return own;
}

std::vector<std::shared_ptr<const v1::Trace>> TraceStore::List(size_t limit, std::string_view node,
                                                               absl::Time deadline) const {
  Traces all;
  const bool ask = options_.shared != nullptr && deadline > absl::Now();
  {
    absl::MutexLock lock(&mutex_);
    for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
      if (node.empty() && all.size() >= limit) break;
      all.push_back(entry->trace);
    }
  }
  if (ask) {
    const size_t wanted = node.empty() ? limit : std::numeric_limits<size_t>::max();
    all = Together(std::move(all), wanted, deadline);
  }
  if (!node.empty()) {
    all.erase(std::remove_if(all.begin(), all.end(),
                             [&](const auto& trace) { return !Entered(*trace, node); }),
              all.end());
    if (all.size() > limit) all.resize(limit);
  }
  return all;
}

TraceStore::Stats TraceStore::stats() const {
  absl::MutexLock lock(&mutex_);
  return stats_;
}

TraceRecorder::TraceRecorder(std::string trace_id, absl::Time started, std::string_view query,
                             std::string_view tenant, int64_t graph_version) {
  trace_.set_trace_id(std::move(trace_id));
  trace_.set_started_at_ms(absl::ToUnixMillis(started));
  trace_.set_query(std::string(TruncateUtf8(query, kMaxQueryBytes)));
  trace_.set_tenant(std::string(tenant));
  trace_.set_graph_version(graph_version);
}

void TraceRecorder::Record(absl::Duration since_start, const v1::GenerateResponse& event) {
  const size_t room = kMaxTextBytes - text_bytes_;
  if (event.has_tokens()) {
    const v1::Tokens& tokens = event.tokens();
    // Ids count as text does.
    const size_t bytes = tokens.text().size() + size_t{4} * tokens.ids_size();
    if (bytes > room) {
      text_bytes_ = kMaxTextBytes;
      return;
    }
    text_bytes_ += bytes;
    if (trace_.events_size() > 0) {
      v1::TraceEvent& last = *trace_.mutable_events(trace_.events_size() - 1);
      if (last.event().has_tokens() && last.event().tokens().node() == tokens.node()) {
        v1::Tokens& joined = *last.mutable_event()->mutable_tokens();
        joined.mutable_text()->append(tokens.text());
        joined.mutable_ids()->MergeFrom(tokens.ids());
        return;
      }
    }
    v1::TraceEvent& added = *trace_.add_events();
    added.set_at_us(absl::ToInt64Microseconds(since_start));
    v1::Tokens& copy = *added.mutable_event()->mutable_tokens();
    copy.set_node(tokens.node());
    copy.set_text(tokens.text());
    *copy.mutable_ids() = tokens.ids();
    return;
  }
  v1::TraceEvent& added = *trace_.add_events();
  added.set_at_us(absl::ToInt64Microseconds(since_start));
  *added.mutable_event() = event;
  if (event.has_node_entered()) {
    std::string& input = *added.mutable_event()->mutable_node_entered()->mutable_input();
    input = std::string(TruncateUtf8(input, room));
    text_bytes_ += input.size();
  } else if (event.has_decision()) {
    std::string& argument = *added.mutable_event()->mutable_decision()->mutable_argument();
    argument = std::string(TruncateUtf8(argument, room));
    text_bytes_ += argument.size();
  } else if (event.has_linked()) {
    v1::LinkSchemaResponse& link = *added.mutable_event()->mutable_linked()->mutable_link();
    link.clear_allowed_identifiers();  // The tables say them, too.
    if (link.ByteSizeLong() > room) {
      link.clear_tables();
      link.clear_joins();
      link.clear_disconnected();
      link.clear_dropped();
      link.clear_truncated_values();
    }
    text_bytes_ += std::min(room, link.ByteSizeLong());
  }
}

v1::Trace TraceRecorder::Finish(absl::Duration duration, const absl::Status& status) {
  trace_.set_duration_us(absl::ToInt64Microseconds(duration));
  trace_.set_code(static_cast<int>(status.code()));
  trace_.set_error(std::string(status.message()));
  return std::move(trace_);
}

}  // namespace octogate::gateway
