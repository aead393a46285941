#include <algorithm>
#include <cstdint>
#include <new>
#include <thread>
#include <utility>

#include "kernels/cuda/weight_copies.h"

namespace octogate::kernels::cuda {
namespace {

// Some groups of today's models; small in the emulation, so that tests get beyond it.
#if defined(__CUDACC__)
constexpr size_t kPieceBytes = size_t{16} << 20;
#else
constexpr size_t kPieceBytes = size_t{4} << 10;
#endif
constexpr int kMaxThreads = 8;

}  // namespace

WeightCopies::WeightCopies(Stream stream)
    : stream_(stream),
      threads_(std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads)) {}

std::unique_ptr<WeightCopies> WeightCopies::Make(Stream stream) {
  std::unique_ptr<WeightCopies> made(new (std::nothrow) WeightCopies(stream));
  if (made == nullptr) return nullptr;
  for (Piece& piece : made->pieces_) {
    piece.copied = MakeEvent();
    if (piece.copied == nullptr) return nullptr;
  }
  return made->Reserve(kPieceBytes) ? std::move(made) : nullptr;
}

bool WeightCopies::Reserve(size_t bytes) {
  if (bytes <= piece_bytes_) return true;
  piece_bytes_ = 0;
  for (Piece& piece : pieces_) {
    piece.memory = nullptr;
    piece.memory = AllocatePinned(bytes);
    if (piece.memory == nullptr) return false;
  }
  piece_bytes_ = bytes;
  return true;
}

PartRunner WeightCopies::part_runner() {
  return [this](int parts, const std::function<void(int)>& f) {
    threads_.Run(parts, [&f](int part, int /*thread*/) { f(part); });
  };
}

bool WeightCopies::Copy(const RowMajorCodes& codes, void* to) {
  const size_t group_bytes = codes.shape.group_bytes();
  if (!Reserve(group_bytes)) return false;
  const int groups = codes.shape.groups();
  const int at_once =
      static_cast<int>(std::min(piece_bytes_ / group_bytes, static_cast<size_t>(groups)));
  auto* next = static_cast<uint8_t*>(to);
  for (int first = 0; first < groups; first += at_once) {
    const Piece& piece = pieces_[first / at_once % 2];
    const int count = std::min(at_once, groups - first);
    auto* packed = static_cast<uint8_t*>(piece.memory.get());
    WaitFor(*piece.copied);
    threads_.Run(count, [&](int group, int /*thread*/) {
      PackGroup(codes, first + group, packed + static_cast<size_t>(group) * group_bytes);
    });
    const size_t bytes = static_cast<size_t>(count) * group_bytes;
    CopyToDevice(stream_, packed, bytes, next);
    Record(stream_, *piece.copied);
    next += bytes;
  }
  Synchronize(stream_);
  return true;
}

}  // namespace octogate::kernels::cuda
