// A folder with databases that tests make, below which a gateway finds them.
#ifndef OCTOGATE_TESTS_GATEWAY_CATALOG_TEST_DATABASE_H_
#define OCTOGATE_TESTS_GATEWAY_CATALOG_TEST_DATABASE_H_

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace octogate::gateway {

// Removed at the end, with everything in it.
class TestFolder {
 public:
  TestFolder() {
    static std::atomic<int> folders{0};
    path_ = absl::StrCat(testing::TempDir(), "/catalogs_", getpid(), "_", folders.fetch_add(1));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

  // Runs statements on a SQLite database of the folder, which is made where it is not there.
  void Execute(const std::string& name, const std::string& sql) const {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open((path_ / name).c_str(), &database), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_free(error);
    sqlite3_close(database);
  }

  // The database of a shop: customers with orders of products, and what employees earn.
  void MakeShop(const std::string& name) const {
    Execute(name, R"sql(
      CREATE TABLE customers (id INTEGER PRIMARY KEY, full_name TEXT, country TEXT, email TEXT);
      CREATE TABLE products (id INTEGER PRIMARY KEY, title TEXT, price REAL);
      CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers (id),
                           product_id INTEGER REFERENCES products (id), placed_on DATE);
      CREATE TABLE salaries (id INTEGER PRIMARY KEY, employee TEXT, monthly_pay REAL);
      CREATE TABLE visits_2023 (visitor TEXT, page TEXT);
      CREATE TABLE visits_2024 (visitor TEXT, page TEXT);
      INSERT INTO customers VALUES (1, 'Zoë Lind', 'Norway', 'zoe@example.org'),
                                   (2, 'Ann Chu', 'Peru', 'ann@example.org');
      INSERT INTO products VALUES (1, 'kettle', 20.5), (2, 'lamp', 12.0);
      INSERT INTO orders VALUES (1, 1, 2, '2024-01-02'), (2, 2, 1, '2024-02-03');
      INSERT INTO salaries VALUES (1, 'Max Mole', 4000), (2, 'Eve Eel', 5000);
    )sql");
  }

 private:
  std::filesystem::path path_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_CATALOG_TEST_DATABASE_H_
