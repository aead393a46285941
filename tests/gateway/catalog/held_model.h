// A model that answers when it is told to, for tests of what happens meanwhile.
#ifndef OCTOGATE_TESTS_GATEWAY_CATALOG_HELD_MODEL_H_
#define OCTOGATE_TESTS_GATEWAY_CATALOG_HELD_MODEL_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gateway/model_client.h"

namespace octogate::gateway {

// Generates one text and embeds every text as the same vector, both at once or, while they are
// held, when they are released. Thread-safe. Outlives its clients' calls.
class HeldModel {
 public:
  explicit HeldModel(std::string text) : text_(std::move(text)) {}

  std::unique_ptr<ModelClient> NewClient() { return std::make_unique<Client>(this); }

  void HoldAnswers(bool held) { Hold(&answers_, held); }
  void HoldVectors(bool held) { Hold(&vectors_, held); }
  // Waits until at least so many calls of a kind are held.
  void AwaitHeldAnswers(size_t count) { Await(&answers_, count); }
  void AwaitHeldVectors(size_t count) { Await(&vectors_, count); }

 private:
  struct Gate {
    bool held = false;
    std::vector<std::function<void()>> waiting;
  };
  class NoCall final : public ModelCall {
   public:
    void Cancel() override {}
    void Resume() override {}
  };
  class Client final : public ModelClient {
   public:
    explicit Client(HeldModel* model) : model_(model) {}
    std::shared_ptr<ModelCall> Generate(const v1::WorkerGenerateRequest&, absl::Time,
                                        MessageCallback on_message, DoneCallback on_done) override {
      model_->Pass(&model_->answers_, [text = model_->text_, on_message, on_done] {
        v1::WorkerGenerateResponse response;
        response.add_ids(1);
        response.set_text(text);
        response.mutable_end()->set_finish_reason(v1::FINISH_REASON_STOP);
        (void)on_message(response);
        on_done(absl::OkStatus());
      });
      return std::make_shared<NoCall>();
    }
    std::shared_ptr<ModelCall> Score(const v1::WorkerScoreRequest&, absl::Time,
                                     ResponseCallback<v1::WorkerScoreResponse> on_done) override {
      on_done(absl::UnimplementedError("scores nothing"));
      return std::make_shared<NoCall>();
    }
    std::shared_ptr<ModelCall> Embed(const v1::WorkerEmbedRequest& request, absl::Time,
                                     ResponseCallback<v1::WorkerEmbedResponse> on_done) override {
      model_->Pass(&model_->vectors_, [inputs = request.inputs_size(), on_done] {
        v1::WorkerEmbedResponse response;
        for (int i = 0; i < inputs; ++i) {
          v1::Embedding& embedding = *response.add_embeddings();
          for (const float value : {0.6F, 0.8F}) embedding.add_values(value);
        }
        on_done(std::move(response));
      });
      return std::make_shared<NoCall>();
    }
    std::shared_ptr<ModelCall> Info(absl::Time,
                                    ResponseCallback<v1::WorkerInfoResponse> on_done) override {
      v1::WorkerInfoResponse info;
      info.set_model("held");
      info.set_family("held");
      info.set_fingerprint("held");
      info.set_context_length(1 << 20);
      on_done(std::move(info));
      return std::make_shared<NoCall>();
    }
    std::shared_ptr<ModelCall> FlushCache(
        const v1::WorkerFlushCacheRequest&, absl::Time,
        ResponseCallback<v1::WorkerFlushCacheResponse> on_done) override {
      on_done(v1::WorkerFlushCacheResponse());
      return std::make_shared<NoCall>();
    }
    std::shared_ptr<ModelCall> ExplainCache(
        const v1::WorkerExplainCacheRequest&, absl::Time,
        ResponseCallback<v1::WorkerExplainCacheResponse> on_done) override {
      on_done(v1::WorkerExplainCacheResponse());
      return std::make_shared<NoCall>();
    }
    const std::string& address() const override { return address_; }

   private:
    HeldModel* const model_;
    const std::string address_ = "held";
  };

  void Pass(Gate* gate, std::function<void()> answer) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      const absl::MutexLock lock(&mutex_);
      if (gate->held) {
        gate->waiting.push_back(std::move(answer));
        return;
      }
    }
    answer();
  }
  void Hold(Gate* gate, bool held) ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<std::function<void()>> released;
    {
      const absl::MutexLock lock(&mutex_);
      gate->held = held;
      if (!held) released.swap(gate->waiting);
    }
    for (const std::function<void()>& answer : released) answer();
  }
  void Await(const Gate* gate, size_t count) ABSL_LOCKS_EXCLUDED(mutex_) {
    const auto enough = [&] { return gate->waiting.size() >= count; };
    const absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&enough));
  }

  const std::string text_;
  absl::Mutex mutex_;
  Gate answers_, vectors_;  // guarded by mutex_
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_CATALOG_HELD_MODEL_H_
