// The user that deploy/redis.conf gives gateways and workers may do what they do, and nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/redis/redis_record_streams.h"
#include "common/redis/redis_store.h"
#include "common/redis/redis_value_cache.h"
#include "tests/common/redis/redis_cluster.h"
#include "tests/common/redis/redis_server.h"
#include "tests/workers/speculation/drafter_streams.h"
#include "workers/cache/redis_page_store.h"
#include "workers/cache/shared_drafts.h"
#include "workers/speculation/kept_drafter.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/recycling_state.h"

namespace octogate::workers {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::Time Soon() { return RedisCluster::Soon(); }

// What the file says of the user "octogate", in a comment.
std::vector<std::string> Rule() {
  std::ifstream file(OCTOGATE_REDIS_CONF);
  EXPECT_TRUE(file.good()) << OCTOGATE_REDIS_CONF;
  const std::string mark = "#   user octogate ";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(mark)) return absl::StrSplit(line.substr(mark.size()), ' ');
  }
  ADD_FAILURE() << "the file has no such user";
  return {};
}

std::vector<std::string> WithRule(std::vector<std::string> settings) {
  settings.insert(settings.end(), {"--user", "octogate"});
  for (const std::string& word : Rule()) settings.push_back(word);
  return settings;
}

// A server, and a cluster of one server.
class RedisAclTest : public testing::Test {
 protected:
  RedisAclTest() {
    EXPECT_TRUE(cluster_admin_->Call({"CLUSTER", "ADDSLOTSRANGE", "0", "16383"}, Soon()).ok());
    RedisCluster::AwaitTrue([&] { return cluster_admin_->Call({"GET", "k"}, Soon()).ok(); });
    for (RedisClient* admin : {admin_.get(), cluster_admin_.get()}) {
      EXPECT_TRUE(admin->Call({"CONFIG", "RESETSTAT"}, Soon()).ok());
    }
  }

  // How gateways and workers reach them.
  RedisOptions Single() const {
    RedisOptions options = AsUser(server_);
    options.database = 1;
    return options;
  }
  RedisOptions Cluster() const {
    RedisOptions options = AsUser(cluster_);
    options.unix_socket.clear();
    options.port = port_;
    options.cluster = true;
    return options;
  }

  const int port_ = FreePort();
  RedisServer server_{WithRule({"--appendonly", "yes"})};
  RedisServer cluster_{
      WithRule({"--port", std::to_string(port_), "--bind", "127.0.0.1", "--cluster-enabled", "yes",
                "--cluster-port", std::to_string(FreePort()), "--appendonly", "yes"})};
  const std::unique_ptr<RedisClient> admin_ = RedisClient::Create(server_.options());
  const std::unique_ptr<RedisClient> cluster_admin_ = RedisClient::Create(cluster_.options());

 private:
  static RedisOptions AsUser(const RedisServer& server) {
    RedisOptions options = server.options();
    options.username = "octogate";
    options.password = "PASSWORD";
    return options;
  }
};

// The commands that the server has executed since its statistics were reset.
std::set<std::string> Executed(RedisClient& admin) {
  const auto reply = admin.Call({"INFO", "commandstats"}, Soon());
  EXPECT_TRUE(reply.ok()) << reply.status();
  const std::string mark = "cmdstat_";
  const std::vector<std::string> lines = absl::StrSplit(reply.value_or(RedisReply()).text, "\r\n");
  std::set<std::string> commands;
  for (const std::string& line : lines) {
    if (!line.starts_with(mark)) continue;
    commands.insert(line.substr(mark.size(), line.find(':') - mark.size()));
  }
  return commands;
}

// What it has refused to anybody.
std::vector<std::string> Refused(RedisClient& admin) {
  const auto log = admin.Call({"ACL", "LOG"}, Soon());
  EXPECT_TRUE(log.ok()) << log.status();
  std::vector<std::string> refused;
  for (const RedisReply& entry : log.value_or(RedisReply()).elements) {
    std::string& text = refused.emplace_back();
    for (const RedisReply& field : entry.elements) absl::StrAppend(&text, field.text, " ");
  }
  return refused;
}

