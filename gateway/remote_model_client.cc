#include "gateway/remote_model_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>
#include <grpcpp/support/channel_arguments.h>

#include <atomic>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"
#include "common/status.h"
#include "octogate/v1/worker.grpc.pb.h"

namespace octogate::gateway {
namespace {

using Stub = v1::Worker::Stub;

void SetDeadline(absl::Time deadline, grpc::ClientContext* context) {
  if (deadline != absl::InfiniteFuture()) context->set_deadline(absl::ToChronoTime(deadline));
}

// The status of a call that has ended, with the replica named.
absl::Status CallStatus(const grpc::Status& status, const grpc::ClientContext& context,
                        const std::string& address) {
  return Annotate(FromGrpcStatus(status, context), absl::StrCat("replica ", address));
}

// Common to both kinds of calls: the context, and staying alive until the last operation has ended.
template <typename Derived>
class RemoteCall : public ModelCall, public std::enable_shared_from_this<Derived> {
 public:
  RemoteCall(EventLoops* loops, std::shared_ptr<Stub> stub, std::string address)
      : hold_(loops), stub_(std::move(stub)), address_(std::move(address)) {}

 protected:
  EventLoops::Hold hold_;
  const std::shared_ptr<Stub> stub_;
  const std::string address_;
  grpc::ClientContext context_;
  grpc::Status status_;
  std::shared_ptr<Derived> self_;  // while operations are under way
};

// start -> read* -> finish. At most one operation is under way, except that the end of the answer
// is reported with the message that holds it, before the worker's status has arrived.
class GenerateCall final : public RemoteCall<GenerateCall> {
 public:
  GenerateCall(EventLoops* loops, std::shared_ptr<Stub> stub, std::string address,
               ModelClient::MessageCallback on_message, ModelClient::DoneCallback on_done)
      : RemoteCall(loops, std::move(stub), std::move(address)),
        on_message_(std::move(on_message)),
        on_done_(std::move(on_done)) {}

  void Start(const v1::WorkerGenerateRequest& request, absl::Time deadline,
             grpc::CompletionQueue* queue) {
    self_ = shared_from_this();
    SetDeadline(deadline, &context_);
    reader_ = stub_->PrepareAsyncGenerate(&context_, request, queue);
    reader_->StartCall(&start_done_);
  }

  void Cancel() override {
    context_.TryCancel();
    Resume();  // So that a call without a read under way notices.
  }

  void Resume() override {
    FlowState expected = FlowState::kDelivering;
    if (flow_.compare_exchange_strong(expected, FlowState::kResumed)) return;
    expected = FlowState::kPaused;
    if (flow_.compare_exchange_strong(expected, FlowState::kReading)) Read();
  }

 private:
  enum class FlowState {
    kReading,     // A read is under way, or the call has ended.
    kDelivering,  // The message callback runs.
    kResumed,     // It runs, and Resume came.
    kPaused,      // It has returned kPause: whoever resumes starts the next read.
  };

  void OnStarted(bool) { Read(); }

  void Read() { reader_->Read(&message_, &read_done_); }

  void OnRead(bool ok) {
    if (!ok) {
      reader_->Finish(&status_, &finish_done_);
      return;
    }
    const bool last = message_.has_end();
    flow_.store(FlowState::kDelivering);
    const Flow wanted = on_message_(message_);
    if (last) {
      flow_.store(FlowState::kReading);
      std::exchange(on_done_, nullptr)(absl::OkStatus());
      reader_->Finish(&status_, &finish_done_);
      return;
    }
    message_.Clear();
    FlowState expected = FlowState::kDelivering;
    if (wanted == Flow::kPause && flow_.compare_exchange_strong(expected, FlowState::kPaused)) {
      return;
    }
    flow_.store(FlowState::kReading);
    Read();
  }

  void OnFinished(bool) {
    // The callbacks may hold what holds this call.
    const std::shared_ptr<GenerateCall> self = std::move(self_);
    if (on_done_ != nullptr) {
      absl::Status status = CallStatus(status_, context_, address_);
      if (status.ok()) {
        status = absl::UnavailableError(
            absl::StrCat("replica ", address_, ": the stream ended before the answer did"));
      }
      std::exchange(on_done_, nullptr)(status);
    }
    on_message_ = nullptr;
  }

  ModelClient::MessageCallback on_message_;
  ModelClient::DoneCallback on_done_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::WorkerGenerateResponse>> reader_;
  v1::WorkerGenerateResponse message_;
  std::atomic<FlowState> flow_{FlowState::kReading};
  Completion start_done_ = CompletionFor<&GenerateCall::OnStarted>(this);
  Completion read_done_ = CompletionFor<&GenerateCall::OnRead>(this);
  Completion finish_done_ = CompletionFor<&GenerateCall::OnFinished>(this);
};

template <typename Response>
class UnaryCall final : public RemoteCall<UnaryCall<Response>> {
 public:
  using Base = RemoteCall<UnaryCall<Response>>;

