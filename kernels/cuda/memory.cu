#include <cstdio>
#include <cstdlib>
#include <new>

#include "kernels/cuda/memory.h"

namespace octogate::kernels::cuda {
namespace {

std::string Explain(cudaError_t error) {
  return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
}

}  // namespace

void CheckCuda(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA failed while %s: %s; the process cannot go on and ends\n", doing,
               Explain(error).c_str());
  std::abort();
}

std::vector<DeviceInfo> ListDevices(std::string* problem) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();  // forget it
    int driver = 0;      // stays so where there is none
    cudaDriverGetVersion(&driver);
    *problem = driver == 0 ? "this machine has no NVIDIA driver" : Explain(error);
    if (error == cudaErrorInsufficientDriver) {
      *problem +=
          "; install one that supports CUDA " + std::to_string(CUDART_VERSION / 1000) + " or newer";
    }
    return {};
  }
  if (count == 0) *problem = "the CUDA runtime finds no device";
  std::vector<DeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (const cudaError_t failed = cudaGetDeviceProperties(&properties, i); failed != cudaSuccess) {
      cudaGetLastError();
      *problem = "device " + std::to_string(i) + " does not answer: " + Explain(failed);
      return {};
    }
    devices.push_back({properties.name, properties.major, properties.minor,
                       properties.multiProcessorCount, properties.totalGlobalMem});
  }
  return devices;
}

bool OpenStream(int device, Stream* stream, std::string* problem) {
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) {
    error = cudaStreamCreateWithFlags(&stream->handle, cudaStreamNonBlocking);
  }
  if (error == cudaSuccess) return true;
  cudaGetLastError();
  *problem = "device " + std::to_string(device) + " does not answer: " + Explain(error);
  return false;
}

void UseDevice(int device) { CheckCuda(cudaSetDevice(device), "choosing the device"); }
void CloseStream(Stream stream) { cudaStreamDestroy(stream.handle); }
void Synchronize(Stream stream) {
  CheckCuda(cudaStreamSynchronize(stream.handle), "waiting for the device");
}

void FreeDeviceMemory::operator()(void* memory) const { cudaFree(memory); }
void FreePinnedMemory::operator()(void* memory) const { cudaFreeHost(memory); }

DeviceMemory AllocateDevice(size_t bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes == 0 ? 1 : bytes) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return DeviceMemory(memory);
}

PinnedMemory AllocatePinned(size_t bytes) {
  void* memory = nullptr;
  if (cudaMallocHost(&memory, bytes == 0 ? 1 : bytes) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return PinnedMemory(memory);
}

struct DeviceEvent {
  cudaEvent_t event;
};

void FreeDeviceEvent::operator()(DeviceEvent* event) const {
  cudaEventDestroy(event->event);
  delete event;
}

Event MakeEvent() {
  cudaEvent_t made;
  if (cudaEventCreateWithFlags(&made, cudaEventDisableTiming) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  auto* event = new (std::nothrow) DeviceEvent{made};
  if (event == nullptr) cudaEventDestroy(made);
  return Event(event);
}

void Record(Stream stream, DeviceEvent& event) {
  CheckCuda(cudaEventRecord(event.event, stream.handle), "marking a point of the stream");
}
void WaitFor(DeviceEvent& event) {
  CheckCuda(cudaEventSynchronize(event.event), "waiting for the device");
}

void WaitInStream(Stream stream, DeviceEvent& event) {
  CheckCuda(cudaStreamWaitEvent(stream.handle, event.event, 0), "ordering two streams");
}

size_t FreeDeviceBytes() {
  size_t free = 0;
  size_t total = 0;
  CheckCuda(cudaMemGetInfo(&free, &total), "asking for the free memory");
  return free;
}

void CopyToDevice(Stream stream, const void* from, size_t bytes, void* to) {
  CheckCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream.handle),
            "copying to the device");
}
void CopyToHost(Stream stream, const void* from, size_t bytes, void* to) {
  CheckCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream.handle),
            "copying from the device");
}
void CopyOnDevice(Stream stream, const void* from, size_t bytes, void* to) {
  CheckCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream.handle),
            "copying on the device");
}

}  // namespace octogate::kernels::cuda
