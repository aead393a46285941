#include "gateway/request_validation.h"

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace octogate::gateway {
namespace {

using Limits = RequestLimits;

constexpr size_t kMaxTraceIdBytes = 64;

absl::Status Invalid(const std::string& field, const std::string& problem) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", problem));
}

// Not-a-numbers are outside of every range.
absl::Status CheckRange(const std::string& field, double value, double min, double max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return Invalid(field, absl::StrCat(value, " is not within ", min, " to ", max));
}

absl::Status CheckNotNegative(const std::string& field, int64_t value) {
  if (value >= 0) return absl::OkStatus();
  return Invalid(field, absl::StrCat(value, " is negative; it must be 0 or more"));
}

absl::Status CheckLength(const std::string& field, std::string_view value, size_t max_bytes) {
  if (value.size() <= max_bytes) return absl::OkStatus();
  return Invalid(field, absl::StrCat("has ", value.size(), " bytes, more than ", max_bytes));
}

absl::Status CheckRequired(const std::string& field, std::string_view value, size_t max_bytes) {
  if (value.empty()) return Invalid(field, "is required");
  return CheckLength(field, value, max_bytes);
}

template <typename Messages>
absl::Status CheckMessages(const Messages& messages) {
  if (messages.empty()) return Invalid("messages", "at least one is required");
  if (messages.size() > Limits::kMaxMessages) {
    return Invalid("messages", absl::StrCat("there are ", messages.size(), ", more than ",
                                            Limits::kMaxMessages));
  }
  size_t bytes = 0;
  bool has_user = false;
  for (int i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role();
    if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
      return Invalid(absl::StrCat("messages[", i, "].role"),
                     R"(must be "system", "user", "assistant" or "tool")");
    }
    has_user = has_user || role == "user";
    bytes += messages[i].content().size();
  }
  if (bytes > Limits::kMaxContentBytes) {
    return Invalid("messages", absl::StrCat("their content has ", bytes, " bytes, more than ",
                                            Limits::kMaxContentBytes));
  }
  const std::string last = absl::StrCat("messages[", messages.size() - 1, "]");
  const auto& query = messages[messages.size() - 1];
  if (query.role() != "user" && query.role() != "tool") {
    return Invalid(last + ".role",
                   R"(the last message is the query; it must be of "user", or a result of "tool")");
  }
  if (!has_user) return Invalid("messages", R"(a tool's result needs a query of "user" before it)");
  if (query.content().empty()) return Invalid(last + ".content", "the query is empty");
  return absl::OkStatus();
}

absl::Status CheckSampling(const v1::SamplingParameters& sampling) {
  OCTOGATE_RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature(), 0, 100));
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("sampling.top_k", sampling.top_k()));
  if (sampling.has_top_p() && !(sampling.top_p() > 0 && sampling.top_p() <= 1)) {
    return Invalid("sampling.top_p",
                   absl::StrCat(sampling.top_p(), " is not within 0 (excluded) to 1"));
  }
  OCTOGATE_RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p(), 0, 1));
  if (sampling.has_repetition_penalty() &&
      !(sampling.repetition_penalty() > 0 && sampling.repetition_penalty() <= 10)) {
    return Invalid(
        "sampling.repetition_penalty",
        absl::StrCat(sampling.repetition_penalty(), " is not within 0 (excluded) to 10"));
  }
  OCTOGATE_RETURN_IF_ERROR(
      CheckRange("sampling.presence_penalty", sampling.presence_penalty(), -2, 2));
  return CheckRange("sampling.frequency_penalty", sampling.frequency_penalty(), -2, 2);
}

absl::Status CheckGrammar(const v1::Grammar& grammar) {
  switch (grammar.kind_case()) {
    case v1::Grammar::kJson:
      return absl::OkStatus();
    case v1::Grammar::kJsonSchema:
      return CheckRequired("grammar.json_schema", grammar.json_schema(), Limits::kMaxGrammarBytes);
    case v1::Grammar::kEbnf:
      return CheckRequired("grammar.ebnf", grammar.ebnf(), Limits::kMaxGrammarBytes);
    case v1::Grammar::kSql:
      return Invalid("grammar.sql",
                     "only a model node of the graph has it; ask with a JSON Schema or rules");
    case v1::Grammar::KIND_NOT_SET:
      break;
  }
  return Invalid("grammar", "one of json, json_schema and ebnf is required");
}

absl::Status CheckTenant(const std::string& tenant) {
  return CheckLength("tenant", tenant, Limits::kMaxTenantBytes);
}

