#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cuda/stream.h"
#include "tests/bench/turns.h"
#include "tests/gpu/device_clock.h"

namespace octogate::bench {
namespace {

using kernels::cuda::CheckCuda;

constexpr double kSampleSeconds = 0.02;  // at least, of work

double Seconds(cudaStream_t stream, cudaGraphExec_t graph, int runs, cudaEvent_t begin,
               cudaEvent_t end) {
  CheckCuda(cudaEventRecord(begin, stream), "timing");
  for (int i = 0; i < runs; ++i) CheckCuda(cudaGraphLaunch(graph, stream), "running a graph");
  CheckCuda(cudaEventRecord(end, stream), "timing");
  CheckCuda(cudaEventSynchronize(end), "timing");
  float milliseconds = 0;
  CheckCuda(cudaEventElapsedTime(&milliseconds, begin, end), "timing");
  return milliseconds * 1e-3 / runs;
}

}  // namespace

double SecondsOnDevice(cudaStream_t stream, const std::function<void()>& enqueue, int samples) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t runnable = nullptr;
  enqueue();  // loads the kernels, which a capture may not
  CheckCuda(cudaStreamSynchronize(stream), "warming up");
  CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing a graph");
  enqueue();
  CheckCuda(cudaStreamEndCapture(stream, &graph), "capturing a graph");
  CheckCuda(cudaGraphInstantiate(&runnable, graph, 0), "capturing a graph");
  cudaEvent_t begin;
  cudaEvent_t end;
  CheckCuda(cudaEventCreate(&begin), "timing");
  CheckCuda(cudaEventCreate(&end), "timing");
  const double estimate = Seconds(stream, runnable, 3, begin, end);
  const int runs = std::max(1, static_cast<int>(kSampleSeconds / estimate) + 1);
  std::vector<double> seconds;
  for (int i = 0; i < samples; ++i) seconds.push_back(Seconds(stream, runnable, runs, begin, end));
  CheckCuda(cudaEventDestroy(begin), "timing");
  CheckCuda(cudaEventDestroy(end), "timing");
  CheckCuda(cudaGraphExecDestroy(runnable), "freeing a graph");
  CheckCuda(cudaGraphDestroy(graph), "freeing a graph");
  return Median(std::move(seconds));
}

double CopyBytesPerSecond(cudaStream_t stream, size_t bytes) {
  void* from = nullptr;
  void* to = nullptr;
  CheckCuda(cudaMalloc(&from, bytes), "allocating");
  CheckCuda(cudaMalloc(&to, bytes), "allocating");
  CheckCuda(cudaMemset(from, 0x5A, bytes), "filling memory");
  const double seconds = SecondsOnDevice(stream, [&] {
    CheckCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copying");
  });
  CheckCuda(cudaFree(from), "freeing memory");
  CheckCuda(cudaFree(to), "freeing memory");
  return 2 * static_cast<double>(bytes) / seconds;
}

}  // namespace octogate::bench
