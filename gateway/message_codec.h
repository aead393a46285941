// Messages to and from the bytes that gRPC carries. The gateway parses by itself, so that bytes
// which are not a message are INVALID_ARGUMENT and not an internal error.
#ifndef OCTOGATE_GATEWAY_MESSAGE_CODEC_H_
#define OCTOGATE_GATEWAY_MESSAGE_CODEC_H_

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"

namespace octogate::gateway {

// INVALID_ARGUMENT for bytes that are not a message of that type, strings that are not UTF-8
// included.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message);

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_MESSAGE_CODEC_H_
