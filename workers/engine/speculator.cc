#include "workers/engine/speculator.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

#include "workers/speculation/draft_scope.h"

namespace octogate::workers {
namespace {

// Share of a plain step below which drafting is cheap whether or not it is of use.
constexpr double kCheapShare = 0.003;
// What drafters go on below, of the least probable path that was verified lately.
constexpr double kHopeful = 0.5;

class Stopwatch {
 public:
  absl::Duration elapsed() const {
    return absl::FromChrono(std::chrono::steady_clock::now() - begin_);
  }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// Leaves the nodes that are of use: not deeper than `max_depth`, allowed by the answer's
// constraint, and no token that ends the answer, since nothing comes after it.
void DropUseless(const Answer& answer, int max_depth, DraftTree& tree) {
  std::vector<std::unique_ptr<TokenConstraint>> forks(tree.nodes.size());
  std::vector<int32_t> places(tree.nodes.size(), -1);
  std::vector<DraftNode> kept;
  kept.reserve(tree.nodes.size());
  for (size_t i = 0; i < tree.nodes.size(); ++i) {
    DraftNode node = tree.nodes[i];
    const auto above = static_cast<size_t>(node.parent);
    if (node.depth > max_depth || answer.IsStopToken(node.token)) continue;
    if (node.parent >= 0 && places[above] < 0) continue;
    if (answer.constraint() != nullptr) {
      forks[i] = node.parent < 0 ? answer.constraint()->Fork() : forks[above]->Fork();
      const absl::Status accepted = forks[i]->Accept(node.token);
      // What else there is would take as much work, of which nobody asked for any.
      if (absl::IsResourceExhausted(accepted)) break;
      if (!accepted.ok()) continue;
    }
    if (node.parent >= 0) node.parent = places[above];
    places[i] = static_cast<int32_t>(kept.size());
    kept.push_back(node);
  }
  tree.nodes = std::move(kept);
}

void FillMasks(const DraftTree& tree, std::vector<kernels::AncestorMask>& masks) {
  masks.assign(tree.nodes.size() + 1, {});
  masks[0].words[0] = 1;
  for (size_t i = 0; i < tree.nodes.size(); ++i) {
    const size_t row = i + 1;
    const int parent_row = tree.nodes[i].parent + 1;
    masks[row] = masks[static_cast<size_t>(parent_row)];
    masks[row].words[row / 64] |= uint64_t{1} << (row % 64);
  }
}

}  // namespace

Speculator::Speculator(std::vector<Drafter*> drafters, bool shared, float prune_below,
                       const DraftPlanner::Options& options, int vocab_size)
    : drafters_(std::move(drafters)),
      shared_(shared),
      prune_below_(prune_below),
      max_nodes_(options.max_nodes),
      vocab_size_(vocab_size),
      ignore_cost_(options.ignore_cost),
      planner_(options) {
  for (const Drafter* drafter : drafters_) {
    candidates_ = std::max(candidates_, drafter->candidates());
    wants_hidden_ = wants_hidden_ || drafter->wants_hidden();
    usage_.drafters.push_back({.drafter = std::string(drafter->name()), .tokens = {}});
  }
  candidates_ = std::min(candidates_, vocab_size);
  for (size_t d = 0; prune_below_ > 0 && d < drafters_.size(); ++d) {
    if (drafters_[d]->has_distribution()) judges_.push_back(d);
    if (drafters_[d]->is_retrieved()) retrieved_.push_back(d);
  }
}

uint64_t Speculator::drafter_bytes() const {
  uint64_t bytes = 0;
  for (const Drafter* drafter : drafters_) bytes += drafter->bytes();
  return bytes;
}

uint64_t Speculator::BytesOf(const RequestSpeculation& request) {
  uint64_t bytes = sizeof(request);
  for (const auto& drafter : request.drafters) {
    if (drafter != nullptr) bytes += drafter->bytes();
  }
  return bytes;
}

std::unique_ptr<RequestSpeculation> Speculator::Begin(const ServiceTerms& terms,
                                                      std::span<const int32_t> tokens) {
  auto request = std::make_unique<RequestSpeculation>();
  // Of tenants that share nothing, requests may not tell each other's keys and values either.
  request->scope = shared_ ? "" : DraftScopeOf(terms.tenant, terms.cache_salt);
  request->usage.drafters = usage_.drafters;
  for (DrafterUsage& drafter : request->usage.drafters) drafter.tokens = {};
  if (ignore_cost_) {
    request->account.asleep = false;
    Wake(tokens, *request);
  }
  return request;
}

void Speculator::Wake(std::span<const int32_t> tokens, RequestSpeculation& request) {
  const Stopwatch stopwatch;
  request.pace = {};
  request.acceptance = {};
  request.begins = true;
  for (Drafter* drafter : drafters_) {
    request.drafters.push_back(drafter->Begin(request.scope));
    if (request.drafters.back() != nullptr) request.drafters.back()->Append(tokens);
  }
  const absl::Duration time = stopwatch.elapsed();
  request.usage.draft += time;
  usage_.draft += time;
  request.account.learning = absl::ToDoubleSeconds(time);
  request.settled_time = request.usage.draft;
}

void Speculator::End(RequestSpeculation& request) {
  // What drafters have of a sequence takes as long to free as a step of a small model.
  const Stopwatch stopwatch;
  request.drafters.clear();
  const absl::Duration time = stopwatch.elapsed();
  usage_.draft += time;
  if (ignore_cost_) return;
  request.account.learning += absl::ToDoubleSeconds(time);
  account_.End(request.account);
}

void Speculator::CountStep(int accepted, RequestSpeculation& request) {
  const bool began = request.begins && !request.proposals.empty();
  if (began) request.begins = false;
  if (ignore_cost_ || plain_share_ <= 0) return;
  double spent = absl::ToDoubleSeconds(request.usage.draft - request.settled_time);
  request.settled_time = request.usage.draft;
  if (began) request.account.learning += std::exchange(spent, 0);
  // What ranking takes is part of the pass, and of none that plain decoding has.
  double gain = accepted * plain_share_ - spent - absl::ToDoubleSeconds(ranking_);
  if (const int nodes = request.tree.size(); nodes > 0) {
    // What they cost by what is known of steps: what this one took tells more of what else the
    // machine did.
    const double added = planner_.AddedSeconds(step_, undrafted_);
    gain -= added * nodes / (step_.rows - undrafted_.rows);
  }
  if (!account_.Step(plain_share_, gain, decoding_.rows, request.account)) return;
  const Stopwatch stopwatch;
  request.drafters.clear();
  const absl::Duration time = stopwatch.elapsed();
  request.usage.draft += time;
  usage_.draft += time;
}

void Speculator::BeginStep(const StepLoad& step, const StepLoad& decoding) {
  step_ = step;
  decoding_ = decoding;
  undrafted_ = step;
  plain_seconds_ = planner_.MeasuredSeconds(decoding);
  plain_share_ = decoding.rows > 0 ? plain_seconds_ / decoding.rows : 0;
  prompts_ = step.rows > decoding.rows;
  drafting_.clear();
  planned_.clear();
  begins_ = false;
  drafts_ = false;
  ranking_ = absl::ZeroDuration();
  draft_time_ = absl::ZeroDuration();
  accepted_ = 0;
}

void Speculator::Admit(const Answer& answer, const DraftLimits& limits,
                       std::span<const int32_t> tokens, RequestSpeculation& request) {
  if (request.account.asleep) {
    if (!account_.Wakes(plain_share_, decoding_.rows, request.account)) return;
    Wake(tokens, request);
  }
  request.tree.nodes.clear();
  request.proposals.clear();
  if (limits.max_depth < 1 || !request.pace.Due(decoding_.rows)) return;
  request.proposals.resize(drafters_.size());
  begins_ = begins_ || request.begins;
  drafting_.push_back({.answer = &answer, .limits = limits, .request = &request});
}

void Speculator::Propose() {
  for (size_t d = 0; d < drafters_.size(); ++d) {
    calls_.clear();
    for (const Drafting& one : drafting_) {
      if (one.request->drafters[d] == nullptr) continue;
      calls_.push_back({.sequence = one.request->drafters[d].get(),
                        .max_nodes = max_nodes_,
                        .max_depth = one.limits.max_depth,
                        .token_seconds = ignore_cost_ ? 0 : plain_share_,
                        .least_path = ignore_cost_ ? 0 : kHopeful * planner_.least_path(),
                        .tree = &one.request->proposals[d],
                        .time = &one.request->usage.draft});
    }
    drafters_[d]->ProposeAll(calls_);
  }
}

void Speculator::Combine(const Drafting& drafting) {
  const Stopwatch stopwatch;
  RequestSpeculation& request = *drafting.request;
  calibrated_.assign(drafters_.size(), {});
  for (size_t d = 0; d < drafters_.size(); ++d) {
    DraftTree& proposal = request.proposals[d];
    if (proposal.empty()) continue;
    if (!CheckDraftTree(proposal, vocab_size_).ok()) {
      ++malformed_;
      proposal.nodes.clear();
      continue;
    }
    for (DraftNode& node : proposal.nodes) node.drafters = static_cast<uint8_t>(1u << d);
    Calibrate(d, request);
  }
  for (const size_t d : retrieved_) {
    const int nodes = request.proposals[d].size();
    for (const size_t judge : judges_) {
      PruneByDraft(calibrated_[judge], prune_below_, request.proposals[d]);
    }
    if (request.proposals[d].size() < nodes) Calibrate(d, request);
  }
  combination_.Combine(calibrated_, request.combined);
  request.tree = request.combined.tree;
  PruneDraftTree(max_nodes_, request.tree);
  DropUseless(*drafting.answer, drafting.limits.max_depth, request.tree);
  planned_.push_back({.tree = &request.tree,
                      .context = drafting.limits.context,
                      .free_slots = drafting.limits.free_slots,
                      .most_slots = drafting.limits.most_slots,
                      .spends = request.pace.spends});
  request.usage.draft += stopwatch.elapsed();
}

void Speculator::Calibrate(size_t drafter, RequestSpeculation& request) {
  calibrated_[drafter] = request.proposals[drafter];
  acceptance_.Calibrate(static_cast<int>(drafter), request.acceptance, calibrated_[drafter]);
}

bool Speculator::PlanStep(const DraftRoom& room) {
  if (drafting_.empty()) return false;
  const Stopwatch stopwatch;
  Propose();
  for (const Drafting& one : drafting_) Combine(one);
  const bool cheap = absl::ToDoubleSeconds(stopwatch.elapsed()) < kCheapShare * plain_seconds_;
  planner_.Plan(step_, decoding_, room, planned_);
  for (size_t i = 0; i < planned_.size(); ++i) {
    RequestSpeculation& request = *drafting_[i].request;
    const int nodes = request.tree.size();
    request.pace.Drafted(nodes > 0, cheap, decoding_.rows);
    if (nodes == 0) continue;
    drafts_ = true;
    FillMasks(request.tree, request.masks);
    step_.rows += nodes;
    step_.logit_rows += nodes;
    step_.attended += int64_t{nodes} * planned_[i].context;
  }
  draft_time_ += stopwatch.elapsed();
  return drafts_;
}

void Speculator::BeginPass() {
  if (!drafts_) return;
  for (size_t d = 0; d < drafters_.size(); ++d) {
    verified_.clear();
    for (const Drafting& one : drafting_) {
      const RequestSpeculation& request = *one.request;
      if (request.tree.empty() || request.proposals[d].empty()) continue;
      verified_.push_back(request.drafters[d].get());
    }
    drafters_[d]->BeginPass(verified_);
  }
}

void Speculator::EndPass() {
  if (!drafts_) return;
  const Stopwatch stopwatch;
  for (Drafter* const drafter : drafters_) drafter->EndPass();
  const absl::Duration time = stopwatch.elapsed();
  draft_time_ += time;
  for (const Drafting& one : drafting_) {
    one.request->usage.draft += time / static_cast<double>(drafting_.size());
  }
}

void Speculator::Ranked(absl::Duration time, int requests) {
  ranking_ = time / std::max(requests, 1);
}

void Speculator::KeptPath(RequestSpeculation& request, absl::Duration time) {
  request.usage.draft += time;
  draft_time_ += time;
}

void Speculator::Chosen(RequestSpeculation& request, std::span<const int32_t> chosen,
                        std::span<const int> accepted, std::span<const ComputedRow> rows,
                        bool drafts_in_step, absl::Duration step_time) {
  (drafts_in_step ? request.usage.verify : request.usage.plain) += step_time;
  ++request.usage.steps;
  ++usage_.steps;
  // Nothing that takes time, as that would be lost where nothing is gained.
  if (request.account.asleep) return;
  const Stopwatch stopwatch;
  for (size_t d = 0; d < request.drafters.size(); ++d) {
    if (request.drafters[d] == nullptr) continue;
    request.drafters[d]->Append(chosen);
    const bool observes = drafters_[d]->candidates() > 0 || drafters_[d]->wants_hidden();
    if (observes && !rows.empty()) request.drafters[d]->Observe(rows);
  }
  for (size_t d = 0; d < request.proposals.size(); ++d) {
    acceptance_.Record(static_cast<int>(d), request.proposals[d], chosen, request.acceptance);
  }
  if (!request.proposals.empty()) combination_.Record(request.combined, chosen);
  accepted_ += static_cast<int>(accepted.size());
  for (SpeculationUsage* usage : {&usage_, &request.usage}) {
    CountDraftTree(request.tree, accepted, *usage);
  }
  const absl::Duration time = stopwatch.elapsed();
  request.usage.draft += time;
  draft_time_ += time;
  CountStep(static_cast<int>(accepted.size()), request);
  request.proposals.clear();
  request.tree.nodes.clear();
}

void Speculator::EndStep(absl::Duration step_time) {
  usage_.draft += draft_time_;
  if (step_.logit_rows == 0) return;
  (drafts_ ? usage_.verify : usage_.plain) += step_time;
  if (drafts_) planner_.Accepted(accepted_);
  if (prompts_ || (drafts_ && begins_)) return;
  const absl::Duration time = drafts_ ? step_time + draft_time_ : step_time;
  planner_.Measured(step_, drafts_, absl::ToDoubleSeconds(time));
}

}  // namespace octogate::workers
