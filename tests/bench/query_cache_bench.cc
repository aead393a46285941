// What a gateway's caches of queries save and cost, on one core:
//
// - decisions that are kept, beside the same ones made by a lexical head: by the library, and as
//   calls of Route over loopback, one and 16 at a time, by the CPU time of the gateway and of this
//   client together, and by that of all threads but those that call.
// - what looking costs where nothing is found: the same new queries with and without the cache of
//   decisions, and what comes before admission for a graph that keeps answers, the putting of an
//   answer included; both as shares of a whole Generate call to a worker that answers at once.
//
// Every figure is the median of rounds in which what is compared takes turns.
#include <grpcpp/create_channel.h>
#include <sys/resource.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/memory_store.h"
#include "gateway/cache/answer_lookup.h"
#include "gateway/cache/routing_cache.h"
#include "gateway/server.h"
#include "octogate/v1/admin.grpc.pb.h"
#include "octogate/v1/gateway.grpc.pb.h"
#include "tests/bench/report.h"
#include "tests/bench/turns.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::bench {
namespace {

constexpr int kRounds = 9;
constexpr int kQueries = 2000;  // of a round
constexpr int kCalls = 3000;    // over loopback

// CPU time of this process.
absl::Duration CpuTime(int whose = RUSAGE_SELF) {
  rusage usage{};
  getrusage(whose, &usage);
  return absl::DurationFromTimeval(usage.ru_utime) + absl::DurationFromTimeval(usage.ru_stime);
}

double NanosecondsEach(int count, const std::function<void(int)>& run) {
  const absl::Time start = absl::Now();
  for (int i = 0; i < count; ++i) run(i);
  return absl::ToDoubleNanoseconds(absl::Now() - start) / count;
}

[[noreturn]] void Die(const std::string& message) {
  std::cerr << message << "\n";
  std::exit(1);
}

// The example's members with a lexical head, and one model.
std::string Manifest(const std::string& worker) {
  return absl::StrCat(R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: bench}
spec:
  entry: main
  cache: {answers: {}}
  models: [{name: stub, workers: [")",
                      worker, R"("]}]
  nodes:
    - name: main
      router: {members: [files, sums, music], fallback: talk, heads: [{threshold: 0.4, lexical: {}}]}
    - name: files
      model: {model: stub}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: sums
      model: {model: stub}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - name: music
      model: {model: stub}
      examples: [play a song, play some jazz, play the next song, turn up the music,
                 skip this song, put on my favourite song, play music from 1999, stop the music]
    - {name: talk, model: {model: stub}}
)");
}

// Like what people ask, each once.
std::string NewQuery(int64_t number) {
  static constexpr const char* kBegins[] = {"find all files larger than ", "what is 12 percent of ",
                                            "play the song number ", "tell me something about "};
  return absl::StrCat(kBegins[number % 4], number, " in the folder of my last project");
}

void Decide(const std::shared_ptr<const gateway::GraphState>& graph, const std::string& query,
            bool bypass) {
  router::RouteOptions options;
  options.context.tenant = "default";
  gateway::RouteCached(graph, "main", query, std::move(options), bypass, nullptr,
                       [](absl::StatusOr<v1::Decision> decision) {
                         if (!decision.ok()) Die(decision.status().ToString());
                       });
}

v1::GenerateRequest RequestOf(const std::string& query) {
  v1::GenerateRequest request;
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content(query);
  request.set_tenant("default");
  return request;
}

// Looks for an answer, and keeps one of about 1 KB: what a query that finds nothing pays.
void MissAnswer(const std::shared_ptr<const gateway::GraphState>& graph, const std::string& query,
                const std::string& text) {
  const v1::GenerateRequest request = RequestOf(query);
  std::unique_ptr<gateway::AnswerRecorder> recorder;
  const auto lookup = gateway::AnswerLookup::Make(
      graph, request, std::make_shared<const gateway::DrainList::Names>(), absl::InfiniteFuture(),
      nullptr,
      [&](gateway::AnswerLookup::Result result) { recorder = std::move(result.recorder); });
  lookup->Start();
  if (recorder == nullptr) Die("the answer was there");
  v1::GenerateResponse event;
  event.mutable_tokens()->set_text(text);
  recorder->OnEvent(event);
  v1::GenerateResponse finished;
  finished.mutable_finished()->set_finish_reason(v1::FINISH_REASON_STOP);
  recorder->OnDone(absl::OkStatus(), finished);
}

