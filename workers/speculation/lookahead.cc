#include "workers/speculation/lookahead.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "common/status.h"
#include "workers/speculation/best_first.h"
#include "workers/speculation/branch_trie.h"
#include "workers/speculation/hit_rates.h"
#include "workers/speculation/past_outputs.h"

namespace octogate::workers {
namespace {

constexpr float kOutputWeight = 1e-4F;           // of an occurrence in outputs; in prompts 1
constexpr int kMaxChildren = 64;                 // of a node of a trie, the newest ones
constexpr int kLengths = 4;                      // of contexts that are told apart
constexpr size_t kKeptTokens = size_t{1} << 16;  // of a scope's past outputs, for others
constexpr size_t kKinds = static_cast<size_t>(kLengths) * 4;
constexpr float kLeastProbability = 1.0F / 8192;  // of a path

constexpr float kScopeWeight = 16;  // of the scope's rate, in tries of the sequence
constexpr float kPriorWeight = 8;

// What is known of a context: its nodes in the two tries, or -1.
struct Place {
  int32_t prompt = -1;
  int32_t output = -1;

  bool IsKnown() const { return prompt >= 0 || output >= 0; }
};

// `is_longest`: no longer context is known.
size_t Kind(const Place& place, int length, bool is_longest) {
  return static_cast<size_t>((std::min(length, kLengths) - 1) * 4 + (place.prompt >= 0 ? 2 : 0) +
                             (is_longest ? 1 : 0));
}

float Prior(size_t kind) {
  return kind % 2 == 1 ? 0.3F + 0.1F * static_cast<float>(kind / 4) : 0.1F;
}

// All branches of a text, `depth` tokens deep where it goes on that long.
void PutText(std::span<const int32_t> text, size_t depth, BranchTrie& trie) {
  for (; !text.empty(); text = text.subspan(1)) trie.Put(text.first(std::min(text.size(), depth)));
}

}  // namespace

class LookaheadScope {
 public:
  explicit LookaheadScope(const LookaheadOptions& options)
      : outputs(options.scope_nodes), untold(options.vocab_size), rates(kKinds) {}

  uint64_t bytes() const {
    return sizeof(*this) + outputs.bytes() + untold.bytes() + 2 * sizeof(float) * rates.kinds();
  }

  BranchTrie outputs;
  UntoldOutputs untold;
  HitRates rates;
};

namespace {

class LookaheadSequence : public SequenceDrafter {
 public:
  LookaheadSequence(const LookaheadOptions& options, std::shared_ptr<LookaheadScope> scope)
      : depth_(static_cast<size_t>(options.branch) + 1),
        scope_(std::move(scope)),
        prompt_(options.prompt_nodes),
        rates_(kKinds) {}

  ~LookaheadSequence() override {
    PutText(tail_, depth_, scope_->outputs);
    scope_->untold.Add(std::span(output_).last(std::min(output_.size(), kMaxPastOutput)));
  }
  LookaheadSequence(const LookaheadSequence&) = delete;
  LookaheadSequence& operator=(const LookaheadSequence&) = delete;

  void Append(std::span<const int32_t> tokens) override {
    if (tokens.empty()) return;
    if (!is_begun_) {
      is_begun_ = true;
      PutText(tokens, depth_, prompt_);
      const auto last = tokens.last(std::min(tokens.size(), last_.size()));
      std::copy(last.begin(), last.end(), last_.end() - static_cast<std::ptrdiff_t>(last.size()));
      return;
    }
    for (int32_t token : tokens) {
      CountHit(token);
      std::move(last_.begin() + 1, last_.end(), last_.begin());
      last_.back() = token;
      tail_.push_back(token);
      if (tail_.size() < depth_) continue;
      scope_->outputs.Put(tail_);
      tail_.erase(tail_.begin());
    }
    output_.insert(output_.end(), tokens.begin(), tokens.end());
    if (output_.size() >= 2 * kMaxPastOutput) {
      output_.erase(output_.begin(), output_.end() - static_cast<std::ptrdiff_t>(kMaxPastOutput));
    }
  }

  void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
    max_nodes = std::min(max_nodes, kMaxDraftNodes);
    if (max_nodes <= 0 || max_depth <= 0 || !is_begun_) return;
    struct Open {
      int32_t parent = -1;  // a node
      int32_t token = 0;
      float probability = 0;
      Place place;
      int length = 0;  // of the context with the token
    };
    BestFirst<Open> open(max_nodes);
    std::vector<Open> children;
    DraftTreeBuilder builder(tree);
    // What the place has and no longer context of the same node has.
    const auto open_children = [&](int32_t parent, const Place& place, int length, bool is_longest,
                                   float path) {
      const size_t begin = is_longest ? 0 : children.size();
      children.resize(begin);
      float sum = 0;
      const auto add = [&](const BranchTrie& trie, int32_t node) {
        if (node < 0) return;
        int32_t child = trie.At(node).first;
        for (int i = 0; child >= 0 && i < kMaxChildren; ++i, child = trie.At(child).next) {
          const int32_t token = trie.At(child).token;
          if (std::any_of(children.begin(), children.end(),
                          [token](const Open& other) { return other.token == token; })) {
            continue;
          }
          const Place next = {
              &trie == &prompt_ ? child : prompt_.Child(place.prompt, token),
              &trie == &prompt_ ? scope_->outputs.Child(place.output, token) : child};
          const float weight = Weight(next);
          sum += weight;
          children.push_back({parent, token, weight, next, length + 1});
        }
      };
      add(prompt_, place.prompt);
      add(scope_->outputs, place.output);
      const float rate = Rate(Kind(place, length, is_longest));
      for (size_t i = begin; i < children.size(); ++i) {
        Open& child = children[i];
        child.probability = std::min(1.0F, child.probability / sum * rate);
        if (path * child.probability >= kLeastProbability) {
          open.Offer(path * child.probability, child);
        }
      }
    };
    const Place two = Find(2);
    const Place one = Find(1);
    const int branch = static_cast<int>(depth_) - 1;
    const int found =
        prompt_.CountBelow(two.prompt, branch) + scope_->outputs.CountBelow(two.output, branch);
    if (found > 0) open_children(-1, two, 2, true, 1);
    if (found < branch && one.IsKnown()) open_children(-1, one, 1, found == 0, 1);
    while (tree.size() < max_nodes && !open.empty()) {
      const auto [path, best] = open.Take();
      const int32_t node = builder.Add(best.parent, best.token, best.probability, 1);
      if (tree.size() == max_nodes) break;
      if (tree.nodes.back().depth < max_depth) {
        open_children(node, best.place, best.length, true, path);
      }
    }
  }

