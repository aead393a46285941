// What common words of questions ask for where no column is called so: "how old" asks for an age
// or a birthday, "the most expensive" for a price.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_WORD_SENSES_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_WORD_SENSES_H_

#include <span>
#include <string>
#include <string_view>

namespace octogate::schema {

// Stems of words that columns of that meaning have in their names; of a word as in the question,
// in lower case. Everyday English only, nothing of one domain.
std::span<const std::string> SensesOf(std::string_view word);

// What kind of column a question as a whole asks for.
struct QuestionCues {
  bool time = false;       // when, before, since, a year
  bool number = false;     // average, total, highest, more than 5
  bool name = false;       // who, which, list, name
  bool entity = false;     // something in quotes or with a capital letter, as names have
  bool full_name = false;  // two words with capital letters, one after the other
};
QuestionCues CuesOf(std::string_view question);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_WORD_SENSES_H_
