// Checks requests field by field against what the contract says, before anything else looks at
// them. INVALID_ARGUMENT names the field, what is wrong and what would be right.
//
// That strings are UTF-8 is checked where messages are parsed (message_codec.h).
#ifndef OCTOGATE_GATEWAY_REQUEST_VALIDATION_H_
#define OCTOGATE_GATEWAY_REQUEST_VALIDATION_H_

#include <cstddef>

#include "absl/status/status.h"
#include "grpc/health/v1/health.pb.h"
#include "octogate/v1/admin.pb.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

struct RequestLimits {
  static constexpr int kMaxMessages = 1024;
  static constexpr size_t kMaxContentBytes = size_t{1} << 20;  // over all messages or inputs
  static constexpr int kMaxTokens = 32768;
  static constexpr int kMaxStops = 16;
  static constexpr size_t kMaxStopBytes = 256;
  static constexpr int kMaxTopLogprobs = 20;
  static constexpr size_t kMaxNameBytes = 63;
  static constexpr size_t kMaxTenantBytes = 128;
  static constexpr int kMaxEmbedInputs = 256;
  static constexpr size_t kMaxManifestBytes = size_t{4} << 20;
  static constexpr int kMaxListed = 1000;
  static constexpr int kMaxLearnedExamples = 1024;
  static constexpr size_t kMaxExampleBytes = size_t{16} << 10;
  static constexpr int kMaxLabelledQueries = 20'000;
  static constexpr size_t kMaxLabelledQueryBytes = size_t{64} << 10;
  static constexpr size_t kMaxLabelledBytes = size_t{2} << 20;  // over all queries
  static constexpr size_t kMaxSessionBytes = 256;
  static constexpr size_t kMaxGrammarBytes = size_t{256} << 10;
  static constexpr int kMaxExplained = 100;
  static constexpr int kMaxCalls = 1024;
  static constexpr double kMaxCost = 1e9;
  static constexpr size_t kMaxQuestionBytes = size_t{64} << 10;  // and of its evidence
  static constexpr int kMaxDropped = 1000;
  static constexpr int kMinTokenBudget = 64;
  static constexpr int kMaxTokenBudget = 1'000'000;
  static constexpr int kMaxLinkedColumns = 8192;
  static constexpr size_t kMaxTableBytes = 512;
  static constexpr int kMaxCacheKinds = 16;
};

absl::Status ValidateRequest(const v1::GenerateRequest& request);
absl::Status ValidateRequest(const v1::RouteRequest& request);
absl::Status ValidateRequest(const v1::EmbedRequest& request);
absl::Status ValidateRequest(const v1::ListModelsRequest& request);
absl::Status ValidateRequest(const v1::FeedbackRequest& request);
absl::Status ValidateRequest(const v1::LinkSchemaRequest& request);

absl::Status ValidateRequest(const v1::ApplyGraphRequest& request);
absl::Status ValidateRequest(const v1::GetGraphRequest& request);
absl::Status ValidateRequest(const v1::ListGraphVersionsRequest& request);
absl::Status ValidateRequest(const v1::DiffGraphRequest& request);
absl::Status ValidateRequest(const v1::RollbackGraphRequest& request);
absl::Status ValidateRequest(const v1::ListNodesRequest& request);
absl::Status ValidateRequest(const v1::DescribeModelsRequest& request);
absl::Status ValidateRequest(const v1::DrainNodeRequest& request);
absl::Status ValidateRequest(const v1::LearnTokenRequest& request);
absl::Status ValidateRequest(const v1::ForgetTokenRequest& request);
absl::Status ValidateRequest(const v1::EvaluateTokensRequest& request);
absl::Status ValidateRequest(const v1::ListFeedbackRequest& request);
absl::Status ValidateRequest(const v1::PromoteFeedbackRequest& request);
absl::Status ValidateRequest(const v1::GetTraceRequest& request);
absl::Status ValidateRequest(const v1::ListTracesRequest& request);
absl::Status ValidateRequest(const v1::ExplainDecisionRequest& request);
absl::Status ValidateRequest(const v1::ReplayTrafficRequest& request);
absl::Status ValidateRequest(const v1::PutCatalogRequest& request);
absl::Status ValidateRequest(const v1::ListCatalogsRequest& request);
absl::Status ValidateRequest(const v1::GetCatalogRequest& request);
absl::Status ValidateRequest(const v1::RefreshCatalogRequest& request);
absl::Status ValidateRequest(const v1::GetCacheStatsRequest& request);
absl::Status ValidateRequest(const v1::FlushCacheRequest& request);
absl::Status ValidateRequest(const v1::ExplainCacheRequest& request);
absl::Status ValidateRequest(const v1::GetServerInfoRequest& request);

absl::Status ValidateRequest(const grpc::health::v1::HealthCheckRequest& request);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REQUEST_VALIDATION_H_
