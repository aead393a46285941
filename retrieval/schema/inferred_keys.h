// Keys that nobody declared: in practice one question of ten needs a join that the schema does not
// name.
//
// A column refers to another table's primary key of one column
//  - where both have the same name, and the name says what it identifies ("customer_id", but not
//    "id"), or
//  - where its name is that table's, in the singular, with "id", "key", "code" or the like
//    ("customer_id" to customers.id);
// and key-like columns of the same name meet where no table has it as its primary key. The types
// must be of one class, and where all values of the target are known, half of those known of the
// source must be among them. A name that more than kMaxSharing tables share is no key.
//
// Thread-safe.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_INFERRED_KEYS_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_INFERRED_KEYS_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "retrieval/schema/catalog.h"

namespace octogate::schema {

inline constexpr size_t kMaxSharing = 6;

enum class TypeClass { kUnknown, kNumber, kText, kTime, kBoolean, kOther };
TypeClass ClassOf(std::string_view sql_type);

// Fills key_names, key_referents, referent and single_primary_key from `table->table`.
void PrepareKeys(CatalogTable* table);

// Edges between columns that `declared` (sorted) does not connect; at most one from a column to an
// entry.
std::vector<KeyEdge> InferKeys(const std::vector<Entry>& entries,
                               const std::vector<KeyEdge>& declared);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_INFERRED_KEYS_H_
