#include "common/redis/redis_node.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <iterator>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/redis/resp.h"
#include "common/status.h"
#include "common/steady_event.h"
#include "common/strings.h"

namespace octogate {
namespace {

// Of calls that wait for those that follow at once.
constexpr size_t kHeldBytes = size_t{64} << 10;
// Of a large argument that a holder sends before it makes more of it.
constexpr size_t kSentTogether = size_t{128} << 10;
// Of an argument that a holder sends from where it is.
constexpr size_t kLentBytes = size_t{16} << 10;
// Without a call the thread looks after the connections again.
constexpr absl::Duration kLent = absl::Milliseconds(10);

// About as many as they take when they are sent, and not less.
size_t BytesOf(std::span<const RedisClient::Command> commands) {
  size_t bytes = 128;
  for (const RedisClient::Command& command : commands) {
    bytes += 32;
    for (const RedisArgument& argument : command) bytes += argument.size() + 32;
  }
  return bytes;
}

// What stands before the commands of a call, and behind them.
void AppendBefore(size_t commands, bool asking, std::string* out) {
  static const RedisArgument kAsking[] = {"ASKING"};
  static const RedisArgument kMulti[] = {"MULTI"};
  if (asking) AppendRespCommand(kAsking, out);
  if (commands > 1) AppendRespCommand(kMulti, out);
}
void AppendBehind(size_t commands, std::string* out) {
  static const RedisArgument kExec[] = {"EXEC"};
  if (commands > 1) AppendRespCommand(kExec, out);
}

std::string Encode(std::span<const RedisClient::Command> commands, bool asking) {
  std::string bytes;
  bytes.reserve(BytesOf(commands));
  AppendBefore(commands.size(), asking, &bytes);
  for (const RedisClient::Command& command : commands) AppendRespCommand(command, &bytes);
  AppendBehind(commands.size(), &bytes);
  return bytes;
}

bool IsLarge(const RedisArgument& argument) { return argument.size() >= kLentBytes; }

bool HasLarge(std::span<const RedisClient::Command> commands) {
  return std::any_of(commands.begin(), commands.end(), [](const RedisClient::Command& command) {
    return std::any_of(command.begin(), command.end(), IsLarge);
  });
}

struct Command {
  std::string bytes;
  bool more = false;  // as of RedisNode::How
  std::shared_ptr<RedisCall> pending;
};

class Node final : public RedisNode {
 public:
  Node(RedisOptions options, Subscription subscription)
      : options_(std::move(options)),
        subscription_(std::move(subscription)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    const int connections = subscribes() ? 1 : std::max(options_.connections, 1);
    for (int i = 0; i < connections; ++i) {
      connections_.emplace_back(&options_, subscription_.channel, &events_);
    }
    polled_.resize(connections_.size() + 1);
    thread_ = std::thread([this] { Run(); });
  }

  ~Node() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    wanted_.Set();
    Wake();
    thread_.join();
    ::close(wake_);
  }

  std::shared_ptr<RedisCall> Begin(std::span<const RedisClient::Command> commands, How how,
                                   RedisTerms terms) override {
    std::shared_ptr<RedisCall> pending = MakeCall(commands, how, terms);
    if (Enqueue(commands, how, pending)) Wake();
    return pending;
  }

  void Await(RedisCall& call) override {
    if (!call.done.HasBeenNotified() && Borrow()) {
      AwaitHeld(call);
      Return();
    }
    call.done.WaitUntil(call.deadline);
  }

  uint64_t connections() const override { return connects_.load(std::memory_order_relaxed); }
  uint64_t losses() const override { return losses_.load(std::memory_order_relaxed); }
  size_t pending_bytes() const override {
    absl::MutexLock lock(&mutex_);
    return pending_bytes_;
  }
  bool reachable() const override {
    absl::MutexLock lock(&mutex_);
    return refusal_.ok();
  }

 private:
  // Who has the connections, and all else that is the holder's.
  enum class Holder { kThread, kCaller, kNobody };

