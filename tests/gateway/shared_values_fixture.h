// Gateways with one Redis, for tests of what they share of one kind.
#ifndef OCTOGATE_TESTS_GATEWAY_SHARED_VALUES_FIXTURE_H_
#define OCTOGATE_TESTS_GATEWAY_SHARED_VALUES_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/gateway/redis_gateway.h"

namespace octogate::gateway {

inline constexpr char kFailed[] = "octogate_shared_reads_total{result=\"failed\"}";
inline constexpr char kDamaged[] = "octogate_shared_reads_total{result=\"damaged\"}";

inline absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

class SharedValuesFixture : public testing::Test {
 protected:
  // "answers" or "decisions".
  explicit SharedValuesFixture(std::string kind) : kind_(std::move(kind)) {}

  static ServerOptions Options() {
    ServerOptions options = RedisGateway::Options();
    // What a gateway has itself is as good as what it shares.
    options.graph.shared_answers.believed_for = absl::ZeroDuration();
    return options;
  }
  RedisOptions Redis() const {
    RedisOptions redis = redis_.options();
    redis.timeouts = Patient(absl::Milliseconds(500));
    return redis;
  }
  void StartWith(const std::string& graph) {
    first_ = std::make_unique<RedisGateway>(Redis(), Options());
    second_ = std::make_unique<RedisGateway>(Redis(), Options());
    const grpc::Status applied = first_->Apply(graph);
    ASSERT_TRUE(applied.ok()) << applied.error_message();
    AwaitGraph(*second_, 1);
  }
  // With nothing kept of its own.
  std::unique_ptr<RedisGateway> Another(int64_t version = 1) {
    auto gateway = std::make_unique<RedisGateway>(Redis(), Options());
    AwaitGraph(*gateway, version);
    return gateway;
  }
  static void AwaitGraph(TestGateway& gateway, int64_t version) {
    ASSERT_TRUE(Eventually([&] {
      const auto state = gateway.server().graphs().state();
      return state != nullptr && state->version() == version && gateway.server().graphs().Ready();
    }));
  }

  // As an operator would.
  grpc::Status Flush(TestGateway& gateway, const std::string& tenant) {
    grpc::ClientContext context;
    v1::FlushCacheRequest request;
    request.set_tenant(tenant);
    request.add_kinds(kind_);
    v1::FlushCacheResponse response;
    return gateway.admin()->FlushCache(&context, request, &response);
  }
  v1::CacheStats SharedStats(TestGateway& gateway) {
    grpc::ClientContext context;
    v1::GetCacheStatsResponse response;
    EXPECT_TRUE(gateway.admin()->GetCacheStats(&context, {}, &response).ok());
    for (const v1::CacheStats& stats : response.caches()) {
      if (stats.kind() == "shared-" + kind_) return stats;
    }
    return {};
  }

  RedisReply Call(std::initializer_list<std::string_view> command) {
    const auto reply = first_->client->Call(command, Soon());
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(RedisReply());
  }
  // Names of values, without those of marks.
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const RedisReply& key : Call({"KEYS", absl::StrCat(kPrefix, kind_, "/*")}).elements) {
      if (!absl::StrContains(key.text, "flush")) {
        names.push_back(key.text.substr(kPrefix.size()));
      }
    }
    return names;
  }
  // What stands there.
  std::vector<std::string> Stored() {
    std::vector<std::string> stored;
    for (const std::string& name : Names()) {
      stored.push_back(Call({"GET", absl::StrCat(kPrefix, name)}).text);
    }
    std::sort(stored.begin(), stored.end());
    return stored;
  }
  // Has something new stored, and waits until the others can find it.
  template <typename Act>
  auto Share(const Act& act) {
    const std::vector<std::string> before = Stored();
    auto result = act();
    EXPECT_TRUE(Eventually([&] { return Stored() != before; }));
    return result;
  }

  // A value as it is written.
  struct Written {
    std::string marks;
    std::string key;
    std::string content;
    std::string Whole() const { return absl::StrCat(marks, " ", key.size(), " ", key, content); }
  };
  Written ValueOf(const std::string& name) {
    const auto value = first_->values->GetMany({&name, 1}, Soon())[0];
    EXPECT_TRUE(value.ok()) << value.status();
    const std::vector<std::string> words =
        absl::StrSplit(value.value_or("  "), absl::MaxSplits(' ', 2));
    size_t key_bytes = 0;
    EXPECT_TRUE(absl::SimpleAtoi(words[1], &key_bytes));
    EXPECT_LE(key_bytes, words[2].size());
    Written written{words[0], words[2].substr(0, key_bytes), words[2].substr(key_bytes)};
    EXPECT_EQ(written.Whole(), value.value_or(""));
    return written;
  }
  // What stands under its name in vain, with what is the matter with it.
  static std::vector<std::pair<std::string, std::string>> WronglyFramed(const Written& right) {
    Written other = right;
    other.key.back() ^= 1;
    Written shorter = right;
    shorter.key.erase(0, 1);
    const std::string behind = right.key + right.content;
    return {
        {"nothing", ""},
        {"spaces", "     "},
        {"another key", other.Whole()},
        {"another key, shorter", shorter.Whole()},
        {"a length that is none", absl::StrCat(right.marks, " x ", behind)},
        {"a negative length", absl::StrCat(right.marks, " -1 ", behind)},
        {"longer than there is", absl::StrCat(right.marks, " 99999999 ", behind)},
    };
  }
  // Puts something else there.
  void Replace(const std::string& name, const std::string& value) {
    Call({"DEL", absl::StrCat(kPrefix, name)});
    const ValueCache::Entry entry{name, value, absl::Hours(1)};
    ASSERT_TRUE(first_->values->PutMany({&entry, 1}, Soon())[0].ok());
  }

  static inline const std::string kPrefix = "octogate:value:";
  const std::string kind_;
  RedisServer redis_{{"--save", ""}};
  std::unique_ptr<RedisGateway> first_;
  std::unique_ptr<RedisGateway> second_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_SHARED_VALUES_FIXTURE_H_
