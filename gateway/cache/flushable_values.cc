#include "gateway/cache/flushable_values.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/strings.h"
#include "gateway/trace_store.h"

namespace octogate::gateway {
namespace {

// Of what values are found by, and of what they are written as by those who put them too.
constexpr char kFormat[] = "2";
constexpr size_t kMarkBytes = 32;

bool IsMark(std::string_view text) {
  return text.size() == kMarkBytes &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// "MARKS KEY_BYTES " and the key; what was put follows.
std::string Head(std::string_view marks, const std::string& key) {
  return absl::StrCat(ToAbsl(marks), " ", key.size(), " ", key);
}

// What was put, if it stands there. NOT_FOUND where it is not of these marks.
absl::StatusOr<std::string_view> ContentOf(std::string_view value, const std::string& key,
                                           std::string_view marks, size_t max_bytes) {
  const absl::Status hostile = absl::DataLossError("it was not put under this key");
  if (value.size() > max_bytes) return hostile;
  const std::string_view written_marks = value.substr(0, value.find(' '));
  const std::string head = Head(written_marks, key);
  if (value.substr(0, head.size()) != head) return hostile;
  if (marks.empty() || written_marks != marks) return absl::NotFoundError("it was flushed");
  return value.substr(head.size());
}

}  // namespace

FlushableValues::FlushableValues(std::string kind, size_t max_bytes, SharedValues* values,
                                 int64_t version, std::string_view manifest)
    : kind_(std::move(kind)),
      max_bytes_(max_bytes),
      values_(*values),
      identity_(absl::StrCat(kFormat, " ", version, " ", Sha256Hex(manifest), " ")) {}

std::string FlushableValues::NameOf(const std::string& key) const {
  return absl::StrCat(kind_, "/", Sha256Hex(key));
}

std::string FlushableValues::MarkNameOf(const std::string& tenant) const {
  return kind_ + (tenant.empty() ? "/flush-all" : "/flush/" + Sha256Hex(tenant));
}

std::string FlushableValues::MarkOf(const std::string& tenant,
                                    const absl::StatusOr<std::string>& value) {
  if (value.ok() && IsMark(*value)) return *value;
  const bool absent = absl::IsNotFound(value.status());
  if (!value.ok() && !absent && !absl::IsDataLoss(value.status())) return "";
  if (value.ok()) values_.CountRefused();
  std::string mark = NewTraceId();
  values_.Put(MarkNameOf(tenant), mark, kMarkKeptFor, /*if_absent=*/absent);
  // In place of what is no mark it may come after that of a flush, and is of no use before it has
  // been read.
  return absent ? mark : "";
}

void FlushableValues::Read(const std::string& tenant, const std::string& key,
                           std::function<absl::Status(std::string_view content)> parse,
                           std::function<void(std::string marks)> done) {
  std::string whole = identity_ + key;
  // Marks that are read after the value are those in force.
  std::vector<std::string> names = {NameOf(whole), MarkNameOf(""), MarkNameOf(tenant)};
  values_.Get(std::move(names), [this, tenant, whole = std::move(whole), parse = std::move(parse),
                                 done = std::move(done)](const SharedValues::Values& values) {
    const std::string of_all = MarkOf("", values[1]);
    const std::string of_tenant = MarkOf(tenant, values[2]);
    std::string marks;
    if (!of_all.empty() && !of_tenant.empty()) marks = of_all + of_tenant;
    absl::Status status = values[0].status();
    if (status.ok()) {
      const auto content = ContentOf(*values[0], whole, marks, max_bytes_);
      status = content.ok() ? parse(*content) : content.status();
      if (absl::IsDataLoss(status)) values_.CountRefused();
    }
    {
      absl::MutexLock lock(&mutex_);
      ++counts_.lookups;
      if (status.ok()) {
        ++counts_.hits;
      } else if (marks.empty() || !absl::IsNotFound(status)) {
        ++counts_.failures;
      }
    }
    done(std::move(marks));
  });
}

void FlushableValues::Put(const std::string& key, const std::string& marks,
                          std::string_view content, absl::Duration kept_for) {
  if (marks.empty()) return;
  const std::string whole = identity_ + key;
  std::string value = Head(marks, whole);
  value.append(content);
  if (value.size() > max_bytes_) return;
  values_.Put(NameOf(whole), std::move(value), kept_for);
  absl::MutexLock lock(&mutex_);
  ++counts_.writes;
}

absl::Status FlushableValues::Flush(const std::string& tenant, absl::Time deadline) {
  return values_.PutNow(MarkNameOf(tenant), NewTraceId(), kMarkKeptFor, deadline);
}

CacheCounts FlushableValues::Counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

}  // namespace octogate::gateway
