#include "tests/bench/linking_suites.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "retrieval/schema/bird_reader.h"
#include "retrieval/schema/schema.h"
#include "retrieval/schema/spider_reader.h"

namespace octogate::bench {
namespace {

using nlohmann::json;
using schema::Catalog;
using schema::Schema;

absl::StatusOr<json> Load(const std::string& path) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string text, schema::ReadBoundedFile(path));
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return absl::InvalidArgumentError(path + ": is not JSON");
  return parsed;
}

absl::Status AddDatabases(std::vector<Schema> schemas, LinkingSuite* suite) {
  for (Schema& schema : schemas) {
    const std::string name = schema.name;
    auto catalog = Catalog::Create(std::move(schema));
    if (!catalog.ok()) return Annotate(catalog.status(), name);
    suite->databases[name] = *std::move(catalog);
  }
  return absl::OkStatus();
}

// What of the gold names an id is, in order.
absl::StatusOr<std::map<std::string, json>> Gold(const std::string& path) {
  OCTOGATE_ASSIGN_OR_RETURN(const json file, Load(path));
  std::map<std::string, json> gold;
  for (const json& item : file) {
    const json& id = item["id"];
    gold[id.is_string() ? id.get<std::string>() : std::to_string(id.get<int64_t>())] = item;
  }
  return gold;
}

absl::Status AddQuestion(const std::map<std::string, json>& gold, const std::string& id,
                         LinkingQuestion question, LinkingSuite* suite) {
  const auto found = gold.find(id);
  if (found == gold.end()) return absl::NotFoundError("no gold links for question " + id);
  question.tables = found->second["tables"].get<std::vector<std::string>>();
  question.columns = found->second["columns"].get<std::vector<std::string>>();
  suite->questions.push_back(std::move(question));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LinkingSuite> LoadBirdMiniDev(const std::string& folder) {
  LinkingSuite suite{.name = "BIRD mini-dev"};
  OCTOGATE_ASSIGN_OR_RETURN(std::vector<Schema> schemas,
                            schema::ReadSpiderTables(folder + "/bird-schemas/dev_tables.json"));
  OCTOGATE_ASSIGN_OR_RETURN(
      const std::vector<Schema> descriptions,
      schema::ReadBirdMetadata(folder + "/bird-schemas/dev_tables_cleaned.json"));
  for (Schema& schema : schemas) {
    for (const Schema& described : descriptions) {
      if (described.name == schema.name) schema::MergeDescriptions(described, &schema);
    }
  }
  OCTOGATE_RETURN_IF_ERROR(AddDatabases(std::move(schemas), &suite));
  OCTOGATE_ASSIGN_OR_RETURN(const json file, Load(folder + "/bird-mini-dev/mini_dev_sqlite.json"));
  OCTOGATE_ASSIGN_OR_RETURN(const auto gold, Gold(folder + "/gold-links/bird_mini_dev.json"));
  for (const json& item : file) {
    OCTOGATE_RETURN_IF_ERROR(AddQuestion(
        gold, std::to_string(item["question_id"].get<int64_t>()),
        {.database = item["db_id"], .question = item["question"], .evidence = item["evidence"]},
        &suite));
  }
  return suite;
}

absl::StatusOr<LinkingSuite> LoadSpiderDev(const std::string& folder) {
  LinkingSuite suite{.name = "Spider dev"};
  OCTOGATE_ASSIGN_OR_RETURN(std::vector<Schema> schemas,
                            schema::ReadSpiderTables(folder + "/spider/tables.json"));
  OCTOGATE_RETURN_IF_ERROR(AddDatabases(std::move(schemas), &suite));
  OCTOGATE_ASSIGN_OR_RETURN(const json file, Load(folder + "/spider/dev.json"));
  OCTOGATE_ASSIGN_OR_RETURN(const auto gold, Gold(folder + "/gold-links/spider_dev.json"));
  for (size_t i = 0; i < file.size(); ++i) {
    OCTOGATE_RETURN_IF_ERROR(
        AddQuestion(gold, std::to_string(i),
                    {.database = file[i]["db_id"], .question = file[i]["question"]}, &suite));
  }
  return suite;
}

absl::StatusOr<LinkingSuite> LoadSpiderTrain(const std::string& folder,
                                             const std::string& questions) {
  LinkingSuite suite{.name = "Spider train, other questions"};
  OCTOGATE_ASSIGN_OR_RETURN(std::vector<Schema> schemas,
                            schema::ReadSpiderTables(folder + "/spider/tables.json"));
  OCTOGATE_RETURN_IF_ERROR(AddDatabases(std::move(schemas), &suite));
  OCTOGATE_ASSIGN_OR_RETURN(const json file, Load(questions));
  for (const json& item : file) {
    suite.questions.push_back({.database = item["db_id"],
                               .question = item["question"],
                               .tables = item["tables"].get<std::vector<std::string>>(),
                               .columns = item["columns"].get<std::vector<std::string>>()});
  }
  return suite;
}

absl::StatusOr<LinkingSuite> LoadKaggleDbqa(const std::string& folder) {
  LinkingSuite suite{.name = "KaggleDBQA"};
  OCTOGATE_ASSIGN_OR_RETURN(
      std::vector<Schema> schemas,
      schema::ReadSpiderTables(folder + "/kaggledbqa/KaggleDBQA_tables.json"));
  OCTOGATE_RETURN_IF_ERROR(AddDatabases(std::move(schemas), &suite));
  OCTOGATE_ASSIGN_OR_RETURN(const auto gold, Gold(folder + "/gold-links/kaggledbqa_all.json"));
  size_t number = 0;  // over all files in order of their names
  for (const auto& [name, catalog] : suite.databases) {
    OCTOGATE_ASSIGN_OR_RETURN(const json file,
                              Load(absl::StrCat(folder, "/kaggledbqa/examples/", name, ".json")));
    for (size_t i = 0; i < file.size(); ++i) {
      OCTOGATE_RETURN_IF_ERROR(
          AddQuestion(gold, absl::StrCat(name, ":", number++),
                      {.database = file[i]["db_id"], .question = file[i]["question"]}, &suite));
    }
  }
  return suite;
}

}  // namespace octogate::bench
