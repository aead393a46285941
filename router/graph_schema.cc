#include "router/graph_schema.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/strings.h"
#include "router/manifest_decoder.h"

namespace octogate::router {
namespace {

constexpr size_t kPromptBytes = size_t{64} << 10;

constexpr size_t kGrammarBytes = size_t{256} << 10;

constexpr FieldRule kDefaultRule = {.field = ""};

constexpr std::array kRules = {
    FieldRule{.field = "Graph.metadata", .required = true},
    FieldRule{.field = "Graph.spec", .required = true},
    FieldRule{.field = "GraphMetadata.name", .required = true, .form = TextForm::kGraphName},
    FieldRule{.field = "GraphMetadata.description", .max_bytes = 1024},
    FieldRule{.field = "GraphSpec.entry", .required = true, .form = TextForm::kNodeName},
    FieldRule{.field = "GraphSpec.models", .max_items = 256},
    FieldRule{.field = "GraphSpec.nodes", .required = true, .min_items = 1, .max_items = 4096},
    FieldRule{.field = "GraphSpec.edges", .max_items = 16384},
    FieldRule{.field = "GraphSpec.catalogs", .max_items = 64},
    FieldRule{.field = "DecisionCache.max_entries", .min = 0, .max = 1 << 20},
    FieldRule{.field = "AnswerCache.max_entries", .min = 1, .max = 1 << 20},
    FieldRule{.field = "AnswerCache.expires_after_ms", .min = 1, .max = 2'592'000'000},
    FieldRule{.field = "AnswerCache.encoder", .form = TextForm::kModelName},
    FieldRule{.field = "AnswerCache.threshold", .min = 0, .max = 1, .min_excluded = true},
    FieldRule{.field = "Catalog.name", .required = true, .form = TextForm::kModelName},
    FieldRule{.field = "Catalog.sqlite", .min_bytes = 1},
    FieldRule{.field = "Catalog.ddl", .min_bytes = 1},
    FieldRule{.field = "Catalog.spider", .min_bytes = 1},
    FieldRule{.field = "Catalog.json", .min_bytes = 1},
    FieldRule{.field = "Catalog.database", .max_bytes = 512},
    FieldRule{.field = "Catalog.postgresql", .is_choice = true, .max_bytes = 256},
    FieldRule{.field = "Catalog.encoder", .form = TextForm::kModelName},
    FieldRule{.field = "Catalog.sensitive", .min_bytes = 1, .max_bytes = 1025},
    FieldRule{.field = "Catalog.max_values", .min = 0, .max = 100'000},
    FieldRule{.field = "Catalog.access", .max_items = 1024},
    FieldRule{.field = "CatalogAccess.tenant", .required = true, .min_bytes = 1, .max_bytes = 256},
    FieldRule{.field = "CatalogAccess.tables", .min_bytes = 1, .max_bytes = 512},
    FieldRule{.field = "VisibleColumns.table", .required = true, .min_bytes = 1, .max_bytes = 512},
    FieldRule{.field = "VisibleColumns.columns",
              .required = true,
              .min_bytes = 1,
              .max_bytes = 512,
              .min_items = 1},
    FieldRule{.field = "GraphLimits.max_steps", .min = 1, .max = 64},
    FieldRule{.field = "GraphLimits.timeout_ms", .min = 1, .max = 3'600'000},
    FieldRule{.field = "GraphLimits.max_calls", .min = 1, .max = 1024},
    FieldRule{.field = "GraphLimits.max_cost", .min = 0, .max = 1e9},
    FieldRule{.field = "GraphLimits.tenants", .max_items = 1024},
    FieldRule{.field = "TenantLimits.tenant", .required = true, .min_bytes = 1, .max_bytes = 256},
    FieldRule{.field = "TenantLimits.max_calls", .min = 1, .max = 1024},
    FieldRule{.field = "TenantLimits.max_cost", .min = 0, .max = 1e9},
    FieldRule{.field = "TenantLimits.quality", .min = 0, .max = 1},
    FieldRule{.field = "Model.name", .required = true, .form = TextForm::kModelName},
    FieldRule{.field = "Model.path", .min_bytes = 1},
    FieldRule{
        .field = "Model.workers", .form = TextForm::kAddress, .min_items = 1, .max_items = 256},
    FieldRule{.field = "Model.weight_format", .form = TextForm::kWeightFormat},
    FieldRule{.field = "Model.kv_dtype", .form = TextForm::kKvDtype},
    FieldRule{.field = "Model.activations", .form = TextForm::kActivations},
    FieldRule{.field = "Model.threads", .min = 1, .max = 1024},
    FieldRule{.field = "Model.max_sequences", .min = 1, .max = 4096},
    FieldRule{.field = "Model.max_context", .min = 16, .max = 1 << 24},
    FieldRule{.field = "Speculation.drafters", .form = TextForm::kDrafter, .max_items = 8},
    FieldRule{.field = "Speculation.max_drafted_tokens", .min = 1, .max = 127},
    FieldRule{.field = "Speculation.datastores", .min_bytes = 1, .max_items = 16},
    FieldRule{.field = "Speculation.tenant_datastores", .max_items = 16},
    FieldRule{
        .field = "TenantDatastore.tenant", .required = true, .min_bytes = 1, .max_bytes = 256},
    FieldRule{.field = "TenantDatastore.path", .required = true, .min_bytes = 1},
    FieldRule{.field = "Speculation.draft_model", .min_bytes = 1},
    FieldRule{.field = "Speculation.draft_threads", .min = 0, .max = 1024},
    FieldRule{.field = "Speculation.state", .min_bytes = 1},
    FieldRule{.field = "Speculation.recycling_candidates", .min = 1, .max = 32},
    FieldRule{.field = "Speculation.recycling_pairs", .min = 0, .max = 1'048'576},
    FieldRule{.field = "Speculation.recycling_tree", .form = TextForm::kRecyclingTree},
    FieldRule{.field = "Speculation.prune_retrieved_below", .min = 0, .max = 0.99},
    FieldRule{.field = "Speculation.draft_memory_mib", .min = 1, .max = 1048576},
    FieldRule{.field = "Node.name", .required = true, .form = TextForm::kNodeName},
    FieldRule{.field = "Node.examples", .min_bytes = 1, .max_bytes = 16384, .max_items = 100'000},
    FieldRule{
        .field = "Node.learned_examples", .min_bytes = 1, .max_bytes = 16384, .max_items = 1024},
    FieldRule{.field = "Node.token", .form = TextForm::kToken},
    FieldRule{.field = "ModelNode.model", .required = true, .form = TextForm::kModelName},
    FieldRule{.field = "ModelNode.system", .max_bytes = kPromptBytes},
    FieldRule{.field = "ModelNode.max_tokens", .min = 1, .max = 32768},
    FieldRule{.field = "ModelNode.stop", .min_bytes = 1, .max_bytes = 256, .max_items = 16},
    FieldRule{.field = "Grammar.json_schema", .min_bytes = 1, .max_bytes = kGrammarBytes},
    FieldRule{.field = "Grammar.ebnf", .min_bytes = 1, .max_bytes = kGrammarBytes},
    FieldRule{.field = "SqlGrammar.retriever", .form = TextForm::kNodeName},
    FieldRule{.field = "SqlGrammar.catalog", .form = TextForm::kModelName},
    FieldRule{.field = "RetrieverNode.catalog", .required = true, .form = TextForm::kModelName},
    FieldRule{.field = "RetrieverNode.table_node", .form = TextForm::kNodeName},
    FieldRule{.field = "LinkSettings.token_budget", .min = 64, .max = 1'000'000},
    FieldRule{.field = "LinkSettings.max_columns", .min = 1, .max = 8192},
    FieldRule{.field = "SqlNode.catalog", .required = true, .form = TextForm::kModelName},
    FieldRule{.field = "SqlNode.max_rows", .min = 1, .max = 100'000},
    FieldRule{.field = "SqlNode.max_bytes", .min = 64, .max = 1 << 20},
    FieldRule{.field = "SqlNode.timeout_ms", .min = 1, .max = 600'000},
    FieldRule{.field = "ToolNode.tool", .required = true, .form = TextForm::kNodeName},
    FieldRule{.field = "ToolNode.parameters", .max_bytes = kPromptBytes, .max_items = 64},
    FieldRule{.field = "ModelNode.expected", .max_items = 64},
    FieldRule{.field = "Price.input", .min = 0, .max = 1e6},
    FieldRule{.field = "Price.output", .min = 0, .max = 1e6},
    FieldRule{.field = "ExpectedAccuracy.up_to_tokens", .required = true, .min = 1, .max = 1e6},
    FieldRule{.field = "ExpectedAccuracy.accuracy", .required = true, .min = 0, .max = 1},
    FieldRule{.field = "ReplayNode.recording", .required = true, .min_bytes = 1},
    FieldRule{.field = "ReplayNode.expected", .max_items = 64},
    FieldRule{.field = "ReplayNode.max_tokens", .min = 1, .max = 1e6},
    FieldRule{.field = "VoteNode.members",
              .required = true,
              .form = TextForm::kNodeName,
              .min_items = 1,
              .max_items = 16},
    FieldRule{.field = "VoteNode.samples", .min = 1, .max = 16},
    FieldRule{.field = "VoteNode.parallel", .min = 1, .max = 16},
    FieldRule{.field = "VoteNode.enough", .min = 1, .max = 16},
    FieldRule{.field = "VoteNode.sure", .min = 0, .max = 16},
    FieldRule{.field = "ModelNode.quality", .max_items = 64},
    FieldRule{.field = "ReplayNode.quality", .max_items = 64},
    FieldRule{.field = "DomainQuality.domain", .max_bytes = 63},
    FieldRule{.field = "DomainQuality.accuracy", .required = true, .min = 0, .max = 1},
    FieldRule{.field = "Speed.first_token_ms", .min = 0, .max = 3.6e6},
    FieldRule{.field = "Speed.tokens_per_second",
              .required = true,
              .min = 0,
              .max = 1e6,
              .min_excluded = true},
    FieldRule{.field = "ChoiceNode.members",
              .required = true,
              .form = TextForm::kNodeName,
              .min_items = 1,
              .max_items = 32},
    FieldRule{.field = "ChoiceNode.policy", .required = true},
    FieldRule{.field = "ChoiceNode.tolerance", .min = 0, .max = 1},
    FieldRule{.field = "ChoiceNode.budget", .min = 0, .max = 1e9},
    FieldRule{.field = "ChoiceNode.quality", .min = 0, .max = 1},
    FieldRule{.field = "ChoiceNode.outcomes", .min_bytes = 1, .max_bytes = 4096},
    FieldRule{.field = "ChoiceNode.domains", .max_items = 64},
    FieldRule{.field = "ChoiceNode.max_calls", .min = 1, .max = 2},
    FieldRule{.field = "ChoiceNode.sure", .min = 0, .max = 1},
    FieldRule{.field = "QueryDomain.name", .required = true, .form = TextForm::kNodeName},
    FieldRule{
        .field = "QueryDomain.examples", .min_bytes = 1, .max_bytes = 16384, .max_items = 10'000},
    FieldRule{.field = "VerifyNode.answer", .required = true, .form = TextForm::kNodeName},
    FieldRule{.field = "VerifyNode.judge", .required = true, .form = TextForm::kNodeName},
    FieldRule{.field = "VerifyNode.prompt", .min_bytes = 1, .max_bytes = kPromptBytes},
    FieldRule{.field = "RouterNode.members",
              .required = true,
              .form = TextForm::kNodeName,
              .min_items = 1},
    FieldRule{.field = "RouterNode.fallback", .required = true, .form = TextForm::kNodeName},
    FieldRule{.field = "RouterNode.heads", .required = true, .min_items = 1, .max_items = 8},
    FieldRule{.field = "RouterNode.hysteresis", .min = 0, .max = 1},
    FieldRule{.field = "Head.threshold", .min = 0, .max = 1},
    FieldRule{.field = "Head.risk", .min = 0, .max = 1},
    FieldRule{.field = "Head.coverage", .min = 0, .max = 1},
    FieldRule{.field = "LexicalHead.hash_bits", .min = 10, .max = 22},
    FieldRule{.field = "LexicalHead.epochs", .min = 1, .max = 1000},
    FieldRule{.field = "EncoderHead.model", .required = true, .form = TextForm::kModelName},
    FieldRule{.field = "EncoderHead.epochs", .min = 1, .max = 1000},
    FieldRule{.field = "CausalHead.model", .required = true, .form = TextForm::kModelName},
    FieldRule{.field = "CausalHead.prompt", .max_bytes = kPromptBytes},
    FieldRule{.field = "CausalHead.system", .max_bytes = kPromptBytes},
    FieldRule{.field = "CausalHead.tokens", .form = TextForm::kToken},
    FieldRule{.field = "CausalHead.end_token", .form = TextForm::kToken},
    FieldRule{.field = "CausalHead.max_argument_tokens", .min = 1, .max = 4096},
    FieldRule{.field = "Rewrite.causal", .required = true},
    FieldRule{
        .field = "Rewrite.members", .required = true, .form = TextForm::kNodeName, .min_items = 1},
    FieldRule{.field = "Edge.from", .required = true, .form = TextForm::kNodeName},
    FieldRule{.field = "Edge.to", .required = true, .form = TextForm::kNodeName},
    FieldRule{.field = "Edge.on", .required = true},
    FieldRule{.field = "Edge.below", .min = 0, .max = 1},
    FieldRule{.field = "Edge.max_visits", .min = 1, .max = 16},
    FieldRule{.field = "Edge.input", .min_bytes = 1, .max_bytes = kPromptBytes},
    FieldRule{.field = "SamplingParameters.temperature", .min = 0, .max = 100},
    FieldRule{.field = "SamplingParameters.top_k", .min = 0, .max = 1'000'000},
    FieldRule{.field = "SamplingParameters.top_p", .min = 0, .max = 1, .min_excluded = true},
    FieldRule{.field = "SamplingParameters.min_p", .min = 0, .max = 1},
    FieldRule{.field = "SamplingParameters.repetition_penalty",
              .min = 0,
              .max = 10,
              .min_excluded = true},
    FieldRule{.field = "SamplingParameters.presence_penalty", .min = -2, .max = 2},
    FieldRule{.field = "SamplingParameters.frequency_penalty", .min = -2, .max = 2},
};

constexpr std::string_view kWeightFormats[] = {"stored",     "bf16",       "int8",
                                               "int8-group", "int4-group", "fp8"};
constexpr std::string_view kKvDtypes[] = {"f32", "f16", "bf16", "fp8", "int8"};
constexpr std::string_view kActivations[] = {"f32", "bf16", "bf16-pairs"};
constexpr std::string_view kRecyclingTrees[] = {"best-first", "fixed", "planned"};
constexpr std::string_view kDrafters[] = {"recycling", "suffix", "lookahead", "retrieval", "model"};

std::string CheckChoice(std::string_view value, TextForm form, std::string_view what) {
  const auto choices = ChoicesOf(form);
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return "";
  return absl::StrCat("is ", Quoted(value), ", which is none of the ", ToAbsl(what),
                      Suggest(value, {choices.begin(), choices.end()}, what));
}

std::string CheckName(std::string_view value, std::string_view others, bool upper,
                      std::string_view allowed) {
  constexpr size_t kMaxNameBytes = 63;
  const bool right = !value.empty() && value.size() <= kMaxNameBytes &&
                     std::all_of(value.begin(), value.end(), [&](char c) {
                       return absl::ascii_isdigit(c) || absl::ascii_islower(c) ||
                              (upper && absl::ascii_isupper(c)) ||
                              others.find(c) != std::string_view::npos;
                     });
  if (right) return "";
  return absl::StrCat("is ", Quoted(value), "; a name is 1 to ", kMaxNameBytes, " of ",
                      ToAbsl(allowed));
}

std::string CheckToken(std::string_view value) {
  constexpr size_t kMaxTokenBytes = 72;
  const bool right = !value.empty() && value.size() <= kMaxTokenBytes &&
                     std::all_of(value.begin(), value.end(), [](char c) {
                       return static_cast<unsigned char>(c) > 0x20 && c != 0x7F;
                     });
  if (right) return "";
  return absl::StrCat("is ", Quoted(value), "; a token is 1 to ", kMaxTokenBytes,
                      " bytes without white space, e.g. '<fn:shell>'");
}

std::string CheckAddress(std::string_view value) {
  const size_t colon = value.rfind(':');
  int port = 0;
  const bool right = colon != std::string_view::npos && colon > 0 && value.size() <= 255 &&
                     value.find_first_of(" \t\r\n/") == std::string_view::npos &&
                     absl::ascii_isdigit(value.back()) &&
                     absl::SimpleAtoi(ToAbsl(value.substr(colon + 1)), &port) && port >= 1 &&
                     port <= 65535;
  if (right) return "";
  return absl::StrCat("is ", Quoted(value), "; an address is host:port, e.g. '10.0.0.7:7071'");
}

}  // namespace

const FieldRule& RuleOf(const google::protobuf::FieldDescriptor& field) {
  const std::string name = absl::StrCat(field.containing_type()->name(), ".", field.name());
  const auto* rule = std::find_if(kRules.begin(), kRules.end(),
                                  [&](const FieldRule& rule) { return rule.field == name; });
  return rule == kRules.end() ? kDefaultRule : *rule;
}

std::span<const std::string_view> ChoicesOf(TextForm form) {
  if (form == TextForm::kWeightFormat) return kWeightFormats;
  if (form == TextForm::kKvDtype) return kKvDtypes;
  if (form == TextForm::kActivations) return kActivations;
  if (form == TextForm::kDrafter) return kDrafters;
  if (form == TextForm::kRecyclingTree) return kRecyclingTrees;
  return {};
}

std::string CheckNumber(const FieldRule& rule, double value) {
  const bool above = rule.min_excluded ? value > rule.min : value >= rule.min;
  if (above && value <= rule.max) return "";
  const auto text = [](double bound) {
    return bound == static_cast<double>(static_cast<int64_t>(bound))
               ? absl::StrCat(static_cast<int64_t>(bound))
               : absl::StrCat(bound);
  };
  if (rule.min_excluded) {
    return absl::StrCat("must be above ", text(rule.min), " and at most ", text(rule.max));
  }
  return absl::StrCat("must be ", text(rule.min), " to ", text(rule.max));
}

std::string CheckText(const FieldRule& rule, std::string_view value) {
  switch (rule.form) {
    case TextForm::kGraphName:
      return CheckName(value, "-", false, "a-z, 0-9 and '-'");
    case TextForm::kNodeName:
      return CheckName(value, "-_", false, "a-z, 0-9, '-' and '_'");
    case TextForm::kModelName:
      return CheckName(value, "-_.", true, "A-Z, a-z, 0-9, '.', '-' and '_'");
    case TextForm::kToken:
      return CheckToken(value);
    case TextForm::kAddress:
      return CheckAddress(value);
    case TextForm::kWeightFormat:
      return CheckChoice(value, rule.form, "weight formats");
    case TextForm::kKvDtype:
      return CheckChoice(value, rule.form, "types of keys and values");
    case TextForm::kActivations:
      return CheckChoice(value, rule.form, "types of activations");
    case TextForm::kDrafter:
      return CheckChoice(value, rule.form, "drafters");
    case TextForm::kRecyclingTree:
      return CheckChoice(value, rule.form, "trees of recycling");
    case TextForm::kAny:
      break;
  }
  if (value.size() < rule.min_bytes) return "must not be empty";
  if (value.size() > rule.max_bytes) {
    return absl::StrCat("has ", value.size(), " bytes; at most ", rule.max_bytes, " are allowed");
  }
  return "";
}

std::string CheckItems(const FieldRule& rule, size_t count) {
  if (count < static_cast<size_t>(rule.min_items)) return "must not be empty";
  if (count > static_cast<size_t>(rule.max_items)) {
    return absl::StrCat("has ", count, " entries; at most ", rule.max_items, " are allowed");
  }
  return "";
}

std::string EnumSpelling(const google::protobuf::EnumValueDescriptor& value) {
  // The prefix is the enum's name in capitals: one word per upper-case letter.
  const std::string& type = value.type()->name();
  const size_t words = std::count_if(type.begin(), type.end(), absl::ascii_isupper);
  std::string_view rest = value.name();
  for (size_t i = 0; i < words; ++i) rest.remove_prefix(rest.find('_') + 1);
  std::string spelling;
  bool upper = false;
  for (const char c : rest) {
    if (c == '_') {
      upper = true;
    } else {
      spelling.push_back(upper ? c : absl::ascii_tolower(c));
      upper = false;
    }
  }
  return spelling;
}

}  // namespace octogate::router
