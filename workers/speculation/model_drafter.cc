#include "workers/speculation/model_drafter.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "workers/model/rope.h"

namespace octogate::workers {
namespace {

// A node that is not in the tree yet.
struct Candidate {
  double path;  // probability of its path
  int order;    // of equals the one that was found first
  int parent;   // row; 0 is the root
  int32_t token;
  float probability;

  bool operator<(const Candidate& other) const {  // comes later
    return path != other.path ? path < other.path : order > other.order;
  }
};

// Of a tree. Row 0, the root, is the last token of the sequence.
struct Row {
  int32_t token;
  int parent;  // row; -1: none
  int depth;
  double path;
};

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
  if (options.passes < 1 || options.rows < 1 ||
      int64_t{options.passes - 1} * options.rows >= kernels::kMaxTreeRows || options.children < 1 ||
      options.children > config.vocab_size || options.prompt_rows < 1 ||
      options.prompt_passes < 1 || options.pages < 0 || options.page_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a draft model's passes, rows, children and page size are at least 1, its "
                     "pages 1 or 0 for as many as fit, and its passes compute fewer than ",
                     kernels::kMaxTreeRows, " rows"));
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
    KeepWhatFollowed(tokens);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    // The target may have rows behind its vocabulary that the draft has not.
    const int32_t rows = drafter_.transformer_->config().vocab_size;
    for (const int32_t token : tokens) is_readable_ = is_readable_ && token < rows;
  }

  void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
    const ModelDrafterOptions& options = drafter_.options_;
    const ModelConfig& config = drafter_.transformer_->config();
    const int length = static_cast<int>(tokens_.size());
    max_nodes = std::min(max_nodes, kMaxDraftNodes);
    max_depth = std::min(max_depth, config.max_position_embeddings - length);
    if (length == 0 || max_nodes < 1 || max_depth < 1 || !is_readable_) return;
    if (!ReservePages(length + (options.passes - 1) * options.rows)) return;
    range_ = RopeRangeForLength(config, length);
    if (range_ != computed_range_) computed_ = 0;
    computed_range_ = range_;
    // The root is computed again where all that was appended had been drafted.
    computed_ = std::min(computed_, length - 1);
    // Nobody else's tokens come before it has read what it may at once.
    ReadUpTo(std::min(length - 1, computed_ + options.prompt_passes * options.prompt_rows));
    if (computed_ < length - 1) return;

    rows_ = {{.token = tokens_.back(), .parent = -1, .depth = 0, .path = 1}};
    std::priority_queue<Candidate> candidates;
    int order = 0;
    const auto take = [&] {
      const Candidate next = candidates.top();
      candidates.pop();
      tree.Add(next.parent - 1, next.token, next.probability, 1);
      return next;
    };
    size_t ranked = 0;  // rows whose candidates are known
    for (int pass = 0; pass < options.passes && ranked < rows_.size(); ++pass) {
      ComputeTree(ranked);
      for (size_t row = ranked; row < rows_.size(); ++row) {
        if (rows_[row].depth == max_depth) continue;
        AddCandidates(row, row - ranked, order, candidates);
      }
      ranked = rows_.size();
      if (pass + 1 == options.passes) break;
      for (int i = 0; i < options.rows && tree.size() < max_nodes && !candidates.empty(); ++i) {
        const Candidate next = take();
        rows_.push_back({.token = next.token,
                         .parent = next.parent,
                         .depth = rows_[static_cast<size_t>(next.parent)].depth + 1,
                         .path = next.path});
      }
      // Nothing would follow them.
      if (tree.size() == max_nodes) break;
    }
    // Nodes whose own candidates nobody asks for. Rows that were not computed are not kept.
    while (tree.size() < max_nodes && !candidates.empty()) take();
    rows_.resize(ranked);
  }

  // Its pages are the drafter's.
  uint64_t bytes() const override {
    return sizeof(*this) + (tokens_.capacity() + pages_.capacity()) * sizeof(int32_t) +
           rows_.capacity() * sizeof(Row);
  }

 private:
  using Queue = std::priority_queue<Candidate>;

  // The part of the last tree that came true has its keys and values already.
  void KeepWhatFollowed(std::span<const int32_t> tokens) {
    if (rows_.empty()) return;
    std::vector<int32_t> path = {0};
    for (int32_t token : tokens) {
      int32_t child = path.back() + 1;
      while (child < static_cast<int32_t>(rows_.size()) &&
             (rows_[static_cast<size_t>(child)].parent != path.back() ||
              rows_[static_cast<size_t>(child)].token != token)) {
        ++child;
      }
      if (child == static_cast<int32_t>(rows_.size())) break;
      path.push_back(child);
    }
    drafter_.transformer_->KeepPath(*drafter_.cache_, pages_, computed_, path);
    computed_ += static_cast<int>(path.size());
    rows_.clear();
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

  void ReadUpTo(int end) {
    while (computed_ < end) {
      const int rows = std::min(drafter_.options_.prompt_rows, end - computed_);
      const StepSequence sequence = {
          .row_count = rows, .first_position = computed_, .pages = pages_, .rope_range = range_};
      const auto ids = std::span<const int32_t>(tokens_).subspan(static_cast<size_t>(computed_),
                                                                 static_cast<size_t>(rows));
      drafter_.transformer_->Forward({.ids = ids, .sequences = {&sequence, 1}}, *drafter_.cache_,
                                     {}, {});
      computed_ += rows;
    }
  }

  // All rows, from the root on, and logits of those from `first` on.
  void ComputeTree(size_t first) {
    std::vector<int32_t> ids;
    std::vector<int32_t> logit_rows;
    std::vector<kernels::AncestorMask> masks;
    for (size_t i = 0; i < rows_.size(); ++i) {
      kernels::AncestorMask mask;
      if (rows_[i].parent >= 0) mask = masks[static_cast<size_t>(rows_[i].parent)];
      mask.words[i / 64] |= uint64_t{1} << (i % 64);
      masks.push_back(mask);
      ids.push_back(rows_[i].token);
      if (i >= first) logit_rows.push_back(static_cast<int32_t>(i));
    }
    const StepSequence sequence = {.row_count = static_cast<int>(rows_.size()),
                                   .first_position = computed_,
                                   .pages = pages_,
                                   .ancestors = masks,
                                   .rope_range = range_};
    drafter_.transformer_->Forward(
        {.ids = ids, .sequences = {&sequence, 1}, .logit_rows = logit_rows}, *drafter_.cache_, {},
        {});
    drafter_.transformer_->RankLogits(drafter_.options_.children, largest_);
  }

  // What may follow `row`, whose logits are the `index`-th of the pass.
  void AddCandidates(size_t row, size_t index, int& order, Queue& candidates) const {
    const auto children = static_cast<size_t>(drafter_.options_.children);
    for (size_t i = index * children; i < (index + 1) * children; ++i) {
      const double share =
          std::exp(double{largest_.logits[i]} - double{largest_.log_sum_exp[index]});
      // Rows of padding behind the vocabulary, and logits that are no numbers.
      if (largest_.ids[i] >= drafter_.options_.vocab_size || !(share > 0)) continue;
      const double probability = std::min(share, 1.0);
      candidates.push({.path = rows_[row].path * probability,
                       .order = order++,
                       .parent = static_cast<int>(row),
                       .token = largest_.ids[i],
                       .probability = static_cast<float>(probability)});
    }
  }

  ModelDrafter& drafter_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> pages_;
  bool is_readable_ = true;  // all tokens are some of the draft's
  int computed_ = 0;         // tokens whose keys and values are in the cache
  RopeRange range_ = RopeRange::kShort;
  RopeRange computed_range_ = RopeRange::kShort;
  std::vector<Row> rows_;  // of the last tree, those that were computed, behind `computed_`
  Transformer::LargestLogits largest_;
};