  static std::shared_ptr<RedisCall> MakeCall(std::span<const RedisClient::Command> commands,
                                             How how, RedisTerms terms) {
    auto pending = std::make_shared<RedisCall>();
    pending->deadline = terms.steady_deadline;
    pending->kind = terms.kind;
    pending->bytes = BytesOf(commands);
    pending->answers_before =
        (how.asking ? 1 : 0) + (commands.size() > 1 ? 1 + commands.size() : 0);
    return pending;
  }

  // Whether the call may be made; where not, it has ended.
  bool Admit(RedisCall& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    absl::Status status = refusal_;
    if (SteadyNow() >= call.deadline) {
      status = absl::DeadlineExceededError("the deadline has passed");
    } else if (status.ok() && pending_bytes_ + call.bytes > options_.max_pending_bytes) {
      call.lacked_room = true;
      status = WithRetryAfter(absl::ResourceExhaustedError(
                                  absl::StrCat(pending_bytes_, " bytes wait for Redis already")),
                              absl::Milliseconds(20));
    }
    if (status.ok()) {
      pending_bytes_ += call.bytes;
      return true;
    }
    call.result = status;
    call.done.Notify();
    return false;
  }

  // Whether who holds the connections is to look at the queue now.
  bool Enqueue(std::span<const RedisClient::Command> commands, How how,
               const std::shared_ptr<RedisCall>& pending) {
    Command command{.bytes = Encode(commands, how.asking), .more = how.more, .pending = pending};
    absl::MutexLock lock(&mutex_);
    if (!Admit(*pending)) return true;  // others may have waited for it
    held_bytes_ += pending->bytes;
    queue_.push_back(std::move(command));
    const bool now = !how.more || held_bytes_ > kHeldBytes;
    if (now) held_bytes_ = 0;
    if (now && holder_ == Holder::kNobody && (how.more || !how.waits)) Recall();
    return now && holder_ != Holder::kNobody;
  }

  // Has the thread take the connections, which nobody holds.
  void Recall() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    recalled_ = true;
    wanted_.Set();
  }

  bool Borrow() override {
    absl::MutexLock lock(&mutex_);
    if (holder_ != Holder::kNobody || recalled_) return false;
    holder_ = Holder::kCaller;
    return true;
  }

  bool AwaitHeld(RedisCall& call) override {
    while (!call.done.HasBeenNotified() && SteadyNow() < call.deadline && AllReady()) {
      Turn(call.deadline, /*connects=*/false);
    }
    return call.done.HasBeenNotified();
  }

  // Small calls go over one connection, the last of a batch with what is before it: each more costs
  // both sides as much as several commands. Where there is more of them they take turns: a server
  // that finds something on two connections looks for more half as often.
  std::shared_ptr<RedisCall> BeginHeld(std::span<const RedisClient::Command> commands, How how,
                                       RedisTerms terms) override {
    const bool large = HasLarge(commands);
    if (unsent_bytes_ > kHeldBytes && (how.more || large)) {
      SendSome();
      over_ = nullptr;
    }
    if (over_ == nullptr || !over_->ready()) over_ = LeastBusy();
    if (over_ == nullptr) return Begin(commands, how, terms);
    std::shared_ptr<RedisCall> pending = MakeCall(commands, how, terms);
    {
      absl::MutexLock lock(&mutex_);
      if (!Admit(*pending)) return pending;
    }
    over_->Begin(pending);
    if (large) {
      SendFromThere(commands, how.asking);
    } else {
      over_->Append(Encode(commands, how.asking));
      unsent_bytes_ += pending->bytes;
    }
    return pending;
  }

  void Return() override {
    for (RedisConnection& connection : connections_) connection.Keep();
    over_ = nullptr;
    unsent_bytes_ = 0;
    const bool all_ready = AllReady();
    absl::MutexLock lock(&mutex_);
    holder_ = Holder::kNobody;
    if (pending_bytes_ > 0 || !all_ready) Recall();
  }

