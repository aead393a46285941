// The shipped graph of text to SQL, deploy/graphs/sql.yaml, on a gateway of its own, with parts of
// it switched off.
#ifndef OCTOGATE_TESTS_BENCH_SQL_GRAPH_H_
#define OCTOGATE_TESTS_BENCH_SQL_GRAPH_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/memory_store.h"
#include "gateway/server.h"
#include "octogate/v1/gateway.grpc.pb.h"
#include "octogate/v1/graph.pb.h"
#include "tests/bench/sql_rows.h"

namespace octogate::bench {

enum class SqlLinking {
  kShipped,  // as the file has it: the whole schema where it fits into the link's budget
  kFocused,  // what the question needs, always
  kWhole,    // the whole schema, always: no linking
};

struct SqlVariant {
  SqlLinking linking = SqlLinking::kShipped;
  bool grammar = true;
  bool correction = true;  // the edges from failures, and what they lead to
  // Of links, where not 0, and then of few columns: for models with a short context.
  int token_budget = 0;
};

// The graph of deploy/graphs for the database in `sqlite`, a path below the gateway's model root,
// with the model in `model_path`. Rows are in JSON and not limited to fifty.
absl::StatusOr<v1::Graph> SqlGraph(const std::filesystem::path& graphs, const SqlVariant& variant,
                                   const std::string& sqlite, const std::string& model_path);

// The course of one question.
struct SqlCourse {
  std::string statement;    // the last one that was checked; empty where none was
  bool valid = false;       // the database prepared it, under the rules of the gateway
  bool executable = false;  // and ran it, within the limits
  SqlRows rows;             // then
  bool truncated = false;   // not all rows came
  std::string error;        // the query's
  std::string first_error;  // of the first check that failed
  int checks = 0;
  int model_calls = 0;
  std::string question_class;                               // the node that the classifier chose
  int64_t link_tokens = 0;                                  // of the first link
  bool linked_whole = false;                                // it is the whole schema
  std::map<std::string, std::vector<double>> milliseconds;  // in each node
};

// A gateway in this process behind a port of its own. Not thread-safe.
class SqlGateway {
 public:
  SqlGateway(const std::filesystem::path& root, gateway::ModelLoader load_model);

  absl::Status Apply(const v1::Graph& graph);
  SqlCourse Ask(const std::string& question, absl::Duration timeout = absl::Minutes(2));

 private:
  const std::unique_ptr<Store> store_ = MakeMemoryStore();
  absl::Status started_;
  std::unique_ptr<gateway::Server> server_;
  std::unique_ptr<v1::Gateway::Stub> stub_;
};

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SQL_GRAPH_H_
