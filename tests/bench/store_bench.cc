// A store in Redis, and the cache of values there that answers and sessions are shared through,
// beside what redis-benchmark gets out of the same server in the same run: bytes per second by size
// of value, and the time of single calls.
//
//   store_bench                    starts a redis-server of its own, on a Unix socket
//     --sizes=64,1024,…            of values, in bytes
//     --only=GetMany               of Put, Get, PutMany, GetMany, and "cache PutMany" and "cache
//                                  GetMany" of one and of 16 values, only this
//     --rounds=5
//
// redis-benchmark takes turns with them (turns.h), in rounds of which the medians count; of values
// over 1 MiB there is one. It has as many connections as the client (2), and keeps as many commands
// under way as a call has keys. Its values are bytes alone; those of the store and of the cache are
// framed and checked by a digest, those of the cache expire, and those of the store are named in a
// set.

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/redis/redis_store.h"
#include "common/redis/redis_value_cache.h"
#include "common/strings.h"
#include "tests/bench/options.h"
#include "tests/bench/report.h"
#include "tests/bench/turns.h"

namespace octogate::bench {
namespace {

constexpr size_t kBytesPerRound = size_t{64} << 20;
constexpr size_t kMostCalls = 10'000;
constexpr size_t kMany = 16;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void Exit(const std::string& why) {
  std::cerr << "store_bench: " << why << "\n";
  std::exit(1);
}

void Check(const absl::Status& status) {
  if (!status.ok()) Exit(status.ToString());
}

class Server {
 public:
  Server() {
    std::string name = (std::filesystem::temp_directory_path() / "octogate-bench-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    std::string socket = Socket();
    const char* argv[] = {
        "redis-server",  "--port", "0", "--unixsocket", socket.c_str(), "--dir",
        folder_.c_str(), "--save", "",  "--appendonly", "no",           "--logfile",
        "/dev/null",     nullptr};
    if (::posix_spawnp(&pid_, argv[0], nullptr, nullptr, const_cast<char**>(argv), environ) != 0) {
      Exit("there is no redis-server");
    }
  }
  ~Server() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    std::filesystem::remove_all(folder_);
  }
  std::string Socket() const { return folder_ + "/redis.sock"; }

