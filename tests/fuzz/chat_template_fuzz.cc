// Any text is a template or is refused, and rendering ends within its limits.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "workers/model/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using octogate::workers::ChatJson;
  using octogate::workers::ChatTemplate;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = ChatTemplate::Parse(source, "<s>", "</s>");
  if (!parsed.ok()) return 0;
  static const ChatJson* const kMessages = new ChatJson(ChatJson::parse(R"([
    {"role": "system", "content": "S\u00e9 \ud83c\udf89"}, {"role": "user", "content": "hi\n"},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "abcdefghi", "type": "function",
      "function": {"name": "f", "arguments": {"x": [1, 2.5, null, true, "y"]}}}]},
    {"role": "tool", "tool_call_id": "abcdefghi", "content": "3"}])"));
  octogate::workers::ChatRenderOptions options;
  options.tools = ChatJson::array({{{"type", "function"}, {"function", {{"name", "f"}}}}});
  options.limits.max_steps = 100'000;
  options.limits.max_output_bytes = 1 << 20;
  options.limits.max_allocated_bytes = 4 << 20;
  const auto text = parsed->Render(*kMessages, options);
  if (text.ok() && text->size() > options.limits.max_output_bytes) std::abort();
  return 0;
}
