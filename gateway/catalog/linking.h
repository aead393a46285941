// Links questions with catalogs of a graph.
#ifndef OCTOGATE_GATEWAY_CATALOG_LINKING_H_
#define OCTOGATE_GATEWAY_CATALOG_LINKING_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/catalog/catalog_set.h"
#include "octogate/v1/gateway.pb.h"
#include "retrieval/schema/dense_index.h"
#include "router/call_context.h"

namespace octogate::gateway {

// One question about one snapshot of a catalog: the present one, when it is made. Thread-safe.
class QuestionLink {
 public:
  // Blocks, for a catalog with `encoder`, until the question is embedded: without its vector there
  // is no link. Whose question it is and until when `context` says; one whose time is over or that
  // is cancelled does not begin. PERMISSION_DENIED where the tenant may see nothing; the encoder's
  // errors. `request` is valid; its catalog and tenant are not looked at.
  static absl::StatusOr<std::shared_ptr<const QuestionLink>> Make(
      const CatalogHandle& catalog, v1::LinkSchemaRequest request,
      const router::CallContext& context);

  // What the question needs; of `tables`, entries of the catalog, alone and of those that join
  // them, where there are any. Blocks while it is computed. INVALID_ARGUMENT as of schema::Link.
  absl::StatusOr<v1::LinkSchemaResponse> Link(std::vector<uint32_t> tables = {}) const;

  const std::string& question() const { return request_.question(); }
  const CatalogSnapshot& snapshot() const { return *snapshot_; }
  const schema::Visibility& visible() const { return *visible_; }

 private:
  QuestionLink() = default;

  std::string catalog_;  // its name
  v1::LinkSchemaRequest request_;
  std::shared_ptr<const CatalogSnapshot> snapshot_;
  const schema::Visibility* visible_ = nullptr;  // of the snapshot
  std::optional<schema::DenseQuery> dense_;
};

// The link of a question that is linked once: errors as of QuestionLink.
absl::StatusOr<v1::LinkSchemaResponse> LinkCatalog(const CatalogHandle& catalog,
                                                   const v1::LinkSchemaRequest& request,
                                                   const router::CallContext& context);

// The request of a retriever node that is given `input`.
v1::LinkSchemaRequest RetrieverRequest(const v1::RetrieverNode& node, const std::string& input);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_LINKING_H_
