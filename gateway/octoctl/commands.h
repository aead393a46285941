// The commands of octoctl. Each takes what the command line said, makes its
// calls, prints, and returns the exit status.

#ifndef OCTOGATE_GATEWAY_OCTOCTL_COMMANDS_H_
#define OCTOGATE_GATEWAY_OCTOCTL_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gateway/octoctl/connection.h"
#include "gateway/octoctl/output.h"

namespace octogate::octoctl {

// graph_commands.cc
struct ApplyOptions {
  std::string file;  // "-" is standard input
  bool dry_run = false;
  int64_t expected_version = 0;
};
ExitStatus Apply(Connection& connection, const ApplyOptions& options, Format format);

struct DiffOptions {
  std::string file;  // or versions
  int64_t from_version = 0;
  int64_t to_version = 0;
};
ExitStatus Diff(Connection& connection, const DiffOptions& options, Format format);

ExitStatus Rollback(Connection& connection, int64_t version, Format format);
ExitStatus GetGraph(Connection& connection, int64_t version, Format format);
ExitStatus GetVersions(Connection& connection, Format format);

// One line for each.
void PrintChanges(const google::protobuf::RepeatedPtrField<v1::GraphChange>& changes);

enum class Picture { kText, kDot, kSvg };
ExitStatus View(Connection& connection, int64_t version, Picture picture,
                const std::string& out_file);

// node_commands.cc
ExitStatus GetNodes(Connection& connection, const std::string& name, Format format);
ExitStatus DescribeNode(Connection& connection, const std::string& name, Format format);
ExitStatus DrainNode(Connection& connection, const std::string& name, bool undo, Format format);
ExitStatus ShowVersion(Connection& connection, bool client_only, Format format);

// model_commands.cc
ExitStatus GetModels(Connection& connection, Format format);
ExitStatus DescribeModel(Connection& connection, const std::string& name, Format format);

// query_commands.cc
struct QueryOptions {
  std::string query;  // "-" is standard input
  std::string node;
  std::string tenant;
  std::string session;
  bool all_heads = false;             // route
  bool explain = false;               // route
  bool trace = false;                 // ask
  int max_tokens = 0;                 // ask
  int max_calls = 0;                  // ask
  std::optional<double> max_cost;     // ask
  std::optional<double> quality;      // ask
  std::optional<double> temperature;  // ask
  std::optional<uint64_t> seed;       // ask
  bool json = false;                  // ask
  std::string json_schema;            // ask: a file; "-" is standard input
  std::string grammar;                // ask: likewise
  bool no_cache = false;              // ask
};
ExitStatus Route(Connection& connection, const QueryOptions& options, Format format);
ExitStatus Ask(Connection& connection, const QueryOptions& options, Format format);
ExitStatus Explain(Connection& connection, const std::string& trace_id, Format format);
ExitStatus GetTraces(Connection& connection, const std::string& node, Format format);

// token_commands.cc
struct TokenOptions {
  std::string node;    // learn, forget
  std::string file;    // learn: examples; evaluate: labelled queries; "-" is standard input
  std::string router;  // learn, evaluate
  bool dry_run = false;
  int64_t expected_version = 0;
  bool all_heads = false;  // evaluate
};
ExitStatus LearnToken(Connection& connection, const TokenOptions& options, Format format);
ExitStatus ForgetToken(Connection& connection, const TokenOptions& options, Format format);
ExitStatus EvaluateTokens(Connection& connection, const TokenOptions& options, Format format);

// bench_commands.cc
struct BenchOptions {
  std::vector<std::string> suites;  // labelled queries; "-" is standard input
  std::string router;
  std::string tenant;
  int calls = 1000;  // of Route that are timed, for each suite
};
ExitStatus BenchRoute(Connection& connection, const BenchOptions& options, Format format);

// feedback_commands.cc
struct FeedbackOptions {
  std::string trace_id;  // give
  std::string verdict;   // give: "right", "wrong" or "better"
  std::string tenant;
  std::string node;                    // give, promote
  std::vector<std::string> trace_ids;  // promote
  bool dry_run = false;                // promote
  int64_t expected_version = 0;        // promote
};
ExitStatus ListFeedback(Connection& connection, const FeedbackOptions& options, Format format);
ExitStatus PromoteFeedback(Connection& connection, const FeedbackOptions& options, Format format);

ExitStatus GiveFeedback(Connection& connection, const FeedbackOptions& options, Format format);

// replay_commands.cc
struct ReplayOptions {
  std::string graph;    // manifest of the other graph; "-" is standard input
  int64_t version = 0;  // or a version
  std::string traces;   // file of queries; empty: the gateway's traces
  std::string tenant;
  int limit = 0;
  int changes = 0;
};
ExitStatus Replay(Connection& connection, const ReplayOptions& options, Format format);

// catalog_commands.cc
struct CatalogOptions {
  std::string name;
  std::string table;   // get, describe
  std::string tenant;  // get, describe, link
  // add: paths below the gateway's --model-root, one of the first four
  std::string sqlite, ddl, spider, json;
  std::string database, descriptions, encoder, postgresql;
  std::vector<std::string> sensitive;
  std::optional<int> max_values;
  bool dry_run = false;
  int64_t expected_version = 0;
  // link
  std::string question, evidence, style;
  int budget = 0;
  int max_columns = 0;
  bool focused = false;
  bool minimal = false;
  bool text = false;  // print what a model would be given
};
ExitStatus AddCatalog(Connection& connection, const CatalogOptions& options, Format format);
ExitStatus GetCatalogs(Connection& connection, const CatalogOptions& options, Format format);
ExitStatus DescribeCatalog(Connection& connection, const CatalogOptions& options, Format format);
ExitStatus RefreshCatalog(Connection& connection, const CatalogOptions& options, Format format);
ExitStatus LinkQuestion(Connection& connection, const CatalogOptions& options, Format format);

// cache_commands.cc
struct CacheOptions {
  std::string tenant;
  std::string model;                  // stats, flush
  std::vector<std::string> kinds;     // flush; none: all
  std::string query;                  // explain; "-" is standard input
  std::string node;                   // explain
  int max_tokens = 0;                 // explain
  std::optional<double> temperature;  // explain
  std::optional<uint64_t> seed;       // explain
};
ExitStatus CacheStats(Connection& connection, const CacheOptions& options, Format format);
ExitStatus FlushCache(Connection& connection, const CacheOptions& options, Format format);
ExitStatus ExplainCache(Connection& connection, const CacheOptions& options, Format format);

// drafts_commands.cc. They work on files here, and ask no gateway.
struct DraftsOptions {
  std::string file;                 // the store
  std::string tokenizer;            // build, append: the model's folder
  std::vector<std::string> paths;   // build, append: files and folders; "-" is standard input
  std::vector<std::string> fields;  // build, append: of JSON Lines; none: "text"
  uint64_t segment_tokens = 0;      // 0: the writer's own
  bool near_matches = false;        // build, append, compact: make them; where append and compact
                                    // find some, they make them anew in any case
};
ExitStatus BuildDrafts(const DraftsOptions& options, Format format);
ExitStatus AppendDrafts(const DraftsOptions& options, Format format);
ExitStatus CompactDrafts(const DraftsOptions& options, Format format);
ExitStatus DescribeDrafts(const DraftsOptions& options, Format format);

// completion.cc
ExitStatus Completion(const std::string& shell);

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_COMMANDS_H_
