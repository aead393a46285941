#include "retrieval/schema/words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "retrieval/schema/sensitive.h"

namespace octogate::schema {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(SplitWords, BreaksIdentifiersOfEveryStyle) {
  EXPECT_THAT(SplitWords("customer_id"), ElementsAre("customer", "id"));
  EXPECT_THAT(SplitWords("CustomerID"), ElementsAre("customer", "id"));
  EXPECT_THAT(SplitWords("HTTPServerId2"), ElementsAre("http", "server", "id", "2"));
  EXPECT_THAT(SplitWords("customerIDs of"), ElementsAre("customer", "ids", "of"));
  EXPECT_THAT(SplitWords("B365H"), ElementsAre("b", "365", "h"));
  EXPECT_THAT(SplitWords("Percent (%) Eligible-Free"), ElementsAre("percent", "eligible", "free"));
  EXPECT_THAT(SplitWords(""), IsEmpty());
}

TEST(SplitWords, ReadsQuestions) {
  EXPECT_THAT(SplitWords("What's the driver's name?"),
              ElementsAre("what", "the", "driver", "name"));
  EXPECT_THAT(SplitWords("Élève à Orléans"), ElementsAre("élève", "à", "orléans"));
  EXPECT_THAT(SplitWords("顧客 id"), ElementsAre("顧", "客", "id"));
}

TEST(SplitWords, TakesInvalidBytesForSpaces) {
  EXPECT_THAT(SplitWords("a\xff"
                         "b\xc3"),
              ElementsAre("a", "b"));
}

TEST(Stem, BringsInflectedFormsTogether) {
  for (const auto& [a, b] :
       std::vector<std::pair<const char*, const char*>>{{"countries", "country"},
                                                        {"named", "name"},
                                                        {"names", "name"},
                                                        {"shipped", "ship"},
                                                        {"matches", "match"},
                                                        {"boxes", "box"},
                                                        {"classes", "class"},
                                                        {"rating", "rate"},
                                                        {"cities", "city"}}) {
    EXPECT_EQ(Stem(a), Stem(b)) << a << " " << b;
  }
  EXPECT_NE(Stem("status"), Stem("state"));
  EXPECT_EQ(Stem("ids"), "ids");
  EXPECT_EQ(Stem("2012"), "2012");
}

TEST(Squash, DropsSeparators) { EXPECT_EQ(Squash("Customer_ID (old)"), "customeridold"); }

TEST(IsSensitiveName, KnowsSecretsAndPersons) {
  for (const char* name : {"email", "EmailAddress", "customer_ssn", "pwd", "passwordHash",
                           "credit_card", "CardNumber", "phone", "date_of_birth", "apiKey"}) {
    EXPECT_TRUE(IsSensitiveName(name)) << name;
  }
  for (const char* name : {"emailed_count", "name", "passing", "country", "card_type", "spin"}) {
    EXPECT_FALSE(IsSensitiveName(name)) << name;
  }
}

}  // namespace
}  // namespace octogate::schema
