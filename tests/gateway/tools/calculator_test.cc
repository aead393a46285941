#include "gateway/tools/calculator/calculator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/gateway/tools/reference.h"

namespace octogate::gateway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<std::string> Calculate(const std::string& expression,
                                      const ToolParameters& parameters = {},
                                      const ToolContext& context = {}) {
  const auto tool = MakeTool("calculator", parameters);
  if (!tool.ok()) return tool.status();
  return (*tool)->Run(expression, context);
}

// The answer, or the error as text.
std::string Answer(const std::string& expression) {
  const auto answer = Calculate(expression);
  return answer.ok() ? *answer : answer.status().ToString();
}

std::string Repeat(std::string_view text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

TEST(CalculatorTest, ExactResultsArePrintedExactly) {
  EXPECT_EQ(Answer("2+2"), "4");
  EXPECT_EQ(Answer("0.1+0.2"), "0.3");
  EXPECT_EQ(Answer("1/1024"), "0.0009765625");
  EXPECT_EQ(Answer("25!"), "15511210043330985984000000");
  EXPECT_EQ(Answer("2^128"), "340282366920938463463374607431768211456");
  EXPECT_EQ(Answer("1e-300"), "1e-300");
  EXPECT_EQ(Answer("-0"), "0");
  EXPECT_EQ(Calculate("2^4096")->size(), 1234u);
  EXPECT_EQ(Calculate("1000!")->size(), 2568u);
}

TEST(CalculatorTest, FractionsComeWithTheirDecimal) {
  EXPECT_EQ(Answer("1/3"), "1/3 ≈ 0.33333333333333333333");
  EXPECT_EQ(Answer("-2/3"), "-2/3 ≈ -0.66666666666666666667");
  EXPECT_EQ(Answer("1/7^5000"), "≈ 3.2344461776194500936e-4226");
  // Where the 20 digits are those of another power of ten, or nearly so.
  EXPECT_THAT(Answer("1 - 12/(3*7^24)"), testing::EndsWith(" ≈ 0.99999999999999999998"));
  EXPECT_THAT(Answer("1 - 4/(3*10^21)"), testing::EndsWith(" ≈ 1"));
}

TEST(CalculatorTest, RoundedResultsAreMarkedAndRight) {
  EXPECT_EQ(Answer("sqrt 2"), "≈ 1.4142135623730950488");
  EXPECT_EQ(Answer("π"), "≈ 3.1415926535897932385");
  EXPECT_EQ(Answer("e^pi"), "≈ 23.140692632779269006");
  // A long run of nines is followed to its end.
  EXPECT_EQ(Answer("exp(pi*sqrt(163))"), "≈ 262537412640768744");
  EXPECT_EQ(*Calculate("exp(pi*sqrt(163))", {{"digits", "40"}}),
            "≈ 262537412640768743.9999999999992500725972");
  EXPECT_EQ(Answer("sin(1e22)"), "≈ -0.85220084976718880177");
  EXPECT_EQ(Answer("sqrt(2)^2"), "≈ 2");
  EXPECT_THAT(Answer("sqrt(2)^2 - 2"), StartsWith("≈ 0 (certain to within 1e-"));
  EXPECT_EQ(*Calculate("1/3", {{"digits", "3"}}), "1/3 ≈ 0.333");
  EXPECT_EQ(*Calculate("sqrt(2)", {{"digits", "1"}}), "≈ 1");
}

TEST(CalculatorTest, RootsLogarithmsAndAnglesAreExactWhereTheyCanBe) {
  EXPECT_EQ(Answer("sqrt(4/9) + cbrt(-27)"), "-7/3 ≈ -2.3333333333333333333");
  EXPECT_EQ(Answer("8^(2/3)"), "4");
  EXPECT_EQ(Answer("log(1000) + log2(1/8) + ln(1) + log(81, 3)"), "4");
  EXPECT_EQ(Answer("sin(pi)"), "0");
  EXPECT_EQ(Answer("sin(pi/6) + cos(60°) + tan(45 degrees)"), "2");
  EXPECT_EQ(Answer("todeg(acos(-1/2))"), "120");
  EXPECT_EQ(Answer("sin(10^50 * pi + pi/6)"), "0.5");
}

TEST(CalculatorTest, OperatorsBindAsInMathematics) {
  EXPECT_EQ(Answer("2+3*4^2"), "50");
  EXPECT_EQ(Answer("2^3^2"), "512");
  EXPECT_EQ(Answer("-2^2"), "-4");
  EXPECT_EQ(Answer("2^-3"), "0.125");
  EXPECT_EQ(Answer("10-4-3"), "3");
  EXPECT_EQ(Answer("100/10/2"), "5");
  EXPECT_EQ(Answer("2*3!"), "12");
  EXPECT_EQ(Answer("2^3!"), "64");
  EXPECT_EQ(Answer("--2--2"), "4");
  EXPECT_EQ(Answer("0^0"), "1");
  EXPECT_EQ(Answer("2(3+4)(1+1)"), "28");
  EXPECT_EQ(Answer("2 ** 3 × 4 ÷ 2 − 1 · 6"), "10");
}

TEST(CalculatorTest, PercentDividesByAHundredOrTakesTheRemainder) {
  EXPECT_EQ(Answer("12.5% of 80"), "10");
  EXPECT_EQ(Answer("20% off 80"), "64");
  EXPECT_EQ(Answer("5% + 10%"), "0.15");
  EXPECT_EQ(Answer("10 % 3"), "1");
  EXPECT_EQ(Answer("-7 mod 3"), "2");
  EXPECT_EQ(Answer("50% - 3"), "-2.5");
}

TEST(CalculatorTest, UnderstandsTheWordsAroundAnExpression) {
  EXPECT_EQ(Answer("What is 2 + 2?"), "4");
  EXPECT_EQ(Answer("what’s the square root of 144?"), "12");
  EXPECT_EQ(Answer("How much is 15 percent of 80?"), "12");
  EXPECT_EQ(Answer("calculate 7 times 6 ="), "42");
  EXPECT_EQ(Answer("please compute 3 plus 4 minus 2 divided by 4."), "6.5");
  EXPECT_EQ(Answer("2 to the power of 10"), "1024");
  EXPECT_EQ(Answer("5 squared plus 2 cubed"), "33");
  EXPECT_EQ(Answer("cube root of 27"), "3");
  EXPECT_EQ(Answer("gcd of 12, 18 and 30"), "6");
  EXPECT_EQ(Answer("factorial of 5"), "120");
  EXPECT_EQ(Answer("3 x 4"), "12");
}

TEST(CalculatorTest, CommasSeparateThousandsOrArgumentsNeverByGuess) {
  EXPECT_EQ(Answer("1,000,000 / 8"), "125000");
  EXPECT_EQ(Answer("sqrt(1,000,000)"), "1000");
  EXPECT_EQ(Answer("gcd(12,180)"), "12");
  EXPECT_EQ(Answer("max((1,234), 5)"), "1234");
  EXPECT_THAT(Answer("max(1,000, 5)"), HasSubstr("column 5"));
  EXPECT_THAT(Answer("max(1,234, 5)"), HasSubstr("column 5"));
  EXPECT_THAT(Answer("1,5"), HasSubstr("column 2"));
  EXPECT_THAT(Answer("1,0000"), HasSubstr("column 2"));
  EXPECT_THAT(Answer("1000,000"), HasSubstr("column 5"));
}

TEST(CalculatorTest, RefusesWhatCanBeReadInTwoWays) {
  for (const char* expression : {"200 + 10%", "200 - 10%", "6/2(1+2)", "1/2pi", "2^3(4)", "3!!",
                                 "sqrt 2^2", "√2π", "square root of 3 squared", "0x10"}) {
    EXPECT_EQ(Calculate(expression).status().code(), absl::StatusCode::kInvalidArgument)
        << expression;
    EXPECT_THAT(Answer(expression), HasSubstr("column ")) << expression;
  }
}

TEST(CalculatorTest, ErrorsNameTheColumnAndTheMistake) {
  const std::vector<std::tuple<std::string, int, std::string>> cases = {
      {"1/0", 2, "division by zero"},
      {"7 + 1/(3-3)", 6, "division by zero"},
      {"0^-1", 2, "division by zero"},
      {"sqrt(-1)", 1, "square root of a negative"},
      {"log(0)", 1, "logarithm"},
      {"ln(-1)", 1, "logarithm"},
      {"log(8, 1)", 1, "base"},
      {"asin(2)", 1, "asin"},
      {"1 + acos(-1.5)", 5, "acos"},
      {"tan(pi/2)", 1, "right angle"},
      {"(-8)^(1/3)", 5, "cbrt"},
      {"mod(7, 0)", 1, "remainder"},
      {"1.5!", 4, "whole number"},
      {"(-3)!", 5, "whole number"},
      {"gcd(1.5, 2)", 1, "whole numbers"},
      {"(1+2", 5, "\")\""},
      {"1+2)", 4, "\")\""},
      {"1+", 3, "ends"},
      {"2 3", 3, "\"3\""},
      {"×2", 1, "expected"},
      {"π banana", 3, "\"banana\""},
      {"3.14.15", 5, "decimal point"},
      {"sqrt(1, 2)", 1, "takes 1 argument, found 2"},
      {"gcd()", 5, "expected"},
      {"mod(1)", 1, "2 arguments"},
      {"2 $ 3", 3, "\"$\""},
      {"round(1, 0.5)", 1, "whole number"},
  };
  for (const auto& [expression, column, mistake] : cases) {
    EXPECT_EQ(Calculate(expression).status().code(), absl::StatusCode::kInvalidArgument)
        << expression;
    EXPECT_THAT(Answer(expression),
                AllOf(HasSubstr("column " + std::to_string(column) + ":"), HasSubstr(mistake)))
        << expression;
  }
  EXPECT_EQ(Calculate("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Calculate("what is?").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Calculate("1+\xff").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Calculate(std::string("1+\0 2", 5)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CalculatorTest, RefusesWhatIsTooLargeBeforeComputingIt) {
  for (const std::string& expression : std::vector<std::string>{
           "9^9^9^9",
           "10^10^10",
           "2^262145",
           "1e1000000000",
           "1e-99999999999999999999",
           "99999!",
           "(10^20)!",
           "exp(exp(exp(10)))",
           "exp(1e9)",
           "pi^(10^70000)",
           "pi^10^12",
           "sin(exp(100000))",
           "1/(sqrt(2)^2-2)",
           "floor(sqrt(2)^2)",
           "round(1, 1000000000)",
           "floor(exp(1000000))",
           "lcm(3^150000, 2^250000)",
           Repeat("(", 200) + "1",
           Repeat("-", 200) + "1",
           Repeat("2^", 200) + "1",
           Repeat("sin ", 200) + "1",
           "3^160000/7^90000" + Repeat("+3^160000/7^90000", 200),
           "exp(3^100000/(3^100000-1)/" + Repeat("exp(sqrt(", 30) + "1" + Repeat("))", 30) + ")"}) {
    const auto answer = Calculate(expression);
    // The last is only slow: either outcome is right as long as it comes.
    if (answer.ok()) continue;
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kResourceExhausted)
        << expression.substr(0, 60) << ": " << answer.status();
    EXPECT_THAT(answer.status().ToString(), HasSubstr("limit")) << expression.substr(0, 60);
  }
  EXPECT_EQ(Calculate("9^9^9^9").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Calculate(std::string(5000, '1')).status().code(), absl::StatusCode::kInvalidArgument);
  // As long as it may be, and flat rather than nested.
  EXPECT_EQ(Answer(Repeat("1+", 2000) + "1"), "2001");
  EXPECT_EQ(Answer(Repeat("(", 90) + "1" + Repeat(")", 90)), "1");
}

TEST(CalculatorTest, StopsAtTheDeadline) {
  ToolContext context;
  int reads = 0;
  context.now = [&reads] { return absl::UnixEpoch() + absl::Seconds(++reads); };
  context.deadline = absl::UnixEpoch() + absl::Seconds(3);
  EXPECT_EQ(Calculate("1+2+3+4+5+6+7+8", {}, context).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(reads, 4);
}

TEST(CalculatorTest, StaysWithinTheOutputLimit) {
  ToolContext context;
  context.max_output_bytes = 100;
  EXPECT_EQ(*Calculate("1000!", {}, context),
            "≈ 4.0238726007709377354e2567 (a whole number of about 2568 digits)");
  EXPECT_EQ(*Calculate("1/2^400", {}, context), "≈ 3.8725919148493182728e-121");
  context.max_output_bytes = 10;
  EXPECT_EQ(Calculate("1/3", {}, context).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(CalculatorTest, ChecksItsParameter) {
  for (const char* digits : {"0", "1001", "-5", "many", "", "99999999999999"}) {
    EXPECT_EQ(MakeTool("calculator", {{"digits", digits}}).status().code(),
              absl::StatusCode::kInvalidArgument)
        << digits;
  }
  EXPECT_EQ(Calculate("sqrt(2)", {{"digits", "1000"}})->size(), std::string("≈ ").size() + 1001);
}

// Laws that hold exactly for any numbers.
TEST(CalculatorPropertyTest, FieldLawsHoldExactly) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("OCTOGATE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto number = [&] {
    const auto digits = [&] { return std::to_string(random() % 1'000'000 + 1); };
    return "(" + std::string(random() % 2 == 0 ? "-" : "") + digits() + "." + digits() + "/" +
           digits() + ")";
  };
  for (int i = 0; i < 300; ++i) {
    const std::string a = number();
    const std::string b = number();
    const std::string c = number();
    for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
             {a + "/" + b + "*" + b, a},
             {"(" + a + "+" + b + ")+" + c, a + "+(" + b + "+" + c + ")"},
             {"(" + a + "*" + b + ")*" + c, a + "*(" + b + "*" + c + ")"},
             {a + "*(" + b + "+" + c + ")", a + "*" + b + "+" + a + "*" + c},
             {a + "-" + b + "-" + c, a + "-(" + b + "+" + c + ")"},
             {"floor(" + a + ")+mod(" + a + ",1)", a},
             {"sqrt(" + a + "^2)", "abs(" + a + ")"},
             {"cbrt(" + a + "^3)", a},
             {a + "^5*" + a + "^-3", a + "^2"}}) {
      EXPECT_EQ(Answer(left), Answer(right)) << left << " and " << right;
    }
  }
}

// Identities of irrational functions: both sides are rounded from different calculations.
TEST(CalculatorPropertyTest, IdentitiesHoldToThePrintedDigit) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("OCTOGATE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 200; ++i) {
    const std::string x =
        std::to_string(random() % 100) + "." + std::to_string(random() % 1'000'000 + 1);
    for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
             {"sin(" + x + ")^2 + cos(" + x + ")^2", "sqrt(2)^2/2"},
             {"ln(exp(" + x + ")) + pi", x + " + pi"},
             {"2*sin(" + x + ")*cos(" + x + ")", "sin(2*" + x + ")"},
             {"tan(" + x + ")", "sin(" + x + ")/cos(" + x + ")"},
             {"atan(" + x + ") + atan(1/" + x + ") + e", "pi/2 + e"},
             {"sqrt(" + x + "+pi)", "(" + x + "+pi)^(1/2)"},
             {"cbrt(" + x + "+pi)", "exp(ln(" + x + "+pi)/3)"},
             {"asin(" + x + "/200)", "pi/2 - acos(" + x + "/200)"},
             {"log(" + x + ", 7)", "ln(" + x + ")/ln(7)"}}) {
      EXPECT_EQ(Answer(left), Answer(right)) << left << " and " << right;
    }
  }
}

