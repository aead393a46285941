#include "workers/model/chat_template.h"

#include <map>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "workers/model/jinja/interpreter.h"
#include "workers/model/jinja/parser.h"
#include "workers/model/jinja/text.h"
#include "workers/model/json_file.h"

namespace octogate::workers {

struct ChatTemplate::Program {
  std::string source;
  jinja::Block block;
  std::map<std::string, std::string> special_tokens;  // bos_token and so on
};

namespace {

namespace fs = std::filesystem;
using jinja::Runtime;
using jinja::Value;

constexpr size_t kMaxTemplateBytes = 1 << 20;
constexpr size_t kMaxTokenizerConfigBytes = 32 << 20;
constexpr const char* kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

absl::Status NotUtf8(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(what), ": a text is not valid UTF-8"));
}

Value FromText(Runtime& runtime, const std::string& text) {
  if (!jinja::IsValidUtf8(text)) return runtime.Fail("a text of the messages is not valid UTF-8");
  return runtime.MakeText(text);
}

// Recursion is bounded: MakeSequence and MakeDict refuse deep nesting only after
// the fact, so the depth is counted on the way down.
Value FromJson(Runtime& runtime, const ChatJson& json, int depth = 0) {
  if (depth > jinja::kMaxValueDepth) return runtime.Exhaust("the messages are nested too deeply");
  if (!runtime.Step()) return Value();
  switch (json.type()) {
    case ChatJson::value_t::boolean:
      return Value::Bool(json.get<bool>());
    case ChatJson::value_t::number_integer:
      return Value::Int(json.get<int64_t>());
    case ChatJson::value_t::number_unsigned:
      return Value::Int(json.get<uint64_t>());
    case ChatJson::value_t::number_float:
      return Value::Float(json.get<double>());
    case ChatJson::value_t::string:
      return FromText(runtime, json.get_ref<const std::string&>());
    case ChatJson::value_t::array: {
      std::vector<Value> items;
      for (const ChatJson& item : json) {
        items.push_back(FromJson(runtime, item, depth + 1));
        if (runtime.failed()) return Value();
      }
      return runtime.MakeSequence(jinja::Kind::kList, std::move(items));
    }
    case ChatJson::value_t::object: {
      jinja::Dict dict;
      for (const auto& [key, item] : json.items()) {
        Value name = FromText(runtime, key);
        dict.Set(std::move(name), FromJson(runtime, item, depth + 1));
        if (runtime.failed()) return Value();
      }
      return runtime.MakeDict(std::move(dict));
    }
    default:
      return Value::None();
  }
}

absl::Status CheckInput(const ChatJson& messages, const ChatRenderOptions& options,
                        const std::map<std::string, std::string>& special_tokens) {
  if (!messages.is_array()) return absl::InvalidArgumentError("messages must be a JSON array");
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatJson& message = messages[i];
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("messages[", i, "] must be an object with a string \"role\""));
    }
  }
  if (!options.tools.is_null() && !options.tools.is_array()) {
    return absl::InvalidArgumentError("tools must be a JSON array of tool schemas");
  }
  if (options.variables.is_null()) return absl::OkStatus();
  if (!options.variables.is_object()) {
    return absl::InvalidArgumentError("template variables must be a JSON object");
  }
  for (const auto& [name, value] : options.variables.items()) {
    if (name == "messages" || name == "tools" || name == "add_generation_prompt" ||
        special_tokens.contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the template variable ", QuotedForError(name), " cannot be redefined"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> ReadOptionalObject(const fs::path& path) {
  const absl::StatusOr<std::string> text = ReadSmallFile(path, kMaxTokenizerConfigBytes);
  if (absl::IsNotFound(text.status())) return nlohmann::json::object();
  if (!text.ok()) return text.status();
  absl::StatusOr<nlohmann::json> object = ParseJson(*text, path.string());
  if (object.ok() && !object->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": expected a JSON object"));
  }
  return object;
}

// Special tokens are texts, or objects with a text `content`.
void ReadSpecialTokens(const nlohmann::json& config, std::map<std::string, std::string>& tokens) {
  for (const char* name : kSpecialTokens) {
    const auto it = config.find(name);
    if (it == config.end()) continue;
    const nlohmann::json* text = &*it;
    if (text->is_object() && text->contains("content")) text = &text->at("content");
    if (text->is_string()) tokens.emplace(name, text->get<std::string>());
  }
}

