// Files that octoctl reads.

#ifndef OCTOGATE_GATEWAY_OCTOCTL_INPUT_H_
#define OCTOGATE_GATEWAY_OCTOCTL_INPUT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "octogate/v1/admin.pb.h"

namespace octogate::octoctl {

// As much as the gateway takes in one message.
inline constexpr size_t kMaxInputBytes = size_t{4} << 20;

// Reads a file, or standard input for "-"; says on standard error why it could not, e.g. because it
// has more than `max_bytes`.
bool ReadInput(const std::string& file, size_t max_bytes, std::string& text);

// What the gateway's messages call a file.
std::string SourceName(const std::string& file);

// The same for a manifest, with the files that it refers to as `!file PATH` in their places
// (manifest_files.h); paths are relative to the manifest's folder, or to the present one for "-".
bool ReadManifest(const std::string& file, std::string& text);

// The queries in `text`, one a line; empty lines are left out. A line is the query itself, or where
// it begins with '{' a JSON object {"query": …}. False, with a message in `error`, for a line that
// is neither.
bool ParseQueries(const std::string& text, std::vector<std::string>& queries, std::string& error);

// The same for queries with their nodes: NODE, a tabulator and the query, or a JSON object
// {"node": …, "query": …}.
bool ParseLabelledQueries(const std::string& text, std::vector<v1::LabelledQuery>& queries,
                          std::string& error);

// The same for queries whose node need not be known: the query itself, or a JSON object with
// "query" and perhaps "node".
bool ParseReplayQueries(const std::string& text, std::vector<v1::ReplayQuery>& queries,
                        std::string& error);

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_INPUT_H_
