// What the gateway costs: requests/s, latency and CPU through it, beside calling a stub worker
// directly and beside nginx's grpc_pass, all in this run on this machine.
//
// - unary: the gateway answers Generate at EVENT_LEVEL_RESULT, the lexical head's decision and the
//   graph's walk included; the worker's answer has one token. nginx passes the worker's own call
//   on.
// - burst: answers of 256 tokens, which the stub writes as fast as it can, one after the other:
// each
//   is a message, or an event of a session, of its own.
// - paced: answers whose tokens the stub writes at the pace of a model. Each carries the time at
//   which it was written, which tells how long it was on its way.
// - half load: calls at half of the rate that the gateway reached, at fixed times.
// - overload: many times more streams than the gateway takes, which wait after a refusal as long as
//   it tells them.
//
// Every figure is the median of rounds in which the three take turns.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/bench/load_client.h"
#include "tests/bench/report.h"
#include "tests/gateway/child_process.h"

namespace octogate::bench {
namespace {

using gateway::ChildProcess;

constexpr int kRounds = 3;
constexpr int kBurstTokens = 256;
constexpr int kPacedStreams = 64;
constexpr int kPacedTokens = 50;  // per second and stream
constexpr int kOverloadStreams = 1024;
constexpr int kGatewayMaxConcurrent = 64;  // of the gateway that is overloaded

// CPU time of a process and its children, in microseconds.
double CpuMicroseconds(pid_t pid) {
  double ticks = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const size_t behind_name = text.rfind(')');
    if (behind_name == std::string::npos) continue;
    std::istringstream fields(text.substr(behind_name + 1));
    std::string state;
    pid_t parent = 0;
    fields >> state >> parent;
    if (std::stoi(name) != pid && parent != pid) continue;
    std::string skipped;
    for (int i = 0; i < 9; ++i) fields >> skipped;
    double user = 0;
    double system = 0;
    fields >> user >> system;
    ticks += user + system;
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK)) * 1e6;
}

std::string FreePort() {
  // A listening gRPC server would do; the kernel's choice is simpler.
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) std::abort();
  socklen_t length = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  close(fd);
  return std::to_string(ntohs(address.sin_port));
}

// As in front of gRPC servers: connections are kept, and never ended for their number of requests.
std::string NginxConfig(const std::string& folder, const std::string& port,
                        const std::string& worker) {
  return absl::StrCat(
      "worker_processes 2;\npid ", folder, "/pid;\nerror_log ", folder,
      "/error.log crit;\ndaemon off;\nevents { worker_connections 4096; }\nhttp {\n"
      "  access_log off;\n  client_body_temp_path ",
      folder, "/body;\n  proxy_temp_path ", folder, "/proxy;\n  fastcgi_temp_path ", folder,
      "/fastcgi;\n  uwsgi_temp_path ", folder, "/uwsgi;\n  scgi_temp_path ", folder,
      "/scgi;\n  keepalive_requests 1000000000;\n"
      "  upstream worker { server ",
      worker,
      "; keepalive 256; keepalive_requests 1000000000; }\n  server {\n    listen 127.0.0.1:", port,
      " http2;\n    client_max_body_size 0;\n    http2_max_concurrent_streams 4096;\n"
      "    location / { grpc_pass grpc://worker; grpc_read_timeout 600s; }\n  }\n}\n");
}

// The programs of one run.
struct Setup {
  std::unique_ptr<ChildProcess> worker;
  std::unique_ptr<ChildProcess> gateway;
  std::unique_ptr<ChildProcess> limited_gateway;
  std::unique_ptr<ChildProcess> nginx;
  std::string worker_address;
  std::string gateway_address;
  std::string limited_address;
  std::string nginx_address;
};

std::unique_ptr<ChildProcess> StartGateway(const std::string& worker, int max_concurrent,
                                           std::string* address) {
  auto process = std::make_unique<ChildProcess>(
      std::vector<std::string>{OCTOGATE_BENCH_GATEWAY, worker, std::to_string(max_concurrent)});
  *address = "127.0.0.1:" + process->ReadLine().substr(6);
  return process;
}

