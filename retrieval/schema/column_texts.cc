#include "retrieval/schema/column_texts.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {
namespace {

using Stems = absl::flat_hash_set<std::string>;

void AddStems(std::string_view text, Stems* stems) {
  for (const std::string& word : SplitWords(text)) stems->insert(Stem(word));
}

bool AddsWords(std::string_view text, const Stems& known) {
  static const auto& empty = *new Stems{Stem("id"), Stem("identifier"), Stem("identification"),
                                        Stem("identifying"), Stem("unique")};
  const std::vector<std::string> words = SplitWords(text);
  return std::any_of(words.begin(), words.end(), [&](const std::string& word) {
    const std::string stem = Stem(word);
    return !IsStopWord(word) && !known.contains(stem) && !empty.contains(stem);
  });
}

}  // namespace

uint8_t TellingTexts(const Table& table, const Column& column) {
  if (column.alias.empty() && column.description.empty() && column.value_description.empty()) {
    return 0;
  }
  Stems known;
  AddStems(table.name, &known);
  AddStems(column.name, &known);
  uint8_t texts = 0;
  const auto look = [&](std::string_view text, ColumnText bit) {
    if (!AddsWords(text, known)) return;
    texts |= bit;
    AddStems(text, &known);
  };
  if (!absl::StrContains(column.description, column.alias)) look(column.alias, kAliasText);
  look(column.description, kDescriptionText);
  look(column.value_description, kValueDescriptionText);
  return texts;
}

}  // namespace octogate::schema
