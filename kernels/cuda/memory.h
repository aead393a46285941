// The device's memory and the copies to and from it: the part of the CUDA
// runtime that the backend uses, with a second implementation for the emulation
// (tests/kernels/cuda/emulated_memory.cc).

#ifndef OCTOGATE_KERNELS_CUDA_MEMORY_H_
#define OCTOGATE_KERNELS_CUDA_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

struct DeviceInfo {
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  int multiprocessors = 0;
  size_t memory_bytes = 0;
};

// The devices of this machine, in the runtime's order. Where none answers: none,
// and why and what would help in `problem`.
std::vector<DeviceInfo> ListDevices(std::string* problem);

// Makes `device` the calling thread's and creates a stream on it, both for as
// long as they are used. False, with a reason in `problem`, where it does not
// answer.
bool OpenStream(int device, Stream* stream, std::string* problem);
void UseDevice(int device);
void CloseStream(Stream stream);
void Synchronize(Stream stream);

struct FreeDeviceMemory {
  void operator()(void* memory) const;
};
struct FreePinnedMemory {
  void operator()(void* memory) const;
};
// Aligned to 256 bytes, undefined at first.
using DeviceMemory = std::unique_ptr<void, FreeDeviceMemory>;
// Host memory that the device copies from and to by itself.
using PinnedMemory = std::unique_ptr<void, FreePinnedMemory>;

// Null where memory cannot be had.
DeviceMemory AllocateDevice(size_t bytes);
PinnedMemory AllocatePinned(size_t bytes);
size_t FreeDeviceBytes();

// In the stream's order. The host's memory is pinned, or the call waits.
void CopyToDevice(Stream stream, const void* from, size_t bytes, void* to);
void CopyToHost(Stream stream, const void* from, size_t bytes, void* to);

// Memory for what a kernel leaves for the next one; valid until the next
// operation of the backend.
struct Workspace {
  void* data = nullptr;
  size_t bytes = 0;
};

// Takes host data to the device in the stream's order, so that the caller may
// reuse its memory at once. What equals one of the latest pieces is not sent
// again: all layers of a step ask for the same tables. Allocates only when it
// is made and when one piece is larger than all of its memory.
class Staging {
 public:
  // Null where memory cannot be had.
  static std::unique_ptr<Staging> Make(Stream stream, size_t bytes);

  // To be called before the pieces that one kernel reads, with their number and
  // bytes altogether: they then stay until the next call.
  void Begin(size_t pieces, size_t bytes);

  // Where the data lies on the device, aligned to 16 bytes.
  template <typename T>
  const T* Put(std::span<const T> data) {
    return static_cast<const T*>(PutBytes(data.data(), data.size_bytes()));
  }

 private:
  static constexpr size_t kRecent = 8;
  struct Piece {
    size_t offset;
    size_t bytes;
  };

  explicit Staging(Stream stream) : stream_(stream) {}
  bool Reserve(size_t bytes);
  const void* PutBytes(const void* data, size_t bytes);

  Stream stream_;
  PinnedMemory host_;
  DeviceMemory device_;
  size_t capacity_ = 0;
  size_t used_ = 0;
  std::vector<Piece> recent_;  // oldest first, at most kRecent
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MEMORY_H_
