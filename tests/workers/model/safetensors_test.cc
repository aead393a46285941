#include "workers/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "tests/workers/model/test_folder.h"

namespace octogate::workers {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::Status ParseStatus(const std::string& file) {
  return ParseSafetensorsHeader(std::as_bytes(std::span(file)), file.size(), "test.safetensors")
      .status();
}

TEST(SafetensorsFile, GivesBackWhatWasWritten) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  constexpr DType kTypes[] = {DType::kBool, DType::kU8,  DType::kF8E4M3, DType::kF16, DType::kBF16,
                              DType::kF32,  DType::kI64, DType::kF64,    DType::kI32, DType::kU16};
  for (int round = 0; round < 50; ++round) {
    std::vector<TestTensor> tensors(random() % 20);
    for (size_t i = 0; i < tensors.size(); ++i) {
      TestTensor& tensor = tensors[i];
      tensor.name = absl::StrCat("tensor \"é\n", i);
      tensor.dtype = kTypes[random() % std::size(kTypes)];
      size_t elements = 1;
      for (size_t rank = random() % 4; rank > 0; --rank) {
        tensor.shape.push_back(static_cast<int64_t>(random() % 5));
        elements *= static_cast<size_t>(tensor.shape.back());
      }
      tensor.data.resize(elements * DTypeSize(tensor.dtype));
      for (char& byte : tensor.data) byte = static_cast<char>(random());
    }
    const TestFolder folder;
    auto file = SafetensorsFile::Open(folder.Write("a.safetensors", BuildSafetensors(tensors)));
    ASSERT_TRUE(file.ok()) << file.status();
    const SafetensorsFile moved = *std::move(file);
    EXPECT_EQ(moved.num_tensors(), tensors.size());
    EXPECT_EQ(moved.metadata().at("format"), "pt");
    for (const TestTensor& tensor : tensors) {
      const auto view = moved.Find(tensor.name);
      ASSERT_TRUE(view.ok()) << view.status();
      EXPECT_EQ(view->name, tensor.name);
      EXPECT_EQ(view->dtype, tensor.dtype);
      EXPECT_TRUE(std::equal(view->shape.begin(), view->shape.end(), tensor.shape.begin(),
                             tensor.shape.end()));
      EXPECT_EQ(std::string(reinterpret_cast<const char*>(view->data.data()), view->data.size()),
                tensor.data);
    }
    EXPECT_EQ(moved.Find("other").status().code(), absl::StatusCode::kNotFound);
  }
}

TEST(SafetensorsFile, EveryTruncationIsAnErrorThatNamesTheFile) {
  const std::string whole = BuildSafetensors(
      {{"a", DType::kF32, {2, 3}, std::string(24, 'x')}, {"b", DType::kF16, {5}, "0123456789"}});
  const TestFolder folder;
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto file = SafetensorsFile::Open(folder.Write("cut.safetensors", whole.substr(0, size)));
    ASSERT_FALSE(file.ok()) << size;
    EXPECT_THAT(std::string(file.status().message()), HasSubstr("cut.safetensors"));
  }
  EXPECT_TRUE(SafetensorsFile::Open(folder.Write("cut.safetensors", whole)).ok());
  EXPECT_FALSE(SafetensorsFile::Open(folder.Write("cut.safetensors", whole + "x")).ok());
}

TEST(SafetensorsFile, NoticesAFileThatIsTruncatedLater) {
  const TestFolder folder;
  const auto path =
      folder.Write("a.safetensors", BuildSafetensors({{"a", DType::kU8, {4}, "abcd"}}));
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->CheckSize().ok());
  std::filesystem::resize_file(path, 10);
  EXPECT_EQ(file->CheckSize().code(), absl::StatusCode::kDataLoss);
}

