#include "tests/bench/sql_player.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "workers/grammar/token_trie.h"
#include "workers/server/worker_grammar.h"

namespace octogate::bench {
namespace {

// Compiled grammars that are kept; all are dropped when there are more.
constexpr size_t kMaxGrammars = 200;

class NoCall final : public gateway::ModelCall {
 public:
  void Cancel() override {}
  void Resume() override {}
};

class PlayerClient final : public gateway::ModelClient {
 public:
  explicit PlayerClient(std::shared_ptr<SqlPlayer> player) : player_(std::move(player)) {}

  std::shared_ptr<gateway::ModelCall> Generate(const v1::WorkerGenerateRequest& request, absl::Time,
                                               MessageCallback on_message,
                                               DoneCallback on_done) override {
    v1::WorkerGenerateResponse response;
    const absl::Status status = player_->Answer(request, &response);
    if (status.ok()) (void)on_message(response);
    on_done(status);
    return std::make_shared<NoCall>();
  }
  std::shared_ptr<gateway::ModelCall> Score(
      const v1::WorkerScoreRequest&, absl::Time,
      ResponseCallback<v1::WorkerScoreResponse> on_done) override {
    on_done(absl::UnimplementedError("prepared answers score nothing"));
    return std::make_shared<NoCall>();
  }
  std::shared_ptr<gateway::ModelCall> Embed(
      const v1::WorkerEmbedRequest&, absl::Time,
      ResponseCallback<v1::WorkerEmbedResponse> on_done) override {
    on_done(absl::UnimplementedError("prepared answers embed nothing"));
    return std::make_shared<NoCall>();
  }
  std::shared_ptr<gateway::ModelCall> Info(
      absl::Time, ResponseCallback<v1::WorkerInfoResponse> on_done) override {
    v1::WorkerInfoResponse info;
    info.set_model("prepared answers");
    info.set_family("replay");
    info.set_context_length(1 << 20);
    on_done(std::move(info));
    return std::make_shared<NoCall>();
  }
  std::shared_ptr<gateway::ModelCall> FlushCache(
      const v1::WorkerFlushCacheRequest&, absl::Time,
      ResponseCallback<v1::WorkerFlushCacheResponse> on_done) override {
    on_done(v1::WorkerFlushCacheResponse());
    return std::make_shared<NoCall>();
  }
  std::shared_ptr<gateway::ModelCall> ExplainCache(
      const v1::WorkerExplainCacheRequest&, absl::Time,
      ResponseCallback<v1::WorkerExplainCacheResponse> on_done) override {
    on_done(v1::WorkerExplainCacheResponse());
    return std::make_shared<NoCall>();
  }
  const std::string& address() const override { return address_; }

 private:
  const std::shared_ptr<SqlPlayer> player_;
  const std::string address_ = "prepared";
};

}  // namespace

size_t FollowedBytes(const std::shared_ptr<const workers::CompiledGrammar>& grammar,
                     const std::string& text) {
  workers::GrammarMatcher matcher(grammar);
  for (size_t i = 0; i < text.size(); ++i) {
    if (!matcher.AcceptByte(static_cast<uint8_t>(text[i])).ok()) return i;
  }
  return matcher.IsComplete() || text.empty() ? text.size() : text.size() - 1;
}

absl::StatusOr<std::shared_ptr<const workers::CompiledGrammar>> CompileForBytes(
    const v1::WorkerGrammar& grammar) {
  workers::TokenVocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary.bytes.emplace_back(1, static_cast<char>(byte));
  vocabulary.bytes.emplace_back();
  vocabulary.end_ids = {256};
  OCTOGATE_ASSIGN_OR_RETURN(workers::TokenTrie trie,
                            workers::TokenTrie::Create(std::move(vocabulary)));
  OCTOGATE_ASSIGN_OR_RETURN(const workers::Grammar parsed, workers::ParseWorkerGrammar(grammar));
  workers::CompileOptions options;
  // An answer of bytes has more steps than one of tokens.
  options.answer_work *= 8;
  return workers::CompiledGrammar::Compile(
      parsed, std::make_shared<const workers::TokenTrie>(std::move(trie)), options);
}

void SqlPlayer::Play(Script script) {
  absl::MutexLock lock(&mutex_);
  script_ = std::move(script);
  played_.clear();
}

std::vector<PlayedAnswer> SqlPlayer::played() const {
  absl::MutexLock lock(&mutex_);
  return played_;
}

std::unique_ptr<gateway::ModelClient> SqlPlayer::NewClient() {
  return std::make_unique<PlayerClient>(shared_from_this());
}

absl::StatusOr<std::shared_ptr<const workers::CompiledGrammar>> SqlPlayer::Compile(
    const v1::WorkerGrammar& grammar) {
  if (grammars_.size() >= kMaxGrammars) grammars_.clear();
  auto& kept = grammars_[workers::WorkerGrammarKey(grammar)];
  if (kept == nullptr) {
    OCTOGATE_ASSIGN_OR_RETURN(kept, CompileForBytes(grammar));
  }
  return kept;
}

absl::Status SqlPlayer::Answer(const v1::WorkerGenerateRequest& request,
                               v1::WorkerGenerateResponse* response) {
  absl::MutexLock lock(&mutex_);
  if (script_.empty() || script_.front().empty()) {
    return absl::FailedPreconditionError("there are no prepared answers");
  }
  const auto& messages = request.prompt().conversation().messages();
  PlayedAnswer answer;
  if (!messages.empty()) answer.prompt_bytes = messages[messages.size() - 1].content().size();
  const std::vector<std::string>& texts = script_[std::min(played_.size(), script_.size() - 1)];
  answer.text = texts.front();
  if (request.has_grammar()) {
    answer.limited = true;
    OCTOGATE_ASSIGN_OR_RETURN(const auto grammar, Compile(request.grammar()));
    const auto holds = [&](const std::string& text) {
      return FollowedBytes(grammar, text) == text.size();
    };
    answer.held = holds(answer.text);
    const auto written = std::find_if(texts.begin(), texts.end(), holds);
    if (written != texts.end()) {
      answer.text = *written;
    } else {
      size_t end = FollowedBytes(grammar, answer.text);
      // Whole characters only.
      while (end > 0 && (static_cast<unsigned char>(answer.text[end]) & 0xC0) == 0x80) --end;
      answer.text.resize(end);
      response->mutable_end()->set_finish_reason(v1::FINISH_REASON_LENGTH);
    }
  }
  const auto tokens = static_cast<int32_t>(answer.text.size() / 4 + 1);
  for (int32_t i = 0; i < tokens; ++i) response->add_ids(i);
  response->set_text(answer.text);
  v1::WorkerGenerateEnd& end = *response->mutable_end();
  if (end.finish_reason() == v1::FINISH_REASON_UNSPECIFIED) {
    end.set_finish_reason(v1::FINISH_REASON_STOP);
  }
  end.mutable_usage()->set_prompt_tokens(static_cast<int32_t>((answer.prompt_bytes + 3) / 4));
  end.mutable_usage()->set_completion_tokens(tokens);
  played_.push_back(std::move(answer));
  return absl::OkStatus();
}

}  // namespace octogate::bench
