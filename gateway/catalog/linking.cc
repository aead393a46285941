#include "gateway/catalog/linking.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/catalog/link_messages.h"
#include "retrieval/schema/linker.h"

namespace octogate::gateway {

absl::StatusOr<v1::LinkSchemaResponse> LinkCatalog(const CatalogHandle& catalog,
                                                   const v1::LinkSchemaRequest& request,
                                                   const std::string& tenant, absl::Time deadline,
                                                   const Cancellation* cancellation) {
  if (cancellation != nullptr && cancellation->IsCancelled()) {
    return absl::CancelledError("the client has cancelled the link");
  }
  if (absl::Now() >= deadline) {
    return absl::DeadlineExceededError("the time was over before the link began");
  }
  const std::shared_ptr<const CatalogSnapshot> snapshot = catalog.snapshot();
  const auto annotated = [&](const absl::Status& status) {
    return Annotate(status, absl::StrCat("catalog ", Quoted(catalog.spec().name())));
  };
  const absl::StatusOr<const schema::Visibility*> visible = catalog.VisibleTo(*snapshot, tenant);
  if (!visible.ok()) return annotated(visible.status());
  schema::LinkRequest link = LinkRequestOf(request.settings());
  link.question = request.question();
  link.evidence = request.evidence();
  if (request.has_max_dropped()) link.max_dropped = static_cast<size_t>(request.max_dropped());
  absl::StatusOr<schema::LinkResult> result = schema::Link(*snapshot->index, **visible, link);
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
