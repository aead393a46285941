#include "router/graph_store.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <random>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::router {
namespace {

// Versions are stored under names in their numeric order.
constexpr std::string_view kPrefix = "graph/version/";
constexpr int kDigits = 19;
// The revision of the list and the names of drained nodes, in a line each.
constexpr std::string_view kDrainedKey = "graph/drained";
// The last flush and the one before, and the tenant, whose name may have any bytes: of two lines
// and a rest.
constexpr std::string_view kFlushKey = "graph/flush";
// What is notified when any of these changes.
constexpr std::string_view kTopic = "graph";
constexpr absl::Duration kNotifyTime = absl::Seconds(1);
// List is asked for no more at once.
constexpr size_t kPageSize = 1000;
// More names than anyone writes: a store that lists more is not believed.
constexpr size_t kMaxNames = 100'000;
// The highest number of a version, one more than which is a number, too.
constexpr int64_t kMaxVersion = std::numeric_limits<int64_t>::max() - 1;

std::string KeyOf(int64_t version) {
  return absl::StrFormat("%s%0*d", std::string(kPrefix), kDigits, version);
}

// A record is the size of the info, a line feed, the info, and the manifest.
std::string Encode(const v1::GraphVersion& info, std::string_view manifest) {
  const std::string bytes = info.SerializeAsString();
  return absl::StrCat(bytes.size(), "\n", bytes, ToAbsl(manifest));
}

// Info and manifest; the graph is not parsed.
absl::StatusOr<StoredGraph> Decode(const std::string& record, int64_t version) {
  const auto damaged = [version](std::string_view why) {
    return absl::DataLossError(
        absl::StrCat("version ", version, " of the graph is damaged: ", ToAbsl(why)));
  };
  const size_t line_end = record.find('\n');
  uint64_t info_bytes = 0;
  if (line_end == std::string::npos ||
      !absl::SimpleAtoi(record.substr(0, std::min<size_t>(line_end, 20)), &info_bytes) ||
      info_bytes > record.size() - line_end - 1) {
    return damaged("it has no header");
  }
  StoredGraph stored;
  if (!stored.info.ParseFromArray(record.data() + line_end + 1, static_cast<int>(info_bytes)) ||
      stored.info.version() != version) {
    return damaged("its header is not that of this version");
  }
  stored.manifest = record.substr(line_end + 1 + info_bytes);
  if (Sha256Hex(stored.manifest) != stored.info.digest()) {
    return damaged("its manifest does not match its digest");
  }
  return stored;
}

std::string EncodeDrained(const DrainedNodes& drained) {
  std::string text = absl::StrCat(drained.revision, "\n");
  for (const std::string& name : drained.names) absl::StrAppend(&text, name, "\n");
  return text;
}

std::string EncodeFlush(const CacheFlush& flush) {
  return absl::StrCat(flush.id, "\n", flush.before, "\n", flush.tenant);
}

// `applied` is empty where nothing is.
absl::Status CheckExpected(const ExpectedGraph& expected, const v1::GraphVersion& applied) {
  if (expected.version != 0 && expected.version != applied.version()) {
    return absl::AbortedError(
        absl::StrCat("version ", expected.version, " was expected to be applied, but ",
                     applied.version() == 0 ? "none is" : absl::StrCat(applied.version(), " is"),
                     "; look at it and apply again"));
  }
  if (!expected.digest.empty() && expected.digest != applied.digest()) {
    return absl::AbortedError(absl::StrCat("version ", applied.version(),
                                           " is applied, but is another graph than was seen under "
                                           "this number; look at it and apply again"));
  }
  return absl::OkStatus();
}

}  // namespace

GraphStore::GraphStore(Store* store, GraphStoreOptions options)
    : store_(*store), options_(std::move(options)) {}

absl::StatusOr<std::vector<std::string>> GraphStore::Names(std::string_view prefix,
                                                           absl::Time deadline) {
  std::vector<std::string> names;
  std::string after;
  while (true) {
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> keys,
                              store_.List(prefix, after, kPageSize, deadline));
    for (const std::string& key : keys) {
      if (!key.starts_with(prefix) || key <= after) {
        return absl::DataLossError("the store lists names that were not asked for");
      }
      if (names.size() == kMaxNames) {
        return absl::DataLossError(
            absl::StrCat("the store has more than ", kMaxNames, " names under ", ToAbsl(prefix)));
      }
      names.push_back(key.substr(prefix.size()));
      after = key;
    }
    if (keys.size() < kPageSize) return names;
  }
}