// Zeros are defaults.
absl::Status CheckLinkSettings(const v1::LinkSettings& settings) {
  const auto check = [](const std::string& field, bool valid) {
    return valid ? absl::OkStatus() : Invalid(field, "is not one of the values there are");
  };
  OCTOGATE_RETURN_IF_ERROR(check("settings.mode", v1::LinkMode_IsValid(settings.mode())));
  OCTOGATE_RETURN_IF_ERROR(check("settings.recall", v1::LinkRecall_IsValid(settings.recall())));
  OCTOGATE_RETURN_IF_ERROR(check("settings.style", v1::LinkStyle_IsValid(settings.style())));
  if (settings.token_budget() != 0) {
    OCTOGATE_RETURN_IF_ERROR(CheckRange("settings.token_budget", settings.token_budget(),
                                        Limits::kMinTokenBudget, Limits::kMaxTokenBudget));
  }
  return CheckRange("settings.max_columns", settings.max_columns(), 0, Limits::kMaxLinkedColumns);
}

// From 1 to `max`.
absl::Status CheckCount(const std::string& field, int count, int max) {
  if (count >= 1 && count <= max) return absl::OkStatus();
  return Invalid(field, absl::StrCat("there are ", count, "; it must be 1 to ", max));
}

absl::Status CheckTotal(const std::string& field, size_t bytes, size_t max_bytes) {
  if (bytes <= max_bytes) return absl::OkStatus();
  return Invalid(field, absl::StrCat("have ", bytes, " bytes, more than ", max_bytes));
}

absl::Status CheckListed(int32_t limit) {
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("limit", limit));
  if (limit <= Limits::kMaxListed) return absl::OkStatus();
  return Invalid("limit", absl::StrCat(limit, " is more than ", Limits::kMaxListed));
}

}  // namespace

absl::Status ValidateRequest(const v1::GenerateRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckMessages(request.messages()));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("node", request.node(), Limits::kMaxNameBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckRange("max_tokens", request.max_tokens(), 0, Limits::kMaxTokens));
  if (request.has_sampling()) OCTOGATE_RETURN_IF_ERROR(CheckSampling(request.sampling()));
  if (request.stop_size() > Limits::kMaxStops) {
    return Invalid(
        "stop", absl::StrCat("there are ", request.stop_size(), ", more than ", Limits::kMaxStops));
  }
  for (int i = 0; i < request.stop_size(); ++i) {
    const std::string field = absl::StrCat("stop[", i, "]");
    if (request.stop(i).empty()) return Invalid(field, "is empty");
    OCTOGATE_RETURN_IF_ERROR(CheckLength(field, request.stop(i), Limits::kMaxStopBytes));
  }
  OCTOGATE_RETURN_IF_ERROR(
      CheckRange("top_logprobs", request.top_logprobs(), 0, Limits::kMaxTopLogprobs));
  if (!v1::EventLevel_IsValid(request.events())) {
    return Invalid("events",
                   absl::StrCat(static_cast<int>(request.events()), " is not an event level"));
  }
  OCTOGATE_RETURN_IF_ERROR(CheckRange("max_calls", request.max_calls(), 0, Limits::kMaxCalls));
  if (request.has_max_cost()) {
    OCTOGATE_RETURN_IF_ERROR(CheckRange("max_cost", request.max_cost(), 0, Limits::kMaxCost));
  }
  if (request.has_quality()) {
    OCTOGATE_RETURN_IF_ERROR(CheckRange("quality", request.quality(), 0, 1));
  }
  OCTOGATE_RETURN_IF_ERROR(CheckLength("session", request.session(), Limits::kMaxSessionBytes));
  if (request.has_grammar()) OCTOGATE_RETURN_IF_ERROR(CheckGrammar(request.grammar()));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::RouteRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckMessages(request.messages()));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("session", request.session(), Limits::kMaxSessionBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("node", request.node(), Limits::kMaxNameBytes));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::EmbedRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckRequired("model", request.model(), Limits::kMaxNameBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckCount("inputs", request.inputs_size(), Limits::kMaxEmbedInputs));
  size_t bytes = 0;
  for (const std::string& input : request.inputs()) bytes += input.size();
  OCTOGATE_RETURN_IF_ERROR(CheckTotal("inputs", bytes, Limits::kMaxContentBytes));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::ListModelsRequest&) { return absl::OkStatus(); }

