// The conventions that generated clients rely on, checked on descriptors: those of buf's STANDARD
// and COMMENTS sets, except that services are named without the suffix "Service".
#ifndef OCTOGATE_TESTS_PROTO_PROTO_LINT_H_
#define OCTOGATE_TESTS_PROTO_PROTO_LINT_H_

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

namespace octogate {

// What is wrong with the file, one line per finding, e.g. "octogate.v1.Node.name: has no comment".
// The descriptor must come from a parser, which keeps comments; compiled-in ones have none.
std::vector<std::string> LintProto(const google::protobuf::FileDescriptor& file);

}  // namespace octogate

#endif  // OCTOGATE_TESTS_PROTO_PROTO_LINT_H_
