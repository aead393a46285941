#include <cstring>

#include "kernels/cuda/launch_log.h"

namespace octogate::kernels::cuda {

void LaunchLog::Clear() {
  entries_.clear();
  memory_.clear();
  fingerprint_ = kBasis;
}

void LaunchLog::AddBytes(const LaunchType* type, const void* call, size_t bytes) {
  const size_t offset = memory_.size();
  memory_.resize(offset + (bytes + sizeof(Unit) - 1) / sizeof(Unit));
  std::memcpy(memory_.data() + offset, call, bytes);
  entries_.push_back({type, offset});
}

bool LaunchLog::SameAs(const LaunchLog& other) const {
  if (fingerprint_ != other.fingerprint_ || entries_.size() != other.entries_.size()) return false;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& a = entries_[i];
    const Entry& b = other.entries_[i];
    if (a.type != b.type || !a.type->same(CallOf(a), other.CallOf(b))) return false;
  }
  return true;
}

void LaunchLog::Run(StreamHandle stream) const {
  for (const Entry& entry : entries_) entry.type->start(CallOf(entry), stream);
}

}  // namespace octogate::kernels::cuda
