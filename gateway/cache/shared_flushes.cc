#include "gateway/cache/shared_flushes.h"

#include <utility>

#include "common/digest.h"
#include "gateway/trace_store.h"

namespace octogate::gateway {
namespace {

constexpr size_t kMarkBytes = 32;

bool IsMark(std::string_view text) {
  return text.size() == kMarkBytes &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

SharedFlushes::SharedFlushes(std::string kind, SharedValues* values, absl::Duration believed_for,
                             Clock clock)
    : kind_(std::move(kind)),
      values_(*values),
      believed_for_(believed_for),
      clock_(std::move(clock)) {}

std::string SharedFlushes::NameOf(const std::string& tenant) const {
  return kind_ + (tenant.empty() ? "/flush-all" : "/flush/" + Sha256Hex(tenant));
}

std::vector<std::string> SharedFlushes::Names(const std::string& tenant) const {
  return {NameOf(""), NameOf(tenant)};
}

std::string SharedFlushes::MarkOf(const std::string& name,
                                  const absl::StatusOr<std::string>& value) {
  if (value.ok() && IsMark(*value)) return *value;
  const bool absent = absl::IsNotFound(value.status());
  if (!value.ok() && !absent && !absl::IsDataLoss(value.status())) return "";
  if (value.ok()) values_.CountRefused();
  std::string mark = NewTraceId();
  values_.Put(name, mark, kMarkKeptFor, /*if_absent=*/absent);
  // In place of what is no mark it may come after that of a flush, and is of no use before it has
  // been read.
  return absent ? mark : "";
}

std::string SharedFlushes::Take(const std::string& tenant, absl::Time asked,
                                const absl::StatusOr<std::string>& of_all,
                                const absl::StatusOr<std::string>& of_tenant) {
  const std::string all = MarkOf(NameOf(""), of_all);
  const std::string own = MarkOf(NameOf(tenant), of_tenant);
  const std::string marks = all.empty() || own.empty() ? std::string() : all + own;
  absl::MutexLock lock(&mutex_);
  if (!known_.contains(tenant) && known_.size() >= kMaxTenants) known_.clear();
  Known& known = known_[tenant];
  // What was asked later knows better.
  if (asked >= known.asked) {
    known.asked = asked;
    if (!marks.empty()) known.marks = marks;
  }
  return marks;
}

std::string SharedFlushes::Marks(const std::string& tenant) const {
  absl::MutexLock lock(&mutex_);
  const auto known = known_.find(tenant);
  return known == known_.end() ? std::string() : known->second.marks;
}

bool SharedFlushes::Believes(const std::string& tenant, std::string_view marks) const {
  const absl::Time now = clock_();
  absl::MutexLock lock(&mutex_);
  const auto known = known_.find(tenant);
  if (known == known_.end() || known->second.marks != marks) return false;
  // A clock that was set back makes nothing believed for longer.
  return now >= known->second.asked && now < known->second.asked + believed_for_;
}

absl::Status SharedFlushes::Flush(const std::string& tenant, absl::Time deadline) {
  return values_.PutNow(NameOf(tenant), NewTraceId(), kMarkKeptFor, deadline);
}

}  // namespace octogate::gateway
