#include "workers/speculation/model_drafter.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/model/rope.h"
#include "workers/speculation/growing_tree.h"

namespace octogate::workers {
namespace {

// Of a tree that has grown for so many passes, and ahead.
int TreeRows(const ModelDrafterOptions& options, int passes) {
  return 1 + (passes - 1 + options.ahead_passes) * options.rows;
}
int MostRows(const ModelDrafterOptions& options) {
  return TreeRows(options, std::max(options.passes, options.most_passes));
}

absl::Status CheckOptions(const ModelDrafterOptions& options, const ModelConfig& config) {
  if (config.head_dim > kernels::kMaxHeadDim) {
    return absl::UnimplementedError(absl::StrCat("the draft model's head dimension is ",
                                                 config.head_dim, "; the kernels compute at most ",
                                                 kernels::kMaxHeadDim));
  }
  if (options.draft_tokenizer != options.target_tokenizer) {
    return absl::FailedPreconditionError(
        "the draft model has another tokenizer than the model that it drafts for; take one of the "
        "same family");
  }
  if (options.vocab_size < 1 || options.vocab_size > config.vocab_size) {
    return absl::FailedPreconditionError(
        absl::StrCat("the draft model has ", config.vocab_size,
                     " tokens, fewer than the model that it drafts for: ", options.vocab_size));
  }
  constexpr int kMost = kernels::kMaxTreeRows;
  const auto is_within = [](int value, int least) { return value >= least && value <= kMost; };
  if (!is_within(options.passes, 1) || !is_within(options.most_passes, 1) ||
      !is_within(options.ahead_passes, 0) || !is_within(options.rows, 1) ||
      MostRows(options) > kMost || options.children < 1 || options.children > config.vocab_size ||
      options.prompt_rows < 1 || options.prompt_passes < 1 || options.batch_rows < 1 ||
      options.batch_ranked_rows < 1 || options.pages < 0 || options.page_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a draft model's passes, rows, children and page size are at least 1, its "
                     "pages 1 or 0 for as many as fit, and its passes compute at most ",
                     kMost, " rows"));
  }
  return absl::OkStatus();
}

int PagesFor(const ModelConfig& config, kernels::DType dtype, const ModelDrafterOptions& options) {
  const uint64_t position_bytes = 2 * static_cast<uint64_t>(config.num_layers) *
                                  static_cast<uint64_t>(config.num_kv_heads) *
                                  kernels::KvHeadBytes(dtype, config.head_dim);
  const uint64_t positions =
      std::min<uint64_t>(options.cache_bytes / position_bytes, ModelDrafterOptions::kMostPositions);
  return std::max(1, static_cast<int>(positions) / options.page_size);
}

}  // namespace

class ModelDrafter::Sequence : public SequenceDrafter {
 public:
  explicit Sequence(ModelDrafter* drafter) : drafter_(*drafter) {}
  ~Sequence() override {
    drafter_.free_pages_.insert(drafter_.free_pages_.end(), pages_.rbegin(), pages_.rend());
  }

  void Append(std::span<const int32_t> tokens) override {
    FollowTree(tokens);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    // The target may have rows behind its vocabulary that the draft has not.
    const int32_t rows = drafter_.transformer_->config().vocab_size;
    for (const int32_t token : tokens) is_readable_ = is_readable_ && token < rows;
  }

