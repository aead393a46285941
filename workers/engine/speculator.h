// Speculation of an engine: asks drafters what may follow, decides what of it the step verifies,
// and tells them what came of it.
//
// A step verifies a draft tree in the pass that decodes anyway: the row of the sequence's last
// token is the root, and every node has a row. The engine then walks from the root: it chooses the
// next token from the row's logits exactly as plain decoding does, with the same Answer, and goes
// on where the tree has a child with that token. So penalties, biases, grammars, stop strings and
// the end of the answer are applied before acceptance, whatever drafters propose.
//
// That is lossless while sampling too. A draw depends on the logits, the seed and the number of
// tokens before it (Sampler), and not on the drafts: acceptance is the target-only rule, by which a
// node is accepted with the model's probability of its token, and coupled, so that the tokens are
// the very ones that plain decoding chooses.
#ifndef OCTOGATE_WORKERS_ENGINE_SPECULATOR_H_
#define OCTOGATE_WORKERS_ENGINE_SPECULATOR_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kernels/backend.h"
#include "workers/engine/answer.h"
#include "workers/engine/request.h"
#include "workers/speculation/acceptance_stats.h"
#include "workers/speculation/draft_combination.h"
#include "workers/speculation/draft_tree.h"
#include "workers/speculation/drafter.h"
#include "workers/speculation/planner.h"
#include "workers/speculation/speculation_account.h"
#include "workers/speculation/speculation_usage.h"

namespace octogate::workers {

// What speculation keeps of one request.
struct RequestSpeculation {
  std::vector<std::unique_ptr<SequenceDrafter>> drafters;  // by drafter; may be null
  std::vector<DraftTree> proposals;                        // of this step, as they were made
  CombinedDraft combined;                                  // of these, as was expected of them
  DraftTree tree;                                          // verified in this step
  std::vector<kernels::AncestorMask> masks;                // of its rows
  SequenceAcceptance acceptance;
  DraftPace pace;
  SpeculationUsage usage;
  std::string scope;
  RequestAccount account;  // asleep: it has no drafters
  // In its first draft since it woke, drafters may read what there is of the sequence: that is
  // learning, and tells nothing of what drafts cost.
  bool begins = false;
  absl::Duration settled_time;  // of usage.draft, what the account knows of
};

// What limits the draft of one sequence.
struct DraftLimits {
  int max_depth = 0;  // with which every node is of use
  int context = 0;    // positions that a row attends to
  int free_slots = 0;
  int most_slots = 0;
};

// Not thread-safe.
class Speculator {
 public:
  // `drafters` must outlive the speculator; at most kMaxDrafters.
  // `shared`: all requests share what drafters learn. `prune_below`: what others have retrieved is
  // dropped where one with a distribution expects less of it (PruneByDraft); 0: nothing is.
  Speculator(std::vector<Drafter*> drafters, bool shared, float prune_below,
             const DraftPlanner::Options& options, int vocab_size);

  bool enabled() const { return !drafters_.empty(); }
  // Candidates of each row that drafters learn from; 0: they do not.
  int candidates() const { return candidates_; }
  // Whether they learn from hidden states.
  bool wants_hidden() const { return wants_hidden_; }
  // Whether Chosen makes use of the rows of a request.
  bool Observes(const RequestSpeculation& request) const {
    return !request.account.asleep && (candidates_ > 0 || wants_hidden_);
  }

  // A sequence begins; `tokens` is all that there is of it.
  std::unique_ptr<RequestSpeculation> Begin(const ServiceTerms& terms,
                                            std::span<const int32_t> tokens);
  // Before the request goes. What it takes is in usage() and in no request's.
  void End(RequestSpeculation& request);

  // A step, of which `decoding` is what decodes: then each sequence that may draft, then all of
  // their drafts, and what of these is verified, which is in the trees of the requests.
  void BeginStep(const StepLoad& step, const StepLoad& decoding);
  // `tokens` is all that there is of the sequence. The request and its answer have to stay until
  // PlanStep, and the request until EndPass.
  void Admit(const Answer& answer, const DraftLimits& limits, std::span<const int32_t> tokens,
             RequestSpeculation& request);
  // Whether any tree is left.
  bool PlanStep(const DraftRoom& room);

  // Around the pass. What EndPass waits for is the time of drafts.
  void BeginPass();
  void EndPass();
  // After the pass, for each sequence that it chose tokens for: the time that it took to keep the
  // accepted path.
  void KeptPath(RequestSpeculation& request, absl::Duration time);
  // After the pass, before the first Chosen: the time that it took to rank candidates for so many
  // requests that it Observes, beyond what answers need.
  void Ranked(absl::Duration time, int requests);
  // What was chosen, the nodes of its tree among that, and where it Observes the request, the rows
  // that SequenceDrafter::Observe speaks of.
  void Chosen(RequestSpeculation& request, std::span<const int32_t> chosen,
              std::span<const int> accepted, std::span<const ComputedRow> rows, bool drafts_in_step,
              absl::Duration step_time);
  void EndStep(absl::Duration step_time);

  // Of all requests.
  const SpeculationUsage& usage() const { return usage_; }
  // Proposals that were malformed, and dropped.
  uint64_t malformed() const { return malformed_; }
  // That drafters hold for themselves and for a request.
  uint64_t drafter_bytes() const;
  static uint64_t BytesOf(const RequestSpeculation& request);

 private:
  // A request that drafts in this step.
  struct Drafting {
    const Answer* answer = nullptr;
    DraftLimits limits;
    RequestSpeculation* request = nullptr;
  };

  // Makes drafters for a request that has none.
  void Wake(std::span<const int32_t> tokens, RequestSpeculation& request);
  // Asks drafters what follows those that draft.
  void Propose();
  // Makes one tree of what was proposed, of nodes that are of use.
  void Combine(const Drafting& drafting);
  // Replaces what a drafter of this number says by what is expected of it.
  void Calibrate(size_t drafter, RequestSpeculation& request);
  // Tells the account what the step was to a request of which so many nodes were right.
  void CountStep(int accepted, RequestSpeculation& request);

  const std::vector<Drafter*> drafters_;
  const bool shared_;
  const float prune_below_;
  std::vector<size_t> judges_;     // drafters with distributions
  std::vector<size_t> retrieved_;  // those that they judge; empty: none
  const int max_nodes_;
  const int vocab_size_;
  int candidates_ = 0;
  bool wants_hidden_ = false;
  const bool ignore_cost_;
  DraftPlanner planner_;
  SpeculationAccount account_;
  AcceptanceStats acceptance_;
  DraftCombination combination_;
  SpeculationUsage usage_;
  uint64_t malformed_ = 0;

  // The step.
  StepLoad step_;
  StepLoad decoding_;
  StepLoad undrafted_;  // the step without drafts
  // What decodes in it, in plain decoding, and the share of each sequence; 0: not known.
  double plain_seconds_ = 0;
  double plain_share_ = 0;
  bool prompts_ = false;  // it computes some, too
  bool begins_ = false;   // some request drafts for the first time
  bool drafts_ = false;
  absl::Duration ranking_;     // for each request that is observed
  absl::Duration draft_time_;  // of all that drafts take beside the pass
  int accepted_ = 0;
  std::vector<DraftTree> calibrated_;       // scratch
  std::vector<DraftCall> calls_;            // scratch
  std::vector<SequenceDrafter*> verified_;  // scratch
  std::vector<Drafting> drafting_;
  std::vector<PlannedSequence> planned_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_SPECULATOR_H_
