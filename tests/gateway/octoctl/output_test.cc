#include "gateway/octoctl/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <sstream>

#include "octogate/v1/gateway.pb.h"

namespace octogate::octoctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(PrintableTest, KeepsTextAndTakesAwayWhatSteersATerminal) {
  EXPECT_EQ(Printable("größer\n\t日本 🎉"), "größer\n\t日本 🎉");
  EXPECT_EQ(Printable("a\x1b[2Jb"), "a\xEF\xBF\xBD[2Jb");
  EXPECT_EQ(Printable("a\rb\x7f"),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(Printable("\xC2\x9B"), "\xEF\xBF\xBD") << "the 8-bit CSI";
  EXPECT_EQ(Printable("\xE2\x80\xAE"), "\xEF\xBF\xBD") << "right-to-left override";
}

TEST(PrintableTest, AnyBytesBecomeTextWithoutControls) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const std::string text = Printable(bytes);
    EXPECT_EQ(Printable(text), text);
    for (const char c : text) {
      EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t');
    }
    v1::Message message;  // Protocol Buffers refuse ill-formed UTF-8 in strings
    message.set_content(text);
    v1::Message parsed;
    EXPECT_TRUE(parsed.ParseFromString(message.SerializeAsString()));
  }
}

TEST(OneLineTest, CutsByCharacters) {
  EXPECT_EQ(OneLine("a\nb", 10), "a b");
  EXPECT_EQ(OneLine("äöüß", 4), "äöüß");
  EXPECT_EQ(OneLine("äöüßx", 4), "äöü…");
}

TEST(TableTest, AlignsColumnsByCharacters) {
  Table table({"NAME", "X"});
  table.Add({"größe", "1"});
  table.Add({"b", ""});
  std::ostringstream out;
  table.Print(out);
  EXPECT_EQ(out.str(), "NAME   X\ngröße  1\nb      -\n");
}

TEST(StructuredOutputTest, NamesFieldsAsTheContractDoes) {
  v1::Finished finished;
  finished.set_trace_id("abc: \"x\"");
  EXPECT_THAT(ToJson(finished), HasSubstr("\"traceId\": \"abc: \\\"x\\\"\""));
  EXPECT_THAT(ToYaml(finished), HasSubstr("traceId: "));
  EXPECT_THAT(ToYaml(finished), Not(HasSubstr("{")));
}

TEST(DurationTest, ChoosesAReadableUnit) {
  EXPECT_EQ(Duration(850), "850 µs");
  EXPECT_EQ(Duration(41'200), "41.2 ms");
  EXPECT_EQ(Duration(2'300'000), "2.3 s");
}

}  // namespace
}  // namespace octogate::octoctl
