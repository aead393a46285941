// Calls a gateway or a worker over and over and measures: closed loop (a fixed number of streams,
// each with one call at a time) or open loop (calls at a fixed rate).
#ifndef OCTOGATE_TESTS_BENCH_LOAD_CLIENT_H_
#define OCTOGATE_TESTS_BENCH_LOAD_CLIENT_H_

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/support/async_stream.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "octogate/v1/gateway.grpc.pb.h"
#include "octogate/v1/worker.grpc.pb.h"

namespace octogate::bench {

struct LoadOptions {
  std::string address;
  int channels = 1;
  int streams = 1;  // closed loop
  double rate = 0;  // calls per second; not 0: open loop
  absl::Duration warm_up = absl::Milliseconds(200);
  absl::Duration duration = absl::Milliseconds(800);
  // Closed loop: the streams begin one after the other over this time.
  absl::Duration stagger = absl::ZeroDuration();
  // After a refusal a stream waits as long as it was told, or this long if it was told nothing.
  absl::Duration after_refusal = absl::Milliseconds(20);
  // The text of a token is the time at which it was written, as 16 digits of microseconds.
  bool timed_tokens = false;
};

struct LoadResult {
  double seconds = 0;
  int64_t calls = 0;    // that succeeded
  int64_t refused = 0;  // RESOURCE_EXHAUSTED
  int64_t failed = 0;   // for another reason
  int64_t tokens = 0;
  std::vector<double> latencies_us;    // of calls that succeeded; sorted
  std::vector<double> first_token_us;  // of these; sorted
  std::vector<double> token_us;        // of timed tokens of the whole run: their way here; sorted

  double rate() const { return static_cast<double>(calls) / seconds; }
  double token_rate() const { return static_cast<double>(tokens) / seconds; }
};

// The value that a share `p` of sorted values does not exceed; 0 if there are none.
inline double Quantile(const std::vector<double>& sorted, double p) {
  if (sorted.empty()) return 0;
  const double place = p * static_cast<double>(sorted.size() - 1);
  return sorted[static_cast<size_t>(place + 0.5)];
}

inline double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

// What is called: the same question, to a gateway or to a worker.
struct GatewayApi {
  using Service = v1::Gateway;
  using Request = v1::GenerateRequest;
  using Response = v1::GenerateResponse;
  static int64_t Tokens(const Response& response) { return response.tokens().ids_size(); }
  static std::string_view Text(const Response& response) { return response.tokens().text(); }
};
struct WorkerApi {
  using Service = v1::Worker;
  using Request = v1::WorkerGenerateRequest;
  using Response = v1::WorkerGenerateResponse;
  static int64_t Tokens(const Response& response) { return response.ids_size(); }
  static std::string_view Text(const Response& response) { return response.text(); }
};

template <typename Api>
class LoadClient {
 public:
  LoadClient(const LoadOptions& options, const typename Api::Request& request)
      : options_(options), request_(request) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    for (int i = 0; i < options.channels; ++i) {
      stubs_.push_back(Api::Service::NewStub(grpc::CreateCustomChannel(
          options.address, grpc::InsecureChannelCredentials(), arguments)));
    }
  }

  LoadResult Run() {
    const absl::Time begin = absl::Now();
    count_from_ = begin + options_.warm_up;
    end_ = count_from_ + options_.duration;
    const bool open_loop = options_.rate > 0;
    if (!open_loop) {
      for (int i = 0; i < options_.streams; ++i) {
        Start(begin, options_.stagger * i / options_.streams);
      }
    }
    absl::Time next_arrival = begin;
    for (;;) {
      const absl::Time now = absl::Now();
      if (open_loop) {
        for (; next_arrival <= now && next_arrival < end_;
             next_arrival += absl::Seconds(1 / options_.rate)) {
          Start(next_arrival);
        }
      }
      if (now >= end_ && running_ == 0) break;
      void* tag = nullptr;
      bool ok = false;
      const absl::Time wake = open_loop && now < end_ ? next_arrival : now + absl::Seconds(1);
      if (queue_.AsyncNext(&tag, &ok, absl::ToChronoTime(wake)) ==
          grpc::CompletionQueue::GOT_EVENT) {
        static_cast<Call*>(tag)->OnEvent(ok);
      }
    }
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
    result_.seconds = absl::ToDoubleSeconds(options_.duration);
    std::sort(result_.latencies_us.begin(), result_.latencies_us.end());
    std::sort(result_.first_token_us.begin(), result_.first_token_us.end());
    std::sort(result_.token_us.begin(), result_.token_us.end());
    return std::move(result_);
  }

