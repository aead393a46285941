// The drafter `model`: a small checkpoint with the tokenizer of the model that it drafts for.
//
// Its tree is grown greedily by the probability of paths, as what is probable for the draft is
// likely to be accepted (Xiong et al. 2024, "DySpec", arXiv:2410.11744). A pass of the draft model
// computes the most probable nodes found so far as the rows of a tree; what it ranks highest after
// each of them are the candidates of the next pass.
//
// A pass reads all weights whatever it computes, so it computes the rows of all sequences that
// draft in a step: drafts of many take about as many passes as those of one. A row's result does
// not depend on what else there is in its pass. What a pass finds is right at most as often as the
// rows that it computes: where the time that this saves is less than the last pass took, there is
// no other one. Nor are there rows for paths that are so improbable that nobody verifies them.
//
// With a backend of its own the drafter can go on while the model verifies: trees grow below what
// was proposed. Where all that the model chose is in the tree, the next proposal is the part below
// it, which grows by no more passes than it has not had yet. How far that goes is a matter of time,
// and proposals with it; what they are to be is not.
//
// Its nodes are the most probable ones, not drawn ones: they are accepted by the target-only rule
// at any temperature; acceptance.h says why the rules for drawn ones are not used.
//
// A target of its own: it runs on workers/engine, which knows the other drafters.
#ifndef OCTOGATE_WORKERS_SPECULATION_MODEL_DRAFTER_H_
#define OCTOGATE_WORKERS_SPECULATION_MODEL_DRAFTER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/hash128.h"
#include "common/task_thread.h"
#include "kernels/backend.h"
#include "workers/engine/transformer.h"
#include "workers/model/checkpoint.h"
#include "workers/speculation/drafter.h"

namespace octogate::workers {

struct ModelDrafterOptions {
  // Of both models (tokenizer_fingerprint.h), and the target's vocabulary.
  Hash128 draft_tokenizer;
  Hash128 target_tokenizer;
  int vocab_size = 0;

  // Of the draft model for one tree, of which the first computes the root alone: the usual number,
  // and where it is known what a token saves, as many as may be worth their time.
  int passes = 4;
  int most_passes = 8;
  int rows = 8;      // nodes that each other pass adds
  int children = 4;  // candidates of a node
  // Of a sequence in a pass that reads what it has and the draft has not seen, and how many of
  // these one Propose may take; where that does not suffice, it proposes nothing.
  int prompt_rows = 64;
  int prompt_passes = 8;
  // Rows of all sequences in a pass, and those of them that are ranked; more where one sequence
  // takes more.
  int batch_rows = 256;
  int batch_ranked_rows = 64;
  // Keys and values of all sequences together, of the type that the backend prefers: this many
  // pages, or 0: as many as cache_bytes hold, of at most kMostPositions. A sequence that gets no
  // page proposes nothing.
  static constexpr int kMostPositions = 1 << 16;
  int pages = 0;
  int page_size = 16;
  uint64_t cache_bytes = uint64_t{256} << 20;
  // Passes that it may compute between BeginPass and EndPass, of as many rows as others have; 0:
  // none.
  int ahead_passes = 0;
};

class ModelDrafter : public Drafter {
 public:
  // `backend` must outlive the drafter, and is driven by the same thread. FAILED_PRECONDITION where
  // the tokenizers differ, INVALID_ARGUMENT for options out of their ranges, ahead_passes among
  // these; errors of Transformer::Load.
  static absl::StatusOr<std::unique_ptr<ModelDrafter>> Create(
      std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
      const ModelDrafterOptions& options);
  // With a backend of its own.
  static absl::StatusOr<std::unique_ptr<ModelDrafter>> Create(
      std::shared_ptr<const Checkpoint> checkpoint, std::unique_ptr<kernels::Backend> backend,
      const ModelDrafterOptions& options);
  ~ModelDrafter() override;

  std::string_view name() const override { return "model"; }
  bool has_distribution() const override { return true; }
  // Learns nothing: the scope does not matter. Propose first reads what was appended since it was
  // last called.
  std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) override;
  // In the same passes, as far as these have room.
  void ProposeAll(std::span<const DraftCall> calls) override;
  void BeginPass(std::span<SequenceDrafter* const> verified) override;
  void EndPass() override;
  uint64_t bytes() const override { return bytes_; }  // weights, activations and cache
  // Of the draft model until now. Thread-safe.
  uint64_t passes() const { return passes_.load(std::memory_order_relaxed); }

 private:
  class Sequence;
  struct Growing;

  // The next pass of as many sequences as it has room for, from the first on: how many.
  size_t ComputePass(std::span<Growing> growing);

  // While the model verifies.
  void DraftAhead();

  explicit ModelDrafter(const ModelDrafterOptions& options);
  static absl::StatusOr<std::unique_ptr<ModelDrafter>> Load(
      std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
      const ModelDrafterOptions& options);

  const ModelDrafterOptions options_;
  std::unique_ptr<kernels::Backend> own_backend_;  // of what follows; may be null
  TransformerLimits limits_;                       // of a pass
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<kernels::KvCache> cache_;
  std::vector<int32_t> free_pages_;
  uint64_t bytes_ = 0;
  std::atomic<uint64_t> passes_ = 0;
  // Of a pass.
  std::vector<int32_t> ids_;
  std::vector<int32_t> ranked_rows_;
  std::vector<StepSequence> step_sequences_;
  Transformer::LargestLogits largest_;
  // Between BeginPass and EndPass all of the above is the thread's.
  std::vector<Growing> ahead_;
  std::atomic<bool> pass_ended_ = false;
  std::unique_ptr<TaskThread> thread_;  // null where nothing is drafted ahead
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_MODEL_DRAFTER_H_