Setup Prepare(const std::string& folder) {
  Setup setup;
  setup.worker = std::make_unique<ChildProcess>(
      std::vector<std::string>{OCTOGATE_STUB_WORKER, "127.0.0.1:0", "1"});
  setup.worker_address = setup.worker->ReadLine().substr(6);
  setup.gateway = StartGateway(setup.worker_address, 4096, &setup.gateway_address);
  setup.limited_gateway =
      StartGateway(setup.worker_address, kGatewayMaxConcurrent, &setup.limited_address);
  const char* const nginx = "/usr/sbin/nginx";
  if (access(nginx, X_OK) == 0) {
    const std::string port = FreePort();
    std::ofstream(folder + "/nginx.conf") << NginxConfig(folder, port, setup.worker_address);
    setup.nginx = std::make_unique<ChildProcess>(std::vector<std::string>{
        nginx, "-c", folder + "/nginx.conf", "-p", folder, "-e", folder + "/error.log"});
    setup.nginx_address = "127.0.0.1:" + port;
    absl::SleepFor(absl::Seconds(1));
  } else {
    std::cerr << "nginx is not installed: figures beside it are left out\n";
  }
  return setup;
}

v1::GenerateRequest GatewayRequest(const std::string& query, v1::EventLevel level) {
  v1::GenerateRequest request;
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content(query);
  request.set_events(level);
  return request;
}

v1::WorkerGenerateRequest WorkerRequest(const std::string& query) {
  v1::WorkerGenerateRequest request;
  v1::Message& message = *request.mutable_prompt()->mutable_conversation()->add_messages();
  message.set_role("user");
  message.set_content(query);
  request.set_max_tokens(kBurstTokens);
  return request;
}

struct Measured {
  LoadResult load;
  double cpu_us = 0;  // of the program in the middle
};

Measured Measure(pid_t pid, const std::function<LoadResult()>& run) {
  Measured measured;
  const double before = CpuMicroseconds(pid);
  measured.load = run();
  measured.cpu_us = CpuMicroseconds(pid) - before;
  return measured;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return Quantile(values, 0.5);
}

// Values of several rounds by what they are of.
using Rounds = std::map<std::string, std::vector<double>>;

void Note(Rounds* rounds, const std::string& who, const Measured& measured, bool per_token) {
  const LoadResult& load = measured.load;
  // The time of warm-up costs CPU, too.
  const double counted = load.seconds / (load.seconds + 0.2);
  const auto count = static_cast<double>(per_token ? load.tokens : load.calls);
  (*rounds)[who + " rate"].push_back(per_token ? load.token_rate() : load.rate());
  (*rounds)[who + " p50"].push_back(Quantile(load.latencies_us, 0.5));
  (*rounds)[who + " p99"].push_back(Quantile(load.latencies_us, 0.99));
  (*rounds)[who + " mean"].push_back(Mean(load.latencies_us));
  (*rounds)[who + " first"].push_back(Quantile(load.first_token_us, 0.5));
  if (count > 0) (*rounds)[who + " cpu"].push_back(measured.cpu_us * counted / count);
  if (load.failed > 0) std::cerr << who << ": " << load.failed << " calls failed\n";
}

class Bench {
 public:
  Bench(const Setup& setup, Report* report) : setup_(setup), report_(*report) {}

