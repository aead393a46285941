// SQLite files for tests, made and looked at by the library itself, not by the code under test.
#ifndef OCTOGATE_TESTS_GATEWAY_SQL_SQL_TEST_FILES_H_
#define OCTOGATE_TESTS_GATEWAY_SQL_SQL_TEST_FILES_H_

#include <string>
#include <vector>

#include "gateway/sql/sql_database.h"

namespace octogate::gateway {

// A new folder, removed with everything in it at the end.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  // Names of everything in it, sorted.
  std::vector<std::string> List() const;

 private:
  std::string path_;
};

// Runs the statements on the file, which is made where it is missing. A failure ends the test.
void RunOnFile(const std::string& path, const std::string& sql);

// The result of one statement as a plain connection returns it.
SqlResult PlainResult(const std::string& path, const std::string& sql);

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& bytes);

// One line per row, the values between "|": for comparing and for messages.
std::string Describe(const SqlResult& result);

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_SQL_SQL_TEST_FILES_H_
