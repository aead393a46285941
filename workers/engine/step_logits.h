// The logits of a step: which of its rows have any, what their answers need of them, and how tokens
// are chosen from what they are given.
//
// A row is a vocabulary of floats, and on a device far away. Mostly its largest logits, a draw from
// it or the sum of its exponentials is all that is needed: then all rows stay where they are, are
// edited there (biases and penalties), and those few that are needed whole are copied one by one.
// Where most are, they are copied together.
//
// Not thread-safe; of the engine's thread.
#ifndef OCTOGATE_WORKERS_ENGINE_STEP_LOGITS_H_
#define OCTOGATE_WORKERS_ENGINE_STEP_LOGITS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "workers/engine/answer.h"
#include "workers/engine/sampler.h"
#include "workers/engine/transformer.h"
#include "workers/speculation/draft_tree.h"

namespace octogate::workers {

class StepLogits {
 public:
  // `transformer` must outlive it.
  explicit StepLogits(Transformer* transformer) : transformer_(*transformer) {}

  // A step is described: the last row of each sequence that asks for logits is row `step_row` of
  // the step, and the nodes of its draft tree are the rows behind it. `answer` null: they are
  // needed whole, with their sum. Then it is decided what stays where it is. Of each row at least
  // `candidates` are ranked for drafters, 0: for none.
  void Clear();
  void Add(const Answer* answer, std::span<const DraftNode> nodes, int32_t step_row);
  void Plan(int candidates);

  // For Transformer::Forward: StepInput::logit_rows and where their logits go.
  std::span<const int32_t> rows() const { return rows_; }
  std::span<float> copies();
  // After it: edits, ranks and draws where the logits are.
  void Compute();
  // How long ranking took in this step beyond what it would have without drafters, by what it took
  // lately; 0 where that is not known.
  absl::Duration ranking_for_drafters() const { return ranking_for_drafters_; }

  // From here on `row` is an index of rows().

  // Of the exponentials; 0 where nobody needs it.
  float LogSumExp(int row) const;
  // All logits, which may be written over. Good until the next call for a row.
  std::span<float> All(int row);
  // The `count` most probable tokens, not more than Plan was told; none where they were edited.
  std::span<const int32_t> Candidates(int row, int count) const;
  // Chooses the answer's next token as Answer::Advance does, from less than a row where that
  // suffices. `in_tree`: the sequence had draft nodes when it was added.
  absl::Status Advance(int row, bool in_tree, Answer& answer, GenerateEvent& event);

 private:
  bool ranked() const { return !rows_.empty() && (ranked_count_ > 0 || needs_sums_); }
  void Rank();

  Transformer& transformer_;
  std::vector<int32_t> rows_;
  size_t needed_whole_ = 0;  // sequences
  bool stay_ = false;        // with the backend; what is needed whole is copied row by row
  bool needs_sums_ = false;  // whether or not any are ranked
  int ranked_count_ = 0;     // of each row
  int ranked_alone_ = 0;     // of these, were there no drafters
  double rank_seconds_ = 0;  // that ranking takes for a row without drafters, lately
  absl::Duration ranking_for_drafters_;
  std::vector<float> copies_;              // of all rows, or of one where they stay; may be more
  std::vector<kernels::LogitEdit> edits_;  // of logits that are ranked or drawn from
  std::vector<bool> edited_;               // by row
  Transformer::LargestLogits largest_;
  std::vector<kernels::LogitDraw> draws_;
  std::vector<int> draw_of_row_;  // index of its draw, or -1
  Transformer::DrawnLogits drawn_;
  SamplerScratch scratch_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_STEP_LOGITS_H_
