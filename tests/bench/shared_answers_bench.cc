// What it costs a query, and saves, that gateways share answers and sessions through Redis. Time of
// calls of Generate over loopback, one at a time, to a worker that answers 1 KB at once: at a
// gateway with Redis beside one without, which take turns in every round. In the order of the
// table:
//
// - queries that nobody has asked before: one round trip more, which finds nothing, and a write.
// - queries that another gateway has answered, beside running them.
// - queries that this one has answered.
// - queries of new sessions, and of going ones.
// - new queries with Redis frozen, and gone.
//
// Where Redis is on the same cores as the gateway, as here, what it computes counts too.
#include <grpcpp/create_channel.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/memory_store.h"
#include "common/redis/redis_value_cache.h"
#include "gateway/server.h"
#include "octogate/v1/admin.grpc.pb.h"
#include "octogate/v1/gateway.grpc.pb.h"
#include "tests/bench/report.h"
#include "tests/bench/turns.h"
#include "tests/common/redis/redis_server.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::bench {
namespace {

constexpr int kRounds = 15;
constexpr int kCalls = 200;  // of a round

[[noreturn]] void Die(const std::string& message) {
  std::cerr << message << "\n";
  std::exit(1);
}

// CPU time of this process: gateways, client and worker.
double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return absl::ToDoubleSeconds(absl::DurationFromTimeval(usage.ru_utime) +
                               absl::DurationFromTimeval(usage.ru_stime));
}

std::string Manifest(const std::string& worker) {
  return absl::StrCat(R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: bench}
spec:
  entry: main
  cache: {answers: {maxEntries: 1000000}}
  models: [{name: stub, workers: [")",
                      worker, R"("]}]
  nodes:
    - name: main
      router: {members: [files, music], fallback: talk, hysteresis: 0.3,
               heads: [{threshold: 0.4, lexical: {}}]}
    - name: files
      model: {model: stub}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: music
      model: {model: stub}
      examples: [play a song, play some jazz, play the next song, turn up the music,
                 skip this song, put on my favourite song, play music from 1999, stop the music]
    - {name: talk, model: {model: stub}}
)");
}

// Alone where `redis` is null.
class Gateway {
 public:
  Gateway(const RedisOptions* redis, const std::string& manifest) {
    gateway::ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.threads = 1;
    if (redis != nullptr) {
      redis_ = RedisClient::Create(*redis);
      values_ = MakeRedisValueCache(redis_.get());
      options.shared_values = values_.get();
    }
    auto server = gateway::Server::Start(options, store_.get());
    if (!server.ok()) Die(server.status().ToString());
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto channel = grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                                   grpc::InsecureChannelCredentials(), arguments);
    client_ = v1::Gateway::NewStub(channel);
    grpc::ClientContext context;
    v1::ApplyGraphRequest request;
    request.set_manifest(manifest);
    v1::ApplyGraphResponse response;
    const grpc::Status status =
        v1::Admin::NewStub(channel)->ApplyGraph(&context, request, &response);
    if (!status.ok()) Die(status.error_message());
  }
  ~Gateway() { server_->Shutdown(absl::ZeroDuration(), absl::ZeroDuration()); }

  // Whether the answer was kept.
  bool Ask(const std::string& query, const std::string& session = "") {
    v1::GenerateRequest request;
    v1::Message& message = *request.add_messages();
    message.set_role("user");
    message.set_content(query);
    request.set_session(session);
    grpc::ClientContext context;
    auto reader = client_->Generate(&context, request);
    v1::GenerateResponse event;
    bool kept = false;
    while (reader->Read(&event)) kept = event.finished().has_cached();
    if (const grpc::Status status = reader->Finish(); !status.ok()) Die(status.error_message());
    return kept;
  }

 private:
  const std::unique_ptr<Store> store_ = MakeMemoryStore();
  std::unique_ptr<RedisClient> redis_;
  std::unique_ptr<ValueCache> values_;
  std::unique_ptr<gateway::Server> server_;
  std::unique_ptr<v1::Gateway::Stub> client_;
};

struct Cost {
  std::vector<double> medians;  // of the rounds, in microseconds
  double longest = 0;           // of all calls
  double cpu = 0;               // of all rounds, in microseconds a call
};

// `calls` of them, of which `call` makes that of the number.
void Measure(int calls, const std::function<void(int)>& call, Cost* cost) {
  std::vector<double> times;
  const double cpu = CpuSeconds();
  for (int i = 0; i < calls; ++i) {
    const absl::Time start = absl::Now();
    call(i);
    times.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
  }
  cost->cpu += (CpuSeconds() - cpu) * 1e6 / (calls * kRounds);
  cost->longest = std::max(cost->longest, *std::max_element(times.begin(), times.end()));
  cost->medians.push_back(Median(std::move(times)));
}

