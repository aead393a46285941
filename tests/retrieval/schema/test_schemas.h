// Schemas to test with: small ones written out, random ones, and the folder of evaluation data.
#ifndef OCTOGATE_TESTS_RETRIEVAL_SCHEMA_TEST_SCHEMAS_H_
#define OCTOGATE_TESTS_RETRIEVAL_SCHEMA_TEST_SCHEMAS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "retrieval/schema/catalog.h"
#include "retrieval/schema/schema.h"

namespace octogate::schema {

// Customers, orders, order lines, products and reviews, with keys, descriptions and values.
Schema Shop();

// Tables with words from a small vocabulary, so that names and values collide; some families.
Schema RandomSchema(std::mt19937_64& random, int tables);

// The catalog of the schema; a failure ends the test program.
std::shared_ptr<const Catalog> MakeCatalog(Schema schema, const CatalogOptions& options = {});

// A file of OCTOGATE_TEST_DATA; nullopt where that is not set.
std::optional<std::string> TestData(const std::string& path);
#define OCTOGATE_SKIP_WITHOUT_DATA(variable, path)                                       \
  const std::optional<std::string> variable##_or = TestData(path);                       \
  if (!variable##_or.has_value()) {                                                      \
    GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set: nothing was tested with " << (path); \
  }                                                                                      \
  const std::string& variable = *variable##_or

// A new seed for each run, printed where the test fails.
uint64_t NewSeed();

}  // namespace octogate::schema

#endif  // OCTOGATE_TESTS_RETRIEVAL_SCHEMA_TEST_SCHEMAS_H_