  void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
    absl::Duration time;
    const DraftCall call = {.sequence = this,
                            .max_nodes = max_nodes,
                            .max_depth = max_depth,
                            .tree = &tree,
                            .time = &time};
    drafter_.ProposeAll({&call, 1});
  }

  // Whether there is a pass to compute for what is asked, and more until TakePass says no.
  bool Begin(const DraftCall& call) {
    const ModelDrafterOptions& options = drafter_.options_;
    const ModelConfig& config = drafter_.transformer_->config();
    const int length = static_cast<int>(tokens_.size());
    const int max_nodes = std::min(call.max_nodes, kMaxDraftNodes);
    const int max_depth = std::min(call.max_depth, config.max_position_embeddings - length);
    const int passes = call.token_seconds > 0 ? options.most_passes : options.passes;
    most_rows_ = TreeRows(options, passes);
    if (length == 0 || max_nodes < 1 || max_depth < 1 || !is_readable_ ||
        !ReservePages(length + most_rows_ - 1)) {
      tree_.Clear();
      return false;
    }
    range_ = RopeRangeForLength(config, length);
    if (range_ != computed_range_) {
      computed_ = 0;
      tree_.Clear();
    }
    computed_range_ = range_;
    // The root is computed again where all that was appended had been drafted.
    computed_ = std::min(computed_, length - 1);
    proposal_.emplace();
    proposal_->tree = call.tree;
    proposal_->max_nodes = max_nodes;
    proposal_->most_passes = passes;
    proposal_->token_seconds = call.token_seconds;
    proposal_->least_path = call.least_path;
    proposal_->read_to =
        std::min(length - 1, computed_ + options.prompt_passes * options.prompt_rows);
    bool goes_on = true;
    if (options.ahead_passes > 0 && !tree_.empty() && tree_.deepest() <= max_depth) {
      goes_on = TakeTree();
    } else if (!Reads()) {
      BeginTree();
    }
    max_depth_ = max_depth;
    if (!goes_on) EndProposal();
    return goes_on;
  }

  // Of the next pass.
  int rows() const {
    if (!Reads()) return static_cast<int>(tree_.rows().size());
    return std::min(drafter_.options_.prompt_rows, proposal_->read_to - computed_);
  }
  int ranked_rows() const {
    return Reads() ? 0 : static_cast<int>(tree_.rows().size() - tree_.ranked());
  }

  // Adds these to the drafter's pass.
  void AddPass() const {
    StepSequence sequence = {
        .row_count = rows(), .first_position = computed_, .pages = pages_, .rope_range = range_};
    std::vector<int32_t>& ids = drafter_.ids_;
    if (Reads()) {
      const auto begin = tokens_.begin() + computed_;
      ids.insert(ids.end(), begin, begin + sequence.row_count);
    } else {
      // All rows, from the root on, since they see each other.
      sequence.ancestors = tree_.masks();
      for (const GrowingTree::Row& row : tree_.rows()) ids.push_back(row.token);
      for (int i = ranked_rows(); i > 0; --i) {
        drafter_.ranked_rows_.push_back(static_cast<int32_t>(ids.size()) - i);
      }
    }
    drafter_.step_sequences_.push_back(sequence);
  }

  // After the pass, of which its first ranked row is the `first`-th, and which took its rows so
  // long: whether there is another one.
  bool TakePass(size_t first, absl::Duration time) {
    pass_seconds_ = absl::ToDoubleSeconds(time);
    if (Reads()) {
      if (ReadPass()) return true;
      proposal_.reset();
      return false;
    }
    RankRows(first);
    if (!proposal_) return AddRowsAhead();
    if (AddProposedRows()) return true;
    EndProposal();
    return false;
  }

  // Whether there is a pass to compute below what was proposed, and more until TakePass says no or
  // EndAhead is called.
  bool BeginAhead() {
    ahead_passes_ = 0;
    return !tree_.empty() && AddRowsAhead();
  }
  void EndAhead() { tree_.DropUnranked(); }

  // Its pages are the drafter's.
  uint64_t bytes() const override {
    return sizeof(*this) + (tokens_.capacity() + pages_.capacity()) * sizeof(int32_t) +
           tree_.bytes();
  }

 private:
  // What it is asked for.
  struct Proposal {
    DraftTree* tree = nullptr;
    int max_nodes = 0;
    int most_passes = 0;
    double token_seconds = 0;
    double least_path = 0;
    int read_to = 0;  // tokens that are read before
    int passes = 0;   // of the tree
  };

  // The part of the tree that came true has its keys and values already. Where that is all that
  // followed, what is below it is the tree now.
  void FollowTree(std::span<const int32_t> tokens) {
    if (tree_.empty()) return;
    std::vector<int32_t> path = tree_.Follow(tokens);
    const int first = computed_;
    computed_ += static_cast<int>(path.size()) - 1;
    if (drafter_.options_.ahead_passes > 0 && path.size() == tokens.size() + 1) {
      const std::vector<int32_t> below = tree_.MakeRoot(path.back());
      path.insert(path.end(), below.begin(), below.end());
    } else {
      tree_.Clear();
      ++computed_;
    }
    drafter_.transformer_->KeepPath(*drafter_.cache_, pages_, first, path);
  }

  bool ReservePages(int slots) {
    const int page_size = drafter_.options_.page_size;
    const auto wanted = static_cast<size_t>((slots + page_size - 1) / page_size);
    std::vector<int32_t>& free = drafter_.free_pages_;
    if (wanted > pages_.size() + free.size()) return false;
    while (pages_.size() < wanted) {
      pages_.push_back(free.back());
      free.pop_back();
    }
    return true;
  }

  // Whether the next pass is one that reads what there is.
  bool Reads() const { return proposal_ && computed_ < proposal_->read_to; }

  bool ReadPass() {
    computed_ += rows();
    if (Reads()) return true;
    if (computed_ + 1 < static_cast<int>(tokens_.size())) return false;
    BeginTree();
    return true;
  }

  void BeginTree() {
    tree_.Clear();
    tree_.Begin(tokens_.back());
  }

  // Proposes what there is of the tree: whether there is a pass to compute for more.
  bool TakeTree() {
    const std::vector<GrowingTree::Row>& rows = tree_.rows();
    for (size_t i = 1; i < rows.size() && proposal_->tree->size() < proposal_->max_nodes; ++i) {
      Add(rows[i]);
    }
    // As if they were of passes that this proposal has had.
    proposal_->passes = static_cast<int>(rows.size() - 1) / drafter_.options_.rows;
    return AddProposedRows();
  }

  bool CanPropose() const {
    return proposal_->tree->size() < proposal_->max_nodes && tree_.has_candidates();
  }
  void Add(const GrowingTree::Row& row) {
    proposal_->tree->Add(row.parent - 1, row.token, row.probability, 1);
  }

  // The rows of the next pass of a proposal; false where there is none, and the tree is whole.
  bool AddProposedRows() {
    const ModelDrafterOptions& options = drafter_.options_;
    const double token_seconds = proposal_->token_seconds;
    if (++proposal_->passes < proposal_->most_passes) {
      double right = 0;  // of what follows these rows, at most
      for (int i = 0; i < options.rows && CanPropose(); ++i) {
        if (tree_.best_path() < proposal_->least_path) break;
        const GrowingTree::Row row = tree_.TakeRow();
        Add(row);
        right += row.path;
      }
      // Of a full tree nothing would follow them.
      const bool has_room = proposal_->tree->size() < proposal_->max_nodes;
      const bool pays = token_seconds <= 0 || right * token_seconds > pass_seconds_;
      if (ranked_rows() > 0 && has_room && pays) return true;
    }
    // Nodes whose own candidates nobody asks for.
    while (CanPropose()) Add(tree_.TakeNode());
    return false;
  }

  // What was proposed without having been computed is no row, but may become one ahead.
  void EndProposal() {
    proposal_.reset();
    tree_.DropUnranked();
  }

  bool AddRowsAhead() {
    const ModelDrafterOptions& options = drafter_.options_;
    if (++ahead_passes_ > options.ahead_passes) return false;
    const auto most = static_cast<size_t>(most_rows_);
    for (int i = 0; i < options.rows && tree_.rows().size() < most && tree_.has_candidates(); ++i) {
      tree_.TakeRow();
    }
    return ranked_rows() > 0;
  }

  // After a pass, in which the first of the rows that were added for it is the `first`-th ranked
  // one.
  void RankRows(size_t first) {
    const size_t ranked = tree_.ranked();
    for (size_t row = ranked; row < tree_.rows().size(); ++row) {
      if (tree_.rows()[row].depth < max_depth_) AddCandidates(row, first + row - ranked);
    }
    tree_.SetRanked();
  }

  // What may follow `row`, whose logits are the `index`-th of the pass.
  void AddCandidates(size_t row, size_t index) {
    const Transformer::LargestLogits& largest = drafter_.largest_;
    const auto children = static_cast<size_t>(drafter_.options_.children);
    for (size_t i = index * children; i < (index + 1) * children; ++i) {
      const double share = std::exp(double{largest.logits[i]} - double{largest.log_sum_exp[index]});
      // Rows of padding behind the vocabulary, and logits that are no numbers.
      if (largest.ids[i] >= drafter_.options_.vocab_size || !(share > 0)) continue;
      tree_.AddCandidate(row, largest.ids[i], std::min(share, 1.0));
    }
  }

  ModelDrafter& drafter_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> pages_;
  bool is_readable_ = true;  // all tokens are some of the draft's
  int computed_ = 0;         // tokens whose keys and values are in the cache
  RopeRange range_ = RopeRange::kShort;
  RopeRange computed_range_ = RopeRange::kShort;

  // While nothing is computed all of its rows are, with their keys and values behind `computed_`.
  GrowingTree tree_;
  int max_depth_ = 0;  // of a node
  int most_rows_ = 0;  // that there are pages for
  int ahead_passes_ = 0;
  double pass_seconds_ = 0;  // its share of its last pass
  std::optional<Proposal> proposal_;
};

