// Chosen tables and columns as text for a prompt, within a number of tokens.
//
// Tables and columns come in the order given, the catalog's, so that prompts of one catalog share
// prefixes. Where the budget is short detail goes first: sample values, then descriptions, then the
// values that stand in the question, of the least important columns first; columns go last.
//
// What says nothing new is left out whatever the budget: texts that say no more than the names, and
// sample values of keys and of columns that the text joins. A declared key of one column stands
// with the column.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_SCHEMA_TEXT_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_SCHEMA_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/schema/column_texts.h"
#include "retrieval/schema/linker.h"

namespace octogate::schema {

struct TextColumn {
  const Column* column = nullptr;
  uint32_t rank = 0;          // 0 is the most important; no two have the same, and none is left out
  uint8_t texts = kAllTexts;  // those to be shown (column_texts.h)
  std::vector<std::string> matched;  // stored values that stand in the question
};

struct TextTable {
  const Table* table = nullptr;
  std::vector<std::string> members;  // of a family, the table itself among them
  std::vector<TextColumn> columns;
};

struct TextJoin {
  size_t left_table = 0, left_column = 0;  // positions in what is given
  size_t right_table = 0, right_column = 0;
  KeyKind kind = KeyKind::kDeclared;
  uint32_t group = 0;  // as of KeyEdge: those of one are shown together or not at all
};

// Those whose columns are all of a lower rank than `columns`, with all of their groups' joins.
std::vector<TextJoin> ShownJoins(const std::vector<TextTable>& tables,
                                 const std::vector<TextJoin>& joins, uint32_t columns);

struct SchemaText {
  std::string text;
  size_t tokens = 0;
  uint32_t columns = 0;  // shown: those of lower rank
};

// `count` may be null (see CountTokens). The text has at most `budget` tokens, and is empty where
// not even one column fits.
SchemaText RenderWithin(const std::vector<TextTable>& tables, const std::vector<TextJoin>& joins,
                        RenderStyle style, size_t budget, const CountTokens& count);

size_t CountOrEstimate(const CountTokens& count, std::string_view text);

// As SQL writes it: bare where it is lower- or upper-case letters, digits and "_", else in quotes.
std::string QuotedIfNeeded(std::string_view identifier);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_SCHEMA_TEXT_H_
