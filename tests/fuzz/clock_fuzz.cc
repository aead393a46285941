#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gateway/tools/tool.h"

// Any request is answered or refused with a status, on a fixed clock.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tool = octogate::gateway::MakeTool("clock", {});
  const std::string_view request(reinterpret_cast<const char*>(data), size);
  octogate::gateway::ToolContext context;
  context.now = [] { return absl::FromUnixSeconds(1'800'000'000); };
  const auto answer = (*tool)->Run(request, context);
  if (answer.ok() && answer->empty()) std::abort();
  const auto code = answer.status().code();
  if (!answer.ok() && code != absl::StatusCode::kInvalidArgument &&
      code != absl::StatusCode::kOutOfRange && code != absl::StatusCode::kResourceExhausted) {
    std::abort();
  }
  return 0;
}