// A sequence whose tree grows.
struct ModelDrafter::Growing {
  Sequence* sequence = nullptr;
  absl::Duration* time = nullptr;  // null: nobody waits for it
  bool goes_on = true;
};

ModelDrafter::ModelDrafter(const ModelDrafterOptions& options) : options_(options) {}

ModelDrafter::~ModelDrafter() { EndPass(); }

void ModelDrafter::ProposeAll(std::span<const DraftCall> calls) {
  std::vector<Growing> growing;
  for (const DraftCall& call : calls) {
    auto* sequence = static_cast<Sequence*>(call.sequence);
    if (sequence->Begin(call)) growing.push_back({.sequence = sequence, .time = call.time});
  }
  while (!growing.empty()) {
    for (size_t first = 0; first < growing.size();) {
      first += ComputePass(std::span(growing).subspan(first));
    }
    std::erase_if(growing, [](const Growing& one) { return !one.goes_on; });
  }
}

void ModelDrafter::BeginPass(std::span<SequenceDrafter* const> verified) {
  if (thread_ == nullptr) return;
  for (SequenceDrafter* const one : verified) {
    auto* sequence = static_cast<Sequence*>(one);
    if (sequence->BeginAhead()) ahead_.push_back({.sequence = sequence, .time = nullptr});
  }
  if (ahead_.empty()) return;
  pass_ended_.store(false);
  thread_->Start([this] { DraftAhead(); });
}

