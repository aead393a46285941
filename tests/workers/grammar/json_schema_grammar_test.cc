// What a JSON Schema's grammar reads, and what of schemas it refuses.
#include "workers/grammar/json_schema_grammar.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "workers/grammar/parse_states.h"
#include "workers/grammar/rule_network.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

void Check(const std::string& schema, const std::vector<std::string>& good,
           const std::vector<std::string>& bad) {
  SCOPED_TRACE(schema);
  const auto grammar = JsonSchemaGrammar(schema);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const auto network = BuildRuleNetwork(*grammar);
  ASSERT_TRUE(network.ok()) << network.status();
  ParseStates states(&*network, size_t{16} << 20);
  const auto accepts = [&](const std::string& text) {
    StateId state = states.start();
    for (const char byte : text) {
      if (state != ParseStates::kDead) state = states.Next(state, static_cast<uint8_t>(byte));
    }
    return states.Complete(state);
  };
  for (const std::string& text : good) EXPECT_TRUE(accepts(text)) << text;
  for (const std::string& text : bad) EXPECT_FALSE(accepts(text)) << text;
}

TEST(JsonSchema, TypesAndConstants) {
  Check("{}", {"1", "[{\"a\": null}]"}, {"x"});
  Check("true", {"\"x\""}, {""});
  Check(R"({"type": "string"})", {R"("a\"\u00e9")"}, {"1", "\"a"});
  Check(R"({"type": "integer"})", {"-12", "0"}, {"1.5", "01", "\"1\"", "1e3"});
  Check(R"({"type": "integer", "minimum": 0})", {"12", "0"}, {"-1"});
  Check(R"({"type": "integer", "exclusiveMinimum": 0})", {"12"}, {"0", "-1"});
  Check(R"({"type": "number", "minimum": 0})", {"1.5e-3", "0"}, {"-1"});
  Check(R"({"type": ["null", "boolean"]})", {"null", "true"}, {"0"});
  Check(R"({"enum": ["a\nb", 1, null, {"x": []}]})", {R"("a\nb")", "1", R"({"x":[]})"},
        {"2", "\"a\""});
  Check(R"({"type": "string", "enum": ["a", 1]})", {"\"a\""}, {"1"});
  Check(R"({"const": "é"})", {"\"é\""}, {"\"e\""});
  Check(R"({"anyOf": [{"type": "null"}, {"const": 3}]})", {"3", "null"}, {"4"});
}

TEST(JsonSchema, Strings) {
  Check(R"({"type": "string", "minLength": 2, "maxLength": 3})",
        {R"("ab")", R"("é\n\ud83d\ude00")"}, {R"("a")", R"("abcd")"});
  Check(R"({"type": "string", "pattern": "^[A-Z]{2}-\\d+$"})", {R"("AB-12")"},
        {R"("AB-")", R"("xAB-1")", R"("AB-1x")"});
  Check(R"({"type": "string", "pattern": "b|c"})", {R"("abz")", R"("c")"}, {R"("a")"});
  Check(R"x({"type": "string", "pattern": "^(?:a|b)*[^x]$"})x", {R"("ab\"")", R"("\\")"},
        {R"("x")", R"("")"});
}

TEST(JsonSchema, Arrays) {
  Check(R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2})",
        {"[1]", "[ 1 , 2 ]"}, {"[]", "[1,2,3]", "[\"a\"]", "[1,]"});
  Check(R"({"type": "array", "maxItems": 0})", {"[]", "[ ]"}, {"[1]"});
  Check(R"({"type": "array"})", {"[]", "[1, \"a\"]"}, {"[1 2]"});
}

TEST(JsonSchema, Objects) {
  const std::string properties =
      R"("properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "ok": {"type": "boolean"}})";
  Check(
      R"({"type": "object", "additionalProperties": false, "required": ["name"], )" + properties +
          "}",
      {R"({"name": "x"})", R"({"id":1,"name":"x","ok":true})", R"({ "name" : "" , "ok" : false })"},
      {"{}", R"({"id": 1})", R"({"name": "x", "more": 1})", R"({"name": 1})", R"({"name": "x",})",
       R"({,"name": "x"})"});
  Check(R"({"type": "object", )" + properties + "}",
        {"{}", R"({"more": [1]})", R"({"id": 1, "i": "x", "idd": 2, "": 3})"},
        {R"({"id": "x"})", R"({"\u0069d": "x"})", R"({"name": "x", "id": "x"})"});
  Check(R"({"type": "object", "properties": {"a\"b": {}}})", {"{}", R"({"a":1})", R"({"a\"b":1})"},
        {R"({"a"x":1})"});
  Check(R"({"type": "object", "additionalProperties": {"type": "null"}})",
        {"{}", R"({"a": null, "b": null})"}, {R"({"a": 1})"});
}

TEST(JsonSchema, References) {
  Check(R"({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "required": ["left"],
            "additionalProperties": false,
            "properties": {"left": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}}}}})",
        {R"({"left": {"left": {"left": null}}})"}, {"{}", R"({"left": 1})"});
  Check(R"({"anyOf": [{"type": "array", "items": {"$ref": "#"}}, {"const": 0}]})", {"[[0],[[]]]"},
        {"[1]"});
}

TEST(JsonSchema, WhatIsNotSupportedIsAnErrorWithItsPlace) {
  const auto error = [](const std::string& schema) {
    return std::string(JsonSchemaGrammar(schema).status().message());
  };
  EXPECT_THAT(error(R"({"type": "string", "format": "date"})"), HasSubstr("\"format\""));
  EXPECT_THAT(error(R"({"type": "object", "properties": {"a": {"type": "number", "maximum": 3}}})"),
              HasSubstr("#/properties/a: the keyword \"maximum\""));
  EXPECT_THAT(error(R"({"type": "array", "uniqueItems": true})"), HasSubstr("uniqueItems"));
  EXPECT_THAT(error(R"({"type": "integer", "minimum": 7})"), HasSubstr("minimum of 0"));
  EXPECT_THAT(error(R"({"$ref": "other.json"})"), HasSubstr("within the document"));
  EXPECT_THAT(error(R"({"$ref": "#/$defs/none"})"), HasSubstr("nothing at this reference"));
  EXPECT_THAT(error(R"x({"type": "string", "pattern": "(?=a)"})x"), HasSubstr("not supported"));
  EXPECT_THAT(error(R"({"type": "string", "pattern": "^a|b$"})"), HasSubstr("not supported"));
  EXPECT_THAT(error(R"({"type": "word"})"), HasSubstr("no JSON type"));
  EXPECT_THAT(error("[1]"), HasSubstr("an object or a boolean"));
  EXPECT_THAT(error("{"), HasSubstr("no JSON"));
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += R"({"type":"array","items":)";
  EXPECT_EQ(JsonSchemaGrammar(deep + "{}" + std::string(1000, '}')).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(JsonSchemaGrammar("{\"const\": " + std::string(200'000, '[')).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(JsonSchema, WhatNothingConformsToIsAnError) {
  for (const char* schema :
       {"false", R"({"$ref": "#"})", R"({"type": "string", "minLength": 2, "maxLength": 1})"}) {
    const auto grammar = JsonSchemaGrammar(schema);
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    EXPECT_EQ(BuildRuleNetwork(*grammar).status().code(), absl::StatusCode::kInvalidArgument)
        << schema;
  }
}

}  // namespace
}  // namespace octogate::workers