absl::StatusOr<std::vector<int64_t>> GraphStore::Versions(absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(kPrefix, deadline));
  std::vector<int64_t> versions;
  for (const std::string& name : names) {
    int64_t version = 0;
    const bool is_number = absl::SimpleAtoi(name, &version);
    if (is_number && version > 0 && version <= kMaxVersion) versions.push_back(version);
  }
  std::sort(versions.rbegin(), versions.rend());
  return versions;
}

absl::StatusOr<bool> GraphStore::IsNewest(int64_t version, absl::Time deadline) {
  const std::string key = KeyOf(version);
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            store_.List(kPrefix, KeyOf(version - 1), 2, deadline));
  return names.size() == 1 && names.front() == key;
}

absl::StatusOr<v1::GraphVersion> GraphStore::Newest(absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<int64_t> versions, Versions(deadline));
  if (versions.empty()) return absl::NotFoundError("no graph has been applied yet");
  OCTOGATE_ASSIGN_OR_RETURN(const std::string record,
                            store_.Get(KeyOf(versions.front()), deadline));
  OCTOGATE_ASSIGN_OR_RETURN(StoredGraph stored, Decode(record, versions.front()));
  return std::move(stored.info);
}

absl::Status GraphStore::PutBack(const StoredGraph& graph, absl::Time deadline) {
  v1::GraphVersion info = graph.info;
  info.set_name(graph.graph.metadata().name());
  info.set_applied_at_ms(absl::ToUnixMillis(options_.clock()));
  info.set_digest(Sha256Hex(graph.manifest));
  info.set_nodes(graph.graph.spec().nodes_size());
  info.clear_active();
  OCTOGATE_RETURN_IF_ERROR(store_.CompareAndSet(KeyOf(info.version()), std::nullopt,
                                                Encode(info, graph.manifest),
                                                absl::InfiniteFuture(), deadline));
  NotifyChange(deadline);
  return absl::OkStatus();
}

absl::StatusOr<DrainedNodes> GraphStore::Drained(absl::Time deadline) {
  const absl::StatusOr<std::string> text = store_.Get(kDrainedKey, deadline);
  if (absl::IsNotFound(text.status())) return DrainedNodes();
  OCTOGATE_RETURN_IF_ERROR(text.status());
  DrainedNodes drained;
  drained.names = absl::StrSplit(*text, '\n');
  const bool is_number = absl::SimpleAtoi(drained.names.front(), &drained.revision);
  drained.names.erase(drained.names.begin());
  if (!drained.names.empty()) drained.names.pop_back();  // behind the last line
  // One more than the revision is a number, too.
  if (!is_number || drained.revision <= 0 || drained.revision > kMaxVersion ||
      !std::is_sorted(drained.names.begin(), drained.names.end()) ||
      EncodeDrained(drained) != *text) {
    return absl::DataLossError("the list of drained nodes is damaged");
  }
  return drained;
}

absl::Status GraphStore::SetDrained(const DrainedNodes& seen, const DrainedNodes& drained,
                                    absl::Time deadline) {
  const std::string before = EncodeDrained(seen);
  const auto expected = seen.revision == 0 ? std::nullopt : std::optional<std::string_view>(before);
  OCTOGATE_RETURN_IF_ERROR(store_.CompareAndSet(kDrainedKey, expected, EncodeDrained(drained),
                                                absl::InfiniteFuture(), deadline));
  NotifyChange(deadline);
  return absl::OkStatus();
}

absl::Status GraphStore::ForgetDrained(absl::Time deadline) {
  return store_.Delete(kDrainedKey, deadline);
}

absl::StatusOr<CacheFlush> GraphStore::LastFlush(absl::Time deadline) {
  const absl::StatusOr<std::string> text = store_.Get(kFlushKey, deadline);
  if (absl::IsNotFound(text.status())) return CacheFlush();
  OCTOGATE_RETURN_IF_ERROR(text.status());
  const std::vector<std::string> parts = absl::StrSplit(*text, absl::MaxSplits('\n', 2));
  if (parts.size() != 3 || parts[0].empty()) {
    return absl::DataLossError("the last flush in the store is damaged");
  }
  return CacheFlush{.id = parts[0], .before = parts[1], .tenant = parts[2]};
}

