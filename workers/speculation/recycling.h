// Token Recycling (Luo et al. 2024, arXiv:2408.08696): drafts from what the model itself held
// probable the last times it saw a token, which every pass computes anyway and others throw away.
//
// A scope has one RecyclingTable. It learns
// - the prompt's tokens, each as the successor of those before it, the latest first;
// - of every row that a pass computed with candidates at hand, these candidates. Where a step has
//   rows of the same token (or pair), those that were kept win over those that were not; of the
//   kept ones the last in the sequence wins, of the others the first row;
// - where no candidates are at hand, the token that followed, as the latest successor.
// Candidates of a node are those of the pair it makes with its parent, then those of its token that
// are not among them (back-off).
//
// How often a candidate is right is counted, by what is known before: which row it is from, its
// rank there, and how many tokens in a row were first candidates. These rates, of the sequence and,
// while it is young, of the scope, are the probabilities of the nodes.
#ifndef OCTOGATE_WORKERS_SPECULATION_RECYCLING_H_
#define OCTOGATE_WORKERS_SPECULATION_RECYCLING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "workers/speculation/learned_state.h"
#include "workers/speculation/rank_tree.h"
#include "workers/speculation/recycling_table.h"
#include "workers/speculation/scope_states.h"

namespace octogate::workers {

struct RecyclingOptions {
  enum class Shape {
    kBestFirst,  // the most probable paths of the candidates at hand
    kPlanned,    // PlanRankTree for the scope's rates by depth and rank, anew every 512 tokens
    kFixed,      // `tree`, or the first nodes of it where fewer are asked for
  };

  RecyclingTableOptions table;
  Shape shape = Shape::kBestFirst;
  RankTree tree = PaperRankTree();  // parents before their children
  int max_scopes = kMostScopes;
  uint64_t max_bytes = uint64_t{512} << 20;  // of all scopes, but for those in use
};

class RecyclingScope;

// Of what it learns, others are told the tables, and not the rates, which are soon counted again.
class RecyclingDrafter : public LearningDrafter {
 public:
  explicit RecyclingDrafter(const RecyclingOptions& options);

  std::string_view name() const override { return "recycling"; }
  int candidates() const override { return options_.table.row_size; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) override;
  uint64_t bytes() const override;

  // Exports are those of RecyclingTable, and so is what is taught.
  std::unique_ptr<LearnedState> MakeState() const override;
  bool Has(std::string_view scope) const override { return scopes_.Has(scope); }
  std::string TakeLearned(std::string_view scope, size_t max_bytes) override;
  absl::Status Teach(std::string_view scope, std::string_view bytes) override;

 private:
  std::shared_ptr<RecyclingScope> Use(std::string_view scope);

  RecyclingOptions options_;
  ScopeStates<RecyclingScope> scopes_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_RECYCLING_H_
