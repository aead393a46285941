// The public contract keeps the conventions that generated clients rely on, and each rule of the
// check finds what breaks it.

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/proto/proto_lint.h"

namespace octogate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace fs = std::filesystem;
namespace pb = google::protobuf;

class Folder {
 public:
  Folder() {
    std::string name = testing::TempDir() + "octogate-proto-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What the compiler says, be it an error or a warning (of an import that nothing uses, for one), or
// else what LintProto finds.
std::vector<std::string> LintFile(const fs::path& root, const std::string& path) {
  const Folder folder;
  const fs::path set = folder.path() / "set";
  const fs::path messages = folder.path() / "messages";
  const std::string command =
      std::string(OCTOGATE_PROTOC) +
      " --include_imports --include_source_info --proto_path=" + root.string() +
      " --descriptor_set_out=" + set.string() + " " + path + " 2>" + messages.string();
  const int status = std::system(command.c_str());
  const std::string text = ReadFile(messages);
  if (status != 0 || !text.empty()) return {text};
  pb::FileDescriptorSet files;
  EXPECT_TRUE(files.ParseFromString(ReadFile(set)));
  pb::DescriptorPool pool;
  const pb::FileDescriptor* file = nullptr;
  for (const pb::FileDescriptorProto& proto : files.file()) file = pool.BuildFile(proto);
  if (file == nullptr) return {"the descriptors are not whole"};
  return LintProto(*file);
}

std::vector<std::string> LintText(const std::string& text,
                                  const std::string& path = "acme/v1/shop.proto") {
  const Folder folder;
  fs::create_directories((folder.path() / path).parent_path());
  std::ofstream(folder.path() / path) << text;
  return LintFile(folder.path(), path);
}

constexpr char kHead[] = "syntax = \"proto3\";\npackage acme.v1;\n";

TEST(ContractTest, EveryFileOfTheContractKeepsTheConventions) {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(OCTOGATE_PROTO_ROOT) + "/octogate/v1")) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  EXPECT_THAT(names, ElementsAre("admin.proto", "gateway.proto", "graph.proto", "worker.proto"));
  for (const std::string& name : names) {
    EXPECT_THAT(LintFile(OCTOGATE_PROTO_ROOT, "octogate/v1/" + name), IsEmpty()) << name;
  }
}

TEST(ContractTest, AWellFormedFileHasNoFindings) {
  EXPECT_THAT(LintText(std::string(kHead) + R"(
// Sells.
service Shop {
  // Sells one thing.
  rpc Buy(BuyRequest) returns (stream ShopBuyResponse);
}
// Input of Buy.
message BuyRequest {
  // How it is paid. Required.
  PaymentMethod payment_method = 1;
  // Exactly one.
  oneof thing {
    // A number in the catalogue.
    int64 number = 2;
  }
  // Default: absent.
  optional string note = 3;
  // Default: none.
  map<string, string> labels = 4;
}
// Output of Buy.
message ShopBuyResponse {}
// How something is paid.
enum PaymentMethod {
  // Not valid.
  PAYMENT_METHOD_UNSPECIFIED = 0;
  // In coins.
  PAYMENT_METHOD_COINS = 1;
}
)"),
              IsEmpty());
}

struct BadExample {
  std::string text;
  std::string finding;
};

class BadExampleTest : public ::testing::TestWithParam<BadExample> {};

TEST_P(BadExampleTest, IsFound) {
  EXPECT_THAT(LintText(std::string(kHead) + GetParam().text),
              ElementsAre(HasSubstr(GetParam().finding)));
}

