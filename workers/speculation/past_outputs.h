// Past outputs of one scope, which drafters learn from, for other processes.
//
// An output has a version, greater than those of all that its process knew (a Lamport clock). Of
// all that was told, those with the greatest versions are kept, as many as have `max_tokens`: sets
// of outputs, whose union does not depend on the order.
//
// An export is, all numbers little-endian: magic, format, vocabulary and number of outputs as 32
// bits each; then of each output its version as 64 bits, its number of tokens and the tokens as 32
// bits each.
#ifndef OCTOGATE_WORKERS_SPECULATION_PAST_OUTPUTS_H_
#define OCTOGATE_WORKERS_SPECULATION_PAST_OUTPUTS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/speculation/learned_state.h"

namespace octogate::workers {

struct PastOutput {
  uint64_t version = 0;
  std::vector<int32_t> tokens;
};

inline constexpr size_t kMaxPastOutput = 8192;  // tokens of one

std::string ExportOutputs(std::span<const PastOutput> outputs, int vocab_size);
// INVALID_ARGUMENT where it is no export with this vocabulary, or has a version above
// `most_version`.
absl::StatusOr<std::vector<PastOutput>> ImportOutputs(std::string_view bytes, int vocab_size,
                                                      uint64_t most_version);

// Outputs that ended here and that nobody has been told of, the last ones. Thread safety: none.
class UntoldOutputs {
 public:
  explicit UntoldOutputs(int vocab_size) : vocab_size_(vocab_size) {}

  // At most kMaxPastOutput tokens. One with tokens outside the vocabulary is nothing that others
  // can be told.
  void Add(std::span<const int32_t> output);
  // An export of about `max_bytes` at most, of which they count as told; empty: nothing is left.
  std::string Take(size_t max_bytes);
  uint64_t bytes() const;

 private:
  void DropFirst();

  const int vocab_size_;
  std::deque<PastOutput> outputs_;  // without versions yet
  size_t tokens_ = 0;
};

class PastOutputsState : public LearnedState {
 public:
  PastOutputsState(int vocab_size, size_t max_tokens);

  absl::Status Learned(std::string_view bytes) override;
  absl::Status Heard(std::string_view bytes) override;
  uint64_t changes() const override { return changes_; }
  std::string Export() const override;
  uint64_t size() const override { return tokens_; }
  std::string TakeForOthers(size_t max_bytes) override;
  std::string TakeForDrafter(size_t max_bytes) override;
  void DrafterForgot() override;

 private:
  struct Key {
    uint64_t version = 0;
    uint64_t digest = 0;  // of the tokens

    auto operator<=>(const Key&) const = default;
  };

  // False where it is known, or too old.
  bool Add(const Key& key, std::vector<int32_t> tokens);

  const int vocab_size_;
  const size_t max_tokens_;
  std::map<Key, std::vector<int32_t>> outputs_;
  size_t tokens_ = 0;
  uint64_t version_ = 0;
  uint64_t changes_ = 0;
  // Untold; those that were dropped meanwhile are skipped.
  std::deque<Key> for_others_;
  std::deque<Key> for_drafter_;
  size_t told_of_first_ = 0;  // tokens of for_drafter_'s first
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_PAST_OUTPUTS_H_
