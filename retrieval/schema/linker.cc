#include "retrieval/schema/linker.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "retrieval/schema/column_likelihood.h"
#include "retrieval/schema/column_ranking.h"
#include "retrieval/schema/column_selection.h"
#include "retrieval/schema/lexical_search.h"
#include "retrieval/schema/schema_text.h"

namespace octogate::schema {
namespace {

constexpr size_t kMaxQuestionBytes = size_t{64} << 10;
// More columns than this are not rendered to see whether they fit.
constexpr size_t kMaxColumnsInFull = 4096;
constexpr size_t kMaxMatchedValues = 8;

using Clock = std::chrono::steady_clock;

int64_t MicrosecondsSince(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
}

class Linking {
 public:
  Linking(const LinkIndex& index, const Visibility& visible, const LinkRequest& request,
          const LinkOptions& options)
      : index_(index),
        catalog_(index.catalog()),
        visible_(visible),
        request_(request),
        options_(options) {}

  LinkResult Run() {
    const auto start = Clock::now();
    result_.catalog_version = catalog_.version();
    result_.tokens.budget = request_.token_budget;
    query_ = MakeQuery(request_.question, request_.evidence);
    matches_ = Search(index_, visible_, query_);
    std::vector<DenseColumns::Hit> dense;
    if (options_.dense != nullptr) dense = options_.dense->Nearest(visible_, kMaxDense);
    std::erase_if(dense, [&](const DenseColumns::Hit& hit) { return !Sees(hit.id); });
    const QuestionCues cues = CuesOf(request_.question);
    ranking_ = RankColumns(index_, visible_, matches_, dense, cues, options_.weights);
    // Nothing that the likelihoods are fitted to has evidence, which names what is needed.
    if (request_.evidence.empty()) {
      AddLikelihoods(index_, visible_, matches_, dense, cues, &ranking_);
    }
    result_.timings.search_us = MicrosecondsSince(start);
    if (!TryFull()) {
      const auto select = Clock::now();
      const ColumnSelection selection = !request_.tables.empty()   ? OfTables()
                                        : ranking_.columns.empty() ? Fallback()
                                                                   : Focused();
      Take(selection);
      result_.timings.select_us = MicrosecondsSince(select);
      Render();
      ListDropped();
    }
    Describe();
    result_.timings.total_us = MicrosecondsSince(start);
    return std::move(result_);
  }

 private:
  bool Sees(ColumnId id) const {
    return id.entry < catalog_.entries().size() &&
           id.column < catalog_.entries()[id.entry]->columns.size() &&
           (visible_.everything || visible_.columns[catalog_.number(id)] != 0);
  }
  // The table that stands for the entry: of a family, one that may be seen.
  const Table& TableOf(uint32_t entry) const { return CatalogTableOf(entry).table; }
  const CatalogTable& CatalogTableOf(uint32_t entry) const {
    return visible_.everything ? *catalog_.entries()[entry].table : *visible_.tables[entry];
  }

  // Where the columns are cut that are kept.
  Cut ColumnCut() const {
    const bool minimal = request_.recall == Recall::kMinimal;
    const bool likelihoods = !ranking_.columns.empty() && ranking_.columns.front().likelihood > 0;
    Cut cut = minimal ? kMinimalCut : kConservativeCut;
    if (!likelihoods) cut.columns = minimal ? kMinimalColumns : kConservativeColumns;
    if (request_.max_columns > 0) cut = {.columns = request_.max_columns, .least_likelihood = 0};
    if (request_.least_likelihood > 0) cut.least_likelihood = request_.least_likelihood;
    return cut;
  }

  ColumnSelection Focused() const {
    const Cut cut = ColumnCut();
    return SelectColumns(index_, ranking_, cut.columns, cut.least_likelihood,
                         [this](ColumnId id) { return Sees(id); });
  }

