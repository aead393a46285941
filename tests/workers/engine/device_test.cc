// The choice between the CPU and a GPU, on machines with and without one.
#include "workers/engine/device.h"

#include <sched.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/test_models.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(DeviceTest, NamesAreThoseOfTheFlag) {
  EXPECT_EQ(ParseDevice("auto"), DeviceName{.device = Device::kAuto});
  EXPECT_EQ(ParseDevice("cpu"), DeviceName{.device = Device::kCpu});
  EXPECT_EQ(ParseDevice("cuda"), DeviceName{.device = Device::kCuda});
  EXPECT_EQ(ParseDevice("cuda:0"), ParseDevice("cuda"));
  EXPECT_EQ(ParseDevice("cuda:12"), (DeviceName{.device = Device::kCuda, .gpu = 12}));
  for (const char* name : {"", "CUDA", "cuda:", "cuda:-1", "cuda: 1", "cuda:1x", "cuda:99999999999",
                           "cpu:1", "auto:1", "cud", "cuda1"}) {
    EXPECT_EQ(ParseDevice(name), std::nullopt) << name;
  }
}

TEST(DeviceTest, TheCpuIsTakenWhereItIsAskedFor) {
  const auto chosen = ChooseBackend({.device = Device::kCpu, .threads = 1});
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_THAT(chosen->backend->Describe(), StartsWith("cpu-"));
  EXPECT_EQ(chosen->no_gpu, "");
}

// Threads of this process that may run on one CPU alone.
int PinnedThreads() {
  int pinned = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    cpu_set_t allowed;
    const pid_t id = static_cast<pid_t>(std::stol(task.path().filename().string()));
    if (sched_getaffinity(id, sizeof(allowed), &allowed) != 0) continue;  // it has ended
    pinned += CPU_COUNT(&allowed) == 1 ? 1 : 0;
  }
  return pinned;
}

TEST(DeviceTest, ThreadsAreBoundToCpusWhereThatIsAskedFor) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "this machine has one CPU";
  const int before = PinnedThreads();
  const auto free = ChooseBackend({.device = Device::kCpu, .threads = 3});
  ASSERT_TRUE(free.ok()) << free.status();
  EXPECT_EQ(PinnedThreads(), before);
  const auto pinned = ChooseBackend({.device = Device::kCpu, .threads = 3, .pin_threads = true});
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (PinnedThreads() < before + 2 && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();  // they bind themselves when they start
  }
  EXPECT_EQ(PinnedThreads(), before + 2) << "all but the caller";
}

// The CPUs that the calling thread may use, in order.
std::vector<int> AllowedCpus() {
  std::vector<int> cpus;
  cpu_set_t allowed;
  EXPECT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  }
  return cpus;
}

TEST(DeviceTest, TheThreadThatDrivesABackendHasTheFirstCpu) {
  const std::vector<int> all = AllowedCpus();
  for (const bool pin : {false, true}) {
    for (int first = 0; first <= static_cast<int>(all.size()); ++first) {
      const auto chosen = ChooseBackend(
          {.device = Device::kCpu, .threads = 2, .pin_threads = pin, .first_cpu = first});
      ASSERT_TRUE(chosen.ok()) << chosen.status();
      std::vector<int> bound;
      std::thread([&] {
        chosen->backend->BindThread();
        bound = AllowedCpus();
      }).join();
      const int cpu = all[static_cast<size_t>(first) % all.size()];
      EXPECT_EQ(bound, pin ? std::vector<int>{cpu} : all);
    }
  }
  EXPECT_EQ(AllowedCpus(), all);
}

TEST(DeviceTest, AnEngineBindsItsThreadBesideThoseOfItsBackend) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "this machine has one CPU";
  const int before = PinnedThreads();
  auto chosen = ChooseBackend({.device = Device::kCpu, .threads = 2, .pin_threads = true});
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  const auto engine =
      Engine::Create(OpenCheckpoint(FixturePath("llama")), nullptr, std::move(chosen->backend), {});
  ASSERT_TRUE(engine.ok()) << engine.status();
  EXPECT_TRUE((*engine)->NextTokenLogits({1, 2}, {1}, absl::InfiniteFuture()).ok());
  EXPECT_EQ(PinnedThreads(), before + 2);
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
#ifdef OCTOGATE_CUDA_EMULATED
  EXPECT_TRUE(gpu.ok());
#endif
}

TEST(DeviceTest, AGpuRoundsItsInputsWhereThatIsAskedFor) {
  const auto gpu = ChooseBackend({.device = Device::kCuda});
  if (!gpu.ok()) GTEST_SKIP() << gpu.status();
  EXPECT_THAT(gpu->backend->Describe(), Not(HasSubstr("rounded inputs")));
  const auto rounded =
      ChooseBackend({.device = Device::kCuda, .activations = kernels::Activations::kBF16});
  ASSERT_TRUE(rounded.ok()) << rounded.status();
  EXPECT_THAT(rounded->backend->Describe(), HasSubstr(", rounded inputs)"));
  // 1 + 2^-8 + 2^-16 is half way between two numbers of 8 bits, and a little more.
  const uint16_t one = 0x3F80;
  const float x = 1 + 1.0f / 256 + 1.0f / 65536;
  for (const auto* chosen : {&*gpu, &*rounded}) {
    kernels::Backend& backend = *chosen->backend;
    const auto weight =
        backend.LoadWeight({.data = &one, .dtype = kernels::DType::kBF16, .rows = 1, .cols = 1},
                           kernels::WeightFormat::kStored);
    const auto in = backend.Allocate(1);
    const auto out = backend.Allocate(1);
    backend.Upload({&x, 1}, in->data());
    backend.MatMul(*weight, nullptr, in->data(), 1, false, out->data(), 1);
    float y = 0;
    backend.Download(out->data(), {&y, 1});
    EXPECT_EQ(y, chosen == &*gpu ? x : 1 + 1.0f / 128);
  }
  const auto pairs =
      ChooseBackend({.device = Device::kAuto, .activations = kernels::Activations::kBF16Pairs});
  EXPECT_EQ(pairs.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(DeviceTest, AGpuThatIsNotThereIsNamed) {
  const auto gpu = ChooseBackend({.device = Device::kCuda, .gpu = 1000});
  EXPECT_EQ(gpu.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(gpu.status().message()), HasSubstr("the GPU 1000 cannot be used: "));
}

}  // namespace
}  // namespace octogate::workers
