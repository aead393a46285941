#include "gateway/tools/tool.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gateway/tools/calculator/calculator.h"
#include "gateway/tools/clock/clock.h"
#include "gateway/tools/reply.h"

namespace octogate::gateway {
namespace {

template <typename Items>
std::string NamesOf(const Items& items) {
  if (items.empty()) return "none";
  return absl::StrJoin(items, ", ",
                       [](std::string* out, const auto& item) { out->append(item.name); });
}

absl::Status CheckParameters(const ToolInfo& tool, const ToolParameters& parameters) {
  for (const auto& [key, value] : parameters) {
    const bool known = std::any_of(tool.parameters.begin(), tool.parameters.end(),
                                   [&key = key](const auto& p) { return p.name == key; });
    if (!known) {
      return absl::InvalidArgumentError(
          absl::StrCat("tool \"", tool.name, "\" has no parameter \"", absl::CHexEscape(key),
                       "\"; known parameters: ", NamesOf(tool.parameters)));
    }
  }
  for (const ToolParameterInfo& parameter : tool.parameters) {
    if (parameter.required && parameters.count(parameter.name) == 0) {
      return absl::InvalidArgumentError(absl::StrCat("tool \"", tool.name,
                                                     "\" needs the parameter \"", parameter.name,
                                                     "\": ", parameter.description));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<ToolInfo> BuiltinTools() {
  return {CalculatorToolInfo(), ClockToolInfo(), ReplyToolInfo()};
}

absl::StatusOr<std::unique_ptr<Tool>> MakeTool(std::string_view name,
                                               const ToolParameters& parameters) {
  const std::vector<ToolInfo> tools = BuiltinTools();
  for (const ToolInfo& tool : tools) {
    if (tool.name != name) continue;
    if (absl::Status status = CheckParameters(tool, parameters); !status.ok()) return status;
    return tool.make(parameters);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "no built-in tool \"", absl::CHexEscape(absl::string_view(name.data(), name.size())),
      "\"; known tools: ", NamesOf(tools)));
}

}  // namespace octogate::gateway