  // What scores in the request's tables, and then their other columns, one of each in turn.
  ColumnSelection OfTables() {
    std::vector<uint32_t> tables;
    for (const uint32_t entry : request_.tables) {
      if (visible_.everything || visible_.tables[entry] != nullptr) tables.push_back(entry);
    }
    const absl::flat_hash_set<uint32_t> wanted(tables.begin(), tables.end());
    Ranking own;
    std::vector<int> places;  // in the whole ranking
    for (size_t i = 0; i < ranking_.columns.size(); ++i) {
      if (!wanted.contains(ranking_.columns[i].id.entry)) continue;
      own.columns.push_back(ranking_.columns[i]);
      places.push_back(static_cast<int>(i));
    }
    const Cut cut = ColumnCut();
    ColumnSelection selection = SelectColumns(
        index_, own, cut.columns, cut.least_likelihood, [this](ColumnId id) { return Sees(id); },
        tables);
    absl::flat_hash_set<uint64_t> kept;
    for (SelectedColumn& column : selection.columns) {
      if (column.ranked >= 0) column.ranked = places[static_cast<size_t>(column.ranked)];
      kept.insert(Key(column.id));
    }
    // The best of the others first, then those that are not ranked.
    for (size_t i = 0; i < own.columns.size() && selection.columns.size() < cut.columns; ++i) {
      const ColumnId id = own.columns[i].id;
      if (!kept.insert(Key(id)).second) continue;
      selection.columns.push_back({.id = id, .reason = LinkReason::kForced, .ranked = places[i]});
    }
    for (uint32_t c = 0, left = 1; left > 0; ++c) {
      left = 0;
      for (const uint32_t entry : tables) {
        if (c >= catalog_.entries()[entry]->columns.size()) continue;
        ++left;
        if (selection.columns.size() >= cut.columns) return selection;
        if (!Sees({entry, c}) || !kept.insert(Key({entry, c})).second) continue;
        selection.columns.push_back(
            {.id = {entry, c}, .reason = LinkReason::kForced, .ranked = -1});
      }
    }
    return selection;
  }

  // Nothing matched: the first columns, as many as would be chosen otherwise.
  ColumnSelection Fallback() {
    result_.mode = LinkResult::kFallback;
    ColumnSelection selection;
    for (uint32_t e = 0; e < catalog_.entries().size(); ++e) {
      for (uint32_t c = 0; c < catalog_.entries()[e]->columns.size(); ++c) {
        if (!Sees({e, c})) continue;
        selection.columns.push_back({.id = {e, c}, .reason = LinkReason::kForced, .ranked = -1});
        if (selection.columns.size() >= kMaxColumnsInFull) return selection;
      }
    }
    return selection;
  }

  bool TryFull() {
    const size_t bound = std::min(kMaxColumnsInFull, std::max(request_.token_budget, size_t{512}));
    if (visible_.num_columns > bound) return false;
    ColumnSelection all;
    absl::flat_hash_map<uint64_t, int> ranked;
    for (size_t i = 0; i < ranking_.columns.size(); ++i) {
      ranked.emplace(Key(ranking_.columns[i].id), static_cast<int>(i));
    }
    for (uint32_t e = 0; e < catalog_.entries().size(); ++e) {
      for (uint32_t c = 0; c < catalog_.entries()[e]->columns.size(); ++c) {
        if (!Sees({e, c})) continue;
        const auto found = ranked.find(Key({e, c}));
        all.columns.push_back({.id = {e, c},
                               .reason = LinkReason::kForced,
                               .ranked = found == ranked.end() ? -1 : found->second});
      }
    }
    for (uint32_t i = 0; i < catalog_.edges().size(); ++i) {
      const auto sees = [this](ColumnId id) { return Sees(id); };
      if (catalog_.IsUsable(catalog_.edges()[i], sees)) all.edges.push_back(i);
    }
    Take(all);
    SchemaText text = RenderWithin(texts_, joins_, request_.style, SIZE_MAX, options_.count_tokens);
    result_.tokens.full = text.tokens;
    if (request_.mode == LinkMode::kAuto && request_.tables.empty() &&
        text.tokens <= request_.token_budget) {
      result_.mode = LinkResult::kFull;
      Finish(std::move(text));
      return true;
    }
    return false;
  }

  static uint64_t Key(ColumnId id) { return uint64_t{id.entry} << 32 | id.column; }

