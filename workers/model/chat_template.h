// Rendering of Hugging Face chat templates: the Jinja program that a checkpoint
// carries and that turns a conversation into the text it was trained on.
//
// The language is the part of Jinja that chat templates use (expressions,
// filters, tests, for, if, set, with, macro, call and filter blocks, namespaces,
// loop controls, whitespace control), evaluated as Hugging Face transformers does:
// trim_blocks and lstrip_blocks on, no HTML escaping, `tojson` like Python's
// json.dumps(ensure_ascii=False), an immutable sandbox, `raise_exception` and
// `strftime_now`. A construct outside that part is an error when parsed.
//
// A template comes with a checkpoint and is hostile until proven: rendering is
// bounded in steps, nesting, output and memory, and reaches nothing but the
// values it was given.
//
// Thread safety: const after Parse; any number of threads may render.
#ifndef OCTOGATE_WORKERS_MODEL_CHAT_TEMPLATE_H_
#define OCTOGATE_WORKERS_MODEL_CHAT_TEMPLATE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace octogate::workers {

// Insertion-ordered, because templates print dictionaries in the order in which
// their keys were given.
using ChatJson = nlohmann::ordered_json;

struct ChatTemplateLimits {
  // Statements, expressions and items visited; long texts count by their length.
  int64_t max_steps = 20'000'000;
  int max_depth = 600;                     // nested evaluations, through macros as well
  size_t max_output_bytes = 16 << 20;      // of the rendered text
  size_t max_allocated_bytes = 256 << 20;  // of all values ever made, freed ones included
};

struct ChatRenderOptions {
  // Ends the text with what opens an assistant's turn.
  bool add_generation_prompt = true;
  // A JSON array of tool schemas, or null for none.
  ChatJson tools = nullptr;
  // A JSON object of further variables for the template, such as
  // {"enable_thinking": false}; may not redefine messages, tools,
  // add_generation_prompt or a special token.
  ChatJson variables = nullptr;
  // What strftime_now() formats.
  absl::Time now = absl::UnixEpoch();
  absl::TimeZone time_zone = absl::UTCTimeZone();
  ChatTemplateLimits limits;
};

class ChatTemplate {
 public:
  // `bos_token` and `eos_token` are texts; an empty one leaves the variable
  // undefined, as transformers does for a model that has none.
  // INVALID_ARGUMENT with line and column for a syntax error or an unknown
  // filter or test; RESOURCE_EXHAUSTED for a template above 1 MiB or nested
  // too deeply.
  static absl::StatusOr<ChatTemplate> Parse(std::string_view source, std::string_view bos_token,
                                            std::string_view eos_token);

  // Finds the template of a checkpoint folder: chat_template.jinja, or
  // additional_chat_templates/NAME.jinja for another name than "default", or
  // `chat_template` of tokenizer_config.json, as a text or as a list of
  // {name, template} of which `name` is taken. Special tokens are read from
  // tokenizer_config.json and special_tokens_map.json. FAILED_PRECONDITION, saying what to do, when
  // the folder has none; NOT_FOUND, listing the names there are, for an unknown name.
  static absl::StatusOr<ChatTemplate> Load(const std::filesystem::path& directory,
                                           std::string_view name = "default");

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // `messages` is an array of objects with at least `role`, and usually
  // `content` (a text, null, or parts) and `tool_calls`.
  //
  // INVALID_ARGUMENT with the template's own words when it calls
  // raise_exception (roles out of order, for instance) and for a type error in
  // the template (with line); RESOURCE_EXHAUSTED above a limit.
  absl::StatusOr<std::string> Render(const ChatJson& messages,
                                     const ChatRenderOptions& options) const;

  std::string_view source() const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<const Program> program);
  static absl::StatusOr<ChatTemplate> ParseWithTokens(
      std::string_view source, std::map<std::string, std::string> special_tokens);

  std::unique_ptr<const Program> program_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_CHAT_TEMPLATE_H_
