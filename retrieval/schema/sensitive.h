// Columns whose values must not leave the database.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_SENSITIVE_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_SENSITIVE_H_

#include <string_view>

namespace octogate::schema {

// Whether a column's name says that its values are secrets or identify a person: passwords,
// tokens, addresses of mail, phone, national and card numbers, birth dates. By words, so that
// "EmailAddress" is and "emailed_count" is not; a guess that errs towards true.
bool IsSensitiveName(std::string_view column_name);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_SENSITIVE_H_
