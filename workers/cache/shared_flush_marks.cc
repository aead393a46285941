#include "workers/cache/shared_flush_marks.h"

#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/status_macros.h"

namespace octogate::workers {
namespace {

// Attempts to replace marks while others do.
constexpr int kMaxAttempts = 8;
// After they were written, which is done again long before: more than pages are kept.
constexpr absl::Duration kKeptFor = absl::Hours(24 * 31);
constexpr absl::Duration kRewritten = absl::Hours(24);
// KEYS: the marks. ARGV: new ones, milliseconds until they expire, and, where some are expected,
// those. What is no text counts as none. Returns whether the present ones were those expected.
constexpr std::string_view kReplace = R"(
local present = redis.pcall('GET', KEYS[1])
if type(present) ~= 'string' then present = nil end
if present ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
)";

std::string FreshId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x", random(), random(), random());
}

}  // namespace

SharedFlushMarks::SharedFlushMarks(std::shared_ptr<RedisClient> client, Options options)
    : client_(std::move(client)), options_(std::move(options)), thread_([this] { Watch(); }) {
  // So that the first sequence can share already.
  asked_.WaitFor(options_.timeout);
}

SharedFlushMarks::~SharedFlushMarks() {
  Stop();
  thread_.join();
}

void SharedFlushMarks::Stop() {
  stopping_ = true;
  due_.Set();
}

ContextFilter SharedFlushMarks::Take() {
  if (!changed_.load(std::memory_order_acquire)) return nullptr;
  absl::MutexLock lock(&mutex_);
  changed_ = false;
  ContextFilter flushed = FlushedBetween(taken_, *known_, options_.secret);
  taken_ = known_;
  return flushed;
}

bool SharedFlushMarks::IsCurrent() const {
  const RedisClient::Shard now = client_->ShardStateOf(options_.name);
  absl::MutexLock lock(&mutex_);
  if (read_from_ == now) return taken_.has_value();
  // Once: what fails is tried again after the interval, or over the next connections.
  if (now.reachable && tried_ != now) due_.Set();
  return false;
}

std::string SharedFlushMarks::EpochOfTaken(std::string_view context) const {
  absl::MutexLock lock(&mutex_);
  return taken_ ? EpochOf(*taken_, context, options_.secret) : "";
}

absl::Status SharedFlushMarks::Sync(const PageFlush* flush, absl::Time deadline) {
  const RedisTerms terms(deadline, RedisCallKind::kBulk);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const RedisClient::Shard read_from = client_->ShardStateOf(options_.name);
    if (flush == nullptr) {
      absl::MutexLock lock(&mutex_);
      tried_ = read_from;
    }
    absl::StatusOr<RedisReply> reply = client_->Call({"GET", options_.name}, terms);
    // Something else than a text stands there.
    if (absl::IsInternal(reply.status())) reply = RedisReply();
    OCTOGATE_RETURN_IF_ERROR(reply.status());
    // The first call to a cluster finds out who has them.
    if (attempt == 0 && client_->ShardStateOf(options_.name) != read_from) continue;
    const bool is_text = reply->kind == RedisReply::Kind::kText;
    const absl::StatusOr<FlushMarks> stored =
        OpenMarks(is_text ? reply->text : "", options_.name, options_.secret);
    FlushMarks marks;
    bool is_due = false;
    {
      absl::MutexLock lock(&mutex_);
      marks = known_.value_or(FlushMarks());
      is_due = SteadyNow() - written_ > kRewritten;
    }
    if (stored.ok()) marks = MergeMarks(marks, *stored);
    // Never those of before once more, which may have been lost.
    if (marks.all.number == 0) marks.all = {.number = 1, .id = FreshId()};
    if (flush != nullptr) OCTOGATE_RETURN_IF_ERROR(AddMark(*flush, options_.secret, marks));
    const bool is_new = !stored.ok() || marks != *stored;
    bool is_written = false;
    if (is_new || is_due) {
      const std::string sealed = SealMarks(marks, options_.name, options_.secret);
      const std::string kept_for = absl::StrCat(absl::ToInt64Milliseconds(kKeptFor));
      std::vector<std::string_view> replace = {"EVAL",        kReplace, "1",
                                               options_.name, sealed,   kept_for};
      if (is_text) replace.push_back(reply->text);
      const absl::StatusOr<RedisReply> replaced = client_->Call(replace, terms);
      is_written = replaced.ok() && replaced->integer == 1;
      if (is_new && !replaced.ok()) return replaced.status();
      if (is_new && !is_written) continue;
    }
    absl::MutexLock lock(&mutex_);
    if (is_written) written_ = SteadyNow();
    known_ = known_ ? MergeMarks(*known_, marks) : marks;
    read_from_ = read_from;
    if (known_ != taken_) changed_ = true;
    return absl::OkStatus();
  }
  return absl::AbortedError(
      absl::StrCat("other flushes came first ", kMaxAttempts, " times; flush again"));
}

void SharedFlushMarks::Watch() {
  while (!stopping_) {
    // What fails is tried again then.
    Sync(nullptr, absl::Now() + options_.timeout).IgnoreError();
    asked_.Set();
    due_.WaitFor(options_.interval);
  }
}

}  // namespace octogate::workers