  UnaryCall(EventLoops* loops, std::shared_ptr<Stub> stub, std::string address,
            ModelClient::ResponseCallback<Response> on_done)
      : Base(loops, std::move(stub), std::move(address)), on_done_(std::move(on_done)) {}

  // `prepare` is the stub's method of that name.
  template <typename Request, typename Prepare>
  void Start(const Request& request, absl::Time deadline, grpc::CompletionQueue* queue,
             Prepare prepare) {
    this->self_ = this->shared_from_this();
    SetDeadline(deadline, &this->context_);
    reader_ = ((*this->stub_).*prepare)(&this->context_, request, queue);
    reader_->StartCall();
    reader_->Finish(&response_, &this->status_, &finish_done_);
  }

  void Cancel() override { this->context_.TryCancel(); }
  void Resume() override {}

 private:
  void OnFinished(bool) {
    const auto self = std::move(this->self_);
    absl::Status status = CallStatus(this->status_, this->context_, this->address_);
    if (status.ok()) {
      std::exchange(on_done_, nullptr)(std::move(response_));
    } else {
      std::exchange(on_done_, nullptr)(std::move(status));
    }
  }

  ModelClient::ResponseCallback<Response> on_done_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader_;
  Response response_;
  Completion finish_done_ = CompletionFor<&UnaryCall::OnFinished>(this);
};

class RemoteModelClient final : public ModelClient {
 public:
  RemoteModelClient(std::string address, EventLoops* loops, const RemoteModelClientOptions& options)
      : address_(std::move(address)), loops_(loops) {
    grpc::ChannelArguments arguments;
    // Connections are not shared: what arrives on one wakes the loop that asked for it.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    // The gateway retries by itself, on another replica.
    arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    // Nobody asks gRPC for its own statistics of calls.
    arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    // A peer that vanished without a word is noticed while calls are under way.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
    arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
    for (size_t i = 0; i < loops_->size(); ++i) {
      auto channel =
          grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
      connections_.push_back({channel, v1::Worker::NewStub(channel)});
    }
  }

  std::shared_ptr<ModelCall> Generate(const v1::WorkerGenerateRequest& request, absl::Time deadline,
                                      MessageCallback on_message, DoneCallback on_done) override {
    const size_t loop = loops_->Pick();
    auto call = std::make_shared<GenerateCall>(loops_, StubFor(loop), address_,
                                               std::move(on_message), std::move(on_done));
    call->Start(request, deadline, loops_->queue(loop));
    return call;
  }

  std::shared_ptr<ModelCall> Score(const v1::WorkerScoreRequest& request, absl::Time deadline,
                                   ResponseCallback<v1::WorkerScoreResponse> on_done) override {
    return StartUnary(request, deadline, std::move(on_done), &Stub::PrepareAsyncScore);
  }

  std::shared_ptr<ModelCall> Embed(const v1::WorkerEmbedRequest& request, absl::Time deadline,
                                   ResponseCallback<v1::WorkerEmbedResponse> on_done) override {
    return StartUnary(request, deadline, std::move(on_done), &Stub::PrepareAsyncEmbed);
  }

  std::shared_ptr<ModelCall> Info(absl::Time deadline,
                                  ResponseCallback<v1::WorkerInfoResponse> on_done) override {
    return StartUnary(v1::WorkerInfoRequest(), deadline, std::move(on_done),
                      &Stub::PrepareAsyncInfo);
  }

  const std::string& address() const override { return address_; }

 private:
  struct Connection {
    std::shared_ptr<grpc::Channel> channel;
    std::shared_ptr<Stub> stub;

    grpc_connectivity_state state() const { return channel->GetState(/*try_to_connect=*/false); }
  };

  // The loop's own connection. While gRPC waits to make that one again, which fails every call at
  // once, any other that stands: a replica that has answered on one connection can take calls from
  // all loops.
  const std::shared_ptr<Stub>& StubFor(size_t loop) const {
    const Connection& own = connections_[loop];
    if (own.state() != GRPC_CHANNEL_TRANSIENT_FAILURE) return own.stub;
    for (const Connection& other : connections_) {
      if (other.state() == GRPC_CHANNEL_READY) return other.stub;
    }
    return own.stub;
  }

  template <typename Request, typename Response, typename Prepare>
  std::shared_ptr<ModelCall> StartUnary(const Request& request, absl::Time deadline,
                                        ResponseCallback<Response> on_done, Prepare prepare) {
    const size_t loop = loops_->Pick();
    auto call =
        std::make_shared<UnaryCall<Response>>(loops_, StubFor(loop), address_, std::move(on_done));
    call->Start(request, deadline, loops_->queue(loop), prepare);
    return call;
  }

  const std::string address_;
  EventLoops* const loops_;
  std::vector<Connection> connections_;  // one per loop
};

}  // namespace

std::unique_ptr<ModelClient> NewRemoteModelClient(std::string address, EventLoops* loops,
                                                  const RemoteModelClientOptions& options) {
  return std::make_unique<RemoteModelClient>(std::move(address), loops, options);
}

}  // namespace octogate::gateway
