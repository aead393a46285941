// Who may see what of a catalog: in links, and in pages.
#include "gateway/catalog/catalog_access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gateway/catalog/catalog_info.h"
#include "gateway/catalog/linking.h"
#include "tests/gateway/catalog/catalog_fixture.h"

namespace octogate::gateway {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

using CatalogAccessTest = CatalogTest;

std::vector<std::string> TablesIn(const v1::LinkSchemaResponse& link) {
  std::vector<std::string> names;
  for (const v1::LinkedTable& table : link.tables()) names.push_back(table.name());
  return names;
}

TEST_F(CatalogAccessTest, TenantsSeeWhatTheirEntryAllows) {
  const auto catalog = ReadOrFail(R"(
    sqlite: 'shop.sqlite'
    access {tenant: 'accounting'}
    access {tenant: 'sales' tables: 'customers' tables: 'orders'
            columns {table: 'customers' columns: 'id' columns: 'country'}}
    access {tenant: '*' tables: 'products'})");
  v1::LinkSchemaRequest request;
  request.set_question("what is the monthly pay of employees, and the price of products?");
  const auto link = [&](const std::string& tenant) {
    const auto linked = LinkCatalog(*catalog, request, For(tenant));
    EXPECT_TRUE(linked.ok()) << linked.status();
    return *linked;
  };
  EXPECT_THAT(TablesIn(link("accounting")), Contains("salaries"));
  EXPECT_THAT(TablesIn(link("sales")), Not(Contains("salaries")));
  EXPECT_THAT(TablesIn(link("somebody")), ElementsAre("products"));
  EXPECT_THAT(TablesIn(link("*")), ElementsAre("products"));
  for (const char* tenant : {"sales", "somebody"}) {
    EXPECT_THAT(link(tenant).DebugString(), Not(HasSubstr("salar"))) << tenant;
    EXPECT_THAT(link(tenant).DebugString(), Not(HasSubstr("full_name"))) << tenant;
  }
}

TEST_F(CatalogAccessTest, WithoutAnEntryATenantIsTurnedAway) {
  const auto catalog = ReadOrFail("sqlite: 'shop.sqlite' access {tenant: 'sales'}");
  v1::LinkSchemaRequest request;
  request.set_question("how many orders?");
  const absl::Status status = LinkCatalog(*catalog, request, For("other")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("'shop'"), HasSubstr("'other'")));
  EXPECT_TRUE(LinkCatalog(*catalog, request, For("sales")).ok());
  v1::GetCatalogRequest get;
  get.set_tenant("other");
  EXPECT_EQ(CatalogPage(*catalog, get, {}).status().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(CatalogAccessTest, APageIsWhatTheTenantSees) {
  const auto catalog = ReadOrFail(R"(
    sqlite: 'shop.sqlite'
    access {tenant: 'sales' tables: 'customers' tables: 'orders' tables: 'visits_2023'
            columns {table: 'orders' columns: 'id' columns: 'placed_on'}})");
  v1::GetCatalogRequest request;
  request.set_tenant("sales");
  auto page = CatalogPage(*catalog, request, {});
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->tables_size(), 3);
  EXPECT_EQ(page->tables(0).name(), "customers");
  // The key from orders.customer_id, which is not seen, would tell of it.
  EXPECT_EQ(page->tables(0).keys_size(), 0);
  EXPECT_EQ(page->tables(1).columns_size(), 2);
  EXPECT_EQ(page->tables(2).name(), "visits_2023");
  EXPECT_THAT(page->tables(2).family_members(), ElementsAre("visits_2023"));
  for (const char* hidden : {"salaries", "visits_2024", "nothing"}) {
    request.set_table(hidden);
    EXPECT_EQ(CatalogPage(*catalog, request, {}).status().code(), absl::StatusCode::kNotFound)
        << hidden;
  }
  request.set_table("VISITS_2023");
  page = CatalogPage(*catalog, request, {});
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->tables(0).name(), "visits_2023");
}

TEST_F(CatalogAccessTest, PagesTogetherAreTheWhole) {
  const auto catalog = ReadOrFail("sqlite: 'shop.sqlite'");
  v1::GetCatalogRequest request;
  const auto whole = CatalogPage(*catalog, request, {});
  ASSERT_TRUE(whole.ok());
  EXPECT_FALSE(whole->more());
  ASSERT_EQ(whole->tables_size(), 5);  // two of them one family
  EXPECT_EQ(whole->info().tables(), 6);
  EXPECT_EQ(whole->info().entries(), 5);
  EXPECT_EQ(whole->info().declared_keys(), 2);
  EXPECT_EQ(whole->info().source(), "sqlite shop.sqlite");
  EXPECT_EQ(whole->info().database(), "sqlite");
  std::vector<std::string> names;
  for (bool more = true; more;) {
    request.set_offset(static_cast<int64_t>(names.size()));
    request.set_limit(2);
    const auto page = CatalogPage(*catalog, request, {});
    ASSERT_TRUE(page.ok());
    for (const auto& table : page->tables()) names.push_back(table.name());
    more = page->more();
    ASSERT_LE(names.size(), 5);
  }
  EXPECT_THAT(names, ElementsAre("customers", "orders", "products", "salaries", "visits_2024"));
}

}  // namespace
}  // namespace octogate::gateway