absl::StatusOr<std::unique_ptr<ModelDrafter>> ModelDrafter::Create(
    std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
    const ModelDrafterOptions& options) {
  OCTOGATE_RETURN_IF_ERROR(CheckOptions(options, checkpoint->config()));
  std::unique_ptr<ModelDrafter> drafter(new ModelDrafter(options));
  const int tree_rows = 1 + (options.passes - 1) * options.rows;
  const uint64_t weights = Transformer::WeightBytes(*checkpoint, kernels::WeightFormat::kStored);
  OCTOGATE_ASSIGN_OR_RETURN(
      drafter->transformer_,
      Transformer::Load(std::move(checkpoint), backend,
                        {.max_rows = std::max(options.prompt_rows, tree_rows),
                         .max_logit_rows = std::min(options.rows, tree_rows)}));
  const kernels::DType dtype = backend->DefaultKvDType();
  const int pages =
      options.pages > 0 ? options.pages : PagesFor(drafter->transformer_->config(), dtype, options);
  OCTOGATE_ASSIGN_OR_RETURN(drafter->cache_,
                            drafter->transformer_->CreateKvCache(pages, options.page_size, dtype));
  for (int32_t page = pages - 1; page >= 0; --page) drafter->free_pages_.push_back(page);
  drafter->bytes_ = weights + drafter->cache_->page_bytes() * static_cast<uint64_t>(pages);
  return drafter;
}

std::unique_ptr<SequenceDrafter> ModelDrafter::Begin(std::string_view /*scope*/) {
  return std::make_unique<Sequence>(this);
}

}  // namespace octogate::workers
