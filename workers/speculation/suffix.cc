#include "workers/speculation/suffix.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cstdint>
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "workers/speculation/best_first.h"
#include "workers/speculation/hit_rates.h"
#include "workers/speculation/past_outputs.h"
#include "workers/speculation/suffix_automaton.h"

namespace octogate::workers {
namespace {

// From a drafted token to a context that it follows. In texts that repeat themselves much, there
// can be as many as tokens.
constexpr int kMaxDraftedLinks = 64;
// Outputs of sequences that have ended are added to their scope little by little, while others go
// on: all at once would hold up everybody. So many wait at most; of more, the oldest are forgotten.
constexpr size_t kMaxWaiting = 64;
constexpr size_t kWorkPerToken = 16;
constexpr size_t kWorkAtBegin = 1024;

constexpr size_t kMaxOutput = kMaxPastOutput;  // of a sequence that its scope remembers
constexpr size_t kRematched = 64;    // tokens that are matched anew against other automata
constexpr size_t kMaxContexts = 4;   // of a node
constexpr int kMaxTransitions = 48;  // of a context, the newest ones
constexpr float kLeastProbability = 1.0F / 512;  // of a path

constexpr float kScopeWeight = 16;  // of the scope's rate, in tries of the sequence
constexpr float kPriorWeight = 8;

// Two automata, of which the young one grows.
class History {
 public:
  explicit History(size_t capacity) : capacity_(std::max<size_t>(capacity, 1)) {}

  // Returns whether the young one has become the old one.
  bool MakeRoom() {
    if (young_.tokens() < capacity_) return false;
    old_ = std::move(young_);
    young_ = SuffixAutomaton();
    ++turns_;
    return true;
  }
  SuffixAutomaton& young() { return young_; }
  const SuffixAutomaton& young() const { return young_; }
  const SuffixAutomaton& old() const { return old_; }
  int64_t turns() const { return turns_; }
  uint64_t bytes() const { return young_.bytes() + old_.bytes(); }

 private:
  size_t capacity_;
  int64_t turns_ = 0;
  SuffixAutomaton young_;
  SuffixAutomaton old_;
};

// In the automata of a sequence: the request's young and old one, the scope's young and old one.
constexpr size_t kAutomata = 4;
using Automata = std::array<const SuffixAutomaton*, kAutomata>;
using Matches = std::array<SuffixMatch, kAutomata>;

struct Context {
  size_t automaton = 0;
  int32_t state = 0;
  int32_t length = 0;
};

struct Contexts {
  std::array<Context, kMaxContexts> all;
  size_t count = 0;

  std::span<const Context> view() const { return {all.data(), count}; }
};

Contexts FindContexts(const Automata& automata, const Matches& matches) {
  // Each automaton's next context.
  Matches next = matches;
  Contexts contexts;
  while (contexts.count < kMaxContexts) {
    size_t longest = 0;
    for (size_t i = 1; i < kAutomata; ++i) {
      if (next[i].length > next[longest].length) longest = i;
    }
    SuffixMatch& match = next[longest];
    if (match.length <= 0) break;
    // Nothing has followed it yet: not a context to draft from.
    if (automata[longest]->First(match.state) >= 0) {
      contexts.all[contexts.count++] = {longest, match.state, match.length};
    }
    match.state = automata[longest]->Link(match.state);
    match.length = automata[longest]->Length(match.state);
  }
  return contexts;
}

constexpr size_t kLengths = 10;
constexpr size_t kCounts = 3;
constexpr size_t kKinds = 2 * kLengths * kCounts * 2;

size_t LengthKind(int32_t length) {
  constexpr std::array<int32_t, kLengths - 1> kUpTo = {1, 2, 3, 4, 6, 8, 12, 16, 32};
  return static_cast<size_t>(std::lower_bound(kUpTo.begin(), kUpTo.end(), length) - kUpTo.begin());
}

size_t Kind(const Automata& automata, const Context& context, bool is_longest) {
  const int32_t count = automata[context.automaton]->Count(context.state);
  const auto count_kind = static_cast<size_t>(std::clamp(count, 1, 3) - 1);
  const size_t is_scopes = context.automaton < 2 ? 0 : 1;
  return ((LengthKind(context.length) * kCounts + count_kind) * 2 + is_scopes) * 2 +
         (is_longest ? 1 : 0);
}

float Prior(size_t kind) {
  const size_t length = kind / (4 * kCounts);
  const float longest = 0.3F + 0.06F * static_cast<float>(length);
  return kind % 2 == 1 ? longest : 0.1F;
}

struct Child {
  int32_t token = 0;
  int32_t target = 0;  // the state of its context with it
  float probability = 0;
};

constexpr size_t kTokenBits = 1024;
size_t TokenBit(int32_t token) { return static_cast<uint32_t>(token) % kTokenBits; }

}  // namespace

class SuffixScope {
 public:
  explicit SuffixScope(const SuffixOptions& options)
      : history(options.scope_tokens), untold(options.vocab_size), rates(kKinds) {}

