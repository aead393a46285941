#include "retrieval/schema/dense_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "retrieval/schema/stable_hash.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

using Vector = std::vector<float>;
constexpr size_t kDimension = 12;

// A direction of its own for every text: no two are equally near to anything.
Vector VectorOf(const std::string& text) {
  std::mt19937_64 random(StableHash().Add(text).value());
  std::normal_distribution<float> normal;
  Vector vector(kDimension);
  for (float& value : vector) value = normal(random);
  return vector;
}

double Cosine(const Vector& a, const Vector& b) {
  double product = 0, squares_a = 0, squares_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += double{a[i]} * double{b[i]};
    squares_a += double{a[i]} * double{a[i]};
    squares_b += double{b[i]} * double{b[i]};
  }
  return product / std::sqrt(squares_a * squares_b);
}

// Remembers what it was asked for.
struct TestEncoder {
  explicit TestEncoder(std::string fingerprint = "test") {
    encoder.fingerprint = std::move(fingerprint);
    encoder.dimension = kDimension;
    encoder.max_batch = 7;
    encoder.embed = [this](std::span<const std::string> batch, absl::Time) {
      EXPECT_LE(batch.size(), 7U);
      std::vector<Vector> vectors;
      for (const std::string& text : batch) {
        EXPECT_TRUE(texts.insert(text).second) << "embedded twice: " << text;
        vectors.push_back(VectorOf(text));
      }
      return absl::StatusOr<std::vector<Vector>>(std::move(vectors));
    };
  }
  TextEncoder encoder;
  std::set<std::string> texts;
};

std::shared_ptr<const DenseIndex> BuildOrDie(const std::shared_ptr<const Catalog>& catalog,
                                             const TextEncoder& encoder,
                                             const DenseIndex* previous = nullptr,
                                             const TextVectors* known = nullptr,
                                             const DenseIndexOptions& options = {}) {
  auto index = DenseIndex::Build(catalog, encoder, previous, known, options);
  EXPECT_TRUE(index.ok()) << index.status();
  return *std::move(index);
}

std::vector<DenseColumns::Hit> NearestOrDie(const DenseIndex& index, const Vector& vector,
                                            const Visibility& visible, size_t limit) {
  const auto query = index.Query({vector});
  EXPECT_TRUE(query.ok()) << query.status();
  return query->Nearest(visible, limit);
}

// The similarity of every column that may be seen, by what its visible table says of it.
std::map<ColumnId, double> Similarities(const Catalog& catalog, const Visibility& visible,
                                        const Vector& vector) {
  std::map<ColumnId, double> similarities;
  for (uint32_t e = 0; e < catalog.entries().size(); ++e) {
    const Entry& entry = catalog.entries()[e];
    const CatalogTable* const table = visible.everything ? entry.table.get() : visible.tables[e];
    if (table == nullptr) continue;
    for (uint32_t c = 0; c < table->table.columns.size(); ++c) {
      if (!visible.everything && visible.columns[catalog.number({e, c})] == 0) continue;
      const std::string text =
          ColumnText(table->table, table->table.columns[c], !entry.members.empty());
      similarities[{e, c}] = Cosine(VectorOf(text), vector);
    }
  }
  return similarities;
}

void ExpectTheNearest(const std::vector<DenseColumns::Hit>& hits,
                      const std::map<ColumnId, double>& all, size_t limit) {
  std::vector<double> best;
  for (const auto& [id, similarity] : all) best.push_back(similarity);
  std::sort(best.begin(), best.end(), std::greater<>());
  best.resize(std::min(best.size(), limit));
  ASSERT_EQ(hits.size(), best.size());
  std::set<ColumnId> seen;
  for (size_t i = 0; i < hits.size(); ++i) {
    ASSERT_TRUE(seen.insert(hits[i].id).second);
    const auto found = all.find(hits[i].id);
    ASSERT_NE(found, all.end()) << "a column that may not be seen";
    EXPECT_NEAR(hits[i].similarity, found->second, 1e-5);
    EXPECT_NEAR(hits[i].similarity, best[i], 1e-5);
  }
}

