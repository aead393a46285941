// Storage types of tensors and their widening to float.

#ifndef OCTOGATE_KERNELS_DTYPE_H_
#define OCTOGATE_KERNELS_DTYPE_H_

#include <cstddef>
#include <cstdint>

namespace octogate::kernels {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  // Of KV caches only:
  kF8E4M3,  // kernels/float8.h
  kI8,      // with a scale for each position and head, kernels/kv_quantize.h
};

constexpr size_t SizeOf(DType type) {
  switch (type) {
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kF8E4M3:
    case DType::kI8:
      return 1;
  }
  return 0;
}

constexpr const char* Name(DType type) {
  switch (type) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kF8E4M3:
      return "F8_E4M3";
    case DType::kI8:
      return "I8";
  }
  return "?";
}

// Bytes of a KV cache that one key (or value) of one head takes, its scale
// included.
constexpr size_t KvHeadBytes(DType type, int head_dim) {
  return static_cast<size_t>(head_dim) * SizeOf(type) + (type == DType::kI8 ? sizeof(float) : 0);
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_DTYPE_H_
