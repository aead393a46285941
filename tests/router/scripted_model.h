#ifndef OCTOGATE_TESTS_ROUTER_SCRIPTED_MODEL_H_
#define OCTOGATE_TESTS_ROUTER_SCRIPTED_MODEL_H_

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "router/causal_model.h"

namespace octogate::router {

// A language model whose next-token distribution and texts are written down. Answers on a thread
// of its own, as models do.
class ScriptedModel final : public CausalModel {
 public:
  // Probabilities of vocabulary entries, out of the whole vocabulary.
  std::map<std::string, double> vocabulary;
  // What it writes after a token, in pieces, and how that ends.
  std::vector<std::string> pieces;
  v1::FinishReason finish_reason = v1::FINISH_REASON_STOP;
  absl::Status score_status;
  absl::Status generate_status;
  // What it was asked last; read after the answer.
  v1::WorkerScoreRequest score_request;
  v1::WorkerGenerateRequest generate_request;

  // Waits until every answer's thread has ended: call it before the last owner lets go, as that
  // might otherwise be such a thread.
  void Join() {
    for (;;) {
      std::vector<std::thread> threads;
      {
        absl::MutexLock lock(&mutex_);
        threads.swap(threads_);
      }
      if (threads.empty()) return;
      for (std::thread& thread : threads) thread.join();
    }
  }

  void Score(const v1::WorkerScoreRequest& request, const CallContext&, ScoreDone done) override {
    score_request = request;
    Start([this, request, done = std::move(done)] {
      if (!score_status.ok()) return done(score_status);
      v1::WorkerScoreResponse response;
      constexpr double kOffset = 3;  // Logits are no log-probabilities.
      for (const std::string& token : request.tokens()) {
        response.add_logits(static_cast<float>(std::log(vocabulary[token]) + kOffset));
      }
      response.set_log_sum_exp(kOffset);
      response.mutable_usage()->set_prompt_tokens(7);
      done(response);
    });
  }

  void Generate(const v1::WorkerGenerateRequest& request, const CallContext&, OnMessage on_message,
                GenerateDone done) override {
    generate_request = request;
    Start([this, on_message = std::move(on_message), done = std::move(done)] {
      if (!generate_status.ok()) return done(generate_status);
      for (const std::string& piece : pieces) {
        v1::WorkerGenerateResponse message;
        message.set_text(piece);
        on_message(message);
      }
      v1::WorkerGenerateResponse last;
      last.mutable_end()->set_finish_reason(finish_reason);
      last.mutable_end()->mutable_usage()->set_completion_tokens(5);
      on_message(last);
      done(absl::OkStatus());
    });
  }

  absl::StatusOr<std::vector<std::string>> MissingTokens(const std::vector<std::string>& tokens,
                                                         absl::Time) override {
    std::vector<std::string> missing;
    std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(missing),
                 [&](const std::string& token) { return vocabulary.count(token) == 0; });
    return missing;
  }

  absl::StatusOr<std::string> Fingerprint(absl::Time) override { return std::string("scripted"); }

 private:
  // Also called from such a thread, which asks for the argument of the token that it has scored.
  void Start(std::function<void()> answer) {
    absl::MutexLock lock(&mutex_);
    threads_.emplace_back(std::move(answer));
  }

  absl::Mutex mutex_;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::router

#endif  // OCTOGATE_TESTS_ROUTER_SCRIPTED_MODEL_H_
