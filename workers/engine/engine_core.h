// The engine without its thread: requests under way, and what one step does with them.
//
// Not thread-safe; driven by the engine's thread.
#ifndef OCTOGATE_WORKERS_ENGINE_ENGINE_CORE_H_
#define OCTOGATE_WORKERS_ENGINE_ENGINE_CORE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "workers/engine/admission.h"
#include "workers/engine/answer.h"
#include "workers/engine/page_explanation.h"
#include "workers/engine/request.h"
#include "workers/engine/scheduler.h"
#include "workers/engine/sequence.h"
#include "workers/engine/shared_pages.h"
#include "workers/engine/speculator.h"
#include "workers/engine/step_logits.h"
#include "workers/engine/transformer.h"
#include "workers/model/tokenizer.h"

namespace octogate::workers {

using SteadyTime = std::chrono::steady_clock::time_point;

// One accepted request.
struct ActiveRequest : Sequence {
  enum class Kind {
    kGenerate,
    kNextToken,  // the logits after the prompt, for request.score_first_tokens
    kEmbed,      // the mean hidden state of the prompt
  };
  // `embedding` is not empty only in the last event of kEmbed.
  using Sink = std::function<void(const GenerateEvent& event, std::span<const float> embedding)>;

  Kind kind = Kind::kGenerate;
  GenerateRequest request;
  std::optional<Answer> answer;  // of kGenerate
  std::shared_ptr<const Generation> generation;
  Sink sink;
  SteadyTime deadline = SteadyTime::max();

  SteadyTime submitted;
  std::optional<SteadyTime> started;
  SteadyTime first_token;
  SteadyTime last_token;
  PromptWork work;
  bool offered = false;               // its prompt's pages, to other engines
  std::vector<double> embedding_sum;  // of kEmbed, over the positions computed so far
  // Of kGenerate once it has started, where there are drafters.
  std::unique_ptr<RequestSpeculation> speculation;
};

struct StepCounters {
  uint64_t requests_finished = 0;
  uint64_t requests_unmeetable = 0;
  uint64_t prompt_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t recomputed_tokens = 0;
  uint64_t steps = 0;
  uint64_t step_rows = 0;
  uint64_t flushed_pages = 0;
  uint64_t flushed_in_use = 0;
};

class EngineCore {
 public:
  // All must outlive the core.
  struct Parts {
    Transformer* transformer = nullptr;
    kernels::KvCache* cache = nullptr;
    const Tokenizer* tokenizer = nullptr;  // may be null
    std::vector<Drafter*> drafters;
    bool share_drafts = false;
    float prune_retrieved_below = 0;
    DraftPlanner::Options planner;
    kernels::Backend* backend = nullptr;  // needed with shared_pages
    SharedPages* shared_pages = nullptr;  // null: pages are not shared with other engines
    const StepCost* step_cost = nullptr;  // needed
    StepPace* pace = nullptr;             // needed: is told of steps that compute prompts
  };
  EngineCore(const Parts& parts, const SchedulerOptions& options);

  // Ends it at once where its deadline cannot be met; see Admission.
  void Add(std::unique_ptr<ActiveRequest> request);
  // What Add would find of a sequence, but for what the store has; changes nothing.
  PageExplanation ExplainPages(const Sequence& sequence) const;

  // A step has two halves. The first ends requests that are cancelled or overdue and decides what
  // to compute; the second computes it, if there is anything, and hands out the events.
  void PlanStep();
  void ComputeStep();
  // Forgets the pages of the contexts, also as engines that share pages have done it since the last
  // call; see Scheduler::Flush.
  void Flush(const ContextFilter& includes);
  void FlushAsOthers();
  // Ends every request with kCancelled and `status`.
  void CancelAll(const absl::Status& status);

  // Whether the step that was planned last has nothing to compute, since all that is there waits
  // for pages to arrive.
  bool stalled() const { return !active_.empty() && scheduled_.empty(); }
  int active() const { return static_cast<int>(active_.size()); }
  // Requests that have not been in any step yet.
  int unstarted() const;
  // Tokens of prompts that are not computed.
  int64_t waiting_tokens() const;
  // Of these, the rows that are left to compute in any case.
  int64_t prompt_rows() const;
  // What a row of a prompt takes at least; 0 where nothing is measured.
  double row_seconds() const { return parts_.pace->ratio() * admission_.row_seconds(); }
  const Scheduler& scheduler() const { return scheduler_; }
  const StepCounters& counters() const { return counters_; }
  const Speculator& speculator() const { return speculator_; }
  // That drafters hold, for the requests that there are, too. Takes some microseconds.
  uint64_t draft_bytes() const;
  // How long the model took in the last step that computed anything.
  std::chrono::nanoseconds last_step_time() const { return last_step_time_; }

 private:
  // What beside the tokens decides keys and values, and who may share them.
  std::string PrefixContext(const ActiveRequest& request) const;
  // OK where nothing is measured. `pages_may_come`: as if all of its pages did.
  absl::Status CheckDeadline(const ActiveRequest& request, bool pages_may_come);
  void EndCancelledAndOverdue();
  // Hands out pages that have arrived, and offers others what sequences have computed.
  void SharePages();
  // `pages` are those at the beginning of the request's sequence that are in the prefix cache.
  void OfferPages(const ActiveRequest& request, std::span<const int32_t> pages);
  // Marks the requests of scheduled_ as started and begins their speculation, which takes time that
  // is not the step's.
  void StartRequests();
  // Lets sequences that decode have draft trees, as far as there is room and they pay.
  void PlanDrafts();
  // Describes scheduled_ to the transformer.
  void BuildStep();
  // Tells how long a step took that computed prompts in the main.
  void MeasurePace() const;
  void AddHiddenStates(ActiveRequest& request, const ScheduledRows& rows,
                       std::span<const float> hidden);
  // The rows of a sequence reached its last token. `logit_row` is the index of its first row in
  // logits_, negative where it asked for none.
  void Complete(ActiveRequest& request, const ScheduledRows& rows, int logit_row, SteadyTime now);
  // Chooses tokens: one, and one more for each draft that was right.
  void Generate(ActiveRequest& request, const ScheduledRows& rows, int logit_row, SteadyTime now);
  // Fills computed_rows_ with the sequence's rows of the step, of whose nodes `accepted` are part
  // of it.
  void FillComputedRows(ActiveRequest& request, const ScheduledRows& rows, int logit_row,
                        std::span<const int> accepted);
  // Forgets the request, then reports `event` with what a last event holds.
  void End(ActiveRequest& request, GenerateEvent event);
  void End(ActiveRequest& request, FinishReason reason, absl::Status status);

  const Parts parts_;
  const ModelConfig& config_;
  Scheduler scheduler_;
  Admission admission_;
  Speculator speculator_;
  const bool is_on_host_;  // the backend computes where this runs
  std::vector<std::unique_ptr<ActiveRequest>> active_;
  StepCounters counters_;
  std::chrono::nanoseconds last_step_time_{0};

  // The planned step.
  std::vector<ScheduledRows> scheduled_;
  bool drafts_in_step_ = false;
  SteadyTime step_begin_;
  // Its description and results.
  std::vector<int32_t> ids_;
  std::vector<StepSequence> step_sequences_;
  StepLogits logits_;
  int learners_ = 0;  // requests whose drafters learn from what is ranked
  std::vector<int32_t> hidden_rows_;
  std::vector<float> hidden_;
  std::vector<float> kept_hidden_;  // of rows that are part of the sequence
  std::vector<ComputedRow> computed_rows_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_ENGINE_CORE_H_
