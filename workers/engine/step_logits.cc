#include "workers/engine/step_logits.h"

#include <algorithm>
#include <chrono>

namespace octogate::workers {
namespace {

// Of a step's rows, on a device. More would not fit into what is staged for it, and cost as much as
// copying the rows.
constexpr size_t kMaxEdits = size_t{1} << 17;

}  // namespace

void StepLogits::Clear() {
  rows_.clear();
  needed_whole_ = 0;
  needs_sums_ = false;
  ranked_count_ = 0;
  edits_.clear();
  edited_.clear();
  draws_.clear();
  draw_of_row_.clear();
}

void StepLogits::Add(const Answer* answer, std::span<const DraftNode> nodes, int32_t step_row) {
  const size_t first = rows_.size();
  const auto rows = static_cast<int32_t>(nodes.size()) + 1;
  for (int32_t i = 0; i < rows; ++i) rows_.push_back(step_row + i);
  edited_.resize(rows_.size(), false);
  draw_of_row_.resize(rows_.size(), -1);
  const Answer::Needs needs = answer != nullptr ? answer->needs() : Answer::Needs{.row = true};
  ranked_count_ = std::max(ranked_count_, needs.largest);
  needs_sums_ = needs_sums_ || answer == nullptr || answer->NeedsSums();
  // In a tree penalties are others at each node, so that nothing is edited where it is.
  const bool in_tree = !nodes.empty();
  if (needs.row || (in_tree && answer->has_edits())) {
    ++needed_whole_;  // of a tree only the rows that its path goes through
    return;
  }
  if (!in_tree && edits_.size() <= kMaxEdits) {
    const size_t before = edits_.size();
    answer->AppendEdits(static_cast<int32_t>(first), edits_);
    edited_[first] = edits_.size() > before;
  }
  for (int32_t i = 0; needs.draw && i < rows; ++i) {
    const size_t row = first + static_cast<size_t>(i);
    const int ahead = i == 0 ? 0 : nodes[static_cast<size_t>(i) - 1].depth;
    draw_of_row_[row] = static_cast<int>(draws_.size());
    draws_.push_back(answer->NextDraw(static_cast<int32_t>(row), ahead));
  }
}

void StepLogits::Plan(int candidates) {
  stay_ = !rows_.empty() && 2 * needed_whole_ <= rows_.size() && edits_.size() <= kMaxEdits;
  if (!stay_) {
    edits_.clear();
    edited_.assign(rows_.size(), false);
    draws_.clear();
    draw_of_row_.assign(rows_.size(), -1);
  }
  const int vocab_size = transformer_.config().vocab_size;
  ranked_alone_ = std::min(ranked_count_, vocab_size);
  ranked_count_ = std::min(std::max(ranked_count_, candidates), vocab_size);
  const size_t copied = stay_ ? 1 : rows_.size();
  // Making it smaller and larger again would fill it with zeros each time.
  copies_.resize(std::max(copies_.size(), copied * static_cast<size_t>(vocab_size)));
}

std::span<float> StepLogits::copies() {
  if (stay_) return {};
  return std::span(copies_).first(rows_.size() *
                                  static_cast<size_t>(transformer_.config().vocab_size));
}

void StepLogits::Compute() {
  ranking_for_drafters_ = absl::ZeroDuration();
  if (!edits_.empty()) transformer_.EditLogits(edits_);
  if (ranked()) Rank();
  if (!draws_.empty()) transformer_.DrawLogits(draws_, drawn_);
}

void StepLogits::Rank() {
  const auto begin = std::chrono::steady_clock::now();
  transformer_.RankLogits(ranked_count_, largest_);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  const double seconds = time.count();
  const auto rows = static_cast<double>(rows_.size());
  const bool ranks_alone = ranked_alone_ > 0 || needs_sums_;
  if (ranked_count_ == ranked_alone_) {
    constexpr double kWeight = 1.0 / 16;
    rank_seconds_ += (rank_seconds_ > 0 ? kWeight : 1.0) * (seconds / rows - rank_seconds_);
  } else if (!ranks_alone || rank_seconds_ > 0) {
    const double alone = ranks_alone ? rank_seconds_ * rows : 0;
    ranking_for_drafters_ = absl::Seconds(std::max(0.0, seconds - alone));
  }
}

float StepLogits::LogSumExp(int row) const {
  return ranked() ? largest_.log_sum_exp[static_cast<size_t>(row)] : 0;
}

std::span<float> StepLogits::All(int row) {
  const auto size = static_cast<size_t>(transformer_.config().vocab_size);
  if (!stay_) return std::span(copies_).subspan(static_cast<size_t>(row) * size, size);
  const std::span<float> copy = std::span(copies_).first(size);
  transformer_.CopyLogits(row, copy);
  return copy;
}

std::span<const int32_t> StepLogits::Candidates(int row, int count) const {
  if (edited_[static_cast<size_t>(row)]) return {};
  return std::span(largest_.ids)
      .subspan(static_cast<size_t>(row) * static_cast<size_t>(ranked_count_),
               static_cast<size_t>(count));
}

absl::Status StepLogits::Advance(int row, bool in_tree, Answer& answer, GenerateEvent& event) {
  const float log_sum_exp = LogSumExp(row);
  const bool edits_wait = answer.has_edits() && (in_tree || !stay_);
  const Answer::Needs needs = answer.needs();
  if (!edits_wait && !needs.row) {
    const auto count = static_cast<size_t>(ranked_count_);
    const size_t first = static_cast<size_t>(row) * count;
    const RankedLogits ranked{std::span(largest_.ids).subspan(first, count),
                              std::span(largest_.logits).subspan(first, count), log_sum_exp,
                              transformer_.config().vocab_size};
    if (needs.draw) {
      const int draw = draw_of_row_[static_cast<size_t>(row)];
      if (draw >= 0 && answer.AdvanceDrawn(drawn_.ids[static_cast<size_t>(draw)],
                                           drawn_.logits[static_cast<size_t>(draw)], ranked, event))
        return absl::OkStatus();
    } else if (answer.AdvanceRanked(ranked, scratch_, event)) {
      return absl::OkStatus();
    }
    if (answer.has_edits()) return answer.AdvanceEdited(All(row), scratch_, event);
  }
  return answer.Advance(All(row), log_sum_exp, scratch_, event);
}

}  // namespace octogate::workers
