// Runs one sentence encoder for many callers at once: texts of different calls share passes of the
// model.
//
// The vector of a text depends on the text and the model alone, bit for bit, not on what runs
// beside it or on the number of threads.
//
// Thread safety: all methods may be called from any thread, except the destructor.
#ifndef OCTOGATE_WORKERS_ENCODER_ENCODER_H_
#define OCTOGATE_WORKERS_ENCODER_ENCODER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "kernels/backend.h"
#include "kernels/weight_format.h"
#include "workers/encoder/encoder_model.h"
#include "workers/engine/fair_share.h"
#include "workers/engine/request.h"
#include "workers/model/encoder_checkpoint.h"

namespace octogate::workers {

struct EncoderOptions {
  // Calls that wait or run; one more is refused with RESOURCE_EXHAUSTED.
  int max_calls = 256;
  // Tokens of one pass; raised to the longest text. Larger passes are no faster per token, and a
  // text that comes meanwhile waits for longer.
  int max_rows_per_pass = 256;
  // Passes after which a call is treated as if its priority were one higher; at least 1.
  int64_t ageing_passes = 2000;
  kernels::WeightFormat weight_format = kernels::WeightFormat::kStored;
  // Shortens the longest text; 0 leaves what the checkpoint says.
  int max_tokens = 0;
  // Weights and activations together must fit into this and into what the machine (and the control
  // group) has available. 0: the latter only.
  uint64_t memory_limit_bytes = 0;
};

struct EncoderStats {
  int calls = 0;  // waiting or running
  uint64_t calls_finished = 0;
  uint64_t texts = 0;
  uint64_t tokens = 0;
  uint64_t passes = 0;
  uint64_t weight_bytes = 0;
  uint64_t activation_bytes = 0;
};

class Encoder {
 public:
  static constexpr int kMaxTexts = 4096;  // of one call

  // Loads the weights into `backend` and starts the encoder's thread. RESOURCE_EXHAUSTED, before
  // anything is loaded, with all numbers, where memory does not suffice; INVALID_ARGUMENT for
  // options out of range; UNIMPLEMENTED for a checkpoint that the kernels cannot compute.
  static absl::StatusOr<std::unique_ptr<Encoder>> Create(
      std::shared_ptr<const EncoderCheckpoint> checkpoint,
      std::unique_ptr<kernels::Backend> backend, const EncoderOptions& options);

  // As Shutdown. Nothing may call the encoder any more.
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  // The pooled vector of each text, hidden_size values, not scaled. A text is its token ids,
  // special tokens included. Waits, at most until `deadline`, after which the call is
  // DEADLINE_EXCEEDED; CANCELLED soon after `cancellation`, which may be null.
  //
  // Refusals: INVALID_ARGUMENT for no or too many texts, an empty one, or ids outside the
  // vocabulary; OUT_OF_RANGE for a text of more than max_tokens(); RESOURCE_EXHAUSTED for too many
  // calls (with a hint, see common/status.h); UNAVAILABLE when draining.
  absl::StatusOr<std::vector<std::vector<float>>> Embed(
      std::vector<std::vector<int32_t>> texts, absl::Time deadline,
      const std::shared_ptr<Cancellation>& cancellation = nullptr, ServiceTerms terms = {});

  // Refuses new calls with UNAVAILABLE from now on, and waits until those under way have finished.
  // DEADLINE_EXCEEDED with their number if some have not by `deadline`: they go on.
  absl::Status Drain(absl::Time deadline);

  // Ends every call with CANCELLED, refuses new ones and joins the thread. Call once, if at all.
  void Shutdown();

  EncoderStats stats() const;
  const EncoderConfig& config() const { return model_->config(); }
  // Longest text, special tokens included.
  int max_tokens() const { return max_tokens_; }
  const std::string& backend_description() const { return backend_description_; }
  const WeightReport& weight_report() const { return model_->weight_report(); }

 private:
  struct Call;
  struct Parts {
    std::unique_ptr<kernels::Backend> backend;
    std::unique_ptr<EncoderModel> model;
    EncoderLimits limits;
    int max_tokens = 0;
    EncoderStats stats;
  };
  Encoder(Parts parts, const EncoderOptions& options);

  absl::Status Check(const std::vector<std::vector<int32_t>>& texts,
                     const ServiceTerms& terms) const;
  void Run();
  // What the thread does between two passes, all under the lock: takes new calls, ends those that
  // are cancelled or overdue, and chooses the texts of the next pass. False: stop.
  bool PlanPass() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Call* NextCall() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ComputePass();
  void FinishPass() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndCall(Call& call, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !calls_.empty();
  }
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return calls_.empty(); }

  const EncoderOptions options_;
  const EncoderLimits limits_;
  const int max_tokens_;
  const std::unique_ptr<kernels::Backend> backend_;
  const std::unique_ptr<EncoderModel> model_;
  const std::string backend_description_;

  mutable absl::Mutex mutex_;
  std::vector<std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);  // in order of arrival
  FairShare shares_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  EncoderStats stats_ ABSL_GUARDED_BY(mutex_);

  // The pass, of the thread alone.
  struct PlannedText {
    std::shared_ptr<Call> call;
    size_t text = 0;
  };
  std::vector<PlannedText> planned_;
  std::vector<int32_t> ids_;
  std::vector<int> lengths_;
  std::vector<float> hidden_;

  std::thread thread_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENCODER_ENCODER_H_