void UseStore(RedisClient& client) {
  const auto store = MakeRedisStore(&client);
  const absl::Time never = absl::InfiniteFuture();
  EXPECT_EQ(CheckRedisKeepsValues(client, Soon()), absl::OkStatus());
  EXPECT_EQ(store->Put("graph/1", "one", never, Soon()), absl::OkStatus());
  EXPECT_EQ(store->CompareAndSet("graph/1", "one", "two", never, Soon()), absl::OkStatus());
  EXPECT_EQ(store->Get("graph/1", Soon()).value_or(""), "two");
  const Store::Entry entries[] = {{"graph/2", "x", absl::Now() + absl::Hours(1)},
                                  {"graph/3", "y"},
                                  {"graph/4", "z", absl::InfinitePast()}};
  for (const absl::Status& put : store->PutMany(entries, Soon())) EXPECT_TRUE(put.ok()) << put;
  const std::string_view keys[] = {"graph/2", "graph/3"};
  for (const auto& got : store->GetMany(keys, Soon())) EXPECT_TRUE(got.ok()) << got.status();
  for (const std::string_view prefix : {"graph/", "gra"}) {
    const auto names = store->List(prefix, "", 10, Soon());
    EXPECT_TRUE(names.ok()) << names.status();
    EXPECT_EQ(names.value_or(std::vector<std::string>()).size(), 3U);
  }
  EXPECT_EQ(store->Delete("graph/3", Soon()), absl::OkStatus());
  std::atomic<int> told = 0;
  const auto watch = store->Watch("graphs", [&] { ++told; });
  RedisCluster::AwaitTrue([&] { return told > 0; });  // it listens
  const int before = told;
  EXPECT_EQ(store->Notify("graphs", Soon()), absl::OkStatus());
  RedisCluster::AwaitTrue([&] { return told > before; });
}

void UseValueCache(RedisClient& client) {
  const auto cache = MakeRedisValueCache(&client);
  const std::string key = "session/1";
  const ValueCache::Entry entry{key, "node", absl::Hours(1)};
  EXPECT_EQ(cache->PutMany({&entry, 1}, Soon())[0], absl::OkStatus());
  EXPECT_EQ(cache->GetMany({&key, 1}, Soon())[0].value_or(""), "node");
}

void UseRecordStreams(RedisClient& client) {
  const auto streams =
      MakeRedisRecordStreams(&client, {.max_records = 2, .max_bytes = 500, .max_streams = 3});
  for (int i = 0; i < 4; ++i) {
    const RecordStreams::Record record{"tenant", absl::StrCat("id", i), "trace"};
    EXPECT_EQ(streams->Append({&record, 1}, Soon())[0], absl::OkStatus());
  }
  EXPECT_EQ(streams->Find("id3", Soon()).value_or(RecordStreams::Record()).value, "trace");
  EXPECT_EQ(streams->Newest(10, 1000, Soon()).value_or(std::vector<RecordStreams::Record>()).size(),
            2U);
}

void UsePages(const RedisOptions& options) {
  const std::shared_ptr<RedisClient> client = RedisClient::Create(options);
  EXPECT_TRUE(client->Call({"PING"}, Soon()).ok());  // it is reached
  const auto store =
      ShareThroughRedis(client)({.description = "pages", .page_size = 1, .page_bytes = 64});
  RedisCluster::AwaitTrue([&] {
    store->TakeFlushed();
    return store->FetchSeconds(1) < 1e9;
  });
  const std::vector<int32_t> tokens = {1, 2, 3};
  const auto chain = [&](uint64_t sequence) {
    return PageChain{.context = "", .tokens = tokens, .first = 0, .count = 3, .sequence = sequence};
  };
  for (const uint64_t sequence : {1, 2}) {
    store->Write(chain(sequence),
                 [](std::span<const int>, std::span<const std::span<std::byte>> to) {
                   for (const auto& page : to) std::fill(page.begin(), page.end(), std::byte{1});
                 });
  }
  for (const PageOrder order : {PageOrder::kForward, PageOrder::kBackward}) {
    RedisCluster::AwaitTrue([&] {
      const auto fetch = store->Fetch(chain(3), order, [] {});
      std::vector<SharedPage> pages;
      RedisCluster::AwaitTrue([&] { return fetch->Take(0, pages); });
      return pages.size() == 3;
    });
  }
}