// Of the tables a part, family members one by one, and of some of them a part of the columns.
Permissions RandomPermissions(std::mt19937_64& random, const Catalog& catalog) {
  Permissions permissions;
  permissions.tables.emplace();
  const uint64_t share = 1 + random() % 8;
  for (const Entry& entry : catalog.entries()) {
    bool any = false;
    const auto offer = [&](const CatalogTable& table) {
      if (random() % 8 >= share) return;
      permissions.tables->push_back(table.table.name);
      any = true;
    };
    if (entry.members.empty()) offer(*entry.table);
    for (const auto& member : entry.members) offer(*member);
    if (!any || random() % 3 != 0) continue;
    std::vector<std::string>& columns = permissions.columns[entry->name];
    for (const Column& column : entry->columns) {
      if (random() % 2 == 0) columns.push_back(column.name);
    }
  }
  return permissions;
}

// Members of a family differ in what they say, so that one cannot stand for the other unseen.
Schema SchemaWithFamilies(std::mt19937_64& random, int tables) {
  Schema schema = RandomSchema(random, tables);
  for (Table& table : schema.tables) {
    for (Column& column : table.columns) {
      if (random() % 3 == 0) column.description = absl::StrCat("said ", random() % 1000);
    }
  }
  return schema;
}

class DenseIndexTest : public ::testing::Test {
 protected:
  DenseIndexTest() : seed_(NewSeed()), random_(seed_) {
    char path[] = "/tmp/dense_index_test.XXXXXX";
    folder_ = mkdtemp(path);
  }
  ~DenseIndexTest() override { std::filesystem::remove_all(folder_); }
  Vector RandomVector() { return VectorOf(absl::StrCat(random_())); }

  const uint64_t seed_;
  std::mt19937_64 random_;
  std::string folder_;
};

TEST_F(DenseIndexTest, TextsSayWhatAColumnIs) {
  const Column column{.name = "shipCountry",
                      .alias = "destination",
                      .description = "where it goes to",
                      .values = {"Norway", "Peru"}};
  EXPECT_EQ(ColumnText({.name = "all_orders"}, column, false),
            "all orders . ship country (destination) : where it goes to ; values: Norway, Peru");
  EXPECT_EQ(ColumnText({.name = "orders_20240131"}, column, true),
            ColumnText({.name = "orders_20240201"}, column, true));
  EXPECT_THAT(ColumnText({.name = "orders_20240131"}, column, true), Not(HasSubstr("Peru")));
  EXPECT_EQ(
      ColumnText({.name = "t"}, {.name = "a", .values = {"secret"}, .sensitive = true}, false),
      "t . a");
  const std::string longest =
      ColumnText({.name = "t"}, {.name = "a", .description = std::string(4000, 'x')}, false);
  EXPECT_LE(longest.size(), 1000U);
}

