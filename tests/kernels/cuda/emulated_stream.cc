#include "tests/kernels/cuda/emulated_stream.h"

#include <deque>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

namespace octogate::kernels::cuda::emulation {

// Guarded by Device::mutex.
class Queue {
 public:
  Queue() { DrawWhen(); }

  uint64_t told() const { return done_ + left_.size(); }
  void Add(std::function<void()> work) {
    left_.push_back(std::move(work));
    if (at_once_) RunUntil(told());
  }
  void WaitUntil(uint64_t count) {
    RunUntil(count);
    DrawWhen();
  }

 private:
  void DrawWhen() { at_once_ = Random() % 4 == 0; }
  // Work may wait for other queues, which may wait for what was done here before.
  void RunUntil(uint64_t count) {
    while (done_ < count) {
      left_.front()();
      left_.pop_front();
      ++done_;
    }
  }

  std::deque<std::function<void()>> left_;
  uint64_t done_ = 0;
  bool at_once_;
};

namespace {

struct Device {
  std::mutex mutex;
  std::vector<Queue*> queues;
};

Device& TheDevice() {
  static Device* const device = new Device;  // outlives memory that is freed at exit
  return *device;
}

}  // namespace

Queue* OpenQueue() {
  Device& device = TheDevice();
  const std::lock_guard lock(device.mutex);
  device.queues.push_back(new Queue);
  return device.queues.back();
}

void CloseQueue(Queue* queue) {
  Device& device = TheDevice();
  const std::lock_guard lock(device.mutex);
  queue->WaitUntil(queue->told());
  std::erase(device.queues, queue);
  delete queue;
}

void Enqueue(Stream stream, std::function<void()> work) {
  if (stream.queue == nullptr) return work();
  const std::lock_guard lock(TheDevice().mutex);
  stream.queue->Add(std::move(work));
}

Point Told(Stream stream) {
  if (stream.queue == nullptr) return {};
  const std::lock_guard lock(TheDevice().mutex);
  return {stream.queue, stream.queue->told()};
}

void Finish(const Point& point) {
  if (point.queue == nullptr) return;
  const std::lock_guard lock(TheDevice().mutex);
  point.queue->WaitUntil(point.count);
}

void Follow(Stream stream, const Point& point) {
  if (point.queue == nullptr) return;
  if (stream.queue == nullptr) return Finish(point);
  Enqueue(stream, [point] { point.queue->WaitUntil(point.count); });
}

void FinishAll() {
  Device& device = TheDevice();
  const std::lock_guard lock(device.mutex);
  for (Queue* queue : device.queues) queue->WaitUntil(queue->told());
}

}  // namespace octogate::kernels::cuda::emulation