void ModelDrafter::DraftAhead() {
  std::vector<Growing> growing = ahead_;
  while (!growing.empty()) {
    for (size_t first = 0; first < growing.size();) {
      if (pass_ended_.load()) return;
      first += ComputePass(std::span(growing).subspan(first));
    }
    std::erase_if(growing, [](const Growing& one) { return !one.goes_on; });
  }
}

void ModelDrafter::EndPass() {
  if (thread_ == nullptr) return;
  pass_ended_.store(true);
  thread_->Wait();
  for (const Growing& one : ahead_) one.sequence->EndAhead();
  ahead_.clear();
}

size_t ModelDrafter::ComputePass(std::span<Growing> growing) {
  const auto begin = std::chrono::steady_clock::now();
  ids_.clear();
  ranked_rows_.clear();
  step_sequences_.clear();
  size_t count = 0;
  for (; count < growing.size(); ++count) {
    const Sequence& next = *growing[count].sequence;
    if (static_cast<int>(ids_.size()) + next.rows() > limits_.max_rows ||
        static_cast<int>(ranked_rows_.size()) + next.ranked_rows() > limits_.max_logit_rows) {
      break;
    }
    next.AddPass();
  }
  transformer_->Forward({.ids = ids_, .sequences = step_sequences_, .logit_rows = ranked_rows_},
                        *cache_, {}, {});
  if (!ranked_rows_.empty()) transformer_->RankLogits(options_.children, largest_);
  passes_.fetch_add(1, std::memory_order_relaxed);
  // Rows are what a pass takes longer for.
  const absl::Duration row_time =
      absl::FromChrono(std::chrono::steady_clock::now() - begin) / static_cast<double>(ids_.size());
  size_t ranked = 0;
  for (size_t i = 0; i < count; ++i) {
    Growing& one = growing[i];
    const absl::Duration time = row_time * step_sequences_[i].row_count;
    const auto own = static_cast<size_t>(one.sequence->ranked_rows());
    one.goes_on = one.sequence->TakePass(ranked, time);
    ranked += own;
    if (one.time != nullptr) *one.time += time;
  }
  return count;
}

