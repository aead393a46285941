// Time to the first token of a prompt of which another worker has computed the beginning: computed
// again, found in the engine's own cache, fetched from Redis always, and as the cost model chooses;
// with Redis near, contended by other clients, distant, behind a slow link, frozen and dead, and
// where nothing hits. Beside it, the raw throughput of the same bytes.
//
//   shared_kv_bench [--json] [OPTION…]
//     --only=TEXT                of the servers only those whose name holds TEXT
//     --lengths=256,1024,4096    of prompts
//     --rounds=7                 of 4,096 tokens and more; of shorter prompts three times as many
//     --fetches                  nothing but ways that always fetch: many rounds in little time, of
//                                few prompts, which engines have forgotten when they come again
//
// The ways to the first token of one kind of prompt are measured in turns (turns.h), each with an
// engine of its own that has not seen the prompt. The first two rounds of a length, of those above
// 4,096 tokens one, are not counted: memory is had from the system, and engines learn. A choice is
// set beside the better way, by the medians, as the median of the ratios of each round. The model
// is a random Llama of 8 layers.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/redis/redis_client.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/options.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "tests/bench/turns.h"
#include "tests/common/redis/redis_server.h"
#include "tests/common/redis/slow_proxy.h"
#include "workers/cache/redis_page_store.h"
#include "workers/engine/engine.h"
#include "workers/engine/generate.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

constexpr int kThreads = 2;
constexpr int kPageSize = 16;
constexpr int kVocabulary = 8192;
constexpr RandomCheckpoint kShape{.hidden_size = 512,
                                  .intermediate_size = 1536,
                                  .num_layers = 8,
                                  .num_heads = 8,
                                  .num_kv_heads = 4,
                                  .head_dim = 64,
                                  .vocab_size = kVocabulary,
                                  .max_position_embeddings = 65536};
constexpr double kBytesPerToken = 2.0 * 8 * 4 * 64 * sizeof(float);
constexpr size_t kPageBytes = static_cast<size_t>(kBytesPerToken) * kPageSize;
// Between two turns, so that what one has left under way is no other's.
constexpr absl::Duration kPause = absl::Milliseconds(60);

// Tokens of a prompt that does nothing but take memory.
constexpr int kFillPrompt = 1024;

using Prompt = std::vector<int32_t>;

// No two begin alike.
Prompt RandomPrompt(std::mt19937& random, int length) {
  Prompt ids(static_cast<size_t>(length) + 1);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % kVocabulary);
  return ids;
}

