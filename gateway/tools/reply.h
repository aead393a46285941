#ifndef OCTOGATE_GATEWAY_TOOLS_REPLY_H_
#define OCTOGATE_GATEWAY_TOOLS_REPLY_H_

#include "gateway/tools/tool.h"

namespace octogate::gateway {

// `reply`: answers with a fixed text from the graph, in which every `{query}` is replaced by the
// argument as it came. `{{` and `}}` stand for braces. It is what a fallback node says. The text is
// checked when the graph is applied: any other brace is INVALID_ARGUMENT.
ToolInfo ReplyToolInfo();

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TOOLS_REPLY_H_
