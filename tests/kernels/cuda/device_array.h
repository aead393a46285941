// Memory of the device, for tests that are compiled both for the emulation and
// for a GPU: exact in size, so that what reads or writes beyond it is found
// (AddressSanitizer; compute-sanitizer).

#ifndef OCTOGATE_TESTS_KERNELS_CUDA_DEVICE_ARRAY_H_
#define OCTOGATE_TESTS_KERNELS_CUDA_DEVICE_ARRAY_H_

#include <cstddef>
#include <cstring>
#include <new>
#include <vector>

#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda::testing {

#if defined(__CUDACC__)
inline bool DeviceAnswers() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}
#else
inline bool DeviceAnswers() { return true; }
#endif

template <typename T>
class DeviceArray {
 public:
  // Undefined at first.
  explicit DeviceArray(size_t count) : count_(count) {
#if defined(__CUDACC__)
    CheckCuda(cudaMalloc(&data_, bytes() + 1), "allocating for a test");
#else
    data_ = static_cast<T*>(::operator new (bytes(), std::align_val_t{256}));
#endif
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    Upload(values.data());
  }
  ~DeviceArray() {
#if defined(__CUDACC__)
    CheckCuda(cudaFree(data_), "freeing a test's memory");
#else
    ::operator delete (data_, std::align_val_t{256});
#endif
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  size_t bytes() const { return count_ * sizeof(T); }

  void Upload(const T* from) {
#if defined(__CUDACC__)
    CheckCuda(cudaMemcpy(data_, from, bytes(), cudaMemcpyHostToDevice), "copying to the device");
#else
    if (count_ > 0) std::memcpy(data_, from, bytes());
#endif
  }
  // Waits for the launches before.
  void Download(T* to) const {
#if defined(__CUDACC__)
    CheckCuda(cudaMemcpy(to, data_, bytes(), cudaMemcpyDeviceToHost), "copying from the device");
#else
    if (count_ > 0) std::memcpy(to, data_, bytes());
#endif
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

}  // namespace octogate::kernels::cuda::testing

#endif  // OCTOGATE_TESTS_KERNELS_CUDA_DEVICE_ARRAY_H_