 private:
  std::string folder_;
  pid_t pid_ = -1;
};

// Requests per second of "SET" or "GET", of redis-benchmark.
double Raw(const std::string& socket, const char* command, size_t bytes, size_t calls,
           size_t pipeline, double* p50_us) {
  const std::string line = absl::StrCat("redis-benchmark -s ", socket, " -t ", command, " -d ",
                                        bytes, " -n ", calls, " -c ", pipeline == 1 ? 1 : 2, " -P ",
                                        std::max<size_t>(pipeline / 2, 1), " --csv 2>/dev/null");
  std::FILE* pipe = ::popen(line.c_str(), "r");
  if (pipe == nullptr) Exit("there is no redis-benchmark");
  std::string text;
  char buffer[512];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) text = buffer;  // the last line
  ::pclose(pipe);
  // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",...
  std::vector<std::string> fields = absl::StrSplit(text, ',');
  double rps = 0;
  double p50 = 0;
  for (std::string& field : fields) std::erase(field, '"');
  if (fields.size() < 5 || !absl::SimpleAtod(fields[1], &rps) ||
      !absl::SimpleAtod(fields[4], &p50)) {
    Exit(absl::StrCat("redis-benchmark says ", text));
  }
  *p50_us = 1000 * p50;
  return rps;
}

std::string SizeText(size_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  return bytes < (1 << 20) ? absl::StrCat(bytes >> 10, " KiB") : absl::StrCat(bytes >> 20, " MiB");
}

// Calls per second of `call`; appends the time of each in microseconds.
template <typename CallType>
double Rate(size_t calls, std::vector<double>* times, CallType call) {
  const double begin = Now();
  for (size_t i = 0; i < calls; ++i) {
    const double from = Now();
    call(i);
    times->push_back(1e6 * (Now() - from));
  }
  return static_cast<double>(calls) / (Now() - begin);
}

// `only`: empty, or the one kind of call that is measured.
void Measure(const std::string& socket, Store& store, ValueCache& cache, size_t bytes,
             const std::string& only, int most_rounds, Report& report) {
  const size_t most_calls = std::clamp<size_t>(kBytesPerRound / bytes, 12, kMostCalls);
  const int rounds = bytes <= (1 << 20) ? most_rounds : 1;
  const absl::Time never = absl::InfiniteFuture();
  const std::string value(bytes, 'v');
  std::vector<std::string> keys;
  for (size_t i = 0; i < kMany; ++i) keys.push_back(absl::StrCat("bench/", i));
  std::vector<Store::Entry> entries;
  std::vector<ValueCache::Entry> cached;
  for (const std::string& key : keys) {
    entries.push_back({key, value});
    cached.push_back({key, value, absl::Hours(1)});
  }
  const std::vector<std::string_view> asked(keys.begin(), keys.end());
  const auto soon = [] { return absl::Now() + absl::Seconds(60); };
  // What is read is there.
  for (const absl::Status& put : store.PutMany(entries, soon())) Check(put);
  for (const absl::Status& put : cache.PutMany(cached, soon())) Check(put);
  double ignored = 0;
  Raw(socket, "set", bytes, 1, 1, &ignored);

  // Of `many` values a call.
  const auto measure = [&](const std::string& name, const char* command, size_t many, auto call) {
    if (!only.empty() && name != only) return;
    const size_t calls = many == 1 ? most_calls : std::max<size_t>(most_calls / many, 3);
    std::vector<double> raw_us, times;
    const std::vector<std::vector<double>> rates =
        InTurns({[&](int) {
                   return Raw(socket, command, bytes, calls * many, many, &raw_us.emplace_back());
                 },
                 [&](int) { return static_cast<double>(many) * Rate(calls, &times, call); }},
                rounds);
    const Spread ratio = RatioOf(rates[1], rates[0]);
    const double mebibytes = static_cast<double>(bytes) / (1 << 20);
    const bool small = bytes < (1 << 10) * 16;
    const bool single = name == "Put" || name == "Get";
    const std::string what = single ? name : absl::StrCat(name, " of ", many);
    report.Add({.name = absl::StrCat(what, ", ", SizeText(bytes)),
                .value = Median(rates[1]) * (small ? 1 : mebibytes),
                .unit = small ? "values/s" : "MiB/s",
                .beside = "redis-benchmark",
                .ratio = ratio.median,
                .ratio_between = std::pair(ratio.low, ratio.high),
                .aim = AtLeast(0.8, Aim::kRatio)});
    if (many > 1) return;
    std::sort(times.begin(), times.end());
    report.Add({.name = absl::StrCat(what, " p50, ", SizeText(bytes)),
                .value = times[times.size() / 2],
                .unit = "µs",
                .beside = "redis-benchmark's p50",
                .ratio = times[times.size() / 2] / Median(raw_us)});
    report.Add({.name = absl::StrCat(what, " p99, ", SizeText(bytes)),
                .value = times[times.size() * 99 / 100],
                .unit = "µs"});
  };
  measure("Put", "set", 1,
          [&](size_t i) { Check(store.Put(keys[i % kMany], value, never, soon())); });
  measure("Get", "get", 1, [&](size_t i) { Check(store.Get(keys[i % kMany], soon()).status()); });
  measure("PutMany", "set", kMany, [&](size_t) {
    for (const absl::Status& put : store.PutMany(entries, soon())) Check(put);
  });
  measure("GetMany", "get", kMany, [&](size_t) {
    for (const auto& got : store.GetMany(asked, soon())) Check(got.status());
  });
  for (const size_t many : {size_t{1}, kMany}) {
    measure("cache PutMany", "set", many, [&](size_t i) {
      const size_t first = many == 1 ? i % kMany : 0;
      for (const absl::Status& put :
           cache.PutMany(std::span(cached).subspan(first, many), soon())) {
        Check(put);
      }
    });
    measure("cache GetMany", "get", many, [&](size_t i) {
      const size_t first = many == 1 ? i % kMany : 0;
      for (const auto& got : cache.GetMany(std::span(keys).subspan(first, many), soon())) {
        Check(got.status());
      }
    });
  }
}

int Main(int argc, char** argv) {
  Report report("store", argc, argv);
  const Server server;
  const auto client =
      RedisClient::Create({.unix_socket = server.Socket(),
                           .timeouts = {.small = absl::Seconds(20), .bulk = absl::Seconds(20)},
                           .max_backoff = absl::Milliseconds(100),
                           .max_pending_bytes = size_t{512} << 20});
  const absl::Time give_up = absl::Now() + absl::Seconds(30);
  while (!client->Call({"PING"}, give_up).ok() && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  const auto store = MakeRedisStore(client.get());
  const auto cache = MakeRedisValueCache(client.get());
  for (const int size :
       IntegersOption(argc, argv, "--sizes=", "64,1024,16384,262144,1048576,4194304,16777216")) {
    const auto bytes = static_cast<size_t>(size);
    std::cerr << SizeText(bytes) << "\n";
    Measure(server.Socket(), *store, *cache, bytes, Option(argc, argv, "--only=", ""),
            std::max(NumberOption<int>(argc, argv, "--rounds=", "5"), 1), report);
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
