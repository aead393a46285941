#include "gateway/remote_model_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/async_unary_call.h>
#include <grpcpp/support/channel_arguments.h>

#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/grpc_status.h"
#include "common/status.h"
#include "gateway/worker_session.h"
#include "octogate/v1/worker.grpc.pb.h"

namespace octogate::gateway {
namespace {

using Stub = v1::Worker::Stub;

// A call with one answer. Stays alive until it has ended.
template <typename Response>
class UnaryCall final : public ModelCall, public std::enable_shared_from_this<UnaryCall<Response>> {
 public:
  UnaryCall(EventLoops* loops, std::shared_ptr<Stub> stub, std::string address,
            ModelClient::ResponseCallback<Response> on_done)
      : hold_(loops),
        stub_(std::move(stub)),
        address_(std::move(address)),
        on_done_(std::move(on_done)) {}

  // `prepare` is the generated PrepareAsyncX.
  template <typename Request, typename Prepare>
  void Start(const Request& request, absl::Time deadline, grpc::CompletionQueue* queue,
             Prepare prepare) {
    self_ = this->shared_from_this();
    if (deadline != absl::InfiniteFuture()) context_.set_deadline(absl::ToChronoTime(deadline));
    reader_ = ((*stub_).*prepare)(&context_, request, queue);
    reader_->StartCall();
    reader_->Finish(&response_, &status_, &finish_done_);
  }

  void Cancel() override { context_.TryCancel(); }
  void Resume() override {}

 private:
  void OnFinished(bool) {
    // The callback may hold what holds this call.
    const auto self = std::move(self_);
    absl::Status status =
        Annotate(FromGrpcStatus(status_, context_), absl::StrCat("replica ", address_));
    if (status.ok()) {
      std::exchange(on_done_, nullptr)(std::move(response_));
    } else {
      std::exchange(on_done_, nullptr)(std::move(status));
    }
  }

  const EventLoops::Hold hold_;
  const std::shared_ptr<Stub> stub_;
  const std::string address_;
  grpc::ClientContext context_;
  grpc::Status status_;
  std::shared_ptr<UnaryCall> self_;  // while operations are under way
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
      auto connection = std::make_unique<Connection>();
      connection->loop = i;
      connection->channel = channel;
      connection->stub = v1::Worker::NewStub(channel);
      connections_.push_back(std::move(connection));
    }
  }

  ~RemoteModelClient() override {
    for (const auto& connection : connections_) {
      absl::MutexLock lock(&connection->mutex);
      if (connection->session != nullptr) connection->session->Close();
    }
  }

  std::shared_ptr<ModelCall> Generate(const v1::WorkerGenerateRequest& request, absl::Time deadline,
                                      MessageCallback on_message, DoneCallback on_done) override {
    const size_t loop = loops_->Pick();
    Connection* connection = connections_[loop].get();
    for (bool first = true;; first = false) {
      const std::shared_ptr<WorkerSession> session = connection->Session();
      if (session != nullptr) {
        auto call = session->Generate(request, deadline, on_message, on_done);
        if (call != nullptr) return call;
      }
      // Only where a session has to be opened does it matter what the connection is worth.
      if (first) connection = &ConnectionFor(loop);
      connection->Renew(session, loops_, address_);
    }
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

  std::shared_ptr<ModelCall> FlushCache(
      const v1::WorkerFlushCacheRequest& request, absl::Time deadline,
      ResponseCallback<v1::WorkerFlushCacheResponse> on_done) override {
    return StartUnary(request, deadline, std::move(on_done), &Stub::PrepareAsyncFlushCache);
  }

  std::shared_ptr<ModelCall> ExplainCache(
      const v1::WorkerExplainCacheRequest& request, absl::Time deadline,
      ResponseCallback<v1::WorkerExplainCacheResponse> on_done) override {
    return StartUnary(request, deadline, std::move(on_done), &Stub::PrepareAsyncExplainCache);
  }

  const std::string& address() const override { return address_; }

 private:
  struct Connection {
    size_t loop = 0;
    std::shared_ptr<grpc::Channel> channel;
    std::shared_ptr<Stub> stub;
    absl::Mutex mutex;
    std::shared_ptr<WorkerSession> session ABSL_GUARDED_BY(mutex);  // null: none yet

    grpc_connectivity_state state() const { return channel->GetState(/*try_to_connect=*/false); }

    std::shared_ptr<WorkerSession> Session() {
      absl::MutexLock lock(&mutex);
      return session;
    }

    // Puts a fresh session in the place of `ended`, unless that has been done.
    void Renew(const std::shared_ptr<WorkerSession>& ended, EventLoops* loops,
               const std::string& address) {
      absl::MutexLock lock(&mutex);
      if (session == ended) session = WorkerSession::Create(loops, loop, channel, address);
    }
  };

  // The loop's own connection. While gRPC waits to make that one again, which fails every call at
  // once, any other that stands: a replica that has answered on one connection can take calls from
  // all loops.
  Connection& ConnectionFor(size_t loop) const {
    Connection& own = *connections_[loop];
    if (own.state() != GRPC_CHANNEL_TRANSIENT_FAILURE) return own;
    for (const auto& other : connections_) {
      if (other->state() == GRPC_CHANNEL_READY) return *other;
    }
    return own;
  }

  template <typename Request, typename Response, typename Prepare>
  std::shared_ptr<ModelCall> StartUnary(const Request& request, absl::Time deadline,
                                        ResponseCallback<Response> on_done, Prepare prepare) {
    const size_t loop = loops_->Pick();
    auto call = std::make_shared<UnaryCall<Response>>(loops_, ConnectionFor(loop).stub, address_,
                                                      std::move(on_done));
    call->Start(request, deadline, loops_->queue(loop), prepare);
    return call;
  }

  const std::string address_;
  EventLoops* const loops_;
  std::vector<std::unique_ptr<Connection>> connections_;  // one per loop
};

}  // namespace

std::unique_ptr<ModelClient> NewRemoteModelClient(std::string address, EventLoops* loops,
                                                  const RemoteModelClientOptions& options) {
  return std::make_unique<RemoteModelClient>(std::move(address), loops, options);
}

}  // namespace octogate::gateway
