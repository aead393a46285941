#include "tests/bench/warehouse.h"

#include <algorithm>
#include <iterator>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace octogate::bench {
namespace {

constexpr const char* kSources[] = {"crm", "erp", "web", "app", "billing", "support",
                                    "ads", "hr",  "pos", "iot", "mail",    "finance"};
constexpr const char* kEntities[] = {
    "customer", "order",    "invoice",  "payment",   "product",  "session", "campaign", "ticket",
    "employee", "supplier", "shipment", "return",    "contract", "device",  "click",    "visit",
    "account",  "lead",     "stock",    "warehouse", "store",    "refund",  "coupon",   "review",
    "message",  "project",  "budget",   "asset",     "vehicle",  "route",   "meter",    "sensor"};
constexpr const char* kAspects[] = {"detail",   "summary", "daily",   "snapshot",
                                    "history",  "event",   "status",  "balance",
                                    "forecast", "target",  "quality", "audit"};
constexpr const char* kFields[] = {
    "amount",   "price",     "quantity", "currency", "country",  "region",  "city",     "segment",
    "category", "channel",   "score",    "rating",   "weight",   "height",  "duration", "distance",
    "margin",   "tax",       "discount", "language", "browser",  "version", "platform", "manager",
    "reason",   "priority",  "severity", "phase",    "capacity", "revenue", "cost",     "profit",
    "latitude", "longitude", "timezone", "comment",  "flag",     "source",  "method",   "brand"};
constexpr const char* kQualifiers[] = {"net",   "gross", "first", "last",    "total",  "average",
                                       "local", "home",  "max",   "planned", "actual", "previous"};
constexpr const char* kCommon[] = {"id", "created_at", "updated_at", "batch_id", "is_deleted"};
constexpr const char* kTypes[] = {"varchar", "integer", "numeric", "timestamp", "varchar"};

struct Made {
  schema::Table table;
  std::string entity, second, aspect, source;
  std::vector<std::pair<std::string, std::string>> fields;  // qualifier, field
};

Made MakeTable(std::mt19937_64& random, size_t number) {
  const auto pick = [&](const auto& items) {
    return std::string(items[random() % std::size(items)]);
  };
  Made made{.table = {},
            .entity = pick(kEntities),
            .second = pick(kEntities),
            .aspect = pick(kAspects),
            .source = pick(kSources),
            .fields = {}};
  made.table.name = absl::StrCat(made.source, "_", made.entity, "_", made.second, "_", made.aspect,
                                 "_", std::string(1, static_cast<char>('a' + number % 26)),
                                 std::string(1, static_cast<char>('a' + number / 26 % 26)),
                                 std::string(1, static_cast<char>('a' + number / 676 % 26)));
  if (random() % 5 == 0) {
    made.table.description =
        absl::StrCat(made.aspect, " of every ", made.entity, " by ", made.second);
  }
  for (const char* name : kCommon) {
    made.table.columns.push_back({.name = name, .type = "bigint"});
  }
  made.table.columns[0].primary_key = true;
  for (int k = 0; k < 3; ++k) {
    made.table.columns.push_back(
        {.name = absl::StrCat(pick(kEntities), k, "_id"), .type = "bigint"});
  }
  const size_t columns = 20 + random() % 60;
  for (size_t c = 0; c < columns; ++c) {
    const std::string qualifier = pick(kQualifiers);
    const std::string field = pick(kFields);
    schema::Column column{.name = absl::StrCat(qualifier, "_", pick(kEntities), "_", field, "_", c),
                          .type = kTypes[random() % std::size(kTypes)]};
    if (random() % 8 == 0) {
      column.description = absl::StrCat(qualifier, " ", field, " of the ", made.entity);
    }
    if (c == 0) {
      for (int v = 0; v < 5; ++v) {
        column.values.push_back(absl::StrCat(pick(kFields), " ", pick(kEntities)));
      }
    }
    made.fields.emplace_back(qualifier, field);
    made.table.columns.push_back(std::move(column));
  }
  return made;
}

}  // namespace

Warehouse MakeWarehouse(size_t columns, double shards, size_t questions, uint64_t seed) {
  std::mt19937_64 random(seed);
  Warehouse warehouse{.schema = {.name = "warehouse", .tables = {}, .warnings = {}},
                      .questions = {}};
  std::vector<Made> made;
  size_t count = 0;
  size_t sharded = 0;
  while (count < columns) {
    Made next = MakeTable(random, made.size());
    const bool is_family = static_cast<double>(sharded) < shards * static_cast<double>(count + 1);
    if (!is_family) {
      count += next.table.columns.size();
      warehouse.schema.tables.push_back(next.table);
    } else {
      const std::string name = next.table.name;
      for (int day = 1; day <= 30; ++day) {
        next.table.name = absl::StrCat(name, "_", absl::StrFormat("202401%02d", day));
        warehouse.schema.tables.push_back(next.table);
        count += next.table.columns.size();
        sharded += next.table.columns.size();
      }
    }
    made.push_back(std::move(next));
  }
  for (size_t i = 0; i < questions; ++i) {
    const Made& about = made[random() % made.size()];
    const auto& [qualifier, field] = about.fields[random() % about.fields.size()];
    const auto fits = [&](const Made& other) {
      return other.source == about.source && other.aspect == about.aspect &&
             std::minmax(other.entity, other.second) == std::minmax(about.entity, about.second) &&
             std::find(other.fields.begin(), other.fields.end(), std::pair(qualifier, field)) !=
                 other.fields.end();
    };
    warehouse.questions.push_back(
        {.question = absl::StrCat("What is the ", qualifier, " ", field, " in the ", about.source,
                                  " ", about.aspect, " of each ", about.entity, " and ",
                                  about.second, " during January 2024?"),
         .table = about.table.name,
         .fitting = static_cast<size_t>(std::count_if(made.begin(), made.end(), fits))});
  }
  return warehouse;
}

}  // namespace octogate::bench
