// The choice between the CPU and a GPU, on machines with and without one.
#include "workers/engine/device.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(DeviceTest, NamesAreThoseOfTheFlag) {
  EXPECT_EQ(ParseDevice("auto"), Device::kAuto);
  EXPECT_EQ(ParseDevice("cpu"), Device::kCpu);
  EXPECT_EQ(ParseDevice("cuda"), Device::kCuda);
  EXPECT_EQ(ParseDevice("CUDA"), std::nullopt);
  EXPECT_EQ(ParseDevice(""), std::nullopt);
}

TEST(DeviceTest, TheCpuIsTakenWhereItIsAskedFor) {
  const auto chosen = ChooseBackend({.device = Device::kCpu, .threads = 1});
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_THAT(chosen->backend->Describe(), StartsWith("cpu-"));
  EXPECT_EQ(chosen->no_gpu, "");
}

TEST(DeviceTest, AGpuIsTakenWhereOneAnswers) {
  const auto gpu = ChooseBackend({.device = Device::kCuda});
  const auto any = ChooseBackend({.device = Device::kAuto, .threads = 1});
  ASSERT_TRUE(any.ok()) << any.status();
  if (gpu.ok()) {
    EXPECT_THAT(gpu->backend->Describe(), StartsWith("cuda ("));
    EXPECT_EQ(any->backend->Describe(), gpu->backend->Describe());
    EXPECT_EQ(any->no_gpu, "");
  } else {  // why, and what to do
    EXPECT_EQ(gpu.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(gpu.status().message()), HasSubstr("no GPU can be used: "));
    EXPECT_THAT(std::string(gpu.status().message()), HasSubstr("choose the device cpu or auto"));
    EXPECT_THAT(any->backend->Describe(), StartsWith("cpu-"));
    EXPECT_NE(any->no_gpu, "");
    EXPECT_THAT(std::string(gpu.status().message()), HasSubstr(any->no_gpu));
  }
}

}  // namespace
}  // namespace octogate::workers
