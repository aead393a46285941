// Who proposes drafts: one object per model, and one per running sequence.
//
// Drafts never change an answer, only how many passes it takes. So a drafter may be wrong, stale or
// empty, but what it proposes has to be well-formed (CheckDraftTree).
//
// Drafters that draft from features of the model (EAGLE, Li et al. 2024, arXiv:2401.15077; FSPAD,
// arXiv:2408.15562) find them in ComputedRow::hidden. Of such a drafter, "hidden", there is what
// loads and checks a head (draft_head.h); what drafts with it is not part of this release, and the
// factory says so. It would add the embedding and the output matrix, which are the model's, and a
// window of attention that begins at the prompt's last row, since of prompts no other row is handed
// over. Drafts from prompt tokens (PPD, Chen et al. 2024, arXiv:2405.18628) would need more: rows
// of the pass with trained embeddings in place of tokens, which StepInput has not.
//
// A drafter serves one model (one fingerprint of weights and tokenizer) and outlives its sequences.
// Thread safety: driven by the engine's thread.
#ifndef OCTOGATE_WORKERS_SPECULATION_DRAFTER_H_
#define OCTOGATE_WORKERS_SPECULATION_DRAFTER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "absl/time/time.h"
#include "workers/speculation/draft_tree.h"

namespace octogate::workers {

// A row of the model that was computed for a sequence, its prompt included.
struct ComputedRow {
  int32_t previous = -1;  // the token before `token` on the row's path; -1: there is none
  int32_t token = 0;
  // What the model finds most probable after it, best first, before penalties, biases and
  // grammars; as many as Drafter::candidates() of the drafter that wants most, or none, where the
  // logits were not at hand.
  std::span<const int32_t> candidates;
  bool kept = true;  // part of the sequence, not a draft that was wrong
  // Of kept rows, where Drafter::wants_hidden(): what the logits are made of, after the final norm;
  // hidden_size values, valid during Observe.
  std::span<const float> hidden;
};

class SequenceDrafter {
 public:
  virtual ~SequenceDrafter() = default;

  // The sequence goes on with these; the prompt comes first, whole.
  virtual void Append(std::span<const int32_t> tokens) = 0;
  // Where the drafter has candidates() or wants_hidden(). Rows of one step that tokens were chosen
  // from, a prompt's last one included: in order of the tree, which is one of breadth or depth
  // first, the root first. Comes after the Append of the tokens that the step chose, which are
  // judged by what was known before them.
  virtual void Observe(std::span<const ComputedRow> rows) { static_cast<void>(rows); }
  // Adds to `tree`, which is empty, what may follow the sequence: at most `max_nodes` nodes, none
  // deeper than `max_depth`. Nodes have bit 0 as their drafter.
  virtual void Propose(int max_nodes, int max_depth, DraftTree& tree) = 0;
  // Bytes that it holds beside the drafter's.
  virtual uint64_t bytes() const { return 0; }
};

// What one sequence is asked to propose, as by SequenceDrafter::Propose.
struct DraftCall {
  SequenceDrafter* sequence = nullptr;
  int max_nodes = 0;
  int max_depth = 0;
  // What a token that is right saves: no more is to be spent on one. 0: not known.
  double token_seconds = 0;
  // Paths that are less probable will hardly be verified: nothing is to be spent on what is below.
  double least_path = 0;
  DraftTree* tree = nullptr;
  // What it takes is added: of what is done for several sequences at once, a share.
  absl::Duration* time = nullptr;
};

class Drafter {
 public:
  virtual ~Drafter() = default;

  // As in flags, metrics and traces, e.g. "recycling".
  virtual std::string_view name() const = 0;
  // Candidates of each row that its sequences learn from.
  virtual int candidates() const { return 0; }
  // Whether its sequences learn from hidden states.
  virtual bool wants_hidden() const { return false; }
  // Whether its probabilities are a distribution: of a node that has children, what they leave of 1
  // is all that other tokens have. It may judge what others have retrieved (PruneByDraft).
  virtual bool has_distribution() const { return false; }
  // Whether its drafts are what stands in texts of others, which nobody has judged for this one.
  virtual bool is_retrieved() const { return false; }
  // What was learned under one scope (a tenant, or all of them) is used under that one alone.
  virtual std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) = 0;
  // What sequences of this drafter, no two of them the same, propose in one step: each what it
  // would by itself, in this order. Here one after the other.
  virtual void ProposeAll(std::span<const DraftCall> calls);
  // The pass begins that verifies, of each of these sequences, something that was proposed to it.
  // Until EndPass nothing else is asked of the drafter or any sequence of it: threads of its own
  // may draft what comes next. EndPass waits for them.
  virtual void BeginPass(std::span<SequenceDrafter* const> verified) {
    static_cast<void>(verified);
  }
  virtual void EndPass() {}
  // Bytes that it holds, those of sequences not included.
  virtual uint64_t bytes() const = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_DRAFTER_H_
