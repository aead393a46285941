// What Token Recycling has learned under one scope, for other processes.
#ifndef OCTOGATE_WORKERS_SPECULATION_RECYCLING_STATE_H_
#define OCTOGATE_WORKERS_SPECULATION_RECYCLING_STATE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "workers/speculation/learned_state.h"
#include "workers/speculation/recycling_table.h"

namespace octogate::workers {

class RecyclingState : public LearnedState {
 public:
  explicit RecyclingState(const RecyclingTableOptions& options) : table_(options) {}

  absl::Status Learned(std::string_view bytes) override { return Merge(bytes, for_others_); }
  absl::Status Heard(std::string_view bytes) override { return Merge(bytes, for_drafter_); }
  uint64_t changes() const override { return changes_; }
  std::string Export() const override { return table_.Export(0); }
  uint64_t size() const override { return table_.used_rows(); }
  std::string TakeForOthers(size_t max_bytes) override { return Take(max_bytes, for_others_); }
  std::string TakeForDrafter(size_t max_bytes) override { return Take(max_bytes, for_drafter_); }
  void DrafterForgot() override;

 private:
  // Rows by what was told first; each is there once, however often it changes meanwhile.
  struct Untold {
    std::deque<RecyclingContext> order;
    absl::flat_hash_set<uint64_t> contexts;

    void Add(const RecyclingContext& context);
  };

  absl::Status Merge(std::string_view bytes, Untold& untold);
  std::string Take(size_t max_bytes, Untold& untold) const;

  RecyclingTable table_;
  uint64_t changes_ = 0;
  Untold for_others_;
  Untold for_drafter_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_RECYCLING_STATE_H_
