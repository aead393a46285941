#include "common/redis/redis_store.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/redis/checked_value.h"
#include "common/redis/redis_errors.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate {
namespace {

// Notes the names from ARGV[first] on, whose values expire after `left` milliseconds at the latest
// ("": never). Names of which none is of a value that stays go with the last of their values, and
// of them some are looked at each time, and forgotten where their values are gone: with four for
// each that comes, the dead are a third of the living if no other call removes any. The names of
// values that stay are forgotten by kDelete alone: while slots move, values can seem to be gone.
// `place` stands before a name in the key of its value.
constexpr std::string_view kNote = R"(
local function note(names, left, place, first)
  local lasts = redis.call('PTTL', names)
  for i = first, #ARGV do redis.call('ZADD', names, 0, ARGV[i]) end
  if left == '' then
    redis.call('PERSIST', names)
  elseif lasts ~= -1 then
    if lasts < tonumber(left) then redis.call('PEXPIRE', names, left) end
    local some = redis.call('ZRANDMEMBER', names, -4 * (#ARGV - first + 1))
    for _, name in ipairs(some) do
      if redis.pcall('EXISTS', place .. name) == 0 then redis.call('ZREM', names, name) end
    end
  end
end
)";
// After values were set. KEYS: the names. ARGV: `left`, `place`, names, as above.
constexpr std::string_view kNoteNames = "note(KEYS[1], ARGV[1], ARGV[2], 3)";
// KEYS: the value, the names. ARGV: the value, `left`, `place`, whether a value is expected ("1"),
// which, the name. Returns whether it was the present one.
constexpr std::string_view kCompareAndSet = R"(
local present = redis.call('GET', KEYS[1])
if present ~= (ARGV[4] == '1' and ARGV[5]) then return 0 end
if ARGV[2] == '' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
note(KEYS[2], ARGV[2], ARGV[3], 6)
return 1
)";
// KEYS: the parts, by when the last of their values expires. ARGV: of each the milliseconds until
// then ("": never), and the part. Those whose time is over are forgotten.
constexpr std::string_view kNoteParts = R"(
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', ARGV[i] == '' and 'inf' or now + ARGV[i], ARGV[i + 1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last == 'inf' then redis.call('PERSIST', KEYS[1])
elseif last then redis.call('PEXPIRE', KEYS[1], last - now) end
)";
// KEYS: the value, the names. ARGV: the name.
constexpr std::string_view kDelete = R"(
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
)";
// KEYS: the names. ARGV: the range, how many, what stands before a name in the key of its value.
// Names whose values have expired are forgotten, unless there are some of values that stay (kNote).
constexpr std::string_view kList = R"(
local found, from, limit = {}, ARGV[1], tonumber(ARGV[3])
local forgets = redis.call('PTTL', KEYS[1]) >= 0
while #found < limit do
  local names = redis.call('ZRANGEBYLEX', KEYS[1], from, ARGV[2], 'LIMIT', 0, limit)
  for _, name in ipairs(names) do
    if redis.call('EXISTS', ARGV[4] .. name) == 1 then
      if #found < limit then found[#found + 1] = name end
    elseif forgets then
      redis.call('ZREM', KEYS[1], name)
    end
  end
  if #names < limit then break end
  from = '(' .. names[#names]
end
return found
)";

// Values of one part that are written as one: more would have all others wait for too long.
constexpr size_t kTogether = 64;
constexpr size_t kTogetherBytes = size_t{1} << 20;

// The part of a key before its first "/".
std::string_view FirstPart(std::string_view key) { return key.substr(0, key.find('/')); }

// What is greater than every name with the prefix, as ZRANGEBYLEX has it.
std::string BehindAll(std::string_view prefix) {
  std::string end = absl::StrCat("(", ToAbsl(prefix));
  while (end.back() == '\xff') end.pop_back();
  if (end.size() == 1) return "+";
  end.back() = static_cast<char>(static_cast<uint8_t>(end.back()) + 1);
  return end;
}

class RedisWatch final : public StoreWatch {
 public:
  explicit RedisWatch(std::unique_ptr<RedisSubscription> subscription)
      : subscription_(std::move(subscription)) {}

