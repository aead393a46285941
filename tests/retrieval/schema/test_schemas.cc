#include "tests/retrieval/schema/test_schemas.h"

#include <cstdlib>
#include <iostream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

namespace octogate::schema {

Schema Shop() {
  Schema shop{.name = "shop", .tables = {}, .warnings = {}};
  shop.tables.push_back(
      {.name = "customers",
       .description = "people who buy",
       .columns = {{.name = "id", .type = "integer", .primary_key = true},
                   {.name = "full_name", .type = "text", .values = {"Ada Lovelace", "Alan Turing"}},
                   {.name = "email", .type = "text", .values = {"ada@example.org"}},
                   {.name = "country", .type = "text", .values = {"France", "New Zealand"}}},
       .foreign_keys = {},
       .rows = 2});
  shop.tables.push_back(
      {.name = "orders",
       .description = "what customers ordered",
       .columns = {{.name = "order_id", .type = "integer", .primary_key = true},
                   {.name = "customer_id", .type = "integer"},
                   {.name = "ordered_at", .type = "datetime", .description = "date of the order"},
                   {.name = "status", .type = "text", .values = {"SHIPPED", "OPEN"}}},
       .foreign_keys = {{.columns = {"customer_id"}, .table = "customers", .references = {"id"}}},
       .rows = 3});
  shop.tables.push_back(
      {.name = "order_lines",
       .description = "",
       .columns = {{.name = "order_id", .type = "integer", .primary_key = true},
                   {.name = "line", .type = "integer", .primary_key = true},
                   {.name = "product_id", .type = "integer"},
                   {.name = "quantity", .type = "integer", .description = "number of pieces"}},
       .foreign_keys = {{.columns = {"order_id"}, .table = "orders", .references = {}},
                        {.columns = {"product_id"}, .table = "products", .references = {}}}});
  shop.tables.push_back(
      {.name = "products",
       .description = "",
       .columns = {{.name = "product_id", .type = "integer", .primary_key = true},
                   {.name = "title", .type = "text", .values = {"Teapot", "Sextant"}},
                   {.name = "unit_price",
                    .type = "decimal(8,2)",
                    .description = "price of a piece"}},
       .foreign_keys = {}});
  shop.tables.push_back(
      {.name = "reviews",
       .description = "",
       .columns = {{.name = "product_id", .type = "integer"},
                   {.name = "stars", .type = "integer", .description = "rating from 1 to 5"},
                   {.name = "remark", .type = "text"}},
       .foreign_keys = {}});
  return shop;
}

Schema RandomSchema(std::mt19937_64& random, int tables) {
  static constexpr const char* kWords[] = {"order",  "customer", "product", "price",   "country",
                                           "name",   "date",     "status",  "city",    "amount",
                                           "player", "team",     "league",  "account", "region"};
  static constexpr const char* kTypes[] = {"integer", "text", "date", "real", ""};
  const auto pick = [&](const auto& items) { return items[random() % std::size(items)]; };
  Schema schema{.name = "random", .tables = {}, .warnings = {}};
  for (int t = 0; t < tables; ++t) {
    Table table;
    const bool family = !schema.tables.empty() && random() % 5 == 0;
    if (family) {
      table = schema.tables[random() % schema.tables.size()];
      table.name = absl::StrCat(table.name, "_20", t);
      schema.tables.push_back(std::move(table));
      continue;
    }
    table.name = absl::StrCat(pick(kWords), "_", pick(kWords), "_t", t);
    if (random() % 2 == 0) table.description = absl::StrCat(pick(kWords), " of ", pick(kWords));
    const int columns = 1 + static_cast<int>(random() % 8);
    for (int c = 0; c < columns; ++c) {
      Column column{.name = absl::StrCat(pick(kWords), c % 3 == 0 ? "_id" : "_", c),
                    .type = pick(kTypes)};
      column.primary_key = c == 0 && random() % 4 != 0;
      if (random() % 2 == 0) {
        column.description = absl::StrCat("the ", pick(kWords), " of the ", pick(kWords));
      }
      for (int v = static_cast<int>(random() % 4); v > 0; --v) {
        column.values.push_back(absl::StrCat(pick(kWords), " ", random() % 9));
      }
      table.columns.push_back(std::move(column));
    }
    if (!schema.tables.empty() && random() % 2 == 0) {
      const Table& other = schema.tables[random() % schema.tables.size()];
      table.foreign_keys.push_back({.columns = {table.columns.back().name},
                                    .table = other.name,
                                    .references = {other.columns[0].name}});
    }
    schema.tables.push_back(std::move(table));
  }
  return schema;
}

std::shared_ptr<const Catalog> MakeCatalog(Schema schema, const CatalogOptions& options) {
  auto catalog = Catalog::Create(std::move(schema), options);
  if (catalog.ok()) return *std::move(catalog);
  std::cerr << catalog.status() << "\n";
  std::abort();
}

std::optional<std::string> TestData(const std::string& path) {
  const char* folder = std::getenv("OCTOGATE_TEST_DATA");
  if (folder == nullptr) return std::nullopt;
  return absl::StrCat(folder, "/", path);
}

uint64_t NewSeed() { return std::random_device{}(); }

}  // namespace octogate::schema
