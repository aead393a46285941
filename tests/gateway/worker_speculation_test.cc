// octogate-worker with its flags of speculation, as a process, and what a gateway tells of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "retrieval/drafts/near_index.h"
#include "tests/common/thread_count.h"
#include "tests/gateway/child_process.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/retrieval/drafts/store_file.h"
#include "workers/model/tokenizer.h"
#include "workers/model/tokenizer_fingerprint.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// It answers what is no question of its own with the question itself, or nearly.
const char kModel[] = OCTOGATE_DEPLOY "/models/octogate-mini";
constexpr char kQuery[] =
    "the old river runs past the old mill and the old mill stands by the old river where the old "
    "road ends";

class WorkerProcess {
 public:
  // Returns when it serves, or has ended.
  explicit WorkerProcess(const std::vector<std::string>& flags)
      : child_(Arguments(flags), STDERR_FILENO) {
    while (port_ == 0) {
      const std::string line = child_.ReadLine();
      if (line.empty()) break;
      absl::StrAppend(&said_, line, "\n");
      const size_t at = line.find(" on port ");
      if (at == std::string::npos) continue;
      const std::string rest = line.substr(at + 9);
      EXPECT_TRUE(absl::SimpleAtoi(rest.substr(0, rest.find(',')), &port_)) << line;
    }
  }

  // 0: it has ended.
  int port() const { return port_; }
  const std::string& said() const { return said_; }
  int Wait() { return child_.Wait(); }
  int Stop() {
    child_.Kill(SIGTERM);
    return child_.Wait();
  }

  int threads() const { return ThreadCount(std::to_string(child_.pid())); }

 private:
  static std::vector<std::string> Arguments(const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {OCTOGATE_WORKER, "--model",   kModel, "--listen",
                                          "127.0.0.1:0",   "--threads", "1"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return arguments;
  }

  ChildProcess child_;
  int port_ = 0;
  std::string said_;
};

// The exit status of a worker that cannot serve with the flags, and what it says.
std::string Refusal(const std::vector<std::string>& flags) {
  WorkerProcess worker(flags);
  EXPECT_EQ(worker.port(), 0);
  if (worker.port() != 0) return "";
  const int status = worker.Wait();
  return absl::StrCat(status, ": ", worker.said());
}

std::string Graph(const WorkerProcess& plain, const WorkerProcess& drafting) {
  return absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: test}\nspec:\n  entry: drafting\n"
      "  models:\n    - {name: plain, workers: [\"127.0.0.1:",
      plain.port(), "\"]}\n    - {name: drafting, workers: [\"127.0.0.1:", drafting.port(),
      "\"]}\n  nodes:\n    - {name: plain, model: {model: plain, system: route}}\n"
      "    - {name: drafting, model: {model: drafting, system: route}}\n"
      "  edges: [{from: drafting, to: plain, on: error}]\n");
}

// A store that has the query, and with it most of the answer.
void WriteQuery(const retrieval::StoreFile& store, const workers::Tokenizer& tokenizer) {
  const auto ids = tokenizer.Encode(kQuery);
  ASSERT_TRUE(ids.ok()) << ids.status();
  const absl::Status written =
      store.Write({*ids}, {.tokenizer = workers::TokenizerFingerprint(tokenizer),
                           .vocab_size = tokenizer.vocab_size()});
  ASSERT_TRUE(written.ok()) << written;
}

// A number that the gateway tells of the worker of a model; -1: it tells none.
double Metric(TestGateway& gateway, const std::string& model, const WorkerProcess& worker,
              const std::string& name, const std::string& label = "") {
  const std::string text = gateway.server().metrics().Text();
  const std::string series =
      absl::StrCat("octogate_worker_", name, "{model=\"", model,
                   "\",replica=\"127.0.0.1:", worker.port(), "\"", label, "} ");
  const size_t at = text.find(series);
  double value = -1;
  if (at == std::string::npos) return value;
  const size_t begin = at + series.size();
  EXPECT_TRUE(absl::SimpleAtod(text.substr(begin, text.find('\n', begin) - begin), &value));
  return value;
}

