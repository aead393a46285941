// Time to the first token of a prompt of which another worker has computed the beginning: computed
// again, found in the engine's own cache, fetched from Redis always, and as the cost model chooses;
// with Redis near, contended by other clients, distant, behind a slow link, frozen and dead. Beside
// it, the raw throughput of the same bytes.
//
//   shared_kv_bench [--json] [OPTION…]
//     --only TEXT                of the servers only those whose name holds TEXT
//     --lengths=256,1024,4096    of prompts
//     --repetitions=3            of a prompt's length, no two of which begin alike
//
// The model is a random Llama of 8 layers; each figure is the median of the repetitions.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/redis/redis_client.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/options.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "tests/bench/slow_proxy.h"
#include "tests/common/redis/redis_server.h"
#include "workers/cache/redis_page_store.h"
#include "workers/engine/engine.h"
#include "workers/engine/generate.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

constexpr int kThreads = 2;
constexpr int kPageSize = 16;
// Distinct prompts, so that none is in the cache of an engine that has not read it.
constexpr RandomCheckpoint kShape{.hidden_size = 512,
                                  .intermediate_size = 1536,
                                  .num_layers = 8,
                                  .num_heads = 8,
                                  .num_kv_heads = 4,
                                  .head_dim = 64,
                                  .vocab_size = 8192,
                                  .max_position_embeddings = 65536};
constexpr double kBytesPerToken = 2.0 * 8 * 4 * 64 * sizeof(float);

struct Prompts {
  std::vector<int> lengths;
  size_t repetitions = 0;
  std::vector<std::vector<int32_t>> ids;  // [length, repetition]
};

std::vector<int32_t> PromptOf(std::mt19937& random, int length) {
  std::vector<int32_t> ids(static_cast<size_t>(length) + 1);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 8192);
  return ids;
}

double FirstToken(workers::Engine& engine, const std::vector<int32_t>& prompt) {
  workers::GenerateRequest request;
  request.prompt = prompt;
  request.max_tokens = 1;
  const auto begin = std::chrono::steady_clock::now();
  const auto answer = workers::Generate(engine, std::move(request));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (!answer.ok()) std::cerr << answer.status() << '\n';
  return seconds;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One per length.
std::vector<double> Measure(workers::Engine& engine, const Prompts& prompts) {
  std::vector<double> medians;
  for (size_t first = 0; first < prompts.ids.size(); first += prompts.repetitions) {
    std::vector<double> seconds;
    for (size_t i = first; i < first + prompts.repetitions; ++i) {
      seconds.push_back(FirstToken(engine, prompts.ids[i]));
    }
    medians.push_back(Median(std::move(seconds)));
  }
  return medians;
}

// Clients that read and write large values as fast as the server lets them, until the end.
class Contention {
 public:
  explicit Contention(const std::string& socket) {
    std::vector<std::string> arguments{
        "redis-benchmark", "-s", socket, "-t", "set,get", "-c", "8", "-d", "262144", "-l", "-q"};
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t quiet;
    ::posix_spawn_file_actions_init(&quiet);
    ::posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (::posix_spawnp(&pid_, argv[0], &quiet, nullptr, argv.data(), environ) != 0) pid_ = 0;
    ::posix_spawn_file_actions_destroy(&quiet);
  }
  ~Contention() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Contention(const Contention&) = delete;
  Contention& operator=(const Contention&) = delete;

 private:
  pid_t pid_ = 0;
};

struct Bench {
  std::shared_ptr<const workers::Checkpoint> checkpoint;
  int kv_tokens = 0;

  // `redis` null: shares nothing. Without `chooses`, the engine knows no cost and fetches whatever
  // there is.
  std::unique_ptr<workers::Engine> Make(const RedisOptions* redis, bool chooses,
                                        int write_from_use = 2) const {
    workers::EngineOptions options{
        .max_sequences = 1, .page_size = kPageSize, .kv_tokens = kv_tokens};
    if (chooses) options.step_cost_time = absl::Seconds(2);
    if (redis != nullptr) {
      RedisOptions client = *redis;
      client.connections = 4;
      options.make_page_store = workers::ShareThroughRedis(
          RedisClient::Create(client),
          {.write_from_use = write_from_use, .max_write_bytes = size_t{1} << 30});
    }
    auto engine = workers::Engine::Create(checkpoint, nullptr,
                                          kernels::MakeCpuBackend({.threads = kThreads}), options);
    if (!engine.ok()) {
      std::cerr << engine.status() << '\n';
      return nullptr;
    }
    // Threads are awake, connections are made.
    FirstToken(**engine, {1, 2, 3});
    absl::SleepFor(absl::Milliseconds(200));
    return *std::move(engine);
  }
};

// Bytes per second of the client's own MGETs of values of a page, one after the other.
double RawThroughput(RedisClient& client, size_t value_bytes, size_t bytes) {
  const std::string value(value_bytes, 'x');
  std::vector<std::string> names;
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  for (size_t i = 0; i < bytes / value_bytes; ++i) {
    names.push_back(absl::StrCat("raw:", i));
    if (!client.Call({"SET", names.back(), value}, deadline).ok()) return 0;
  }
  const size_t group = std::max<size_t>((size_t{1} << 20) / value_bytes, 1);
  double best = 0;
  for (int repetition = 0; repetition < 3; ++repetition) {
    const auto begin = std::chrono::steady_clock::now();
    for (size_t first = 0; first < names.size(); first += group) {
      std::vector<std::string_view> arguments = {"MGET"};
      for (size_t i = first; i < std::min(first + group, names.size()); ++i) {
        arguments.push_back(names[i]);
      }
      if (!client.Call(arguments, deadline).ok()) return 0;
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, static_cast<double>(names.size() * value_bytes) / seconds);
  }
  for (const std::string& name : names) (void)client.Call({"DEL", name}, deadline);
  return best;
}

// Of redis-benchmark; 0 where it cannot be run.
double BenchmarkThroughput(const std::string& socket, size_t value_bytes) {
  const std::string command =
      absl::StrCat("redis-benchmark -s ", socket, " -t set,get -n 2000 -c 4 -d ", value_bytes,
                   " --csv 2>/dev/null");
  FILE* const pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return 0;
  double requests = 0;
  char line[512];
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    std::sscanf(line, "\"GET\",\"%lf\"", &requests);
  }
  ::pclose(pipe);
  return requests * static_cast<double>(value_bytes);
}

