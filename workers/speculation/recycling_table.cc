#include "workers/speculation/recycling_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "common/little_endian_bytes.h"

namespace octogate::workers {
namespace {

// Of an export, all numbers little-endian: magic, format, vocabulary, row size and number of rows
// as 32 bits each; then of each row the token before (-1: a row of one token), the token and the
// number of candidates as 32 bits each, the version as 64 bits, and the candidates as 32 bits each.
constexpr uint32_t kMagic = 0x4254524F;  // "ORTB"
constexpr uint32_t kFormat = 1;
constexpr size_t kHeadBytes = 20;
constexpr size_t kRowHeadBytes = 20;
// No table comes to this one by counting: it keeps merged versions from overflowing the clock.
constexpr uint64_t kMaxVersion = uint64_t{1} << 56;

uint64_t PairKey(int32_t previous, int32_t token) {
  return ((static_cast<uint64_t>(static_cast<uint32_t>(previous)) << 32) |
          static_cast<uint32_t>(token)) +
         1;
}

// SplitMix64's finalizer: the same on each machine and in each run.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

struct ImportedRow {
  int32_t previous = -1;
  int32_t token = 0;
  uint64_t version = 0;
  std::array<int32_t, kMaxRecyclingRow> candidates;  // -1 behind the last
};

// Takes a row from the bytes.
absl::Status ReadRow(const RecyclingTable& table, uint64_t most_version, std::string_view& bytes,
                     ImportedRow& row) {
  if (bytes.size() < kRowHeadBytes) {
    return absl::InvalidArgumentError("the recycling table is cut off");
  }
  row.previous = static_cast<int32_t>(TakeLittleEndian<uint32_t>(bytes));
  row.token = static_cast<int32_t>(TakeLittleEndian<uint32_t>(bytes));
  const uint32_t candidates = TakeLittleEndian<uint32_t>(bytes);
  row.version = TakeLittleEndian<uint64_t>(bytes);
  if ((row.previous != -1 && !table.IsToken(row.previous)) || !table.IsToken(row.token) ||
      row.version == 0 || row.version > most_version || candidates == 0 ||
      candidates > static_cast<uint32_t>(table.row_size())) {
    return absl::InvalidArgumentError("the recycling table has a wrong row");
  }
  if (bytes.size() / sizeof(int32_t) < candidates) {
    return absl::InvalidArgumentError("the recycling table is cut off");
  }
  row.candidates.fill(-1);
  const auto begin = row.candidates.begin();
  for (auto place = begin; place != begin + static_cast<std::ptrdiff_t>(candidates); ++place) {
    const auto candidate = static_cast<int32_t>(TakeLittleEndian<uint32_t>(bytes));
    if (!table.IsToken(candidate) || std::find(begin, place, candidate) != place) {
      return absl::InvalidArgumentError("the recycling table has a wrong candidate");
    }
    *place = candidate;
  }
  return absl::OkStatus();
}

}  // namespace

RecyclingTable::RecyclingTable(const RecyclingTableOptions& options)
    : vocab_size_(std::max(options.vocab_size, 1)),
      row_size_(std::clamp(options.row_size, 1, kMaxRecyclingRow)) {
  const auto rows = static_cast<size_t>(vocab_size_);
  const auto width = static_cast<size_t>(row_size_);
  const size_t pairs =
      (static_cast<size_t>(std::max(options.context_rows, 0)) + kWays - 1) / kWays * kWays;
  rows_.assign(rows * width, -1);
  versions_.assign(rows, 0);
  pairs_.assign(pairs, 0);
  pair_rows_.assign(pairs * width, -1);
  pair_versions_.assign(pairs, 0);
  changed_.assign((rows + pairs + 63) / 64, 0);
}

int32_t* RecyclingTable::Tokens(std::vector<int32_t>& rows, size_t row) const {
  return rows.data() + row * static_cast<size_t>(row_size_);
}

std::span<const int32_t> RecyclingTable::Filled(const std::vector<int32_t>& rows,
                                                size_t row) const {
  const int32_t* begin = rows.data() + row * static_cast<size_t>(row_size_);
  return {begin, std::find(begin, begin + row_size_, -1)};
}

size_t RecyclingTable::FirstWay(uint64_t key) const {
  return static_cast<size_t>(Mix(key) % (pairs_.size() / kWays)) * kWays;
}

std::span<const int32_t> RecyclingTable::After(int32_t token) const {
  if (!IsToken(token)) return {};
  return Filled(rows_, static_cast<size_t>(token));
}

std::span<const int32_t> RecyclingTable::After(int32_t previous, int32_t token) const {
  const size_t row = FindPair(previous, token);
  return row == pairs_.size() ? std::span<const int32_t>() : Filled(pair_rows_, row);
}

size_t RecyclingTable::FindPair(int32_t previous, int32_t token) const {
  if (pairs_.empty() || !IsToken(previous) || !IsToken(token)) return pairs_.size();
  const uint64_t key = PairKey(previous, token);
  const size_t first = FirstWay(key);
  for (size_t way = first; way < first + kWays; ++way) {
    if (pairs_[way] == key) return way;
  }
  return pairs_.size();
}

RecyclingTable::Row RecyclingTable::TokenRow(int32_t token) {
  const auto row = static_cast<size_t>(token);
  return {Tokens(rows_, row), &versions_[row]};
}

RecyclingTable::Row RecyclingTable::PairRow(uint64_t key, uint64_t version) {
  if (pairs_.empty()) return {};
  const size_t first = FirstWay(key);
  size_t way = first;
  for (size_t i = first; i < first + kWays; ++i) {
    if (pairs_[i] == key) return {Tokens(pair_rows_, i), &pair_versions_[i]};
    // A free row has version 0 and key 0, less than any.
    if (std::pair(pair_versions_[i], pairs_[i]) < std::pair(pair_versions_[way], pairs_[way])) {
      way = i;
    }
  }
  if (std::pair(version, key) < std::pair(pair_versions_[way], pairs_[way])) return {};
  pairs_[way] = key;
  pair_versions_[way] = 0;
  int32_t* tokens = Tokens(pair_rows_, way);
  std::fill(tokens, tokens + row_size_, -1);
  return {tokens, &pair_versions_[way]};
}

void RecyclingTable::Set(int32_t previous, int32_t token, std::span<const int32_t> candidates) {
  if (!IsToken(token)) return;
  std::array<int32_t, kMaxRecyclingRow> row;
  row.fill(-1);
  const auto begin = row.begin();
  auto end = begin;
  for (int32_t candidate : candidates) {
    if (end - begin == row_size_) break;
    if (IsToken(candidate) && std::find(begin, end, candidate) == end) *end++ = candidate;
  }
  if (end == begin) return;
  version_ = std::min(version_ + 1, kMaxVersion);
  const Row of_token = TokenRow(token);
  std::copy(begin, begin + row_size_, of_token.tokens);
  *of_token.version = version_;
  MarkChanged(static_cast<size_t>(token));
  if (!IsToken(previous)) return;
  const Row of_pair = PairRow(PairKey(previous, token), version_);
  if (of_pair.tokens == nullptr) return;
  std::copy(begin, begin + row_size_, of_pair.tokens);
  *of_pair.version = version_;
  MarkChanged(versions_.size() + static_cast<size_t>(of_pair.version - pair_versions_.data()));
}

void RecyclingTable::PutFirst(int32_t next, std::span<int32_t> row) {
  auto place = std::find(row.begin(), row.end(), next);
  if (place == row.end()) --place;
  std::move_backward(row.begin(), place, place + 1);
  row.front() = next;
}

void RecyclingTable::Prepend(int32_t previous, int32_t token, int32_t next) {
  if (!IsToken(token) || !IsToken(next)) return;
  version_ = std::min(version_ + 1, kMaxVersion);
  const auto width = static_cast<size_t>(row_size_);
  const Row of_token = TokenRow(token);
  PutFirst(next, {of_token.tokens, width});
  *of_token.version = version_;
  MarkChanged(static_cast<size_t>(token));
  if (!IsToken(previous)) return;
  const Row of_pair = PairRow(PairKey(previous, token), version_);
  if (of_pair.tokens == nullptr) return;
  PutFirst(next, {of_pair.tokens, width});
  *of_pair.version = version_;
  MarkChanged(versions_.size() + static_cast<size_t>(of_pair.version - pair_versions_.data()));
}

std::string RecyclingTable::ExportNumbered(std::vector<size_t> numbers) const {
  const size_t tokens = versions_.size();
  // In an order that does not depend on which way a pair came to.
  std::sort(numbers.begin(), numbers.end(), [&](size_t a, size_t b) {
    if (a < tokens || b < tokens) return a < b;
    return pairs_[a - tokens] < pairs_[b - tokens];
  });
  std::string bytes;
  bytes.reserve(kHeadBytes + numbers.size() * (kRowHeadBytes + 4 * static_cast<size_t>(row_size_)));
  AppendLittleEndian(kMagic, bytes);
  AppendLittleEndian(kFormat, bytes);
  AppendLittleEndian(static_cast<uint32_t>(vocab_size_), bytes);
  AppendLittleEndian(static_cast<uint32_t>(row_size_), bytes);
  AppendLittleEndian(static_cast<uint32_t>(numbers.size()), bytes);
  for (const size_t number : numbers) {
    const bool is_pair = number >= tokens;
    const size_t row = is_pair ? number - tokens : number;
    const uint64_t pair = is_pair ? pairs_[row] - 1 : 0;
    const std::span<const int32_t> candidates = Filled(is_pair ? pair_rows_ : rows_, row);
    AppendLittleEndian(is_pair ? static_cast<uint32_t>(pair >> 32) : static_cast<uint32_t>(-1),
                       bytes);
    AppendLittleEndian(static_cast<uint32_t>(is_pair ? pair : row), bytes);
    AppendLittleEndian(static_cast<uint32_t>(candidates.size()), bytes);
    AppendLittleEndian((is_pair ? pair_versions_ : versions_)[row], bytes);
    for (int32_t candidate : candidates)
      AppendLittleEndian(static_cast<uint32_t>(candidate), bytes);
  }
  return bytes;
}

std::string RecyclingTable::Export(uint64_t since) const {
  std::vector<size_t> numbers;
  for (size_t row = 0; row < versions_.size(); ++row) {
    if (versions_[row] > since) numbers.push_back(row);
  }
  for (size_t row = 0; row < pairs_.size(); ++row) {
    if (pair_versions_[row] > since) numbers.push_back(versions_.size() + row);
  }
  return ExportNumbered(std::move(numbers));
}

void RecyclingTable::MarkChanged(size_t number) {
  changed_[number / 64] |= uint64_t{1} << (number % 64);
}

std::string RecyclingTable::TakeChanged(size_t most_rows) {
  most_rows = std::max<size_t>(most_rows, 1);
  std::vector<size_t> numbers;
  for (size_t i = 0; i < changed_.size(); ++i) {
    uint64_t& word = changed_[changed_word_];
    while (word != 0 && numbers.size() < most_rows) {
      numbers.push_back(changed_word_ * 64 + static_cast<size_t>(std::countr_zero(word)));
      word &= word - 1;
    }
    if (numbers.size() == most_rows) break;
    changed_word_ = (changed_word_ + 1) % changed_.size();
  }
  return numbers.empty() ? std::string() : ExportNumbered(std::move(numbers));
}

size_t RecyclingTable::NumberOf(const RecyclingContext& context) const {
  if (context.previous != -1) {
    return versions_.size() + FindPair(context.previous, context.token);
  }
  if (!IsToken(context.token)) return rows();
  const auto row = static_cast<size_t>(context.token);
  return versions_[row] > 0 ? row : rows();
}

bool RecyclingTable::Has(const RecyclingContext& context) const {
  return NumberOf(context) != rows();
}

size_t RecyclingTable::used_rows() const {
  return rows() - static_cast<size_t>(std::count(versions_.begin(), versions_.end(), uint64_t{0}) +
                                      std::count(pairs_.begin(), pairs_.end(), uint64_t{0}));
}

std::vector<RecyclingContext> RecyclingTable::Contexts() const {
  std::vector<RecyclingContext> contexts;
  for (size_t row = 0; row < versions_.size(); ++row) {
    if (versions_[row] > 0) contexts.push_back({-1, static_cast<int32_t>(row)});
  }
  for (uint64_t key : pairs_) {
    if (key == 0) continue;
    contexts.push_back({static_cast<int32_t>((key - 1) >> 32), static_cast<int32_t>(key - 1)});
  }
  return contexts;
}

std::string RecyclingTable::ExportRows(std::span<const RecyclingContext> contexts) const {
  std::vector<size_t> numbers;
  for (const RecyclingContext& context : contexts) {
    const size_t number = NumberOf(context);
    if (number != rows()) numbers.push_back(number);
  }
  return ExportNumbered(std::move(numbers));
}

absl::StatusOr<int> RecyclingTable::Merge(std::string_view bytes,
                                          std::vector<RecyclingContext>* changed_rows) {
  const auto wrong = [](const char* what) { return absl::InvalidArgumentError(what); };
  if (bytes.size() < kHeadBytes || TakeLittleEndian<uint32_t>(bytes) != kMagic) {
    return wrong("not an exported recycling table");
  }
  if (TakeLittleEndian<uint32_t>(bytes) != kFormat) {
    return wrong("the recycling table was exported in another format; export it again");
  }
  if (TakeLittleEndian<uint32_t>(bytes) != static_cast<uint32_t>(vocab_size_) ||
      TakeLittleEndian<uint32_t>(bytes) != static_cast<uint32_t>(row_size_)) {
    return wrong("the recycling table is of another vocabulary or row size");
  }
  const uint32_t count = TakeLittleEndian<uint32_t>(bytes);
  if (count > bytes.size() / kRowHeadBytes) return wrong("the recycling table is cut off");
  // All of it is read before anything changes.
  std::string_view rest = bytes;
  const uint64_t most_version = std::min(kMaxVersion, version_ + kMaxRecyclingLead);
  ImportedRow imported;
  for (uint32_t i = 0; i < count; ++i) {
    if (absl::Status status = ReadRow(*this, most_version, rest, imported); !status.ok())
      return status;
  }
  if (!rest.empty()) return wrong("the recycling table is followed by other bytes");

  int changed = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (absl::Status status = ReadRow(*this, most_version, bytes, imported); !status.ok()) {
      return status;
    }
    version_ = std::max(version_, imported.version);
    const Row row = imported.previous == -1
                        ? TokenRow(imported.token)
                        : PairRow(PairKey(imported.previous, imported.token), imported.version);
    if (row.tokens == nullptr || imported.version < *row.version) continue;
    const int32_t* begin = imported.candidates.data();
    if (imported.version == *row.version &&
        std::lexicographical_compare_three_way(begin, begin + row_size_, row.tokens,
                                               row.tokens + row_size_) <= 0) {
      continue;
    }
    std::copy(begin, begin + row_size_, row.tokens);
    *row.version = imported.version;
    ++changed;
    if (changed_rows != nullptr) changed_rows->push_back({imported.previous, imported.token});
  }
  return changed;
}

uint64_t RecyclingTable::bytes() const {
  return sizeof(*this) + sizeof(int32_t) * (rows_.capacity() + pair_rows_.capacity()) +
         sizeof(uint64_t) * (versions_.capacity() + pairs_.capacity() + pair_versions_.capacity() +
                             changed_.capacity());
}

}  // namespace octogate::workers
