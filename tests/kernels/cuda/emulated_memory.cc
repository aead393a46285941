// kernels/cuda/memory.h on the host. Fresh memory is full of NaNs.

#include <cstdlib>
#include <cstring>

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
size_t FreeDeviceBytes() { return size_t{1} << 32; }
void CopyToDevice(Stream /*stream*/, const void* from, size_t bytes, void* to) {
  std::memcpy(to, from, bytes);
}
void CopyToHost(Stream /*stream*/, const void* from, size_t bytes, void* to) {
  std::memcpy(to, from, bytes);
}

}  // namespace octogate::kernels::cuda
