// The rows of a step as kernels see them: Backend's SequenceRows in flat arrays.

#ifndef OCTOGATE_KERNELS_CUDA_STEP_ROWS_H_
#define OCTOGATE_KERNELS_CUDA_STEP_ROWS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/host_device.h"

namespace octogate::kernels::cuda {

// One row: where it lies in the step, where its key and value are kept, and
// which slots it attends to.
struct StepRow {
  int32_t row;         // in the step
  int32_t position;    // the last that it sees: where it stands, or the end of
                       // a bidirectional sequence
  int32_t slot;        // of its own key and value
  int32_t first_page;  // of its sequence, in the table of pages
  // Positions from tree_position on lie in the slots path[path + position -
  // tree_position]; for a chain path is negative.
  int32_t tree_position;
  int32_t path;
};

// Arrays in the host's memory or on the device.
struct StepRows {
  const StepRow* rows = nullptr;
  const int32_t* pages = nullptr;
  const int32_t* paths = nullptr;
  int count = 0;
  bool operator==(const StepRows&) const = default;
};

OCTOGATE_HOST_DEVICE inline int SlotOf(const StepRow& row, const int32_t* paths, int position) {
  if (row.path < 0 || position < row.tree_position) return position;
  return paths[row.path + position - row.tree_position];
}

// The arrays of a step, kept from one use to the next so that they allocate
// nothing once they are large enough.
class StepTables {
 public:
  void Fill(std::span<const SequenceRows> sequences);

  std::span<const StepRow> rows() const { return rows_; }
  std::span<const int32_t> pages() const { return pages_; }
  std::span<const int32_t> paths() const { return paths_; }
  int last_position() const { return last_position_; }  // the largest of all rows

 private:
  std::vector<StepRow> rows_;
  std::vector<int32_t> pages_;
  std::vector<int32_t> paths_;
  int last_position_ = 0;
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_STEP_ROWS_H_
