#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gateway/tools/tool.h"

// Any request is answered within the limits or refused with a status.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tool = octogate::gateway::MakeTool("calculator", {});
  const std::string_view request(reinterpret_cast<const char*>(data), size);
  octogate::gateway::ToolContext context;
  context.max_output_bytes = 4096;
  const auto answer = (*tool)->Run(request, context);
  if (answer.ok() && (answer->empty() || answer->size() > context.max_output_bytes)) std::abort();
  const auto code = answer.status().code();
  if (!answer.ok() && code != absl::StatusCode::kInvalidArgument &&
      code != absl::StatusCode::kResourceExhausted) {
    std::abort();
  }
  return 0;
}
