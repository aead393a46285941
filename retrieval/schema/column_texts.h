// Which of the texts that describe a column say more than its name.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_TEXTS_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_TEXTS_H_

#include <cstdint>

#include "retrieval/schema/schema.h"

namespace octogate::schema {

// As bits.
enum ColumnText : uint8_t {
  kAliasText = 1,
  kDescriptionText = 2,
  kValueDescriptionText = 4,
  kAllTexts = 7,
};

// Those with a word that neither the names of the table and the column have nor a text before them
// among those above; words that say nothing of a column, as "unique" and "identifier", and stop
// words (words.h) do not count. An alias that stands in the description is not among them.
uint8_t TellingTexts(const Table& table, const Column& column);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_TEXTS_H_