absl::Status ValidateRequest(const v1::FeedbackRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckRequired("trace_id", request.trace_id(), kMaxTraceIdBytes));
  if (request.verdict() != v1::VERDICT_RIGHT && request.verdict() != v1::VERDICT_WRONG) {
    return Invalid("verdict", "must be VERDICT_RIGHT or VERDICT_WRONG");
  }
  OCTOGATE_RETURN_IF_ERROR(
      CheckLength("better_node", request.better_node(), Limits::kMaxNameBytes));
  if (!request.better_node().empty() && request.verdict() != v1::VERDICT_WRONG) {
    return Invalid("better_node", "only what went wrong has a better node");
  }
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::LinkSchemaRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckRequired("catalog", request.catalog(), Limits::kMaxNameBytes));
  OCTOGATE_RETURN_IF_ERROR(
      CheckRequired("question", request.question(), Limits::kMaxQuestionBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("evidence", request.evidence(), Limits::kMaxQuestionBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckLinkSettings(request.settings()));
  OCTOGATE_RETURN_IF_ERROR(
      CheckRange("max_dropped", request.max_dropped(), 0, Limits::kMaxDropped));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::ApplyGraphRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(
      CheckRequired("manifest", request.manifest(), Limits::kMaxManifestBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("source", request.source(), 4096));
  return CheckNotNegative("expected_version", request.expected_version());
}

absl::Status ValidateRequest(const v1::GetGraphRequest& request) {
  return CheckNotNegative("version", request.version());
}

absl::Status ValidateRequest(const v1::ListGraphVersionsRequest& request) {
  return CheckListed(request.limit());
}

absl::Status ValidateRequest(const v1::DiffGraphRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("from_version", request.from_version()));
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("to_version", request.to_version()));
  if ((request.to_version() > 0) == !request.manifest().empty()) {
    return Invalid("to_version, manifest", "exactly one of both is required");
  }
  OCTOGATE_RETURN_IF_ERROR(CheckLength("manifest", request.manifest(), Limits::kMaxManifestBytes));
  return CheckLength("source", request.source(), 4096);
}

absl::Status ValidateRequest(const v1::RollbackGraphRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("version", request.version()));
  return CheckNotNegative("expected_version", request.expected_version());
}

absl::Status ValidateRequest(const v1::ListNodesRequest& request) {
  return CheckLength("name", request.name(), Limits::kMaxNameBytes);
}

absl::Status ValidateRequest(const v1::DescribeModelsRequest& request) {
  return CheckLength("name", request.name(), Limits::kMaxNameBytes);
}

absl::Status ValidateRequest(const v1::DrainNodeRequest& request) {
  return CheckRequired("name", request.name(), Limits::kMaxNameBytes);
}

absl::Status ValidateRequest(const v1::LearnTokenRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckRequired("node", request.node(), Limits::kMaxNameBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("router", request.router(), Limits::kMaxNameBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("expected_version", request.expected_version()));
  OCTOGATE_RETURN_IF_ERROR(
      CheckCount("examples", request.examples_size(), Limits::kMaxLearnedExamples));
  size_t bytes = 0;
  for (int i = 0; i < request.examples_size(); ++i) {
    const std::string& example = request.examples(i);
    OCTOGATE_RETURN_IF_ERROR(
        CheckRequired(absl::StrCat("examples[", i, "]"), example, Limits::kMaxExampleBytes));
    bytes += example.size();
  }
  return CheckTotal("examples", bytes, Limits::kMaxContentBytes);
}

absl::Status ValidateRequest(const v1::ForgetTokenRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckRequired("node", request.node(), Limits::kMaxNameBytes));
  return CheckNotNegative("expected_version", request.expected_version());
}

absl::Status ValidateRequest(const v1::EvaluateTokensRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckLength("router", request.router(), Limits::kMaxNameBytes));
  OCTOGATE_RETURN_IF_ERROR(
      CheckCount("queries", request.queries_size(), Limits::kMaxLabelledQueries));
  size_t bytes = 0;
  for (int i = 0; i < request.queries_size(); ++i) {
    const v1::LabelledQuery& query = request.queries(i);
    const std::string field = absl::StrCat("queries[", i, "]");
    OCTOGATE_RETURN_IF_ERROR(CheckRequired(field + ".node", query.node(), Limits::kMaxNameBytes));
    OCTOGATE_RETURN_IF_ERROR(
        CheckRequired(field + ".query", query.query(), Limits::kMaxLabelledQueryBytes));
    bytes += query.query().size();
  }
  return CheckTotal("queries", bytes, Limits::kMaxLabelledBytes);
}

absl::Status ValidateRequest(const v1::ListFeedbackRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckListed(request.limit()));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::PromoteFeedbackRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckLength("node", request.node(), Limits::kMaxNameBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("expected_version", request.expected_version()));
  if (request.trace_ids_size() > Limits::kMaxListed) {
    return Invalid("trace_ids", absl::StrCat("there are ", request.trace_ids_size(), ", more than ",
                                             Limits::kMaxListed));
  }
  for (const std::string& id : request.trace_ids()) {
    OCTOGATE_RETURN_IF_ERROR(CheckRequired("trace_ids", id, kMaxTraceIdBytes));
  }
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::GetTraceRequest& request) {
  return CheckRequired("trace_id", request.trace_id(), kMaxTraceIdBytes);
}

absl::Status ValidateRequest(const v1::ListTracesRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckListed(request.limit()));
  return CheckLength("node", request.node(), Limits::kMaxNameBytes);
}