absl::StatusOr<CacheFlush> GraphStore::Flush(std::string_view tenant, absl::Time deadline) {
  for (;;) {
    absl::StatusOr<CacheFlush> before = LastFlush(deadline);
    if (absl::IsDataLoss(before.status())) {
      OCTOGATE_RETURN_IF_ERROR(store_.Delete(kFlushKey, deadline));
      before = CacheFlush();
    }
    OCTOGATE_RETURN_IF_ERROR(before.status());
    std::random_device random;
    CacheFlush flush{.id = absl::StrFormat("%08x%08x%08x", random(), random(), random()),
                     .before = before->id,
                     .tenant = std::string(tenant)};
    const std::string present = EncodeFlush(*before);
    const auto expected =
        before->id.empty() ? std::nullopt : std::optional<std::string_view>(present);
    const absl::Status written = store_.CompareAndSet(kFlushKey, expected, EncodeFlush(flush),
                                                      absl::InfiniteFuture(), deadline);
    if (absl::IsAborted(written)) continue;  // another gateway was faster
    OCTOGATE_RETURN_IF_ERROR(written);
    NotifyChange(deadline);
    return flush;
  }
}

std::unique_ptr<StoreWatch> GraphStore::WatchChanges(std::function<void()> on_changed) {
  return store_.Watch(kTopic, std::move(on_changed));
}

void GraphStore::NotifyChange(absl::Time deadline) {
  // Who is not told finds it by polling.
  (void)store_.Notify(kTopic, std::min(deadline, absl::Now() + kNotifyTime));
}

absl::StatusOr<StoredGraph> GraphStore::Read(int64_t version, absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string record, store_.Get(KeyOf(version), deadline));
  OCTOGATE_ASSIGN_OR_RETURN(StoredGraph stored, Decode(record, version));
  absl::StatusOr<GraphManifest> manifest =
      ParseGraphManifest(stored.manifest, absl::StrCat("version ", version), options_.checks);
  if (!manifest.ok()) return manifest.status();
  stored.graph = std::move(manifest->graph);
  return stored;
}

absl::StatusOr<StoredGraph> GraphStore::Load(absl::Time deadline,
                                             std::vector<std::string>* warnings) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<int64_t> versions, Versions(deadline));
  if (versions.empty()) return absl::NotFoundError("no graph has been applied yet");
  for (const int64_t version : versions) {
    absl::StatusOr<StoredGraph> stored = Read(version, deadline);
    if (stored.ok()) {
      stored->info.set_active(true);
      return stored;
    }
    const absl::StatusCode code = stored.status().code();
    if (code != absl::StatusCode::kDataLoss && code != absl::StatusCode::kInvalidArgument &&
        code != absl::StatusCode::kNotFound) {
      return stored.status();
    }
    warnings->push_back(absl::StrCat(
        "WARNING: version ", version,
        " of the graph cannot be used and an EARLIER one is tried: ", stored.status().message()));
  }
  return absl::DataLossError(absl::StrCat("none of the ", versions.size(),
                                          " versions of the graph can be used; apply one again. ",
                                          warnings->front()));
}

absl::StatusOr<StoredGraph> GraphStore::Apply(std::string_view manifest, std::string_view source,
                                              const ExpectedGraph& expected, absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(GraphManifest parsed,
                            ParseGraphManifest(manifest, source, options_.checks));
  StoredGraph stored;
  stored.graph = std::move(parsed.graph);
  stored.manifest = manifest;
  stored.info.set_source(std::string(source));
  return Write(std::move(stored), expected, deadline);
}

absl::StatusOr<StoredGraph> GraphStore::Rollback(int64_t version, const ExpectedGraph& expected,
                                                 absl::Time deadline) {
  std::vector<std::string> warnings;
  OCTOGATE_ASSIGN_OR_RETURN(const StoredGraph applied, Load(deadline, &warnings));
  OCTOGATE_RETURN_IF_ERROR(CheckExpected(expected, applied.info));
  if (version == 0) {
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<int64_t> versions, Versions(deadline));
    const auto before = std::find_if(versions.begin(), versions.end(), [&](int64_t candidate) {
      return candidate < applied.info.version();
    });
    if (before == versions.end()) {
      return absl::NotFoundError(
          absl::StrCat("there is no version before ", applied.info.version(), ", the applied one"));
    }
    version = *before;
  }
  OCTOGATE_ASSIGN_OR_RETURN(StoredGraph stored, Get(version, deadline));
  stored.info.set_source(absl::StrCat("rollback to ", version));
  // The version that was compared with is the one that is replaced.
  return Write(std::move(stored),
               {.version = applied.info.version(), .digest = applied.info.digest()}, deadline);
}

