// What people call the formats that weights, keys and values may be kept in: in flags, in the graph
// and in what workers say of themselves.
#ifndef OCTOGATE_WORKERS_ENGINE_FORMAT_NAMES_H_
#define OCTOGATE_WORKERS_ENGINE_FORMAT_NAMES_H_

#include <optional>
#include <string_view>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/dtype.h"
#include "kernels/weight_format.h"

namespace octogate::workers {

// "stored", "bf16", "int8", "int8-group", "int4-group" and "fp8"; nothing for other names.
std::optional<kernels::WeightFormat> ParseWeightFormat(std::string_view name);

// "f32", "f16", "bf16", "fp8" and "int8"; nothing for other names.
std::optional<kernels::DType> ParseKvDtype(std::string_view name);
// The name of a type that keys and values may have.
std::string_view KvDtypeName(kernels::DType type);

// By kernels::Name; nothing for other names.
std::optional<kernels::Activations> ParseActivations(std::string_view name);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_FORMAT_NAMES_H_