std::string Ms(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", 1e3 * seconds);
  return text;
}

int Main(int argc, char** argv) {
  Report report("shared_kv", argc, argv);
  const std::string only = OnlyOf(argc, argv);
  const TemporaryFolder folder;
  if (const absl::Status status = WriteRandomCheckpoint(kShape, folder.path()); !status.ok()) {
    std::cerr << status << '\n';
    return 1;
  }
  auto opened = workers::Checkpoint::Open(folder.path());
  if (!opened.ok()) {
    std::cerr << opened.status() << '\n';
    return 1;
  }
  Prompts prompts{
      .lengths = IntegersOption(argc, argv, "--lengths=", "256,1024,4096"),
      .repetitions = std::max<size_t>(NumberOption<size_t>(argc, argv, "--repetitions=", "3"), 1)};
  const std::vector<int>& lengths = prompts.lengths;
  std::mt19937 random(7);
  int tokens = 0;  // that all prompts have together, and then some
  for (const int length : lengths) {
    for (size_t i = 0; i < prompts.repetitions; ++i) {
      prompts.ids.push_back(PromptOf(random, length));
      tokens += length + 4 * kPageSize;
    }
  }
  const Bench bench{std::make_shared<const workers::Checkpoint>(*std::move(opened)),
                    tokens + tokens / 4};

  RedisServer server({"--save", "", "--appendonly", "no"});
  RedisOptions near = server.options();
  near.timeouts = Patient(absl::Milliseconds(500));
  const auto raw = RedisClient::Create(near);
  const size_t value_bytes = static_cast<size_t>(kBytesPerToken) * kPageSize;
  const double raw_throughput = RawThroughput(*raw, value_bytes, size_t{64} << 20);
  const double benchmark = BenchmarkThroughput(server.Socket(), value_bytes);
  report.Add({.name = "MGET by the client, one at a time",
              .value = raw_throughput / 1e6,
              .unit = "MB/s",
              .beside = "redis-benchmark GET, 4 connections",
              .ratio = benchmark > 0 ? std::optional(raw_throughput / benchmark) : std::nullopt,
              .aim = AtLeast(0.8, Aim::kRatio)});

  std::vector<double> recompute, local, cold;
  {
    const auto alone = bench.Make(nullptr, true);
    if (alone == nullptr) return 1;
    recompute = Measure(*alone, prompts);
    local = Measure(*alone, prompts);
    for (size_t i = 0; i < recompute.size(); ++i) {
      report.Add({.name = absl::StrCat("recompute, ", lengths[i]),
                  .value = 1e3 * recompute[i],
                  .unit = "ms"});
      report.Add({.name = absl::StrCat("local hit, ", lengths[i]),
                  .value = 1e3 * local[i],
                  .unit = "ms",
                  .beside = "recompute " + Ms(recompute[i]),
                  .ratio = local[i] / recompute[i]});
    }
  }
  {
    // Nothing hits, and nothing is had for a second time.
    const auto engine = bench.Make(&near, true);
    cold = Measure(*engine, prompts);
    for (size_t i = 0; i < cold.size(); ++i) {
      report.Add({.name = absl::StrCat("near, nothing hits, ", lengths[i]),
                  .value = 1e3 * cold[i],
                  .unit = "ms",
                  .beside = "recompute " + Ms(recompute[i]),
                  .ratio = cold[i] / recompute[i],
                  .aim = AtMost(1.01, Aim::kRatio)});
    }
  }
  {
    // Nothing hits; all that is computed is written.
    const auto writer = bench.Make(&near, true, 1);
    cold = Measure(*writer, prompts);
    for (size_t i = 0; i < cold.size(); ++i) {
      report.Add({.name = absl::StrCat("near, nothing hits and all is written, ", lengths[i]),
                  .value = 1e3 * cold[i],
                  .unit = "ms",
                  .beside = "recompute " + Ms(recompute[i]),
                  .ratio = cold[i] / recompute[i],
                  .aim = AtMost(1.02, Aim::kRatio)});
    }
    absl::SleepFor(absl::Seconds(3));
    const auto sharing = writer->stats().sharing;
    std::cerr << "written " << sharing->store.written_bytes << " dropped "
              << sharing->store.dropped_pages << '\n';
  }

  const auto measure = [&](const std::string& name, const RedisOptions& options, bool always) {
    if (name.find(only) == std::string::npos) return;
    std::cerr << name << '\n';
    std::vector<double> fetched;
    if (always) {
      const auto engine = bench.Make(&options, false);
      fetched = Measure(*engine, prompts);
      for (size_t i = 0; i < fetched.size(); ++i) {
        const double bytes = kBytesPerToken * lengths[i];
        report.Add({.name = absl::StrCat(name, ", always fetched, ", lengths[i]),
                    .value = 1e3 * fetched[i],
                    .unit = "ms",
                    .beside = "recompute " + Ms(recompute[i]),
                    .ratio = fetched[i] / recompute[i]});
        if (name == "near" && i + 1 == fetched.size()) {
          report.Add({.name = "near, throughput of a fetch into the KV cache",
                      .value = bytes / fetched[i] / 1e6,
                      .unit = "MB/s",
                      .beside = "redis-benchmark GET, 4 connections",
                      .ratio = benchmark > 0 ? std::optional(bytes / fetched[i] / benchmark)
                                             : std::nullopt,
                      .aim = AtLeast(0.8, Aim::kRatio)});
        }
      }
    }
    const auto engine = bench.Make(&options, true);
    const std::vector<double> chosen = Measure(*engine, prompts);
    for (size_t i = 0; i < chosen.size(); ++i) {
      const double better = fetched.empty() ? recompute[i] : std::min(recompute[i], fetched[i]);
      report.Add({.name = absl::StrCat(name, ", chosen, ", lengths[i]),
                  .value = 1e3 * chosen[i],
                  .unit = "ms",
                  .beside = "the better of both " + Ms(better),
                  .ratio = chosen[i] / better,
                  .aim = AtMost(1.02, Aim::kRatio)});
    }
    const auto sharing = *engine->stats().sharing;
    std::cerr << "  lookups " << sharing.lookups << " declined " << sharing.declined
              << " abandoned " << sharing.abandoned << " hit tokens " << sharing.hit_tokens << '\n';
  };

  measure("near", near, true);
  if (std::string_view("contended").find(only) != std::string_view::npos) {
    const Contention contention(server.Socket());
    absl::SleepFor(absl::Milliseconds(500));
    measure("contended", near, true);
  }
  {
    const SlowProxy proxy(server.Socket(), {.delay_seconds = 0.01});
    RedisOptions distant = near;
    distant.unix_socket.clear();
    distant.port = proxy.port();
    measure("10 ms each way", distant, true);
  }
  {
    const SlowProxy proxy(server.Socket(), {.bytes_per_second = 25e6});
    RedisOptions slow = near;
    slow.unix_socket.clear();
    slow.port = proxy.port();
    measure("25 MB/s", slow, true);
  }
  {
    const auto engine_options = near;
    server.Freeze();
    measure("frozen", engine_options, false);
    server.Thaw();
  }
  server.Kill();
  measure("dead", near, false);
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