absl::Status ValidateRequest(const v1::ExplainDecisionRequest& request) {
  if (request.trace_id().empty() == request.query().empty()) {
    return Invalid("trace_id, query", "exactly one of both is required");
  }
  OCTOGATE_RETURN_IF_ERROR(CheckLength("trace_id", request.trace_id(), kMaxTraceIdBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("query", request.query(), Limits::kMaxLabelledQueryBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("router", request.router(), Limits::kMaxNameBytes));
  if (!request.trace_id().empty() && !request.router().empty()) {
    return Invalid("router", "only a query has it; a trace says which routers decided");
  }
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("graph_version", request.graph_version()));
  OCTOGATE_RETURN_IF_ERROR(CheckRange("limit", request.limit(), 0, Limits::kMaxExplained));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::ReplayTrafficRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("version", request.version()));
  if ((request.version() > 0) == !request.manifest().empty()) {
    return Invalid("version, manifest", "exactly one of both is required");
  }
  OCTOGATE_RETURN_IF_ERROR(CheckLength("manifest", request.manifest(), Limits::kMaxManifestBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("source", request.source(), 4096));
  if (request.queries_size() > Limits::kMaxLabelledQueries) {
    return Invalid("queries", absl::StrCat("there are ", request.queries_size(), ", more than ",
                                           Limits::kMaxLabelledQueries));
  }
  size_t bytes = 0;
  for (int i = 0; i < request.queries_size(); ++i) {
    const v1::ReplayQuery& query = request.queries(i);
    const std::string field = absl::StrCat("queries[", i, "]");
    OCTOGATE_RETURN_IF_ERROR(CheckLength(field + ".node", query.node(), Limits::kMaxNameBytes));
    OCTOGATE_RETURN_IF_ERROR(
        CheckRequired(field + ".query", query.query(), Limits::kMaxLabelledQueryBytes));
    bytes += query.query().size();
  }
  OCTOGATE_RETURN_IF_ERROR(CheckTotal("queries", bytes, Limits::kMaxLabelledBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckListed(request.limit()));
  OCTOGATE_RETURN_IF_ERROR(
      CheckRange("changes_limit", request.changes_limit(), 0, Limits::kMaxListed));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::PutCatalogRequest& request) {
  // What a catalog may be is checked as part of the graph.
  OCTOGATE_RETURN_IF_ERROR(
      CheckRequired("catalog.name", request.catalog().name(), Limits::kMaxNameBytes));
  OCTOGATE_RETURN_IF_ERROR(
      CheckTotal("catalog", request.catalog().ByteSizeLong(), Limits::kMaxManifestBytes));
  return CheckNotNegative("expected_version", request.expected_version());
}

absl::Status ValidateRequest(const v1::ListCatalogsRequest&) { return absl::OkStatus(); }

absl::Status ValidateRequest(const v1::GetCatalogRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckRequired("name", request.name(), Limits::kMaxNameBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckLength("table", request.table(), Limits::kMaxTableBytes));
  OCTOGATE_RETURN_IF_ERROR(CheckNotNegative("offset", request.offset()));
  OCTOGATE_RETURN_IF_ERROR(CheckListed(request.limit()));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::RefreshCatalogRequest& request) {
  return CheckRequired("name", request.name(), Limits::kMaxNameBytes);
}

absl::Status ValidateRequest(const v1::GetCacheStatsRequest& request) {
  OCTOGATE_RETURN_IF_ERROR(CheckLength("model", request.model(), Limits::kMaxNameBytes));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::FlushCacheRequest& request) {
  if (request.kinds_size() > Limits::kMaxCacheKinds) {
    return Invalid("kinds", absl::StrCat("there are ", request.kinds_size(), ", more than ",
                                         Limits::kMaxCacheKinds));
  }
  for (int i = 0; i < request.kinds_size(); ++i) {
    if (request.kinds(i) != "decisions" && request.kinds(i) != "answers") {
      return Invalid(absl::StrCat("kinds[", i, "]"), R"(must be "decisions" or "answers")");
    }
  }
  if (!request.model().empty() && request.kinds_size() > 0) {
    return Invalid("kinds",
                   "decisions and answers do not tell the models that they come from: flush them "
                   "without a model, or the pages of a model without kinds");
  }
  OCTOGATE_RETURN_IF_ERROR(CheckLength("model", request.model(), Limits::kMaxNameBytes));
  return CheckTenant(request.tenant());
}

absl::Status ValidateRequest(const v1::ExplainCacheRequest& request) {
  return Annotate(ValidateRequest(request.request()), "request");
}

absl::Status ValidateRequest(const v1::GetServerInfoRequest&) { return absl::OkStatus(); }

absl::Status ValidateRequest(const grpc::health::v1::HealthCheckRequest& request) {
  return CheckLength("service", request.service(), 256);
}

}  // namespace octogate::gateway
