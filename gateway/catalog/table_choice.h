// Tables of a link as a model chooses them: what it is shown, and what its answer says.
#ifndef OCTOGATE_GATEWAY_CATALOG_TABLE_CHOICE_H_
#define OCTOGATE_GATEWAY_CATALOG_TABLE_CHOICE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "octogate/v1/gateway.pb.h"
#include "retrieval/schema/catalog.h"
#include "retrieval/schema/link_index.h"

namespace octogate::gateway {

// Of the prompt beside the question.
inline constexpr size_t kMaxTablePromptBytes = size_t{16} << 10;
// Columns of a link that are not shown to list for it (LinkSchemaRequest::max_dropped), so that
// the model sees more tables than the link alone would keep.
inline constexpr int kColumnsForTables = 200;

// The table that stands for the entry; null where it may not be seen.
const schema::Table* TableOf(const schema::Catalog& catalog, const schema::Visibility& visible,
                             uint32_t entry);

struct TablePrompt {
  std::string text;
  int tables = 0;  // that it shows
};

// Shows the tables of `link`, the best first, then those of the columns that it lists as dropped,
// with names of columns, as many as kMaxTablePromptBytes has room for; then `question`. `link` is
// of `catalog` as `visible` shows it.
TablePrompt PromptForTables(const schema::Catalog& catalog, const schema::Visibility& visible,
                            const v1::LinkSchemaResponse& link, std::string_view question);

// The entries of the visible tables that a text from anywhere names, in the order of their names in
// it, each once, at most schema::kMaxLinkedTables. A name counts wherever it stands between other
// characters than letters, digits and "_", in any case of ASCII letters; of two that begin at one
// place the longer one. Reads the first 8 KiB.
std::vector<uint32_t> TablesNamedIn(std::string_view text, const schema::Catalog& catalog,
                                    const schema::Visibility& visible);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_TABLE_CHOICE_H_