  LinkedColumn Linked(const SelectedColumn& selected) const {
    LinkedColumn column{.id = selected.id, .name = catalog_.column(selected.id).name};
    column.reason = selected.reason;
    if (selected.ranked < 0) return column;
    const RankedColumn& ranked = ranking_.columns[static_cast<size_t>(selected.ranked)];
    column.score = ranked.score;
    column.parts = ranked.parts;
    column.likelihood = ranked.likelihood;
    if (ranked.match < 0) return column;
    const ColumnMatch& match = matches_.columns[static_cast<size_t>(ranked.match)];
    for (size_t t = 0; t < query_.terms.size(); ++t) {
      if ((match.terms >> t & 1) != 0) column.matched_terms.push_back(query_.terms[t].word);
    }
    const Column& stored = TableOf(selected.id.entry).columns[selected.id.column];
    for (const ValueHit& hit : match.hits) {
      const std::string& value = stored.values[hit.value];
      const bool known =
          std::any_of(column.matched_values.begin(), column.matched_values.end(),
                      [&](const MatchedValue& seen) { return seen.stored == value; });
      if (known || column.matched_values.size() == kMaxMatchedValues) continue;
      column.matched_values.push_back({query_.candidates[hit.candidate].text, value});
    }
    return column;
  }

  // Makes tables, texts and joins of the selection, in the catalog's order.
  void Take(const ColumnSelection& selection) {
    result_.tables.clear();
    texts_.clear();
    joins_.clear();
    shown_.clear();
    std::vector<std::pair<ColumnId, uint32_t>> order;
    for (uint32_t i = 0; i < selection.columns.size(); ++i) {
      order.emplace_back(selection.columns[i].id, i);
    }
    std::sort(order.begin(), order.end());
    absl::flat_hash_map<uint64_t, std::pair<size_t, size_t>> places;
    for (const auto& [id, rank] : order) {
      if (result_.tables.empty() || result_.tables.back().entry != id.entry) {
        AddTable(id.entry);
      }
      LinkedColumn column = Linked(selection.columns[rank]);
      const CatalogTable& stored = CatalogTableOf(id.entry);
      TextColumn text{.column = &stored.table.columns[id.column],
                      .rank = rank,
                      .texts = stored.telling_texts[id.column],
                      .matched = {}};
      for (const MatchedValue& value : column.matched_values) text.matched.push_back(value.stored);
      LinkedTable& table = result_.tables.back();
      if (column.score > table.score || table.columns.empty()) {
        table.score = std::max(table.score, column.score);
        table.reason = column.reason;
      }
      places.emplace(Key(id), std::pair(texts_.size() - 1, table.columns.size()));
      table.columns.push_back(std::move(column));
      texts_.back().columns.push_back(std::move(text));
    }
    for (const uint32_t position : selection.edges) {
      const KeyEdge& edge = catalog_.edges()[position];
      const auto from = places.find(Key(edge.from));
      const auto to = places.find(Key(edge.to));
      if (from == places.end() || to == places.end()) continue;
      joins_.push_back({.left_table = from->second.first,
                        .left_column = from->second.second,
                        .right_table = to->second.first,
                        .right_column = to->second.second,
                        .kind = edge.kind,
                        .group = edge.group});
    }
    disconnected_ = selection.disconnected;
  }

  void AddTable(uint32_t entry) {
    const Table& table = TableOf(entry);
    LinkedTable linked{.entry = entry, .name = table.name};
    for (const auto& member : catalog_.entries()[entry].members) {
      if (visible_.everything || visible_.AllowsMember(member->table.name)) {
        linked.family_members.push_back(member->table.name);
      }
    }
    texts_.push_back({.table = &table, .members = linked.family_members, .columns = {}});
    result_.tables.push_back(std::move(linked));
  }

  void Render() {
    const auto start = Clock::now();
    Finish(
        RenderWithin(texts_, joins_, request_.style, request_.token_budget, options_.count_tokens));
    result_.timings.render_us = MicrosecondsSince(start);
  }

  // Keeps what the text shows.
  void Finish(SchemaText text) {
    const auto shows = [&](size_t table, size_t column) {
      return texts_[table].columns[column].rank < text.columns;
    };
    std::set<std::pair<std::string, std::string>> seen;  // keys may share a pair of columns
    for (const TextJoin& join : ShownJoins(texts_, joins_, text.columns)) {
      const auto name = [&](size_t table, size_t column) {
        return absl::StrCat(result_.tables[table].name, ".",
                            result_.tables[table].columns[column].name);
      };
      std::string left = name(join.left_table, join.left_column);
      std::string right = name(join.right_table, join.right_column);
      if (!seen.emplace(left, right).second) continue;
      result_.joins.push_back({std::move(left), std::move(right), join.kind});
    }
    for (size_t t = 0; t < result_.tables.size(); ++t) {
      std::vector<LinkedColumn> kept;
      for (size_t c = 0; c < result_.tables[t].columns.size(); ++c) {
        if (!shows(t, c)) continue;
        shown_.insert(Key(result_.tables[t].columns[c].id));
        kept.push_back(std::move(result_.tables[t].columns[c]));
      }
      result_.tables[t].columns = std::move(kept);
    }
    std::erase_if(result_.tables, [](const LinkedTable& table) { return table.columns.empty(); });
    result_.tokens.rendered = text.tokens;
    result_.rendered = std::move(text.text);
  }

