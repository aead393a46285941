#include "gateway/call_cost.h"

#include <algorithm>
#include <cmath>

namespace octogate::gateway {
namespace {

constexpr double kAnswerTokens = 256;
constexpr double kBytesPerToken = 4;
// Fewer rows may be bound by memory, and say nothing of a prompt's.
constexpr int kLeastPromptRows = 32;
constexpr double kLeastBytes = 64;
constexpr double kMostBytes = 16384;

// Seconds of a step with `rows`, straight between points; negative where none has as many.
double SecondsOf(const v1::WorkerInfoResponse& info, int rows) {
  const auto& points = info.step_costs();
  for (int i = 0; i < points.size(); ++i) {
    const v1::WorkerStepCost& right = points[i];
    if (right.rows() < rows) continue;
    if (right.rows() == rows || i == 0) return right.seconds();
    const v1::WorkerStepCost& left = points[i - 1];
    const double left_rows = left.rows();  // the difference of what a peer says may be any
    const double share = (rows - left_rows) / (right.rows() - left_rows);
    return left.seconds() + share * (right.seconds() - left.seconds());
  }
  return -1;
}

}  // namespace

std::optional<double> MeasuredBytesPerCall(const v1::WorkerInfoResponse& info) {
  if (info.step_costs().empty() || info.step_sequence_costs().empty()) return std::nullopt;
  const int most_rows = info.step_costs(info.step_costs_size() - 1).rows();
  const v1::WorkerStepTerm& most = info.step_sequence_costs(info.step_sequence_costs_size() - 1);
  if (most_rows < kLeastPromptRows || most.count() < 2 || most.count() > most_rows) {
    return std::nullopt;
  }
  const auto sequences = static_cast<int>(most.count());
  // The second half of the rows costs what prompts do, without what any step costs.
  const int half = most_rows / 2;
  const double prompt_row =
      (SecondsOf(info, most_rows) - SecondsOf(info, half)) / (most_rows - half);
  const double answer_row =
      (SecondsOf(info, sequences) - SecondsOf(info, 1) + most.seconds()) / (sequences - 1);
  const double bytes = kAnswerTokens * kBytesPerToken * answer_row / prompt_row;
  if (!(prompt_row > 0) || !(answer_row >= 0) || !std::isfinite(bytes)) return std::nullopt;
  return std::clamp(bytes, kLeastBytes, kMostBytes);
}

}  // namespace octogate::gateway