  void Streams(int streams, bool burst) {
    const std::string query =
        burst ? absl::StrCat("stub tokens=", kBurstTokens, " text=tok") : "stub tokens=1";
    const v1::EventLevel level = burst ? v1::EVENT_LEVEL_TOKENS : v1::EVENT_LEVEL_RESULT;
    Rounds rounds;
    for (int round = 0; round < kRounds; ++round) {
      Note(&rounds, "direct", Direct({.streams = streams}, query), burst);
      if (setup_.nginx) Note(&rounds, "nginx", Nginx({.streams = streams}, query), burst);
      Note(&rounds, "gateway", Gateway({.streams = streams}, query, level), burst);
    }
    const auto value = [&](const std::string& name) { return Median(rounds[name]); };
    const std::string name =
        absl::StrCat(burst ? "burst, " : "unary, ", streams, streams == 1 ? " stream" : " streams");
    const std::string unit = burst ? "tokens/s" : "requests/s";
    if (!burst && streams == 64) max_rate_ = value("gateway rate");
    report_.Add({.name = name + ": direct", .value = value("direct rate"), .unit = unit});
    report_.Add({.name = name + ": gateway",
                 .value = value("gateway rate"),
                 .unit = unit,
                 .beside = "direct",
                 .ratio = value("gateway rate") / value("direct rate")});
    if (setup_.nginx) {
      report_.Add({.name = name + ": gateway",
                   .value = value("gateway rate"),
                   .unit = unit,
                   .beside = "nginx",
                   .ratio = value("gateway rate") / value("nginx rate"),
                   .aim = burst ? std::nullopt : std::optional(AtLeast(1, Aim::kRatio))});
    }
    for (const char* what : {"p50", "p99", "first"}) {
      if (burst != (std::string(what) == "first")) continue;
      Figure figure{
          .name = absl::StrCat(name, ": gateway ", burst ? "p50 of the first token" : what),
          .value = value(absl::StrCat("gateway ", what)),
          .unit = "us"};
      if (setup_.nginx) {
        figure.beside = "nginx";
        figure.ratio = figure.value / value(absl::StrCat("nginx ", what));
      }
      report_.Add(figure);
    }
    Figure cpu{.name = name + ": gateway CPU",
               .value = value("gateway cpu"),
               .unit = burst ? "us/token" : "us/request"};
    if (setup_.nginx) {
      cpu.beside = "nginx";
      cpu.ratio = cpu.value / value("nginx cpu");
    }
    if (burst) cpu.aim = AtMost(2);
    report_.Add(cpu);
  }

  void Paced() {
    const std::string query =
        absl::StrCat("stub text=@ tokens=", kPacedTokens, " delay_us=", 1'000'000 / kPacedTokens);
    const LoadOptions options{.streams = kPacedStreams,
                              .duration = absl::Seconds(2),
                              .stagger = absl::Seconds(1),
                              .timed_tokens = true};
    Rounds rounds;
    const auto note = [&](const std::string& who, const Measured& measured) {
      const std::vector<double>& times = measured.load.token_us;
      rounds[who + " p50"].push_back(Quantile(times, 0.5) / 1000);
      rounds[who + " p99"].push_back(Quantile(times, 0.99) / 1000);
      if (!times.empty()) {
        rounds[who + " cpu"].push_back(measured.cpu_us / static_cast<double>(times.size()));
      }
      if (measured.load.failed > 0) std::cerr << who << ": calls failed\n";
    };
    for (int round = 0; round < kRounds; ++round) {
      note("direct", Direct(options, query));
      if (setup_.nginx) note("nginx", Nginx(options, query));
      note("gateway", Gateway(options, query, v1::EVENT_LEVEL_TOKENS));
    }
    const auto value = [&](const std::string& name) { return Median(rounds[name]); };
    const std::string name =
        absl::StrCat("paced, ", kPacedStreams, " streams of ", kPacedTokens, " tokens/s");
    for (const std::string who : {"gateway", "nginx"}) {
      if (who == "nginx" && !setup_.nginx) continue;
      for (const std::string what : {"p50", "p99"}) {
        report_.Add({.name = absl::StrCat(name, ": ", who, " added to a token's ", what),
                     .value = value(absl::StrCat(who, " ", what)) - value("direct " + what),
                     .unit = "ms",
                     .beside = "direct"});
      }
    }
    Figure cpu{.name = name + ": gateway CPU", .value = value("gateway cpu"), .unit = "us/token"};
    if (setup_.nginx) {
      cpu.beside = "nginx";
      cpu.ratio = cpu.value / value("nginx cpu");
    }
    report_.Add(cpu);
  }

  void HalfLoad() {
    const std::string query = "stub tokens=1";
    Rounds rounds;
    const LoadOptions options{.rate = max_rate_ / 2};
    for (int round = 0; round < kRounds; ++round) {
      Note(&rounds, "direct", Direct(options, query), false);
      Note(&rounds, "gateway", Gateway(options, query, v1::EVENT_LEVEL_RESULT), false);
    }
    const auto added = [&](const std::string& what) {
      return (Median(rounds["gateway " + what]) - Median(rounds["direct " + what])) / 1000;
    };
    report_.Add({.name = "half load: rate", .value = options.rate, .unit = "requests/s"});
    report_.Add({.name = "half load: added to the mean",
                 .value = added("mean"),
                 .unit = "ms",
                 .beside = "direct",
                 .aim = AtMost(0.3)});
    report_.Add({.name = "half load: added to p99",
                 .value = added("p99"),
                 .unit = "ms",
                 .beside = "direct",
                 .aim = AtMost(0.9)});
  }

