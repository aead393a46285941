// A sentence encoder, all-MiniLM-L6-v2, on the CPU: the time of one text by the format of the
// weights. What it is worth to a router is measured by router_bench.
//
// The model is looked for in the folder that OCTOGATE_MINILM names, or where deploy/fetch-minilm.sh
// puts it; without it nothing is measured. A text of N tokens has its special tokens among them.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/report.h"
#include "workers/encoder/encoder_runner.h"

namespace octogate {
namespace {

using bench::AtMost;
using kernels::WeightFormat;
using Clock = std::chrono::steady_clock;

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::unique_ptr<workers::LoadedEncoder> Load(const std::filesystem::path& folder,
                                             WeightFormat format, int threads) {
  auto loaded = OrExit(workers::LoadEncoder(
      folder, {.encoder = {.weight_format = format}, .device = {.threads = threads}}));
  if (const absl::Status warm = loaded->WarmUp(absl::InfiniteFuture()); !warm.ok()) {
    OrExit<int>(warm);
  }
  return loaded;
}

// A whole call on one core: queue, pass, pooling.
void MeasureTimes(const std::filesystem::path& folder, bench::Report* report) {
  const std::pair<WeightFormat, const char*> formats[] = {{WeightFormat::kStored, "F32"},
                                                          {WeightFormat::kBf16, "BF16"},
                                                          {WeightFormat::kInt8, "INT8"},
                                                          {WeightFormat::kInt8Group, "INT8-group"}};
  for (const auto& [format, name] : formats) {
    const auto loaded = Load(folder, format, /*threads=*/1);
    for (const int tokens : {16, 64, 256}) {
      const std::vector<int32_t> text(static_cast<size_t>(tokens), 2003);
      std::vector<double> times;
      const int rounds = 12'000 / tokens + 20;
      for (int round = 0; round < rounds; ++round) {
        const auto start = Clock::now();
        OrExit(loaded->encoder->Embed({text}, absl::InfiniteFuture()));
        if (round >= 10) times.push_back(1e3 * SecondsSince(start));
      }
      std::sort(times.begin(), times.end());
      bench::Figure figure{.name = absl::StrCat(name, ", ", tokens, " tokens, p50"),
                           .value = times[times.size() / 2],
                           .unit = "ms"};
      if (tokens == 64 && format == WeightFormat::kInt8) figure.aim = AtMost(4);
      report->Add(figure);
      if (tokens == 64) {
        report->Add({.name = absl::StrCat(name, ", ", tokens, " tokens, p99"),
                     .value = times[times.size() * 99 / 100],
                     .unit = "ms"});
      }
    }
  }
}

int Main(int argc, char** argv) {
  bench::Report report("encoder", argc, argv);
  const char* named = std::getenv("OCTOGATE_MINILM");
  const std::filesystem::path folder =
      named != nullptr ? std::filesystem::path(named)
                       : std::filesystem::path(OCTOGATE_MODELS) / "all-MiniLM-L6-v2";
  if (!std::filesystem::exists(folder / "model.safetensors")) {
    std::cerr << folder
              << " holds no model; deploy/fetch-minilm.sh brings it. Nothing is measured.\n";
    return report.Print();
  }
  MeasureTimes(folder, &report);
  return report.Print();
}

}  // namespace
}  // namespace octogate

int main(int argc, char** argv) { return octogate::Main(argc, argv); }
