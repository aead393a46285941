#include "workers/server/prompt_blocks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "common/hash128.h"

namespace octogate::workers {
namespace {

// Part of every hash: another number for another way to frame or to cut.
constexpr uint32_t kFormat = 1;

// No byte of UTF-8 text.
constexpr std::string_view kEndOfRole = "\xFE";
constexpr std::string_view kEndOfMessage = "\xFF";
constexpr std::string_view kQueryBegin = "\xFD";
constexpr std::string_view kQueryEnd = "\xFC";
constexpr std::string_view kQuery = "{query}";

uint64_t HashOf(std::string_view bytes) {
  return HashBytes(std::as_bytes(std::span(bytes.data(), bytes.size())), kFormat).high;
}

// Cuts a text that comes in pieces into blocks, without a copy of what lies in one piece.
class Chain {
 public:
  Chain(uint64_t state, PromptBlocks* result) : state_(state), result_(*result) {}

  void Append(std::string_view piece) {
    result_.bytes += static_cast<int64_t>(piece.size());
    if (full()) return;
    if (pending_ > 0) {
      const size_t taken = std::min(piece.size(), kSize - pending_);
      std::memcpy(block_.data() + pending_, piece.data(), taken);
      pending_ += taken;
      piece.remove_prefix(taken);
      if (pending_ < kSize) return;
      AddBlock({block_.data(), kSize});
      pending_ = 0;
    }
    while (piece.size() >= kSize && !full()) {
      AddBlock(piece.substr(0, kSize));
      piece.remove_prefix(kSize);
    }
    if (full() || piece.empty()) return;
    std::memcpy(block_.data(), piece.data(), piece.size());
    pending_ = piece.size();
  }

 private:
  static constexpr size_t kSize = PromptBlocks::kBlockBytes;

  bool full() const { return result_.hashes.size() == PromptBlocks::kMaxBlocks; }

  void AddBlock(std::string_view block) {
    // The finaliser of SplitMix64 (Steele, Lea and Flood 2014) joins a block to those before it.
    state_ = (state_ ^ HashOf(block)) + 0x9e3779b97f4a7c15;
    state_ = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9;
    state_ = (state_ ^ (state_ >> 27)) * 0x94d049bb133111eb;
    state_ ^= state_ >> 31;
    result_.hashes.push_back(static_cast<uint32_t>(state_ >> 32));
  }

  uint64_t state_;
  PromptBlocks& result_;
  std::array<char, kSize> block_;
  size_t pending_ = 0;
};

}  // namespace

PromptBlocks HashPrompt(const v1::WorkerPrompt& prompt, std::string_view cache_salt) {
  PromptBlocks result;
  const bool is_template = prompt.has_template_();
  Chain chain(HashOf(cache_salt) + (is_template ? 1 : 0), &result);
  if (is_template) {
    std::string_view rest = prompt.template_().template_();
    for (size_t at; (at = rest.find(kQuery)) != std::string_view::npos;
         rest.remove_prefix(at + kQuery.size())) {
      chain.Append(rest.substr(0, at));
      chain.Append(kQueryBegin);
      chain.Append(prompt.template_().query());
      chain.Append(kQueryEnd);
      // The text may be as long as the product of both, and no more of it counts.
      if (result.hashes.size() == PromptBlocks::kMaxBlocks) break;
    }
    chain.Append(rest);
    return result;
  }
  for (const v1::Message& message : prompt.conversation().messages()) {
    chain.Append(message.role());
    chain.Append(kEndOfRole);
    chain.Append(message.content());
    chain.Append(kEndOfMessage);
  }
  return result;
}

}  // namespace octogate::workers
