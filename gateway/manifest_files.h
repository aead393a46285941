// Files that a manifest refers to: `system: !file prompts/generate.txt` stands for the text of that
// file, so that prompts and grammars need not be written into YAML. Whoever applies a manifest puts
// the texts in first: the gateway gets, keeps and compares the whole graph, and refuses tags.
#ifndef OCTOGATE_GATEWAY_MANIFEST_FILES_H_
#define OCTOGATE_GATEWAY_MANIFEST_FILES_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace octogate::gateway {

// The manifest with every `!file PATH` replaced by a quoted string of that file's content, without
// the ends of lines at its end; lines keep their numbers. Paths are relative to `folder`, and a
// file outside of it is refused. A text that is no YAML comes back as it is: its errors are for
// those who parse it. INVALID_ARGUMENT as "SOURCE:LINE:COLUMN: …" for a file that cannot be read,
// is not UTF-8, or with which the manifest would have more than `max_bytes`.
absl::StatusOr<std::string> InlineFiles(std::string_view yaml, std::string_view source,
                                        const std::string& folder, size_t max_bytes);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_MANIFEST_FILES_H_
