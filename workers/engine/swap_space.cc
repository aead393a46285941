#include "workers/engine/swap_space.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <limits>
#include <utility>

#include "kernels/host_memory.h"

namespace octogate::workers {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMeasurements = 4;
// Pages after which a copy counts half.
constexpr double kPaceMemory = 1024;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

SwapSpace::Saved::~Saved() {
  space_->free_.insert(space_->free_.end(), slots_.rbegin(), slots_.rend());
}

void SwapSpace::Pace::Add(double more_seconds, size_t more_pages) {
  if (pages > kPaceMemory) {
    seconds /= 2;
    pages /= 2;
  }
  seconds += more_seconds;
  pages += static_cast<double>(more_pages);
}

SwapSpace::SwapSpace(size_t page_bytes, size_t slots, std::unique_ptr<kernels::HostBlock> memory,
                     Copier copier)
    : page_bytes_(page_bytes),
      total_slots_(slots),
      memory_(std::move(memory)),
      copier_(std::move(copier)) {
  free_.reserve(slots);
  for (size_t slot = slots; slot > 0; --slot) free_.push_back(static_cast<int32_t>(slot - 1));
}

SwapSpace::~SwapSpace() {
  if (copier_.finish) copier_.finish();
}

std::unique_ptr<SwapSpace> SwapSpace::Make(size_t page_bytes, uint64_t bytes, Copier copier) {
  assert(page_bytes > 0);
  const uint64_t slots =
      std::min<uint64_t>(bytes / page_bytes, std::numeric_limits<int32_t>::max());
  const size_t room = static_cast<size_t>(slots) * page_bytes;
  auto memory = copier.allocate ? copier.allocate(room) : kernels::MakeHostBlock(room);
  if (memory == nullptr) return nullptr;
  return std::unique_ptr<SwapSpace>(
      new SwapSpace(page_bytes, static_cast<size_t>(slots), std::move(memory), std::move(copier)));
}

std::span<std::byte> SwapSpace::Slot(int32_t slot) const {
  return memory_->bytes().subspan(static_cast<size_t>(slot) * page_bytes_, page_bytes_);
}

std::unique_ptr<SwapSpace::Saved> SwapSpace::Save(std::span<const int32_t> pages) {
  if (pages.size() > free_.size()) return nullptr;
  const auto begin = Clock::now();
  std::unique_ptr<Saved> saved(new Saved(this));
  for (const int32_t page : pages) {
    saved->slots_.push_back(free_.back());
    free_.pop_back();
    copier_.out(page, Slot(saved->slots_.back()));
  }
  const double seconds = SecondsSince(begin);
  if (!copier_.finish) out_.Add(seconds, pages.size());
  time_ += absl::Seconds(seconds);
  return saved;
}

void SwapSpace::Restore(const Saved& saved, int first, std::span<const int32_t> pages) {
  assert(saved.space_ == this && first >= 0 && pages.size() + first <= saved.slots_.size());
  const auto begin = Clock::now();
  for (size_t i = 0; i < pages.size(); ++i) {
    copier_.in(Slot(saved.slots_[static_cast<size_t>(first) + i]), pages[i]);
  }
  const double seconds = SecondsSince(begin);
  if (!copier_.finish) in_.Add(seconds, pages.size());
  time_ += absl::Seconds(seconds);
}

void SwapSpace::Measure() {
  constexpr std::array<int32_t, 1> kPage = {0};
  for (int i = 0; i < kMeasurements; ++i) {
    const auto begin = Clock::now();
    const std::unique_ptr<Saved> saved = Save(kPage);
    if (saved == nullptr) return;
    if (copier_.finish) {
      copier_.finish();
      out_.Add(SecondsSince(begin), 1);
    }
    const auto half = Clock::now();
    Restore(*saved, 0, kPage);
    if (copier_.finish) {
      copier_.finish();
      in_.Add(SecondsSince(half), 1);
    }
    // The first copy is the first to touch the memory.
    if (i == 0) out_ = in_ = {};
  }
  time_ = absl::ZeroDuration();
}

double SwapSpace::RoundTripSeconds(int pages) const {
  return pages * (out_.per_page() + in_.per_page());
}

}  // namespace octogate::workers
