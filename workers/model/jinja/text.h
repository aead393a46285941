// Text as Python's str sees it, over UTF-8: positions count code points, and
// whitespace, case and printability are Unicode's.
//
// All functions expect valid UTF-8; where it is not, a stray byte counts as one
// code point and passes through unchanged.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_TEXT_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octogate::workers::jinja {

bool IsValidUtf8(std::string_view text);

// Reads the code point at `position` and moves past it.
char32_t NextCodePoint(std::string_view text, size_t& position);
void AppendCodePoint(std::string& text, char32_t code_point);
size_t CountCodePoints(std::string_view text);
// One view per code point.
std::vector<std::string_view> SplitCodePoints(std::string_view text);

bool IsSpace(char32_t code_point);      // str.isspace
bool IsPrintable(char32_t code_point);  // what repr leaves unescaped

enum class Side { kBoth, kLeft, kRight };
// Without the code points of `characters`, or without whitespace when null.
std::string_view Strip(std::string_view text, Side side, const std::string_view* characters);

// str.splitlines() without line ends.
std::vector<std::string_view> SplitLines(std::string_view text);
// str.split() on runs of whitespace; at most `max_splits` unless negative.
std::vector<std::string_view> SplitWhitespace(std::string_view text, int64_t max_splits,
                                              bool from_right);
// str.split(separator); the separator is not empty.
std::vector<std::string_view> SplitOn(std::string_view text, std::string_view separator,
                                      int64_t max_splits, bool from_right);

// str.lower and so on, with Unicode's full mappings ("ß" becomes "SS"). Lower
// case of a capital sigma at the end of a word is the final sigma.
std::string Lower(std::string_view text);
std::string Upper(std::string_view text);
std::string Title(std::string_view text);
std::string Capitalize(std::string_view text);
// str.islower and str.isupper, over the letters that have another case.
bool IsLowerText(std::string_view text);
bool IsUpperText(std::string_view text);

// At most `max_count` replacements unless negative.
std::string Replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t max_count);

// repr(float): the shortest digits that read back as the same number.
std::string FloatRepr(double number);
// repr(str).
std::string TextRepr(std::string_view text);
// A JSON string as json.dumps writes it, quotes included.
void AppendJsonString(std::string& out, std::string_view text, bool ensure_ascii);
// & < > ' " as HTML entities, as markupsafe writes them.
std::string EscapeHtml(std::string_view text);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_TEXT_H_