TEST(WorkerSpeculationTest, FlagsActAndAGatewayTellsWhatCameOfThem) {
  const retrieval::StoreFile store;
  const auto tokenizer = workers::Tokenizer::Load(kModel);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  WriteQuery(store, **tokenizer);
  ASSERT_TRUE(retrieval::WriteNearIndex(store.path()).ok());
  const std::filesystem::path state = store.folder() / "state";
  RedisServer redis;
  WorkerProcess plain({});
  WorkerProcess drafting(
      {"--speculate", "--drafter=recycling", "--drafter=suffix", "--drafter=lookahead",
       "--drafter=retrieval", "--drafter=model", "--max-drafted-tokens=5", "--share-drafts",
       "--draft-datastore=" + store.path(), "--draft-near-matches",
       absl::StrCat("--draft-model=", kModel), "--recycling-candidates=32",
       "--recycling-tree=planned", "--prune-retrieved-below=0.001", "--draft-memory=0.25",
       "--draft-state=" + state.string(), "--store=unix:" + redis.Socket()});
  ASSERT_NE(plain.port(), 0) << plain.said();
  ASSERT_NE(drafting.port(), 0) << drafting.said();
  TestGateway gateway;
  const grpc::Status applied = gateway.Apply(Graph(plain, drafting));
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  const Answer expected = gateway.Generate(Ask(kQuery, "plain"));
  ASSERT_TRUE(expected.status.ok()) << expected.status.error_message();
  EXPECT_THAT(expected.text(), HasSubstr("the old river"));
  EXPECT_FALSE(expected.events.back().finished().has_speculation());

  // Whether drafts are verified is a matter of what they cost, and of what has been learned.
  const auto is_accepted = [&, tenant = 0]() mutable {
    v1::GenerateRequest request = Ask(kQuery, "drafting");
    request.set_tenant(absl::StrCat("tenant", tenant++ % 3));
    const Answer answer = gateway.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.text(), expected.text());
    const v1::Finished& finished = answer.events.back().finished();
    const v1::SpeculationUsage& usage = finished.speculation();
    EXPECT_EQ(usage.steps() + usage.accepted_tokens(), finished.usage().completion_tokens());
    EXPECT_LE(usage.depths_size(), 5);
    std::vector<std::string> drafters;
    for (const v1::DrafterUsage& drafter : usage.drafters()) drafters.push_back(drafter.drafter());
    EXPECT_THAT(drafters, ElementsAre("lookahead", "model", "recycling", "retrieval", "suffix"));
    return usage.accepted_tokens() > 0;
  };
  ASSERT_TRUE(Eventually(is_accepted));

  const auto metric = [&](const std::string& name, const std::string& label = "") {
    return Metric(gateway, "drafting", drafting, name, label);
  };
  // The gateway asks its replicas from time to time.
  EXPECT_TRUE(Eventually([&] { return metric("accepted_tokens_total") > 0; }));
  for (const char* name : {"speculation_steps_total", "drafted_tokens_total", "draft_seconds_total",
                           "verify_seconds_total", "plain_seconds_total"}) {
    EXPECT_GT(metric(name), 0) << name;
  }
  EXPECT_EQ(metric("malformed_drafts_total"), 0);
  EXPECT_GT(metric("depth_drafted_tokens_total", ",depth=\"1\""), 0);
  EXPECT_GE(metric("depth_accepted_tokens_total", ",depth=\"1\""), 0);
  for (const char* drafter : {"lookahead", "model", "recycling", "retrieval", "suffix"}) {
    const std::string label = absl::StrCat(",drafter=\"", drafter, "\"");
    EXPECT_GE(metric("drafter_drafted_tokens_total", label), 0) << drafter;
    EXPECT_GE(metric("drafter_accepted_tokens_total", label), 0) << drafter;
  }
  EXPECT_GE(metric("draft_bytes"), 32 * 4 * (*tokenizer)->vocab_size()) << "recycling's table";
  EXPECT_TRUE(Eventually([&] { return metric("shared_drafts_publications_total") > 0; }));
  EXPECT_EQ(metric("shared_drafts_store_reachable"), 1);

  EXPECT_EQ(drafting.Stop(), 0);
  EXPECT_EQ(plain.Stop(), 0);
  // What recycling and suffix have learned, each from all tenants together.
  std::vector<std::string> kept;
  for (const auto& entry : std::filesystem::directory_iterator(state)) {
    kept.push_back(entry.path().extension());
  }
  EXPECT_THAT(kept, testing::UnorderedElementsAre(".lookahead", ".recycling", ".suffix"));
}

