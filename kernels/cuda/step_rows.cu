#include <algorithm>
#include <bit>

#include "kernels/cuda/step_rows.h"

namespace octogate::kernels::cuda {

void StepTables::Fill(std::span<const SequenceRows> sequences) {
  rows_.clear();
  pages_.clear();
  paths_.clear();
  last_position_ = 0;
  for (const SequenceRows& sequence : sequences) {
    const auto first_page = static_cast<int32_t>(pages_.size());
    pages_.insert(pages_.end(), sequence.pages.begin(), sequence.pages.end());
    for (int i = 0; i < sequence.row_count; ++i) {
      StepRow row{sequence.first_row + i,      LastSeen(sequence, i),
                  sequence.first_position + i, first_page,
                  sequence.first_position,     -1};
      if (!sequence.ancestors.empty()) {
        row.path = static_cast<int32_t>(paths_.size());
        for (int w = 0; w < 2; ++w) {
          uint64_t bits = sequence.ancestors[static_cast<size_t>(i)].words[w];
          for (; bits != 0; bits &= bits - 1) {
            paths_.push_back(sequence.first_position + 64 * w + std::countr_zero(bits));
          }
        }
      }
      last_position_ = std::max(last_position_, row.position);
      rows_.push_back(row);
    }
  }
}

}  // namespace octogate::kernels::cuda
