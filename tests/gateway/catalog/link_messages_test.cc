// Links as messages: whatever is linked, they are small enough to be sent.
#include "gateway/catalog/link_messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace octogate::gateway {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::Not;

schema::LinkedTable Family(const std::string& prefix, int members) {
  schema::LinkedTable table;
  for (int i = 0; i < members; ++i) {
    table.family_members.push_back(absl::StrFormat("%s%08d", prefix, i));
  }
  table.name = table.family_members.back();
  table.columns.push_back({.name = "id"});
  return table;
}

TEST(LinkMessage, ListsAllMembersOfAFamilyThatIsNotLarge) {
  schema::LinkResult result;
  result.tables.push_back(Family("t", 1000));
  const std::vector<std::string> members = result.tables[0].family_members;
  const v1::LinkSchemaResponse message = LinkMessage(std::move(result));
  EXPECT_THAT(message.tables(0).family_members(), ElementsAreArray(members));
  EXPECT_EQ(message.allowed_identifiers_size(), 1001);
}

TEST(LinkMessage, OfALargeFamilyListsTheFirstAndTheLast) {
  schema::LinkResult result;
  result.tables.push_back(Family("t", 100'000));
  const v1::LinkSchemaResponse message = LinkMessage(std::move(result));
  const v1::LinkedTable& table = message.tables(0);
  ASSERT_EQ(table.family_members_size(), static_cast<int>(kMaxFamilyMembers));
  EXPECT_EQ(table.family_members(0), "t00000000");
  EXPECT_EQ(table.family_members(499), "t00000499");
  EXPECT_EQ(table.family_members(500), "t00099500");
  EXPECT_EQ(table.family_members(999), table.name());
  // What SQL may name is what is listed.
  EXPECT_THAT(message.allowed_identifiers(),
              AllOf(Contains("t00000499"), Not(Contains("t00000500")), Contains("t00099999")));
  const AllowedIdentifiers allowed = AllowedIn(message);
  EXPECT_EQ(allowed.tables.size(), kMaxFamilyMembers);
  EXPECT_THAT(allowed.columns, ElementsAre("id"));
  EXPECT_LT(message.ByteSizeLong(), size_t{100} << 10);
}

TEST(LinkMessage, LongNamesOfManyFamiliesAreBoundedTogether) {
  schema::LinkResult result;
  for (int t = 0; t < 64; ++t) {
    result.tables.push_back(Family(std::string(500, static_cast<char>('A' + t)), 2000));
  }
  const v1::LinkSchemaResponse message = LinkMessage(std::move(result));
  size_t bytes = 0;
  for (const v1::LinkedTable& table : message.tables()) {
    for (const std::string& member : table.family_members()) bytes += member.size();
  }
  EXPECT_LE(bytes, kMaxFamilyBytes);
  EXPECT_LT(message.ByteSizeLong(), size_t{2} << 20);
  // Each table itself stays allowed.
  for (const v1::LinkedTable& table : message.tables()) {
    EXPECT_THAT(message.allowed_identifiers(), Contains(table.name()));
  }
}

TEST(LinkMessage, WhatIsAllowedIsAscendingAndOnce) {
  schema::LinkResult result;
  result.tables.push_back({.name = "b"});
  result.tables[0].columns.push_back({.name = "b"});
  result.tables[0].columns.push_back({.name = "a"});
  result.tables.push_back({.name = "A"});
  result.tables[1].columns.push_back({.name = "a"});
  EXPECT_THAT(LinkMessage(std::move(result)).allowed_identifiers(), ElementsAre("A", "a", "b"));
}

}  // namespace
}  // namespace octogate::gateway
