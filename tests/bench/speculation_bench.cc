// Mean accepted tokens of drafters on recorded answers (speculation_replay.h), by task.
//
//   speculation_bench --requests=FILE      from tests/bench/speculation_requests.py
//     --nodes=63,15,31,80                  budgets; acceptance by depth is that of the first
//     --drafters=NAME,…                    of those below; NAME+NAME is merged
//     --task=PREFIX                        only these
//
// Tasks are joined up to their first space. Cold: each request has new drafters. Warm: the requests
// of a task one after another in the file's order, beginning empty.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "tests/bench/report.h"
#include "tests/bench/speculation_replay.h"
#include "workers/speculation/lookahead.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/suffix.h"

namespace octogate::bench {
namespace {

using workers::Drafter;
using workers::LookaheadDrafter;
using workers::RecyclingDrafter;
using workers::RecyclingOptions;
using workers::SuffixDrafter;

std::vector<std::string> Split(const std::string& text, char by) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(by, begin)) != std::string::npos; begin = end + 1) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::unique_ptr<Drafter> MakeRecycling(RecyclingOptions::Shape shape, int vocab_size,
                                       int context_rows) {
  RecyclingOptions options;
  options.table.vocab_size = vocab_size;
  options.table.context_rows = context_rows;
  options.shape = shape;
  return std::make_unique<RecyclingDrafter>(options);
}

std::unique_ptr<Drafter> Make(const std::string& name, int vocab_size) {
  using Shape = RecyclingOptions::Shape;
  const int context_rows = workers::RecyclingTableOptions().context_rows;
  if (name == "lookup") return MakePromptLookup();
  if (name == "recycling") return MakeRecycling(Shape::kBestFirst, vocab_size, context_rows);
  if (name == "recycling-wide") return MakeRecycling(Shape::kBestFirst, vocab_size, 1 << 17);
  if (name == "recycling-planned") return MakeRecycling(Shape::kPlanned, vocab_size, context_rows);
  if (name == "recycling-fixed") return MakeRecycling(Shape::kFixed, vocab_size, context_rows);
  if (name == "recycling-paper") return MakeRecycling(Shape::kFixed, vocab_size, 0);
  if (name == "suffix") return std::make_unique<SuffixDrafter>(workers::SuffixOptions());
  if (name == "lookahead") return std::make_unique<LookaheadDrafter>(workers::LookaheadOptions());
  std::fprintf(stderr, "no drafter '%s'\n", name.c_str());
  std::exit(2);
}

std::vector<std::unique_ptr<Drafter>> MakeAll(const std::string& names, int vocab_size) {
  std::vector<std::unique_ptr<Drafter>> drafters;
  for (const std::string& name : Split(names, '+')) drafters.push_back(Make(name, vocab_size));
  return drafters;
}

struct Arguments {
  std::string requests;
  std::vector<int> nodes = {63};
  std::vector<std::string> drafters = {"lookup",           "recycling-paper",
                                       "recycling-fixed",  "recycling-planned",
                                       "recycling-wide",   "recycling",
                                       "suffix",           "lookahead",
                                       "recycling+suffix", "recycling+suffix+lookahead"};
  std::string task;
};

Arguments Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::string value = argument.substr(argument.find('=') + 1);
    if (argument.starts_with("--requests=")) arguments.requests = value;
    if (argument.starts_with("--task=")) arguments.task = value;
    if (argument.starts_with("--drafters=")) arguments.drafters = Split(value, ',');
    if (argument.starts_with("--nodes=")) {
      arguments.nodes.clear();
      for (const std::string& count : Split(value, ',')) {
        arguments.nodes.push_back(std::atoi(count.c_str()));
      }
    }
  }
  if (arguments.requests.empty()) {
    std::fprintf(stderr, "--requests=FILE names no file of tests/bench/speculation_requests.py\n");
    std::exit(2);
  }
  return arguments;
}

int Main(int argc, char** argv) {
  const Arguments arguments = Parse(argc, argv);
  Report report("speculation", argc, argv);
  report.SetKind(kReplayKind);
  std::map<std::string, std::vector<RecordedRequest>> tasks;
  std::vector<RecordedRequest> recorded = ReadRequests(arguments.requests);
  const int vocab_size = VocabularyOf(recorded);
  for (RecordedRequest& request : recorded) {
    if (!request.task.starts_with(arguments.task)) continue;
    request.task = request.task.substr(0, request.task.find(' '));
    tasks[request.task].push_back(std::move(request));
  }
  for (const auto& [task, requests] : tasks) {
    double tokens = 0;
    for (const RecordedRequest& request : requests) {
      tokens += static_cast<double>(request.output.size());
    }
    report.Add({.name = task + ", requests", .value = static_cast<double>(requests.size())});
    report.Add({.name = task + ", tokens of output", .value = tokens});
  }
  std::map<std::string, double> measured;
  for (const bool warm : {false, true}) {
    for (const std::string& names : arguments.drafters) {
      for (const int nodes : arguments.nodes) {
        ReplayCounts all;
        const std::string how = (warm ? ", warm, " : ", cold, ") + std::to_string(nodes) + " rows";
        const std::string label = names + how;
        for (const auto& [task, requests] : tasks) {
          ReplayCounts counts;
          const ReplayOptions options = {.max_nodes = nodes, .warm = warm};
          for (const auto& [_, one] : Replay(
                   requests, [&] { return MakeAll(names, vocab_size); }, options)) {
            counts.Add(one);
          }
          all.Add(counts);
          Figure figure = {
              .name = task + ", " + label, .value = counts.mat(), .unit = "tokens/step"};
          measured[figure.name] = figure.value;
          double alone = 0;
          for (const std::string& name : Split(names, '+')) {
            const auto found = measured.find(task + ", " + name + how);
            if (name != names && found != measured.end()) alone = std::max(alone, found->second);
          }
          if (alone > 0) {
            figure.beside = "the best alone";
            figure.ratio = figure.value / alone;
            figure.aim = AtLeast(1, Aim::kRatio);
          }
          report.Add(figure);
        }
        const auto steps = static_cast<double>(all.steps);
        report.Add({.name = "all, " + label, .value = all.mat(), .unit = "tokens/step"});
        report.Add({.name = "all, " + label + ", drafted",
                    .value = static_cast<double>(all.rows) / steps,
                    .unit = "rows/step"});
        report.Add({.name = "all, " + label + ", draft, median",
                    .value = Percentile(all.microseconds, 0.5),
                    .unit = "us"});
        report.Add({.name = "all, " + label + ", draft, 99 %",
                    .value = Percentile(all.microseconds, 0.99),
                    .unit = "us",
                    .aim = AtMost(100)});
        report.Add({.name = "all, " + label + ", learning, 99 %",
                    .value = Percentile(all.learning, 0.99),
                    .unit = "us"});
        if (nodes != arguments.nodes[0]) continue;
        for (size_t depth = 0; depth < std::min<size_t>(all.accepted.size(), 8); ++depth) {
          report.Add({.name = "all, " + label + ", accepted at depth " + std::to_string(depth + 1),
                      .value = 100 * static_cast<double>(all.accepted[depth]) / steps,
                      .unit = "% of steps"});
        }
      }
    }
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
