#include "common/redis/redis_record_streams.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate {
namespace {

// KEYS: the stream, its index. ARGV: the record's name, digest and value, how many records and
// bytes there may be, milliseconds that they are kept.
//
// The index has the entry of each record, and under the empty name the bytes of all.
constexpr std::string_view kAppend = R"(
local stream, index, id = KEYS[1], KEYS[2], ARGV[1]
local function append()
  local entry = redis.call('XADD', stream, '*', 'i', id, 'd', ARGV[2], 'v', ARGV[3])
  redis.call('HSET', index, id, entry)
  local bytes = redis.call('HINCRBY', index, '', #ARGV[3])
  local count = redis.call('XLEN', stream)
  while count > tonumber(ARGV[4]) or bytes > tonumber(ARGV[5]) do
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local name, value = oldest[2][2], oldest[2][6]
    if redis.call('HGET', index, name) == oldest[1] then redis.call('HDEL', index, name) end
    bytes = redis.call('HINCRBY', index, '', 0 - #value)  -- not -0
    redis.call('XDEL', stream, oldest[1])
    count = count - 1
    if count == 0 then break end
  end
end
local done, problem = pcall(append)
if not done then
  -- Keys of another kind, or an index that lies, make room; of a full server's nothing is lost.
  local words = type(problem) == 'table' and problem.err or tostring(problem)
  if string.find(words, 'OOM', 1, true) then return redis.error_reply('OOM no room for a record') end
  redis.call('DEL', stream, index)
  append()
end
redis.call('PEXPIRE', stream, ARGV[6])
redis.call('PEXPIRE', index, ARGV[6])
return 1
)";

// KEYS: the names of streams by when they were appended to. ARGV: which ranks are too many,
// milliseconds that they are kept, now, names.
constexpr std::string_view kAnnounce = R"(
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
for i = 4, #ARGV do redis.call('ZADD', KEYS[1], ARGV[3], ARGV[i]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
)";

// Records that are asked for in one round trip, and streams.
constexpr size_t kRecordsTogether = 1000;
constexpr size_t kStreamsTogether = 64;

RedisTerms Bulk(absl::Time deadline) { return {deadline, RedisCallKind::kBulk}; }

std::string DigestOf(std::string_view stream, std::string_view id, std::string_view value) {
  return Sha256(
      absl::StrCat(stream.size(), ":", ToAbsl(stream), id.size(), ":", ToAbsl(id), ToAbsl(value)));
}

// Entries of one stream as XRANGE answers them: their number and their fields.
struct Entry {
  uint64_t milliseconds = 0;
  uint64_t sequence = 0;
  RecordStreams::Record record;
};

absl::StatusOr<Entry> EntryOf(const std::string& stream, RedisReply& reply) {
  const absl::Status damaged =
      absl::DataLossError("what Redis has of a record is not what was written");
  if (reply.elements.size() != 2) return damaged;
  const std::string& name = reply.elements[0].text;
  std::vector<RedisReply>& fields = reply.elements[1].elements;
  const size_t dash = name.find('-');
  Entry entry;
  if (dash == std::string::npos || fields.size() != 6 || fields[0].text != "i" ||
      fields[2].text != "d" || fields[4].text != "v" ||
      !absl::SimpleAtoi(name.substr(0, dash), &entry.milliseconds) ||
      !absl::SimpleAtoi(name.substr(dash + 1), &entry.sequence) ||
      fields[3].text != DigestOf(stream, fields[1].text, fields[5].text)) {
    return damaged;
  }
  entry.record = {stream, std::move(fields[1].text), std::move(fields[5].text)};
  return entry;
}

class RedisRecordStreams final : public RecordStreams {
 public:
  RedisRecordStreams(RedisClient* client, Limits limits, std::string prefix)
      : client_(*client),
        limits_(limits),
        prefix_(std::move(prefix)),
        max_records_(std::to_string(std::max<size_t>(limits.max_records, 1))),
        max_bytes_(std::to_string(limits.max_bytes)),
        kept_for_(
            std::to_string(std::max<int64_t>(absl::ToInt64Milliseconds(limits.kept_for), 1))) {}

  std::vector<absl::Status> Append(std::span<const Record> records, absl::Time deadline) override {
    if (records.empty()) return {};
    // A record whose stream nobody knows would never be found.
    const std::string now = std::to_string(absl::ToUnixMillis(absl::Now()));
    const std::string surplus = absl::StrCat(-static_cast<int64_t>(limits_.max_streams) - 1);
    RedisClient::Command announce{"EVAL", kAnnounce, "1", names_key_, surplus, kept_for_, now};
    for (const Record& record : records) announce.push_back(record.stream);
    struct Texts {
      std::string stream, index, digest;
    };
    std::vector<Texts> texts;
    texts.reserve(records.size());  // the commands point into them
    std::vector<RedisClient::Command> commands{std::move(announce)};
    for (const Record& record : records) {
      texts.push_back({StreamKey(record.stream), IndexKey(record.stream),
                       DigestOf(record.stream, record.id, record.value)});
      const Texts& text = texts.back();
      commands.push_back({"EVAL", kAppend, "2", text.stream, text.index, record.id, text.digest,
                          record.value, max_records_, max_bytes_, kept_for_});
    }
    const std::vector<absl::StatusOr<RedisReply>> replies =
        client_.CallMany(commands, Bulk(deadline));
    std::vector<absl::Status> results;
    results.reserve(records.size());
    for (size_t i = 1; i < replies.size(); ++i) {
      results.push_back(replies[0].ok() ? replies[i].status() : replies[0].status());
    }
    return results;
  }

