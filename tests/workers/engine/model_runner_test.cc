#include "workers/engine/model_runner.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/workers/engine/test_models.h"
#include "tests/workers/model/test_folder.h"
#include "workers/engine/generate.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(100);

TEST(LoadModelTest, LoadsAFolderAsItIsAndAnswersAConversation) {
  for (const char* name : {"llama", "qwen3", "octopus"}) {
    SCOPED_TRACE(name);
    const auto model = LoadModel(FixturePath(name), {.device = {.threads = 1}});
    ASSERT_TRUE(model.ok()) << model.status();
    ASSERT_TRUE((*model)->WarmUp(absl::Now() + kLong).ok());
    std::ifstream file(FixturePath(name) / "expected.json");
    const ChatJson expected = ChatJson::parse(file);
    for (const ChatJson& chat : expected["chat"]) {
      ChatRenderOptions options;
      if (chat.contains("add_generation_prompt")) {
        options.add_generation_prompt = chat["add_generation_prompt"].get<bool>();
      }
      const auto prompt = (*model)->EncodeChat(chat["messages"], options);
      ASSERT_TRUE(prompt.ok()) << prompt.status();
      EXPECT_EQ(*prompt, chat["ids"].get<std::vector<int32_t>>());
      GenerateRequest request;
      request.prompt = *prompt;
      request.max_tokens = 4;
      request.deadline = absl::Now() + kLong;
      const auto answer = Generate(*(*model)->engine, request);
      EXPECT_TRUE(answer.ok()) << answer.status();
    }
  }
}

TEST(LoadModelTest, SaysWhatIsMissing) {
  TestFolder folder;
  EXPECT_FALSE(LoadModel(folder.path(), {}).ok());
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(FixturePath("llama") / name, folder.path() / name);
  }
  const absl::Status status = LoadModel(folder.path(), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json"));
}

TEST(LoadModelTest, WorksWithoutAChatTemplateUntilOneIsNeeded) {
  TestFolder folder;
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
    std::filesystem::copy_file(FixturePath("llama") / name, folder.path() / name);
  }
  const auto model = LoadModel(folder.path(), {.device = {.threads = 1}});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->EncodeText("hello").ok());
  EXPECT_EQ((*model)->EncodeChat(ChatJson::array()).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(LoadModelTest, RefusesATokenizerWithMoreIdsThanTheModelHas) {
  TestFolder folder;
  for (const auto& entry : std::filesystem::directory_iterator(FixturePath("llama"))) {
    if (entry.path().filename() != "tokenizer.json") {
      std::filesystem::copy_file(entry.path(), folder.path() / entry.path().filename());
    }
  }
  std::ifstream file(FixturePath("llama") / "tokenizer.json");
  nlohmann::json tokenizer = nlohmann::json::parse(file);
  nlohmann::json extra = tokenizer["added_tokens"][0];
  extra["id"] = 4000;
  extra["content"] = "<one too many>";
  tokenizer["added_tokens"].push_back(extra);
  folder.Write("tokenizer.json", tokenizer.dump());
  const absl::Status status = LoadModel(folder.path(), {.device = {.threads = 1}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("4000"));
}

}  // namespace
}  // namespace octogate::workers