 private:
  const std::unique_ptr<RedisSubscription> subscription_;
};

class RedisStore final : public Store {
 public:
  RedisStore(RedisClient* client, RedisStoreOptions options)
      : client_(*client), options_(std::move(options)) {}

  absl::StatusOr<std::string> Get(std::string_view key, absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(Check(key, deadline));
    absl::StatusOr<RedisReply> reply = client_.Call({"GET", ValueKey(key)}, deadline);
    return ValueOf(key, reply);
  }

  absl::Status Put(std::string_view key, std::string_view value, absl::Time expires_at,
                   absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(CheckWrite(key, value, deadline));
    if (expires_at <= options_.clock()) return Delete(key, deadline);
    const Entry entry{.key = key, .value = value, .expires_at = expires_at};
    return PutMany({&entry, 1}, deadline).front();
  }

  std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string_view> keys,
                                                   absl::Time deadline) override {
    std::vector<absl::StatusOr<std::string>> values;
    values.reserve(keys.size());
    std::vector<size_t> asked;  // indices
    for (size_t i = 0; i < keys.size(); ++i) {
      const absl::Status status = Check(keys[i], deadline);
      if (status.ok()) asked.push_back(i);
      values.push_back(status.ok() ? absl::UnknownError("asked") : status);
    }
    std::vector<std::string> value_keys;
    value_keys.reserve(asked.size());  // the commands point into them
    RedisClient::Command command;
    client_.TransactEach(
        asked.size(),
        [&](size_t n) {
          value_keys.push_back(ValueKey(keys[asked[n]]));
          command.assign({"GET", value_keys.back()});
          return std::span<const RedisClient::Command>(&command, 1);
        },
        [&](size_t n, absl::StatusOr<RedisReply> reply) {
          values[asked[n]] = ValueOf(keys[asked[n]], reply);
        },
        {deadline, RedisCallKind::kBulk});
    return values;
  }

  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time deadline) override {
    const RedisTerms terms(deadline);
    std::vector<absl::Status> results;
    results.reserve(entries.size());
    // Where a key comes twice the later one must win: they are not sent together.
    std::vector<size_t> together;
    std::set<std::string_view> keys;
    for (size_t i = 0; i < entries.size(); ++i) {
      results.push_back(CheckWrite(entries[i].key, entries[i].value, deadline));
      if (!results.back().ok()) continue;
      if (!keys.insert(entries[i].key).second) {
        PutTogether(entries, std::exchange(together, {}), terms, &results);
        keys = {entries[i].key};
      }
      together.push_back(i);
    }
    if (!together.empty()) PutTogether(entries, together, terms, &results);
    return results;
  }

  absl::Status CompareAndSet(std::string_view key, std::optional<std::string_view> expected,
                             std::string_view value, absl::Time expires_at,
                             absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(CheckWrite(key, value, deadline));
    const RedisTerms terms(deadline);
    const std::string_view part = FirstPart(key);
    const std::string left = Milliseconds(expires_at);
    // Before the value: a name that cannot be listed would be worse than a part without names.
    OCTOGATE_RETURN_IF_ERROR(
        client_.Call({"EVAL", kNoteParts, "1", PartsKey(), left, part}, terms).status());
    std::string wanted;
    if (expected) wanted = absl::StrCat(ToAbsl(*expected), RedisTrailer(key, *expected));
    OCTOGATE_ASSIGN_OR_RETURN(
        const RedisReply reply,
        client_.Call({"EVAL", compare_and_set_, "2", ValueKey(key), NamesKey(part),
                      absl::StrCat(ToAbsl(value), RedisTrailer(key, value)), left, PlaceOf(part),
                      expected ? "1" : "", wanted, key.substr(part.size())},
                     terms));
    if (reply.integer == 1) return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("the value ", Quoted(key), " is not the expected one"));
  }

  absl::Status Delete(std::string_view key, absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(Check(key, deadline));
    const std::string_view part = FirstPart(key);
    return client_
        .Call({"EVAL", kDelete, "2", ValueKey(key), NamesKey(part), key.substr(part.size())},
              deadline)
        .status();
  }

  absl::StatusOr<std::vector<std::string>> List(std::string_view prefix, std::string_view after,
                                                size_t limit, absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(CheckDeadline(deadline));
    const RedisTerms terms(deadline);
    std::vector<std::string> parts;
    if (prefix.find('/') != std::string_view::npos) {
      parts.emplace_back(FirstPart(prefix));
    } else {
      OCTOGATE_ASSIGN_OR_RETURN(const RedisReply reply,
                                client_.Call({"ZREVRANGE", PartsKey(), "0", "-1"}, terms));
      for (const RedisReply& part : reply.elements) {
        if (part.text.starts_with(prefix)) parts.push_back(part.text);
      }
    }
    std::vector<std::string> names;
    for (const std::string& part : parts) {
      OCTOGATE_RETURN_IF_ERROR(ListPart(part, prefix, after, limit, terms, &names));
    }
    // "a!" comes before "a/b", though the part "a" comes before "a!".
    std::sort(names.begin(), names.end());
    if (names.size() > limit) names.resize(limit);
    return names;
  }

  absl::Status Notify(std::string_view topic, absl::Time deadline) override {
    return client_.Call({"PUBLISH", Channel(topic), ""}, deadline).status();
  }

  std::unique_ptr<StoreWatch> Watch(std::string_view topic,
                                    std::function<void()> on_notified) override {
    return std::make_unique<RedisWatch>(client_.Subscribe(Channel(topic), std::move(on_notified)));
  }

 private:
  std::string Channel(std::string_view topic) const {
    return absl::StrCat(options_.prefix, "@", ToAbsl(topic));
  }
  absl::Status CheckDeadline(absl::Time deadline) const {
    if (options_.clock() < deadline) return absl::OkStatus();
    return absl::DeadlineExceededError("the deadline has passed");
  }
  absl::Status Check(std::string_view key, absl::Time deadline) const {
    if (key.empty() || key.size() > kMaxKeyBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("a key has 1 to ", kMaxKeyBytes, " bytes, not ", key.size()));
    }
    return CheckDeadline(deadline);
  }
  absl::Status CheckWrite(std::string_view key, std::string_view value, absl::Time deadline) const {
    OCTOGATE_RETURN_IF_ERROR(Check(key, deadline));
    if (value.size() <= options_.max_value_bytes) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrCat("a value of ", value.size(), " bytes; at most ", options_.max_value_bytes));
  }

  // Redis takes the part between the first "{" and the "}" behind it for the hash slot. A part
  // holds no "/", and behind the "}" of a value's key comes ":", then "/" or the end: no key of
  // names is one of a value.
  std::string SlotOf(std::string_view part) const {
    return absl::StrCat(options_.prefix, "{/", ToAbsl(part), "}");
  }
  std::string ValueKey(std::string_view key) const {
    const std::string_view part = FirstPart(key);
    return absl::StrCat(PlaceOf(part), ToAbsl(key.substr(part.size())));
  }
  std::string PlaceOf(std::string_view part) const { return absl::StrCat(SlotOf(part), ":"); }
  std::string NamesKey(std::string_view part) const { return absl::StrCat(SlotOf(part), "#"); }
  std::string PartsKey() const { return absl::StrCat(options_.prefix, "parts"); }

  std::string Milliseconds(absl::Time expires_at) const {
    if (expires_at == absl::InfiniteFuture()) return "";
    const int64_t left = absl::ToInt64Milliseconds(expires_at - options_.clock());
    return absl::StrCat(std::max<int64_t>(left, 1));
  }

  // Of what GET has answered, which is used up.
  static absl::StatusOr<std::string> ValueOf(std::string_view key,
                                             absl::StatusOr<RedisReply>& reply) {
    if (!reply.ok()) return reply.status();
    if (reply->kind != RedisReply::Kind::kText) {
      return absl::NotFoundError(absl::StrCat("no value ", Quoted(key)));
    }
    return CheckedRedisValue(key, std::move(reply->text));
  }

  // Puts those of the entries that `which` names, each of another key, and notes their results: the
  // names of their parts, and values with their names. Values of one part go together: a
  // transaction of many costs the server less than many of one.
  void PutTogether(std::span<const Entry> entries, const std::vector<size_t>& which,
                   RedisTerms terms, std::vector<absl::Status>* results) {
    if (which.size() > 1) terms.kind = RedisCallKind::kBulk;
    const absl::Time now = options_.clock();
    struct Texts {
      std::string value_key, milliseconds;
      RedisSeal seal;
    };
    std::vector<Texts> texts;
    texts.reserve(which.size());  // the commands point into them
    struct Part {
      std::string names_key, place, milliseconds;
      absl::Time expires_at = absl::InfinitePast();  // the last of its values
      std::optional<size_t> transaction;             // the last
      size_t bytes = 0;                              // of values in it
    };
    std::map<std::string_view, Part> parts;
    std::vector<RedisClient::Transaction> transactions;
    std::vector<std::vector<std::string_view>> noted;  // by transaction: keys with new names
    std::vector<size_t> transaction_of;                // by index into `which`
    transaction_of.reserve(which.size());
    for (const size_t i : which) {
      const Entry& entry = entries[i];
      const std::string_view part_name = FirstPart(entry.key);
      const auto [found, is_new] = parts.try_emplace(part_name);
      Part& part = found->second;
      if (is_new) part = {.names_key = NamesKey(part_name), .place = PlaceOf(part_name)};
      Texts& text =
          texts.emplace_back(Texts{ValueKey(entry.key), "", RedisSeal(entry.key, entry.value)});
      if (entry.expires_at <= now) {
        transaction_of.push_back(transactions.size());
        transactions.push_back({{"DEL", text.value_key},
                                {"ZREM", part.names_key, entry.key.substr(part_name.size())}});
        continue;
      }
      RedisClient::Command set{"SET", text.value_key, RedisArgument::Sealed(text.seal)};
      text.milliseconds = Milliseconds(entry.expires_at);
      if (!text.milliseconds.empty()) set.insert(set.end(), {"PX", text.milliseconds});
      if (!part.transaction || part.bytes + entry.value.size() > kTogetherBytes ||
          transactions[*part.transaction].size() >= kTogether) {
        part.transaction = transactions.size();
        part.bytes = 0;
        transactions.emplace_back();
      }
      transactions[*part.transaction].push_back(std::move(set));
      part.expires_at = std::max(part.expires_at, entry.expires_at);
      part.bytes += entry.value.size();
      noted.resize(transactions.size());
      noted[*part.transaction].push_back(entry.key);
      transaction_of.push_back(*part.transaction);
    }
    // What the scripts do of names that stay takes a fraction of a script's time.
    const std::string parts_key = PartsKey();
    RedisClient::Command note_parts{"EVAL", kNoteParts, "1", parts_key};
    RedisClient::Command add_parts{"ZADD", parts_key, "GT"};
    for (auto& [name, part] : parts) {
      if (!part.transaction) continue;
      part.milliseconds = Milliseconds(part.expires_at);
      if (part.milliseconds.empty()) {
        add_parts.insert(add_parts.end(), {"inf", name});
      } else {
        note_parts.insert(note_parts.end(), {part.milliseconds, name});
      }
    }
    for (size_t number = 0; number < noted.size(); ++number) {
      if (noted[number].empty()) continue;
      const Part& part = parts.at(FirstPart(noted[number].front()));
      const bool stays = part.milliseconds.empty();
      RedisClient::Command note{"EVAL",         note_names_,       "1",
                                part.names_key, part.milliseconds, part.place};
      if (stays) note = {"ZADD", part.names_key};
      for (const std::string_view key : noted[number]) {
        if (stays) note.emplace_back("0");
        note.emplace_back(key.substr(FirstPart(key).size()));
      }
      transactions[number].push_back(std::move(note));
      if (stays) transactions[number].push_back({"PERSIST", part.names_key});
    }
    RedisClient::Transaction parts_noted;
    if (add_parts.size() > 3) {
      parts_noted.push_back(std::move(add_parts));
      parts_noted.push_back({"PERSIST", parts_key});
    }
    if (note_parts.size() > 4) parts_noted.push_back(std::move(note_parts));
    const bool adds_parts = !parts_noted.empty();
    if (adds_parts) transactions.push_back(std::move(parts_noted));
    const std::vector<absl::StatusOr<RedisReply>> replies =
        client_.TransactMany(transactions, terms);
    // A name that cannot be listed would be a value that nobody finds.
    const absl::Status added = adds_parts ? replies.back().status() : absl::OkStatus();
    for (size_t n = 0; n < which.size(); ++n) {
      const absl::Status& put = replies[transaction_of[n]].status();
      (*results)[which[n]] = put.ok() ? added : put;
    }
  }

  // Appends the names of one part that the prefix and `after` let through.
  absl::Status ListPart(const std::string& part, std::string_view prefix, std::string_view after,
                        size_t limit, RedisTerms terms, std::vector<std::string>* names) {
    // Of names without the part.
    const auto rest_of = [&part](std::string_view whole) {
      return whole.substr(std::min(part.size(), whole.size()));
    };
    const std::string_view rest_prefix = rest_of(prefix);
    std::string from = absl::StrCat("[", ToAbsl(rest_prefix));
    if (after >= part) {
      // Everything of the part that begins otherwise is on one side of `after`.
      if (after.starts_with(part)) {
        if (rest_of(after) >= rest_prefix) from = absl::StrCat("(", ToAbsl(rest_of(after)));
      } else {
        return absl::OkStatus();
      }
    }
    OCTOGATE_ASSIGN_OR_RETURN(
        const RedisReply reply,
        client_.Call({"EVAL", kList, "1", NamesKey(part), from, BehindAll(rest_prefix),
                      std::to_string(limit), PlaceOf(part)},
                     terms));
    for (const RedisReply& name : reply.elements) {
      if (!name.text.starts_with(rest_prefix)) break;
      // A server that does not do as it is told is not believed.
      if (part.size() + name.text.size() > kMaxKeyBytes) continue;
      std::string whole = part + name.text;
      if (whole > after) names->push_back(std::move(whole));
    }
    return absl::OkStatus();
  }

  RedisClient& client_;
  const RedisStoreOptions options_;
  const std::string note_names_ = absl::StrCat(ToAbsl(kNote), ToAbsl(kNoteNames));
  const std::string compare_and_set_ = absl::StrCat(ToAbsl(kNote), ToAbsl(kCompareAndSet));
};

}  // namespace

