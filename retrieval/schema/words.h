// Words of identifiers and questions, as everything that compares the two sees them.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_WORDS_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_WORDS_H_

#include <string>
#include <string_view>
#include <vector>

namespace octogate::schema {

// Lower-case words in order of appearance. Words end at characters that are neither letters nor
// digits, between letters and digits, and inside of camelCase ("HTTPServerId2": http, server, id,
// 2). An ideograph is a word of its own. The "s" of a possessive is dropped. Bytes that are not
// valid UTF-8 separate words.
std::vector<std::string> SplitWords(std::string_view text);

// A key under which the inflected forms of an English word meet ("countries" and "country",
// "named" and "name"); not a word itself. Words of up to three letters, and words with anything
// but a-z in them, stay as they are.
std::string Stem(std::string_view word);

// Whether the stem carries no meaning of its own in a question: articles, pronouns, auxiliary
// verbs, "list", "show", "please".
bool IsStopWord(std::string_view word);

// `text` without anything but letters and digits, in lower case: "Customer_ID" is "customerid".
std::string Squash(std::string_view text);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_WORDS_H_
