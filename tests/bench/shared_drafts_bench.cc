// What it earns and costs that replicas tell each other what their drafters learn, with a real
// redis-server on this machine.
//
//   shared_drafts_bench --requests=FILE    from tests/bench/speculation_requests.py
//     --nodes=63                           drafted rows of a step
//     --pace-seconds=10                    of each measurement of cost
//
// Earnings: one replica has served half of the requests of a task (speculation_replay.h), and a new
// one serves the other half: alone, as it is without sharing; beside the first one, whose learning
// it is told; and as the first one would serve them itself. Drafters are recycling and suffix.
//
// Cost: a replica of a vocabulary of 32,000 learns at a given pace, each step 32 rows with eight
// candidates that are random, so that it has more to tell than a model that is right. Beside it,
// the same without sharing.
#include <time.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/redis/redis_client.h"
#include "common/redis/redis_store.h"
#include "tests/bench/report.h"
#include "tests/bench/speculation_replay.h"
#include "tests/common/redis/redis_server.h"
#include "workers/cache/shared_drafts.h"
#include "workers/speculation/kept_drafter.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/suffix.h"

namespace octogate::bench {
namespace {

using namespace workers;  // NOLINT: everything here is about it

constexpr int kVocabulary = 32000;

// A process that serves the model. Without a store it keeps what it learns to itself.
class Replica {
 public:
  explicit Replica(const RedisOptions* redis) {
    std::vector<std::unique_ptr<LearningDrafter>> drafters;
    drafters.push_back(
        std::make_unique<RecyclingDrafter>(RecyclingOptions{.table = {.vocab_size = kVocabulary}}));
    drafters.push_back(std::make_unique<SuffixDrafter>(SuffixOptions{.vocab_size = kVocabulary}));
    if (redis == nullptr) {
      for (auto& drafter : drafters) drafters_.push_back(std::move(drafter));
      return;
    }
    client_ = RedisClient::Create(*redis);
    store_ = MakeRedisStore(client_.get());
    place_ = ShareDrafts(store_.get());
    const auto keeper =
        std::make_shared<DraftKeeper>(DraftKeeperOptions{.model = "model", .places = {place_}});
    for (auto& drafter : drafters) drafters_.push_back(KeepDrafter(std::move(drafter), keeper));
  }

  std::vector<std::unique_ptr<Drafter>> Lend();
  const std::vector<std::unique_ptr<Drafter>>& drafters() const { return drafters_; }
  SharedDrafts::Stats shared() const { return place_->stats(); }
  RedisClient& client() { return *client_; }

  // As a replica that waits for its first request, or between two.
  void Rest(absl::Duration time) {
    for (const auto& drafter : drafters_) drafter->Begin("replay");
    absl::SleepFor(time);
  }

 private:
  std::unique_ptr<RedisClient> client_;
  std::unique_ptr<Store> store_;
  std::shared_ptr<SharedDrafts> place_;
  std::vector<std::unique_ptr<Drafter>> drafters_;
};

class Lent : public Drafter {
 public:
  explicit Lent(Drafter* drafter) : drafter_(*drafter) {}
  std::string_view name() const override { return drafter_.name(); }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) override {
    return drafter_.Begin(scope);
  }
  uint64_t bytes() const override { return drafter_.bytes(); }

