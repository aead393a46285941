// Copies of pages between a KV cache and the host, beside the kernels of a backend.
//
// A page that leaves is copied on the device first, in the order of the kernels,
// into a ring of pages on their way; from there the stream of copies takes it to the
// host while kernels already write to where it lay. A page that comes goes straight
// to its place once the kernels before it are done, and kernels that are queued later
// wait for it on the device: it is beside none of them. The host waits for neither
// where its memory is pinned.

#ifndef OCTOGATE_KERNELS_CUDA_PAGE_COPIES_H_
#define OCTOGATE_KERNELS_CUDA_PAGE_COPIES_H_

#include <cstddef>
#include <memory>
#include <span>

#include "kernels/cuda/memory.h"

namespace octogate::kernels::cuda {

class PageCopies {
 public:
  // `kernels` and `copies` are open for as long as it lives. Pages larger than
  // `ring_bytes` keep kernels waiting. Null where memory cannot be had.
  static std::unique_ptr<PageCopies> Make(Stream kernels, Stream copies, size_t ring_bytes);

  // Backend::DownloadPage, UploadPage and FinishPageCopies; `page` is where the page
  // lies on the device.
  void Download(const void* page, std::span<std::byte> to);
  void Upload(std::span<const std::byte> from, void* page);
  void Finish();

 private:
  PageCopies(Stream kernels, Stream copies) : kernels_(kernels), copies_(copies) {}
  // Lets copies wait for what kernels have been told so far, and the other way round.
  void CopiesFollowKernels();
  void KernelsFollowCopies();

  const Stream kernels_;
  const Stream copies_;
  DeviceMemory ring_;
  size_t ring_bytes_ = 0;
  size_t used_ = 0;
  Event kernels_reached_;
  Event copies_reached_;
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_PAGE_COPIES_H_
