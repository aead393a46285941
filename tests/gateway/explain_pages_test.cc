// What octoctl cache explain says of a query's pages is what the query then finds: real (tiny)
// models in workers that share pages through a real redis-server, and in the gateway's own process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/common/redis/loopback_listener.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/gateway/shared_pages_fixture.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

class ExplainPagesTest : public SharedPagesFixture {
 protected:
  // Of the model's pages, what is said of the long query of a tenant at a replica, or at the first.
  v1::CacheExplanation Explain(const std::string& kind, const std::string& tenant,
                               const std::string& replica = "") {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
    v1::ExplainCacheRequest request;
    *request.mutable_request() = Ask(LongQuery(), "talk");
    request.mutable_request()->set_tenant(tenant);
    v1::ExplainCacheResponse response;
    const grpc::Status status = gateway_.admin()->ExplainCache(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    for (const v1::CacheExplanation& cache : response.caches()) {
      if (cache.kind() == kind && (replica.empty() || cache.replica() == replica)) return cache;
    }
    return {};
  }

  // Has the long query of tenant "a" in the memory of a worker, and in the store.
  std::string NewWarmWorker() {
    const std::string address = NewWorker();
    Apply({address});
    Generate("a");
    return address;
  }
};

TEST_F(ExplainPagesTest, InTheGatewaysOwnProcess) {
  ASSERT_TRUE(gateway_.Apply(Graph("    - {name: tiny, path: octopus}\n")).ok());
  v1::CacheExplanation said = Explain("prefixes", "a");
  EXPECT_FALSE(said.hit());
  EXPECT_TRUE(said.has_cached_tokens());
  EXPECT_EQ(said.cached_tokens(), 0);
  EXPECT_EQ(said.replica(), "in-process");
  EXPECT_EQ(said.model(), "tiny");
  const int64_t tokens = said.prompt_tokens();
  EXPECT_EQ(Generate("a").prompt_tokens(), tokens);

  said = Explain("prefixes", "a");
  EXPECT_TRUE(said.hit());
  EXPECT_EQ(said.prompt_tokens(), tokens);
  EXPECT_THAT(said.reason(),
              HasSubstr(absl::StrCat(said.cached_tokens(), " of ", tokens, " tokens")));
  EXPECT_FALSE(Explain("prefixes", "b").hit()) << "another tenant's";
  EXPECT_EQ(Explain("pages", "a").kind(), "") << "nothing is shared";
  // Asking has changed nothing.
  EXPECT_EQ(Generate("b").cached_tokens(), 0);
  EXPECT_EQ(Generate("a").cached_tokens(), said.cached_tokens());
}

TEST_F(ExplainPagesTest, AtEachReplicaInMemoryAndInTheirStore) {
  const std::string first = NewWarmWorker();
  const std::string second = NewWorker();
  Apply({first, second});
  const v1::CacheExplanation memory = Explain("prefixes", "a", first);
  const int64_t held = memory.cached_tokens();
  EXPECT_GT(held, 0);
  EXPECT_EQ(Explain("pages", "a", first).shared().lookup_tokens(), 0) << "it has all";
  EXPECT_FALSE(Explain("pages", "a", first).hit());

  const v1::CacheExplanation cold = Explain("prefixes", "a", second);
  EXPECT_FALSE(cold.hit());
  EXPECT_EQ(cold.cached_tokens(), 0);
  EXPECT_EQ(cold.prompt_tokens(), memory.prompt_tokens());
  EXPECT_TRUE(Eventually([&] {  // until it is written
    return Explain("pages", "a", second).shared().hit_tokens() == held;
  }));
  const v1::CacheExplanation stored = Explain("pages", "a", second);
  EXPECT_EQ(stored.shared().lookup_tokens(), held);
  EXPECT_TRUE(stored.shared().has_fetch_seconds());
  EXPECT_FALSE(stored.shared().has_compute_seconds()) << "not measured";
  EXPECT_EQ(stored.shared().choice(), v1::PAGE_CHOICE_WAIT);
  EXPECT_THAT(stored.reason(), HasSubstr("the query waits for what the store has"));
  const v1::CacheExplanation others = Explain("pages", "b", second);
  EXPECT_TRUE(others.shared().has_hit_tokens());
  EXPECT_EQ(others.shared().hit_tokens(), 0) << "another tenant's";
  EXPECT_FALSE(others.hit());

  // None of it was fetched by asking; the query finds what was said.
  Apply({second});
  EXPECT_TRUE(Explain("pages", "a").hit());
  const v1::Usage usage = Generate("a");
  EXPECT_EQ(usage.prompt_tokens(), cold.prompt_tokens());
  EXPECT_EQ(usage.shared_tokens(), held);
  EXPECT_EQ(Explain("prefixes", "a").cached_tokens(), held);
}

TEST_F(ExplainPagesTest, SaysThatTheStoreDoesNotAnswer) {
  NewWarmWorker();
  const int64_t held = Explain("prefixes", "a").cached_tokens();
  redis_.Kill();
  EXPECT_TRUE(Eventually([&] { return !Explain("pages", "b").shared().has_fetch_seconds(); }));
  const v1::CacheExplanation said = Explain("pages", "b");
  EXPECT_FALSE(said.hit());
  EXPECT_GT(said.shared().lookup_tokens(), 0);
  EXPECT_FALSE(said.shared().has_hit_tokens());
  EXPECT_NE(said.shared().error(), "");
  EXPECT_EQ(said.shared().choice(), v1::PAGE_CHOICE_COMPUTE);
  EXPECT_EQ(Explain("prefixes", "a").cached_tokens(), held);
  EXPECT_TRUE(Explain("prefixes", "a").hit());
}

TEST_F(ExplainPagesTest, ReplicasThatDoNotSayOrLieHideNothing) {
  const LoopbackListener silent;  // takes connections, and never says anything
  const StubWorker old;           // knows no such question
  StubWorker liar;
  v1::WorkerExplainCacheResponse lies;
  lies.set_prompt_tokens(-5);
  lies.set_cached_tokens(std::numeric_limits<int64_t>::min());
  lies.mutable_shared()->set_lookup_tokens(-1);
  lies.mutable_shared()->set_hit_tokens(-1);
  lies.mutable_shared()->set_fetch_seconds(std::nan(""));
  lies.mutable_shared()->set_compute_seconds(-1);
  lies.mutable_shared()->set_choice(static_cast<v1::PageChoice>(77));
  liar.SetExplained(lies);
  const std::string works = NewWarmWorker();
  Apply({absl::StrCat("127.0.0.1:", silent.port()), old.address(), liar.address(), works});
  EXPECT_GT(Explain("prefixes", "a", works).cached_tokens(), 0);
  const std::vector<std::string> quiet = {absl::StrCat("127.0.0.1:", silent.port()), old.address()};
  for (const std::string& address : quiet) {
    const v1::CacheExplanation said = Explain("prefixes", "a", address);
    EXPECT_FALSE(said.hit());
    EXPECT_FALSE(said.has_cached_tokens());
    EXPECT_THAT(said.reason(), HasSubstr("it has not said"));
    EXPECT_EQ(Explain("pages", "a", address).kind(), "");
  }
  EXPECT_EQ(Explain("prefixes", "a", liar.address()).prompt_tokens(), 0);
  EXPECT_EQ(Explain("prefixes", "a", liar.address()).cached_tokens(), 0);
  EXPECT_FALSE(Explain("prefixes", "a", liar.address()).hit());
  const v1::CacheExplanation pages = Explain("pages", "a", liar.address());
  EXPECT_FALSE(pages.hit());
  EXPECT_EQ(pages.shared().lookup_tokens(), 0);
  EXPECT_EQ(pages.shared().hit_tokens(), 0);
  EXPECT_FALSE(pages.shared().has_fetch_seconds());
  EXPECT_FALSE(pages.shared().has_compute_seconds());
  EXPECT_EQ(liar.last_question().cache_salt(), "a");
}

TEST_F(ExplainPagesTest, NoReplicaHasMoreThanThePromptOrSaysMuchAboutIt) {
  StubWorker boaster;
  v1::WorkerExplainCacheResponse boast;
  boast.set_prompt_tokens(100);
  boast.set_cached_tokens(40);
  boast.mutable_shared()->set_lookup_tokens(1000);
  boast.mutable_shared()->set_hit_tokens(std::numeric_limits<int64_t>::max());
  boaster.SetExplained(boast);
  Apply({boaster.address()});
  EXPECT_EQ(Explain("prefixes", "a").cached_tokens(), 40);
  EXPECT_EQ(Explain("pages", "a").shared().lookup_tokens(), 60) << "all that is not in memory";
  EXPECT_EQ(Explain("pages", "a").shared().hit_tokens(), 60);

  boast.set_cached_tokens(101);
  boast.mutable_shared()->set_lookup_tokens(8);
  boast.mutable_shared()->set_error(std::string(5000, 'e'));
  boaster.SetExplained(boast);
  EXPECT_EQ(Explain("prefixes", "a").cached_tokens(), 100);
  EXPECT_EQ(Explain("pages", "a").shared().hit_tokens(), 0);

  boast.set_cached_tokens(0);
  boast.mutable_shared()->clear_hit_tokens();
  boaster.SetExplained(boast);
  const v1::CacheExplanation pages = Explain("pages", "a");
  EXPECT_EQ(pages.shared().error(), std::string(200, 'e'));
  EXPECT_THAT(pages.reason(), testing::Not(HasSubstr(std::string(201, 'e'))));
}

}  // namespace
}  // namespace octogate::gateway