absl::StatusOr<StoredGraph> GraphStore::Write(StoredGraph stored, const ExpectedGraph& expected,
                                              absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<int64_t> versions, Versions(deadline));
  v1::GraphVersion applied;
  if (expected.version != 0 || !expected.digest.empty()) {
    std::vector<std::string> warnings;
    const absl::StatusOr<StoredGraph> current = Load(deadline, &warnings);
    if (current.ok()) applied = current->info;
    const bool none = absl::IsNotFound(current.status()) || absl::IsDataLoss(current.status());
    if (!current.ok() && !none) return current.status();
  }
  OCTOGATE_RETURN_IF_ERROR(CheckExpected(expected, applied));

  if (!versions.empty() && versions.front() == kMaxVersion) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "no version can follow ", kMaxVersion, "; remove ", KeyOf(kMaxVersion), " from the store"));
  }
  v1::GraphVersion& info = stored.info;
  info.set_version(versions.empty() ? 1 : versions.front() + 1);
  info.set_name(stored.graph.metadata().name());
  info.set_applied_at_ms(absl::ToUnixMillis(options_.clock()));
  info.set_digest(Sha256Hex(stored.manifest));
  info.set_nodes(stored.graph.spec().nodes_size());
  info.clear_active();
  const absl::Status written =
      store_.CompareAndSet(KeyOf(info.version()), std::nullopt, Encode(info, stored.manifest),
                           absl::InfiniteFuture(), deadline);
  if (absl::IsAborted(written)) {
    return absl::AbortedError(absl::StrCat("version ", info.version(),
                                           " was applied by someone else at the same moment; look "
                                           "at it and apply again"));
  }
  OCTOGATE_RETURN_IF_ERROR(written);
  NotifyChange(deadline);
  info.set_active(true);
  // Versions beyond the limit do no harm if they cannot be dropped now; the next call tries again.
  for (size_t i = static_cast<size_t>(std::max(options_.max_versions, 1)) - 1; i < versions.size();
       ++i) {
    (void)store_.Delete(KeyOf(versions[i]), deadline);
  }
  return stored;
}

absl::StatusOr<StoredGraph> GraphStore::Get(int64_t version, absl::Time deadline) {
  std::vector<std::string> warnings;
  if (version == 0) return Load(deadline, &warnings);
  absl::StatusOr<StoredGraph> stored = Read(version, deadline);
  if (absl::IsNotFound(stored.status())) {
    return absl::NotFoundError(absl::StrCat("version ", version, " of the graph is not kept"));
  }
  OCTOGATE_RETURN_IF_ERROR(stored.status());
  OCTOGATE_ASSIGN_OR_RETURN(const StoredGraph applied, Load(deadline, &warnings));
  stored->info.set_active(applied.info.version() == version);
  return stored;
}

absl::StatusOr<std::vector<v1::GraphVersion>> GraphStore::List(int limit, absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<int64_t> versions, Versions(deadline));
  std::vector<std::string> warnings;
  const absl::StatusOr<StoredGraph> applied = Load(deadline, &warnings);
  std::vector<v1::GraphVersion> infos;
  for (const int64_t version : versions) {
    if (infos.size() >= static_cast<size_t>(std::max(limit, 0))) break;
    const absl::StatusOr<std::string> record = store_.Get(KeyOf(version), deadline);
    if (absl::IsNotFound(record.status())) continue;
    if (!record.ok() && !absl::IsDataLoss(record.status())) return record.status();
    absl::StatusOr<StoredGraph> stored =
        record.ok() ? Decode(*record, version) : absl::StatusOr<StoredGraph>(record.status());
    v1::GraphVersion& info = infos.emplace_back();
    if (stored.ok()) info = std::move(stored->info);
    info.set_version(version);
    info.set_active(applied.ok() && applied->info.version() == version);
  }
  return infos;
}

}  // namespace octogate::router
