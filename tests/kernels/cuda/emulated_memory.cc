// kernels/cuda/memory.h and graph.h on the host. Fresh memory is full of NaNs. A
// graph runs the launches that it was made of, whatever has become of its log.
// A stream of copies carries them out when they have to have been.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <utility>

#include "kernels/cuda/graph.h"
#include "kernels/cuda/memory.h"

namespace octogate::kernels::cuda {
namespace {

std::atomic<uint64_t> allocations{0};
std::atomic<uint64_t> bytes_to_host{0};

// The least alignment that kernels may count on; no more, so that
// AddressSanitizer finds what reads behind the end.
void* AllocatePoisoned(size_t bytes) {
  ++allocations;
  void* memory = std::aligned_alloc(16, (bytes + 15) / 16 * 16 + 16);
  if (memory != nullptr) std::memset(memory, 0xFF, (bytes + 15) / 16 * 16 + 16);
  return memory;
}

}  // namespace

namespace emulation {

struct CopyQueue {
  std::deque<std::function<void()>> left;
  uint64_t done = 0;

  uint64_t told() const { return done + left.size(); }
  void RunUntil(uint64_t count) {
    for (; done < count; ++done) {
      left.front()();
      left.pop_front();
    }
  }
};

uint64_t Allocations() { return allocations; }
uint64_t BytesToHost() { return bytes_to_host; }

}  // namespace emulation

namespace {

void Copy(Stream stream, const void* from, size_t bytes, void* to) {
  std::function<void()> copy = [=] { std::memcpy(to, from, bytes); };
  if (stream.handle.copies != nullptr) {
    stream.handle.copies->left.push_back(std::move(copy));
  } else {
    copy();
  }
}

}  // namespace

std::vector<DeviceInfo> ListDevices(std::string* /*problem*/) {
  return {{"emulated GPU", 8, 0, 4, size_t{1} << 32}};
}
bool OpenStream(int /*device*/, Stream* /*stream*/, std::string* /*problem*/) { return true; }
bool OpenCopyStream(int /*device*/, Stream* stream, std::string* /*problem*/) {
  stream->handle.copies = new emulation::CopyQueue;
  return true;
}
void UseDevice(int /*device*/) {}
void CloseStream(Stream stream) { delete stream.handle.copies; }
void Synchronize(Stream stream) {
  if (stream.handle.copies != nullptr) {
    stream.handle.copies->RunUntil(stream.handle.copies->told());
  }
}
void FreeDeviceMemory::operator()(void* memory) const { std::free(memory); }
void FreePinnedMemory::operator()(void* memory) const { std::free(memory); }
DeviceMemory AllocateDevice(size_t bytes) { return DeviceMemory(AllocatePoisoned(bytes)); }
PinnedMemory AllocatePinned(size_t bytes) { return PinnedMemory(AllocatePoisoned(bytes)); }
struct DeviceEvent {
  emulation::CopyQueue* queue = nullptr;
  uint64_t copies = 0;  // of the queue that are to be done
};
void FreeDeviceEvent::operator()(DeviceEvent* event) const { delete event; }
Event MakeEvent() { return Event(new DeviceEvent); }
void Record(Stream stream, DeviceEvent& event) {
  event.queue = stream.handle.copies;
  event.copies = event.queue != nullptr ? event.queue->told() : 0;
}
void WaitFor(DeviceEvent& event) {
  if (event.queue != nullptr) event.queue->RunUntil(event.copies);
}
void WaitInStream(Stream stream, DeviceEvent& event) {
  if (stream.handle.copies == nullptr) WaitFor(event);
}
size_t FreeDeviceBytes() { return size_t{1} << 32; }
void CopyToDevice(Stream stream, const void* from, size_t bytes, void* to) {
  Copy(stream, from, bytes, to);
}
void CopyToHost(Stream stream, const void* from, size_t bytes, void* to) {
  bytes_to_host += bytes;
  Copy(stream, from, bytes, to);
}
void CopyOnDevice(Stream stream, const void* from, size_t bytes, void* to) {
  Copy(stream, from, bytes, to);
}

struct RunnableGraph {
  LaunchLog launches;
};
void DestroyGraph::operator()(RunnableGraph* graph) const { delete graph; }
Graph MakeGraph(const LaunchLog& log, StreamHandle /*stream*/) {
  return Graph(new RunnableGraph{log});
}
void RunGraph(const RunnableGraph& graph, StreamHandle stream) { graph.launches.Run(stream); }

}  // namespace octogate::kernels::cuda