class Bench {
 public:
  Bench(Report* report, const std::string& manifest)
      : report_(*report), alone_(nullptr, manifest) {}

  // Never asked before.
  std::string NewQuery() {
    return absl::StrCat("find all files larger than ", number_++, " in the folder of my project");
  }

  // `call` makes a call at either gateway; the other one is the one without Redis.
  void Compare(const std::string& name, Gateway& shared,
               const std::function<void(Gateway&, int)>& call, const std::optional<Aim>& aim = {},
               int rounds = kRounds, int calls = kCalls) {
    Cost with, without;
    for (int round = 0; round < rounds; ++round) {
      Measure(
          calls, [&](int i) { call(alone_, i); }, &without);
      Measure(
          calls, [&](int i) { call(shared, i); }, &with);
    }
    Add(name, "without Redis", with, without, aim);
  }

  void Add(const std::string& name, const std::string& beside, const Cost& cost, const Cost& other,
           const std::optional<Aim>& aim = {}) {
    report_.Add({.name = name,
                 .value = Median(cost.medians),
                 .unit = "us",
                 .beside = beside,
                 .ratio = Median(cost.medians) / Median(other.medians),
                 .aim = aim});
  }
  void AddCpu(const std::string& name, const Cost& cost, const Cost& other) {
    report_.Add({.name = name,
                 .value = cost.cpu,
                 .unit = "us",
                 .beside = "without Redis",
                 .ratio = cost.cpu / other.cpu,
                 .aim = {}});
  }

  Report& report_;
  Gateway alone_;
  int64_t number_ = 0;
};

int Main(int argc, char** argv) {
  Report report("shared_answers", argc, argv);
  gateway::StubWorkerOptions worker_options;
  worker_options.defaults.tokens = 1;
  worker_options.defaults.text = std::string(1000, 'x');
  const gateway::StubWorker worker(worker_options);
  const std::string manifest = Manifest(worker.address());
  RedisServer redis({"--save", "", "--appendonly", "no"});
  RedisOptions near = redis.options();
  near.timeouts = Patient(absl::Milliseconds(500));
  Bench bench(&report, manifest);
  Gateway shared(&near, manifest), other(&near, manifest);
  const auto new_query = [&](Gateway& gateway, int) {
    if (gateway.Ask(bench.NewQuery())) Die("a new query had an answer");
  };
  // Marks, connections and code are there.
  for (int i = 0; i < kCalls; ++i) {
    for (Gateway* gateway : {&bench.alone_, &shared, &other}) new_query(*gateway, i);
  }

  Cost with, without, found, again;
  for (int round = 0; round < kRounds; ++round) {
    Measure(
        kCalls, [&](int i) { new_query(bench.alone_, i); }, &without);
    Measure(
        kCalls, [&](int i) { new_query(shared, i); }, &with);
    std::vector<std::string> answered;
    for (int i = 0; i < kCalls; ++i) {
      answered.push_back(bench.NewQuery());
      other.Ask(answered.back());
    }
    absl::SleepFor(absl::Milliseconds(20));  // written behind
    int kept = 0;
    Measure(
        kCalls, [&](int i) { kept += shared.Ask(answered[static_cast<size_t>(i)]); }, &found);
    if (kept < kCalls) std::cerr << kCalls - kept << " answers were not found\n";
    Measure(
        kCalls, [&](int i) { shared.Ask(answered[static_cast<size_t>(i)]); }, &again);
  }
  bench.Add("a new query", "without Redis", with, without);
  bench.AddCpu("a new query, CPU time but Redis's", with, without);
  bench.Add("a query that another gateway has answered", "running it without Redis", found,
            without);
  bench.Add("a query that this gateway has answered", "running it without Redis", again, without);

  const auto new_session = [&](Gateway& gateway, int) {
    const std::string query = bench.NewQuery();
    gateway.Ask(query, query);
  };
  bench.Compare("the first query of a session", shared, new_session);
  bench.Compare("the next query of a session", shared,
                [&](Gateway& gateway, int) { gateway.Ask(bench.NewQuery(), "one"); });

  const auto broken = [&](const std::string& state) {
    Cost fails, runs;
    for (int round = 0; round < kRounds; ++round) {
      Measure(
          kCalls, [&](int i) { new_query(bench.alone_, i); }, &runs);
      Measure(
          kCalls, [&](int i) { new_query(shared, i); }, &fails);
    }
    bench.Add("a new query, Redis " + state, "without Redis", fails, runs);
    report.Add({.name = "the longest of them",
                .value = fails.longest / 1e3,
                .unit = "ms",
                .beside = "without Redis",
                .ratio = fails.longest / runs.longest,
                .aim = {}});
  };
  redis.Freeze();
  broken("frozen");
  redis.Thaw();
  redis.Kill();
  broken("gone");
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