TEST(SafetensorsFile, RefusesWhatIsNoRegularFile) {
  const TestFolder folder;
  const std::string fifo = (folder.path() / "fifo.safetensors").string();
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(SafetensorsFile::Open(fifo).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(SafetensorsFile::Open(folder.path()).ok());
  EXPECT_EQ(SafetensorsFile::Open(folder.path() / "none").status().code(),
            absl::StatusCode::kNotFound);
}

struct BadHeader {
  const char* what;
  std::string file;
  absl::StatusCode code;
  const char* message;
};

TEST(SafetensorsHeader, RefusesEveryLie) {
  const std::string deep(1'000'000, '[');
  std::string many_dimensions = "1";
  for (int i = 0; i < 100; ++i) many_dimensions += ",1";
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto exhausted = absl::StatusCode::kResourceExhausted;
  const BadHeader cases[] = {
      {"giant length", LengthField(~uint64_t{0}) + "{}", exhausted, "claims a header"},
      {"length above the limit", LengthField(100'000'001) + "{}", exhausted, "claims a header"},
      {"length past the end", LengthField(3) + "{}", invalid, "truncated"},
      {"no header", LengthField(0), invalid, "must begin with '{'"},
      {"not JSON", RawSafetensors("{]"), invalid, "not valid JSON at byte 9"},
      {"leading space", RawSafetensors(" {}"), invalid, "must begin with '{'"},
      {"a list", RawSafetensors("[]"), invalid, "must begin with '{'"},
      {"text after", RawSafetensors("{}x"), invalid, "not valid JSON"},
      {"invalid UTF-8", RawSafetensors("{\"\xff\":{}}"), invalid, "not valid JSON"},
      {"deep nesting", RawSafetensors("{\"a\":{\"shape\":" + deep), invalid, "unexpected a list"},
      {"deep objects", RawSafetensors(R"({"a":{"b":{"c":{}}}})"), invalid, "unknown key"},
      {"object as dtype", RawSafetensors(R"({"a":{"dtype":{}}})"), invalid, "an object"},
      {"tensor is a number", RawSafetensors(R"({"a":1})"), invalid, "unexpected a number"},
      {"tensor is null", RawSafetensors(R"({"a":null})"), invalid, "unexpected null"},
      {"empty tensor", RawSafetensors(R"({"a":{}})"), invalid, "all required"},
      {"no offsets", RawSafetensors(R"({"a":{"dtype":"F32","shape":[]}})"), invalid,
       "all required"},
      {"unknown dtype", RawSafetensors(R"({"a":{"dtype":"F7","shape":[],"data_offsets":[0,0]}})"),
       absl::StatusCode::kUnimplemented, "\"F7\" is not supported"},
      {"unknown key", RawSafetensors(R"({"a":{"dtypes":"F32"}})"), invalid, "unknown key"},
      {"key twice", RawSafetensors(R"({"a":{"dtype":"U8","dtype":"U8"}})"), invalid, "repeats"},
      {"name twice",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                      R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"),
       invalid, "the name repeats"},
      {"metadata is no map", RawSafetensors(R"({"__metadata__":["a"]})"), invalid, "a list"},
      {"metadata value", RawSafetensors(R"({"__metadata__":{"a":1}})"), invalid,
       "__metadata__: unexpected a number"},
      {"negative size", RawSafetensors(R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}})"),
       invalid, "negative"},
      {"fraction",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", "x"), invalid,
       "no integer"},
      {"size beyond 64 bits",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,1]}})",
                      "x"),
       invalid, "no integer"},
      {"size beyond 63 bits",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})",
                      "x"),
       invalid, "too large"},
      {"product wraps to the right size",
       RawSafetensors(R"({"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}})",
                      "xxxx"),
       invalid, "more than 2^64"},
      {"too many dimensions",
       RawSafetensors("{\"a\":{\"dtype\":\"U8\",\"shape\":[" + many_dimensions +
                      "],\"data_offsets\":[0,1]}}"),
       exhausted, "dimensions"},
      {"one offset", RawSafetensors(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}})"),
       invalid, "two numbers"},
      {"three offsets",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}})"), invalid,
       "two numbers"},
      {"backwards",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", "xx"), invalid,
       "end before they begin"},
      {"past the end",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "xx"), invalid,
       "reach past the 2 bytes"},
      {"wrong size",
       RawSafetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2]}})", "xx"), invalid,
       "F32 of shape [1] needs 4"},
      {"overlap",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                      R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                      "xxx"),
       invalid, "overlap"},
      {"hole",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                      R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                      "xxx"),
       invalid, "hole after byte 1"},
      {"hole at the start",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "xx"), invalid,
       "hole after byte 0"},
      {"data that belongs to nothing",
       RawSafetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "xx"), invalid,
       "tensors end at byte 1"},
  };
  for (const BadHeader& bad : cases) {
    SCOPED_TRACE(bad.what);
    const absl::Status status = ParseStatus(bad.file);
    EXPECT_EQ(status.code(), bad.code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
    EXPECT_THAT(std::string(status.message()), HasSubstr("test.safetensors"));
    EXPECT_LT(status.message().size(), 1000u);
  }
}

TEST(SafetensorsHeader, RefusesMoreTensorsThanItsLimit) {
  std::string header = "{";
  for (size_t i = 0; i <= kMaxSafetensorsTensors; ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"", i,
                    "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}");
  }
  EXPECT_EQ(ParseStatus(RawSafetensors(header + "}")).code(), absl::StatusCode::kResourceExhausted);
}

TEST(SafetensorsHeader, AllowsPaddingAndEmptyTensors) {
  EXPECT_TRUE(ParseStatus(RawSafetensors("{}      ")).ok());
  EXPECT_TRUE(
      ParseStatus(RawSafetensors(R"({"z":{"dtype":"F32","shape":[0,7],"data_offsets":[1,1]},)"
                                 R"("s":{"dtype":"U8","shape":[],"data_offsets":[0,1]},)"
                                 R"("t":{"dtype":"U8","shape":[2,1],"data_offsets":[1,3]}})",
                                 "xxx"))
          .ok());
}

