// What a page of keys and values is in a store: its name, and its bytes.
//
// Names are chained: the name of a page is the first half of SHA-256 over the name of the page
// before it and the page's token ids. The chain begins with an HMAC over the format of pages, the
// context of the sequence (see PrefixCache) and what was flushed (see EpochOf), so that nothing of
// another model, format, version or tenant's salt, and nothing from before a flush, is ever looked
// at. With a secret, names cannot be computed without it.
//
// A value has a tag, a header and the page. The header spells what the name was made of, the token
// ids themselves included, and is compared byte by byte: a value under a wrong name, be it by a
// collision, is not believed. The tag covers header and page: an HMAC where there is a secret;
// without one a checksum, which finds accidents, but not a forger: then whoever can write to the
// store is trusted to write what the model computes.
//
// Thread safety: const once made.
#ifndef OCTOGATE_WORKERS_CACHE_PAGE_CODEC_H_
#define OCTOGATE_WORKERS_CACHE_PAGE_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "workers/engine/page_store.h"

namespace octogate::workers {

class PageCodec {
 public:
  static constexpr uint32_t kVersion = 3;
  static constexpr size_t kIdBytes = 16;

  // One page of a chain.
  struct Page {
    int index = 0;
    std::string name;    // in the store; all pages of a chain are in one hash slot of a cluster
    std::string header;  // of its value
  };

  PageCodec(PageFormat format, std::string prefix, std::string secret);

  std::vector<Page> Describe(const PageChain& chain, std::string_view epoch) const;

  // A value with the page's bytes undefined; they are at value_offset(). Seal has to follow.
  std::string NewValue(const Page& page) const;
  void Seal(std::string& value) const;
  // Whether this is what Seal has made of that page.
  bool Holds(const Page& page, std::string_view value) const;

  const PageFormat& format() const { return format_; }
  // Names the format, its version and the secret, in hexadecimal digits.
  std::string FormatName() const;
  size_t value_offset() const { return value_offset_; }
  size_t value_bytes() const { return value_offset_ + format_.page_bytes; }

 private:
  std::string Tag(std::string_view covered) const;

  const PageFormat format_;
  const std::string prefix_;
  const std::string secret_;
  const std::string format_id_;
  const size_t value_offset_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_CACHE_PAGE_CODEC_H_