TEST(WorkerSpeculationTest, ATenantsDatastoreDraftsForItAlone) {
  const retrieval::StoreFile store;
  const auto tokenizer = workers::Tokenizer::Load(kModel);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  WriteQuery(store, **tokenizer);
  WorkerProcess plain({});
  WorkerProcess drafting(
      {"--speculate", "--drafter=retrieval", "--tenant-datastore=acme=" + store.path()});
  ASSERT_NE(plain.port(), 0) << plain.said();
  ASSERT_NE(drafting.port(), 0) << drafting.said();
  TestGateway gateway;
  ASSERT_TRUE(gateway.Apply(Graph(plain, drafting)).ok());
  const auto ask = [&](const std::string& tenant) {
    v1::GenerateRequest request = Ask(kQuery, "drafting");
    request.set_tenant(tenant);
    const Answer answer = gateway.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer.events.empty() ? v1::SpeculationUsage()
                                 : answer.events.back().finished().speculation();
  };
  // Whether drafts are verified is a matter of what they cost.
  EXPECT_TRUE(Eventually([&] { return ask("acme").accepted_tokens() > 0; }));
  for (const std::string tenant : {"", "other", "acm", "acme2"}) {
    EXPECT_EQ(ask(tenant).drafted_tokens(), 0) << tenant;
  }
}

TEST(WorkerSpeculationTest, RecyclingKeepsAsManyPairsAsTheFlagSays) {
  WorkerProcess none(
      {"--speculate", "--drafter=recycling", "--recycling-pairs=0", "--recycling-candidates=4"});
  WorkerProcess pairs(
      {"--speculate", "--drafter=recycling", "--recycling-pairs=6400", "--recycling-candidates=4"});
  ASSERT_NE(none.port(), 0) << none.said();
  ASSERT_NE(pairs.port(), 0) << pairs.said();
  TestGateway gateway;
  ASSERT_TRUE(gateway.Apply(Graph(none, pairs)).ok());
  for (const char* node : {"plain", "drafting"}) {
    EXPECT_TRUE(gateway.Generate(Ask(kQuery, node)).status.ok());
  }
  EXPECT_TRUE(Eventually([&] { return Metric(gateway, "plain", none, "draft_bytes") > 0; }));
  EXPECT_TRUE(Eventually([&] { return Metric(gateway, "drafting", pairs, "draft_bytes") > 0; }));
  EXPECT_GE(Metric(gateway, "drafting", pairs, "draft_bytes") -
                Metric(gateway, "plain", none, "draft_bytes"),
            6400 * (16 + 4 * 4));
}

TEST(WorkerSpeculationTest, ADraftModelHasAsManyThreadsAsTheFlagSays) {
  const std::string model = absl::StrCat("--draft-model=", kModel);
  WorkerProcess none({"--speculate", "--drafter=model", model});
  WorkerProcess three({"--speculate", "--drafter=model", model, "--draft-threads=3"});
  ASSERT_NE(none.port(), 0) << none.said();
  ASSERT_NE(three.port(), 0) << three.said();
  TestGateway gateway;
  ASSERT_TRUE(gateway.Apply(Graph(none, three)).ok());
  const Answer expected = gateway.Generate(Ask(kQuery, "plain"));
  ASSERT_TRUE(expected.status.ok()) << expected.status.error_message();
  EXPECT_EQ(gateway.Generate(Ask(kQuery, "drafting")).text(), expected.text());
  // A server's own come and go with its calls.
  EXPECT_TRUE(Eventually([&] { return three.threads() == none.threads() + 3; }));
}

TEST(WorkerSpeculationTest, FlagsThatMakeNoSenseAreRefused) {
  EXPECT_THAT(Refusal({"--share-drafts"}), HasSubstr("2: "));
  EXPECT_THAT(Refusal({"--speculate", "--max-drafted-tokens=0"}),
              testing::AllOf(HasSubstr("2: "), HasSubstr("--max-drafted-tokens")));
  EXPECT_THAT(Refusal({"--speculate", "--drafter=oracle"}), HasSubstr("\"oracle\""));
  EXPECT_THAT(Refusal({"--speculate", "--recycling-tree=round"}), HasSubstr("\"round\""));
  EXPECT_THAT(Refusal({"--speculate", "--recycling-pairs=1048577"}),
              testing::AllOf(HasSubstr("2: "), HasSubstr("--recycling-pairs")));
  EXPECT_THAT(Refusal({"--speculate", "--tenant-datastore=acme"}),
              testing::AllOf(HasSubstr("2: "), HasSubstr("'acme' is no TENANT=FILE")));
  EXPECT_THAT(Refusal({"--speculate", "--prune-retrieved-below=0.5"}),
              HasSubstr("pruned by a draft model"));
  EXPECT_THAT(Refusal({"--speculate", "--draft-threads=1"}), HasSubstr("draft model"));
  EXPECT_THAT(Refusal({"--speculate", "--draft-near-matches"}), HasSubstr("those of a datastore"));
  EXPECT_THAT(Refusal({"--speculate", "--draft-head=/nowhere"}),
              testing::AllOf(HasSubstr("1: "), HasSubstr("/nowhere")));
}

}  // namespace
}  // namespace octogate::gateway