TEST_F(DenseIndexTest, FindsTheNearestColumns) {
  SCOPED_TRACE(seed_);
  for (int round = 0; round < 10; ++round) {
    const auto catalog = MakeCatalog(SchemaWithFamilies(random_, 1 + random_() % 60));
    const auto links = LinkIndex::Build(catalog);
    TestEncoder encoder;
    const auto index = BuildOrDie(catalog, encoder.encoder);
    EXPECT_EQ(index->num_texts(), encoder.texts.size());
    EXPECT_EQ(index->num_embedded(), encoder.texts.size());
    EXPECT_TRUE(index->exact());
    const auto visible = links->See({});
    ASSERT_TRUE(visible.ok());
    for (const size_t limit : {size_t{1}, size_t{5}, size_t{40}, size_t{100'000}}) {
      const Vector vector = RandomVector();
      ExpectTheNearest(NearestOrDie(*index, vector, *visible, limit),
                       Similarities(*catalog, *visible, vector), limit);
    }
  }
}

TEST_F(DenseIndexTest, FindsNothingThatIsForbidden) {
  SCOPED_TRACE(seed_);
  for (int round = 0; round < 40; ++round) {
    const auto catalog = MakeCatalog(SchemaWithFamilies(random_, 1 + random_() % 60));
    const auto links = LinkIndex::Build(catalog);
    TestEncoder encoder;
    const auto index = BuildOrDie(catalog, encoder.encoder);
    const auto visible = links->See(RandomPermissions(random_, *catalog));
    ASSERT_TRUE(visible.ok()) << visible.status();
    for (const size_t limit : {size_t{1}, size_t{5}, size_t{40}, size_t{100'000}}) {
      const Vector vector = RandomVector();
      ExpectTheNearest(NearestOrDie(*index, vector, *visible, limit),
                       Similarities(*catalog, *visible, vector), limit);
    }
  }
}

TEST_F(DenseIndexTest, OfSeveralVectorsTheNearestCounts) {
  SCOPED_TRACE(seed_);
  const auto catalog = MakeCatalog(Shop());
  const auto links = LinkIndex::Build(catalog);
  TestEncoder encoder;
  const auto index = BuildOrDie(catalog, encoder.encoder);
  const auto visible = links->See({});
  const Vector a = RandomVector();
  const Vector b = RandomVector();
  std::map<ColumnId, double> best = Similarities(*catalog, *visible, a);
  for (const auto& [id, similarity] : Similarities(*catalog, *visible, b)) {
    best[id] = std::max(best[id], similarity);
  }
  for (const size_t limit : {size_t{1}, size_t{4}, size_t{100}}) {
    ExpectTheNearest(index->Query({a, b})->Nearest(*visible, limit), best, limit);
  }
}

// Also where vectors are searched through a graph: it may miss some, but shows nothing forbidden.
TEST_F(DenseIndexTest, AGraphFindsMostAndNothingThatIsForbidden) {
  SCOPED_TRACE(seed_);
  const auto catalog = MakeCatalog(SchemaWithFamilies(random_, 300));
  const auto links = LinkIndex::Build(catalog);
  TestEncoder encoder;
  const auto index = BuildOrDie(catalog, encoder.encoder, nullptr, nullptr, {.exact_up_to = 50});
  EXPECT_FALSE(index->exact());
  size_t found = 0;
  size_t wanted = 0;
  for (int round = 0; round < 20; ++round) {
    const auto visible =
        links->See(round % 4 == 0 ? Permissions{} : RandomPermissions(random_, *catalog));
    ASSERT_TRUE(visible.ok()) << visible.status();
    const Vector vector = RandomVector();
    const auto all = Similarities(*catalog, *visible, vector);
    std::vector<double> best;
    for (const auto& [id, similarity] : all) best.push_back(similarity);
    std::sort(best.begin(), best.end(), std::greater<>());
    best.resize(std::min<size_t>(best.size(), 10));
    if (best.empty()) continue;
    for (const DenseColumns::Hit& hit : NearestOrDie(*index, vector, *visible, 10)) {
      const auto known = all.find(hit.id);
      ASSERT_NE(known, all.end()) << "a column that may not be seen";
      EXPECT_NEAR(hit.similarity, known->second, 1e-5);
      found += known->second >= best.back() - 1e-6 ? 1 : 0;
    }
    wanted += best.size();
  }
  EXPECT_GE(static_cast<double>(found), 0.7 * static_cast<double>(wanted));
}

TEST_F(DenseIndexTest, AnUpdatedIndexIsTheOneBuiltAnewAndEmbedsWhatIsNew) {
  SCOPED_TRACE(seed_);
  for (int round = 0; round < 5; ++round) {
    Schema schema = SchemaWithFamilies(random_, 40);
    auto catalog = MakeCatalog(schema);
    TestEncoder encoder;
    auto index = BuildOrDie(catalog, encoder.encoder);
    for (int step = 0; step < 8; ++step) {
      // Few tables change, or many at once.
      const size_t changes = random_() % 4 == 0 ? schema.tables.size() / 2 : 1 + random_() % 3;
      std::map<std::string, Table> changed;
      for (size_t k = 0; k < changes; ++k) {
        Table& table = schema.tables[random_() % schema.tables.size()];
        Column& column = table.columns[random_() % table.columns.size()];
        column.description = absl::StrCat("changed ", random_() % 50);
        changed[table.name] = table;
      }
      std::vector<Table> tables;
      for (const auto& [name, table] : changed) tables.push_back(table);
      const auto updated = catalog->Update(tables);
      ASSERT_TRUE(updated.ok()) << updated.status();
      catalog = *updated;
      const std::set<std::string> before = encoder.texts;
      // Texts that were gone may come back and be embedded again.
      encoder.texts.clear();
      index = BuildOrDie(catalog, encoder.encoder, index.get());
      EXPECT_LE(encoder.texts.size(), changes * 4);
      EXPECT_EQ(index->num_embedded(), encoder.texts.size());
      encoder.texts.insert(before.begin(), before.end());
      TestEncoder other;
      const auto anew = BuildOrDie(catalog, other.encoder);
      EXPECT_EQ(index->num_texts(), anew->num_texts());
      const auto links = LinkIndex::Build(catalog);
      for (int query = 0; query < 4; ++query) {
        const auto visible =
            links->See(query % 2 == 0 ? Permissions{} : RandomPermissions(random_, *catalog));
        ASSERT_TRUE(visible.ok());
        const Vector vector = RandomVector();
        const auto hits = NearestOrDie(*index, vector, *visible, 20);
        const auto wanted = NearestOrDie(*anew, vector, *visible, 20);
        ASSERT_EQ(hits.size(), wanted.size());
        for (size_t i = 0; i < hits.size(); ++i) {
          EXPECT_EQ(hits[i].id, wanted[i].id);
          EXPECT_EQ(hits[i].similarity, wanted[i].similarity);
        }
      }
    }
  }
}

TEST_F(DenseIndexTest, TakesNoVectorsOfAnotherEncoder) {
  const auto catalog = MakeCatalog(Shop());
  TestEncoder one("one");
  const auto first = BuildOrDie(catalog, one.encoder);
  TestEncoder two("two");
  const auto second = BuildOrDie(catalog, two.encoder, first.get(), &first->vectors());
  EXPECT_EQ(second->num_embedded(), second->num_texts());
  EXPECT_EQ(two.texts, one.texts);
}

TEST_F(DenseIndexTest, ReadsVectorsFromAFile) {
  SCOPED_TRACE(seed_);
  const std::string path = folder_ + "/vectors";
  Schema schema = SchemaWithFamilies(random_, 40);
  auto catalog = MakeCatalog(schema);
  TestEncoder encoder;
  auto index = BuildOrDie(catalog, encoder.encoder);
  for (const bool recent : {false, true}) {
    if (recent) {
      schema.tables[3].columns[0].description = "changed";
      catalog = *catalog->Update({schema.tables[3]});
      index = BuildOrDie(catalog, encoder.encoder, index.get());
    }
    ASSERT_TRUE(index->Save(path).ok());
    for (const bool map : {false, true}) {
      const auto vectors = LoadTextVectors(path, kDimension, {}, map);
      ASSERT_TRUE(vectors.ok()) << vectors.status();
      TestEncoder none;
      const auto loaded = BuildOrDie(catalog, none.encoder, nullptr, &*vectors);
      EXPECT_EQ(loaded->num_embedded(), 0U);
      EXPECT_EQ(loaded->vectors().base->mapped_bytes() > 0, map);
      const auto visible = LinkIndex::Build(catalog)->See({});
      const Vector vector = RandomVector();
      ExpectTheNearest(NearestOrDie(*loaded, vector, *visible, 30),
                       Similarities(*catalog, *visible, vector), 30);
    }
  }
  EXPECT_EQ(LoadTextVectors(folder_ + "/none", kDimension).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(LoadTextVectors(path, kDimension + 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << "no vectors";
  EXPECT_FALSE(LoadTextVectors(path, kDimension).ok());
}

TEST_F(DenseIndexTest, RefusesBadEncodersAndQuestions) {
  const auto catalog = MakeCatalog(Shop());
  const TestEncoder good;
  const auto code_of = [&](auto answer) {
    TextEncoder encoder = good.encoder;
    encoder.embed = [answer](std::span<const std::string> texts, absl::Time) {
      return absl::StatusOr<std::vector<Vector>>(answer(texts.size()));
    };
    return DenseIndex::Build(catalog, encoder).status().code();
  };
  using Vectors = absl::StatusOr<std::vector<Vector>>;
  EXPECT_EQ(code_of([](size_t) { return Vectors(absl::UnavailableError("gone")); }),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(code_of([](size_t n) { return Vectors(std::vector<Vector>(n - 1, VectorOf("a"))); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](size_t n) { return Vectors(std::vector<Vector>(n, Vector(3, 1.0F))); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](size_t n) { return Vectors(std::vector<Vector>(n, Vector(kDimension))); }),
            absl::StatusCode::kInvalidArgument);
  const Vector nan(kDimension, std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(code_of([&](size_t n) { return Vectors(std::vector<Vector>(n, nan)); }),
            absl::StatusCode::kInvalidArgument);
  TextEncoder unnamed = good.encoder;
  unnamed.fingerprint.clear();
  EXPECT_EQ(DenseIndex::Build(catalog, unnamed).status().code(),
            absl::StatusCode::kInvalidArgument);

  TestEncoder encoder;
  EXPECT_EQ(DenseIndex::Build(catalog, encoder.encoder, nullptr, nullptr, {.max_texts = 3})
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(DenseIndex::Build(catalog, encoder.encoder, nullptr, nullptr, {}, absl::InfinitePast())
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(encoder.texts.empty());
  const auto index = BuildOrDie(catalog, encoder.encoder);
  EXPECT_EQ(index->Query({}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index->Query({Vector(3, 1.0F)}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index->Query({nan}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index->Query({Vector(kDimension)}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(DenseIndexTest, AnEmptyCatalogHasNothingNear) {
  const auto catalog = MakeCatalog({.name = "empty"});
  TestEncoder encoder;
  const auto index = BuildOrDie(catalog, encoder.encoder);
  const auto visible = LinkIndex::Build(catalog)->See({});
  EXPECT_TRUE(NearestOrDie(*index, RandomVector(), *visible, 10).empty());
  EXPECT_TRUE(index->Save(folder_ + "/vectors").ok());
}

TEST_F(DenseIndexTest, LinksAreOfTheVectorsCatalog) {
  const auto catalog = MakeCatalog(Shop());
  const auto links = LinkIndex::Build(catalog);
  TestEncoder encoder;
  const auto index = BuildOrDie(catalog, encoder.encoder);
  const Table& reviews = *catalog->entries()[static_cast<size_t>(catalog->FindEntry("reviews"))];
  const auto query = index->Query({VectorOf(ColumnText(reviews, reviews.columns[2], false))});
  ASSERT_TRUE(query.ok());
  const LinkRequest request{.question = "zzz", .mode = LinkMode::kFocused, .max_columns = 3};
  const auto result = Link(*links, *links->See({}), request, {.dense = &*query});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->rendered, HasSubstr("remark"));
  const auto other = LinkIndex::Build(MakeCatalog(Shop()));
  const auto refused = Link(*other, *other->See({}), request, {.dense = &*query});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace octogate::schema
