#ifndef OCTOGATE_TESTS_ROUTER_BAG_OF_WORDS_LANGUAGE_MODEL_H_
#define OCTOGATE_TESTS_ROUTER_BAG_OF_WORDS_LANGUAGE_MODEL_H_

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "router/causal_model.h"
#include "tests/router/bag_of_words_model.h"

namespace octogate::router {

// A language model whose hidden states are the words of the query, and whose vocabulary's tokens
// are probable where the query has a certain word. Answers before the call returns.
class BagOfWordsLanguageModel final : public CausalModel {
 public:
  static constexpr double kProbable = 0.9;
  static constexpr double kImprobable = 0.01;

  std::map<std::string, std::string> vocabulary;  // Tokens, and the word of each.
  bool knows_hidden_states = true;                // Or is of a release before them.
  absl::Status status;                            // Of every call.
  std::string argument = "rewritten";
  std::atomic<int> scored = 0;  // Texts so far.

  void Score(const v1::WorkerScoreRequest& request, const CallContext&, ScoreDone done) override {
    ++scored;
    if (!status.ok()) return done(status);
    const std::string& query = QueryOf(request.prompt());
    v1::WorkerScoreResponse response;
    if (request.tokens().empty() && !knows_hidden_states) {
      return done(absl::InvalidArgumentError("tokens is empty; name the tokens to score"));
    }
    for (const std::string& token : request.tokens()) {
      const double probability =
          absl::StrContains(query, vocabulary[token]) ? kProbable : kImprobable;
      response.add_logits(static_cast<float>(std::log(probability) + kOffset));
    }
    response.set_log_sum_exp(kOffset);
    if (request.hidden_state() && knows_hidden_states) {
      v1::WorkerEmbedRequest words;
      words.add_inputs(query);
      words_.Embed(words, {}, [&](absl::StatusOr<v1::WorkerEmbedResponse> embedded) {
        *response.mutable_hidden_state() = embedded->embeddings(0).values();
      });
    }
    response.mutable_usage()->set_prompt_tokens(7);
    done(std::move(response));
  }

  void Generate(const v1::WorkerGenerateRequest& request, const CallContext&, OnMessage on_message,
                GenerateDone done) override {
    if (!status.ok()) return done(status);
    if (vocabulary.count(request.prompt().suffix_tokens(0)) == 0) {
      return done(absl::NotFoundError("not in the vocabulary"));
    }
    v1::WorkerGenerateResponse message;
    message.set_text(argument);
    message.mutable_end()->set_finish_reason(v1::FINISH_REASON_STOP);
    on_message(message);
    done(absl::OkStatus());
  }

  absl::StatusOr<std::vector<std::string>> MissingTokens(const std::vector<std::string>& tokens,
                                                         absl::Time) override {
    std::vector<std::string> missing;
    std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(missing),
                 [&](const std::string& token) { return vocabulary.count(token) == 0; });
    return missing;
  }

  absl::StatusOr<std::string> Fingerprint(absl::Time) override { return std::string("words"); }

 private:
  static constexpr double kOffset = 3;  // Logits are no log-probabilities.

  static const std::string& QueryOf(const v1::WorkerPrompt& prompt) {
    if (prompt.has_template_()) return prompt.template_().query();
    const auto& messages = prompt.conversation().messages();
    return messages.Get(messages.size() - 1).content();
  }

  BagOfWordsModel words_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_TESTS_ROUTER_BAG_OF_WORDS_LANGUAGE_MODEL_H_
