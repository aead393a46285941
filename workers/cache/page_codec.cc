#include "workers/cache/page_codec.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/hash128.h"
#include "common/strings.h"

namespace octogate::workers {
namespace {

constexpr std::string_view kMagic = "OKVP";
constexpr size_t kTagBytes = 32;
constexpr uint32_t kChecksumSeed = 0x6f6b7670;

// Of a checksum that reads four words of 16 bytes at a time, which do not wait for one another.
constexpr size_t kLanes = 4;
constexpr size_t kLaneBytes = 16;
constexpr std::array<uint64_t, kLanes> kLaneSeeds = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9,
                                                     0x94d049bb133111eb, 0xd6e8feb86659fd93};

void AppendInt(uint64_t value, int bytes, std::string& to) {
  for (int i = 0; i < bytes; ++i) to.push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t Load(const char* at) {
  uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Both halves of a product of 128 bits: every bit of the factors reaches many of the result.
uint64_t Fold(uint64_t a, uint64_t b) {
  __extension__ using Product = unsigned __int128;
  const Product product = static_cast<Product>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Finds accidents, several times as fast as HashBytes, which reads what is left at the end.
Hash128 Checksum(std::string_view bytes) {
  std::array<uint64_t, kLanes> lanes = kLaneSeeds;
  const size_t block = kLanes * kLaneBytes;
  const size_t whole = bytes.size() / block * block;
  for (size_t at = 0; at < whole; at += block) {
    for (size_t i = 0; i < kLanes; ++i) {
      const char* const from = bytes.data() + at + i * kLaneBytes;
      lanes[i] = Fold(lanes[i] ^ Load(from), Load(from + 8) ^ kLaneSeeds[i]) + i + Load(from);
    }
  }
  std::string rest;
  for (const uint64_t lane : lanes) AppendInt(lane, 8, rest);
  AppendInt(bytes.size(), 8, rest);
  rest += bytes.substr(whole);
  return HashBytes(std::as_bytes(std::span(rest)), kChecksumSeed);
}

// Magic, version, format, name, name of the page before, sizes, token ids.
size_t HeaderBytes(int page_size) {
  return kMagic.size() + 4 + 3 * PageCodec::kIdBytes + 4 + 8 + 4 * static_cast<size_t>(page_size);
}

}  // namespace

PageCodec::PageCodec(PageFormat format, std::string prefix, std::string secret)
    : format_(std::move(format)),
      prefix_(std::move(prefix)),
      secret_(std::move(secret)),
      format_id_(HmacSha256(secret_, absl::StrCat("format ", kVersion, "\n", format_.page_size, " ",
                                                  format_.page_bytes, "\n", format_.description))
                     .substr(0, kIdBytes)),
      value_offset_(kTagBytes + HeaderBytes(format_.page_size)) {}

std::string PageCodec::FormatName() const { return absl::BytesToHexString(format_id_); }

std::vector<PageCodec::Page> PageCodec::Describe(const PageChain& chain,
                                                 std::string_view epoch) const {
  const auto page_size = static_cast<size_t>(format_.page_size);
  std::string parent = HmacSha256(secret_, absl::StrCat("context ", format_id_, epoch.size(), " ",
                                                        ToAbsl(epoch), ToAbsl(chain.context)))
                           .substr(0, kIdBytes);
  std::string slot;  // of a cluster, by what begins the chain
  std::vector<Page> pages;
  pages.reserve(static_cast<size_t>(chain.count));
  std::string hashed;
  for (int index = 0; index < chain.first + chain.count; ++index) {
    std::string tokens;
    tokens.reserve(4 * page_size);
    for (const int32_t token :
         chain.tokens.subspan(static_cast<size_t>(index) * page_size, page_size)) {
      AppendInt(static_cast<uint32_t>(token), 4, tokens);
    }
    hashed = parent;
    hashed += tokens;
    std::string id = Sha256(hashed).substr(0, kIdBytes);
    const auto to_hex = [](const std::string& bytes) { return absl::BytesToHexString(bytes); };
    if (index == 0) slot = absl::StrCat(prefix_, "{", to_hex(id), "}");
    if (index >= chain.first) {
      Page page{.index = index, .name = absl::StrCat(slot, to_hex(id)), .header = ""};
      page.header.reserve(HeaderBytes(format_.page_size));
      page.header += kMagic;
      AppendInt(kVersion, 4, page.header);
      page.header += format_id_;
      page.header += id;
      page.header += parent;
      AppendInt(static_cast<uint64_t>(format_.page_size), 4, page.header);
      AppendInt(format_.page_bytes, 8, page.header);
      page.header += tokens;
      pages.push_back(std::move(page));
    }
    parent = std::move(id);
  }
  return pages;
}

std::string PageCodec::NewValue(const Page& page) const {
  std::string value(value_bytes(), '\0');
  std::copy(page.header.begin(), page.header.end(), value.begin() + kTagBytes);
  return value;
}

void PageCodec::Seal(std::string& value) const {
  const std::string tag = Tag(std::string_view(value).substr(kTagBytes));
  std::copy(tag.begin(), tag.end(), value.begin());
}

bool PageCodec::Holds(const Page& page, std::string_view value) const {
  return value.size() == value_bytes() &&
         value.substr(kTagBytes, page.header.size()) == page.header &&
         value.substr(0, kTagBytes) == Tag(value.substr(kTagBytes));
}

std::string PageCodec::Tag(std::string_view covered) const {
  if (!secret_.empty()) return HmacSha256(secret_, covered);
  const Hash128 hash = Checksum(covered);
  std::string tag;
  AppendInt(hash.high, 8, tag);
  AppendInt(hash.low, 8, tag);
  tag.resize(kTagBytes, '\0');
  return tag;
}

}  // namespace octogate::workers
