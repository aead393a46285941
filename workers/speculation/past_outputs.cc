#include "workers/speculation/past_outputs.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/hash128.h"
#include "common/little_endian_bytes.h"

namespace octogate::workers {
namespace {

constexpr uint32_t kMagic = 0x4655534F;  // "OSUF"
constexpr uint32_t kFormat = 1;
constexpr size_t kHeadBytes = 16;
constexpr size_t kOutputHeadBytes = 12;
constexpr uint64_t kMaxVersion = uint64_t{1} << 56;
// How far versions may be ahead of those that are known: what is further ahead was made up.
constexpr uint64_t kMaxLead = uint64_t{1} << 44;
// A drafter takes some hundred nanoseconds for a token.
constexpr size_t kTaughtTokens = 512;
// Of an output that is told in parts, so many tokens are told twice: contexts across the border.
constexpr size_t kOverlap = 16;
constexpr size_t kMaxUntold = 2 * kMaxPastOutput;  // tokens

}  // namespace

std::string ExportOutputs(std::span<const PastOutput> outputs, int vocab_size) {
  std::string bytes;
  AppendLittleEndian(kMagic, bytes);
  AppendLittleEndian(kFormat, bytes);
  AppendLittleEndian(static_cast<uint32_t>(vocab_size), bytes);
  AppendLittleEndian(static_cast<uint32_t>(outputs.size()), bytes);
  for (const PastOutput& output : outputs) {
    AppendLittleEndian(output.version, bytes);
    AppendLittleEndian(static_cast<uint32_t>(output.tokens.size()), bytes);
    for (int32_t token : output.tokens) AppendLittleEndian(static_cast<uint32_t>(token), bytes);
  }
  return bytes;
}

absl::StatusOr<std::vector<PastOutput>> ImportOutputs(std::string_view bytes, int vocab_size,
                                                      uint64_t most_version) {
  const auto wrong = [](const char* what) { return absl::InvalidArgumentError(what); };
  if (bytes.size() < kHeadBytes || TakeLittleEndian<uint32_t>(bytes) != kMagic) {
    return wrong("not an export of past outputs");
  }
  if (TakeLittleEndian<uint32_t>(bytes) != kFormat) {
    return wrong("past outputs were exported in another format; export them again");
  }
  if (TakeLittleEndian<uint32_t>(bytes) != static_cast<uint32_t>(vocab_size)) {
    return wrong("past outputs are of another vocabulary");
  }
  const uint32_t count = TakeLittleEndian<uint32_t>(bytes);
  if (count > bytes.size() / kOutputHeadBytes) return wrong("the export is cut off");
  std::vector<PastOutput> outputs;
  for (uint32_t i = 0; i < count; ++i) {
    if (bytes.size() < kOutputHeadBytes) return wrong("the export is cut off");
    PastOutput output{.version = TakeLittleEndian<uint64_t>(bytes), .tokens = {}};
    const uint32_t tokens = TakeLittleEndian<uint32_t>(bytes);
    if (output.version == 0 || output.version > most_version || tokens == 0 ||
        tokens > kMaxPastOutput) {
      return wrong("the export has a wrong output");
    }
    if (bytes.size() / sizeof(int32_t) < tokens) return wrong("the export is cut off");
    output.tokens.reserve(tokens);
    for (uint32_t t = 0; t < tokens; ++t) {
      const auto token = static_cast<int32_t>(TakeLittleEndian<uint32_t>(bytes));
      if (token < 0 || token >= vocab_size) return wrong("the export has a wrong token");
      output.tokens.push_back(token);
    }
    outputs.push_back(std::move(output));
  }
  if (!bytes.empty()) return wrong("the export is followed by other bytes");
  return outputs;
}

void UntoldOutputs::Add(std::span<const int32_t> output) {
  const auto is_token = [this](int32_t token) { return token >= 0 && token < vocab_size_; };
  if (output.empty() || !std::all_of(output.begin(), output.end(), is_token)) return;
  outputs_.push_back({1, {output.begin(), output.end()}});
  tokens_ += output.size();
  while (tokens_ > kMaxUntold) DropFirst();
}

std::string UntoldOutputs::Take(size_t max_bytes) {
  std::vector<PastOutput> taken;
  size_t bytes = 0;
  while (!outputs_.empty()) {
    bytes += outputs_.front().tokens.size() * sizeof(int32_t);
    if (bytes > max_bytes && !taken.empty()) break;
    taken.push_back(outputs_.front());
    DropFirst();
  }
  return taken.empty() ? std::string() : ExportOutputs(taken, vocab_size_);
}

uint64_t UntoldOutputs::bytes() const {
  return sizeof(PastOutput) * outputs_.size() + sizeof(int32_t) * tokens_;
}

void UntoldOutputs::DropFirst() {
  tokens_ -= outputs_.front().tokens.size();
  outputs_.pop_front();
}

PastOutputsState::PastOutputsState(int vocab_size, size_t max_tokens)
    : vocab_size_(vocab_size), max_tokens_(std::max(max_tokens, kMaxPastOutput)) {}

bool PastOutputsState::Add(const Key& key, std::vector<int32_t> tokens) {
  if (outputs_.contains(key)) return false;
  const bool is_full = tokens_ + tokens.size() > max_tokens_;
  if (is_full && !outputs_.empty() && key < outputs_.begin()->first) return false;
  tokens_ += tokens.size();
  outputs_.emplace(key, std::move(tokens));
  while (tokens_ > max_tokens_) {
    tokens_ -= outputs_.begin()->second.size();
    outputs_.erase(outputs_.begin());
  }
  version_ = std::max(version_, key.version);
  ++changes_;
  return true;
}

absl::Status PastOutputsState::Learned(std::string_view bytes) {
  absl::StatusOr<std::vector<PastOutput>> outputs = ImportOutputs(bytes, vocab_size_, kMaxVersion);
  if (!outputs.ok()) return outputs.status();
  for (PastOutput& output : *outputs) {
    const uint64_t digest = HashBytes(std::as_bytes(std::span(output.tokens)), 0).low;
    const Key key{std::min(version_ + 1, kMaxVersion), digest};
    if (Add(key, std::move(output.tokens))) for_others_.push_back(key);
  }
  while (for_others_.size() > 2 * outputs_.size()) for_others_.pop_front();
  return absl::OkStatus();
}

absl::Status PastOutputsState::Heard(std::string_view bytes) {
  absl::StatusOr<std::vector<PastOutput>> outputs =
      ImportOutputs(bytes, vocab_size_, std::min(version_ + kMaxLead, kMaxVersion));
  if (!outputs.ok()) return outputs.status();
  for (PastOutput& output : *outputs) {
    const uint64_t digest = HashBytes(std::as_bytes(std::span(output.tokens)), 0).low;
    const Key key{output.version, digest};
    if (Add(key, std::move(output.tokens))) for_drafter_.push_back(key);
  }
  while (for_drafter_.size() > 2 * outputs_.size()) {
    for_drafter_.pop_front();
    told_of_first_ = 0;
  }
  return absl::OkStatus();
}

std::string PastOutputsState::Export() const {
  std::vector<PastOutput> outputs;
  for (const auto& [key, tokens] : outputs_) outputs.push_back({key.version, tokens});
  return ExportOutputs(outputs, vocab_size_);
}

std::string PastOutputsState::TakeForOthers(size_t max_bytes) {
  std::vector<PastOutput> outputs;
  size_t bytes = kHeadBytes;
  while (!for_others_.empty()) {
    const Key key = for_others_.front();
    const auto found = outputs_.find(key);
    if (found != outputs_.end()) {
      bytes += kOutputHeadBytes + sizeof(int32_t) * found->second.size();
      if (bytes > max_bytes && !outputs.empty()) break;
      outputs.push_back({key.version, found->second});
    }
    for_others_.pop_front();
  }
  return outputs.empty() ? std::string() : ExportOutputs(outputs, vocab_size_);
}

std::string PastOutputsState::TakeForDrafter(size_t max_bytes) {
  const size_t most = std::clamp<size_t>(max_bytes / sizeof(int32_t), 2 * kOverlap, kTaughtTokens);
  while (!for_drafter_.empty()) {
    const Key key = for_drafter_.front();
    const auto found = outputs_.find(key);
    if (found == outputs_.end()) {
      for_drafter_.pop_front();
      told_of_first_ = 0;
      continue;
    }
    const std::span<const int32_t> tokens = found->second;
    const size_t begin = told_of_first_ < kOverlap ? 0 : told_of_first_ - kOverlap;
    const size_t end = std::min(begin + most, tokens.size());
    told_of_first_ = end;
    if (end == tokens.size()) {
      for_drafter_.pop_front();
      told_of_first_ = 0;
    }
    const auto part = tokens.subspan(begin, end - begin);
    const PastOutput output{key.version, {part.begin(), part.end()}};
    return ExportOutputs({&output, 1}, vocab_size_);
  }
  return "";
}

void PastOutputsState::DrafterForgot() {
  for_drafter_.clear();
  told_of_first_ = 0;
  for (const auto& [key, _] : outputs_) for_drafter_.push_back(key);
}

}  // namespace octogate::workers