TEST(SafetensorsHeader, RandomDamageNeverCrashes) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const std::string whole = BuildSafetensors(
      {{"a", DType::kF32, {2, 3}, std::string(24, 'x')}, {"b", DType::kF16, {5}, "0123456789"}});
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = whole;
    for (size_t edits = 1 + random() % 4; edits > 0; --edits) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    const auto header =
        ParseSafetensorsHeader(std::as_bytes(std::span(damaged)), damaged.size(), "damaged");
    if (!header.ok()) continue;
    for (const auto& entry : header->entries) {
      EXPECT_LE(header->data_offset + entry.end, damaged.size());
      EXPECT_LE(entry.begin, entry.end);
    }
  }
}

std::string Index(const std::string& weight_map) {
  return R"({"metadata":{"total_size":2},"weight_map":)" + weight_map + "}";
}

TEST(SafetensorsCheckpoint, JoinsShards) {
  const TestFolder folder;
  folder.Write("one.safetensors", BuildSafetensors({{"b", DType::kU8, {1}, "B"}}));
  folder.Write("two.safetensors",
               BuildSafetensors({{"c", DType::kU8, {1}, "C"}, {"a", DType::kU8, {2}, "AA"}}));
  folder.Write("model.safetensors.index.json",
               Index(R"({"a":"two.safetensors","b":"one.safetensors","c":"two.safetensors"})"));
  auto opened = SafetensorsCheckpoint::Open(folder.path());
  ASSERT_TRUE(opened.ok()) << opened.status();
  const SafetensorsCheckpoint checkpoint = *std::move(opened);
  std::vector<std::string> names;
  for (const TensorView& tensor : checkpoint.tensors()) names.emplace_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("a", "b", "c"));
  EXPECT_EQ(checkpoint.total_bytes(), 4u);
  EXPECT_EQ(static_cast<char>(checkpoint.Find("b")->data[0]), 'B');
  EXPECT_EQ(checkpoint.Find("d"), nullptr);
}

TEST(SafetensorsCheckpoint, RefusesAnIndexThatDoesNotAgreeWithItsShards) {
  struct Case {
    const char* what;
    std::string index;
    const char* message;
  };
  const Case cases[] = {
      {"missing tensor", Index(R"({"a":"one.safetensors","b":"one.safetensors"})"),
       "which does not hold it"},
      {"extra tensor", Index(R"({"b":"two.safetensors","c":"one.safetensors"})"), "does not list"},
      {"wrong shard", Index(R"({"a":"two.safetensors","b":"one.safetensors"})"),
       "places in two.safetensors"},
      {"missing shard", Index(R"({"a":"three.safetensors"})"), "cannot open"},
      {"parent folder", Index(R"({"a":"../one.safetensors"})"), "without any path"},
      {"absolute path", Index(R"({"a":"/etc/one.safetensors"})"), "without any path"},
      {"sub-folder", Index(R"({"a":"x/one.safetensors"})"), "without any path"},
      {"NUL", Index(R"({"a":"one\u0000.safetensors"})"), "without any path"},
      {"other format", Index(R"({"a":"/etc/passwd"})"), "without any path"},
      {"number", Index(R"({"a":1})"), "without any path"},
      {"empty", Index("{}"), "weight_map"},
      {"list", Index("[]"), "weight_map"},
      {"no map", "{}", "weight_map"},
      {"no object", "[1]", "weight_map"},
      {"no JSON", "{", "not valid JSON"},
      {"deep", std::string(100'000, '['), "nested"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.what);
    const TestFolder folder;
    folder.Write("one.safetensors", BuildSafetensors({{"a", DType::kU8, {1}, "A"}}));
    folder.Write("two.safetensors", BuildSafetensors({{"b", DType::kU8, {1}, "B"}}));
    folder.Write("model.safetensors.index.json", bad.index);
    const auto checkpoint = SafetensorsCheckpoint::Open(folder.path());
    ASSERT_FALSE(checkpoint.ok());
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(bad.message));
  }
}

TEST(SafetensorsCheckpoint, SaysHowToConvertOtherFormats) {
  const TestFolder folder;
  EXPECT_EQ(SafetensorsCheckpoint::Open(folder.path()).status().code(),
            absl::StatusCode::kNotFound);
  folder.Write("pytorch_model.bin", "x");
  EXPECT_THAT(std::string(SafetensorsCheckpoint::Open(folder.path()).status().message()),
              HasSubstr("save_pretrained"));
}

}  // namespace
}  // namespace octogate::workers
