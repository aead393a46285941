// kernels/cuda/memory.h and graph.h on the host. Fresh memory is full of NaNs. A
// graph runs the launches that it was made of, whatever has become of its log.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/graph.h"
#include "kernels/cuda/memory.h"
#include "tests/kernels/cuda/emulated_stream.h"

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

uint64_t Allocations() { return allocations; }
uint64_t BytesToHost() { return bytes_to_host; }

}  // namespace emulation

namespace {

// Reads the host's memory no sooner than the stream gets there, pinned or not.
void Copy(Stream stream, const void* from, size_t bytes, void* to) {
  emulation::Enqueue(stream.handle, [=] { std::memcpy(to, from, bytes); });
}

}  // namespace

std::vector<DeviceInfo> ListDevices(std::string* /*problem*/) {
  return {{"emulated GPU", 8, 0, 4, size_t{1} << 32}};
}
bool OpenStream(int /*device*/, Stream* stream, std::string* /*problem*/) {
  stream->handle.queue = emulation::OpenQueue();
  return true;
}
void UseDevice(int /*device*/) {}
void CloseStream(Stream stream) { emulation::CloseQueue(stream.handle.queue); }
void Synchronize(Stream stream) { emulation::Finish(emulation::Told(stream.handle)); }
// As the runtime does, once nothing uses the memory any more.
void FreeDeviceMemory::operator()(void* memory) const {
  emulation::FinishAll();
  std::free(memory);
}
void FreePinnedMemory::operator()(void* memory) const {
  emulation::FinishAll();
  std::free(memory);
}
DeviceMemory AllocateDevice(size_t bytes) { return DeviceMemory(AllocatePoisoned(bytes)); }
PinnedMemory AllocatePinned(size_t bytes) { return PinnedMemory(AllocatePoisoned(bytes)); }
struct DeviceEvent {
  emulation::Point point;
};
void FreeDeviceEvent::operator()(DeviceEvent* event) const { delete event; }
Event MakeEvent() { return Event(new DeviceEvent); }
void Record(Stream stream, DeviceEvent& event) { event.point = emulation::Told(stream.handle); }
void WaitFor(DeviceEvent& event) { emulation::Finish(event.point); }
void WaitInStream(Stream stream, DeviceEvent& event) {
  emulation::Follow(stream.handle, event.point);
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
