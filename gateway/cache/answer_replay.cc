#include "gateway/cache/answer_replay.h"

#include <algorithm>
#include <memory>
#include <string>

#include "absl/time/clock.h"

namespace octogate::gateway {

void ReplayAnswer(const QueryEnvironment& environment, const GraphState& graph,
                  const v1::GenerateRequest& request, const KeptAnswer& answer, double similarity,
                  absl::Time started, QuerySink* sink) {
  environment.metrics->OnQueryStarted();
  const std::string trace_id = NewTraceId();
  std::unique_ptr<TraceRecorder> recorder;
  if (environment.traces->Sample()) {
    recorder = std::make_unique<TraceRecorder>(trace_id, started, UserQueryOf(request),
                                               request.tenant(), graph.version());
  }
  const auto emit = [&](v1::GenerateResponse event, bool to_client) {
    if (recorder != nullptr) recorder->Record(absl::Now() - started, event);
    // What the client does not read in time waits in the sink: it is one event.
    if (to_client) sink->OnEvent(event);
  };
  const bool all =
      request.events() == v1::EVENT_LEVEL_ALL || request.events() == v1::EVENT_LEVEL_UNSPECIFIED;
  v1::GenerateResponse begun;
  begun.mutable_started()->set_trace_id(trace_id);
  begun.mutable_started()->set_graph_version(graph.version());
  emit(std::move(begun), all);
  v1::GenerateResponse text;
  *text.mutable_tokens() = answer.tokens;
  emit(std::move(text), request.events() != v1::EVENT_LEVEL_RESULT);

  const absl::Duration duration = absl::Now() - started;
  v1::GenerateResponse event;
  v1::Finished& finished = *event.mutable_finished();
  finished.set_node(answer.tokens.node());
  finished.set_finish_reason(answer.finish_reason);
  finished.mutable_usage();
  finished.mutable_routing_usage();
  finished.set_duration_us(absl::ToInt64Microseconds(duration));
  finished.set_trace_id(trace_id);
  v1::CachedAnswer& cached = *finished.mutable_cached();
  cached.set_query(answer.query);
  cached.set_similarity(similarity);
  cached.set_age_ms(std::max<int64_t>(absl::ToInt64Milliseconds(absl::Now() - answer.given_at), 0));
  if (recorder != nullptr) {
    recorder->Record(duration, event);
    environment.traces->Add(recorder->Finish(duration, absl::OkStatus()));
  }
  if (request.events() == v1::EVENT_LEVEL_RESULT) finished.set_text(answer.tokens.text());
  environment.metrics->OnQueryDone(absl::StatusCode::kOk, duration);
  sink->OnDone(absl::OkStatus(), &event);
}

}  // namespace octogate::gateway