  void ListDropped() {
    for (const RankedColumn& column : ranking_.columns) {
      // One without a score has not matched: it is ranked by what columns like it are read for.
      if (column.score <= 0 || shown_.contains(Key(column.id))) continue;
      ++result_.num_dropped;
      if (result_.dropped.size() >= request_.max_dropped) continue;
      result_.dropped.push_back(
          {absl::StrCat(TableOf(column.id.entry).name, ".", catalog_.column(column.id).name),
           column.score});
    }
    result_.num_dropped += ranking_.num_left_out;
  }

  void Describe() {
    absl::flat_hash_set<std::string> identifiers;
    for (const LinkedTable& table : result_.tables) {
      identifiers.insert(table.name);
      identifiers.insert(table.family_members.begin(), table.family_members.end());
      const Table& stored = TableOf(table.entry);
      for (const LinkedColumn& column : table.columns) {
        identifiers.insert(column.name);
        if (stored.columns[column.id.column].values_truncated) {
          result_.truncated_values.push_back(absl::StrCat(table.name, ".", column.name));
        }
      }
      if (std::find(disconnected_.begin(), disconnected_.end(), table.entry) !=
          disconnected_.end()) {
        result_.disconnected.push_back(table.name);
      }
    }
    result_.allowed_identifiers.assign(identifiers.begin(), identifiers.end());
    std::sort(result_.allowed_identifiers.begin(), result_.allowed_identifiers.end());
  }

  const LinkIndex& index_;
  const Catalog& catalog_;
  const Visibility& visible_;
  const LinkRequest& request_;
  const LinkOptions& options_;
  Query query_;
  LexicalMatches matches_;
  Ranking ranking_;
  std::vector<TextTable> texts_;  // beside result_.tables, until Finish
  std::vector<TextJoin> joins_;
  std::vector<uint32_t> disconnected_;
  absl::flat_hash_set<uint64_t> shown_;
  LinkResult result_;
};

}  // namespace

std::string_view Name(LinkReason reason) {
  switch (reason) {
    case LinkReason::kLexical:
      return "lexical";
    case LinkReason::kDense:
      return "dense";
    case LinkReason::kValue:
      return "value";
    case LinkReason::kClosure:
      return "closure";
    case LinkReason::kKey:
      return "key";
    case LinkReason::kForced:
      return "forced";
  }
  return "";
}

absl::StatusOr<LinkResult> Link(const LinkIndex& index, const Visibility& visible,
                                const LinkRequest& request, const LinkOptions& options) {
  if (request.question.empty()) return absl::InvalidArgumentError("the question is empty");
  for (const std::string* text : {&request.question, &request.evidence}) {
    if (text->size() > kMaxQuestionBytes) {
      return absl::InvalidArgumentError(absl::StrCat("the question or its evidence has ",
                                                     text->size(), " bytes; at most ",
                                                     kMaxQuestionBytes, " are allowed"));
    }
    if (const size_t bad = FindInvalidUtf8(*text); bad != std::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("the question or its evidence is not valid UTF-8 at byte ", bad));
    }
  }
  if (request.tables.size() > kMaxLinkedTables) {
    return absl::InvalidArgumentError(absl::StrCat("the link is limited to ", request.tables.size(),
                                                   " tables; at most ", kMaxLinkedTables,
                                                   " may be named"));
  }
  absl::flat_hash_set<uint32_t> tables;
  for (const uint32_t entry : request.tables) {
    if (entry >= index.catalog().entries().size() || !tables.insert(entry).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("the link is limited to table ", entry, ", which is not there or repeated"));
    }
  }
  const Catalog* const vectors = options.dense == nullptr ? nullptr : options.dense->catalog();
  if (vectors != nullptr && vectors != &index.catalog()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the vectors are of the catalog ", vectors->version(), ", the index is of ",
                     index.catalog().version(), "; build both from the same catalog"));
  }
  return Linking(index, visible, request, options).Run();
}

}  // namespace octogate::schema
