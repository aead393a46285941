#include "common/grpc_status.h"

#include <gtest/gtest.h>

#include <string>

#include "common/utf8.h"

namespace octogate {
namespace {

TEST(GrpcStatusTest, CodesAreTheSameBothWays) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");
    const grpc::Status sent = ToGrpcStatus(status);
    EXPECT_EQ(sent.error_code(), code);
    EXPECT_EQ(FromGrpcStatus(sent, grpc::ClientContext()), status);
  }
}

TEST(GrpcStatusTest, CodesThatGrpcDoesNotDefineAreUnknown) {
  for (const int code : {17, 31, -1}) {
    const grpc::Status sent(static_cast<grpc::StatusCode>(code), "why");
    EXPECT_EQ(FromGrpcStatus(sent, grpc::ClientContext()), absl::UnknownError("why"));
  }
}

TEST(GrpcStatusTest, MessagesAreBoundedAndValidUtf8) {
  std::string message = "caf\xC3\xA9 \xFF ";
  while (message.size() < 3 * kMaxStatusMessageBytes) message += "\xE2\x82\xAC";
  const grpc::Status sent = ToGrpcStatus(absl::InternalError(message));
  EXPECT_EQ(sent.error_message().rfind("caf\xC3\xA9 ? \xE2\x82\xAC", 0), 0u);
  EXPECT_LE(sent.error_message().size(), kMaxStatusMessageBytes);
  EXPECT_GT(sent.error_message().size(), kMaxStatusMessageBytes - 3);
  EXPECT_TRUE(IsValidUtf8(sent.error_message()));
  const absl::Status received =
      FromGrpcStatus({grpc::StatusCode::INTERNAL, message}, grpc::ClientContext());
  EXPECT_EQ(std::string(received.message()), sent.error_message());
}

TEST(GrpcStatusTest, NoDeadlineIsInfinite) {
  EXPECT_EQ(DeadlineOf(grpc::ServerContext()), absl::InfiniteFuture());
}

}  // namespace
}  // namespace octogate
