// Launches that are put off: kernels with their blocks and arguments, by value.
//
// The log of a step says all that the device will be told, every address
// included. Two steps with the same log are the same work, so that the graph made
// of one can stand for the other (step_graphs.h); what differs between them lies
// behind the addresses.

#ifndef OCTOGATE_KERNELS_CUDA_LAUNCH_LOG_H_
#define OCTOGATE_KERNELS_CUDA_LAUNCH_LOG_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

// Blocks of a launch.
struct Grid {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  bool operator==(const Grid&) const = default;
};

// What can be done with launches of one type of kernel; `call` is a LaunchCall of
// that type.
struct LaunchType {
  bool (*same)(const void* a, const void* b);
  void (*start)(const void* call, StreamHandle stream);
};

// Grows to the largest log that it has held and then allocates no more. Copies
// are independent of each other.
class LaunchLog {
 public:
  // `Call` begins with what Fingerprint takes of it: see LaunchCall.
  template <typename Call>
  void Add(const LaunchType* type, const Call& call) {
    static_assert(std::is_trivially_copyable_v<Call> && alignof(Call) <= alignof(Unit));
    AddBytes(type, &call, sizeof(Call));
    Mix(reinterpret_cast<uintptr_t>(call.kernel));
    Mix(call.grid.x);
    Mix(call.grid.y);
    Mix(call.grid.z);
  }
  void Clear();
  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }

  // Of kernels and blocks alone: equal where the logs are, and for most others not.
  uint64_t fingerprint() const { return fingerprint_; }
  // Whether all launches are the same in all they tell the device.
  bool SameAs(const LaunchLog& other) const;

  // Starts all of them, in order.
  void Run(StreamHandle stream) const;

 private:
  struct alignas(16) Unit {
    unsigned char bytes[16];
  };
  struct Entry {
    const LaunchType* type;
    size_t offset;  // in units
  };

  void AddBytes(const LaunchType* type, const void* call, size_t bytes);
  void Mix(uint64_t value) { fingerprint_ = (fingerprint_ ^ value) * 0x100000001B3u; }
  const void* CallOf(const Entry& entry) const { return memory_.data() + entry.offset; }

  static constexpr uint64_t kBasis = 0xCBF29CE484222325u;  // FNV-1a

  std::vector<Entry> entries_;
  std::vector<Unit> memory_;
  uint64_t fingerprint_ = kBasis;
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_LAUNCH_LOG_H_
