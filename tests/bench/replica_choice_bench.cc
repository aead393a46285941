// What choosing among replicas costs, and what it is worth: the time of a choice by replicas and
// bytes of the prompt, and conversations of many gateways on simulated replicas
// (tests/gateway/replica_simulation.h) by four policies.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gateway/replica_choice.h"
#include "gateway/replica_prefixes.h"
#include "tests/bench/report.h"
#include "tests/gateway/replica_simulation.h"
#include "workers/server/prompt_blocks.h"

namespace octogate::bench {
namespace {

using gateway::ReplicaPrefixes;
using workers::PromptBlocks;

// The least time of several runs, in microseconds.
double Microseconds(const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  double best = 1e12;
  for (int i = 0; i < 9; ++i) {
    int times = 0;
    const auto begin = Clock::now();
    Clock::duration taken{};
    do {
      run();
      ++times;
      taken = Clock::now() - begin;
    } while (taken < std::chrono::milliseconds(10));
    best = std::min(best, std::chrono::duration<double, std::micro>(taken).count() / times);
  }
  return best;
}

v1::WorkerPrompt Prompt(std::mt19937& random, size_t bytes) {
  v1::WorkerPrompt prompt;
  v1::Message& message = *prompt.mutable_conversation()->add_messages();
  message.set_role("user");
  message.mutable_content()->resize(bytes);
  for (char& c : *message.mutable_content()) c = static_cast<char>('a' + random() % 26);
  return prompt;
}

void MeasureTime(Report& report) {
  std::mt19937 random(1);
  for (const size_t bytes : {1'000, 10'000, 100'000}) {
    const v1::WorkerPrompt prompt = Prompt(random, bytes);
    PromptBlocks blocks = workers::HashPrompt(prompt, "");
    report.Add({.name = absl::StrCat("hash a prompt of ", bytes / 1000, " kB"),
                .value = Microseconds([&] { blocks = workers::HashPrompt(prompt, ""); }),
                .unit = "µs"});
    for (const size_t count : {2, 16, 64}) {
      // Full summaries; each holds a part of the prompt.
      std::vector<ReplicaPrefixes> prefixes(count);
      for (size_t r = 0; r < count; ++r) {
        ReplicaPrefixes::Blocks held(
            blocks.hashes.begin(),
            blocks.hashes.begin() + static_cast<ptrdiff_t>(blocks.hashes.size() * r / count));
        while (held.size() < PromptBlocks::kMaxSummaryBlocks) {
          held.insert(static_cast<uint32_t>(random()));
        }
        prefixes[r].SetSummary(std::move(held));
      }
      std::vector<gateway::ObservedReplica> observed(count);
      for (auto& replica : observed) {
        replica = {.own_calls = static_cast<double>(random() % 8),
                   .own_unread_bytes = 0,
                   .has_report = true,
                   .report = {.calls = static_cast<double>(random() % 32), .age_seconds = 1}};
      }
      std::vector<gateway::ReplicaView> views(count);
      const auto choose = [&] {
        for (size_t r = 0; r < count; ++r) {
          views[r].matched_bytes = static_cast<int64_t>(prefixes[r].Matched(blocks.hashes)) * 256;
        }
        gateway::EstimateLoads(observed, views);
        (void)gateway::ChooseReplica(views, blocks.bytes, random());
      };
      Figure figure{.name = absl::StrCat("choose among ", count, " for ", bytes / 1000, " kB"),
                    .value = Microseconds(choose),
                    .unit = "µs"};
      if (count == 16) figure.aim = AtMost(10);
      report.Add(std::move(figure));
    }
  }
}

void MeasureWorth(Report& report) {
  struct Policy {
    const char* name;
    gateway::SimulatedPolicy policy;
  };
  constexpr Policy kPolicies[] = {
      {"random", gateway::SimulatedPolicy::kRandom},
      {"fewest calls of this gateway", gateway::SimulatedPolicy::kFewestOwn},
      {"fewest calls by the last report", gateway::SimulatedPolicy::kFewestReported},
      {"prefix and load", gateway::SimulatedPolicy::kPrefixAndLoad},
  };
  struct Traffic {
    const char* name;
    gateway::ReplicaSimulation options;
  };
  std::vector<Traffic> traffics(4);
  traffics[0].name = "8 gateways";
  traffics[1].name = "1 gateway";
  traffics[1].options.gateways = 1;
  traffics[2].name = "32 gateways";
  traffics[2].options.gateways = 32;
  traffics[3].name = "single turns";
  traffics[3].options.turns = 1;
  for (const Traffic& traffic : traffics) {
    for (const Policy& policy : kPolicies) {
      const auto result = Simulate(traffic.options, policy.policy);
      const std::string name = absl::StrCat(traffic.name, ", ", policy.name, ": ");
      report.Add(
          {.name = name + "found in the cache", .value = 100 * result.cached_share, .unit = "%"});
      report.Add({.name = name + "to the first token",
                  .value = 1e3 * result.mean_first_token,
                  .unit = "ms"});
      report.Add(
          {.name = name + "the same, p99", .value = 1e3 * result.p99_first_token, .unit = "ms"});
      report.Add({.name = name + "largest load over the mean", .value = result.peak_to_mean});
    }
  }
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) {
  octogate::bench::Report report("replica_choice", argc, argv);
  octogate::bench::MeasureTime(report);
  octogate::bench::MeasureWorth(report);
  return report.Print();
}