  // By the thread: lets callers have the connections for as long as they call one at a time.
  void Lend() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    holder_ = Holder::kNobody;
    while (!stopping_ && !recalled_ && (used_ || holder_ == Holder::kCaller)) {
      used_ = false;
      mutex_.Unlock();
      wanted_.WaitFor(kLent);
      mutex_.Lock();
    }
    recalled_ = false;
    holder_ = Holder::kThread;
  }

  void Wake() {
    const uint64_t one = 1;
    // Full means that it is awake.
    static_cast<void>(!::write(wake_, &one, sizeof one));
  }

  // From here on: who holds the connections.

  void Finish(const std::shared_ptr<RedisCall>& pending, absl::StatusOr<RedisReply> result) {
    {
      absl::MutexLock lock(&mutex_);
      pending_bytes_ -= pending->bytes;
      used_ = true;
    }
    pending->result = std::move(result);
    pending->done.Notify();
  }

  bool subscribes() const { return !subscription_.channel.empty(); }

  bool AnyReady() const {
    return std::any_of(connections_.begin(), connections_.end(),
                       [](const RedisConnection& connection) { return connection.ready(); });
  }

  bool AllReady() const {
    return std::all_of(connections_.begin(), connections_.end(),
                       [](const RedisConnection& connection) { return connection.ready(); });
  }

  // Lets the server be for a while.
  void Refuse(std::string_view why) {
    const absl::Status status = absl::UnavailableError(
        absl::StrCat(RedisServerName(options_), ": ", ToAbsl(why), "; trying again"));
    backoff_ = failed_ ? std::min(2 * backoff_, options_.max_backoff) : options_.first_backoff;
    failed_ = true;
    const double share = std::uniform_real_distribution<double>(0.5, 1)(random_);
    connect_at_ = SteadyNow() + share * backoff_;
    if (AnyReady()) return;
    std::deque<Command> refused;
    {
      absl::MutexLock lock(&mutex_);
      refusal_ = status;
      refused.swap(queue_);
    }
    while (!waiting_.empty()) {
      refused.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    for (const Command& command : refused) Finish(command.pending, status);
  }

  void OnReady() {
    failed_ = false;
    {
      absl::MutexLock lock(&mutex_);
      refusal_ = absl::OkStatus();
    }
    if (subscribes()) subscription_.on_message();
  }

  // The connection is gone, or goes now.
  void Drop(RedisConnection& connection, const std::string& why) {
    losses_.fetch_add(1, std::memory_order_relaxed);
    const bool was_idle = connection.Idle(SteadyNow());
    const std::deque<std::shared_ptr<RedisCall>> lost = connection.Close();
    if (!was_idle) Refuse(why);
    Fail(lost, why);
  }

  // The server is frozen, or the way to it is: no call need find that out on another connection.
  void DropAll(const std::string& why) {
    losses_.fetch_add(1, std::memory_order_relaxed);
    const std::deque<std::shared_ptr<RedisCall>> lost = CloseAll();
    Refuse(why);
    Fail(lost, why);
  }

  std::deque<std::shared_ptr<RedisCall>> CloseAll() {
    std::deque<std::shared_ptr<RedisCall>> lost;
    for (RedisConnection& connection : connections_) {
      std::deque<std::shared_ptr<RedisCall>> part = connection.Close();
      std::move(part.begin(), part.end(), std::back_inserter(lost));
    }
    return lost;
  }

  void Fail(const std::deque<std::shared_ptr<RedisCall>>& lost, const std::string& why) {
    const absl::Status status =
        absl::UnavailableError(absl::StrCat(RedisServerName(options_), ": ", why));
    for (const std::shared_ptr<RedisCall>& pending : lost) Finish(pending, status);
  }

  // Of those that are ready, if any.
  RedisConnection* LeastBusy() {
    RedisConnection* best = nullptr;
    for (RedisConnection& connection : connections_) {
      if (!connection.ready()) continue;
      if (best == nullptr || connection.in_flight() < best->in_flight()) best = &connection;
    }
    return best;
  }

  // The commands of a call that has begun, of which large arguments are lent. Seals read while what
  // they have read before is on its way.
  void SendFromThere(std::span<const RedisClient::Command> commands, bool asking) {
    std::string small;
    AppendBefore(commands.size(), asking, &small);
    for (const RedisClient::Command& command : commands) {
      AppendRespHead(command.size(), &small);
      for (const RedisArgument& argument : command) {
        if (!IsLarge(argument)) {
          AppendRespArgument(argument, &small);
          continue;
        }
        AppendRespBegin(argument, &small);
        over_->Append(std::exchange(small, {}));
        for (size_t at = 0; at < argument.text.size(); at += kSentTogether) {
          if (unsent_bytes_ >= kSentTogether && !SendSome()) return;
          const std::string_view piece = argument.text.substr(at, kSentTogether);
          if (argument.seal != nullptr) argument.seal->Read(at + piece.size());
          over_->Lend(piece);
          unsent_bytes_ += piece.size();
        }
        AppendRespEnd(argument, &small);
      }
    }
    AppendBehind(commands.size(), &small);
    over_->Append(std::move(small));
  }

  // Before something that takes time: the end of all goes with what is before it. False: the
  // connection is gone, and all that was under way over it.
  bool SendSome() {
    unsent_bytes_ = 0;
    const std::string wrong = over_->Flush();
    if (!wrong.empty()) Drop(*over_, wrong);
    return wrong.empty();
  }

  // Small commands of one batch take one connection: each more costs both sides as much as several
  // commands. Large ones and those of others spread.
  void Distribute() {
    RedisConnection* best = nullptr;
    size_t bytes = 0;  // that `best` has been given
    while (!waiting_.empty()) {
      if (best == nullptr) {
        bytes = 0;
        best = LeastBusy();
      }
      if (best == nullptr) return;
      Command command = std::move(waiting_.front());
      waiting_.pop_front();
      // Who asked may be gone: what it asked for happens all the same, or not at all.
      if (SteadyNow() >= command.pending->deadline) {
        Finish(command.pending, absl::DeadlineExceededError("the deadline has passed"));
        continue;
      }
      bytes += command.bytes.size();
      best->Send(std::move(command.pending), std::move(command.bytes));
      if (!command.more || bytes > kHeldBytes) best = nullptr;
    }
  }

  void Flush() {
    for (RedisConnection& connection : connections_) {
      const std::string wrong = connection.Flush();
      if (!wrong.empty()) Drop(connection, wrong);
    }
  }

  // Connects where nothing is and it may, and gives up what does not answer. Returns when to look
  // again, by SteadyNow().
  absl::Time Tend(bool connects) {
    const absl::Time now = SteadyNow();
    bool connected = false;
    for (RedisConnection& connection : connections_) {
      if (!connects || connection.open() || now < connect_at_) continue;
      const std::string wrong = connection.Connect();
      if (wrong.empty()) {
        connects_.fetch_add(1, std::memory_order_relaxed);
      } else {
        Drop(connection, wrong);
      }
      connected = true;
    }
    // Looking up a name may have taken long, while answers came that nobody has read yet.
    if (connected) return now;
    for (RedisConnection& connection : connections_) {
      if (!connection.open() || now < connection.AnswerBy() || connection.AskForLife(now)) continue;
      if (connection.ready() || !AnyReady()) {
        DropAll("it does not answer");
      } else {
        Drop(connection, "it does not answer");
      }
    }
    absl::Time next = now + absl::Seconds(1);
    for (const RedisConnection& connection : connections_) {
      next = std::min(next, connection.open() ? connection.AnswerBy() : connect_at_);
    }
    while (!waiting_.empty() && waiting_.front().pending->deadline <= SteadyNow()) {
      Finish(waiting_.front().pending, absl::DeadlineExceededError("the deadline has passed"));
      waiting_.pop_front();
    }
    return next;
  }

  void TakeQueued() {
    absl::MutexLock lock(&mutex_);
    std::move(queue_.begin(), queue_.end(), std::back_inserter(waiting_));
    queue_.clear();
  }

  // Sends what is queued, waits for what happens, until `until` at most, a time of SteadyNow(), and
  // reads. Only where it connects may it take longer: it looks up a name then.
  void Turn(absl::Time until, bool connects) {
    TakeQueued();
    Distribute();
    Flush();
    const absl::Time next = std::min(Tend(connects), until);
    polled_[0] = {.fd = wake_, .events = POLLIN, .revents = 0};
    for (size_t i = 0; i < connections_.size(); ++i) {
      polled_[i + 1] = {
          .fd = connections_[i].descriptor(), .events = connections_[i].Wanted(), .revents = 0};
    }
    const int64_t wait = absl::ToInt64Milliseconds(next - SteadyNow()) + 1;
    ::poll(polled_.data(), polled_.size(), static_cast<int>(std::clamp<int64_t>(wait, 0, 1000)));
    if (polled_[0].revents != 0) {
      uint64_t count = 0;
      static_cast<void>(!::read(wake_, &count, sizeof count));
    }
    for (size_t i = 0; i < connections_.size(); ++i) {
      if (polled_[i + 1].revents == 0) continue;
      const std::string wrong = connections_[i].Handle(polled_[i + 1].revents);
      if (!wrong.empty()) Drop(connections_[i], wrong);
    }
  }

  void Run() {
    // A connection that breaks while it is written to is an error, no signal.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    for (;;) {
      const bool all_ready = AllReady();
      {
        absl::MutexLock lock(&mutex_);
        if (all_ready && used_ && pending_bytes_ == 0) Lend();
        if (stopping_) break;
      }
      Turn(absl::InfiniteFuture(), /*connects=*/true);
    }
    const absl::Status ended = absl::CancelledError("the client of Redis has ended");
    const std::deque<std::shared_ptr<RedisCall>> lost = CloseAll();
    Refuse("the client has ended");
    for (const std::shared_ptr<RedisCall>& pending : lost) Finish(pending, ended);
  }

  const RedisOptions options_;
  const Subscription subscription_;
  const int wake_;
  std::atomic<uint64_t> connects_{0};
  std::atomic<uint64_t> losses_{0};

  mutable absl::Mutex mutex_;
  std::deque<Command> queue_ ABSL_GUARDED_BY(mutex_);
  size_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t held_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of the queue, since the thread was woken
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);   // what calls are told while it is not OK
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Holder holder_ ABSL_GUARDED_BY(mutex_) = Holder::kThread;
  bool recalled_ ABSL_GUARDED_BY(mutex_) = false;  // the thread is to have the connections
  bool used_ ABSL_GUARDED_BY(mutex_) = false;      // a call has ended since it was looked at
  SteadyEvent wanted_;                             // the thread is

  // The holder's.
  const RedisConnection::Events events_{
      .on_ready = [this] { OnReady(); },
      .on_message = [this] { subscription_.on_message(); },
      .on_answer = [this](
                       const auto& pending,
                       absl::StatusOr<RedisReply> result) { Finish(pending, std::move(result)); }};
  std::vector<RedisConnection> connections_;
  std::vector<pollfd> polled_;
  std::deque<Command> waiting_;
  // Of a caller that holds the connections: over which its calls go, null before the first, and the
  // bytes of them since it has sent some.
  RedisConnection* over_ = nullptr;
  size_t unsent_bytes_ = 0;
  bool failed_ = false;  // since it was ready last
  absl::Duration backoff_;
  absl::Time connect_at_ = absl::InfinitePast();
  std::mt19937_64 random_{std::random_device{}()};
  std::thread thread_;
};

}  // namespace

std::string RedisServerName(const RedisOptions& options) {
  return "Redis at " + (options.unix_socket.empty()
                            ? RedisAddress{options.host, options.port}.ToString()
                            : options.unix_socket);
}

std::unique_ptr<RedisNode> RedisNode::Create(RedisOptions options, Subscription subscription) {
  return std::make_unique<Node>(std::move(options), std::move(subscription));
}

absl::StatusOr<RedisReply> RedisNode::Wait(RedisCall& call) {
  Await(call);
  if (!call.done.HasBeenNotified()) {
    return absl::DeadlineExceededError("Redis has not answered in time");
  }
  return std::move(call.result);
}

}  // namespace octogate
