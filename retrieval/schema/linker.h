// Schema linking: the tables, columns and joins of a catalog that a question needs, rendered for a
// model's prompt within a number of tokens.
//
// What is not permitted takes no part: neither in scores nor among what was dropped. Equal catalogs
// and requests give equal links. Works with words alone; vectors of a sentence encoder, where the
// caller has them, take part in the scores. Thread-safe.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_LINKER_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_LINKER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "retrieval/schema/link_index.h"

namespace octogate::schema {

// How near the question's vector is to those of columns: the seam to an index of vectors. Called
// once per link, from the thread that links.
class DenseColumns {
 public:
  virtual ~DenseColumns() = default;
  struct Hit {
    ColumnId id;
    float similarity = 0;  // cosine
  };
  // The nearest columns among the visible ones, at most `limit`, each once, in any order.
  virtual std::vector<Hit> Nearest(const Visibility& visible, size_t limit) const = 0;
  // Whose columns these are: another catalog is not linked with them. Null: not checked.
  virtual const Catalog* catalog() const { return nullptr; }
};

// How many of the nearest columns take part in a link.
inline constexpr size_t kMaxDense = 200;

enum class LinkMode {
  kAuto,     // everything where that fits into the budget, else focused
  kFocused,  // what the question needs
};
enum class Recall {
  kMinimal,       // few columns: each costs
  kConservative,  // what may be needed too
};
enum class RenderStyle { kDdl, kList };

struct LinkWeights {
  float bm25 = 1;
  float character = 0.5;
  float dense = 1;
  float value = 1;
  float name = 0.6;   // the whole name in the question
  float table = 0.4;  // of the column's table
  float cue = 0.1;    // the question's kind and the column's (word_senses.h)
  float prior = 0.3;  // how often columns like it are read at all; in ScoreParts beside the cue
};

struct LinkRequest {
  std::string question;
  std::string evidence;  // what is known beside it; may be empty
  LinkMode mode = LinkMode::kAuto;
  Recall recall = Recall::kConservative;
  size_t token_budget = 4096;
  size_t max_columns = 0;  // kept, keys included; 0: as `recall` says
  // Columns less likely to be read are left out (column_likelihood.h), so that few are kept where
  // the question is clear and more where it is not; 0: as many as max_columns allows or, where that
  // is 0, too, as `recall` says. Without effect where there are no likelihoods: with evidence and
  // in large catalogs.
  float least_likelihood = 0;
  RenderStyle style = RenderStyle::kDdl;
  size_t max_dropped = 20;
  // Entries of the catalog, at most kMaxLinkedTables, each once: only their columns are kept, and
  // keys of tables that join them; where there is room, all of their columns. Each that is visible
  // is kept, whatever matches, as far as the text has room; least_likelihood does not limit them.
  // Empty: all entries.
  std::vector<uint32_t> tables;
};
inline constexpr size_t kMaxLinkedTables = 64;

// How many tokens a text has. Where null, a token is four bytes.
using CountTokens = std::function<size_t(std::string_view)>;

struct LinkOptions {
  LinkWeights weights;
  CountTokens count_tokens;
  const DenseColumns* dense = nullptr;  // null: words alone
};

enum class LinkReason { kLexical, kDense, kValue, kClosure, kKey, kForced };
std::string_view Name(LinkReason reason);

struct ScoreParts {
  float bm25 = 0, character = 0, dense = 0, value = 0, name = 0, table = 0, cue = 0;
};

struct MatchedValue {
  std::string literal;  // as in the question
  std::string stored;   // as in the database
};

struct LinkedColumn {
  ColumnId id;
  std::string name;
  float score = 0;
  ScoreParts parts;      // weighted; their sum is the score
  float likelihood = 0;  // of being read, by which columns are chosen; 0: by score
  LinkReason reason = LinkReason::kLexical;
  std::vector<std::string> matched_terms;
  std::vector<MatchedValue> matched_values;
};

struct LinkedTable {
  uint32_t entry = 0;
  std::string name;
  float score = 0;
  LinkReason reason = LinkReason::kLexical;
  std::vector<std::string> family_members;  // that are visible; empty for a table alone
  std::vector<LinkedColumn> columns;        // in the catalog's order
};

struct Join {
  std::string left, right;  // "table.column"; left refers to right
  KeyKind kind = KeyKind::kDeclared;
};

struct Dropped {
  std::string name;  // "table.column"
  float score = 0;
};

struct LinkTokens {
  size_t full = 0;  // of all that is visible; 0 where that is too much to be worth counting
  size_t rendered = 0;
  size_t budget = 0;
};

struct LinkTimings {
  int64_t search_us = 0, select_us = 0, render_us = 0, total_us = 0;
};

struct LinkResult {
  enum Mode { kFull, kFocused, kFallback };
  std::string catalog_version;
  Mode mode = kFocused;             // kFallback: nothing matched, so what fits is shown
  std::vector<LinkedTable> tables;  // in the catalog's order; as rendered
  std::vector<Join> joins;
  std::vector<std::string> disconnected;  // tables without a join to the first
  // The best of those that matched and are not shown, as they are chosen: by likelihood where there
  // are likelihoods.
  std::vector<Dropped> dropped;
  size_t num_dropped = 0;  // of those that matched
  LinkTokens tokens;
  std::vector<std::string> truncated_values;  // columns shown whose values were not all looked at
  LinkTimings timings;
  std::string rendered;
  // Names that SQL may use, ascending: the tables shown (family members too) and their columns.
  std::vector<std::string> allowed_identifiers;
};

// INVALID_ARGUMENT for a question that is empty, not UTF-8 or longer than 64 KiB, and for tables
// that are not there, too many or repeated;
// FAILED_PRECONDITION for vectors of another catalog than that of `index`.
absl::StatusOr<LinkResult> Link(const LinkIndex& index, const Visibility& visible,
                                const LinkRequest& request, const LinkOptions& options = {});

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_LINKER_H_
