#include "tests/bench/speculation_replay.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <utility>

#include "workers/speculation/acceptance_stats.h"
#include "workers/speculation/draft_combination.h"
#include "workers/speculation/planner.h"

namespace octogate::bench {
namespace {

using workers::Drafter;
using workers::DraftTree;
using workers::SequenceDrafter;

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

float MicrosecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<float, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

// What an engine keeps of a model's drafters beside them.
struct Believed {
  workers::AcceptanceStats acceptance;
  workers::DraftCombination combination;
  std::unique_ptr<workers::DraftPlanner> planner;  // where rows have a price
};

std::unique_ptr<Believed> MakeBelieved(const ReplayOptions& options) {
  auto believed = std::make_unique<Believed>();
  if (options.pass_cost == nullptr) return believed;
  believed->planner = std::make_unique<workers::DraftPlanner>(workers::DraftPlanner::Options{
      .max_nodes = options.max_nodes,
      .seconds = [cost = options.pass_cost](const workers::StepLoad& load) {
        return cost(load.rows);
      }});
  return believed;
}

void CountTested(const DraftTree& proposal, std::span<const int32_t> chosen, ReplayTested& tested) {
  int parent = -1;
  for (const int32_t token : chosen) {
    int next = -1;
    for (int i = parent + 1; i < proposal.size(); ++i) {
      const workers::DraftNode& node = proposal.nodes[static_cast<size_t>(i)];
      if (node.parent != parent) continue;
      if (node.token == token) next = i;
      tested.Add(double{node.probability}, node.token == token);
    }
    if (next < 0) return;
    parent = next;
  }
}

ReplayCounts ReplayOne(const RecordedRequest& request,
                       const std::vector<std::unique_ptr<Drafter>>& drafters,
                       const ReplayOptions& options, Believed& believed) {
  ReplayCounts counts;
  counts.requests = 1;
  if (request.output.empty()) return counts;
  workers::SequenceAcceptance acceptance;
  std::vector<std::unique_ptr<SequenceDrafter>> sequences;
  for (const auto& drafter : drafters) sequences.push_back(drafter->Begin("replay"));
  const auto append = [&sequences](std::span<const int32_t> tokens) {
    for (const auto& sequence : sequences) sequence->Append(tokens);
  };
  append(request.prompt);
  append(std::span(request.output).first(1));
  bool spends = false;
  for (size_t at = 1; at < request.output.size();) {
    const auto begin = std::chrono::steady_clock::now();
    DraftTree tree;
    std::vector<DraftTree> proposals(sequences.size());
    for (size_t d = 0; d < sequences.size(); ++d) {
      sequences[d]->Propose(options.max_nodes, options.max_depth, proposals[d]);
    }
    workers::CombinedDraft combined;
    std::vector<DraftTree> calibrated;
    if (sequences.size() == 1) {
      tree = std::move(proposals[0]);
    } else {
      calibrated.resize(proposals.size());
      const auto calibrate = [&](size_t d) {
        calibrated[d] = proposals[d];
        believed.acceptance.Calibrate(static_cast<int>(d), acceptance, calibrated[d]);
      };
      for (size_t d = 0; d < sequences.size(); ++d) {
        for (workers::DraftNode& node : proposals[d].nodes) {
          node.drafters = static_cast<uint8_t>(1U << d);
        }
        calibrate(d);
      }
      if (options.prune_below > 0 && options.judge + 1 < sequences.size()) {
        PruneByDraft(calibrated[options.judge], options.prune_below, proposals.back());
        calibrate(sequences.size() - 1);
      }
      believed.combination.Combine(calibrated, combined);
      tree = combined.tree;
    }
    PruneDraftTree(options.max_nodes, tree);
    if (believed.planner != nullptr) {
      const auto context = static_cast<int>(request.prompt.size() + at);
      const workers::StepLoad load = {.rows = 1, .logit_rows = 1, .attended = context};
      workers::PlannedSequence planned = {.tree = &tree,
                                          .context = context,
                                          .free_slots = options.max_nodes,
                                          .most_slots = options.max_nodes,
                                          .spends = spends};
      believed.planner->Plan(load, load, {.rows = options.max_nodes}, {&planned, 1});
      spends = !tree.empty();
    }
    counts.microseconds.push_back(MicrosecondsSince(begin));
    if (absl::Status status = CheckDraftTree(tree, 1 << 30); !status.ok()) {
      Fail(std::string(status.message()));
    }
    const std::span<const int32_t> left = std::span(request.output).subspan(at);
    size_t emitted = 0;
    for (int node = -1; emitted < left.size(); ++emitted) {
      node = tree.Child(node, left[emitted]);
      if (node < 0) break;
      if (counts.accepted.size() <= emitted) counts.accepted.resize(emitted + 1, 0);
      ++counts.accepted[emitted];
    }
    if (believed.planner != nullptr && spends) {
      believed.planner->Accepted(static_cast<int>(emitted));
    }
    emitted = std::min(emitted + 1, left.size());
    const auto learning = std::chrono::steady_clock::now();
    append(left.first(emitted));
    if (sequences.size() > 1) {
      for (size_t d = 0; d < sequences.size(); ++d) {
        believed.acceptance.Record(static_cast<int>(d), proposals[d], left.first(emitted),
                                   acceptance);
      }
      believed.combination.Record(combined, left.first(emitted));
    }
    counts.learning.push_back(MicrosecondsSince(learning));
    for (size_t d = 0; d < calibrated.size(); ++d) {
      CountTested(calibrated[d], left.first(emitted), counts.proposed[d]);
    }
    CountTested(combined.tree, left.first(emitted), counts.combined);
    counts.cost += options.pass_cost == nullptr ? 1 : options.pass_cost(1 + tree.size());
    counts.rows += static_cast<uint64_t>(tree.size());
    counts.tokens += emitted;
    ++counts.steps;
    at += emitted;
  }
  return counts;
}

class PromptLookupSequence : public SequenceDrafter {
 public:
  void Append(std::span<const int32_t> tokens) override {
    text_.insert(text_.end(), tokens.begin(), tokens.end());
  }

