#include "gateway/trace_store.h"

#include <gtest/gtest.h>

#include <string>

namespace octogate::gateway {
namespace {

v1::Trace NewTrace(const std::string& id, const std::string& node = "n", size_t bytes = 0) {
  v1::Trace trace;
  trace.set_trace_id(id);
  trace.set_query(std::string(bytes, 'x'));
  trace.add_events()->mutable_event()->mutable_node_entered()->set_node(node);
  return trace;
}

TEST(TraceStore, FindsByIdAndTheLast) {
  TraceStore store({.max_traces = 10});
  EXPECT_TRUE(absl::IsNotFound(store.Get("last").status()));
  store.Add(NewTrace("1"));
  store.Add(NewTrace("2"));
  EXPECT_EQ((*store.Get("1"))->trace_id(), "1");
  EXPECT_EQ((*store.Get("last"))->trace_id(), "2");
  EXPECT_TRUE(absl::IsNotFound(store.Get("3").status()));
}

TEST(TraceStore, TheOldestMakeRoomByCount) {
  TraceStore store({.max_traces = 3});
  for (int i = 0; i < 10; ++i) store.Add(NewTrace(std::to_string(i)));
  EXPECT_EQ(store.List(100, "").size(), 3);
  EXPECT_TRUE(absl::IsNotFound(store.Get("6").status()));
  EXPECT_TRUE(store.Get("7").ok());
}

TEST(TraceStore, TheOldestMakeRoomByBytes) {
  TraceStore store({.max_traces = 1000, .max_bytes = 10'000});
  for (int i = 0; i < 100; ++i) store.Add(NewTrace(std::to_string(i), "n", 1000));
  EXPECT_LE(store.List(1000, "").size(), 10);
  EXPECT_GE(store.List(1000, "").size(), 5);
  store.Add(NewTrace("huge", "n", 100'000));  // would push out everything and not fit either
  EXPECT_EQ((*store.Get("last"))->trace_id(), "99");
}

TEST(TraceStore, ListsTheNewestFirstAndByNode) {
  TraceStore store({.max_traces = 10});
  store.Add(NewTrace("1", "a"));
  store.Add(NewTrace("2", "b"));
  store.Add(NewTrace("3", "a"));
  const auto all = store.List(2, "");
  ASSERT_EQ(all.size(), 2);
  EXPECT_EQ(all[0]->trace_id(), "3");
  const auto of_a = store.List(10, "a");
  ASSERT_EQ(of_a.size(), 2);
  EXPECT_EQ(of_a[1]->trace_id(), "1");
}

TEST(TraceStore, SamplesAtMostItsRate) {
  absl::Time now = absl::UnixEpoch();
  TraceStore store({.traces_per_second = 10, .clock = [&] { return now; }});
  int sampled = 0;
  for (int i = 0; i < 10'000; ++i) {
    now += absl::Milliseconds(1);
    sampled += store.Sample() ? 1 : 0;
  }
  EXPECT_GE(sampled, 100);  // ten seconds
  EXPECT_LE(sampled, 111);
}

TEST(TraceRecorder, JoinsTokensAndBoundsText) {
  TraceRecorder recorder("id", absl::UnixEpoch(), "query", "tenant", 3);
  v1::GenerateResponse tokens;
  tokens.mutable_tokens()->set_node("n");
  tokens.mutable_tokens()->set_text("ab");
  tokens.mutable_tokens()->add_ids(1);
  for (int i = 0; i < 3; ++i) recorder.Record(absl::Microseconds(i), tokens);
  tokens.mutable_tokens()->set_node("m");
  tokens.mutable_tokens()->set_text(std::string(1 << 20, 'x'));
  recorder.Record(absl::Microseconds(9), tokens);
  const v1::Trace trace = recorder.Finish(absl::Milliseconds(1), absl::AbortedError("why"));
  ASSERT_EQ(trace.events_size(), 1);
  EXPECT_EQ(trace.events(0).event().tokens().text(), "ababab");
  EXPECT_EQ(trace.events(0).event().tokens().ids_size(), 3);
  EXPECT_EQ(trace.code(), static_cast<int>(absl::StatusCode::kAborted));
  EXPECT_EQ(trace.graph_version(), 3);
}

TEST(TraceRecorder, OfALongLinkTheTablesAreLeftOut) {
  TraceRecorder recorder("id", absl::UnixEpoch(), "query", "tenant", 3);
  v1::GenerateResponse linked;
  linked.mutable_linked()->set_node("n");
  v1::LinkSchemaResponse& link = *linked.mutable_linked()->mutable_link();
  link.set_catalog_version("v");
  link.add_tables()->set_name("short");
  recorder.Record(absl::ZeroDuration(), linked);
  link.add_tables()->set_name(std::string(TraceRecorder::kMaxTextBytes, 'x'));
  for (int i = 0; i < 2; ++i) recorder.Record(absl::ZeroDuration(), linked);
  const v1::Trace trace = recorder.Finish(absl::Milliseconds(1), absl::OkStatus());
  ASSERT_EQ(trace.events_size(), 3);
  EXPECT_EQ(trace.events(0).event().linked().link().tables_size(), 1);
  for (int i = 1; i < 3; ++i) {
    EXPECT_EQ(trace.events(i).event().linked().link().tables_size(), 0);
    EXPECT_EQ(trace.events(i).event().linked().link().catalog_version(), "v");
  }
}

}  // namespace
}  // namespace octogate::gateway