// The template called `name` in tokenizer_config.json's `chat_template`.
absl::StatusOr<std::string> FindInConfig(const nlohmann::json& config, const std::string& name,
                                         const std::string& source) {
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) {
    return absl::FailedPreconditionError(absl::StrCat(
        source,
        ": the checkpoint has no chat template; put one into chat_template.jinja beside "
        "it, or send plain prompts instead of messages"));
  }
  std::string names;
  if (it->is_string()) {
    if (name == "default") return it->get<std::string>();
    names = "default";
  } else if (it->is_array()) {
    for (const nlohmann::json& entry : *it) {
      if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
          !entry.contains("template") || !entry["template"].is_string()) {
        return absl::InvalidArgumentError(absl::StrCat(
            source, ": each entry of chat_template needs a \"name\" and a \"template\""));
      }
      const std::string& entry_name = entry["name"].get_ref<const std::string&>();
      if (entry_name == name) return entry["template"].get<std::string>();
      if (names.size() < 500) absl::StrAppend(&names, names.empty() ? "" : ", ", entry_name);
    }
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": chat_template must be a string or a list"));
  }
  return absl::NotFoundError(absl::StrCat(source, ": there is no chat template ",
                                          QuotedForError(name),
                                          "; there are: ", QuotedForError(names)));
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<const Program> program) : program_(std::move(program)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string_view ChatTemplate::source() const { return program_->source; }

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view source,
                                                 std::string_view bos_token,
                                                 std::string_view eos_token) {
  std::map<std::string, std::string> tokens;
  if (!bos_token.empty()) tokens.emplace("bos_token", bos_token);
  if (!eos_token.empty()) tokens.emplace("eos_token", eos_token);
  return ParseWithTokens(source, std::move(tokens));
}

absl::StatusOr<ChatTemplate> ChatTemplate::ParseWithTokens(
    std::string_view source, std::map<std::string, std::string> special_tokens) {
  if (source.size() > kMaxTemplateBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the chat template has ", source.size(),
                                                     " bytes; at most ", kMaxTemplateBytes,
                                                     " are accepted"));
  }
  for (const auto& [name, token] : special_tokens) {
    if (!jinja::IsValidUtf8(token)) return NotUtf8(name);
  }
  absl::StatusOr<jinja::Block> block = jinja::ParseTemplate(source);
  if (!block.ok()) return block.status();
  auto program = std::make_unique<Program>();
  program->source = std::string(source);
  program->block = *std::move(block);
  program->special_tokens = std::move(special_tokens);
  return ChatTemplate(std::move(program));
}

absl::StatusOr<ChatTemplate> ChatTemplate::Load(const fs::path& directory, std::string_view name) {
  const fs::path config_path = directory / "tokenizer_config.json";
  const absl::StatusOr<nlohmann::json> config = ReadOptionalObject(config_path);
  if (!config.ok()) return config.status();
  const absl::StatusOr<nlohmann::json> token_map =
      ReadOptionalObject(directory / "special_tokens_map.json");
  if (!token_map.ok()) return token_map.status();
  std::map<std::string, std::string> tokens;
  ReadSpecialTokens(*config, tokens);
  ReadSpecialTokens(*token_map, tokens);

  const std::string wanted(name);
  absl::StatusOr<std::string> source = absl::NotFoundError("");
  if (wanted == "default") {
    source = ReadSmallFile(directory / "chat_template.jinja", kMaxTemplateBytes);
  } else if (wanted.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789_-") == std::string::npos) {
    source = ReadSmallFile(directory / "additional_chat_templates" / (wanted + ".jinja"),
                           kMaxTemplateBytes);
  }
  if (absl::IsNotFound(source.status())) {
    source = FindInConfig(*config, wanted, config_path.string());
  }
  if (!source.ok()) return source.status();
  return ParseWithTokens(*source, std::move(tokens));
}

absl::StatusOr<std::string> ChatTemplate::Render(const ChatJson& messages,
                                                 const ChatRenderOptions& options) const {
  if (absl::Status status = CheckInput(messages, options, program_->special_tokens); !status.ok()) {
    return status;
  }
  const ChatTemplateLimits& limits = options.limits;
  Runtime runtime({.max_steps = limits.max_steps,
                   .max_depth = limits.max_depth,
                   .max_output_bytes = limits.max_output_bytes,
                   .max_allocated_bytes = limits.max_allocated_bytes},
                  options.now, options.time_zone);
  jinja::Interpreter interpreter(runtime);
  for (const auto& [name, token] : program_->special_tokens) {
    interpreter.Define(name, runtime.MakeText(token));
  }
  // transformers always passes documents; a variable may say which.
  interpreter.Define("documents", Value::None());
  if (options.variables.is_object()) {
    for (const auto& [name, value] : options.variables.items()) {
      interpreter.Define(name, FromJson(runtime, value));
    }
  }
  interpreter.Define("messages", FromJson(runtime, messages));
  interpreter.Define("tools", FromJson(runtime, options.tools));
  interpreter.Define("add_generation_prompt", Value::Bool(options.add_generation_prompt));

  std::string text = interpreter.Run(program_->block);
  if (runtime.failed()) return runtime.status();
  return text;
}

}  // namespace octogate::workers
