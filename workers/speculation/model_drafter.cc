#include "workers/speculation/model_drafter.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <queue>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
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
      options.prompt_passes < 1 || options.batch_rows < 1 || options.batch_ranked_rows < 1 ||
      options.pages < 0 || options.page_size < 1) {
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
    if (length == 0 || max_nodes < 1 || max_depth < 1 || !is_readable_) return false;
    if (!ReservePages(length + (options.passes - 1) * options.rows)) return false;
    range_ = RopeRangeForLength(config, length);
    if (range_ != computed_range_) computed_ = 0;
    computed_range_ = range_;
    // The root is computed again where all that was appended had been drafted.
    computed_ = std::min(computed_, length - 1);
    growth_.emplace();
    growth_->tree = call.tree;
    growth_->max_nodes = max_nodes;
    growth_->max_depth = max_depth;
    growth_->read_to =
        std::min(length - 1, computed_ + options.prompt_passes * options.prompt_rows);
    if (!Reads()) BeginTree();
    return true;
  }

  // Of the next pass.
  int rows() const {
    if (!Reads()) return static_cast<int>(rows_.size());
    return std::min(drafter_.options_.prompt_rows, growth_->read_to - computed_);
  }
  int ranked_rows() const { return Reads() ? 0 : static_cast<int>(rows_.size() - growth_->ranked); }

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
      sequence.ancestors = growth_->masks;
      for (const Row& row : rows_) ids.push_back(row.token);
      for (int i = ranked_rows(); i > 0; --i) {
        drafter_.ranked_rows_.push_back(static_cast<int32_t>(ids.size()) - i);
      }
    }
    drafter_.step_sequences_.push_back(sequence);
  }

  // After the pass, of which its first ranked row is the `first`-th: whether there is another one.
  bool TakePass(size_t first) {
    const bool goes_on = Reads() ? ReadPass() : GrowTree(first);
    if (!goes_on) growth_.reset();
    return goes_on;
  }

  // Its pages are the drafter's.
  uint64_t bytes() const override {
    return sizeof(*this) + (tokens_.capacity() + pages_.capacity()) * sizeof(int32_t) +
           rows_.capacity() * sizeof(Row);
  }

 private:
  // While a tree grows.
  struct Growth {
    DraftTree* tree = nullptr;
    int max_nodes = 0;
    int max_depth = 0;
    int read_to = 0;                            // tokens that are read before
    int passes = 0;                             // of the tree
    size_t ranked = 0;                          // rows whose candidates are known
    std::vector<kernels::AncestorMask> masks;   // of the rows
    std::priority_queue<Candidate> candidates;  // of all of these
    int order = 0;                              // of the next candidate
  };

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

  // Whether the next pass is one that reads what there is.
  bool Reads() const { return computed_ < growth_->read_to; }

  bool ReadPass() {
    computed_ += rows();
    if (Reads()) return true;
    if (computed_ + 1 < static_cast<int>(tokens_.size())) return false;
    BeginTree();
    return true;
  }

  void BeginTree() {
    rows_.clear();
    AddRow({.token = tokens_.back(), .parent = -1, .depth = 0, .path = 1});
  }

  void AddRow(const Row& row) {
    kernels::AncestorMask mask;
    if (row.parent >= 0) mask = growth_->masks[static_cast<size_t>(row.parent)];
    mask.words[rows_.size() / 64] |= uint64_t{1} << (rows_.size() % 64);
    growth_->masks.push_back(mask);
    rows_.push_back(row);
  }

  // With the most probable of the candidates after the pass.
  bool GrowTree(size_t first) {
    const ModelDrafterOptions& options = drafter_.options_;
    Growth& growth = *growth_;
    for (size_t row = growth.ranked; row < rows_.size(); ++row) {
      if (rows_[row].depth < growth.max_depth) AddCandidates(row, first + row - growth.ranked);
    }
    growth.ranked = rows_.size();
    const auto can_take = [&] {
      return growth.tree->size() < growth.max_nodes && !growth.candidates.empty();
    };
    const auto take = [&] {
      const Candidate next = growth.candidates.top();
      growth.candidates.pop();
      growth.tree->Add(next.parent - 1, next.token, next.probability, 1);
      return next;
    };
    if (++growth.passes < options.passes) {
      for (int i = 0; i < options.rows && can_take(); ++i) {
        const Candidate next = take();
        AddRow({.token = next.token,
                .parent = next.parent,
                .depth = rows_[static_cast<size_t>(next.parent)].depth + 1,
                .path = next.path});
      }
      // Of a full tree nothing would follow them.
      if (rows_.size() > growth.ranked && growth.tree->size() < growth.max_nodes) return true;
    }
    // Nodes whose own candidates nobody asks for. Rows that were not computed are not kept.
    while (can_take()) take();
    rows_.resize(growth.ranked);
    return false;
  }

  // What may follow `row`, whose logits are the `index`-th of the pass.
  void AddCandidates(size_t row, size_t index) {
    const Transformer::LargestLogits& largest = drafter_.largest_;
    const auto children = static_cast<size_t>(drafter_.options_.children);
    for (size_t i = index * children; i < (index + 1) * children; ++i) {
      const double share = std::exp(double{largest.logits[i]} - double{largest.log_sum_exp[index]});
      // Rows of padding behind the vocabulary, and logits that are no numbers.
      if (largest.ids[i] >= drafter_.options_.vocab_size || !(share > 0)) continue;
      const double probability = std::min(share, 1.0);
      growth_->candidates.push({.path = rows_[row].path * probability,
                                .order = growth_->order++,
                                .parent = static_cast<int>(row),
                                .token = largest.ids[i],
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
  std::optional<Growth> growth_;
};

// A sequence whose tree grows.
struct ModelDrafter::Growing {
  Sequence* sequence = nullptr;
  absl::Duration* time = nullptr;
  bool goes_on = true;
};

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
  ++passes_;
  size_t ranked = 0;
  for (Growing& one : growing.first(count)) {
    const auto own = static_cast<size_t>(one.sequence->ranked_rows());
    one.goes_on = one.sequence->TakePass(ranked);
    ranked += own;
  }
  // Rows are what a pass takes longer for.
  const absl::Duration time = absl::FromChrono(std::chrono::steady_clock::now() - begin);
  for (size_t i = 0; i < count; ++i) {
    *growing[i].time += time * step_sequences_[i].row_count / static_cast<double>(ids_.size());
  }
  return count;
}

absl::StatusOr<std::unique_ptr<ModelDrafter>> ModelDrafter::Create(
    std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
    const ModelDrafterOptions& options) {
  OCTOGATE_RETURN_IF_ERROR(CheckOptions(options, checkpoint->config()));
  std::unique_ptr<ModelDrafter> drafter(new ModelDrafter(options));
  const int tree_rows = 1 + (options.passes - 1) * options.rows;
  const int most_rows = std::max({options.batch_rows, options.prompt_rows, tree_rows});
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