  absl::StatusOr<Record> Find(std::string_view id, absl::Time deadline) override {
    const absl::Status none = absl::NotFoundError("no such record");
    if (id.empty()) return none;
    const RedisTerms terms = Bulk(deadline);
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> streams, Streams(terms));
    std::vector<std::string> keys;
    keys.reserve(streams.size());
    std::vector<RedisClient::Command> commands;
    for (const std::string& stream : streams) {
      keys.push_back(IndexKey(stream));
      commands.push_back({"HGET", keys.back(), id});
    }
    const std::vector<absl::StatusOr<RedisReply>> places = client_.CallMany(commands, terms);
    absl::Status status = none;
    for (size_t i = 0; i < streams.size(); ++i) {
      if (!places[i].ok()) {
        if (places[i].status().code() != absl::StatusCode::kInternal) status = places[i].status();
        continue;
      }
      const std::string& entry = places[i]->text;
      if (places[i]->kind != RedisReply::Kind::kText) continue;
      absl::StatusOr<RedisReply> found =
          client_.Call({"XRANGE", StreamKey(streams[i]), entry, entry}, terms);
      if (!found.ok() || found->elements.size() != 1) {
        // An index that says what is not so.
        if (found.status().code() != absl::StatusCode::kInternal && !found.ok()) {
          status = found.status();
        }
        continue;
      }
      absl::StatusOr<Entry> read = EntryOf(streams[i], found->elements[0]);
      if (read.ok() && read->record.id == id) return std::move(read->record);
      status = absl::DataLossError("what Redis has of the record is not what was written");
    }
    return status;
  }

  absl::StatusOr<std::vector<Record>> Newest(size_t limit, size_t max_bytes,
                                             absl::Time deadline) override {
    const RedisTerms terms = Bulk(deadline);
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> streams, Streams(terms));
    const size_t page_records = std::clamp<size_t>(limit, 1, kRecordsTogether);
    const size_t most = std::min(kStreamsTogether, kRecordsTogether / page_records);
    const std::string count = std::to_string(page_records);
    std::vector<Entry> entries;
    size_t bytes = 0;
    // As many streams at a time as are likely to be wanted, by what those before had.
    size_t together = 1;
    for (size_t at = 0; at < streams.size() && limit > 0 && bytes < max_bytes; at += together) {
      if (at > 0) together = std::clamp<size_t>((max_bytes - bytes) / (bytes / at + 1), 1, most);
      const size_t end = std::min(at + together, streams.size());
      std::vector<std::string> keys;
      keys.reserve(end - at);
      std::vector<RedisClient::Command> commands;
      for (size_t i = at; i < end; ++i) {
        keys.push_back(StreamKey(streams[i]));
        commands.push_back({"XREVRANGE", keys.back(), "+", "-", "COUNT", count});
      }
      std::vector<absl::StatusOr<RedisReply>> pages = client_.CallMany(commands, terms);
      for (size_t i = at; i < end; ++i) {
        absl::StatusOr<RedisReply>& page = pages[i - at];
        if (page.status().code() == absl::StatusCode::kInternal) continue;  // no stream
        if (!page.ok()) return page.status();
        for (RedisReply& reply : page->elements) {
          absl::StatusOr<Entry> entry = EntryOf(streams[i], reply);
          if (!entry.ok()) continue;
          bytes += entry->record.value.size();
          entries.push_back(*std::move(entry));
        }
      }
    }
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::pair(a.milliseconds, a.sequence) > std::pair(b.milliseconds, b.sequence);
    });
    std::vector<Record> records;
    bytes = 0;
    for (Entry& entry : entries) {
      if (records.size() == limit || bytes >= max_bytes) break;
      bytes += entry.record.value.size();
      records.push_back(std::move(entry.record));
    }
    return records;
  }

 private:
  std::string StreamKey(std::string_view stream) const {
    return absl::StrCat(prefix_, "{", ToAbsl(stream), "}");
  }
  std::string IndexKey(std::string_view stream) const { return StreamKey(stream) + "#"; }

  // Those that were appended to last first.
  absl::StatusOr<std::vector<std::string>> Streams(RedisTerms terms) {
    const std::string last = absl::StrCat(static_cast<int64_t>(limits_.max_streams) - 1);
    absl::StatusOr<RedisReply> reply = client_.Call({"ZREVRANGE", names_key_, "0", last}, terms);
    // A key of another kind: the next Append mends it.
    if (reply.status().code() == absl::StatusCode::kInternal) return std::vector<std::string>();
    if (!reply.ok()) return reply.status();
    std::vector<std::string> streams;
    for (RedisReply& name : reply->elements) {
      // A server that does not do as it is told is not believed.
      if (streams.size() == limits_.max_streams) break;
      streams.push_back(std::move(name.text));
    }
    return streams;
  }

  RedisClient& client_;
  const Limits limits_;
  const std::string prefix_;
  const std::string names_key_ = prefix_ + "names";
  const std::string max_records_;
  const std::string max_bytes_;
  const std::string kept_for_;
};

}  // namespace

std::unique_ptr<RecordStreams> MakeRedisRecordStreams(RedisClient* client,
                                                      RecordStreams::Limits limits,
                                                      std::string prefix) {
  return std::make_unique<RedisRecordStreams>(client, limits, std::move(prefix));
}

}  // namespace octogate
