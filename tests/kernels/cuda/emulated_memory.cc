// kernels/cuda/memory.h and graph.h on the host. Fresh memory is full of NaNs. A
// graph runs the launches that it was made of, whatever has become of its log.

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/graph.h"
#include "kernels/cuda/memory.h"

namespace octogate::kernels::cuda {
namespace {

// The least alignment that kernels may count on; no more, so that
// AddressSanitizer finds what reads behind the end.
void* AllocatePoisoned(size_t bytes) {
  void* memory = std::aligned_alloc(16, (bytes + 15) / 16 * 16 + 16);
  if (memory != nullptr) std::memset(memory, 0xFF, (bytes + 15) / 16 * 16 + 16);
  return memory;
}

}  // namespace

std::vector<DeviceInfo> ListDevices(std::string* /*problem*/) {
  return {{"emulated GPU", 8, 0, 4, size_t{1} << 32}};
}
bool OpenStream(int /*device*/, Stream* /*stream*/, std::string* /*problem*/) { return true; }
void UseDevice(int /*device*/) {}
void CloseStream(Stream /*stream*/) {}
void Synchronize(Stream /*stream*/) {}
void FreeDeviceMemory::operator()(void* memory) const { std::free(memory); }
void FreePinnedMemory::operator()(void* memory) const { std::free(memory); }
DeviceMemory AllocateDevice(size_t bytes) { return DeviceMemory(AllocatePoisoned(bytes)); }
PinnedMemory AllocatePinned(size_t bytes) { return PinnedMemory(AllocatePoisoned(bytes)); }
struct DeviceEvent {};
void FreeDeviceEvent::operator()(DeviceEvent* event) const { delete event; }
Event MakeEvent() { return Event(new DeviceEvent); }
void Record(Stream /*stream*/, DeviceEvent& /*event*/) {}
void WaitFor(DeviceEvent& /*event*/) {}
size_t FreeDeviceBytes() { return size_t{1} << 32; }
void CopyToDevice(Stream /*stream*/, const void* from, size_t bytes, void* to) {
  std::memcpy(to, from, bytes);
}
void CopyToHost(Stream /*stream*/, const void* from, size_t bytes, void* to) {
  std::memcpy(to, from, bytes);
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
