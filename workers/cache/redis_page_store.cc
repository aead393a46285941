#include "workers/cache/redis_page_store.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "workers/cache/page_codec.h"
#include "workers/cache/page_fetch_state.h"
#include "workers/cache/page_store_pace.h"
#include "workers/cache/shared_flush_marks.h"

namespace octogate::workers {
namespace {

// Names that are known to be there; more are forgotten.
constexpr size_t kMaxKnown = size_t{1} << 18;
// After which a server that is out of memory is written to again.
constexpr absl::Duration kWriteBackoff = absl::Seconds(1);
// What pages come in that are used while others are on their way.
constexpr double kLeastChunk = 0.004;
// Of which one command asks whether they are there.
constexpr size_t kCounted = 4;
// A command that has been under way for so long says something of those to come.
constexpr double kLate = 0.02;

class RedisPageStore final : public PageStore {
 public:
  RedisPageStore(std::shared_ptr<RedisClient> client, RedisPageStoreOptions options,
                 const PageFormat& format)
      : client_(std::move(client)),
        options_(std::move(options)),
        codec_(format, options_.prefix, options_.secret),
        size_(CheckSharedPageSize(format)),
        flush_marks_(client_,
                     {.name = absl::StrCat(options_.prefix, "flushes:{", codec_.FormatName(), "}"),
                      .secret = options_.secret,
                      .interval = options_.flush_interval,
                      .timeout = options_.timeout}),
        chunk_pages_(std::max<size_t>(options_.chunk_bytes / codec_.value_bytes(), 1)),
        budget_(std::make_shared<Budget>()),
        calls_since_(static_cast<size_t>(options_.readers), absl::InfiniteFuture()) {
    for (int i = 0; i < options_.readers; ++i) {
      threads_.emplace_back([this, i] { Read(static_cast<size_t>(i)); });
    }
    for (int i = 0; i < options_.writers; ++i) threads_.emplace_back([this] { WriteQueued(); });
  }

  ~RedisPageStore() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      fetches_changed_.SignalAll();
    }
    flush_marks_.Stop();
    for (std::thread& thread : threads_) thread.join();
  }

  std::unique_ptr<PageFetch> Fetch(const PageChain& asked, PageOrder order,
                                   std::function<void()> on_change) override {
    if (!Usable()) return nullptr;
    PageChain chain = asked;
    auto state = std::make_shared<FetchState>();
    {
      absl::MutexLock lock(&budget_->mutex);
      const size_t room = options_.max_fetch_bytes - budget_->bytes;
      chain.count = static_cast<int>(
          std::min<size_t>(static_cast<size_t>(chain.count), room / codec_.value_bytes()));
      if (chain.count == 0) return nullptr;
      budget_->bytes += static_cast<size_t>(chain.count) * codec_.value_bytes();
    }
    for (int i = 0; i < chain.count; ++i) {
      state->leases.emplace_back(nullptr, [budget = budget_, bytes = codec_.value_bytes()](void*) {
        absl::MutexLock lock(&budget->mutex);
        budget->bytes -= bytes;
      });
    }
    state->pages = codec_.Describe(chain, flush_marks_.EpochOfTaken(chain.context));
    if (!client_->ShardStateOf(state->pages[0].name).reachable) return nullptr;
    state->first = chain.first;
    state->on_change = std::move(on_change);
    state->begun = SteadyNow();
    state->order = order;
    absl::MutexLock lock(&mutex_);
    Bound(*state);
    {
      absl::MutexLock state_lock(&state->mutex);
      state->end = state->pages.size();
      state->counted = order == PageOrder::kForward;
    }
    state->bytes_before = QueuedReadBytes();
    fetches_.push_back(state);
    fetches_changed_.SignalAll();
    return std::make_unique<Handle>(this, std::move(state));
  }

  double FetchSeconds(int pages) const override {
    if (!Usable()) return std::numeric_limits<double>::infinity();
    const double bytes = static_cast<double>(pages) * static_cast<double>(codec_.value_bytes());
    const absl::Time now = SteadyNow();
    absl::MutexLock lock(&mutex_);
    double seconds = pace_.Seconds(bytes + QueuedReadBytes(), now);
    for (const absl::Time since : calls_since_) {
      const double late = absl::ToDoubleSeconds(now - since);
      if (late > kLate) seconds = std::max(seconds, 2 * late);
    }
    return seconds;
  }

  double MissSeconds() const override {
    absl::MutexLock lock(&mutex_);
    return pace_.Seconds(0, SteadyNow());
  }