double FirstToken(workers::Engine& engine, const Prompt& prompt) {
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

// Bytes per second of fetches of `bytes` of pages, without an engine and its cache.
class Fetches {
 public:
  Fetches(const RedisOptions& redis, size_t page_bytes, size_t bytes) {
    RedisOptions client = redis;
    client.connections = 4;
    store_ = workers::ShareThroughRedis(
        RedisClient::Create(client),
        {.write_from_use = 1, .max_fetch_bytes = bytes * 2, .max_write_bytes = bytes * 2})(
        {.description = "fetches alone", .page_size = 1, .page_bytes = page_bytes});
    const int pages = static_cast<int>(bytes / page_bytes);
    tokens_.resize(static_cast<size_t>(pages), 7);
    chain_ = {.context = "", .tokens = tokens_, .first = 0, .count = pages};
    Wait([&] {
      store_->TakeFlushed();
      return std::isfinite(store_->FetchSeconds(1));
    });
    store_->Write(chain_, [](std::span<const int>, std::span<const std::span<std::byte>> to) {
      for (const auto& page : to) std::fill(page.begin(), page.end(), std::byte{1});
    });
    bytes_ = static_cast<size_t>(pages) * page_bytes;
    Wait([&] { return store_->stats().written_bytes >= bytes_; });
  }

  double Measure() {
    absl::Mutex mutex;
    bool changed = false;
    std::vector<workers::SharedPage> pages;
    const auto begin = std::chrono::steady_clock::now();
    const auto fetch = store_->Fetch(chain_, workers::PageOrder::kForward, [&] {
      absl::MutexLock lock(&mutex);
      changed = true;
    });
    while (fetch != nullptr && !fetch->Take(0, pages)) {
      absl::MutexLock lock(&mutex);
      mutex.Await(absl::Condition(&changed));
      changed = false;
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    return pages.size() == tokens_.size() ? static_cast<double>(bytes_) / seconds.count() : 0;
  }

 private:
  static void Wait(const std::function<bool()>& condition) {
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    while (!condition() && absl::Now() < give_up) absl::SleepFor(absl::Milliseconds(5));
  }

  std::unique_ptr<workers::PageStore> store_;
  std::vector<int32_t> tokens_;
  workers::PageChain chain_;
  size_t bytes_ = 0;
};

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

// Returns when the server has had nothing more to write for a while.
void AwaitWrites(RedisClient& client) {
  int64_t before = -1;
  for (int i = 0; i < 300; ++i) {
    absl::SleepFor(absl::Milliseconds(100));
    const auto size = client.Call({"DBSIZE"}, absl::Now() + absl::Seconds(10));
    if (size.ok() && size->integer == before) return;
    before = size.ok() ? size->integer : -1;
  }
}

// What a way is set beside: one of the others, or the better of the first two, than which it is to
// be no slower.
enum class Beside { kFirst, kSecond, kBetter };

// A way to the first token; which prompt of that length is its own matter.
struct Way {
  std::string name;
  std::function<double(int length, int round)> seconds;
  Beside beside = Beside::kFirst;
};

class Bench {
 public:
  Bench(std::shared_ptr<const workers::Checkpoint> checkpoint, std::vector<int> lengths, int rounds,
        bool few_prompts, Report* report)
      : checkpoint_(std::move(checkpoint)),
        lengths_(std::move(lengths)),
        rounds_(rounds),
        few_prompts_(few_prompts),
        report_(*report) {}

  const std::vector<int>& lengths() const { return lengths_; }
  // Of a length, and those before them that are not counted.
  int RoundsOf(int length) const { return length < 4096 ? 3 * rounds_ : rounds_; }
  static int Uncounted(int length) { return length <= 4096 ? 2 : 1; }
  int KvTokens() const {
    const int longest = *std::max_element(lengths_.begin(), lengths_.end());
    return longest + longest / 4 + kFillPrompt;
  }
  Prompt Fresh(int length) { return RandomPrompt(random_, length); }

  // `redis` null: shares nothing. Without `chooses`, the engine knows no cost and fetches whatever
  // there is.
  std::unique_ptr<workers::Engine> Make(const RedisOptions* redis, bool chooses,
                                        int write_from_use = 2) {
    workers::EngineOptions options{
        .max_sequences = 1, .page_size = kPageSize, .kv_tokens = KvTokens()};
    if (chooses) options.step_cost_time = absl::Seconds(2);
    if (redis != nullptr) {
      RedisOptions client = *redis;
      client.connections = 4;
      options.make_page_store = workers::ShareThroughRedis(
          RedisClient::Create(client),
          {.write_from_use = write_from_use, .max_write_bytes = size_t{1} << 30});
    }
    auto engine = workers::Engine::Create(checkpoint_, nullptr,
                                          kernels::MakeCpuBackend({.threads = kThreads}), options);
    if (!engine.ok()) {
      std::cerr << engine.status() << '\n';
      std::exit(1);
    }
    // All of its memory has been in use, threads are awake, connections are made. Embeddings look
    // for nothing that is shared.
    for (int tokens = 0; tokens < options.kv_tokens; tokens += kFillPrompt) {
      const auto filled = (*engine)->Embed(Fresh(kFillPrompt - 1), absl::Now() + absl::Minutes(1));
      if (!filled.ok()) std::cerr << filled.status() << '\n';
    }
    FirstToken(**engine, {1, 2, 3});
    absl::SleepFor(absl::Milliseconds(200));
    return *std::move(engine);
  }

  // Has a worker compute and write prompts for all rounds.
  void WriteShared(const RedisOptions& redis, RedisClient& client) {
    std::cerr << "writing what is shared\n";
    const auto writer = Make(&redis, true, 1);
    for (const int length : lengths_) {
      std::vector<Prompt>& prompts = shared_[length];
      // Few are twice what an engine has room for.
      const int count =
          few_prompts_ ? 2 * KvTokens() / length + 1 : Uncounted(length) + RoundsOf(length);
      for (int i = 0; i < count; ++i) {
        FirstToken(*writer, prompts.emplace_back(Fresh(length)));
      }
    }
    AwaitWrites(client);
    const auto written = writer->stats().sharing->store;
    if (written.dropped_pages > 0) std::cerr << written.dropped_pages << " pages were dropped\n";
  }
  const Prompt& Shared(int length, int round) const {
    const std::vector<Prompt>& prompts = shared_.at(length);
    return prompts[static_cast<size_t>(round) % prompts.size()];
  }

  // Measures the ways to what `server` has, of each length in turns. Returns their medians,
  // [length][way].
  std::vector<std::vector<double>> Measure(const std::string& server,
                                           const std::vector<Way>& ways) {
    std::vector<std::vector<double>> medians;
    for (const int length : lengths_) {
      std::cerr << server << ", " << length << '\n';
      std::vector<std::function<double(int)>> turns;
      for (const Way& way : ways) {
        turns.emplace_back([&way, length](int round) {
          absl::SleepFor(kPause);
          return way.seconds(length, round);
        });
      }
      std::vector<std::vector<double>> seconds =
          InTurns(turns, Uncounted(length) + RoundsOf(length));
      std::vector<double>& row = medians.emplace_back();
      for (std::vector<double>& way : seconds) {
        way.erase(way.begin(), way.begin() + Uncounted(length));
        row.push_back(Median(way));
      }
      const bool two = ways[1].beside != Beside::kBetter;  // ways to choose from
      const size_t better = two && row[1] < row[0] ? 1 : 0;
      for (size_t i = 0; i < ways.size(); ++i) {
        Figure figure{.name = absl::StrCat(server, ", ", ways[i].name, ", ", length),
                      .value = 1e3 * row[i],
                      .unit = "ms"};
        if (i > 0) {
          const size_t beside = ways[i].beside == Beside::kBetter   ? better
                                : ways[i].beside == Beside::kSecond ? 1
                                                                    : 0;
          const Spread ratio = RatioOf(seconds[i], seconds[beside]);
          figure.beside = ways[beside].name;
          figure.ratio = ratio.median;
          figure.ratio_between = {ratio.low, ratio.high};
          if (ways[i].beside == Beside::kBetter) figure.aim = AtMost(1.02, Aim::kRatio);
        }
        report_.Add(std::move(figure));
      }
    }
    return medians;
  }

 private:
  const std::shared_ptr<const workers::Checkpoint> checkpoint_;
  const std::vector<int> lengths_;
  const int rounds_;
  const bool few_prompts_;
  Report& report_;
  std::mt19937 random_{7};
  std::map<int, std::vector<Prompt>> shared_;  // by length
};

void Print(const workers::Engine& engine) {
  const auto sharing = *engine.stats().sharing;
  std::cerr << "  lookups " << sharing.lookups << " declined " << sharing.declined << " abandoned "
            << sharing.abandoned << " hit tokens " << sharing.hit_tokens << '\n';
}

int Main(int argc, char** argv) {
  Report report("shared_kv", argc, argv);
  const std::string only = Option(argc, argv, "--only=", OnlyOf(argc, argv));
  const bool fetches_only = std::any_of(
      argv + 1, argv + argc, [](std::string_view argument) { return argument == "--fetches"; });
  const auto wanted = [&only](std::string_view name) {
    return name.find(only) != std::string_view::npos;
  };
  const TemporaryFolder folder;
  const auto checkpoint = OpenRandomCheckpoint(kShape, folder.path());
  if (!checkpoint.ok()) {
    std::cerr << checkpoint.status() << '\n';
    return 1;
  }
  Bench bench(*checkpoint, IntegersOption(argc, argv, "--lengths=", "256,1024,4096"),
              std::max(NumberOption<int>(argc, argv, "--rounds=", "7"), 1), fetches_only, &report);

  RedisServer server({"--save", "", "--appendonly", "no"});
  RedisOptions near = server.options();
  near.timeouts = Patient(absl::Milliseconds(500));
  const auto client = RedisClient::Create(near);

  // Of the longest prompts, whose fetch takes so many seconds with all that belongs to it.
  const auto add_throughput = [&](double whole_fetch) {
    const double bytes = kBytesPerToken * bench.lengths().back();
    Fetches fetches(near, kPageBytes, size_t{64} << 20);
    std::vector<double> whole, fetched, raw, others_raw;
    for (int i = 0; i < 5; ++i) {
      fetched.push_back(fetches.Measure());
      raw.push_back(RawThroughput(*client, kPageBytes, size_t{64} << 20));
      others_raw.push_back(BenchmarkThroughput(server.Socket(), kPageBytes));
      whole.push_back(bytes / whole_fetch);
    }
    if (others_raw.front() <= 0) return;
    const auto add = [&](std::string figure, const std::vector<double>& rates) {
      const Spread ratio = RatioOf(rates, others_raw);
      report.Add({.name = std::move(figure),
                  .value = Median(rates) / 1e6,
                  .unit = "MB/s",
                  .beside = "redis-benchmark GET, 4 connections",
                  .ratio = ratio.median,
                  .ratio_between = std::pair(ratio.low, ratio.high),
                  .aim = AtLeast(0.8, Aim::kRatio)});
    };
    add("MGET by the client, one at a time", raw);
    add("near, throughput of a fetch without the KV cache", fetched);
    add("near, throughput of a fetch into the KV cache", whole);
  };

  if (fetches_only) {
    bench.WriteShared(near, *client);
    const auto first = bench.Make(&near, false);
    const auto second = bench.Make(&near, false);
    const auto by = [&bench](workers::Engine& engine) {
      return [&bench, &engine](int length, int round) {
        return FirstToken(engine, bench.Shared(length, round));
      };
    };
    const auto medians = bench.Measure(
        "near", {{.name = "always fetched", .seconds = by(*first)},
                 {.name = "always fetched, by another engine", .seconds = by(*second)}});
    add_throughput(medians.back()[0]);
    return report.Print();
  }

  const auto alone = bench.Make(nullptr, true);
  Prompt last;  // that it has computed
  const Way computed{.name = "computed", .seconds = [&](int length, int) {
                       last = bench.Fresh(length);
                       return FirstToken(*alone, last);
                     }};

  // `again`: what always fetches is measured twice, which tells what two engines differ by that do
  // the same.
  const auto measure_hits = [&](const std::string& name, const RedisOptions& options,
                                const RedisOptions& others, bool again) {
    if (!wanted(name)) return;
    const auto choosing = bench.Make(&options, true);
    std::vector<std::unique_ptr<workers::Engine>> fetching;  // the second as a measure of the first
    for (int i = 0; i < (again ? 2 : 1); ++i) fetching.push_back(bench.Make(&others, false));
    const auto shared_by = [&bench](workers::Engine& engine) {
      return [&bench, &engine](int length, int round) {
        return FirstToken(engine, bench.Shared(length, round));
      };
    };
    std::vector<Way> ways{
        computed,
        {.name = "always fetched", .seconds = shared_by(*fetching.front())},
        {.name = "chosen", .seconds = shared_by(*choosing), .beside = Beside::kBetter}};
    if (again) {
      ways.push_back({.name = "always fetched, by another engine",
                      .seconds = shared_by(*fetching.back()),
                      .beside = Beside::kSecond});
    }
    if (name == "near") {
      ways.push_back({.name = "in the engine's own cache",
                      .seconds = [&](int, int) { return FirstToken(*alone, last); },
                      .beside = Beside::kFirst});
    }
    const auto medians = bench.Measure(name, ways);
    Print(*choosing);
    if (name == "near") add_throughput(medians.back()[1]);
  };

  if (wanted("near") || wanted("contended") || wanted("10 ms each way") || wanted("25 MB/s")) {
    bench.WriteShared(near, *client);
  }
  measure_hits("near", near, near, true);
  if (wanted("contended")) {
    const Contention contention(server.Socket());
    absl::SleepFor(absl::Milliseconds(500));
    measure_hits("contended", near, near, true);
  }
  for (const auto& [name, link] :
       {std::pair<std::string, SlowLink>("10 ms each way", {.delay_seconds = 0.01}),
        std::pair<std::string, SlowLink>("25 MB/s", {.bytes_per_second = 25e6})}) {
    // Each engine has a link of its own, as on a machine of its own.
    const SlowProxy link_of_chosen(server.Socket(), link);
    const SlowProxy link_of_fetched(server.Socket(), link);
    measure_hits(name, Through(link_of_chosen, near), Through(link_of_fetched, near), false);
  }
  if (wanted("nothing hits")) {
    const auto once = bench.Make(&near, true);
    const auto writing = bench.Make(&near, true, 1);
    // Two at a time: what is written of the first is written while the second is computed.
    const auto two = [&](workers::Engine& engine) {
      return [&bench, &engine](int length, int) {
        const Prompt first = bench.Fresh(length), second = bench.Fresh(length);
        return FirstToken(engine, first) + FirstToken(engine, second);
      };
    };
    bench.Measure("nothing hits, two prompts",
                  {{.name = "computed", .seconds = two(*alone)},
                   {.name = "looked for", .seconds = two(*once), .beside = Beside::kBetter},
                   {.name = "looked for and written",
                    .seconds =
                        [&](int length, int round) {
                          const double seconds = two(*writing)(length, round);
                          AwaitWrites(*client);
                          (void)client->Call({"FLUSHALL"}, absl::Now() + absl::Seconds(20));
                          return seconds;
                        },
                    .beside = Beside::kBetter}});
    Print(*once);
    Print(*writing);
  }
  // The engine has known the server before that becomes silent, or goes.
  const auto measure_fault = [&](const std::string& name, const std::function<void()>& begin) {
    if (!wanted(name)) return;
    const auto choosing = bench.Make(&near, true);
    begin();
    const int length = bench.lengths().back();
    report.Add({.name = absl::StrCat(name, ", the first request, ", length),
                .value = 1e3 * FirstToken(*choosing, bench.Fresh(length)),
                .unit = "ms"});
    bench.Measure(name,
                  {computed,
                   {.name = "chosen",
                    .seconds = [&](int of, int) { return FirstToken(*choosing, bench.Fresh(of)); },
                    .beside = Beside::kBetter}});
    Print(*choosing);
  };
  measure_fault("frozen", [&] { server.Freeze(); });
  server.Thaw();
  measure_fault("dead", [&] { server.Kill(); });
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
