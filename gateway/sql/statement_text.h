// The statement in a model's answer.
#ifndef OCTOGATE_GATEWAY_SQL_STATEMENT_TEXT_H_
#define OCTOGATE_GATEWAY_SQL_STATEMENT_TEXT_H_

#include <string_view>

namespace octogate::gateway {

// What of an answer is the statement, as far as that is certain:
//   - the inside of its only fenced block (``` or ~~~, alone or with the word sql, sqlite,
//   postgres,
//     postgresql or mysql in any case of letters), whatever stands around it; a fence that is not
//     closed reaches to the end, as when the answer was cut;
//   - what follows "SQL:" or "SQLQuery:" at the start, in any case of letters, if there is no
//   fence;
//   - otherwise the whole answer.
// White space at both ends is left out. An answer with more blocks than one, or with a block in
// another language, is returned whole: the database will say what is wrong with it. The view points
// into `answer`.
std::string_view StatementIn(std::string_view answer);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_STATEMENT_TEXT_H_
