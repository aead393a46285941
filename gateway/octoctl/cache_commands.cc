#include <algorithm>
#include <cstdio>
#include <iostream>
#include <set>
#include <string>

#include "absl/strings/str_join.h"
#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/input.h"

namespace octogate::octoctl {
namespace {

constexpr size_t kMaxQueryBytes = size_t{1} << 20;

std::string Bytes(int64_t bytes) {
  char text[32];
  if (bytes < 1024) {
    std::snprintf(text, sizeof(text), "%d B", static_cast<int>(bytes));
  } else if (bytes < int64_t{1} << 20) {
    std::snprintf(text, sizeof(text), "%.1f KiB", static_cast<double>(bytes) / 1024);
  } else {
    std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  }
  return text;
}

std::string Share(int64_t part, int64_t whole) {
  if (whole <= 0) return "-";
  char text[16];
  std::snprintf(text, sizeof(text), "%.1f %%",
                100 * static_cast<double>(part) / static_cast<double>(whole));
  return text;
}

// Of what is in a store nobody counts how much there is.
bool IsInStore(const v1::CacheStats& stats) {
  return stats.kind() == "shared-answers" || stats.kind() == "shared-decisions";
}

// Their memory is not counted.
bool IsOfPages(const v1::CacheStats& stats) {
  return stats.kind() == "prefixes" || stats.kind() == "pages";
}

// Lookups and hits are tokens.
bool CountsTokens(const v1::CacheStats& stats) {
  return IsOfPages(stats) || stats.kind() == "drafts";
}

// "12/65536"; "-" where it is not known.
std::string Entries(const v1::CacheStats& stats) {
  if (IsInStore(stats)) return "-";
  if (stats.max_entries() <= 0 && stats.entries() == 0) return CountsTokens(stats) ? "-" : "off";
  const std::string entries = std::to_string(stats.entries());
  return stats.tenant().empty() ? entries + "/" + std::to_string(stats.max_entries()) : entries;
}

// Which of the numbers are a tenant's.
void PrintWhose(const v1::GetCacheStatsResponse& response, const std::string& tenant) {
  std::set<std::string> counted, others;
  for (const v1::CacheStats& stats : response.caches()) {
    (stats.tenant().empty() ? others : counted).insert(OneLine(stats.kind(), 63));
  }
  if (!counted.empty()) {
    std::cout << "entries and bytes of " << absl::StrJoin(counted, " and ") << " are of tenant "
              << OneLine(tenant, 128) << "; lookups and what follows are of all tenants\n";
  }
  if (!others.empty()) {
    std::cout << absl::StrJoin(others, ", ") << (others.size() == 1 ? " is" : " are")
              << " not counted by tenant: all tenants' are shown\n";
  }
}

// What became of a flush of pages at each replica: "-" where it is not known.
void PrintReplicas(const v1::FlushCacheResponse& response, Format format) {
  if (format == Format::kName) {
    for (const v1::ReplicaFlush& replica : response.replicas()) {
      if (replica.code() == 0) std::cout << OneLine(replica.replica(), 128) << "\n";
    }
    return;
  }
  Table table({"REPLICA", "PAGES", "IN USE", "SHARED", "RESULT"});
  for (const v1::ReplicaFlush& replica : response.replicas()) {
    const bool ok = replica.code() == 0;
    table.Add({OneLine(replica.replica(), 128), ok ? std::to_string(replica.pages()) : "-",
               ok ? std::to_string(replica.pages_in_use()) : "-",
               !ok ? "-" : (replica.shared() ? "yes" : "no"),
               ok ? "flushed" : OneLine(replica.error(), 200)});
  }
  table.Print(std::cout);
}

// What a script is to know: as if the first replica that has failed had been the only one.
ExitStatus ReportReplicas(const Connection& connection, const v1::FlushCacheResponse& response) {
  const auto is_ok = [](const v1::ReplicaFlush& replica) { return replica.code() == 0; };
  const auto& replicas = response.replicas();
  const auto failed = std::find_if_not(replicas.begin(), replicas.end(), is_ok);
  if (failed == replicas.end()) return kOk;
  const auto done = std::count_if(replicas.begin(), replicas.end(), is_ok);
  return connection.Report(grpc::Status(
      static_cast<grpc::StatusCode>(failed->code()),
      std::to_string(done) + " of " + std::to_string(replicas.size()) +
          " replicas have flushed; repeat it when the others can: " + failed->error()));
}

}  // namespace

ExitStatus CacheStats(Connection& connection, const CacheOptions& options, Format format) {
  v1::GetCacheStatsRequest request;
  request.set_tenant(options.tenant);
  request.set_model(options.model);
  v1::GetCacheStatsResponse response;
  const grpc::Status status =
      connection.admin().GetCacheStats(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  if (format == Format::kName) {
    for (const v1::CacheStats& stats : response.caches()) {
      std::cout << OneLine(stats.kind(), 63) << "\n";
    }
    return kOk;
  }
  Table table({"CACHE", "MODEL", "ENTRIES", "BYTES", "LOOKUPS", "HITS", "RATE", "WRITES",
               "EVICTIONS", "FAILURES"});
  for (const v1::CacheStats& stats : response.caches()) {
    const bool pages = IsOfPages(stats);
    const std::string unit = CountsTokens(stats) ? " tokens" : "";
    table.Add({OneLine(stats.kind(), 63), stats.model().empty() ? "-" : OneLine(stats.model(), 63),
               Entries(stats), pages || IsInStore(stats) ? "-" : Bytes(stats.bytes()),
               std::to_string(stats.lookups()) + unit, std::to_string(stats.hits()) + unit,
               Share(stats.hits(), stats.lookups()), pages ? "-" : std::to_string(stats.writes()),
               CountsTokens(stats) || IsInStore(stats) ? "-" : std::to_string(stats.evictions()),
               std::to_string(stats.failures())});
  }
  table.Print(std::cout);
  if (!options.tenant.empty()) PrintWhose(response, options.tenant);
  if (response.has_store_reachable() && !response.store_reachable()) {
    std::cout << "the store does not answer: what is shared through it is not used\n";
  }
  return kOk;
}

ExitStatus FlushCache(Connection& connection, const CacheOptions& options, Format format) {
  v1::FlushCacheRequest request;
  for (const std::string& kind : options.kinds) request.add_kinds(kind);
  request.set_tenant(options.tenant);
  request.set_model(options.model);
  v1::FlushCacheResponse response;
  grpc::Status status;
  {
    const Progress progress("flushing");
    status = connection.admin().FlushCache(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  const bool printed = PrintStructured(response, format);
  if (!options.model.empty()) {
    if (!printed) PrintReplicas(response, format);
    return ReportReplicas(connection, response);
  }
  if (printed) return kOk;
  for (const v1::CacheStats& stats : response.flushed()) {
    if (format == Format::kName) {
      std::cout << OneLine(stats.kind(), 63) << "\n";
      continue;
    }
    std::cout << stats.entries() << " " << OneLine(stats.kind(), 63) << " of "
              << (options.tenant.empty() ? std::string("all tenants")
                                         : "tenant " + OneLine(options.tenant, 128))
              << " flushed, " << Bytes(stats.bytes()) << "\n";
  }
  return kOk;
}

ExitStatus ExplainCache(Connection& connection, const CacheOptions& options, Format format) {
  v1::ExplainCacheRequest request;
  v1::GenerateRequest& query = *request.mutable_request();
  v1::Message& message = *query.add_messages();
  message.set_role("user");
  message.set_content(options.query);
  if (options.query == "-") {
    if (!ReadInput("-", kMaxQueryBytes, *message.mutable_content())) return kUsage;
    while (!message.content().empty() && message.content().back() == '\n') {
      message.mutable_content()->pop_back();
    }
  }
  query.set_node(options.node);
  query.set_tenant(options.tenant);
  query.set_max_tokens(options.max_tokens);
  if (options.temperature) query.mutable_sampling()->set_temperature(*options.temperature);
  if (options.seed) query.mutable_sampling()->set_seed(*options.seed);
  v1::ExplainCacheResponse response;
  grpc::Status status;
  {
    const Progress progress("asking the caches");
    status = connection.admin().ExplainCache(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  const Style style = StandardOutputStyle();
  for (const v1::CacheExplanation& cache : response.caches()) {
    std::string name = OneLine(cache.kind(), 63);
    if (format == Format::kName) {
      std::cout << name << "\n";
      continue;
    }
    if (!cache.model().empty()) name += " of " + OneLine(cache.model(), 63);
    if (!cache.replica().empty()) name += " at " + OneLine(cache.replica(), 128);
    std::cout << (cache.hit() ? style.green + "hit " : style.yellow + "miss") << style.reset << "  "
              << style.bold << name << style.reset << ": " << OneLine(cache.reason(), 400) << "\n";
    if (cache.has_answer()) {
      std::cout << "      given " << Duration(cache.answer().age_ms() * 1000)
                << " ago to: " << OneLine(cache.answer().query(), 200) << "\n";
    }
    if (cache.prefix_bytes() > 0 && !cache.has_cached_tokens()) {
      std::cout << "      " << cache.prefix_bytes() << " bytes of the prompt are there\n";
    }
    if (format == Format::kWide && !cache.key().empty()) {
      std::cout << "      " << style.dim << "key " << OneLine(cache.key(), 64) << style.reset
                << "\n";
    }
  }
  return kOk;
}

}  // namespace octogate::octoctl