  // Remembers an output; Work adds it.
  void Add(std::span<const int32_t> output) {
    if (output.empty()) return;
    if (output.size() > kMaxOutput) output = output.last(kMaxOutput);
    if (waiting_.size() == kMaxWaiting) {
      waiting_.pop_front();
      added_ = 0;
    }
    waiting_.emplace_back(output.begin(), output.end());
    untold.Add(output);
  }

  // Adds an output at once.
  void Learn(std::span<const int32_t> output) {
    continues_ = false;
    for (int32_t token : output) Append(token);
    continues_ = false;
  }

  // Adds so many tokens of the outputs that wait.
  void Work(size_t tokens) {
    for (; tokens > 0 && !waiting_.empty(); --tokens) {
      if (added_ == 0) continues_ = false;
      Append(waiting_.front()[added_]);
      if (++added_ < waiting_.front().size()) continue;
      waiting_.pop_front();
      added_ = 0;
    }
  }

  uint64_t bytes() const {
    uint64_t waiting = 0;
    for (const std::vector<int32_t>& output : waiting_)
      waiting += output.capacity() * sizeof(int32_t);
    return sizeof(*this) + history.bytes() + 2 * sizeof(float) * rates.kinds() + waiting +
           untold.bytes();
  }

  History history;
  UntoldOutputs untold;
  HitRates rates;

 private:
  // Adds a token; the first of an output follows nothing.
  void Append(int32_t token) {
    if (!continues_) history.young().Break();
    continues_ = true;
    history.MakeRoom();
    history.young().Append(token);
  }

  std::deque<std::vector<int32_t>> waiting_;
  size_t added_ = 0;        // tokens of the first
  bool continues_ = false;  // the output that was added to last
};

namespace {

class SuffixSequence : public SequenceDrafter {
 public:
  SuffixSequence(const SuffixOptions& options, std::shared_ptr<SuffixScope> scope)
      : options_(options),
        scope_(std::move(scope)),
        scope_turns_(scope_->history.turns()),
        request_(options.request_tokens),
        rates_(kKinds) {}

  ~SuffixSequence() override { scope_->Add(std::span(text_).subspan(output_)); }
  SuffixSequence(const SuffixSequence&) = delete;
  SuffixSequence& operator=(const SuffixSequence&) = delete;

  void Append(std::span<const int32_t> tokens) override {
    scope_->Work(is_begun_ ? kWorkPerToken * tokens.size() : kWorkAtBegin);
    for (int32_t token : tokens) {
      if (is_begun_) CountHit(token);
      Match();
      if (request_.MakeRoom()) Rematch(1, request_.old());
      for (size_t i = 1; i < kAutomata; ++i) matches_[i].Advance(*automata()[i], token);
      SuffixAutomaton& young = request_.young();
      young.Append(token);
      matches_[0].state = std::max(young.Link(young.last()), 0);
      matches_[0].length = young.Length(matches_[0].state);
      text_.push_back(token);
    }
    if (!is_begun_ && !tokens.empty()) {
      is_begun_ = true;
      output_ = text_.size();
    }
    Forget();
  }

