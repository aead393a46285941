// What a drafter has learned, where it can be told to other processes that serve the same model.
//
// An export is what was learned, as bytes: of a kind of drafter, with the vocabulary it is of. What
// exports say is merged; in which order, and how many times, makes no difference to what all have
// in the end. Exports come from anywhere: whoever takes one checks it, and takes all or nothing.
#ifndef OCTOGATE_WORKERS_SPECULATION_LEARNED_STATE_H_
#define OCTOGATE_WORKERS_SPECULATION_LEARNED_STATE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "workers/speculation/drafter.h"

namespace octogate::workers {

// What was learned under one scope, beside the drafter: the copy of a thread that may wait for
// disks and networks. It knows what of it the drafter, and what others, have not been told yet.
// Bounded as the drafter is. Thread safety: none.
class LearnedState {
 public:
  virtual ~LearnedState() = default;

  // Takes what this process's drafter has learned, which others are to be told.
  virtual absl::Status Learned(std::string_view bytes) = 0;
  // Takes what others have, which the drafter is to be told. INVALID_ARGUMENT, and nothing has
  // changed, where it is not what a drafter with the same options has exported.
  virtual absl::Status Heard(std::string_view bytes) = 0;

  // Grows with every change; 0: nothing has been learned.
  virtual uint64_t changes() const = 0;
  virtual std::string Export() const = 0;
  // How much that is, to compare with another of the same kind.
  virtual uint64_t size() const = 0;

  // What others have not been told, or the drafter: an export of about `max_bytes` at most, which
  // counts as told from here on. Empty: nothing is left.
  virtual std::string TakeForOthers(size_t max_bytes) = 0;
  virtual std::string TakeForDrafter(size_t max_bytes) = 0;
  // It is to be told everything again.
  virtual void DrafterForgot() = 0;
};

// A drafter that can say what it has learned. As every drafter, driven by one thread.
class LearningDrafter : public Drafter {
 public:
  virtual std::unique_ptr<LearnedState> MakeState() const = 0;

  // Whether a sequence of the scope has begun, or anything was learned under it, and it was not
  // dropped to make room for others.
  virtual bool Has(std::string_view scope) const = 0;
  // What was learned of sequences, and not taken yet: an export of about `max_bytes` at most. What
  // the drafter was taught is no part of it. Empty: nothing.
  virtual std::string TakeLearned(std::string_view scope, size_t max_bytes) = 0;
  // Learns what others have. Errors as LearnedState::Heard.
  virtual absl::Status Teach(std::string_view scope, std::string_view bytes) = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_LEARNED_STATE_H_
