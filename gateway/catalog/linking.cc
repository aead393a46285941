#include "gateway/catalog/linking.h"

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
  // A worker may have come back with another checkpoint. Whoever has just embedded has said what it
  // is; there is nothing to wait for.
  const absl::StatusOr<std::string> fingerprint =
      snapshot.encoder->Fingerprint(absl::InfinitePast());
  if (!fingerprint.ok()) {
    return WithRetryAfter(Annotate(fingerprint.status(), "its encoder"), absl::Seconds(1));
  }
  if (*fingerprint != snapshot.dense->encoder()) {
    return absl::FailedPreconditionError(
        "its encoder has other weights than its vectors were made with; octoctl catalog refresh "
        "makes them anew");
  }
  return snapshot.dense->Query(*std::move(vectors));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const QuestionLink>> QuestionLink::Make(
    const CatalogHandle& catalog, v1::LinkSchemaRequest request,
    const router::CallContext& context) {
  if (context.cancellation != nullptr && context.cancellation->IsCancelled()) {
    return absl::CancelledError("the client has cancelled the link");
  }
  if (absl::Now() >= context.deadline) {
    return absl::DeadlineExceededError("the time was over before the link began");
  }
  std::shared_ptr<QuestionLink> link(new QuestionLink);
  link->catalog_ = absl::StrCat("catalog ", Quoted(catalog.spec().name()));
  link->snapshot_ = catalog.snapshot();
  const auto visible = catalog.VisibleTo(*link->snapshot_, context.tenant);
  if (!visible.ok()) return Annotate(visible.status(), link->catalog_);
  link->visible_ = *visible;
  const size_t bytes = request.question().size();
  if (link->snapshot_->dense != nullptr && bytes > 0 && bytes <= kMaxQuestionBytes) {
    absl::StatusOr<schema::DenseQuery> query = EmbedQuestion(*link->snapshot_, request, context);
    if (!query.ok()) return Annotate(query.status(), link->catalog_);
    link->dense_.emplace(*std::move(query));
  }
  link->request_ = std::move(request);
  return link;
}

absl::StatusOr<v1::LinkSchemaResponse> QuestionLink::Link(std::vector<uint32_t> tables) const {
  schema::LinkRequest link = LinkRequestOf(request_.settings());
  link.question = request_.question();
  link.evidence = request_.evidence();
  link.tables = std::move(tables);
  if (request_.has_max_dropped()) link.max_dropped = static_cast<size_t>(request_.max_dropped());
  schema::LinkOptions options;
  if (dense_.has_value()) options.dense = &*dense_;
  absl::StatusOr<schema::LinkResult> result =
      schema::Link(*snapshot_->index, *visible_, link, options);
  if (!result.ok()) return Annotate(result.status(), catalog_);
  v1::LinkSchemaResponse response = LinkMessage(*std::move(result));
  response.set_source_changed(snapshot_->SourceChanged());
  return response;
}

absl::StatusOr<v1::LinkSchemaResponse> LinkCatalog(const CatalogHandle& catalog,
                                                   const v1::LinkSchemaRequest& request,
                                                   const router::CallContext& context) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<const QuestionLink> link,
                            QuestionLink::Make(catalog, request, context));
  return link->Link();
}

v1::LinkSchemaRequest RetrieverRequest(const v1::RetrieverNode& node, const std::string& input) {
  v1::LinkSchemaRequest request;
  request.set_question(input);
  *request.mutable_settings() = node.settings();
  return request;
}

}  // namespace octogate::gateway
