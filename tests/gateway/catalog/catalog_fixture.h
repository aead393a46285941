// Catalogs of a small database of a shop.
#ifndef OCTOGATE_TESTS_GATEWAY_CATALOG_CATALOG_FIXTURE_H_
#define OCTOGATE_TESTS_GATEWAY_CATALOG_CATALOG_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "gateway/catalog/catalog_set.h"
#include "google/protobuf/text_format.h"
#include "octogate/v1/graph.pb.h"
#include "router/call_context.h"
#include "tests/gateway/catalog/test_database.h"

namespace octogate::gateway {

inline v1::Catalog CatalogOf(const std::string& text) {
  v1::Catalog catalog;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &catalog)) << text;
  if (catalog.name().empty()) catalog.set_name("shop");
  if (!catalog.has_max_values()) catalog.set_max_values(1000);
  return catalog;
}

inline absl::Time Soon() { return absl::Now() + absl::Minutes(5); }

inline router::CallContext For(const std::string& tenant) {
  return {.deadline = Soon(), .cancellation = nullptr, .tenant = tenant};
}

class CatalogTest : public testing::Test {
 protected:
  CatalogTest() { folder_.MakeShop("shop.sqlite"); }

  absl::StatusOr<std::shared_ptr<CatalogHandle>> Read(const std::string& text) const {
    return CatalogHandle::Read(CatalogOf(text), folder_.path(), nullptr, nullptr, Soon());
  }
  std::shared_ptr<CatalogHandle> ReadOrFail(const std::string& text) const {
    auto catalog = Read(text);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    return catalog.ok() ? *std::move(catalog) : nullptr;
  }

  const TestFolder folder_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_CATALOG_CATALOG_FIXTURE_H_