  uint64_t bytes() const override {
    return sizeof(*this) + prompt_.bytes() +
           (tail_.capacity() + output_.capacity()) * sizeof(int32_t) +
           2 * sizeof(float) * rates_.kinds();
  }

 private:
  // Of the context of the last `length` tokens.
  Place Find(size_t length) const {
    const std::span<const int32_t> context = std::span(last_).last(length);
    if (context.front() < 0) return {};
    return {prompt_.Find(context), scope_->outputs.Find(context)};
  }

  float Weight(const Place& place) const {
    return WeightIn(prompt_, place.prompt) +
           WeightIn(scope_->outputs, place.output) * kOutputWeight;
  }
  // What is to be dropped is there until it is.
  static float WeightIn(const BranchTrie& trie, int32_t node) {
    return node < 0 ? 0 : static_cast<float>(std::max(trie.Count(node), 1));
  }

  bool HasChildren(const Place& place) const {
    return (place.prompt >= 0 && prompt_.At(place.prompt).first >= 0) ||
           (place.output >= 0 && scope_->outputs.At(place.output).first >= 0);
  }

  float Rate(size_t kind) const {
    return rates_.Rate(kind, scope_->rates.Rate(kind, Prior(kind), kPriorWeight), kScopeWeight);
  }

  void Count(size_t kind, bool hit) {
    rates_.Count(kind, hit);
    scope_->rates.Count(kind, hit);
  }

  void CountHit(int32_t next) {
    bool found = false;
    bool two_known = false;
    for (int length = std::min(kLengths, static_cast<int>(depth_) - 1); length > 0; --length) {
      const Place place = Find(static_cast<size_t>(length));
      if (!HasChildren(place)) continue;
      const bool hit =
          prompt_.Child(place.prompt, next) >= 0 || scope_->outputs.Child(place.output, next) >= 0;
      if (length == 2) {
        two_known = true;
        found = hit;
      }
      if (length == 1 && two_known) {
        Count(Kind(place, length, false), hit && !found);
      } else {
        Count(Kind(place, length, true), hit);
      }
    }
  }

  const size_t depth_;  // of a branch, with the token that it follows
  const std::shared_ptr<LookaheadScope> scope_;
  BranchTrie prompt_;
  HitRates rates_;
  bool is_begun_ = false;
  std::array<int32_t, kLengths> last_ = {-1, -1, -1, -1};
  std::vector<int32_t> tail_;    // of the output, what is in no whole branch yet
  std::vector<int32_t> output_;  // its end
};

}  // namespace

LookaheadDrafter::LookaheadDrafter(const LookaheadOptions& options)
    : options_(options), scopes_(options.max_scopes, options.max_bytes) {
  options_.branch = std::clamp(options_.branch, 1, kMaxDraftNodes);
}

std::shared_ptr<LookaheadScope> LookaheadDrafter::Use(std::string_view scope) {
  return scopes_.Use(scope, [this] { return std::make_shared<LookaheadScope>(options_); });
}

std::unique_ptr<SequenceDrafter> LookaheadDrafter::Begin(std::string_view scope) {
  return std::make_unique<LookaheadSequence>(options_, Use(scope));
}

uint64_t LookaheadDrafter::bytes() const { return scopes_.bytes(); }

std::unique_ptr<LearnedState> LookaheadDrafter::MakeState() const {
  return std::make_unique<PastOutputsState>(options_.vocab_size, kKeptTokens);
}

std::string LookaheadDrafter::TakeLearned(std::string_view scope, size_t max_bytes) {
  const std::shared_ptr<LookaheadScope> found = scopes_.Find(scope);
  return found == nullptr ? std::string() : found->untold.Take(max_bytes);
}

absl::Status LookaheadDrafter::Teach(std::string_view scope, std::string_view bytes) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<PastOutput> outputs,
                            ImportOutputs(bytes, options_.vocab_size, ~uint64_t{0}));
  const std::shared_ptr<LookaheadScope> learning = Use(scope);
  for (const PastOutput& output : outputs) {
    PutText(output.tokens, static_cast<size_t>(options_.branch) + 1, learning->outputs);
  }
  return absl::OkStatus();
}

}  // namespace octogate::workers
