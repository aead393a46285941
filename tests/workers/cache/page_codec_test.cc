#include "workers/cache/page_codec.h"

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

const PageFormat kFormat{.description = "a model", .page_size = 3, .page_bytes = 50};

PageChain Chain(const std::vector<int32_t>& tokens, std::string_view context = "") {
  return {.context = context,
          .tokens = tokens,
          .first = 0,
          .count = static_cast<int>(tokens.size()) / kFormat.page_size};
}

std::vector<std::string> Names(const PageCodec& codec, const PageChain& chain,
                               std::string_view epoch = "1 a") {
  std::vector<std::string> names;
  for (const PageCodec::Page& page : codec.Describe(chain, epoch)) names.push_back(page.name);
  return names;
}

std::string Sealed(const PageCodec& codec, const PageCodec::Page& page, char fill) {
  std::string value = codec.NewValue(page);
  std::fill(value.begin() + static_cast<std::ptrdiff_t>(codec.value_offset()), value.end(), fill);
  codec.Seal(value);
  return value;
}

TEST(PageCodecTest, NamesDependOnAllThatComesBefore) {
  const PageCodec codec(kFormat, "p:", "");
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const auto names = Names(codec, Chain(tokens));
  ASSERT_EQ(names.size(), 3u);
  EXPECT_EQ(Names(codec, Chain(tokens)), names);
  // A part of a chain has the names that it has in the whole.
  EXPECT_EQ(Names(codec, {.context = "", .tokens = tokens, .first = 1, .count = 2}),
            std::vector(names.begin() + 1, names.end()));
  std::set<std::string> all(names.begin(), names.end());
  EXPECT_EQ(all.size(), 3u);
  const auto differ = [&](const PageCodec& other, const PageChain& chain, size_t from) {
    const auto others = Names(other, chain);
    for (size_t i = 0; i < from; ++i) EXPECT_EQ(others[i], names[i]);
    for (size_t i = from; i < others.size(); ++i) {
      EXPECT_TRUE(all.insert(others[i]).second) << i;
    }
  };
  std::vector<int32_t> changed = tokens;
  changed[4] = -5;
  differ(codec, Chain(changed), 1);
  differ(codec, Chain(tokens, "salt"), 0);
  for (const std::string& name : Names(codec, Chain(tokens), "2 a")) {
    EXPECT_TRUE(all.insert(name).second) << "from before a flush";
  }
  differ(PageCodec(kFormat, "p:", "secret"), Chain(tokens), 0);
  differ(PageCodec({"another model", 3, 50}, "p:", ""), Chain(tokens), 0);
  differ(PageCodec({"a model", 3, 51}, "p:", ""), Chain(tokens), 0);
}

TEST(PageCodecTest, BelievesNothingButWhatWasSealedForThatPage) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  for (const char* secret : {"", "a secret"}) {
    const PageCodec codec(kFormat, "p:", secret);
    const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6};
    const auto pages = codec.Describe(Chain(tokens), "1 a");
    const std::string value = Sealed(codec, pages[0], 'x');
    EXPECT_EQ(value.size(), codec.value_bytes());
    EXPECT_TRUE(codec.Holds(pages[0], value));
    // Valid, but of another place, tenant or model.
    EXPECT_FALSE(codec.Holds(pages[1], value));
    EXPECT_FALSE(codec.Holds(codec.Describe(Chain(tokens, "salt"), "1 a")[0], value));
    EXPECT_FALSE(
        PageCodec({"another model", 3, 50}, "p:", secret)
            .Holds(
                PageCodec({"another model", 3, 50}, "p:", secret).Describe(Chain(tokens), "1 a")[0],
                value));
    for (size_t i = 0; i < value.size(); ++i) {
      std::string wrong = value;
      wrong[i] = static_cast<char>(wrong[i] ^ (1 << random() % 8));
      EXPECT_FALSE(codec.Holds(pages[0], wrong)) << i;
      EXPECT_FALSE(codec.Holds(pages[0], value.substr(0, i)));
    }
    EXPECT_FALSE(codec.Holds(pages[0], value + "x"));
    EXPECT_FALSE(codec.Holds(pages[0], std::string(value.size(), '\0')));
  }
}

TEST(PageCodecTest, OfAnotherSecretOrVersionIsNotBelieved) {
  const std::vector<int32_t> tokens = {1, 2, 3};
  const PageCodec ours(kFormat, "p:", "our secret");
  const PageCodec open(kFormat, "p:", "");
  const auto page = ours.Describe(Chain(tokens), "1 a")[0];
  // A forger who knows the name and the header, but not the secret.
  EXPECT_FALSE(ours.Holds(page, Sealed(open, page, 'x')));
  PageCodec::Page future = page;
  future.header[4] = static_cast<char>(PageCodec::kVersion + 1);
  EXPECT_FALSE(ours.Holds(page, Sealed(ours, future, 'x')));
}

// Without a secret, accidents are found wherever they are: bits that flip, parts that are
// exchanged, parts that are overwritten.
TEST(PageCodecTest, FindsAccidents) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const PageCodec codec({.description = "a model", .page_size = 3, .page_bytes = 1003}, "p:", "");
  const std::vector<int32_t> tokens = {1, 2, 3};
  const PageCodec::Page page = codec.Describe(Chain(tokens), "1 a")[0];
  std::string value = codec.NewValue(page);
  for (size_t i = codec.value_offset(); i < value.size(); ++i) {
    value[i] = static_cast<char>(random());
  }
  codec.Seal(value);
  ASSERT_TRUE(codec.Holds(page, value));
  for (size_t i = 0; i < value.size(); ++i) {
    std::string other = value;
    other[i] = static_cast<char>(other[i] ^ (1 << random() % 8));
    EXPECT_FALSE(codec.Holds(page, other)) << i;
  }
  for (const size_t part : {8, 16, 64}) {
    for (size_t i = codec.value_offset(); i + 2 * part <= value.size(); ++i) {
      std::string other = value;
      std::swap_ranges(other.begin() + static_cast<std::ptrdiff_t>(i),
                       other.begin() + static_cast<std::ptrdiff_t>(i + part),
                       other.begin() + static_cast<std::ptrdiff_t>(i + part));
      EXPECT_FALSE(codec.Holds(page, other)) << i;
      other = value;
      other.replace(i, part, part, '\0');
      EXPECT_FALSE(codec.Holds(page, other)) << i;
    }
  }
}

}  // namespace
}  // namespace octogate::workers