 private:
  struct Call {
    Call(LoadClient* client, absl::Time due) : client(client), due(due) {}

    void OnEvent(bool ok) {
      switch (state) {
        case State::kPausing:
          Begin();
          return;
        case State::kStarting:
          state = State::kReading;
          reader->Read(&response, this);
          return;
        case State::kReading:
          if (ok) {
            if (first == absl::InfinitePast()) first = absl::Now();
            tokens += Api::Tokens(response);
            if (client->options_.timed_tokens) client->NoteTokens(Api::Text(response));
            reader->Read(&response, this);
          } else {
            state = State::kFinishing;
            reader->Finish(&status, this);
          }
          return;
        case State::kFinishing:
          client->OnDone(this);
          return;
      }
    }

    void Begin() {
      state = State::kStarting;
      reader =
          client->NextStub()->PrepareAsyncGenerate(&context, client->request_, &client->queue_);
      reader->StartCall(this);
    }

    enum class State { kPausing, kStarting, kReading, kFinishing };
    LoadClient* const client;
    absl::Time due;
    absl::Time first = absl::InfinitePast();
    State state = State::kStarting;
    int64_t tokens = 0;
    grpc::ClientContext context;
    grpc::Status status;
    grpc::Alarm alarm;
    typename Api::Response response;
    std::unique_ptr<grpc::ClientAsyncReader<typename Api::Response>> reader;
  };

  typename Api::Service::Stub* NextStub() { return stubs_[next_stub_++ % stubs_.size()].get(); }

  void Start(absl::Time due = absl::Now(), absl::Duration pause = absl::ZeroDuration()) {
    ++running_;
    auto* call = new Call(this, due + pause);
    if (pause > absl::ZeroDuration()) {
      call->state = Call::State::kPausing;
      call->alarm.Set(&queue_, absl::ToChronoTime(due + pause), call);
    } else {
      call->Begin();
    }
  }

  // Several tokens may have been joined to one message.
  void NoteTokens(std::string_view text) {
    constexpr size_t kDigits = 16;
    const int64_t now = absl::ToUnixMicros(absl::Now());
    for (; text.size() >= kDigits; text.remove_prefix(kDigits)) {
      int64_t written = 0;
      std::from_chars(text.data(), text.data() + kDigits, written);
      result_.token_us.push_back(static_cast<double>(now - written));
    }
  }

  // How long a refused call was told to wait; as a client of gRPC with a retry policy reads it.
  absl::Duration RetryAfter(const grpc::ClientContext& context) const {
    const auto& trailers = context.GetServerTrailingMetadata();
    const auto hint = trailers.find("grpc-retry-pushback-ms");
    int64_t milliseconds = 0;
    if (hint == trailers.end() ||
        std::from_chars(hint->second.begin(), hint->second.end(), milliseconds).ec != std::errc()) {
      return options_.after_refusal;
    }
    return absl::Milliseconds(milliseconds);
  }

  void OnDone(Call* call) {
    const absl::Time now = absl::Now();
    const bool refused = call->status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
    if (now >= count_from_ && now < end_) {
      if (call->status.ok()) {
        ++result_.calls;
        result_.tokens += call->tokens;
        result_.latencies_us.push_back(absl::ToDoubleMicroseconds(now - call->due));
        result_.first_token_us.push_back(absl::ToDoubleMicroseconds(call->first - call->due));
      } else if (refused) {
        ++result_.refused;
      } else {
        ++result_.failed;
      }
    }
    const absl::Duration pause = refused ? RetryAfter(call->context) : absl::ZeroDuration();
    delete call;
    --running_;
    // What would begin behind the end does not.
    if (options_.rate <= 0 && now + pause < end_) Start(now, pause);
  }

  const LoadOptions options_;
  const typename Api::Request request_;
  std::vector<std::unique_ptr<typename Api::Service::Stub>> stubs_;
  size_t next_stub_ = 0;
  grpc::CompletionQueue queue_;
  int running_ = 0;
  absl::Time count_from_;
  absl::Time end_;
  LoadResult result_;
};

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_LOAD_CLIENT_H_
