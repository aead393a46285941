// The `tables.json` of Spider and what kept its form (BIRD, KaggleDBQA with its
// `column_descriptions`): every database of the file.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_SPIDER_READER_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_SPIDER_READER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "retrieval/schema/schema.h"

namespace octogate::schema {

// Errors: see schema.h. `source` names the text in messages.
absl::StatusOr<std::vector<Schema>> ParseSpiderTables(std::string_view text,
                                                      std::string_view source);
absl::StatusOr<std::vector<Schema>> ReadSpiderTables(const std::string& path);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_SPIDER_READER_H_