  void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
    max_nodes = std::min(max_nodes, kMaxDraftNodes);
    if (max_nodes <= 0 || max_depth <= 0) return;
    Match();
    const Automata all = automata();
    struct Open {
      int32_t parent = -1;  // a node
      Child child;
    };
    BestFirst<Open> open(max_nodes);
    std::vector<Matches> matches;  // of nodes
    matches.reserve(static_cast<size_t>(max_nodes));
    std::vector<Child> children;
    KnownRates<kKinds> rates;
    DraftTreeBuilder builder(tree);
    const auto expand = [&](int32_t node, const Matches& at, int depth, float path) {
      const int32_t length =
          std::max_element(at.begin(), at.end(), [](const SuffixMatch& a, const SuffixMatch& b) {
            return a.length < b.length;
          })->length;
      // The match was shorter by the depth where the draft began.
      const float deepest = options_.depth_per_length * static_cast<float>(length - depth);
      if (depth >= max_depth ||
          static_cast<float>(depth) >= std::max(deepest, static_cast<float>(options_.min_depth))) {
        return;
      }
      FindChildren(at, path, rates, children);
      for (const Child& child : children) {
        if (path * child.probability < kLeastProbability) continue;
        open.Offer(path * child.probability, {node, child});
      }
    };
    expand(-1, matches_, 0, 1);
    while (tree.size() < max_nodes && !open.empty()) {
      const auto [path, best] = open.Take();
      const int32_t node = builder.Add(best.parent, best.child.token, best.child.probability, 1);
      if (tree.size() == max_nodes) break;
      matches.push_back(best.parent < 0 ? matches_ : matches[static_cast<size_t>(best.parent)]);
      for (size_t i = 0; i < kAutomata; ++i) {
        all[i]->Prefetch(matches.back()[i].state, best.child.token);
      }
      for (size_t i = 0; i < kAutomata; ++i) {
        matches.back()[i].Advance(*all[i], best.child.token, kMaxDraftedLinks);
      }
      expand(node, matches.back(), tree.nodes.back().depth, path);
    }
  }

  uint64_t bytes() const override {
    return sizeof(*this) + request_.bytes() + text_.capacity() * sizeof(int32_t) +
           2 * sizeof(float) * rates_.kinds();
  }

 private:
  Automata automata() const {
    return {&request_.young(), &request_.old(), &scope_->history.young(), &scope_->history.old()};
  }

  // Others may have added to the scope.
  void Match() {
    if (scope_turns_ != scope_->history.turns()) {
      scope_turns_ = scope_->history.turns();
      Rematch(2, scope_->history.young());
      Rematch(3, scope_->history.old());
    }
    for (size_t i = 0; i < kAutomata; ++i) matches_[i].Normalize(*automata()[i]);
  }

  void Rematch(size_t i, const SuffixAutomaton& automaton) {
    matches_[i] = {};
    const size_t count = std::min(text_.size(), kRematched);
    for (int32_t token : std::span(text_).last(count)) matches_[i].Advance(automaton, token);
  }

  float Rate(size_t kind) const {
    return rates_.Rate(kind, scope_->rates.Rate(kind, Prior(kind), kPriorWeight), kScopeWeight);
  }

  void CountHit(int32_t next) {
    Match();
    const Contexts contexts = FindContexts(automata(), matches_);
    bool found = false;
    for (const Context& context : contexts.view()) {
      const SuffixAutomaton& automaton = *automata()[context.automaton];
      const bool hit = !found && automaton.Next(context.state, next) >= 0;
      const size_t kind = Kind(automata(), context, &context == contexts.all.data());
      rates_.Count(kind, hit);
      scope_->rates.Count(kind, hit);
      found = found || hit;
    }
  }