INSTANTIATE_TEST_SUITE_P(
    ContractTest, BadExampleTest,
    ::testing::Values(
        BadExample{"message M {}", "acme.v1.M: has no comment"},
        BadExample{"// …\nmessage M {}", "acme.v1.M: has no comment"},
        BadExample{"// M.\nmessage m {}", "acme.v1.m: is not PascalCase"},
        BadExample{"// M.\nmessage M {\n  int32 a = 1;\n}", "acme.v1.M.a: has no comment"},
        BadExample{"// M.\nmessage M {\n  int32 a = 1;  // After it.\n}",
                   "acme.v1.M.a: has no comment"},
        BadExample{"// M.\nmessage M {\n  // A.\n  int32 aB = 1;\n}",
                   "acme.v1.M.aB: is not lower_snake_case"},
        BadExample{"// M.\nmessage M {\n  // N.\n  message N {\n    int32 a = 1;\n  }\n}",
                   "acme.v1.M.N.a: has no comment"},
        BadExample{"// M.\nmessage M {\n  oneof k {\n    // A.\n    int32 a = 1;\n  }\n}",
                   "acme.v1.M.k: has no comment"},
        BadExample{"// E.\nenum Kind {\n  // No.\n  KIND_NONE = 0;\n}",
                   "the value 0 is not KIND_UNSPECIFIED"},
        BadExample{"// E.\nenum Kind {\n  // No.\n  KIND_UNSPECIFIED = 0;\n  KIND_A = 1;\n}",
                   "KIND_A: has no comment"},
        BadExample{"// E.\nenum Kind {\n  // No.\n  KIND_UNSPECIFIED = 0;\n  // A.\n  A = 1;\n}",
                   "A: does not begin with KIND_"},
        BadExample{"// E.\nenum Kind {\n  // No.\n  KIND_UNSPECIFIED = 0;\n  // A.\n  KIND_a = 1;\n"
                   "}",
                   "KIND_a: is not UPPER_SNAKE_CASE"},
        BadExample{"// I.\nmessage BuyRequest {}\n// O.\nmessage BuyResponse {}\nservice S {\n"
                   "  // B.\n  rpc Buy(BuyRequest) returns (BuyResponse);\n}",
                   "acme.v1.S: has no comment"},
        BadExample{"// I.\nmessage BuyRequest {}\n// O.\nmessage BuyResponse {}\n// S.\nservice S "
                   "{\n  rpc Buy(BuyRequest) returns (BuyResponse);\n}",
                   "acme.v1.S.Buy: has no comment"},
        BadExample{"// I.\nmessage Order {}\n// O.\nmessage BuyResponse {}\n// S.\nservice S {\n"
                   "  // B.\n  rpc Buy(Order) returns (BuyResponse);\n}",
                   "acme.v1.S.Buy: has the type Order; it must be BuyRequest"},
        BadExample{"// I.\nmessage BuyRequest {}\n// O.\nmessage Bill {}\n// S.\nservice S {\n"
                   "  // B.\n  rpc Buy(BuyRequest) returns (stream Bill);\n}",
                   "acme.v1.S.Buy: has the type Bill; it must be BuyResponse"}));

TEST(ContractTest, ATypeThatTwoMethodsShareIsFound) {
  EXPECT_THAT(LintText(std::string(kHead) + R"(
// I.
message BuyRequest {}
// O.
message BuyResponse {}
// S.
service S {
  // B.
  rpc Buy(BuyRequest) returns (BuyResponse);
}
// T.
service T {
  // B.
  rpc Buy(BuyRequest) returns (BuyResponse);
}
)"),
              ElementsAre("acme.v1.T.Buy: shares BuyRequest with another method",
                          "acme.v1.T.Buy: shares BuyResponse with another method"));
}

TEST(ContractTest, WhatTheCompilerWarnsOfIsFound) {
  EXPECT_THAT(LintText(std::string(kHead) + "import \"google/protobuf/any.proto\";\n"),
              ElementsAre(HasSubstr("any.proto is unused")));
  EXPECT_THAT(LintText(std::string(kHead) + "message {}"), ElementsAre(HasSubstr("Expected")));
}

TEST(ContractTest, ThePackageIsTheFolder) {
  EXPECT_THAT(
      LintText(kHead, "acme/v2/shop.proto"),
      ElementsAre("acme/v2/shop.proto: is of package 'acme.v1'; its folder says 'acme.v2'"));
  EXPECT_THAT(LintText("syntax = \"proto3\";\npackage acme;\n", "acme/shop.proto"),
              ElementsAre(HasSubstr("does not end with a version")));
  EXPECT_THAT(LintText(kHead, "acme/v1/Shop.proto"),
              ElementsAre(HasSubstr("is not lower_snake_case.proto")));
  EXPECT_THAT(LintText("syntax = \"proto2\";\npackage acme.v1;\n"),
              ElementsAre(HasSubstr("is not proto3")));
}

}  // namespace
}  // namespace octogate
