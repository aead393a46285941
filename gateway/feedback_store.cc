#include "gateway/feedback_store.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

constexpr std::string_view kPrefix = "feedback/";

// Tenants are any text: their digests are names of one length that cannot run into each other.
std::string PrefixOf(std::string_view tenant) {
  return absl::StrCat(ToAbsl(kPrefix), Sha256Hex(tenant), "/");
}

std::string KeyOf(const v1::FeedbackEntry& entry) {
  return PrefixOf(entry.tenant()) + entry.trace_id();
}

}  // namespace

FeedbackStore::FeedbackStore(Store* store, FeedbackStoreOptions options)
    : store_(*store), options_(std::move(options)) {}

absl::StatusOr<std::vector<std::string>> FeedbackStore::Keys(std::string_view prefix,
                                                             absl::Time deadline) {
  constexpr size_t kPageSize = 1000;
  std::vector<std::string> all;
  // Never more than there can be, whatever the store says.
  while (all.size() <= options_.max_entries) {
    OCTOGATE_ASSIGN_OR_RETURN(
        std::vector<std::string> keys,
        store_.List(prefix, all.empty() ? std::string() : all.back(), kPageSize, deadline));
    const size_t count = keys.size();
    std::move(keys.begin(), keys.end(), std::back_inserter(all));
    if (count < kPageSize) break;
  }
  return all;
}

absl::Status FeedbackStore::Add(v1::FeedbackEntry entry, absl::Time deadline) {
  const std::string key = KeyOf(entry);
  const std::string prefix = PrefixOf(entry.tenant());
  const absl::Time now = options_.clock();
  entry.set_given_at_ms(absl::ToUnixMillis(now));
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> keys, Keys(kPrefix, deadline));
  if (!std::binary_search(keys.begin(), keys.end(), key)) {
    const auto of_tenant = std::count_if(keys.begin(), keys.end(), [&](const std::string& other) {
      return other.rfind(prefix, 0) == 0;
    });
    if (static_cast<size_t>(of_tenant) >= options_.max_entries_per_tenant ||
        keys.size() >= options_.max_entries) {
      return absl::ResourceExhaustedError(
          absl::StrCat("there is as much feedback as is kept: ", of_tenant,
                       " entries of this tenant, ", keys.size(), " in all"));
    }
  }
  return store_.Put(key, entry.SerializeAsString(), now + options_.kept_for, deadline);
}

absl::StatusOr<std::vector<v1::FeedbackEntry>> FeedbackStore::List(std::string_view tenant,
                                                                   absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(
      const std::vector<std::string> keys,
      Keys(tenant.empty() ? std::string(kPrefix) : PrefixOf(tenant), deadline));
  std::vector<v1::FeedbackEntry> entries;
  for (const std::string& key : keys) {
    const absl::StatusOr<std::string> value = store_.Get(key, deadline);
    if (absl::IsNotFound(value.status())) continue;  // It has expired since.
    if (!value.ok()) return value.status();
    v1::FeedbackEntry entry;
    if (entry.ParseFromString(*value) && KeyOf(entry) == key) entries.push_back(std::move(entry));
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.given_at_ms() > b.given_at_ms(); });
  return entries;
}

absl::Status FeedbackStore::Delete(const v1::FeedbackEntry& entry, absl::Time deadline) {
  return store_.Delete(KeyOf(entry), deadline);
}

}  // namespace octogate::gateway
