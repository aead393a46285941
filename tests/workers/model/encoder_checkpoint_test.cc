// Folders of sentence encoders: what is read from them, and what is refused.
#include "workers/model/encoder_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/workers/model/test_folder.h"
#include "workers/model/encoder_config.h"

namespace octogate::workers {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

fs::path Fixture(const std::string& name) {
  return fs::path(OCTOGATE_FIXTURES) / "encoders" / name;
}

// A copy of a fixture that can be spoilt.
class SpoiltFolder : public TestFolder {
 public:
  explicit SpoiltFolder(const std::string& name = "bert") {
    fs::copy(Fixture(name), path(), fs::copy_options::recursive);
  }
  void Edit(const std::string& file, const std::function<void(json&)>& change) const {
    json value = json::parse(std::ifstream(path() / file));
    change(value);
    std::ofstream(path() / file) << value.dump();
  }
};

TEST(EncoderCheckpointTest, ReadsSentenceTransformersFolders) {
  const auto checkpoint = EncoderCheckpoint::Open(Fixture("bert"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const EncoderConfig& config = checkpoint->config();
  EXPECT_EQ(config.hidden_size, 36);
  EXPECT_EQ(config.head_dim, 12);
  EXPECT_EQ(config.max_position_embeddings, 160);
  EXPECT_EQ(config.max_tokens, 128);
  EXPECT_EQ(config.pooling, Pooling::kMean);
  EXPECT_FALSE(config.tanh_gelu);
  EXPECT_EQ(checkpoint->weights().layers.size(), 2u);
  EXPECT_EQ(checkpoint->weights().words.rows, config.vocab_size);
}

TEST(EncoderCheckpointTest, ReadsPrefixedNamesAndLeavesOtherHeadsOut) {
  const auto checkpoint = EncoderCheckpoint::Open(Fixture("bert_cls"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->config().pooling, Pooling::kCls);
  EXPECT_TRUE(checkpoint->config().tanh_gelu);
  EXPECT_EQ(checkpoint->weights().layers[1].up.weight.dtype, DType::kF16);
  EXPECT_EQ(checkpoint->weights().layers[1].up.weight.rows, 72);
}

TEST(EncoderCheckpointTest, KnowsEncodersFromOtherModels) {
  EXPECT_TRUE(*IsEncoderFolder(Fixture("bert")));
  EXPECT_FALSE(*IsEncoderFolder(fs::path(OCTOGATE_FIXTURES) / "checkpoints" / "llama"));
  EXPECT_EQ(IsEncoderFolder("/nonexistent").status().code(), absl::StatusCode::kNotFound);
}

TEST(EncoderCheckpointTest, APlainFolderIsPooledByTheMean) {
  const SpoiltFolder folder("bert_cls");
  fs::remove(folder.path() / "modules.json");
  fs::remove(folder.path() / "sentence_bert_config.json");
  const auto config = ReadEncoderConfig(folder.path());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->pooling, Pooling::kMean);
  EXPECT_EQ(config->max_tokens, 144);
}

TEST(EncoderCheckpointTest, UnderstandsNewerPoolingFiles) {
  const SpoiltFolder folder;
  folder.Edit("1_Pooling/config.json", [](json& file) {
    file = {{"embedding_dimension", 36}, {"pooling_mode", "cls"}};
  });
  const auto config = ReadEncoderConfig(folder.path());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->pooling, Pooling::kCls);
}

TEST(EncoderCheckpointTest, FingerprintsTellModelsApart) {
  const auto a = EncoderCheckpoint::Open(Fixture("bert"));
  const auto b = EncoderCheckpoint::Open(Fixture("bert_cls"));
  const SpoiltFolder folder;
  folder.Edit("1_Pooling/config.json", [](json& file) {
    file["pooling_mode_mean_tokens"] = false;
    file["pooling_mode_cls_token"] = true;
  });
  const auto pooled = EncoderCheckpoint::Open(folder.path());
  ASSERT_TRUE(a.ok() && b.ok() && pooled.ok());
  EXPECT_EQ(a->ComputeFingerprint(),
            EncoderCheckpoint::Open(Fixture("bert"))->ComputeFingerprint());
  EXPECT_FALSE(a->ComputeFingerprint() == b->ComputeFingerprint());
  EXPECT_FALSE(a->ComputeFingerprint() == pooled->ComputeFingerprint());
}

struct Spoilt {
  const char* name;
  const char* file;
  std::function<void(json&)> change;
  absl::StatusCode code;
  const char* message;
};

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

class SpoiltEncoder : public testing::TestWithParam<Spoilt> {};
INSTANTIATE_TEST_SUITE_P(
    Folders, SpoiltEncoder,
    testing::Values(
        Spoilt{"OtherFamily", "config.json", [](json& f) { f["model_type"] = "roberta"; },
               kUnimplemented, "model_type \"roberta\""},
        Spoilt{"NoSize", "config.json", [](json& f) { f.erase("hidden_size"); }, kInvalid,
               "\"hidden_size\" is missing"},
        Spoilt{"HeadsDoNotDivide", "config.json", [](json& f) { f["num_attention_heads"] = 5; },
               kInvalid, "does not divide"},
        Spoilt{"Activation", "config.json", [](json& f) { f["hidden_act"] = "relu"; },
               kUnimplemented, "\"relu\" is not supported"},
        Spoilt{"Positions", "config.json",
               [](json& f) { f["position_embedding_type"] = "relative_key"; }, kUnimplemented,
               "relative_key"},
        Spoilt{"Decoder", "config.json", [](json& f) { f["is_decoder"] = true; }, kUnimplemented,
               "is_decoder"},
        Spoilt{"ModulesIsNoList", "modules.json", [](json& f) { f = json::object(); }, kInvalid,
               "modules.json: expected a list"},
        Spoilt{"UnknownModule", "modules.json",
               [](json& f) { f[2]["type"] = "sentence_transformers.models.Dense"; }, kUnimplemented,
               "module 2: the type \"sentence_transformers.models.Dense\""},
        Spoilt{"NoPooling", "modules.json", [](json& f) { f.erase(1); }, kUnimplemented,
               "module 1"},
        Spoilt{"PathOutside", "modules.json", [](json& f) { f[1]["path"] = "../x"; }, kInvalid,
               "expected a folder's name"},
        Spoilt{"TransformerElsewhere", "modules.json",
               [](json& f) { f[0]["path"] = "0_Transformer"; }, kUnimplemented, "0_Transformer"},
        Spoilt{"TwoPoolings", "1_Pooling/config.json",
               [](json& f) { f["pooling_mode_max_tokens"] = true; }, kUnimplemented,
               "pooling_mode_max_tokens"},
        Spoilt{"PoolingOfAnotherWidth", "1_Pooling/config.json",
               [](json& f) { f["word_embedding_dimension"] = 384; }, kInvalid, "384"},
        Spoilt{"LengthOfNothing", "sentence_bert_config.json",
               [](json& f) { f["max_seq_length"] = 0; }, kInvalid, "max_seq_length"}),
    [](const auto& info) { return info.param.name; });

TEST_P(SpoiltEncoder, IsRefusedWithFileAndReason) {
  const SpoiltFolder folder;
  folder.Edit(GetParam().file, GetParam().change);
  const auto checkpoint = EncoderCheckpoint::Open(folder.path());
  EXPECT_EQ(checkpoint.status().code(), GetParam().code) << checkpoint.status();
  EXPECT_THAT(checkpoint.status().message(), HasSubstr(GetParam().message));
  EXPECT_THAT(checkpoint.status().message(), HasSubstr(GetParam().file));
}

TEST(EncoderCheckpointTest, WeightsThatDoNotFitAreNamed) {
  const SpoiltFolder folder;
  folder.Edit("config.json", [](json& file) { file["intermediate_size"] = 101; });
  const absl::Status status = EncoderCheckpoint::Open(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("intermediate.dense.weight"));
  EXPECT_THAT(status.message(), HasSubstr("expected [101, 36]"));
}

}  // namespace
}  // namespace octogate::workers
