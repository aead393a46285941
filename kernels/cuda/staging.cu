#include <algorithm>
#include <bit>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "kernels/cuda/memory.h"

namespace octogate::kernels::cuda {
namespace {

constexpr size_t kAlignment = 16;

}  // namespace

std::unique_ptr<Staging> Staging::Make(Stream stream, size_t bytes) {
  std::unique_ptr<Staging> staging(new (std::nothrow) Staging(stream));
  if (staging == nullptr || !staging->Reserve(bytes)) return nullptr;
  return staging;
}

bool Staging::Reserve(size_t bytes) {
  recent_.clear();
  recent_.reserve(kRecent);
  used_ = 0;
  capacity_ = 0;
  host_ = nullptr;
  device_ = nullptr;
  host_ = AllocatePinned(bytes);
  device_ = AllocateDevice(bytes);
  if (host_ == nullptr || device_ == nullptr) return false;
  capacity_ = bytes;
  return true;
}

void Staging::Begin(size_t pieces, size_t bytes) {
  const size_t needed = bytes + pieces * kAlignment;
  if (needed <= capacity_ - used_) return;
  Synchronize(stream_);  // begin again once everything has been read
  recent_.clear();
  used_ = 0;
  if (needed <= capacity_ || Reserve(2 * needed)) return;
  std::fprintf(stderr, "CUDA: no memory for tables of %zu bytes; the process ends\n", needed);
  std::abort();
}

const void* Staging::PutBytes(const void* data, size_t bytes) {
  auto* host = static_cast<unsigned char*>(host_.get());
  auto* device = static_cast<unsigned char*>(device_.get());
  if (bytes == 0) return device;
  for (const Piece& piece : recent_) {
    if (piece.bytes == bytes && std::memcmp(host + piece.offset, data, bytes) == 0) {
      return device + piece.offset;
    }
  }
  assert(bytes <= capacity_ - used_);
  std::memcpy(host + used_, data, bytes);
  CopyToDevice(stream_, host + used_, bytes, device + used_);
  if (recent_.size() == kRecent) recent_.erase(recent_.begin());
  recent_.push_back({used_, bytes});
  used_ += std::min((bytes + kAlignment - 1) / kAlignment * kAlignment, capacity_ - used_);
  return device + recent_.back().offset;
}

std::unique_ptr<StepStaging> StepStaging::Make(Stream stream, size_t bytes) {
  std::unique_ptr<StepStaging> staging(new (std::nothrow) StepStaging(stream));
  if (staging == nullptr) return nullptr;
  staging->host_ = AllocatePinned(bytes);
  staging->device_ = AllocateDevice(bytes);
  staging->sent_ = MakeEvent();
  staging->capacity_ = bytes;
  const bool made =
      staging->host_ != nullptr && staging->device_ != nullptr && staging->sent_ != nullptr;
  return made ? std::move(staging) : nullptr;
}

void StepStaging::Begin() {
  WaitFor(*sent_);
  used_ = 0;
  sent_bytes_ = 0;
  for (Piece& piece : last_) piece.there = false;
}

const void* StepStaging::PutBytes(Kind kind, const void* data, size_t bytes) {
  constexpr size_t kLeast = 64;
  auto* host = static_cast<unsigned char*>(host_.get());
  auto* device = static_cast<unsigned char*>(device_.get());
  if (bytes == 0) return device;
  Piece& last = last_[static_cast<size_t>(kind)];
  if (last.there && last.bytes == bytes && std::memcmp(host + last.offset, data, bytes) == 0) {
    return device + last.offset;
  }
  const size_t room = std::bit_ceil(std::max(bytes, kLeast));
  if (room > capacity_ - used_) return nullptr;
  std::memcpy(host + used_, data, bytes);
  last = {used_, bytes, true};
  used_ += room;
  return device + last.offset;
}

void StepStaging::Send() {
  if (used_ == sent_bytes_) return;
  CopyToDevice(stream_, static_cast<unsigned char*>(host_.get()) + sent_bytes_, used_ - sent_bytes_,
               static_cast<unsigned char*>(device_.get()) + sent_bytes_);
  Record(stream_, *sent_);
  sent_bytes_ = used_;
}

}  // namespace octogate::kernels::cuda
