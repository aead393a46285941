// Tests of the CPU backend by instruction set: those that this CPU has not are skipped.

#ifndef OCTOGATE_TESTS_KERNELS_ISA_TEST_H_
#define OCTOGATE_TESTS_KERNELS_ISA_TEST_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels::testing {

class IsaTest : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!IsSupported(GetParam())) GTEST_SKIP() << "this CPU has no " << Name(GetParam());
    Use(random_.Int(1, 3));
  }

  // Another backend, of so many threads.
  void Use(int threads) {
    backend_ = MakeCpuBackend({.threads = threads, .isa = GetParam()});
    ASSERT_NE(backend_, nullptr);
  }

  std::unique_ptr<Backend> backend_;
  const std::unique_ptr<Backend> reference_ = MakeReferenceBackend();
  RandomData random_;
};

inline std::string IsaName(const ::testing::TestParamInfo<Isa>& info) {
  return std::string(Name(info.param));
}

}  // namespace octogate::kernels::testing

#endif  // OCTOGATE_TESTS_KERNELS_ISA_TEST_H_