  absl::StatusOr<int> CountStored(const PageChain& chain, absl::Time deadline) override {
    if (!size_.ok()) return size_;
    if (!Usable()) {
      return absl::UnavailableError(
          "the store cannot be reached, or has not said yet what was flushed");
    }
    const std::vector<PageCodec::Page> pages =
        codec_.Describe(chain, flush_marks_.EpochOfTaken(chain.context));
    std::vector<RedisClient::Command> commands;
    for (const PageCodec::Page& page : pages) commands.push_back({"EXISTS", page.name});
    deadline = std::min(deadline, absl::Now() + options_.timeout);
    int there = 0;
    for (const auto& reply : client_->CallMany(commands, {deadline, RedisCallKind::kBulk})) {
      if (!reply.ok()) return reply.status();
      if (reply->integer <= 0) break;
      ++there;
    }
    return there;
  }

  void Write(const PageChain& chain, const ReadPages& read) override {
    std::vector<PageCodec::Page> pages =
        codec_.Describe(chain, flush_marks_.EpochOfTaken(chain.context));
    if (pages.empty()) return;
    const RedisClient::Shard shard = client_->ShardStateOf(pages[0].name);
    const bool usable = Usable() && shard.reachable;
    std::vector<Queued> queued;
    {
      const absl::Time now = SteadyNow();
      absl::MutexLock lock(&mutex_);
      for (PageCodec::Page& page : pages) {
        const auto known = known_.find(page.name);
        const bool is_known = known != known_.end() && known->second.shard == shard;
        if (is_known && now - known->second.at < options_.expiry / 2) continue;
        if (!is_known && !SeenBefore(page.name, chain.sequence, now)) continue;
        if (!usable || now < write_again_ ||
            queued_bytes_ + codec_.value_bytes() > options_.max_write_bytes) {
          ++stats_.dropped_pages;
          continue;
        }
        queued_bytes_ += codec_.value_bytes();
        Remember(page.name, shard, now);
        queued.push_back({.page = std::move(page), .value = ""});
      }
    }
    if (queued.empty()) return;
    std::vector<int> indices;
    std::vector<std::span<std::byte>> places;
    for (Queued& write : queued) {
      write.value = codec_.NewValue(write.page);
      indices.push_back(write.page.index);
      places.push_back(
          std::as_writable_bytes(std::span(write.value)).subspan(codec_.value_offset()));
    }
    read(indices, places);
    absl::MutexLock lock(&mutex_);
    std::move(queued.begin(), queued.end(), std::back_inserter(writes_));
  }

  absl::Status Flush(const PageFlush& flush, absl::Time deadline) override {
    return flush_marks_.Flush(flush, deadline);
  }

  ContextFilter TakeFlushed() override { return flush_marks_.Take(); }

  PageStoreStats stats() const override {
    const RedisClient::Stats client = client_->stats();
    absl::MutexLock lock(&mutex_);
    PageStoreStats stats = stats_;
    stats.failures = client.failures;
    stats.losses = client.losses;
    stats.reachable = client.reachable;
    return stats;
  }

 private:
  struct Budget {
    absl::Mutex mutex;
    size_t bytes ABSL_GUARDED_BY(mutex) = 0;
  };
  struct Seen {
    int uses = 0;
    uint64_t sequence = 0;  // the last
    absl::Time last;
  };
  struct Known {
    RedisClient::Shard shard;  // that has it
    absl::Time at;
  };
  struct Queued {
    PageCodec::Page page;
    std::string value;
  };

  class Handle final : public PageFetch {
   public:
    Handle(RedisPageStore* store, std::shared_ptr<FetchState> state)
        : store_(store), state_(std::move(state)) {}
    ~Handle() override { store_->GiveUp(*state_); }

    int pages() const override { return static_cast<int>(state_->pages.size()); }

    bool Take(int first_needed, std::vector<SharedPage>& pages) override {
      absl::MutexLock lock(&state_->mutex);
      const int skipped = first_needed - state_->first;
      if (skipped > 0) state_->next = std::max(state_->next, static_cast<size_t>(skipped));
      std::move(state_->arrived.begin(), state_->arrived.end(), std::back_inserter(pages));
      state_->arrived.clear();
      return state_->Done();
    }

   private:
    RedisPageStore* const store_;
    const std::shared_ptr<FetchState> state_;
  };