std::unique_ptr<Store> MakeRedisStore(RedisClient* client, RedisStoreOptions options) {
  return std::make_unique<RedisStore>(client, std::move(options));
}

absl::Status CheckRedisKeepsValues(RedisClient& client, absl::Time deadline) {
  const RedisTerms terms(deadline, RedisCallKind::kAdmin);
  std::map<std::string, std::map<std::string_view, std::string>> settings;  // by server
  absl::Status unknown;
  for (const std::string_view name : {"maxmemory-policy", "appendonly", "save"}) {
    for (RedisClient::ServerReply& server : client.CallServers({"CONFIG", "GET", name}, terms)) {
      if (server.reply.ok() && server.reply->elements.size() == 2) {
        settings[server.server][name] = std::move(server.reply->elements[1].text);
      }
      if (IsRedisFailure(server.reply.status())) unknown = server.reply.status();
    }
  }
  std::vector<std::string> wrong;
  for (auto& [server, its] : settings) {
    if (absl::StartsWith(its["maxmemory-policy"], "allkeys")) {
      wrong.push_back(absl::StrCat(server, " has maxmemory-policy ", its["maxmemory-policy"],
                                   " and may drop graphs; set noeviction or volatile-lru there"));
    } else if (its["appendonly"] == "no" && its.contains("save") && its["save"].empty()) {
      wrong.push_back(absl::StrCat(
          server, " keeps nothing over a restart, graphs included; set appendonly yes there"));
    }
  }
  if (wrong.empty()) return unknown;
  return absl::FailedPreconditionError(absl::StrJoin(wrong, ". "));
}

}  // namespace octogate
