// Questions with the tables and columns that their SQL reads, from the folder of evaluation data.
#ifndef OCTOGATE_TESTS_BENCH_LINKING_SUITES_H_
#define OCTOGATE_TESTS_BENCH_LINKING_SUITES_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "retrieval/schema/catalog.h"

namespace octogate::bench {

struct LinkingQuestion {
  std::string database;
  std::string question;
  std::string evidence;
  std::vector<std::string> tables;   // in lower case
  std::vector<std::string> columns;  // "table.column", in lower case
};

struct LinkingSuite {
  std::string name;
  std::map<std::string, std::shared_ptr<const schema::Catalog>> databases;
  std::vector<LinkingQuestion> questions;
};

// `folder`: text2sql of the evaluation data. NOT_FOUND for files that are not there.
absl::StatusOr<LinkingSuite> LoadBirdMiniDev(const std::string& folder);
absl::StatusOr<LinkingSuite> LoadSpiderDev(const std::string& folder);
// Questions written for this project to queries of Spider's training split, from `questions`
// (linking_questions.json), on that split's schemas.
absl::StatusOr<LinkingSuite> LoadSpiderTrain(const std::string& folder,
                                             const std::string& questions);
absl::StatusOr<LinkingSuite> LoadKaggleDbqa(const std::string& folder);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_LINKING_SUITES_H_
