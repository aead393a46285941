// Links of schemas as the contract has them.
#ifndef OCTOGATE_GATEWAY_CATALOG_LINK_MESSAGES_H_
#define OCTOGATE_GATEWAY_CATALOG_LINK_MESSAGES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/graph.pb.h"
#include "retrieval/schema/linker.h"

namespace octogate::gateway {

// A request's settings; those that are not set are those of LinkSettings' comments. With every
// other field as the request of schema::Link has it by default.
schema::LinkRequest LinkRequestOf(const v1::LinkSettings& settings);

// All of it but source_changed, which a link does not know. Texts are moved. Of a family with more
// than kMaxFamilyMembers tables, or more than there is room for in kMaxFamilyBytes, the first and
// the last are listed, half of each: by their digits, the oldest and the newest. How many there are
// is in `rendered`. What is not listed is not allowed either.
inline constexpr size_t kMaxFamilyMembers = 1000;
inline constexpr size_t kMaxFamilyBytes = size_t{512} << 10;  // of a link
v1::LinkSchemaResponse LinkMessage(schema::LinkResult result);

// What SQL that follows from a link may name, each ascending and once.
struct AllowedIdentifiers {
  std::vector<std::string> tables;  // Members of families included.
  std::vector<std::string> columns;
};
AllowedIdentifiers AllowedIn(const v1::LinkSchemaResponse& link);
// The same of all that is visible of a catalog.
AllowedIdentifiers AllowedIn(const schema::Catalog& catalog, const schema::Visibility& visible);

// What the last links of a query allow, by the names of their retrievers.
using LinkedNames = absl::flat_hash_map<std::string, AllowedIdentifiers>;

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_LINK_MESSAGES_H_
