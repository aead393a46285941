#include <new>

#include "kernels/cuda/page_copies.h"

namespace octogate::kernels::cuda {

std::unique_ptr<PageCopies> PageCopies::Make(Stream kernels, Stream copies, size_t ring_bytes) {
  std::unique_ptr<PageCopies> made(new (std::nothrow) PageCopies(kernels, copies));
  if (made == nullptr) return nullptr;
  made->ring_ = AllocateDevice(ring_bytes);
  made->ring_bytes_ = ring_bytes;
  made->kernels_reached_ = MakeEvent();
  made->copies_reached_ = MakeEvent();
  const bool whole = made->ring_ != nullptr && made->kernels_reached_ != nullptr &&
                     made->copies_reached_ != nullptr;
  return whole ? std::move(made) : nullptr;
}

void PageCopies::CopiesFollowKernels() {
  Record(kernels_, *kernels_reached_);
  WaitInStream(copies_, *kernels_reached_);
}

void PageCopies::KernelsFollowCopies() {
  Record(copies_, *copies_reached_);
  WaitInStream(kernels_, *copies_reached_);
}

void PageCopies::Download(const void* page, std::span<std::byte> to) {
  if (to.size() > ring_bytes_) {
    CopiesFollowKernels();
    CopyToHost(copies_, page, to.size(), to.data());
    return KernelsFollowCopies();
  }
  if (to.size() > ring_bytes_ - used_) {
    KernelsFollowCopies();  // until the ring is empty
    used_ = 0;
  }
  std::byte* const on_its_way = static_cast<std::byte*>(ring_.get()) + used_;
  used_ += to.size();
  CopyOnDevice(kernels_, page, to.size(), on_its_way);
  CopiesFollowKernels();
  CopyToHost(copies_, on_its_way, to.size(), to.data());
}

void PageCopies::Upload(std::span<const std::byte> from, void* page) {
  CopiesFollowKernels();  // which may read what the page held before
  CopyToDevice(copies_, from.data(), from.size(), page);
  KernelsFollowCopies();
}

void PageCopies::Finish() { Synchronize(copies_); }

}  // namespace octogate::kernels::cuda
