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
void CopyOnDevice(Stream stream, const void* from, size_t bytes, void* to);

// When the device has come to a point of a stream.
struct DeviceEvent;
struct FreeDeviceEvent {
  void operator()(DeviceEvent* event) const;
};
using Event = std::unique_ptr<DeviceEvent, FreeDeviceEvent>;
Event MakeEvent();  // null where there is no memory
void Record(Stream stream, DeviceEvent& event);
// Until what was queued before the last Record is done; at once without one.
void WaitFor(DeviceEvent& event);
// The same for what is queued in `stream` from now on; the call does not wait.
void WaitInStream(Stream stream, DeviceEvent& event);

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

// The tables of a step, each in a place of its own until the next step, so that
// the kernels of equal steps find theirs at equal addresses: a table's place
// depends on the kinds and the sizes, rounded up to powers of two, of those
// before it, and not on their contents. All go to the device in one copy. What
// equals the last table of its kind is not kept again: all layers ask for the
// same ones.
class StepStaging {
 public:
  enum class Kind : uint8_t {
    kIds,
    kPositions,
    kFrequencies,
    kGathered,
    kRows,
    kPages,
    kPaths,
    kTiles,
    kParts,
    kEdits
  };
  static constexpr size_t kKinds = 10;

  // Null where memory cannot be had.
  static std::unique_ptr<StepStaging> Make(Stream stream, size_t bytes);

  // Begins a step, once the tables of the last one are on the device.
  void Begin();

  // Where the table will lie on the device, aligned to 16 bytes; nothing where
  // there is no room left in this step.
  template <typename T>
  const T* Put(Kind kind, std::span<const T> data) {
    return static_cast<const T*>(PutBytes(kind, data.data(), data.size_bytes()));
  }

  // Queues the copy of what was put since the step began or since the last Send.
  void Send();

 private:
  struct Piece {
    size_t offset = 0;
    size_t bytes = 0;
    bool there = false;
  };

  explicit StepStaging(Stream stream) : stream_(stream) {}
  const void* PutBytes(Kind kind, const void* data, size_t bytes);

  Stream stream_;
  PinnedMemory host_;
  DeviceMemory device_;
  Event sent_;
  size_t capacity_ = 0;
  size_t used_ = 0;
  size_t sent_bytes_ = 0;
  Piece last_[kKinds];
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MEMORY_H_
