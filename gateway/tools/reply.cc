#include "gateway/tools/reply.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace octogate::gateway {
namespace {

constexpr std::string_view kName = "reply";
constexpr std::string_view kDescription =
    "Answers with a fixed text; {query} stands for the query.";
constexpr std::string_view kPlaceholder = "{query}";
constexpr size_t kMaxTextBytes = size_t{64} << 10;

// A reply is literals[0] query literals[1] query ... literals.back().
absl::StatusOr<std::vector<std::string>> SplitAtPlaceholders(std::string_view text) {
  std::vector<std::string> literals(1);
  for (size_t i = 0; i < text.size();) {
    const std::string_view rest = text.substr(i);
    if (rest.substr(0, 2) == "{{" || rest.substr(0, 2) == "}}") {
      literals.back().push_back(rest.front());
      i += 2;
    } else if (rest.substr(0, kPlaceholder.size()) == kPlaceholder) {
      literals.emplace_back();
      i += kPlaceholder.size();
    } else if (rest.front() == '{' || rest.front() == '}') {
      return absl::InvalidArgumentError(
          absl::StrCat("tool \"reply\": parameter \"text\", byte ", i + 1,
                       ": a brace must be part of {query}, {{ or }}"));
    } else {
      literals.back().push_back(rest.front());
      ++i;
    }
  }
  return literals;
}

class ReplyTool final : public Tool {
 public:
  explicit ReplyTool(std::vector<std::string> literals) : literals_(std::move(literals)) {}

  absl::StatusOr<std::string> Run(std::string_view argument,
                                  const ToolContext& context) const override {
    size_t size = 0;
    for (const std::string& literal : literals_) size += literal.size();
    const size_t repeats = literals_.size() - 1;
    if (size > context.max_output_bytes ||
        (repeats > 0 && argument.size() > (context.max_output_bytes - size) / repeats)) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the reply would be longer than the limit of ", context.max_output_bytes, " bytes"));
    }
    std::string reply = literals_.front();
    reply.reserve(size + repeats * argument.size());
    for (size_t i = 1; i < literals_.size(); ++i) {
      reply.append(argument);
      reply.append(literals_[i]);
    }
    return reply;
  }

  std::string_view name() const override { return kName; }
  std::string_view description() const override { return kDescription; }

 private:
  const std::vector<std::string> literals_;
};

absl::StatusOr<std::unique_ptr<Tool>> MakeReplyTool(const ToolParameters& parameters) {
  const auto text = parameters.find("text");
  if (text == parameters.end()) {
    return absl::InvalidArgumentError("tool \"reply\" needs the parameter \"text\"");
  }
  if (text->second.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat("tool \"reply\": parameter \"text\" has ",
                                                   text->second.size(), " bytes; the limit is ",
                                                   kMaxTextBytes));
  }
  absl::StatusOr<std::vector<std::string>> literals = SplitAtPlaceholders(text->second);
  if (!literals.ok()) return literals.status();
  return std::make_unique<ReplyTool>(*std::move(literals));
}

}  // namespace

ToolInfo ReplyToolInfo() {
  return {.name = std::string(kName),
          .description = std::string(kDescription),
          .parameters = {{.name = "text",
                          .description = "what to answer; {query} is replaced by the query",
                          .required = true}},
          .make = MakeReplyTool};
}

}  // namespace octogate::gateway
