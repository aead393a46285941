// A made-up warehouse: many tables with the same few words in their names, dated shards of event
// tables, sparse descriptions. For times and for what families are worth; no measure of language.
#ifndef OCTOGATE_TESTS_BENCH_WAREHOUSE_H_
#define OCTOGATE_TESTS_BENCH_WAREHOUSE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "retrieval/schema/schema.h"

namespace octogate::bench {

struct WarehouseQuestion {
  std::string question;
  std::string table;  // that it is about; of a family any member
  // Tables (families as one) that it fits: their names have all its words of names, and one of
  // their columns has its words of columns. No linker can tell these from each other.
  size_t fitting = 0;
};

struct Warehouse {
  schema::Schema schema;
  std::vector<WarehouseQuestion> questions;
};

// About `columns` columns, of which the share `shards` stands in dated shards of 30 tables each.
// Equal for equal arguments.
Warehouse MakeWarehouse(size_t columns, double shards, size_t questions, uint64_t seed);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_WAREHOUSE_H_