struct Drafts {
  explicit Drafts(Store* store)
      : place(ShareDrafts(store, {.max_pause = absl::Milliseconds(100)})),
        keeper(std::make_shared<DraftKeeper>(DraftKeeperOptions{
            .model = "model", .interval = absl::Milliseconds(20), .places = {place}})),
        drafter(KeepDrafter(
            std::make_unique<RecyclingDrafter>(RecyclingOptions{.table = {.vocab_size = 100}}),
            keeper)) {}
  const std::shared_ptr<SharedDrafts> place;
  const std::shared_ptr<DraftKeeper> keeper;
  const std::unique_ptr<Drafter> drafter;
};

void UseDrafts(RedisClient& client) {
  const auto store = MakeRedisStore(&client);
  Drafts first(store.get());
  Drafts second(store.get());
  {
    const auto learned = first.drafter->Begin("tenant");
    learned->Append(Tokens{1, 2});
    learned->Append(Tokens{3, 20, 21, 4});
  }
  RedisCluster::AwaitTrue([&] {
    const auto asked = second.drafter->Begin("tenant");
    asked->Append(Tokens{20});
    return Proposal(*asked).Child(-1, 21) >= 0;
  });
}

TEST_F(RedisAclTest, AllowsAllThatIsDoneAndNamesNothingThatIsNot) {
  std::set<std::string> executed;
  for (const RedisOptions& options : {Single(), Cluster()}) {
    SCOPED_TRACE(options.cluster ? "cluster" : "one server");
    const auto client = RedisClient::Create(options);
    UseStore(*client);
    UseValueCache(*client);
    UseRecordStreams(*client);
    UsePages(options);
    UseDrafts(*client);
    // While slots move.
    if (options.cluster) {
      EXPECT_TRUE(client->Call({"ASKING"}, Soon()).ok());
    }
    RedisClient& admin = options.cluster ? *cluster_admin_ : *admin_;
    EXPECT_THAT(Refused(admin), IsEmpty());
    executed.merge(Executed(admin));
  }
  for (const std::string& word : Rule()) {
    if (word.front() != '+') continue;
    EXPECT_TRUE(executed.contains(word.substr(1))) << word;
  }
}

TEST_F(RedisAclTest, AllowsNothingElse) {
  const auto client = RedisClient::Create(Single());
  ASSERT_TRUE(client->Call({"SET", "octogate:x", "x"}, Soon()).ok());
  const std::vector<std::string_view> refused[] = {
      {"GET", "others"},
      {"SET", "others", "x"},
      {"MGET", "octogate:x", "others"},
      {"EVAL", "return redis.call('GET', 'others')", "0"},
      {"PUBLISH", "others", ""},
      {"KEYS", "*"},
      {"FLUSHALL"},
      {"CONFIG", "SET", "maxmemory", "1"},
      {"CLUSTER", "RESET"},
      {"ACL", "LIST"},
      {"SHUTDOWN"},
  };
  for (const std::vector<std::string_view>& command : refused) {
    const absl::Status status = client->Call(command, Soon()).status();
    // Of scripts it says the latter.
    EXPECT_THAT(status.ToString(), AnyOf(HasSubstr("permission"), HasSubstr("access at least one")))
        << command[0];
  }
}

}  // namespace
}  // namespace octogate::workers
