#include "common/control_groups.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>

namespace octogate {
namespace {

class ControlGroupsTest : public testing::Test {
 protected:
  ControlGroupsTest() {
    std::string name = testing::TempDir() + "control_groups_XXXXXX";
    folder_ = ::mkdtemp(name.data());
    files_ = {.membership = folder_ + "/membership", .root = folder_ + "/fs"};
  }
  ~ControlGroupsTest() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& path, std::string_view text) {
    const std::filesystem::path file = folder_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  const int machine_ = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::string folder_;
  ControlGroupFiles files_;
};

TEST_F(ControlGroupsTest, WithoutGroupsTheMachineIsTheLimit) {
  EXPECT_EQ(AvailableCpus(files_), machine_);
  EXPECT_EQ(BytesLeftByControlGroups(files_), kUnlimitedBytes);
}

TEST_F(ControlGroupsTest, AQuotaIsRoundedDownToWholeCpus) {
  Write("membership", "0::/pod\n");
  for (const auto& [quota, cpus] : {std::pair("100000 100000", 1),
                                    {"50000 100000", 1},
                                    {"250000 100000", 2},
                                    {"max 100000", 1 << 20},
                                    {"nonsense", 1 << 20},
                                    {"-5 100000", 1 << 20},
                                    {"100000 0", 1 << 20}}) {
    Write("fs/pod/cpu.max", quota);
    EXPECT_EQ(AvailableCpus(files_), std::min(cpus, machine_)) << quota;
  }
}

TEST_F(ControlGroupsTest, LimitsHoldForAllGroupsAboveToo) {
  Write("membership", "0::/slice/pod/container\n");
  Write("fs/slice/cpu.max", "100000 100000");
  Write("fs/slice/pod/container/cpu.max", "max 100000");
  Write("fs/slice/pod/memory.max", "1000");
  Write("fs/slice/pod/memory.current", "700");
  Write("fs/slice/pod/memory.stat", "anon 400\nactive_file 50\ninactive_file 150\n");
  Write("fs/slice/memory.max", "max");
  EXPECT_EQ(AvailableCpus(files_), 1);
  EXPECT_EQ(BytesLeftByControlGroups(files_), 1000u - (700 - 200));
}

TEST_F(ControlGroupsTest, Version1HasAFolderForEachController) {
  Write("membership", "7:cpu,cpuacct:/pod\n3:memory:/pod\n1:name=systemd:/else\nnonsense\n");
  Write("fs/cpu/pod/cpu.cfs_quota_us", "100000");
  Write("fs/cpu/pod/cpu.cfs_period_us", "100000");
  Write("fs/memory/pod/memory.limit_in_bytes", "500");
  Write("fs/memory/pod/memory.usage_in_bytes", "900");
  EXPECT_EQ(AvailableCpus(files_), 1);
  EXPECT_EQ(BytesLeftByControlGroups(files_), 0u) << "more is used than allowed";
  Write("fs/cpu/pod/cpu.cfs_quota_us", "-1");
  EXPECT_EQ(AvailableCpus(files_), machine_);
}

}  // namespace
}  // namespace octogate