// A printed exact number means itself.
TEST(CalculatorPropertyTest, ExactAnswersRoundTrip) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("OCTOGATE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 300; ++i) {
    const std::string expression = std::to_string(random() % 1000) + "^" +
                                   std::to_string(random() % 40) + "/2^" +
                                   std::to_string(random() % 200);
    const std::string answer = Answer(expression);
    EXPECT_EQ(Answer(answer), answer) << expression;
    EXPECT_EQ(Answer("(" + answer + ") - (" + expression + ")"), "0") << expression;
  }
}

// Nothing that is thrown at it ends the process or is answered by anything but a status.
TEST(CalculatorPropertyTest, AnyTokensAreAnsweredOrRefused) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("OCTOGATE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const std::vector<std::string> tokens = {
      "1",      "2.5",  "1e9",  "1e-40", "9999999999", "+",    "-",     "*",    "/",
      "^",      "!",    "%",    "(",     ")",          ",",    "sqrt(", "ln(",  "π",
      "e",      "sin(", "tan(", "of",    "mod",        "exp(", "log(",  "gcd(", "floor(",
      "round(", " ",    "²",    "°",     "acos(",      "max(", "and",   "0",    "√"};
  for (int i = 0; i < 20000; ++i) {
    std::string expression;
    for (uint64_t n = random() % 12; n > 0; --n) expression += tokens[random() % tokens.size()];
    const auto answer = Calculate(expression);
    if (answer.ok()) continue;
    const auto code = answer.status().code();
    EXPECT_TRUE(code == absl::StatusCode::kInvalidArgument ||
                code == absl::StatusCode::kResourceExhausted)
        << expression << ": " << answer.status();
  }
}

}  // namespace
}  // namespace octogate::gateway
