#ifndef OCTOGATE_ROUTER_MANIFEST_WRITER_H_
#define OCTOGATE_ROUTER_MANIFEST_WRITER_H_

#include <string>

#include "google/protobuf/message.h"

namespace octogate::router {

// The fields of a message as a manifest writes them, one block of YAML.
std::string MessageToYaml(const google::protobuf::Message& message);

// One value that is neither a message nor a list, without quotes; `index` counts within a repeated
// field and is -1 for a single one.
std::string ValueToText(const google::protobuf::Message& message,
                        const google::protobuf::FieldDescriptor& field, int index);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_MANIFEST_WRITER_H_
