// Takes weights to the device in packed form: a few threads quantise them where they
// are to be, and pack groups into one of two pieces of pinned memory while the device
// copies the other.

#ifndef OCTOGATE_KERNELS_CUDA_WEIGHT_COPIES_H_
#define OCTOGATE_KERNELS_CUDA_WEIGHT_COPIES_H_

#include <cstddef>
#include <memory>

#include "kernels/cpu/thread_pool.h"
#include "kernels/cuda/matmul_pack.h"
#include "kernels/cuda/memory.h"
#include "kernels/quantize.h"

namespace octogate::kernels::cuda {

// Keeps its pieces and threads from one weight to the next: pinning memory takes
// longer than a copy. Not thread-safe.
class WeightCopies {
 public:
  // `stream` is open for as long as it lives. Null where memory cannot be had.
  static std::unique_ptr<WeightCopies> Make(Stream stream);

  // Returns when the weight is at `to` on the device, all of shape.bytes(). False
  // where a group is larger than a piece and memory for it cannot be had.
  bool Copy(const RowMajorCodes& codes, void* to);

  // On its threads.
  PartRunner part_runner();

  Stream stream() const { return stream_; }

 private:
  struct Piece {
    PinnedMemory memory;
    Event copied;  // to the device
  };

  explicit WeightCopies(Stream stream);
  bool Reserve(size_t bytes);

  const Stream stream_;
  ThreadPool threads_;
  Piece pieces_[2];
  size_t piece_bytes_ = 0;
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_WEIGHT_COPIES_H_