  void Overload() {
    Rounds rounds;
    for (int round = 0; round < kRounds; ++round) {
      const LoadResult calm =
          LoadClient<GatewayApi>(
              Options({.streams = kGatewayMaxConcurrent}, setup_.limited_address),
              GatewayRequest("stub tokens=1", v1::EVENT_LEVEL_RESULT))
              .Run();
      const LoadResult load =
          LoadClient<GatewayApi>(
              Options({.channels = 8, .streams = kOverloadStreams}, setup_.limited_address),
              GatewayRequest("stub tokens=1", v1::EVENT_LEVEL_RESULT))
              .Run();
      rounds["calm"].push_back(calm.rate());
      rounds["rate"].push_back(load.rate());
      rounds["p99"].push_back(Quantile(load.latencies_us, 0.99) / 1000);
      rounds["refused"].push_back(static_cast<double>(load.refused) / load.seconds);
      if (load.failed > 0) std::cerr << "overload: " << load.failed << " calls failed\n";
    }
    const std::string name = absl::StrCat("overload, ", kOverloadStreams, " streams");
    report_.Add({.name = name + ": gateway",
                 .value = Median(rounds["rate"]),
                 .unit = "requests/s",
                 .beside = absl::StrCat(kGatewayMaxConcurrent, " streams"),
                 .ratio = Median(rounds["rate"]) / Median(rounds["calm"]),
                 .aim = AtLeast(0.9, Aim::kRatio)});
    report_.Add(
        {.name = name + ": p99 of what is taken", .value = Median(rounds["p99"]), .unit = "ms"});
    report_.Add(
        {.name = name + ": refused", .value = Median(rounds["refused"]), .unit = "requests/s"});
  }

 private:
  static LoadOptions Options(LoadOptions options, const std::string& address) {
    options.address = address;
    return options;
  }

  Measured Direct(const LoadOptions& options, const std::string& query) {
    return Measure(setup_.worker->pid(), [&] {
      return LoadClient<WorkerApi>(Options(options, setup_.worker_address), WorkerRequest(query))
          .Run();
    });
  }
  Measured Nginx(const LoadOptions& options, const std::string& query) {
    return Measure(setup_.nginx->pid(), [&] {
      return LoadClient<WorkerApi>(Options(options, setup_.nginx_address), WorkerRequest(query))
          .Run();
    });
  }
  Measured Gateway(const LoadOptions& options, const std::string& query, v1::EventLevel level) {
    return Measure(setup_.gateway->pid(), [&] {
      return LoadClient<GatewayApi>(Options(options, setup_.gateway_address),
                                    GatewayRequest(query, level))
          .Run();
    });
  }

  const Setup& setup_;
  Report& report_;
  double max_rate_ = 0;
};

int Main(int argc, char** argv) {
  char folder[] = "/tmp/octogate-bench-XXXXXX";
  if (mkdtemp(folder) == nullptr) return EXIT_FAILURE;
  // nginx's workers drop their privileges.
  chmod(folder, 0755);
  Report report("gateway", argc, argv);
  {
    const Setup setup = Prepare(folder);
    Bench bench(setup, &report);
    for (const bool burst : {false, true}) {
      for (const int streams : {1, 4, 16, 64}) {
        std::cerr << (burst ? "burst, " : "unary, ") << streams << " streams\n";
        bench.Streams(streams, burst);
      }
    }
    std::cerr << "paced\n";
    bench.Paced();
    std::cerr << "half load\n";
    bench.HalfLoad();
    std::cerr << "overload\n";
    bench.Overload();
    if (setup.nginx) {
      setup.nginx->Kill(SIGTERM);
      setup.nginx->Wait();
    }
  }
  std::filesystem::remove_all(folder);
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
