#include "gateway/catalog/link_messages.h"

#include <algorithm>
#include <set>
#include <utility>

#include "google/protobuf/repeated_field.h"

namespace octogate::gateway {
namespace {

v1::LinkScope ScopeOf(schema::LinkResult::Mode mode) {
  switch (mode) {
    case schema::LinkResult::kFull:
      return v1::LINK_SCOPE_FULL;
    case schema::LinkResult::kFocused:
      return v1::LINK_SCOPE_FOCUSED;
    case schema::LinkResult::kFallback:
      return v1::LINK_SCOPE_FALLBACK;
  }
  return v1::LINK_SCOPE_UNSPECIFIED;
}

v1::LinkReason ReasonOf(schema::LinkReason reason) {
  switch (reason) {
    case schema::LinkReason::kLexical:
      return v1::LINK_REASON_LEXICAL;
    case schema::LinkReason::kDense:
      return v1::LINK_REASON_DENSE;
    case schema::LinkReason::kValue:
      return v1::LINK_REASON_VALUE;
    case schema::LinkReason::kClosure:
      return v1::LINK_REASON_CLOSURE;
    case schema::LinkReason::kKey:
      return v1::LINK_REASON_KEY;
    case schema::LinkReason::kForced:
      return v1::LINK_REASON_FORCED;
  }
  return v1::LINK_REASON_UNSPECIFIED;
}

void SetParts(const schema::ScoreParts& parts, v1::LinkScoreParts* message) {
  message->set_words(parts.bm25);
  message->set_characters(parts.character);
  message->set_dense(parts.dense);
  message->set_value(parts.value);
  message->set_name(parts.name);
  message->set_table(parts.table);
  message->set_cue(parts.cue);
}

void SetColumn(schema::LinkedColumn column, v1::LinkedColumn* message) {
  message->set_name(std::move(column.name));
  message->set_score(column.score);
  SetParts(column.parts, message->mutable_parts());
  message->set_reason(ReasonOf(column.reason));
  for (std::string& term : column.matched_terms) message->add_matched_terms(std::move(term));
  for (schema::MatchedValue& value : column.matched_values) {
    v1::LinkedValue& matched = *message->add_matched_values();
    matched.set_literal(std::move(value.literal));
    matched.set_stored(std::move(value.stored));
  }
}

// As many of both ends as `bytes` has room for, which gets less by them.
void SetMembers(std::vector<std::string> members, size_t* bytes, v1::LinkedTable* table) {
  size_t first = 0;
  size_t last = members.size();
  while (first < last && first + members.size() - last < kMaxFamilyMembers) {
    const bool at_end = first > members.size() - last;
    const size_t size = members[at_end ? last - 1 : first].size();
    if (size > *bytes) break;
    *bytes -= size;
    if (at_end) {
      --last;
    } else {
      ++first;
    }
  }
  for (size_t i = 0; i < members.size(); ++i) {
    if (i < first || i >= last) table->add_family_members(std::move(members[i]));
  }
}

}  // namespace

schema::LinkRequest LinkRequestOf(const v1::LinkSettings& settings) {
  schema::LinkRequest request;
  request.mode = settings.mode() == v1::LINK_MODE_FOCUSED ? schema::LinkMode::kFocused
                                                          : schema::LinkMode::kAuto;
  request.recall = settings.recall() == v1::LINK_RECALL_MINIMAL ? schema::Recall::kMinimal
                                                                : schema::Recall::kConservative;
  if (settings.token_budget() > 0) {
    request.token_budget = static_cast<size_t>(settings.token_budget());
  }
  request.max_columns = static_cast<size_t>(settings.max_columns());
  request.style = settings.style() == v1::LINK_STYLE_LIST ? schema::RenderStyle::kList
                                                          : schema::RenderStyle::kDdl;
  return request;
}

v1::LinkSchemaResponse LinkMessage(schema::LinkResult result) {
  v1::LinkSchemaResponse message;
  message.set_catalog_version(std::move(result.catalog_version));
  message.set_scope(ScopeOf(result.mode));
  size_t family_bytes = kMaxFamilyBytes;
  for (schema::LinkedTable& table : result.tables) {
    v1::LinkedTable& linked = *message.add_tables();
    linked.set_name(std::move(table.name));
    linked.set_score(table.score);
    linked.set_reason(ReasonOf(table.reason));
    SetMembers(std::move(table.family_members), &family_bytes, &linked);
    for (schema::LinkedColumn& column : table.columns) {
      SetColumn(std::move(column), linked.add_columns());
    }
  }
  for (schema::Join& join : result.joins) {
    v1::LinkedJoin& joined = *message.add_joins();
    joined.set_left(std::move(join.left));
    joined.set_right(std::move(join.right));
    joined.set_inferred(join.kind == schema::KeyKind::kInferred);
  }
  for (std::string& table : result.disconnected) message.add_disconnected(std::move(table));
  for (schema::Dropped& dropped : result.dropped) {
    v1::DroppedColumn& column = *message.add_dropped();
    column.set_name(std::move(dropped.name));
    column.set_score(dropped.score);
  }
  message.set_num_dropped(static_cast<int64_t>(result.num_dropped));
  message.set_full_tokens(static_cast<int64_t>(result.tokens.full));
  message.set_rendered_tokens(static_cast<int64_t>(result.tokens.rendered));
  for (std::string& column : result.truncated_values) {
    message.add_truncated_values(std::move(column));
  }
  message.set_rendered(std::move(result.rendered));
  const AllowedIdentifiers allowed = AllowedIn(message);
  std::set_union(
      allowed.tables.begin(), allowed.tables.end(), allowed.columns.begin(), allowed.columns.end(),
      google::protobuf::RepeatedFieldBackInserter(message.mutable_allowed_identifiers()));
  message.set_duration_us(result.timings.total_us);
  return message;
}

AllowedIdentifiers AllowedIn(const v1::LinkSchemaResponse& link) {
  std::set<std::string> tables;
  std::set<std::string> columns;
  for (const v1::LinkedTable& table : link.tables()) {
    tables.insert(table.name());
    tables.insert(table.family_members().begin(), table.family_members().end());
    for (const v1::LinkedColumn& column : table.columns()) columns.insert(column.name());
  }
  return {.tables = {tables.begin(), tables.end()}, .columns = {columns.begin(), columns.end()}};
}

AllowedIdentifiers AllowedIn(const schema::Catalog& catalog, const schema::Visibility& visible) {
  std::set<std::string> tables;
  std::set<std::string> columns;
  for (uint32_t e = 0; e < catalog.entries().size(); ++e) {
    const schema::Entry& entry = catalog.entries()[e];
    const schema::CatalogTable* const table =
        visible.everything ? entry.table.get() : visible.tables[e];
    if (table == nullptr) continue;
    tables.insert(table->table.name);
    for (const auto& member : entry.members) {
      if (visible.AllowsMember(member->table.name)) tables.insert(member->table.name);
    }
    for (uint32_t c = 0; c < entry->columns.size(); ++c) {
      if (visible.everything || visible.columns[catalog.number({e, c})] != 0) {
        columns.insert(entry->columns[c].name);
      }
    }
  }
  return {.tables = {tables.begin(), tables.end()}, .columns = {columns.begin(), columns.end()}};
}

}  // namespace octogate::gateway
