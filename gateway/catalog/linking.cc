#include "gateway/catalog/linking.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "gateway/catalog/catalog_encoder.h"
#include "gateway/catalog/link_messages.h"
#include "retrieval/schema/linker.h"

namespace octogate::gateway {
namespace {

// What schema::Link refuses for its length is not worth a call.
constexpr size_t kMaxQuestionBytes = size_t{64} << 10;

// By the question's vector and that of its evidence.
absl::StatusOr<schema::DenseQuery> EmbedQuestion(const CatalogSnapshot& snapshot,
                                                 const v1::LinkSchemaRequest& request,
                                                 const router::CallContext& context) {
  std::vector<std::string> texts = {request.question()};
  if (!request.evidence().empty()) texts.push_back(request.evidence());
  absl::StatusOr<std::vector<std::vector<float>>> vectors =
      EmbedTexts(*snapshot.encoder, texts, context);
  if (!vectors.ok()) return Annotate(vectors.status(), "its encoder");
  // A worker may have come back with another checkpoint.
  OCTOGATE_ASSIGN_OR_RETURN(const std::string fingerprint,
                            snapshot.encoder->Fingerprint(context.deadline));
  if (fingerprint != snapshot.dense->encoder()) {
    return absl::FailedPreconditionError(
        "its encoder has other weights than its vectors were made with; octoctl catalog refresh "
        "makes them anew");
  }
  return snapshot.dense->Query(*std::move(vectors));
}

}  // namespace

absl::StatusOr<v1::LinkSchemaResponse> LinkCatalog(const CatalogHandle& catalog,
                                                   const v1::LinkSchemaRequest& request,
                                                   const router::CallContext& context) {
  if (context.cancellation != nullptr && context.cancellation->IsCancelled()) {
    return absl::CancelledError("the client has cancelled the link");
  }
  if (absl::Now() >= context.deadline) {
    return absl::DeadlineExceededError("the time was over before the link began");
  }
  const std::shared_ptr<const CatalogSnapshot> snapshot = catalog.snapshot();
  const auto annotated = [&](const absl::Status& status) {
    return Annotate(status, absl::StrCat("catalog ", Quoted(catalog.spec().name())));
  };
  const absl::StatusOr<const schema::Visibility*> visible =
      catalog.VisibleTo(*snapshot, context.tenant);
  if (!visible.ok()) return annotated(visible.status());
  schema::LinkRequest link = LinkRequestOf(request.settings());
  link.question = request.question();
  link.evidence = request.evidence();
  if (request.has_max_dropped()) link.max_dropped = static_cast<size_t>(request.max_dropped());
  schema::LinkOptions options;
  std::optional<schema::DenseQuery> dense;
  const size_t bytes = request.question().size();
  if (snapshot->dense != nullptr && bytes > 0 && bytes <= kMaxQuestionBytes) {
    absl::StatusOr<schema::DenseQuery> query = EmbedQuestion(*snapshot, request, context);
    if (!query.ok()) return annotated(query.status());
    options.dense = &dense.emplace(*std::move(query));
  }
  absl::StatusOr<schema::LinkResult> result =
      schema::Link(*snapshot->index, **visible, link, options);
  if (!result.ok()) return annotated(result.status());
  v1::LinkSchemaResponse response = LinkMessage(*std::move(result));
  response.set_source_changed(snapshot->SourceChanged());
  return response;
}

v1::LinkSchemaRequest RetrieverRequest(const v1::RetrieverNode& node, const std::string& input) {
  v1::LinkSchemaRequest request;
  request.set_question(input);
  *request.mutable_settings() = node.settings();
  return request;
}

}  // namespace octogate::gateway