  // Those that come while others are under way must not be more than what keeps the way busy: what
  // nobody needs any more delays others, and small ones can be used sooner.
  void Bound(FetchState& state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    state.chunk = chunk_pages_;
    state.window = static_cast<size_t>(options_.readers);
    if (state.order == PageOrder::kForward) return;
    const absl::Time now = SteadyNow();
    const auto bytes = static_cast<double>(codec_.value_bytes());
    const double latency = pace_.Seconds(0, now);
    const double seconds = std::max((pace_.Seconds(64 * bytes, now) - latency) / 64, 1e-9);
    // What is on its way until the first of it has been here, and a little more.
    const double busy = (latency + kLate) / seconds;
    const auto readers = static_cast<double>(options_.readers);
    const double chunk = std::max(kLeastChunk / seconds, std::ceil(busy / readers));
    state.chunk = static_cast<size_t>(std::clamp(chunk, 1.0, static_cast<double>(chunk_pages_)));
    state.window =
        static_cast<size_t>(std::min(busy / static_cast<double>(state.chunk) + 1, readers));
  }

  // Of what has not come and was not given up; what was asked for comes in any case.
  double QueuedReadBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    size_t pages = pages_asked_;
    for (const auto& fetch : fetches_) {
      absl::MutexLock lock(&fetch->mutex);
      if (!fetch->given_up && fetch->next < fetch->end) pages += fetch->end - fetch->next;
    }
    return static_cast<double>(pages * codec_.value_bytes());
  }

  // Whether it is known to have been flushed no further than the caller knows. Those servers that
  // have a chain's pages may be gone all the same.
  bool Usable() const { return size_.ok() && flush_marks_.IsCurrent(); }

  void GiveUp(FetchState& state) {
    const absl::Time now = SteadyNow();
    size_t pages = 0;
    double seconds = 0;
    bool late = false;
    {
      absl::MutexLock lock(&state.mutex);
      late = state.came == 0;
      if (state.measured || (late && state.Done())) return;
      state.given_up = true;
      // What has not come would have taken longer than this.
      pages = late ? std::min(state.chunk, state.pages.size()) : state.came;
      seconds = absl::ToDoubleSeconds((late ? now : state.last_came) - state.begun);
      if (late) seconds *= 1.5;
    }
    const double bytes = state.bytes_before + static_cast<double>(pages * codec_.value_bytes());
    absl::MutexLock lock(&mutex_);
    if (!late || pace_.Seconds(bytes, now) < seconds) pace_.Add(bytes, seconds, now);
  }

  // Whether enough sequences have had that page, this one included.
  bool SeenBefore(const std::string& name, uint64_t sequence, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (options_.write_from_use <= 1) return true;
    if (seen_.size() >= kMaxKnown) seen_.clear();
    Seen& seen = seen_[name];
    if (seen.uses > 0 && now - seen.last > options_.expiry) seen.uses = 0;
    if (seen.uses == 0 || seen.sequence != sequence) ++seen.uses;
    seen.sequence = sequence;
    seen.last = now;
    return seen.uses >= options_.write_from_use;
  }

  void Remember(const std::string& name, const RedisClient::Shard& shard, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (known_.size() >= kMaxKnown) known_.clear();
    known_[name] = {.shard = shard, .at = now};
  }

  // A fetch of which there is something to ask for; those of which there is nothing any more are
  // let go.
  std::shared_ptr<FetchState> NextFetch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::erase_if(fetches_, [](const std::shared_ptr<FetchState>& fetch) {
      absl::MutexLock lock(&fetch->mutex);
      return fetch->Asked() && !fetch->counting;
    });
    for (const std::shared_ptr<FetchState>& fetch : fetches_) {
      absl::MutexLock lock(&fetch->mutex);
      if (fetch->Waits()) return fetch;
    }
    return nullptr;
  }

  bool HasWrite() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !writes_.empty();
  }

  // From here on: the store's threads.

  RedisTerms Terms() const { return {absl::Now() + options_.timeout, RedisCallKind::kBulk}; }

  // Asks for nothing, and for bytes that are sent along, so that something is known of the server
  // before the first fetch. Sending takes time too: a real fetch is sooner, if anything.
  void Measure() {
    const auto seconds_of = [&](std::initializer_list<std::string_view> arguments) -> double {
      const absl::Time begin = SteadyNow();
      const auto reply = client_->Call(arguments, Terms());
      return reply.ok() ? absl::ToDoubleSeconds(SteadyNow() - begin) : -1;
    };
    const std::string name = absl::StrCat(options_.prefix, "{none}");
    const std::string bytes(std::min(options_.chunk_bytes, size_t{1} << 20), 'x');
    const auto is_stopping = [&] {
      absl::MutexLock lock(&mutex_);
      return stopping_;
    };
    if (seconds_of({"MGET", name}) < 0 || is_stopping()) return;  // has waited for the connection
    const double latency = seconds_of({"MGET", name});
    if (is_stopping()) return;
    const double echo = seconds_of({"ECHO", bytes});
    const absl::Time now = SteadyNow();
    absl::MutexLock lock(&mutex_);
    if (latency >= 0) pace_.Add(0, latency, now);
    if (echo >= 0) pace_.Add(static_cast<double>(bytes.size()), echo, now);
  }

  void Read(size_t reader) {
    if (reader == 0) Measure();
    while (true) {
      std::shared_ptr<FetchState> fetch;
      size_t first = 0;
      size_t count = 0;  // 0: it is to be found out what is there
      {
        absl::MutexLock lock(&mutex_);
        while (!stopping_ && (fetch = NextFetch()) == nullptr) fetches_changed_.Wait(&mutex_);
        if (stopping_) return;
        absl::MutexLock fetch_lock(&fetch->mutex);
        // Others may have found its end meanwhile.
        if (!fetch->Waits()) continue;
        ++fetch->pending;
        if (fetch->counted) {
          count = std::min(fetch->chunk, fetch->end - fetch->next);
          if (fetch->order == PageOrder::kForward) {
            first = fetch->next;
            fetch->next += count;
          } else {
            fetch->end -= count;
            first = fetch->end;
          }
        } else {
          fetch->counting = true;
        }
        pages_asked_ += count;
        calls_since_[reader] = SteadyNow();
      }
      if (count == 0) {
        Count(*fetch);
      } else {
        ReadChunk(*fetch, first, count);
      }
      absl::MutexLock lock(&mutex_);
      fetches_changed_.SignalAll();
      pages_asked_ -= count;
      calls_since_[reader] = absl::InfiniteFuture();
    }
  }

  // Finds how many pages at the beginning are there, as far as can be told at little cost: a chain
  // of which the server has evicted some in the midst may be taken for a shorter or a longer one.
  void Count(FetchState& fetch) {
    std::vector<RedisClient::Command> commands;
    for (size_t i = 0; i < fetch.pages.size(); i += kCounted) {
      RedisClient::Command& command = commands.emplace_back();
      command.push_back("EXISTS");
      for (size_t j = i; j < std::min(i + kCounted, fetch.pages.size()); ++j) {
        command.push_back(fetch.pages[j].name);
      }
    }
    const auto replies = client_->CallMany(commands, Terms());
    size_t there = 0;
    for (size_t i = 0; i < replies.size(); ++i) {
      if (!replies[i].ok() || replies[i]->kind != RedisReply::Kind::kInteger) break;
      const size_t asked = commands[i].size() - 1;
      const size_t found =
          std::min(asked, static_cast<size_t>(std::max<int64_t>(replies[i]->integer, 0)));
      there += found;
      if (found < asked) break;
    }
    absl::MutexLock lock(&fetch.mutex);
    fetch.end = std::min(fetch.end, there);
    fetch.counting = false;
    fetch.counted = true;
    fetch.begun = SteadyNow();  // what comes is measured
    --fetch.pending;
    if (!fetch.given_up && fetch.Done()) fetch.on_change();
  }

  void ReadChunk(FetchState& fetch, size_t first, size_t count) {
    std::vector<std::string_view> arguments = {"MGET"};
    for (size_t i = first; i < first + count; ++i) arguments.push_back(fetch.pages[i].name);
    const RedisClient::Shard shard = client_->ShardStateOf(arguments[1]);
    absl::StatusOr<RedisReply> reply = client_->Call(arguments, Terms());
    std::vector<SharedPage> arrived;
    std::vector<std::string> missing;
    size_t refused = 0;
    size_t bytes = 0;
    const bool ok =
        reply.ok() && reply->kind == RedisReply::Kind::kArray && reply->elements.size() == count;
    for (size_t i = 0; ok && i < count; ++i) {
      RedisReply& element = reply->elements[i];
      const PageCodec::Page& page = fetch.pages[first + i];
      if (element.kind == RedisReply::Kind::kText) {
        bytes += element.text.size();
        if (codec_.Holds(page, element.text)) {
          arrived.push_back({.index = page.index,
                             .value = std::move(element.text),
                             .offset = codec_.value_offset(),
                             .lease = std::move(fetch.leases[first + i])});
          continue;
        }
        ++refused;
      }
      missing.push_back(page.name);
      // Those behind it may be of use to one that computes.
      if (fetch.order == PageOrder::kForward) break;
    }
    const size_t held = arrived.size();
    const absl::Time now = SteadyNow();
    {
      absl::MutexLock lock(&mutex_);
      stats_.read_bytes += bytes;
      stats_.refused_pages += refused;
      for (const SharedPage& page : arrived) {
        Remember(fetch.pages[static_cast<size_t>(page.index - fetch.first)].name, shard, now);
      }
      for (const std::string& name : missing) known_.erase(name);
    }
    bool measured = false;
    size_t came = 0;
    {
      absl::MutexLock lock(&fetch.mutex);
      if (held < count && fetch.order == PageOrder::kForward) {
        fetch.end = std::min(fetch.end, first + held);
      }
      if (!ok) fetch.next = fetch.end;
      --fetch.pending;
      fetch.came += held;
      fetch.last_came = now;
      came = fetch.came;
      if (fetch.given_up) return;
      std::move(arrived.begin(), arrived.end(), std::back_inserter(fetch.arrived));
      fetch.measured = measured = ok && fetch.Done();
      // Under the lock, which whoever gives up takes: not after it is destroyed.
      fetch.on_change();
    }
    if (!measured) return;
    absl::MutexLock lock(&mutex_);
    pace_.Add(fetch.bytes_before + static_cast<double>(came * codec_.value_bytes()),
              absl::ToDoubleSeconds(now - fetch.begun), now);
  }

  void WriteQueued() {
    while (true) {
      Queued write;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &RedisPageStore::HasWrite));
        if (stopping_) return;
        write = std::move(writes_.front());
        writes_.pop_front();
      }
      codec_.Seal(write.value);
      const std::string expiry = absl::StrCat(absl::ToInt64Milliseconds(options_.expiry));
      const absl::Status status =
          client_->Call({"SET", write.page.name, write.value, "PX", expiry}, Terms()).status();
      absl::MutexLock lock(&mutex_);
      queued_bytes_ -= codec_.value_bytes();
      if (status.ok()) {
        stats_.written_bytes += write.value.size();
        continue;
      }
      ++stats_.dropped_pages;
      known_.erase(write.page.name);
      if (!absl::IsUnavailable(status)) write_again_ = SteadyNow() + kWriteBackoff;
      // What waits behind it for the same server would fare no better.
      const size_t shard = client_->ShardOf(write.page.name);
      const size_t dropped = std::erase_if(writes_, [&](const Queued& other) {
        if (client_->ShardOf(other.page.name) != shard) return false;
        known_.erase(other.page.name);
        return true;
      });
      queued_bytes_ -= dropped * codec_.value_bytes();
      stats_.dropped_pages += dropped;
    }
  }

  const std::shared_ptr<RedisClient> client_;
  const RedisPageStoreOptions options_;
  const PageCodec codec_;
  const absl::Status size_;  // whether pages may be shared
  SharedFlushMarks flush_marks_;
  const size_t chunk_pages_;
  const std::shared_ptr<Budget> budget_;  // pages outlive the store

  mutable absl::Mutex mutex_;      // taken before those of fetches
  absl::CondVar fetches_changed_;  // there may be something to ask for
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::shared_ptr<FetchState>> fetches_ ABSL_GUARDED_BY(mutex_);
  PageStorePace pace_ ABSL_GUARDED_BY(mutex_);
  size_t pages_asked_ ABSL_GUARDED_BY(mutex_) = 0;               // by commands under way
  std::vector<absl::Time> calls_since_ ABSL_GUARDED_BY(mutex_);  // by reader
  std::deque<Queued> writes_ ABSL_GUARDED_BY(mutex_);
  size_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time write_again_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::flat_hash_map<std::string, Known> known_ ABSL_GUARDED_BY(mutex_);  // by name
  absl::flat_hash_map<std::string, Seen> seen_ ABSL_GUARDED_BY(mutex_);    // that are not there
  PageStoreStats stats_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace

absl::Status CheckSharedPageSize(const PageFormat& format) {
  const size_t bytes = PageCodec(format, "", "").value_bytes();
  if (bytes <= kMaxSharedPageBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("no pages of keys and values are shared: one takes ", bytes,
                   " bytes in the store, more than ", kMaxSharedPageBytes,
                   "; --kv-dtype=int8 or fp8 makes them smaller"));
}

MakePageStore ShareThroughRedis(std::shared_ptr<RedisClient> client,
                                RedisPageStoreOptions options) {
  return [client = std::move(client), options = std::move(options)](const PageFormat& format) {
    return std::make_unique<RedisPageStore>(client, options, format);
  };
}

}  // namespace octogate::workers
