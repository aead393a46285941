#include "workers/grammar/compiled_grammar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace octogate::workers {
namespace {

std::string Quoted(std::string_view bytes) {
  return absl::StrCat("\"", absl::CHexEscape({bytes.data(), bytes.size()}), "\"");
}

}  // namespace

CompiledGrammar::CompiledGrammar(RuleNetwork network, std::shared_ptr<const TokenTrie> trie,
                                 const CompileOptions& options)
    : network_(std::move(network)),
      trie_(std::move(trie)),
      step_work_(options.step_work),
      answer_work_(options.answer_work),
      work_per_step_(options.work_per_step),
      states_(&network_, options.max_state_bytes),
      masks_(&network_, trie_.get(), &states_, options.max_mask_bytes) {
  absl::MutexLock lock(&mutex_);
  mask_words_ = masks_.word_count();
}

absl::StatusOr<std::shared_ptr<const CompiledGrammar>> CompiledGrammar::Compile(
    const Grammar& grammar, std::shared_ptr<const TokenTrie> trie, const CompileOptions& options) {
  OCTOGATE_ASSIGN_OR_RETURN(RuleNetwork network, BuildRuleNetwork(grammar));
  std::shared_ptr<CompiledGrammar> compiled(
      new CompiledGrammar(std::move(network), std::move(trie), options));
  {
    absl::MutexLock lock(&compiled->mutex_);
    if (compiled->states_.start() == ParseStates::kFailed) return compiled->states_.status();
  }
  return compiled;
}

void CompiledGrammar::Pin(StateId state) const {
  if (pins_.size() <= state) pins_.resize(states_.id_bound());
  ++pins_[state];
}

CompiledGrammar::Stats CompiledGrammar::stats() const {
  absl::MutexLock lock(&mutex_);
  return {.network_bytes = network_.bytes(),
          .parse_states = states_.state_count(),
          .state_bytes = states_.bytes(),
          .place_masks = masks_.places(),
          .mask_bytes = masks_.bytes()};
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar)
    : grammar_(std::move(grammar)), credit_(grammar_->answer_work_) {
  absl::MutexLock lock(&grammar_->mutex_);
  state_ = grammar_->states_.start();
  grammar_->Pin(state_);
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar, StateId state,
                               bool ended, uint64_t credit)
    : grammar_(std::move(grammar)), state_(state), ended_(ended), credit_(credit) {
  absl::MutexLock lock(&grammar_->mutex_);
  grammar_->Pin(state_);
}

GrammarMatcher::GrammarMatcher(GrammarMatcher&& other) noexcept
    : grammar_(std::move(other.grammar_)),
      state_(other.state_),
      ended_(other.ended_),
      credit_(other.credit_),
      history_(std::move(other.history_)) {}

GrammarMatcher& GrammarMatcher::operator=(GrammarMatcher&& other) noexcept {
  if (this == &other) return *this;
  Unpin();
  grammar_ = std::move(other.grammar_);
  state_ = other.state_;
  ended_ = other.ended_;
  credit_ = other.credit_;
  history_ = std::move(other.history_);
  return *this;
}

GrammarMatcher::~GrammarMatcher() { Unpin(); }

void GrammarMatcher::Unpin() {
  if (grammar_ == nullptr) return;
  absl::MutexLock lock(&grammar_->mutex_);
  --grammar_->pins_[state_];
  for (const StateId state : history_) --grammar_->pins_[state];
}

GrammarMatcher GrammarMatcher::Fork() const {
  return GrammarMatcher(grammar_, state_, ended_, credit_);
}

void GrammarMatcher::BeginWork() const {
  credit_ = std::min(grammar_->answer_work_, credit_ + grammar_->work_per_step_);
  const uint64_t work = std::min(grammar_->step_work_, credit_);
  if (grammar_->states_.BeginWork(work, grammar_->pins_)) grammar_->masks_.ForgetStates();
}

absl::Status GrammarMatcher::EndWork(absl::Status status) const {
  const uint64_t work = grammar_->states_.work();
  const bool too_much = work > std::min(grammar_->step_work_, credit_);
  const bool of_answer = credit_ < grammar_->step_work_;
  credit_ -= std::min(credit_, work);
  if (!absl::IsResourceExhausted(status) || !too_much || !of_answer) return status;
  return absl::ResourceExhaustedError(
      "the grammar has taken too much work for one answer; make its rules exclude each other");
}

void GrammarMatcher::Advance(StateId state) {
  // The pin on the state before goes to the history.
  history_.push_back(state_);
  if (history_.size() > kMaxRollback) {
    --grammar_->pins_[history_.front()];
    history_.erase(history_.begin());
  }
  state_ = state;
  grammar_->Pin(state_);
}

absl::Status GrammarMatcher::AcceptBytes(std::string_view bytes) {
  if (ended_) {
    return absl::InvalidArgumentError("the text has ended; nothing may follow");
  }
  absl::MutexLock lock(&grammar_->mutex_);
  BeginWork();
  StateId state = state_;
  for (const char byte : bytes) {
    state = grammar_->states_.Next(state, static_cast<uint8_t>(byte));
    if (state == ParseStates::kFailed) return EndWork(grammar_->states_.status());
    if (state == ParseStates::kDead) {
      return EndWork(absl::InvalidArgumentError(
          absl::StrCat("the grammar does not allow ", Quoted(bytes), " here")));
    }
  }
  Advance(state);
  return EndWork(absl::OkStatus());
}

absl::Status GrammarMatcher::AcceptToken(int32_t id) {
  const TokenTrie& trie = *grammar_->trie_;
  if (id < 0 || id >= trie.vocab_size()) {
    return absl::InvalidArgumentError(absl::StrCat("there is no token ", id));
  }
  if (!trie.IsEnd(id)) {
    if (trie.bytes(id).empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the token ", id, " is no text, which is all that a grammar allows"));
    }
    return AcceptBytes(trie.bytes(id));
  }
  if (ended_ || !IsComplete()) {
    return absl::InvalidArgumentError("the text may not end here");
  }
  absl::MutexLock lock(&grammar_->mutex_);
  Advance(state_);
  ended_ = true;
  return absl::OkStatus();
}

absl::Status GrammarMatcher::Rollback(size_t count) {
  if (count > history_.size()) {
    return absl::OutOfRangeError(
        absl::StrCat("only the last ", history_.size(), " tokens are remembered, not ", count));
  }
  if (count == 0) return absl::OkStatus();
  absl::MutexLock lock(&grammar_->mutex_);
  for (; count > 0; --count) {
    --grammar_->pins_[state_];
    state_ = history_.back();
    history_.pop_back();
  }
  ended_ = false;
  return absl::OkStatus();
}

absl::Status GrammarMatcher::FillMask(std::span<uint64_t> words) const {
  if (ended_) {
    std::fill(words.begin(), words.end(), 0);
    return absl::OkStatus();
  }
  absl::MutexLock lock(&grammar_->mutex_);
  BeginWork();
  return EndWork(grammar_->masks_.Fill(state_, words));
}

bool GrammarMatcher::IsComplete() const {
  absl::MutexLock lock(&grammar_->mutex_);
  return grammar_->states_.Complete(state_);
}

absl::StatusOr<std::string> GrammarMatcher::ShortestCompletion() const {
  absl::MutexLock lock(&grammar_->mutex_);
  return grammar_->states_.ShortestCompletion(state_);
}

}  // namespace octogate::workers
