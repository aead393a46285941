#include "workers/engine/format_names.h"

#include <array>
#include <utility>

namespace octogate::workers {
namespace {

constexpr std::array<std::pair<std::string_view, kernels::DType>, 5> kKvDtypes = {
    {{"f32", kernels::DType::kF32},
     {"f16", kernels::DType::kF16},
     {"bf16", kernels::DType::kBF16},
     {"fp8", kernels::DType::kF8E4M3},
     {"int8", kernels::DType::kI8}}};

}  // namespace

std::optional<kernels::WeightFormat> ParseWeightFormat(std::string_view name) {
  return kernels::WeightFormatFromName(name);
}

std::optional<kernels::DType> ParseKvDtype(std::string_view name) {
  for (const auto& [known, type] : kKvDtypes) {
    if (known == name) return type;
  }
  return std::nullopt;
}

std::string_view KvDtypeName(kernels::DType type) {
  for (const auto& [name, known] : kKvDtypes) {
    if (known == type) return name;
  }
  return "unknown";
}

std::optional<kernels::Activations> ParseActivations(std::string_view name) {
  for (const kernels::Activations activations : kernels::kActivations) {
    if (kernels::Name(activations) == name) return activations;
  }
  return std::nullopt;
}

}  // namespace octogate::workers