  void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
    constexpr size_t kTokens = 10;
    for (size_t n = 3; n > 0; --n) {
      for (size_t at = 0; at + n + kTokens <= text_.size(); ++at) {
        const auto place = text_.begin() + static_cast<std::ptrdiff_t>(at);
        const auto size = static_cast<std::ptrdiff_t>(n);
        if (!std::equal(text_.end() - size, text_.end(), place)) continue;
        int node = -1;
        for (size_t i = 0; i < kTokens; ++i) {
          if (tree.size() >= std::min(max_nodes, max_depth)) return;
          node = tree.Add(node, text_[at + n + i], 1, 1);
        }
        return;
      }
    }
  }

 private:
  std::vector<int32_t> text_;
};

class PromptLookup : public Drafter {
 public:
  std::string_view name() const override { return "prompt lookup"; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view /*scope*/) override {
    return std::make_unique<PromptLookupSequence>();
  }
  uint64_t bytes() const override { return 0; }
};

}  // namespace

std::vector<RecordedRequest> ReadRequests(const std::string& path) {
  std::ifstream file(path);
  if (!file) Fail("cannot read " + path);
  std::vector<RecordedRequest> requests;
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const bool is_good = json.is_object() && json.contains("task") && json["task"].is_string() &&
                         json.contains("prompt") && json["prompt"].is_array() &&
                         json.contains("output") && json["output"].is_array();
    if (!is_good) Fail(path + ": line " + std::to_string(requests.size() + 1) + " is no request");
    requests.push_back({json["task"], json["prompt"], json["output"]});
  }
  return requests;
}

int VocabularyOf(const std::vector<RecordedRequest>& requests) {
  int32_t largest = 0;
  for (const RecordedRequest& request : requests) {
    for (const int32_t id : request.prompt) largest = std::max(largest, id);
    for (const int32_t id : request.output) largest = std::max(largest, id);
  }
  return largest + 1;
}

void ReplayCounts::Add(const ReplayCounts& other) {
  requests += other.requests;
  tokens += other.tokens;
  steps += other.steps;
  rows += other.rows;
  accepted.resize(std::max(accepted.size(), other.accepted.size()), 0);
  for (size_t i = 0; i < other.accepted.size(); ++i) accepted[i] += other.accepted[i];
  microseconds.insert(microseconds.end(), other.microseconds.begin(), other.microseconds.end());
  learning.insert(learning.end(), other.learning.begin(), other.learning.end());
  cost += other.cost;
  for (size_t d = 0; d < proposed.size(); ++d) proposed[d].Add(other.proposed[d]);
  combined.Add(other.combined);
}

void ReplayTested::Add(double probability, bool is_right) {
  const double error = probability - (is_right ? 1 : 0);
  Add({.nodes = 1,
       .expected = probability,
       .right = is_right ? uint64_t{1} : 0,
       .squared_error = error * error});
}

void ReplayTested::Add(const ReplayTested& other) {
  nodes += other.nodes;
  expected += other.expected;
  right += other.right;
  squared_error += other.squared_error;
}

std::map<std::string, ReplayCounts> Replay(const std::vector<RecordedRequest>& requests,
                                           const MakeDrafters& make, const ReplayOptions& options) {
  std::map<std::string, ReplayCounts> tasks;
  std::vector<std::unique_ptr<Drafter>> drafters = make();
  auto believed = MakeBelieved(options);
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!options.warm && i > 0) {
      drafters = make();
      if (i % options.believed_for == 0) believed = MakeBelieved(options);
    }
    tasks[requests[i].task].Add(ReplayOne(requests[i], drafters, options, *believed));
  }
  return tasks;
}

std::unique_ptr<Drafter> MakePromptLookup() { return std::make_unique<PromptLookup>(); }

double Percentile(std::vector<float> values, double share) {
  if (values.empty()) return 0;
  const auto place = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + place, values.end());
  return static_cast<double>(values[static_cast<size_t>(place)]);
}

}  // namespace octogate::bench
