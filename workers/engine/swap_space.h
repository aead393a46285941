// Host memory for the pages of preempted sequences: what was computed is copied out of the KV cache
// when its pages are taken away and back into others when there are some again (Kwon et al. 2023,
// "PagedAttention", SOSP, section 4.5: swapping, as opposed to recomputation). The bytes that come
// back are those that went, so that nothing depends on whether a sequence was swapped or computed
// again.
//
// The memory is reserved when the space is made and never grows; where it is ordinary memory the
// system commits what is written to. Copies are timed, so that whoever preempts can tell what the
// next one will take. Copies that go on beside other work are timed when they are made for that
// (Measure), to their end, and count for what they would take if nothing else went on.
//
// Not thread-safe; outlives what it has saved.
#ifndef OCTOGATE_WORKERS_ENGINE_SWAP_SPACE_H_
#define OCTOGATE_WORKERS_ENGINE_SWAP_SPACE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "kernels/backend.h"

namespace octogate::workers {

class SwapSpace {
 public:
  // How a page is copied, in the order of the calls.
  struct Copier {
    std::function<void(int32_t page, std::span<std::byte> to)> out;
    std::function<void(std::span<const std::byte> from, int32_t page)> in;
    // Returns when all copies are done; empty where each is when it returns.
    std::function<void()> finish = nullptr;
    // The memory that pages are saved in, null where it cannot be had; empty for ordinary memory.
    std::function<std::unique_ptr<kernels::HostBlock>(size_t bytes)> allocate = nullptr;
  };

  // The contents of pages, in order. Its destruction gives the room back.
  class Saved {
   public:
    ~Saved();
    Saved(const Saved&) = delete;
    Saved& operator=(const Saved&) = delete;
    int pages() const { return static_cast<int>(slots_.size()); }

   private:
    friend class SwapSpace;
    explicit Saved(SwapSpace* space) : space_(space) {}
    SwapSpace* const space_;
    std::vector<int32_t> slots_;
  };

  // Room for as many pages of `page_bytes` as `bytes` hold. Null where the memory cannot be had.
  static std::unique_ptr<SwapSpace> Make(size_t page_bytes, uint64_t bytes, Copier copier);

  ~SwapSpace();

  // Copies pages out. Null, and nothing is copied, where there is no room for all of them.
  std::unique_ptr<Saved> Save(std::span<const int32_t> pages);
  // Copies what was saved, from its page `first` on, into `pages`.
  void Restore(const Saved& saved, int first, std::span<const int32_t> pages);

  // Copies page 0 out and in again a few times, to have measured something. Needs room for a page.
  void Measure();
  // Seconds that it takes to copy so many pages out and in again, by what copies have taken lately;
  // 0 where none has been made.
  double RoundTripSeconds(int pages) const;

  uint64_t total_bytes() const { return total_slots_ * page_bytes_; }
  uint64_t used_bytes() const { return (total_slots_ - free_.size()) * page_bytes_; }
  // That the caller has waited in Save and Restore altogether.
  absl::Duration time() const { return time_; }

 private:
  // The mean of what copies in one direction took, recent ones weighing more.
  struct Pace {
    double seconds = 0;
    double pages = 0;
    void Add(double more_seconds, size_t more_pages);
    double per_page() const { return pages > 0 ? seconds / pages : 0; }
  };

  SwapSpace(size_t page_bytes, size_t slots, std::unique_ptr<kernels::HostBlock> memory,
            Copier copier);
  std::span<std::byte> Slot(int32_t slot) const;

  const size_t page_bytes_;
  const size_t total_slots_;
  const std::unique_ptr<kernels::HostBlock> memory_;
  const Copier copier_;
  std::vector<int32_t> free_;  // a stack: memory that was used last is committed and in the caches
  Pace out_;
  Pace in_;
  absl::Duration time_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_SWAP_SPACE_H_
