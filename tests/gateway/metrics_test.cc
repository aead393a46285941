#include "gateway/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

TEST(MetricsTest, CountsTokensAndNoNegativeNumberOfAPeer) {
  Metrics metrics;
  v1::Usage usage;
  usage.set_prompt_tokens(40);
  usage.set_completion_tokens(5);
  usage.set_cached_tokens(32);
  metrics.OnTokens(usage);
  metrics.OnTokens(usage);
  usage.set_prompt_tokens(-40);
  usage.set_completion_tokens(-5);
  usage.set_cached_tokens(-32);
  metrics.OnTokens(usage);
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("octogate_tokens_total{kind=\"prompt\"} 80\n"));
  EXPECT_THAT(text, HasSubstr("octogate_tokens_total{kind=\"completion\"} 10\n"));
  EXPECT_THAT(text, HasSubstr("octogate_cached_prompt_tokens_total 64\n"));
}

TEST(MetricsTest, CountsLinksByCode) {
  Metrics metrics;
  metrics.OnLink(absl::StatusCode::kOk, absl::Milliseconds(2));
  metrics.OnLink(absl::StatusCode::kOk, absl::Milliseconds(20));
  metrics.OnLink(absl::StatusCode::kPermissionDenied, absl::ZeroDuration());
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("octogate_links_total{code=\"OK\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("octogate_links_total{code=\"PERMISSION_DENIED\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("octogate_link_duration_seconds_count 3\n"));
  EXPECT_THAT(text, HasSubstr("octogate_link_duration_seconds_bucket{le=\"0.0025\"} 2\n"));
}

TEST(MetricsTest, CountsStatementsByCode) {
  Metrics metrics;
  metrics.OnSqlStatement(absl::StatusCode::kInvalidArgument, absl::Milliseconds(2));
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("octogate_sql_statements_total{code=\"INVALID_ARGUMENT\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("octogate_sql_statement_duration_seconds_count 1\n"));
}

TEST(MetricsTest, CountsWhatJudgesByKindAndOutcome) {
  Metrics metrics;
  metrics.OnJudged(Metrics::Judging::kChoice, absl::OkStatus());
  metrics.OnJudged(Metrics::Judging::kVote, absl::OkStatus());
  metrics.OnJudged(Metrics::Judging::kVote, absl::OkStatus());
  metrics.OnJudged(Metrics::Judging::kVerification, absl::UnavailableError("gone"));
  metrics.OnSessionKept();
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("octogate_choices_total{outcome=\"answered\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("octogate_choices_total{outcome=\"failed\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("octogate_votes_total{outcome=\"answered\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("octogate_verifications_total{outcome=\"answered\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("octogate_verifications_total{outcome=\"failed\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("octogate_sessions_kept_total 1\n"));
}

TEST(MetricsTest, SaysWhatSpeculationDidWhereAWorkerSpeculates) {
  Metrics metrics;
  std::vector<Metrics::Replica> replicas = {{.model = "plain", .address = "h:1", .info = {}},
                                            {.model = "m", .address = "h:2", .info = {}}};
  v1::SpeculationUsage& usage = *replicas[1].info.mutable_speculation();
  usage.set_steps(10);
  usage.set_drafted_tokens(40);
  usage.set_accepted_tokens(15);
  usage.set_draft_us(2500000);
  usage.set_verify_us(-1);
  v1::DrafterUsage& drafter = *usage.add_drafters();
  drafter.set_drafter("suffix");
  drafter.set_accepted_tokens(9);
  replicas[1].info.set_draft_bytes(12345);
  replicas[1].info.set_malformed_drafts(3);
  for (int depth = 1; depth <= 20; ++depth) {
    v1::DepthUsage& of_depth = *usage.add_depths();
    of_depth.set_drafted_tokens(10);
    of_depth.set_accepted_tokens(depth == 1 ? 7 : -1);
  }
  metrics.SetReplicas([&] { return replicas; });
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("octogate_worker_draft_bytes{model=\"m\",replica=\"h:2\"} 12345\n"));
  EXPECT_THAT(text, HasSubstr("octogate_worker_malformed_drafts_total{model=\"m\",replica=\"h:2\"} "
                              "3\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE octogate_worker_drafted_tokens_total counter\n"));
  EXPECT_THAT(text,
              HasSubstr("octogate_worker_drafted_tokens_total{model=\"m\",replica=\"h:2\"} 40\n"));
  EXPECT_THAT(text,
              HasSubstr("octogate_worker_accepted_tokens_total{model=\"m\",replica=\"h:2\"} 15\n"));
  EXPECT_THAT(text,
              HasSubstr("octogate_worker_draft_seconds_total{model=\"m\",replica=\"h:2\"} 2.5\n"));
  EXPECT_THAT(text,
              HasSubstr("octogate_worker_verify_seconds_total{model=\"m\",replica=\"h:2\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("octogate_worker_drafter_accepted_tokens_total{model=\"m\","
                              "replica=\"h:2\",drafter=\"suffix\"} 9\n"));
  EXPECT_THAT(text, HasSubstr("octogate_worker_depth_accepted_tokens_total{model=\"m\","
                              "replica=\"h:2\",depth=\"1\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("octogate_worker_depth_drafted_tokens_total{model=\"m\","
                              "replica=\"h:2\",depth=\"16\"} 50\n"))
      << "the last and all behind it";
  EXPECT_THAT(text, testing::Not(HasSubstr("depth=\"17\"")));
  EXPECT_THAT(text, testing::Not(HasSubstr("drafted_tokens_total{model=\"plain\"")));
  replicas.pop_back();
  EXPECT_THAT(metrics.Text(), testing::Not(HasSubstr("octogate_worker_draft")));
}

TEST(MetricsTest, SaysWhatCameOfSharedDraftsWhereAWorkerSharesThem) {
  Metrics metrics;
  std::vector<Metrics::Replica> replicas = {{.model = "alone", .address = "h:1", .info = {}},
                                            {.model = "m", .address = "h:2", .info = {}}};
  v1::SharedDraftsUsage& usage = *replicas[1].info.mutable_shared_drafts();
  usage.set_publications(1);
  usage.set_snapshots(2);
  usage.set_published_bytes(3);
  usage.set_merged(4);
  usage.set_read_bytes(5);
  usage.set_refused(-6);
  usage.set_store_failures(7);
  usage.set_store_losses(8);
  metrics.SetReplicas([&] { return replicas; });
  const std::string text = metrics.Text();
  const auto is_there = [&text](const std::string& name, int value) {
    return testing::Value(
        text, HasSubstr("octogate_worker_shared_drafts_" + name +
                        "_total{model=\"m\",replica=\"h:2\"} " + std::to_string(value) + "\n"));
  };
  EXPECT_TRUE(is_there("publications", 1)) << text;
  EXPECT_TRUE(is_there("snapshots", 2)) << text;
  EXPECT_TRUE(is_there("published_bytes", 3)) << text;
  EXPECT_TRUE(is_there("merged", 4)) << text;
  EXPECT_TRUE(is_there("read_bytes", 5)) << text;
  EXPECT_TRUE(is_there("refused", 0)) << "a peer's number\n" << text;
  EXPECT_TRUE(is_there("store_failures", 7)) << text;
  EXPECT_TRUE(is_there("store_losses", 8)) << text;
  const std::string reachable =
      "octogate_worker_shared_drafts_store_reachable{model=\"m\",replica=\"h:2\"} ";
  EXPECT_THAT(text, HasSubstr(reachable + "0\n"));
  usage.set_store_reachable(true);
  EXPECT_THAT(metrics.Text(), HasSubstr(reachable + "1\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("shared_drafts_store_reachable{model=\"alone\"")));
  EXPECT_THAT(text, testing::Not(HasSubstr("shared_drafts_merged_total{model=\"alone\"")));
  replicas.pop_back();
  EXPECT_THAT(metrics.Text(), testing::Not(HasSubstr("octogate_worker_shared_drafts")));
}

TEST(MetricsTest, SaysWhatCameOfSharedPagesWhereAWorkerSharesThem) {
  Metrics metrics;
  std::vector<Metrics::Replica> replicas = {{.model = "alone", .address = "h:1", .info = {}},
                                            {.model = "m", .address = "h:2", .info = {}}};
  v1::SharedPagesUsage& usage = *replicas[1].info.mutable_shared_pages();
  usage.set_lookups(1);
  usage.set_lookup_tokens(2);
  usage.set_hit_tokens(3);
  usage.set_read_bytes(4);
  usage.set_written_bytes(5);
  usage.set_declined(6);
  usage.set_abandoned(7);
  usage.set_refused_pages(8);
  usage.set_dropped_pages(9);
  usage.set_store_failures(10);
  usage.set_store_losses(-11);
  usage.set_store_reachable(true);
  metrics.SetReplicas([&] { return replicas; });
  const std::string text = metrics.Text();
  const std::string prefix = "octogate_worker_shared_pages_";
  const std::string labels = "{model=\"m\",replica=\"h:2\"} ";
  int value = 0;
  for (const char* name : {"lookups", "lookup_tokens", "hit_tokens", "read_bytes", "written_bytes",
                           "declined", "abandoned", "refused", "dropped", "store_failures"}) {
    EXPECT_THAT(text,
                HasSubstr(prefix + name + "_total" + labels + std::to_string(++value) + "\n"));
  }
  EXPECT_THAT(text, HasSubstr(prefix + "store_losses_total" + labels + "0\n")) << "a peer's number";
  EXPECT_THAT(text, HasSubstr(prefix + "store_reachable" + labels + "1\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("shared_pages_lookups_total{model=\"alone\"")));
  replicas.pop_back();
  EXPECT_THAT(metrics.Text(), testing::Not(HasSubstr(prefix)));
}

TEST(MetricsTest, SaysHowTheStoreIs) {
  Metrics metrics;
  EXPECT_THAT(metrics.Text(), testing::Not(HasSubstr("octogate_store_")));
  metrics.SetStore([] {
    return Metrics::Store{
        .calls = 7, .failures = 2, .connections = 3, .pending_bytes = 11, .reachable = true};
  });
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("octogate_store_calls_total 7"));
  EXPECT_THAT(text, HasSubstr("octogate_store_failures_total 2"));
  EXPECT_THAT(text, HasSubstr("octogate_store_connections_total 3"));
  EXPECT_THAT(text, HasSubstr("octogate_store_pending_bytes 11"));
  EXPECT_THAT(text, HasSubstr("octogate_store_reachable 1"));
}

TEST(MetricsTest, SaysWhatWorkersTellByModelAndReplica) {
  Metrics metrics;
  EXPECT_THAT(metrics.Text(), testing::Not(HasSubstr("octogate_worker_")));
  Metrics::Replica replica{.model = "m", .address = "h:1", .info = {}};
  replica.info.set_preemptions(7);
  replica.info.set_preemptions_saved(4);
  replica.info.set_preemptions_without_room(-2);
  replica.info.set_swap_bytes(4096);
  metrics.SetReplicas([&] { return std::vector<Metrics::Replica>{replica}; });
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("# TYPE octogate_worker_preemptions_total counter\n"));
  EXPECT_THAT(text,
              HasSubstr("octogate_worker_preemptions_total{model=\"m\",replica=\"h:1\"} 7\n"));
  EXPECT_THAT(
      text, HasSubstr("octogate_worker_preemptions_saved_total{model=\"m\",replica=\"h:1\"} 4\n"));
  EXPECT_THAT(
      text,
      HasSubstr("octogate_worker_preemptions_without_room_total{model=\"m\",replica=\"h:1\"} 0\n"))
      << "counters do not fall";
  EXPECT_THAT(text, HasSubstr("octogate_worker_swap_bytes{model=\"m\",replica=\"h:1\"} 4096\n"));
  replica.choices[static_cast<size_t>(ReplicaChoiceReason::kPrefix)] = 12;
  EXPECT_THAT(metrics.Text(), HasSubstr("octogate_replica_choices_total{model=\"m\",replica="
                                        "\"h:1\",reason=\"prefix\"} 12\n"));
  replica.info.set_preemptions(8);
  EXPECT_THAT(metrics.Text(), HasSubstr("replica=\"h:1\"} 8\n"));
  metrics.SetReplicas(nullptr);
  EXPECT_THAT(metrics.Text(), testing::Not(HasSubstr("octogate_worker_")));
}

}  // namespace
}  // namespace octogate::gateway
