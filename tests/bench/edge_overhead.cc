#include "tests/bench/edge_overhead.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace octogate::bench {
namespace {

constexpr int kQueries = 3000;

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

}  // namespace

void MeasureEdges(ReplayGateway* gateway, size_t model, size_t other,
                  const std::vector<std::string>& queries, Report* report) {
  const std::string one = absl::StrCat("m", model, ".jsonl");
  const std::string next = absl::StrCat("m", other, ".jsonl");
  gateway->Apply(absl::StrCat(
      "  entry: start\n  nodes:\n    - {name: start, tool: {tool: reply, parameters: {text: "
      "none}}}\n    - {name: plain, replay: {recording: ",
      one, "}}\n    - {name: edged, replay: {recording: ", one,
      "}}\n    - {name: left, replay: {recording: ", one,
      "}}\n    - {name: next, replay: ", "{recording: ", next,
      "}}\n  edges:\n    - {from: edged, to: next, on: lowConfidence, below: 0.5}\n"
      // Recorded confidences are 1 where none is given, which is below no bound.
      "    - {from: left, to: next, on: success, input: \"{query}\"}\n"
      "    - {from: start, to: plain, on: error}\n    - {from: start, to: edged, on: error}\n"
      "    - {from: start, to: left, on: error}\n"));
  std::map<std::string, std::vector<double>> times;
  for (int i = 0; i < kQueries; ++i) {
    for (const char* node : {"plain", "edged", "left"}) {
      const auto begin = std::chrono::steady_clock::now();
      gateway->Ask(queries[i % queries.size()], node);
      times[node].push_back(
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
              .count());
    }
  }
  const auto add = [&](const std::string& name, const std::string& node, double share) {
    const double without = Percentile(times["plain"], share);
    const double with = Percentile(times[node], share);
    report->Add({.name = name,
                 .value = with - without,
                 .unit = "ms more",
                 .beside = absl::StrFormat("%.3f ms without", without),
                 .ratio = with / without,
                 .aim = share > 0.9 ? std::optional<Aim>(AtMost(1)) : std::nullopt});
  };
  add("conditional edge, not taken, median", "edged", 0.5);
  add("conditional edge, not taken, p99", "edged", 0.99);
  add("edge taken to a second node, median", "left", 0.5);
  add("edge taken to a second node, p99", "left", 0.99);
}

}  // namespace octogate::bench