absl::StatusOr<std::unique_ptr<ModelDrafter>> ModelDrafter::Create(
    std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
    const ModelDrafterOptions& options) {
  if (options.ahead_passes > 0) {
    return absl::InvalidArgumentError("who drafts while the model verifies has its own backend");
  }
  return Load(std::move(checkpoint), backend, options);
}

absl::StatusOr<std::unique_ptr<ModelDrafter>> ModelDrafter::Create(
    std::shared_ptr<const Checkpoint> checkpoint, std::unique_ptr<kernels::Backend> backend,
    const ModelDrafterOptions& options) {
  OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<ModelDrafter> drafter,
                            Load(std::move(checkpoint), backend.get(), options));
  drafter->own_backend_ = std::move(backend);
  if (options.ahead_passes > 0) drafter->thread_ = std::make_unique<TaskThread>();
  return drafter;
}

absl::StatusOr<std::unique_ptr<ModelDrafter>> ModelDrafter::Load(
    std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
    const ModelDrafterOptions& options) {
  OCTOGATE_RETURN_IF_ERROR(CheckOptions(options, checkpoint->config()));
  std::unique_ptr<ModelDrafter> drafter(new ModelDrafter(options));
  const int most_rows = std::max({options.batch_rows, options.prompt_rows, MostRows(options)});
  drafter->limits_ = {
      .max_rows = most_rows,
      .max_logit_rows = std::min(most_rows, std::max(options.batch_ranked_rows, options.rows))};
  const uint64_t weights =
      Transformer::WeightBytes(*checkpoint, *backend, kernels::WeightFormat::kStored);
  OCTOGATE_ASSIGN_OR_RETURN(drafter->transformer_,
                            Transformer::Load(std::move(checkpoint), backend, drafter->limits_));
  const kernels::DType dtype = backend->DefaultKvDType();
  const int pages =
      options.pages > 0 ? options.pages : PagesFor(drafter->transformer_->config(), dtype, options);
  OCTOGATE_ASSIGN_OR_RETURN(drafter->cache_,
                            drafter->transformer_->CreateKvCache(pages, options.page_size, dtype));
  for (int32_t page = pages - 1; page >= 0; --page) drafter->free_pages_.push_back(page);
  drafter->bytes_ =
      weights + Transformer::ActivationBytes(drafter->transformer_->config(), drafter->limits_) +
      drafter->cache_->page_bytes() * static_cast<uint64_t>(pages);
  return drafter;
}

std::unique_ptr<SequenceDrafter> ModelDrafter::Begin(std::string_view /*scope*/) {
  return std::make_unique<Sequence>(this);
}

}  // namespace octogate::workers
