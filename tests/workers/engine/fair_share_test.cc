#include "workers/engine/fair_share.h"

#include <string>

#include "gtest/gtest.h"

namespace octogate::workers {
namespace {

TEST(FairShareTest, SequencesOfATenantHaveOneAccount) {
  FairShare shares;
  FairShare::Account* a = shares.Enter("a");
  EXPECT_EQ(shares.Enter("a"), a);
  EXPECT_NE(shares.Enter("b"), a);
  EXPECT_EQ(a->sequences, 2);
  shares.Leave("a");
  EXPECT_EQ(a->sequences, 1);
}

TEST(FairShareTest, WhoComesLateBeginsWithTheLeastOfTheOthers) {
  FairShare shares;
  shares.Enter("a")->rows += 500;
  shares.Enter("b")->rows += 300;
  EXPECT_EQ(shares.Enter("b")->rows, 500 + 300);  // raised to a's when it came
  shares.Enter("a")->rows += 1000;
  EXPECT_EQ(shares.Enter("c")->rows, 800);
}

TEST(FairShareTest, LeavingAndComingBackGainsNothing) {
  FairShare shares;
  shares.Enter("a")->rows += 100;
  FairShare::Account* b = shares.Enter("b");
  b->rows += 700;
  EXPECT_EQ(b->rows, 800);
  shares.Leave("b");
  EXPECT_EQ(shares.Enter("b")->rows, 800);
}

TEST(FairShareTest, ATenantThatWasAloneOwesNothing) {
  FairShare shares;
  shares.Enter("a")->rows += 100000;
  shares.Leave("a");
  EXPECT_EQ(shares.accounts(), 0u);
  const int64_t b = shares.Enter("b")->rows;
  EXPECT_EQ(shares.Enter("a")->rows, b);
}

TEST(FairShareTest, RemembersABoundedNumberOfIdleTenants) {
  FairShare shares;
  shares.Enter("stays");
  for (size_t i = 0; i < 3 * FairShare::kMaxIdle; ++i) {
    const std::string name = std::to_string(i);
    shares.Enter(name)->rows += 10;
    shares.Leave(name);
    ASSERT_LE(shares.accounts(), FairShare::kMaxIdle + 1);
  }
  shares.Leave("stays");
}

}  // namespace
}  // namespace octogate::workers
