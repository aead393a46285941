// Element types of tensors in checkpoint files.
#ifndef OCTOGATE_WORKERS_MODEL_DTYPE_H_
#define OCTOGATE_WORKERS_MODEL_DTYPE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace octogate::workers {

// Little-endian on disk and in memory. kF8E4M3 is the "FN" variant, as in safetensors.
enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
};

// Bytes of one element.
size_t DTypeSize(DType dtype);

// The safetensors spelling: "F32", "BF16", "F8_E4M3", "BOOL", ...
std::string_view DTypeName(DType dtype);
std::optional<DType> DTypeFromName(std::string_view name);

// The config.json spelling: "float32", "bfloat16", "float16", optionally with
// a "torch." prefix. Only the three floating-point types that weights of a
// language model come in are known here.
std::optional<DType> DTypeFromTorchName(std::string_view name);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_DTYPE_H_
