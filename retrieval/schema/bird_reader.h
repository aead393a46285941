// Descriptions in BIRD's forms: JSON with every database's tables, columns, descriptions and
// sample values; and the CSV files of a `database_description` folder, one per table. Values of
// these are samples, so values_truncated is set unless the number of distinct ones says that all
// are there.
//
// A schema's keys are better taken from BIRD's `tables.json` (spider_reader.h): MergeDescriptions
// brings the two together.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_BIRD_READER_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_BIRD_READER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "retrieval/schema/schema.h"

namespace octogate::schema {

// Errors: see schema.h. Descriptions that a model wrote (`ai_description`) are not read.
absl::StatusOr<std::vector<Schema>> ParseBirdMetadata(std::string_view text,
                                                      std::string_view source);
absl::StatusOr<std::vector<Schema>> ReadBirdMetadata(const std::string& path);

// Describes `table` from rows of original_column_name, column_name, column_description,
// data_format, value_description, in any order under a first row with these names. Bytes that are
// not UTF-8, of which such files have some, become "?". Rows about unknown columns are left out
// with a warning to `schema`, which holds the table.
absl::Status DescribeFromBirdCsv(std::string_view text, std::string_view source, Table* table,
                                 Schema* schema);

// Every `<table>.csv` of the folder, in byte order of names.
absl::Status DescribeFromBirdFolder(const std::string& folder, Schema* schema);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_BIRD_READER_H_
