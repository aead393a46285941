// What the tests of the CUDA backend share: the backend and the reference side by
// side, the same operation on both.
//
// Runs on the emulation everywhere; built without OCTOGATE_CUDA_EMULATED it runs
// on the GPU, and is skipped where none answers.

#ifndef OCTOGATE_TESTS_KERNELS_CUDA_BACKEND_FIXTURE_H_
#define OCTOGATE_TESTS_KERNELS_CUDA_BACKEND_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels::testing {

using Floats = std::vector<float>;

inline constexpr float kPoison = -12345.678f;

// Floats in a backend's memory.
class DeviceFloats {
 public:
  DeviceFloats(Backend& backend, const Floats& values)
      : backend_(backend), buffer_(backend.Allocate(values.size())) {
    backend_.Upload(values, buffer_->data());
  }
  float* data() { return buffer_->data(); }
  Floats Get() {
    Floats values(buffer_->size());
    backend_.Download(buffer_->data(), values);
    return values;
  }

 private:
  Backend& backend_;
  std::unique_ptr<Buffer> buffer_;
};

class CudaBackendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string problem;
    backend_ = cuda::MakeBackend({}, &problem);
#ifdef OCTOGATE_CUDA_EMULATED
    ASSERT_NE(backend_, nullptr) << problem;
#else
    if (backend_ == nullptr) GTEST_SKIP() << problem;
#endif
  }

  // What `operation` gives on both backends.
  ::testing::AssertionResult Same(const std::function<Floats(Backend&)>& operation) {
    return SameBits(operation(*reference_), operation(*backend_));
  }

  Floats Random(int64_t count, float scale = 1) {
    return random_.Floats(static_cast<size_t>(count), scale);
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Backend> reference_ = MakeReferenceBackend();
  RandomData random_;
};

}  // namespace octogate::kernels::testing

#endif  // OCTOGATE_TESTS_KERNELS_CUDA_BACKEND_FIXTURE_H_