 private:
  Drafter& drafter_;
};

std::vector<std::unique_ptr<Drafter>> Replica::Lend() {
  std::vector<std::unique_ptr<Drafter>> lent;
  for (const auto& drafter : drafters_) lent.push_back(std::make_unique<Lent>(drafter.get()));
  return lent;
}

double Serve(Replica& replica, const std::vector<RecordedRequest>& requests, int nodes) {
  ReplayCounts counts;
  for (const auto& [_, one] :
       Replay(requests, [&] { return replica.Lend(); }, {.max_nodes = nodes, .warm = true})) {
    counts.Add(one);
  }
  return counts.mat();
}

void MeasureEarnings(const std::string& task, const std::vector<RecordedRequest>& requests,
                     int nodes, Report& report) {
  std::vector<RecordedRequest> served;
  std::vector<RecordedRequest> left;
  for (size_t i = 0; i < requests.size(); ++i) {
    // Both turns of a conversation go to the same replica.
    (i / 2 % 2 == 0 ? served : left).push_back(requests[i]);
  }
  RedisServer redis({"--save", ""});
  const RedisOptions options = redis.options();
  Replica first(&options);
  Serve(first, served, nodes);
  first.Rest(absl::Seconds(3));
  // Not told what the others serve meanwhile, which are the same requests.
  Replica knowing(nullptr);
  Serve(knowing, served, nodes);
  Replica alone(nullptr);
  Replica told(&options);
  told.Rest(absl::Seconds(1));
  size_t begin = 0;
  for (size_t count : {size_t{1}, size_t{2}, size_t{4}, size_t{8}, size_t{16}, size_t{32}}) {
    if (begin + count > left.size()) break;
    const auto from = left.begin() + static_cast<std::ptrdiff_t>(begin);
    const std::vector<RecordedRequest> block(from, from + static_cast<std::ptrdiff_t>(count));
    const double cold = Serve(alone, block, nodes);
    const double warm = Serve(told, block, nodes);
    const double itself = Serve(knowing, block, nodes);
    const std::string label = task + ", requests " + std::to_string(begin + 1) + " to " +
                              std::to_string(begin + count) + " of a new replica, ";
    report.Add({.name = label + "not told", .value = cold, .unit = "tokens/step"});
    report.Add({.name = label + "told",
                .value = warm,
                .unit = "tokens/step",
                .beside = "not told",
                .ratio = warm / cold});
    report.Add({.name = label + "the first itself", .value = itself, .unit = "tokens/step"});
    begin += count;
  }
  report.Add({.name = task + ", read by the new replica",
              .value = static_cast<double>(told.shared().read_bytes) / 1e6,
              .unit = "MB"});
}

double CpuSeconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Cost {
  double learning = 0;  // seconds of the drafters' thread
  double others = 0;    // seconds of all other threads
  double slowest = 0;   // step, in milliseconds of that thread
  uint64_t steps = 0;
};

// `sequences` of 256 steps each take turns.
Cost Learn(Replica& replica, int sequences, double steps_per_second, double seconds) {
  std::mt19937_64 random(1);
  const auto token = [&random] {
    // Some tokens are far more frequent than others.
    const double uniform = static_cast<double>(random() % 1000000 + 1) / 1e6;
    return static_cast<int32_t>(std::pow(uniform, 3) * (kVocabulary - 1));
  };
  Cost cost;
  const double process = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
  const double thread = CpuSeconds(CLOCK_THREAD_CPUTIME_ID);
  std::vector<std::vector<std::unique_ptr<SequenceDrafter>>> running(
      static_cast<size_t>(sequences));
  std::vector<std::vector<int32_t>> candidates(32);
  const absl::Time begin = absl::Now();
  while (absl::Now() < begin + absl::Seconds(seconds)) {
    for (size_t s = 0; s < running.size(); ++s) {
      std::vector<ComputedRow> rows;
      for (auto& row : candidates) {
        row.clear();
        for (int i = 0; i < 8; ++i) row.push_back(token());
        rows.push_back(
            {.previous = token(), .token = token(), .candidates = row, .kept = rows.empty()});
      }
      const std::vector<int32_t> chosen{token(), token()};
      const double before = CpuSeconds(CLOCK_THREAD_CPUTIME_ID);
      auto& drafters = running[s];
      if ((cost.steps + s) % 256 == 0) drafters.clear();
      if (drafters.empty()) {
        for (const auto& drafter : replica.drafters()) drafters.push_back(drafter->Begin("all"));
        for (const auto& drafter : drafters) drafter->Append(chosen);
      }
      for (const auto& drafter : drafters) drafter->Append(chosen);
      for (const auto& drafter : drafters) drafter->Observe(rows);
      const double time = CpuSeconds(CLOCK_THREAD_CPUTIME_ID) - before;
      cost.learning += time;
      cost.slowest = std::max(cost.slowest, 1e3 * time);
    }
    ++cost.steps;
    const absl::Time next =
        begin + absl::Seconds(static_cast<double>(cost.steps) / steps_per_second);
    absl::SleepFor(next - absl::Now());
  }
  running.clear();
  cost.others = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - process -
                (CpuSeconds(CLOCK_THREAD_CPUTIME_ID) - thread);
  return cost;
}

void MeasureCost(int sequences, double seconds, Report& report) {
  constexpr double kStepsPerSecond = 50;
  Replica silent(nullptr);
  const Cost without = Learn(silent, sequences, kStepsPerSecond, seconds);
  RedisServer redis({"--save", ""});
  const RedisOptions options = redis.options();
  Replica replica(&options);
  const Cost with = Learn(replica, sequences, kStepsPerSecond, seconds);
  const SharedDrafts::Stats stats = replica.shared();
  const std::string label = std::to_string(sequences) + " sequences, " +
                            std::to_string(static_cast<int>(kStepsPerSecond)) + " steps/s, ";
  const auto per_step = [](const Cost& cost) {
    return 1e6 * cost.learning / static_cast<double>(std::max<uint64_t>(cost.steps, 1));
  };
  report.Add(
      {.name = label + "learning without sharing", .value = per_step(without), .unit = "us/step"});
  report.Add({.name = label + "learning",
              .value = per_step(with),
              .unit = "us/step",
              .beside = "without sharing",
              .ratio = per_step(with) / per_step(without)});
  report.Add({.name = label + "slowest, without sharing", .value = without.slowest, .unit = "ms"});
  report.Add({.name = label + "slowest", .value = with.slowest, .unit = "ms"});
  report.Add({.name = label + "other threads",
              .value = 100 * with.others / seconds,
              .unit = "% of a core"});
  report.Add({.name = label + "published",
              .value = static_cast<double>(stats.published_bytes) / 1e3 / seconds,
              .unit = "kB/s"});
  report.Add({.name = label + "publications",
              .value = static_cast<double>(stats.publications) / seconds,
              .unit = "/s"});
  report.Add({.name = label + "snapshots", .value = static_cast<double>(stats.snapshots)});
}

int Main(int argc, char** argv) {
  std::string path;
  int nodes = 63;
  double seconds = 10;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::string value = argument.substr(argument.find('=') + 1);
    if (argument.starts_with("--requests=")) path = value;
    if (argument.starts_with("--nodes=")) nodes = std::atoi(value.c_str());
    if (argument.starts_with("--pace-seconds=")) seconds = std::atof(value.c_str());
  }
  if (path.empty()) {
    std::fprintf(stderr, "--requests=FILE names no file of tests/bench/speculation_requests.py\n");
    return 2;
  }
  Report report("shared_drafts", argc, argv);
  std::map<std::string, std::vector<RecordedRequest>> tasks;
  for (RecordedRequest& request : ReadRequests(path)) {
    request.task = request.task.substr(0, request.task.find(' '));
    tasks[request.task].push_back(std::move(request));
  }
  for (auto& [task, requests] : tasks) {
    if (requests.size() < 100) continue;
    // In another order than the file's, whose neighbours are alike; the same each time.
    std::mt19937_64 random(1);
    for (size_t i = requests.size() / 2; i-- > 1;) {
      const size_t j = random() % (i + 1);
      std::swap(requests[2 * i], requests[2 * j]);
      std::swap(requests[2 * i + 1], requests[2 * j + 1]);
    }
    requests.resize(std::min<size_t>(requests.size(), 400));
    MeasureEarnings(task, requests, nodes, report);
  }
  for (const int sequences : {1, 8}) MeasureCost(sequences, seconds, report);
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