int Main(int argc, char** argv) {
  Report report("query_cache", argc, argv);
  gateway::StubWorkerOptions worker_options;
  worker_options.defaults.tokens = 1;
  const gateway::StubWorker worker(worker_options);
  const std::unique_ptr<Store> store = MakeMemoryStore();
  gateway::ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.threads = 1;
  auto server = gateway::Server::Start(options, store.get());
  if (!server.ok()) Die(server.status().ToString());
  const auto channel = grpc::CreateChannel(absl::StrCat("127.0.0.1:", (*server)->port()),
                                           grpc::InsecureChannelCredentials());
  const auto admin = v1::Admin::NewStub(channel);
  const auto client = v1::Gateway::NewStub(channel);
  {
    grpc::ClientContext context;
    v1::ApplyGraphRequest request;
    request.set_manifest(Manifest(worker.address()));
    v1::ApplyGraphResponse response;
    const grpc::Status status = admin->ApplyGraph(&context, request, &response);
    if (!status.ok()) Die(status.error_message());
  }
  std::shared_ptr<const gateway::GraphState> graph = (*server)->graphs().state();

  // By the library.
  int64_t number = 0;
  std::vector<std::string> known;
  for (int i = 0; i < kQueries; ++i) known.push_back(NewQuery(number++));
  for (const std::string& query : known) Decide(graph, query, /*bypass=*/false);
  const std::string text(1000, 'x');
  std::vector<double> hit, made, missed, answers;
  for (int round = 0; round < kRounds; ++round) {
    hit.push_back(NanosecondsEach(kQueries, [&](int i) { Decide(graph, known[i], false); }));
    std::vector<std::string> fresh;
    for (int i = 0; i < kQueries; ++i) fresh.push_back(NewQuery(number++));
    made.push_back(NanosecondsEach(kQueries, [&](int i) { Decide(graph, fresh[i], true); }));
    missed.push_back(NanosecondsEach(kQueries, [&](int i) { Decide(graph, fresh[i], false); }));
    answers.push_back(NanosecondsEach(kQueries, [&](int i) { MissAnswer(graph, fresh[i], text); }));
  }
  const double miss_cost = Median(missed) - Median(made);

  // Over loopback: calls of Route whose decision is kept, and calls of Generate without caches.
  struct RouteTimes {
    std::vector<double> all, served;  // of CPUs, each call
  };
  std::map<int, RouteTimes> routes;  // by how many call at a time
  std::vector<double> generate_cpu, generate_time;
  for (int round = 0; round < 3; ++round) {
    for (const int callers : {1, 16}) {
      const absl::Duration before = CpuTime();
      std::vector<absl::Duration> of_callers(static_cast<size_t>(callers));
      std::vector<std::thread> threads;
      for (absl::Duration& of_caller : of_callers) {
        threads.emplace_back([&] {
          for (int i = 0; i < kCalls / callers; ++i) {
            grpc::ClientContext context;
            v1::RouteRequest request;
            *request.mutable_messages() =
                RequestOf(known[static_cast<size_t>(i % kQueries)]).messages();
            v1::RouteResponse response;
            if (!client->Route(&context, request, &response).ok()) Die("Route has failed");
            if (!response.decisions(0).cached()) Die("a decision was not kept");
          }
          of_caller = CpuTime(RUSAGE_THREAD);
        });
      }
      for (std::thread& thread : threads) thread.join();
      const absl::Duration all = CpuTime() - before;
      const int calls = kCalls / callers * callers;
      RouteTimes& times = routes[callers];
      times.all.push_back(absl::ToDoubleSeconds(all) / calls);
      const absl::Duration called =
          std::accumulate(of_callers.begin(), of_callers.end(), absl::ZeroDuration());
      times.served.push_back(absl::ToDoubleSeconds(all - called) / calls);
    }
    const absl::Duration cpu = CpuTime();
    const absl::Time start = absl::Now();
    for (int i = 0; i < kCalls / 3; ++i) {
      grpc::ClientContext context;
      v1::GenerateRequest request = RequestOf(NewQuery(number++));
      request.set_bypass_cache(true);
      auto reader = client->Generate(&context, request);
      v1::GenerateResponse event;
      while (reader->Read(&event)) {
      }
      if (!reader->Finish().ok()) Die("Generate has failed");
    }
    generate_time.push_back(absl::ToDoubleSeconds(absl::Now() - start) / (kCalls / 3));
    generate_cpu.push_back(absl::ToDoubleSeconds(CpuTime() - cpu) / (kCalls / 3));
  }
  const double request_ns = Median(generate_time) * 1e9;

  report.Add({.name = "kept decisions, by the library, one thread",
              .value = 1e9 / Median(hit),
              .unit = "decisions/s",
              .beside = "made by the lexical head",
              .ratio = Median(made) / Median(hit),
              .aim = AtLeast(10'000)});
  for (const auto& [callers, times] : routes) {
    const std::string name = absl::StrCat("kept decisions, ", callers, " calls of Route at a time");
    report.Add({.name = absl::StrCat(name, ", gateway and client on one core"),
                .value = 1 / Median(times.all),
                .unit = "decisions/s",
                .beside = "",
                .ratio = {},
                .aim = {}});
    report.Add({.name = absl::StrCat(name, ", the gateway alone on one core"),
                .value = 1 / Median(times.served),
                .unit = "decisions/s",
                .beside = "",
                .ratio = {},
                .aim = AtLeast(10'000)});
  }
  report.Add({.name = "Generate without caches, time of a call",
              .value = request_ns / 1e3,
              .unit = "us",
              .beside = "CPU time of gateway, client and stub",
              .ratio = Median(generate_time) / Median(generate_cpu),
              .aim = {}});
  report.Add({.name = "a decision that is not kept: looking and keeping it",
              .value = miss_cost / 1e3,
              .unit = "us",
              .beside = "time of a Generate call",
              .ratio = miss_cost / request_ns,
              .aim = AtMost(0.01, Aim::kRatio)});
  report.Add({.name = "an answer that is not kept: looking and keeping 1 KB",
              .value = Median(answers) / 1e3,
              .unit = "us",
              .beside = "time of a Generate call",
              .ratio = Median(answers) / request_ns,
              .aim = AtMost(0.01, Aim::kRatio)});
  const int status = report.Print();
  graph.reset();  // whose sessions with workers the server waits for
  (*server)->Shutdown(absl::ZeroDuration(), absl::ZeroDuration());
  return status;
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
