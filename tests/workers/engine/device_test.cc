// The choice between the CPU and a GPU, on machines with and without one.
#include "workers/engine/device.h"

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/thread_cpus.h"
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
    EXPECT_NE(WhyNoDevice(name), "") << name;
  }
  for (const char* name : {"auto", "cpu", "cuda", "cuda:12"}) EXPECT_EQ(WhyNoDevice(name), "");
  EXPECT_EQ(WhyNoDevice("gpu"), "'gpu' is none of auto, cpu, cuda and cuda:N");
}

TEST(DeviceTest, TheCpuIsTakenWhereItIsAskedFor) {
  const auto chosen = ChooseBackend({.device = Device::kCpu, .threads = 1});
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_THAT(chosen->backend->Describe(), StartsWith("cpu-"));
  EXPECT_EQ(chosen->no_gpu, "");
}

std::set<pid_t> Threads() {
  std::set<pid_t> threads;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    threads.insert(static_cast<pid_t>(std::stol(task.path().filename().string())));
  }
  return threads;
}

// Of each of these threads, which CPUs it may run on.
std::multiset<std::vector<int>> CpusOfNewThreads(const std::set<pid_t>& old) {
  std::multiset<std::vector<int>> cpus;
  for (const pid_t thread : Threads()) {
    if (!old.contains(thread)) cpus.insert(CpusOfThread(thread));
  }
  return cpus;
}

TEST(DeviceTest, ThreadsAreBoundToCpusWhereThatIsAskedFor) {
  const std::vector<int> all = CpusOfThread();
  const std::vector<int> second = {all[1 % all.size()]};
  const std::vector<int> third = {all[2 % all.size()]};
  for (const bool pin : {false, true}) {
    const std::set<pid_t> before = Threads();
    const auto chosen = ChooseBackend({.device = Device::kCpu, .threads = 3, .pin_threads = pin});
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    // All but the caller.
    const std::multiset<std::vector<int>> expected =
        pin ? std::multiset{second, third} : std::multiset{all, all};
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (CpusOfNewThreads(before) != expected && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::yield();  // they bind themselves when they start
    }
    EXPECT_EQ(CpusOfNewThreads(before), expected);
  }
}

TEST(DeviceTest, TheThreadThatDrivesABackendHasTheFirstCpu) {
  const std::vector<int> all = CpusOfThread();
  for (const bool pin : {false, true}) {
    for (int first = 0; first <= static_cast<int>(all.size()); ++first) {
      const auto chosen = ChooseBackend(
          {.device = Device::kCpu, .threads = 2, .pin_threads = pin, .first_cpu = first});
      ASSERT_TRUE(chosen.ok()) << chosen.status();
      std::vector<int> bound;
      std::thread([&] {
        chosen->backend->BindThread();
        bound = CpusOfThread();
      }).join();
      const int cpu = all[static_cast<size_t>(first) % all.size()];
      EXPECT_EQ(bound, pin ? std::vector<int>{cpu} : all);
    }
  }
  EXPECT_EQ(CpusOfThread(), all);
}

TEST(DeviceTest, AnEngineBindsItsThread) {
  const std::vector<int> all = CpusOfThread();
  for (const bool pin : {false, true}) {
    auto chosen = ChooseBackend({.device = Device::kCpu, .threads = 1, .pin_threads = pin});
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    const auto engine = Engine::Create(OpenCheckpoint(FixturePath("llama")), nullptr,
                                       std::move(chosen->backend), {});
    ASSERT_TRUE(engine.ok()) << engine.status();
    GenerateRequest request;
    request.prompt = {1, 2};
    request.max_tokens = 1;
    std::vector<int> bound;
    absl::Notification done;
    ASSERT_TRUE((*engine)
                    ->Submit(std::move(request),
                             [&](const GenerateEvent& event) {
                               bound = CpusOfThread();
                               if (event.finish != FinishReason::kNone) done.Notify();
                             })
                    .ok());
    done.WaitForNotification();
    EXPECT_EQ(bound, pin ? std::vector<int>{all[0]} : all);
  }
  EXPECT_EQ(CpusOfThread(), all);
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
  const auto rounded =
      ChooseBackend({.device = Device::kCuda, .activations = kernels::Activations::kBF16});
  if (!gpu.ok()) {
    EXPECT_EQ(rounded.status(), gpu.status());
    return;
  }
  EXPECT_THAT(gpu->backend->Describe(), Not(HasSubstr("rounded inputs")));
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
}

TEST(DeviceTest, BF16PairsAreForCpusAlone) {
  const auto gpu = ChooseBackend({.device = Device::kCuda});
  DeviceOptions options = {.threads = 1, .activations = kernels::Activations::kBF16Pairs};
  for (const Device device : {Device::kCpu, Device::kAuto, Device::kCuda}) {
    options.device = device;
    const auto pairs = ChooseBackend(options);
    if (device == Device::kCpu || (device == Device::kAuto && !gpu.ok())) {
      ASSERT_TRUE(pairs.ok()) << pairs.status();
      EXPECT_THAT(pairs->backend->Describe(), StartsWith("cpu-"));
      continue;
    }
    // Also where no GPU answers: one would not do either.
    EXPECT_EQ(pairs.status().code(), absl::StatusCode::kInvalidArgument) << pairs.status();
    EXPECT_THAT(std::string(pairs.status().message()), HasSubstr("bf16-pairs"));
    EXPECT_THAT(std::string(pairs.status().message()), HasSubstr("or the device cpu"));
  }
}

TEST(DeviceTest, AGpuThatIsNotThereIsNamed) {
  const auto gpu = ChooseBackend({.device = Device::kCuda, .gpu = 1000});
  EXPECT_EQ(gpu.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(gpu.status().message()), HasSubstr("the GPU 1000 cannot be used: "));
}

}  // namespace
}  // namespace octogate::workers
