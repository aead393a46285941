// Storage types of tensors and their widening to float.

#ifndef OCTOGATE_KERNELS_DTYPE_H_
#define OCTOGATE_KERNELS_DTYPE_H_

#include <cstddef>
#include <cstdint>

namespace octogate::kernels {

enum class DType : uint8_t { kF32, kF16, kBF16 };

constexpr size_t SizeOf(DType type) { return type == DType::kF32 ? 4 : 2; }

constexpr const char* Name(DType type) {
  switch (type) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
  }
  return "?";
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_DTYPE_H_