  // What may follow a node whose path has this probability.
  void FindChildren(const Matches& at, float path, KnownRates<kKinds>& rates,
                    std::vector<Child>& children) const {
    children.clear();
    // By some of their bits, the tokens of longer contexts: most others differ in these.
    std::bitset<kTokenBits> longer_ones;
    const Automata all = automata();
    const Contexts contexts = FindContexts(all, at);
    for (const Context& context : contexts.view()) {
      const size_t kind = Kind(all, context, &context == contexts.all.data());
      const float rate = rates.Get(kind, [&] { return Rate(kind); });
      if (path * rate < kLeastProbability) continue;
      const SuffixAutomaton& automaton = *all[context.automaton];
      const size_t begin = children.size();
      float sum = 0;
      int transitions = 0;
      for (int32_t place = automaton.First(context.state);
           place >= 0 && transitions < kMaxTransitions; ++transitions) {
        const SuffixAutomaton::Transition& transition = automaton.transition(place);
        place = transition.next;
        const bool is_longer_ones =
            longer_ones[TokenBit(transition.token)] &&
            std::any_of(children.begin(), children.begin() + static_cast<std::ptrdiff_t>(begin),
                        [&](const Child& child) { return child.token == transition.token; });
        if (is_longer_ones) continue;
        automaton.Prefetch(transition.target);
        children.push_back({transition.token, transition.target, 0});
      }
      for (size_t i = begin; i < children.size(); ++i) {
        const int32_t count = automaton.Count(children[i].target);
        children[i].probability = static_cast<float>(std::max(count, 1));
        sum += children[i].probability;
      }
      for (size_t i = begin; i < children.size(); ++i) {
        children[i].probability = std::min(1.0F, children[i].probability / sum * rate);
        longer_ones.set(TokenBit(children[i].token));
      }
    }
  }

  // Of a long text only what is still needed.
  void Forget() {
    const size_t most = 2 * kMaxOutput;
    if (text_.size() <= most) return;
    const size_t dropped = text_.size() - kMaxOutput;
    text_.erase(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(dropped));
    output_ -= std::min(output_, dropped);
  }

  const SuffixOptions& options_;
  const std::shared_ptr<SuffixScope> scope_;
  int64_t scope_turns_;
  History request_;
  HitRates rates_;
  Matches matches_;
  bool is_begun_ = false;  // the prompt is there
  std::vector<int32_t> text_;
  size_t output_ = 0;  // where it begins in the text
};

}  // namespace

SuffixDrafter::SuffixDrafter(const SuffixOptions& options)
    : options_(options), scopes_(options.max_scopes, options.max_bytes) {}

std::shared_ptr<SuffixScope> SuffixDrafter::Use(std::string_view scope) {
  return scopes_.Use(scope, [this] { return std::make_shared<SuffixScope>(options_); });
}

std::unique_ptr<SequenceDrafter> SuffixDrafter::Begin(std::string_view scope) {
  return std::make_unique<SuffixSequence>(options_, Use(scope));
}

uint64_t SuffixDrafter::bytes() const { return scopes_.bytes(); }

std::unique_ptr<LearnedState> SuffixDrafter::MakeState() const {
  return std::make_unique<PastOutputsState>(options_.vocab_size, options_.scope_tokens);
}

std::string SuffixDrafter::TakeLearned(std::string_view scope, size_t max_bytes) {
  const std::shared_ptr<SuffixScope> found = scopes_.Find(scope);
  return found == nullptr ? std::string() : found->untold.Take(max_bytes);
}

absl::Status SuffixDrafter::Teach(std::string_view scope, std::string_view bytes) {
  const absl::StatusOr<std::vector<PastOutput>> outputs =
      ImportOutputs(bytes, options_.vocab_size, ~uint64_t{0});
  if (!outputs.ok()) return outputs.status();
  const std::shared_ptr<SuffixScope> learning = Use(scope);
  for (const PastOutput& output : *outputs) learning->Learn(output.tokens);
  return absl::OkStatus();
}

}  // namespace octogate::workers
