#ifndef OCTOGATE_ROUTER_GRAPH_SCHEMA_H_
#define OCTOGATE_ROUTER_GRAPH_SCHEMA_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "google/protobuf/descriptor.h"

// What graph.proto's comments say about single values, as data: the manifest's parser checks every
// value against it.

namespace octogate::router {

// What a text must look like.
enum class TextForm {
  kAny,
  kGraphName,  // [a-z0-9-], at most 63
  kNodeName,   // [a-z0-9_-], at most 63
  kModelName,  // [A-Za-z0-9._-], at most 63
  kToken,      // No white space or control characters, at most 72 bytes.
  kAddress,    // host:port
  kWeightFormat,
  kKvDtype,
  kActivations,
  kDrafter,
  kRecyclingTree,
};

struct FieldRule {
  std::string_view field;  // "Message.field", without the package.
  bool required = false;   // A key that must be written.
  bool is_choice = false;  // Where it is written, none of the message's alternatives need be.
  // Of numbers.
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_excluded = false;
  // Of texts, in bytes; of the values of a map.
  TextForm form = TextForm::kAny;
  size_t min_bytes = 0;
  size_t max_bytes = 4096;
  // Of lists and maps.
  int min_items = 0;
  int max_items = 4096;
};

// The rule of a field; one without restrictions of its own gets the defaults above.
const FieldRule& RuleOf(const google::protobuf::FieldDescriptor& field);

// The texts that a field of that form may have; empty where there is no such list.
std::span<const std::string_view> ChoicesOf(TextForm form);

// What is wrong with a value under the rule, e.g. "must be 1 to 64"; empty if it is right.
std::string CheckNumber(const FieldRule& rule, double value);
std::string CheckText(const FieldRule& rule, std::string_view value);
std::string CheckItems(const FieldRule& rule, size_t count);

// An enum value as manifests spell it: EDGE_CONDITION_LOW_CONFIDENCE -> "lowConfidence".
std::string EnumSpelling(const google::protobuf::EnumValueDescriptor& value);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_GRAPH_SCHEMA_H_
