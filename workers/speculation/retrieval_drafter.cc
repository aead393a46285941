#include "workers/speculation/retrieval_drafter.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "workers/speculation/draft_scope.h"

namespace octogate::workers {
namespace {

// Of all stores together.
constexpr size_t kMaxSegments = 32;

class RetrievalSequence : public SequenceDrafter {
 public:
  RetrievalSequence(std::vector<RetrievalCorpus> corpora,
                    const retrieval::DraftLookupOptions& options, float unseen_places)
      : corpora_(std::move(corpora)),
        options_(options),
        unseen_places_(unseen_places),
        most_(options.max_span) {
    for (const RetrievalCorpus& corpus : corpora_) {
      sources_.push_back({.store = corpus.store.get(), .near = corpus.near.get()});
      if (corpus.near != nullptr) most_ = std::max(most_, corpus.near->window());
    }
  }

  void Append(std::span<const int32_t> tokens) override {
    const auto most = static_cast<size_t>(most_);
    tokens = tokens.last(std::min(tokens.size(), most));
    end_.insert(end_.end(), tokens.begin(), tokens.end());
    if (end_.size() > most) {
      end_.erase(end_.begin(), end_.end() - static_cast<std::ptrdiff_t>(most));
    }
  }

  void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
    retrieval::DraftLookupOptions options = options_;
    options.max_nodes = std::min({options.max_nodes, max_nodes, kMaxDraftNodes});
    options.max_depth = std::min(options.max_depth, max_depth);
    if (options.max_nodes < 1 || options.max_depth < 1 || sources_.empty()) return;
    retrieval::LookUpContinuations(sources_, end_, options, found_);
    // Near matches are taken for what one token finds.
    const float unseen = unseen_places_ / static_cast<float>(std::max(1, found_.span));
    DraftTreeBuilder builder(tree);  // of siblings the most frequent come first
    for (const auto& node : found_.nodes) {
      const int32_t of =
          node.parent < 0 ? found_.counted : found_.nodes[static_cast<size_t>(node.parent)].count;
      builder.Add(node.parent, node.token,
                  static_cast<float>(node.count) / (static_cast<float>(of) + unseen), 1);
    }
  }

  uint64_t bytes() const override {
    return sizeof(*this) + end_.capacity() * sizeof(int32_t) +
           found_.nodes.capacity() * sizeof(found_.nodes[0]);
  }

 private:
  const std::vector<RetrievalCorpus> corpora_;
  const retrieval::DraftLookupOptions options_;
  const float unseen_places_;
  int most_;
  std::vector<retrieval::DraftSource> sources_;
  std::vector<int32_t> end_;  // of the sequence: as much as is looked for, most_ tokens
  retrieval::DraftContinuations found_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RetrievalDrafter>> RetrievalDrafter::Create(
    std::vector<RetrievalCorpus> corpora, const RetrievalDrafterOptions& options) {
  const retrieval::DraftLookupOptions& lookup = options.lookup;
  if (lookup.min_span < 1 || lookup.max_span < lookup.min_span || lookup.max_hits < 1 ||
      lookup.max_depth < 1 || lookup.max_nodes < 1 || lookup.near_below < 1 ||
      lookup.max_near < 1) {
    return absl::InvalidArgumentError(
        "a draft lookup's spans, hits, depth, nodes and near matches are at least 1, and its "
        "shortest span is not above its longest");
  }
  if (!std::isfinite(options.unseen_places) || options.unseen_places < 0) {
    return absl::InvalidArgumentError("a retrieval drafter's unseen places are a number from 0 on");
  }
  for (const RetrievalCorpus& corpus : corpora) {
    if (corpus.store == nullptr) return absl::InvalidArgumentError("a draft store is missing");
    if (corpus.store->tokenizer() != options.tokenizer ||
        corpus.store->vocab_size() != options.vocab_size) {
      return absl::FailedPreconditionError(absl::StrCat(
          "a draft store has another tokenizer (", corpus.store->vocab_size(),
          " tokens) than the model (", options.vocab_size,
          "); build it with 'octoctl drafts build --tokenizer' and the model's folder"));
    }
  }
  size_t segments = 0;
  for (const RetrievalCorpus& corpus : corpora) segments += corpus.store->segments().size();
  if (segments > kMaxSegments) {
    return absl::FailedPreconditionError(absl::StrCat("the draft stores have ", segments,
                                                      " segments together, each of which every "
                                                      "draft looks in; at most ",
                                                      kMaxSegments,
                                                      ": join them with 'octoctl drafts compact'"));
  }
  return std::unique_ptr<RetrievalDrafter>(new RetrievalDrafter(std::move(corpora), options));
}

std::unique_ptr<SequenceDrafter> RetrievalDrafter::Begin(std::string_view scope) {
  std::vector<RetrievalCorpus> corpora;
  for (const RetrievalCorpus& corpus : corpora_) {
    if (corpus.tenant.empty() || IsDraftScopeOf(corpus.tenant, scope)) corpora.push_back(corpus);
  }
  return std::make_unique<RetrievalSequence>(std::move(corpora), options_.lookup,
                                             options_.unseen_places);
}

uint64_t RetrievalDrafter::bytes() const {
  uint64_t bytes = 0;
  for (const RetrievalCorpus& corpus : corpora_) {
    bytes += corpus.store->bytes() + (corpus.near == nullptr ? 0 : corpus.near->bytes());
  }
  return bytes;
}

}  // namespace octogate::workers
